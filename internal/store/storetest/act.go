package storetest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"muster"
	"muster/internal/store"
)

// everything does one of everything.
func everything(tx store.Tx, i int) {
	fill(tx, i)
	tx.Put(store.Document{Job: muster.JobID(fmt.Sprintf("j%d", i)), Document: muster.Document{Text: "{}"}})
	tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: fmt.Sprintf("j%d", i)}, Tags: muster.MakePairs("a", "b")})
	tx.Put(store.Deadline{Due: muster.Time(i + 1), Kind: store.Sweep, Subject: "j0"})
}

func atomic(h *harness) { nothingLeft(h, func() error { return errors.New("no") }) }

func panics(h *harness) {
	nothingLeft(h, func() error { panic("a fault of the engine, for the test") })
}

func nothingLeft(h *harness, end func() error) {
	h.do(func(tx store.Tx) {
		for i := range 4 {
			everything(tx, i)
		}
	})
	before := Digest(h, h.Store)
	entries := len(feedOf(h))
	act := func(tx store.Tx) error {
		for i := 4; i < 8; i++ {
			everything(tx, i)
		}
		for i := range 3 {
			t, _ := tx.Thing(muster.ThingName(fmt.Sprintf("n%d", i)))
			t.Type = "z"
			tx.Put(store.Thing{Thing: t})
			j, _ := tx.Job(muster.JobID(fmt.Sprintf("j%d", i)))
			other := *j
			other.Status = muster.JobCanceled
			tx.Put(store.Job{Job: &other})
			tx.Put(store.Document{Job: j.ID, Document: muster.Document{Text: "[]"}})
			tx.Document(j.ID)
			empty(tx, i+1)
			everything(tx, i+1)
		}
		tx.Delete(store.Job{Job: &muster.Job{ID: "j0"}})
		tx.Put(store.Deadline{Due: 1, Kind: store.Sweep, Subject: "j0", Cursor: "c"})
		tx.Delete(store.Deadline{Due: 2, Kind: store.Sweep, Subject: "j0"})
		return end()
	}
	for range 2 {
		if err := h.Update(context.Background(), store.Keys{}, act); err == nil {
			h.Fatal("the update succeeded")
		}
		sameDigest(h, "after an update that failed", Digest(h, h.Store), before)
		h.equal("entries of the feed", len(feedOf(h)), entries)
	}
	// One that fails between two that do not, perhaps in one batch.
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			err := h.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
				if i%3 == 0 {
					return act(tx)
				}
				tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefThing, Name: fmt.Sprint(i)}, Tags: muster.MakePairs("i", fmt.Sprint(i))})
				return nil
			})
			if (err == nil) != (i%3 != 0) {
				h.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for range 2 {
		sameDigest(h, "after updates that failed and others", Digest(h, h.Store), before)
		h.view(func(r store.Reader) {
			for i := range 30 {
				got := r.Tags(muster.Ref{Kind: muster.RefThing, Name: fmt.Sprint(i)})
				h.equal("tags", got != "", i%3 != 0)
			}
		})
		h.again()
	}
}

func ownWrites(h *harness) {
	h.update(func(tx store.Tx) error {
		for i := range 6 {
			everything(tx, i)
		}
		for name, list := range lists(tx) {
			if got := len(all(h, 2, list)); got < 5 {
				h.Errorf("%s: the update sees only %d of its own rows", name, got)
			}
		}
		d, ok := tx.Document("j3")
		h.equal("document", []any{d.Text, ok}, []any{"{}", true})
		h.equal("tags", tx.Tags(muster.Ref{Kind: muster.RefJob, Name: "j3"}), muster.MakePairs("a", "b"))
		h.equal("deadlines", len(tx.Due(100, 100)), 6)
		h.equal("groups of a thing", len(tx.GroupsOf("n2")), 1)
		e, _ := tx.Execution("j0", "n1", 0)
		become(tx, e, muster.Succeeded, 500, "done", "yes")
		e, ok = tx.Execution("j0", "n1", 1)
		h.equal("an execution that is over", []any{e.Status, e.Details, ok}, []any{muster.Succeeded, muster.MakePairs("done", "yes"), true})
		h.equal("counts", tx.Counts("j0")[muster.Succeeded], 1)
		tx.Delete(store.Job{Job: &muster.Job{ID: "j0"}})
		h.equal("executions of a job that was deleted", len(all(h, 5, func(p store.Page) ([]muster.Execution, string, error) {
			return tx.ExecutionsOfThing("n0", "j0", muster.NoStatus, p)
		})), 0)
		return nil
	})
}

