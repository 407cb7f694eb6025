// Package storetest is the one suite for every store: it says in tests what package store says in
// words. A store's own test calls Run.
package storetest

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"muster"
	"muster/internal/store"
)

// A Backend makes the store under test.
type Backend struct {
	// Open makes an empty store. reopen closes it and opens it again; it may be called many times.
	// The store is closed by t.Cleanup.
	Open func(t testing.TB) (s store.Store, reopen func() store.Store)
	// OpenBackup opens what Backup wrote into a directory. A store without refuses to be backed up.
	OpenBackup func(t testing.TB, dir string) store.Store
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	for _, c := range []struct {
		name string
		run  func(*harness)
	}{
		{"rows are put, found, listed and deleted", rows},
		{"lists by name are in the byte order of names", byteOrder},
		{"tags and documents", tagsAndDocuments},
		{"a page goes on where the last one ended", paging},
		{"a page of executions goes on while they change", pagingExecutions},
		{"tokens of another list are refused", tokens},
		{"things are chosen by type and attribute", thingFilter},
		{"jobs are chosen by status, selection, group and namespace", jobFilter},
		{"an update that fails leaves nothing", atomic},
		{"an update that panics leaves nothing", panics},
		{"an update sees what it wrote", ownWrites},
		{"updates happen one at a time", isolation},
		{"sequences and numbers never repeat", numbers},
		{"a queue is in contract order", queueOrder},
		{"an execution is found by number or as the latest", findExecution},
		{"counters equal a recount", counters},
		{"a thing that is deleted keeps its history", deletedThing},
		{"deleting a job deletes what it has left", deletedJob},
		{"deadlines come earliest first", deadlines},
		{"the feed tells everything once, in order", feed},
		{"the feed resolves what is gone", feedOfGone},
		{"commits are announced", changed},
		{"a canceled context stops", canceled},
		{"memberships are found from both ends", memberships},
		{"reopening changes nothing", reopening},
		{"a large job", largeJob},
		{"random acts agree with a model", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, reopen := b.Open(t)
			h := &harness{TB: t, Store: s, reopen: reopen}
			defer h.stopped()
			c.run(h)
			h.check()
		})
	}
	for _, c := range []struct {
		name string
		run  func(*harness, Backend)
	}{
		{"a dump loads into an empty store", dump},
		{"a dump and a load can fail", dumpFails},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, reopen := b.Open(t)
			h := &harness{TB: t, Store: s, reopen: reopen}
			defer h.stopped()
			c.run(h, b)
			h.check()
		})
	}
	t.Run("a backup is the store as it was", func(t *testing.T) {
		s, reopen := b.Open(t)
		h := &harness{TB: t, Store: s, reopen: reopen}
		defer h.stopped()
		if b.OpenBackup == nil {
			h.kind("a backup", h.Backup(context.Background(), filepath.Join(t.TempDir(), "copy")), muster.Invalid)
			return
		}
		backup(h, b)
	})
}

// harness is a store under test with what tests say often.
type harness struct {
	testing.TB
	store.Store
	reopen func() store.Store
}

// stop is what a failed check panics with. FailNow ends the goroutine it is called on, and a store may
// run functions on a goroutine of its own.
type stop struct{}

func (h *harness) Fatalf(format string, args ...any) {
	h.Helper()
	h.Errorf(format, args...)
	panic(stop{})
}

func (h *harness) Fatal(args ...any) {
	h.Helper()
	h.Error(args...)
	panic(stop{})
}

func (h *harness) stopped() {
	if p := recover(); p != nil && p != any(stop{}) {
		panic(p)
	}
}

func (h *harness) update(fn func(store.Tx) error) {
	h.Helper()
	if err := h.Update(context.Background(), store.Keys{}, fn); err != nil {
		h.Fatalf("update: %v", err)
	}
}

// do is an update that cannot fail.
func (h *harness) do(fn func(store.Tx)) {
	h.Helper()
	h.update(func(tx store.Tx) error {
		fn(tx)
		return nil
	})
}

func (h *harness) view(fn func(store.Reader)) {
	h.Helper()
	if err := h.View(context.Background(), func(r store.Reader) error {
		fn(r)
		return nil
	}); err != nil {
		h.Fatalf("view: %v", err)
	}
}

