package pgstore

import (
	"context"
	"testing"

	"muster"
	"muster/internal/store"
	"muster/internal/store/storetest"
	"muster/test/postgres"
)

// Who watches is told of each transaction that has written something, and of what could not be written.
func TestBatchesAreTold(t *testing.T) {
	told := make(chan store.Batch, 100)
	s := open(t, Options{URL: postgres.URL(t), OnBatch: func(b store.Batch) { told <- b }})
	if err := putThing(s, "a"); err != nil {
		t.Fatal(err)
	}
	if b := <-told; b.Updates != 1 || b.Sync <= 0 || b.Took < b.Sync || b.Err != nil {
		t.Errorf("%+v", b)
	}
	if err := s.Update(t.Context(), store.Keys{}, func(tx store.Tx) error { tx.Setting("nothing"); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("a transaction that wrote nothing is told of: %+v", <-told)
	}
	if stats := s.Stats(); stats.Batches != 1 || stats.Updates != 1 || stats.Statements < stats.Trips || stats.Trips < 2 || stats.Waiting != 0 {
		t.Errorf("%+v", stats)
	}
}

// A node that others have taken for dead writes nothing more under its old numbers. It goes on under a new name, whoever
// uses it is told, and the others hear of what it does.
func TestTakenForDead(t *testing.T) {
	url := postgres.URL(t)
	ctx := context.Background()
	s, other := open(t, Options{URL: url}), open(t, Options{URL: url})
	for _, name := range []muster.ThingName{"a", "b", "c", "d", "e", "f"} { // by all who write for devices
		if err := putThing(s, name); err != nil {
			t.Fatal(err)
		}
	}
	count := func(of string) int { return countRows(t, other, of) }
	place, err := other.FeedEnd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name := s.Node()
	conn, err := other.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer drop(conn)
	if err := bury(ctx, conn, name); err != nil {
		t.Fatal(err)
	}
	const ofTheDead = "feed JOIN writer ON id = writer WHERE fenced"
	before := count(ofTheDead)
	if before == 0 {
		t.Fatal("its numbers are not fenced")
	}
	if n := count("lease WHERE node = '" + name + "'"); n != 0 {
		t.Errorf("it has %d leases", n)
	}
	for _, name := range []muster.ThingName{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := putThing(s, name); err != nil {
			t.Error(err)
		}
	}
	if after := count(ofTheDead); after != before {
		t.Errorf("%d entries were written under numbers that were fenced", after-before)
	}
	if s.Node() == name {
		t.Error("it has its old name")
	}
	select {
	case <-s.Lost():
	default:
		t.Error("nobody was told that it was taken for dead")
	}
	heard := 0
	for _, e := range storetest.Entries(t, other, place, 16) {
		heard += len(e.Facts)
	}
	if heard != 8 {
		t.Errorf("the other node heard of %d things, not of 8", heard)
	}
}