func isolation(h *harness) {
	const callers, each = 8, 25
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
		for i := range 3 {
			tx.Put(store.Thing{Thing: thing(fmt.Sprintf("t%d", i))})
			e := queue(tx, "j", fmt.Sprintf("t%d", i), 1)
			become(tx, e, muster.InProgress, 2)
		}
	})
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				name := muster.ThingName(fmt.Sprintf("t%d", (c+i)%3))
				if err := h.Update(context.Background(), store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx) error {
					q, _ := tx.Queue(name)
					become(tx, q.Executions[0], muster.InProgress, 3)
					return nil
				}); err != nil {
					h.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range each {
			h.view(func(r store.Reader) {
				sum := func() (n int64) {
					for i := range 3 {
						e, _ := r.Execution("j", muster.ThingName(fmt.Sprintf("t%d", i)), 0)
						n += e.Version
					}
					return n
				}
				h.equal("a view does not change", sum(), sum())
			})
		}
	})
	wg.Wait()
	h.again()
	h.view(func(r store.Reader) {
		var n int64
		for i := range 3 {
			e, _ := r.Execution("j", muster.ThingName(fmt.Sprintf("t%d", i)), 0)
			n += e.Version - 2
		}
		h.equal("increments", n, callers*each)
	})
}

func numbers(h *harness) {
	var last uint64
	seq := func(tx store.Tx) {
		n := tx.NextSeq()
		if n <= last {
			h.Fatalf("sequence %d after %d", n, last)
		}
		last = n
	}
	for range 3 {
		h.do(func(tx store.Tx) {
			seq(tx)
			seq(tx)
		})
		h.again()
	}
	h.do(func(tx store.Tx) {
		tx.Put(store.Thing{Thing: thing("t")})
		tx.Put(store.Job{Job: job(tx, "j")})
	})
	for want := int64(1); want < 6; want++ {
		h.do(func(tx store.Tx) {
			h.equal("number", tx.NextNumber("j", "t"), want)
			h.equal("number asked again", tx.NextNumber("j", "t"), want)
			e := queue(tx, "j", "t", 1)
			if want%2 == 0 {
				tx.Keep("t", muster.Notice{}, deleting(tx, e))
			} else {
				become(tx, e, muster.Canceled, 2)
			}
		})
		if want < 5 {
			h.again()
		}
	}
	h.do(func(tx store.Tx) { h.equal("number for another thing", tx.NextNumber("j", "u"), 1) })
}

func changed(h *harness) {
	select {
	case <-h.Changed():
	default:
	}
	h.do(func(tx store.Tx) { tx.Put(store.Thing{Thing: thing("t")}) })
	<-h.Changed() // comes, or the test does not end
	for i := range 5 {
		h.do(func(tx store.Tx) { tx.Put(store.Thing{Thing: thing(fmt.Sprint(i))}) })
	}
	for last := uint64(0); last < uint64(len(feedOf(h))); {
		<-h.Changed()
		entries, err := h.Feed(context.Background(), "", 1000)
		if err != nil {
			h.Fatal(err)
		}
		last = uint64(len(entries))
	}
}

func canceled(h *harness) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := h.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		tx.Put(store.Thing{Thing: thing("t")})
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		h.Fatalf("update: %v", err)
	}
	if err := h.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		h.Fatalf("view: %v", err)
	}
	h.view(func(r store.Reader) {
		_, ok := r.Thing("t")
		h.equal("the thing", ok, false)
	})
}

func reopening(h *harness) {
	h.do(func(tx store.Tx) {
		for i := range 12 {
			everything(tx, i)
		}
	})
	for i := range 3 {
		want, entries := Digest(h, h.Store), fmt.Sprint(feedOf(h))
		h.again()
		sameDigest(h, "after reopening", Digest(h, h.Store), want)
		h.equal("the feed", fmt.Sprint(feedOf(h)), entries)
		h.do(func(tx store.Tx) { empty(tx, i+2) })
	}
}

func backup(h *harness, b Backend) {
	h.do(func(tx store.Tx) {
		for i := range 6 {
			everything(tx, i)
		}
	})
	want := Digest(h, h.Store)
	dir := filepath.Join(h.TempDir(), "copy")
	if err := h.Backup(context.Background(), dir); err != nil {
		h.Fatalf("backup: %v", err)
	}
	if err := h.Backup(context.Background(), dir); err == nil {
		h.Fatal("a second backup into the same directory succeeded")
	}
	h.do(func(tx store.Tx) { everything(tx, 7) })
	c := &harness{TB: h.TB, Store: b.OpenBackup(h.TB, dir)}
	sameDigest(h, "the backup", Digest(c, c.Store), want)
	c.check()
	c.do(func(tx store.Tx) { everything(tx, 8) })
	h.check()
}

func sameDigest(h *harness, what, got, want string) {
	h.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			h.Fatalf("%s, line %d:\n got %s\nwant %s", what, i, a, b)
		}
	}
}
