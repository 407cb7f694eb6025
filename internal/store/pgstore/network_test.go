package pgstore

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/internal/store"
	"muster/test/postgres"
)

// A line is the network between a node and the database.
type line struct {
	listener net.Listener
	to       string
	delay    atomic.Int64 // before every piece
	silent   atomic.Bool  // pieces are swallowed, and nobody is told
	lose     atomic.Int64 // how many answers to COMMIT are still to be lost
	tear     atomic.Int64 // how many large requests are still to be cut in the middle
	lost     atomic.Int64
	torn     atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// newLine makes a line to a database and returns its address on this side of it.
func newLine(t *testing.T, address string) (*line, string) {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{to: u.Host, conns: map[net.Conn]bool{}}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = l.listener.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.connect(near) })
		}
	})
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.cut()
		all.Wait()
	})
	return l, u.String()
}

func (l *line) connect(near net.Conn) {
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = near.Close()
		return
	}
	l.mu.Lock()
	l.conns[near], l.conns[far] = true, true
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.carry(far, near, false) })
	both.Go(func() { l.carry(near, far, true) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

// committed is how the server says that a transaction has been committed.
var committed = []byte("C\x00\x00\x00\x0bCOMMIT\x00")

func (l *line) carry(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	piece := make([]byte, 1<<16)
	for {
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		if d := time.Duration(l.delay.Load()); d > 0 {
			<-time.After(d)
		}
		switch {
		case l.silent.Load():
			continue
		case answers && bytes.Contains(piece[:n], committed) && l.lose.Add(-1) >= 0:
			l.lost.Add(1)
			return
		case !answers && n > 300 && l.tear.Add(-1) >= 0:
			l.torn.Add(1)
			_, _ = to.Write(piece[:n/2])
			return
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func TestNetworkFails(t *testing.T) {
	direct := postgres.URL(t)
	l, address := newLine(t, direct)
	far, near := faultNode(t, address, "far"), faultNode(t, direct, "near")
	f := newFleet(t, far, near)

	l.delay.Store(int64(20 * time.Millisecond))
	f.goesOn("over a slow network")
	l.delay.Store(0)

	for range 3 {
		l.cut()
		f.goesOn("after the network was cut")
	}

	l.lose.Store(8)
	f.eventually("answers to COMMIT are lost", func() bool { return l.lost.Load() == 8 })
	f.goesOn("after answers were lost")
	l.lose.Store(0)

	l.tear.Store(8)
	f.eventually("requests are cut in the middle", func() bool { return l.torn.Load() == 8 })
	f.goesOn("after requests were cut")
	l.tear.Store(0)

	// Silence: nothing comes through, and nobody is told. The other node has the whole of the work soon.
	name := far.Node()
	l.silent.Store(true)
	start := time.Now()
	f.eventually("the node that can be reached has all leases", func() bool { return len(near.leases.owned()) == parts })
	if took := time.Since(start); took > 3*faultPatience {
		t.Errorf("the work of a node that is cut off was taken over after %v", took)
	}
	f.refuses("over a silent network")
	l.silent.Store(false)
	f.eventually("the node that was cut off is back under another name", func() bool {
		return far.Node() != name && len(far.leases.owned()) == parts/2 && len(near.leases.owned()) == parts/2
	})
	f.goesOn("after the silence")
	f.verify(direct)
}

func touch(s *Store) error {
	return s.Update(context.Background(), store.Keys{Things: []muster.ThingName{"touched"}}, func(tx store.Tx) error {
		tx.Put(store.Thing{Thing: muster.Thing{Name: "touched", Version: 1}})
		return nil
	})
}
