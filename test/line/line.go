// Package line is the network between a node and its database, for tests that want it to be bad: slow, cut, silent, or
// holding what it carries back at the worst moment of a transaction.
package line

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Line carries connections to a database.
type Line struct {
	Delay  atomic.Int64 // nanoseconds before every piece
	Silent atomic.Bool  // pieces are swallowed, and nobody is told
	Lose   atomic.Int64 // how many answers to COMMIT are still to be lost
	Tear   atomic.Int64 // how many large requests are still to be cut in the middle
	Lost   atomic.Int64 // how many were
	Torn   atomic.Int64

	listener net.Listener
	to       string

	mu    sync.Mutex
	conns map[net.Conn]bool
	hold  *hold
}

// New makes a line to a database and returns its address on this side of it.
func New(t testing.TB, address string) (*Line, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{to: u.Host, conns: map[net.Conn]bool{}}
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
		l.Cut()
		all.Wait()
	})
	return l, u.String()
}

// Cut ends all connections.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// A Moment is one of a transaction that goes to the database and back twice.
type Moment int

const (
	Loaded    Moment = iota // the answer that rows are locked, and what is in them, is on its way to the node
	Written                 // the request to write and to commit is on its way to the database
	Committed               // the answer that it is committed is on its way to the node
)

func (m Moment) String() string { return [...]string{"loaded", "written", "committed"}[m] }

// A hold waits for a transaction.
type hold struct {
	moment Moment
	mark   []byte
	held   chan struct{}
	free   chan struct{}
}

// Hold holds back what the line carries at a moment of the next transaction that has mark in its rows, read or written.
// held is closed when it does, and release lets it go on.
func (l *Line) Hold(m Moment, mark string) (held <-chan struct{}, release func()) {
	h := &hold{m, []byte(mark), make(chan struct{}), make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = h
	return h.held, sync.OnceFunc(func() { close(h.free) })
}

// How the server says that a transaction has begun, and that it has been committed.
var (
	began     = []byte("C\x00\x00\x00\x0aBEGIN\x00")
	committed = []byte("C\x00\x00\x00\x0bCOMMIT\x00")
)

// pass holds a piece back if it is what is waited for. marked says whether a request of this connection had the mark.
func (l *Line) pass(piece []byte, answer bool, marked *atomic.Bool) {
	l.mu.Lock()
	h, here := l.hold, false
	if h != nil {
		has := bytes.Contains(piece, h.mark)
		if !answer && has {
			marked.Store(true)
		}
		switch h.moment {
		case Loaded:
			here = answer && has && bytes.Contains(piece, began)
		case Written:
			here = !answer && has
		case Committed:
			here = answer && marked.Load() && bytes.Contains(piece, committed)
		}
		if here {
			l.hold = nil
		}
	}
	l.mu.Unlock()
	if here {
		close(h.held)
		<-h.free
	}
}

func (l *Line) connect(near net.Conn) {
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = near.Close()
		return
	}
	l.mu.Lock()
	l.conns[near], l.conns[far] = true, true
	l.mu.Unlock()
	var marked atomic.Bool
	var both sync.WaitGroup
	both.Go(func() { l.carry(far, near, false, &marked) })
	both.Go(func() { l.carry(near, far, true, &marked) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

func (l *Line) carry(to, from net.Conn, answers bool, marked *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	piece := make([]byte, 1<<16)
	for {
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		if d := time.Duration(l.Delay.Load()); d > 0 {
			<-time.After(d)
		}
		l.pass(piece[:n], answers, marked)
		switch {
		case l.Silent.Load():
			continue
		case answers && bytes.Contains(piece[:n], committed) && l.Lose.Add(-1) >= 0:
			l.Lost.Add(1)
			return
		case !answers && n > 300 && l.Tear.Add(-1) >= 0:
			l.Torn.Add(1)
			_, _ = to.Write(piece[:n/2])
			return
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}
