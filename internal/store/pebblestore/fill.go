package pebblestore

import (
	"context"
	"fmt"

	"muster"
	"muster/internal/store"
)

// loadedAtOnce is how many rows Load writes at once.
const loadedAtOnce = 8192

// checkLoaded refuses a store that Load has filled in part.
func (s *Store) checkLoaded() error {
	half := false
	if err := s.first(kLoading, func(_, _ []byte) { half = true }); err != nil {
		return err
	}
	if half {
		return muster.Errorf(muster.Invalid, "The store in %s is half filled: an import into it did not come to its end. Remove the directory and import again", s.opts.Dir)
	}
	return nil
}

// Load takes the rows as Updates do, in batches, and takes from each batch what it would tell the feed.
func (s *Store) Load(ctx context.Context, next func() (store.Row, bool, error)) error {
	if err := s.silently(ctx, func(t *tx) { t.beginLoad() }); err != nil {
		return err
	}
	err := s.fill(ctx, next)
	if err == nil {
		err = s.silently(ctx, func(t *tx) { t.b.delete([]byte{kLoading}) })
	}
	if err != nil {
		s.fail(fmt.Errorf("it is half filled: %w", err))
	}
	return err
}

// silently is an Update of which the feed is told nothing.
func (s *Store) silently(ctx context.Context, fn func(*tx)) error {
	return s.Update(ctx, store.Keys{}, func(w store.Tx) error {
		t := w.(*tx)
		fn(t)
		s.entry.cut(t.told, t.ntold, t.toldAt)
		return nil
	})
}

// beginLoad makes sure that the store is empty and marks it.
func (t *tx) beginLoad() {
	tagged := false
	t.scan([]byte{kTags}, []byte{kTags + 1}, func(_, _ []byte) bool {
		tagged = true
		return false
	})
	for _, is := range []struct {
		there bool
		what  string
	}{
		{!t.registered.IsEmpty(), "things"}, {len(t.typeRows) > 0, "thing types"}, {len(t.groups) > 0, "thing groups"}, {len(t.templates) > 0, "job templates"},
		{len(t.jobs)+len(t.garbage) > 0, "jobs"}, {t.deadlines.Len() > 0, "deadlines"}, {tagged, "tags"},
	} {
		if is.there {
			t.fail(store.NotEmpty(is.what))
			return
		}
	}
	t.b.set([]byte{kLoading}, nil)
	t.b.deleteRange([]byte{kSetting}, []byte{kSetting + 1})
}

func (s *Store) fill(ctx context.Context, next func() (store.Row, bool, error)) error {
	rows := make([]store.Row, 0, loadedAtOnce)
	var last muster.Execution // of the rows before
	for more := true; more; {
		rows = rows[:0]
		for size := 0; len(rows) < loadedAtOnce && size < batchBytes; {
			row, ok, err := next()
			if err != nil {
				return err
			}
			if more = ok; !ok {
				break
			}
			rows = append(rows, row)
			size += sizeOf(row)
		}
		if err := s.silently(ctx, func(t *tx) {
			for _, row := range rows {
				if t.load(row, &last); t.err != nil {
					return
				}
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is about what the large part of a row takes.
func sizeOf(row store.Row) int {
	switch r := row.(type) {
	case store.Setting:
		return len(r.Value)
	case store.Document:
		return len(r.Text) + len(r.Source)
	case store.Template:
		return len(r.Document)
	}
	return 0
}

func (t *tx) load(row store.Row, last *muster.Execution) {
	switch r := row.(type) {
	case store.Seq:
		t.seq = max(t.seq, uint64(r))
	case store.Execution:
		c := muster.Change{After: r.Execution}
		if last.Job == r.Job && last.Thing == r.Thing {
			if last.Number >= r.Number {
				t.fail(muster.Errorf(muster.Invalid, "Execution %d of job %s on thing %s comes behind number %d", r.Number, r.Job, r.Thing, last.Number))
				return
			}
			c.Superseded = last.Status
		}
		*last = r.Execution
		t.Keep(r.Thing, muster.Notice{}, c)
	case store.Spent:
		t.loadSpent(r)
	default:
		t.Put(row)
	}
}

// loadSpent notes the last number that a thing had of a job, as deleting the execution would have.
func (t *tx) loadSpent(r store.Spent) {
	j := t.jobs[r.Job]
	if j == nil {
		t.fail(muster.Errorf(muster.Internal, "the store was given a number of job %s, which it does not have", r.Job))
		return
	}
	if !t.unseal(j) {
		return
	}
	tid := t.ensureTid(r.Thing)
	t.b.set(historyKey(tid, j.jid), appendNumber(nil, r.Number))
	v := []byte{1}
	if !j.sets.known(tid) {
		j.sets.add(muster.NoStatus, tid)
		v = nil
	}
	j.sets.addMulti(tid) // its next number is on disk
	t.b.set(key2(kSpent, j.jid, tid), v)
}
