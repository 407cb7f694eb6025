package storetest

import (
	"context"
	"errors"
	"testing"

	"muster"
	"muster/internal/store"
)

// Dumped is what a store's Dump gives.
func Dumped(t testing.TB, s store.Store) (rows []store.Row) {
	t.Helper()
	if err := s.Dump(context.Background(), func(r store.Row) error {
		rows = append(rows, r)
		return nil
	}); err != nil {
		t.Fatalf("dump: %v", err)
	}
	return rows
}

// Load gives rows to a store.
func Load(s store.Store, rows []store.Row) error {
	return s.Load(context.Background(), func() (store.Row, bool, error) {
		if len(rows) == 0 {
			return nil, false, nil
		}
		r := rows[0]
		rows = rows[1:]
		return r, true, nil
	})
}

// dump: what was dumped loads into an empty store, which then goes on.
func dump(h *harness, b Backend) {
	ctx := context.Background()
	for _, name := range []string{"zebra", "gone", "ant", "bee"} { // not the order of names; those of one Update may come in any
		h.do(func(tx store.Tx) { tx.Put(store.Thing{Thing: thing(name)}) })
	}
	h.do(func(tx store.Tx) {
		tx.Put(store.ThingType{ThingType: muster.ThingType{Name: "lamp", ID: "t", Searchable: []string{"site"}, Created: 5, Deprecated: true, DeprecatedAt: 6}})
		tx.Put(store.Group{Group: group(tx, "z-parent", "")})
		tx.Put(store.Group{Group: group(tx, "a-child", "z-parent")})
		tx.Put(store.Member{Membership: muster.Membership{Group: "a-child", Thing: "zebra", Seq: tx.NextSeq()}})
		tx.Put(store.Member{Membership: muster.Membership{Group: "a-child", Thing: "ant", Seq: tx.NextSeq()}})
		tx.Put(store.Template{Template: muster.Template{ID: "t", Document: `{"a":1}`, Created: 3}})
		for _, id := range []string{"second", "first", "third"} {
			tx.Put(store.Job{Job: job(tx, id, muster.Target{Group: "z-parent"}, muster.Target{Group: "a-child"}, muster.Target{Group: "z-parent"}, muster.Target{Thing: "ant"})})
			tx.Put(store.Document{Job: muster.JobID(id), Document: muster.Document{Text: `{"x":"` + id + `"}`, Source: "s"}})
		}
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: "first"}, Tags: muster.MakePairs("k", "v")})
		tx.Put(store.Setting{Name: "s\x00\xff", Value: "\x01\xfe"})
		tx.Put(store.Deadline{Due: 77, Kind: store.Timer, Subject: store.TimerSubject("ant", "first", 1), Cursor: "c\x00"})
		tx.Put(store.Deadline{Due: 70, Kind: store.Rollout, Subject: "second"})
	})
	h.do(func(tx store.Tx) {
		for i, name := range []string{"ant", "bee", "gone", "zebra"} {
			e := queue(tx, "first", name, muster.Time(10+i))
			switch name {
			case "bee": // several attempts, the latest one deleted
				become(tx, become(tx, e, muster.InProgress, 20, "k", "v"), muster.Failed, 21)
				e = become(tx, queue(tx, "first", name, 22), muster.TimedOut, 23)
				tx.Keep("bee", muster.Notice{}, deleting(tx, e))
			case "gone": // all deleted
				tx.Keep("gone", muster.Notice{}, deleting(tx, e))
				queue(tx, "third", name, 30)
			case "zebra": // an earlier one deleted, then deleted and begun again
				e = become(tx, e, muster.Rejected, 24)
				next := queue(tx, "first", name, 25)
				tx.Keep("zebra", muster.Notice{}, deleting(tx, e))
				tx.Keep("zebra", muster.Notice{}, deleting(tx, next))
				queue(tx, "first", name, 26)
			}
			queue(tx, "second", name, muster.Time(40-i))
		}
		done, _ := tx.Job("third")
		completed := done.Complete(99)
		tx.Put(store.Job{Job: &completed})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "gone"}})
	})
	rows, before := Dumped(h, h.Store), Digest(h, h.Store)

	s, reopen := b.Open(h)
	o := &harness{TB: h, Store: s, reopen: reopen}
	if err := Load(o.Store, rows); err != nil {
		h.Fatalf("load: %v", err)
	}
	if after := Digest(h, o.Store); after != before {
		h.Fatalf("loaded:\n got %s\nwant %s", after, before)
	}
	o.check()
	// Lists go on in the order in which rows were made.
	o.view(func(r store.Reader) {
		var names []muster.ThingName
		for _, x := range all(h, 2, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) }) {
			names = append(names, x.Name)
		}
		h.equal("the order of things", names, []muster.ThingName{"zebra", "ant", "bee"})
	})
	if entries, err := o.Feed(ctx, "", 10); err != nil || len(entries) > 0 {
		h.Fatalf("the feed tells of what was loaded: %v %v", entries, err)
	}
	// What was dumped again is the same, but for the sequence and the order of members and things within a job.
	h.equal("rows of a second dump", len(Dumped(h, o.Store)), len(rows))
	o.again()
	if after := Digest(h, o.Store); after != before {
		h.Fatalf("opened again:\n got %s\nwant %s", after, before)
	}
	var seq uint64
	h.do(func(tx store.Tx) { seq = tx.NextSeq() })
	o.do(func(tx store.Tx) {
		if got := tx.NextSeq(); got < seq {
			h.Errorf("the sequence goes on with %d, behind %d", got, seq)
		}
		for _, c := range []struct {
			job, thing string
			want       int64
		}{{"first", "ant", 2}, {"first", "bee", 3}, {"first", "gone", 2}, {"first", "zebra", 4}, {"third", "gone", 2}, {"third", "ant", 1}} {
			h.equal("the next number of "+c.job+" on "+c.thing, tx.NextNumber(muster.JobID(c.job), muster.ThingName(c.thing)), c.want)
		}
		tx.Put(store.Thing{Thing: thing("new")})
		queue(tx, "first", "new", 50)
		queue(tx, "first", "gone", 51)
		e, _ := tx.Execution("first", "ant", 0)
		become(tx, e, muster.Succeeded, 52)
		tx.Put(store.Job{Job: job(tx, "fourth", muster.Target{Group: "a-child"})})
	})
	o.view(func(r store.Reader) {
		jobs := all(h, 2, func(p store.Page) ([]*muster.Job, string, error) {
			return r.Jobs(store.JobFilter{Group: "a-child"}, p)
		})
		var ids []muster.JobID
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		h.equal("the order of jobs", ids, []muster.JobID{"fourth", "third", "first", "second"})
	})
	o.check()
	// It is not empty now.
	h.kind("a load into a store that is not empty", Load(o.Store, rows), muster.Invalid)
	o.again()
	o.check()
}

// dumpFails: an error on either side ends it, and is the one that is returned.
func dumpFails(h *harness, b Backend) {
	enough := errors.New("enough")
	h.do(func(tx store.Tx) { tx.Put(store.Thing{Thing: thing("a")}); tx.Put(store.Thing{Thing: thing("b")}) })
	if err := h.Dump(context.Background(), func(store.Row) error { return enough }); !errors.Is(err, enough) {
		h.Fatalf("dump: %v", err)
	}
	s, _ := b.Open(h)
	n := 0
	if err := s.Load(context.Background(), func() (store.Row, bool, error) {
		if n++; n > 1 {
			return nil, false, enough
		}
		return store.Thing{Thing: thing("a")}, true, nil
	}); !errors.Is(err, enough) {
		h.Fatalf("load: %v", err)
	}
	if s.Health() == nil { // then it is as before
		o := &harness{TB: h, Store: s}
		o.view(func(r store.Reader) {
			if _, there := r.Thing("a"); there {
				h.Errorf("a load that failed has left something")
			}
		})
	}
}
