package pgstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/store"
	"muster/test/line"
	"muster/test/postgres"
)

func TestNetworkFails(t *testing.T) {
	direct := postgres.URL(t)
	l, address := line.New(t, direct)
	far, near := faultNode(t, address, "far"), faultNode(t, direct, "near")
	f := newFleet(t, far, near)

	l.Delay.Store(int64(20 * time.Millisecond))
	f.goesOn("over a slow network")
	l.Delay.Store(0)

	for range 3 {
		l.Cut()
		f.goesOn("after the network was cut")
	}

	l.Lose.Store(8)
	f.eventually("answers to COMMIT are lost", func() bool { return l.Lost.Load() == 8 })
	f.goesOn("after answers were lost")
	l.Lose.Store(0)

	l.Tear.Store(8)
	f.eventually("requests are cut in the middle", func() bool { return l.Torn.Load() == 8 })
	f.goesOn("after requests were cut")
	l.Tear.Store(0)

	// Silence: nothing comes through, and nobody is told.
	f.cutOff(far, near, func(off bool) { l.Silent.Store(off) })
	f.verify(direct)
}

// cutOff takes the database away from one of two nodes and gives it back. The other node has the whole of the work
// soon.
func (f *fleet) cutOff(far, near *Store, off func(bool)) {
	f.t.Helper()
	name := far.Node()
	off(true)
	start := time.Now()
	f.eventually("the node that can be reached has all leases", func() bool { return len(near.leases.owned()) == parts })
	if took := time.Since(start); took > 3*faultPatience {
		f.t.Errorf("the work of a node that is cut off was taken over after %v", took)
	}
	f.refuses("while the database cannot be reached")
	off(false)
	f.eventually("the node that was cut off is back under another name", func() bool {
		return far.Node() != name && len(far.leases.owned()) == parts/2 && len(near.leases.owned()) == parts/2
	})
	f.goesOn("after the node was cut off")
}

// TestNetworkIsCut has the kernel swallow what goes between a node and the database: connections stay open and nobody is
// told, as when a cable is pulled.
func TestNetworkIsCut(t *testing.T) {
	postgres.Need(t)
	if !line.Own(t) {
		return
	}
	c, err := postgres.New("listen_addresses=127.0.0.1,127.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Remove)
	direct := c.Database(t)
	far, near := faultNode(t, strings.Replace(direct, "@127.0.0.1:", "@127.0.0.2:", 1), "far"), faultNode(t, direct, "near")
	f := newFleet(t, far, near)
	for range 2 {
		f.cutOff(far, near, func(off bool) {
			if off {
				line.IP(t, "route replace blackhole 127.0.0.2/32 table local")
			} else {
				line.IP(t, "route del blackhole 127.0.0.2/32 table local")
			}
		})
	}
	f.verify(direct)
}

func putThing(s *Store, name muster.ThingName) error {
	return s.Update(context.Background(), store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx) error {
		tx.Put(store.Thing{Thing: muster.Thing{Name: name, Version: 1}})
		return nil
	})
}