func (h *harness) again() {
	h.Helper()
	h.Store = h.reopen()
}

// check lets the store look for problems itself.
func (h *harness) check() {
	h.Helper()
	if err := h.Check(context.Background(), func(p string) { h.Errorf("check: %s", p) }); err != nil {
		h.Errorf("check: %v", err)
	}
}

func (h *harness) equal(what string, got, want any) {
	h.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		h.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func (h *harness) kind(what string, err error, kind muster.Kind) {
	h.Helper()
	if e, ok := err.(*muster.Error); !ok || e.Kind != kind {
		h.Fatalf("%s: got %v, want an error of kind %s", what, err, kind)
	}
}

// thing, job, group and execution are rows with something in every field that a store could lose.
func thing(name string) muster.Thing {
	return muster.Thing{Name: muster.ThingName(name), ID: "7f9c2ba4-e88f-427d-a5b1-0d4f3a2e1c00", Attributes: muster.MakePairs("model", name, "å", "ü✓"), BillingGroup: "b", Version: 1}
}

func group(tx store.Tx, name, parent string) muster.Group {
	return muster.Group{Name: muster.GroupName(name), ID: "id-" + name, Seq: tx.NextSeq(), Parent: muster.GroupName(parent), Description: "d",
		Attributes: muster.MakePairs("k", "v"), Version: 3, Created: 1700000000123}
}

func job(tx store.Tx, id string, targets ...muster.Target) *muster.Job {
	return &muster.Job{ID: muster.JobID(id), Seq: tx.NextSeq(), Status: muster.JobInProgress, Targets: targets, Description: "d " + id,
		Settings:   muster.Settings{Timeout: &muster.Timeout{InProgress: 60e9}, Rollout: &muster.Rollout{MaximumPerMinute: 7}},
		Parameters: muster.MakePairs("p", string(make([]byte, 200))), Created: 1700000000001, Updated: 1700000000002}
}

// queue puts a new execution of a job on a thing.
func queue(tx store.Tx, id, name string, at muster.Time) muster.Execution {
	e := muster.NewExecution(muster.JobID(id), muster.ThingName(name), tx.NextNumber(muster.JobID(id), muster.ThingName(name)), 0, tx.NextSeq(), at)
	c := muster.Change{After: e}
	if latest, has := tx.Execution(e.Job, e.Thing, 0); has {
		c.Superseded = latest.Status
	}
	tx.Keep(e.Thing, muster.Notice{List: true}, c)
	return e
}

// become changes a pending execution to a status.
func become(tx store.Tx, e muster.Execution, st muster.Status, at muster.Time, details ...string) muster.Execution {
	next := e
	next.Status = st
	next.Version++
	next.UpdatedAt = at
	if st == muster.InProgress && e.StartedAt == 0 {
		next.StartedAt = at
		next.StepTimeout = at + 60000
	}
	if st.Terminal() {
		next.StepTimeout, next.InProgressTimeout = 0, 0
	}
	if len(details) > 0 {
		next.Details = muster.MakePairs(details...)
	}
	tx.Keep(e.Thing, muster.Notice{}, muster.Change{Before: e, After: next})
	return next
}

// all collects the pages of a list.
func all[T any](h testing.TB, limit int, page func(store.Page) ([]T, string, error)) []T {
	h.Helper()
	var out []T
	for p := (store.Page{Limit: limit}); ; {
		rows, next, err := page(p)
		if err != nil {
			h.Fatalf("page after %q: %v", p.After, err)
		}
		if len(rows) > limit {
			h.Fatalf("a page of at most %d has %d", limit, len(rows))
		}
		out = append(out, rows...)
		if next == "" {
			return out
		}
		if next == p.After {
			h.Fatalf("a page's next is where it began")
		}
		p.After = next
	}
}

// deleting is the change that deletes an execution, with what the engine would say of the attempts before.
func deleting(tx store.Reader, e muster.Execution) muster.Change {
	c := muster.Change{Before: e}
	latest, _ := tx.Execution(e.Job, e.Thing, 0)
	if latest.Number != e.Number {
		c.Stale = true
		return c
	}
	for n := e.Number - 1; n > 0; n-- {
		if before, ok := tx.Execution(e.Job, e.Thing, n); ok {
			c.Superseded = before.Status
			break
		}
	}
	return c
}
