package engine

import (
	"context"
	"testing"

	"muster"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
)

// Each reader of the feed is woken by itself, whatever the others do, and a reader that comes after all have gone too.
func TestEachReaderIsWoken(t *testing.T) {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g := New(s, Options{Clock: &SystemClock{}})
	grow := func(name muster.ThingName) {
		err := s.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
			tx.Put(store.Thing{Thing: muster.Thing{Name: name, Version: 1}})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []muster.ThingName{"lamp", "fan"} {
		one, stopOne := g.Changes()
		two, stopTwo := g.Changes()
		three, stopThree := g.Changes()
		stopThree()
		grow(name)
		<-one // comes, or the test does not end
		<-two
		select {
		case <-three:
			t.Error("who has left is woken")
		default:
		}
		stopOne()
		grow(name + "2")
		<-two
		stopTwo()
	}
	if g.changes.quit != nil {
		t.Error("somebody still hands on what nobody reads")
	}
}
