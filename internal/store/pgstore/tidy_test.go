package pgstore

import (
	"context"
	"testing"

	"muster"
	"muster/internal/store"
	"muster/test/postgres"
)

// What the feed has kept for long enough goes, and who has not read it by then is told so; the counters of writers that
// are no more come together and count as before.
func TestTidy(t *testing.T) {
	url := postgres.URL(t)
	ctx := context.Background()
	put := func(s *Store, id muster.JobID, name muster.ThingName) {
		t.Helper()
		err := s.Update(ctx, store.Keys{}, func(tx store.Tx) error {
			if _, ok := tx.Job(id); !ok {
				tx.Put(store.Job{Job: &muster.Job{ID: id, Seq: tx.NextSeq(), Status: muster.JobInProgress}})
			}
			tx.Put(store.Thing{Thing: muster.Thing{Name: name}})
			tx.Keep(name, muster.Notice{}, muster.Change{After: muster.NewExecution(id, name, tx.NextNumber(id, name), 0, tx.NextSeq(), 1)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var early muster.Place
	for i := range 3 {
		s := open(t, Options{URL: url})
		put(s, "a", muster.ThingName("first"+string(rune('0'+i))))
		if i == 0 {
			entries, err := s.Feed(ctx, "", 1)
			if err != nil || len(entries) != 1 {
				t.Fatal(entries, err)
			}
			early = entries[0].Place
			put(s, "b", "second")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Options{URL: url, FeedKept: 1})
	put(s, "a", "last")
	if err := s.tidy(ctx); err != nil {
		t.Fatal(err)
	}
	rows := func(table string) int { return countRows(t, s, table) }
	if n := rows("sums"); n != 3 { // of writer 0 for both jobs, and of the one that lives for the first
		t.Errorf("%d rows of counters are left", n)
	}
	if n := rows("feed"); n > 1 {
		t.Errorf("%d entries of the feed are left", n)
	}
	err := s.View(ctx, func(r store.Reader) error {
		if a, b := r.Counts("a")[muster.Queued], r.Counts("b")[muster.Queued]; a != 4 || b != 1 {
			t.Errorf("the jobs count %d and %d", a, b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(ctx, func(p string) { t.Error("check:", p) }); err != nil {
		t.Fatal(err)
	}
	put(s, "b", "later")
	entries, err := s.Feed(ctx, early, 10)
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	missed := false
	for _, e := range entries {
		missed = missed || e.Missed
	}
	if !missed {
		t.Error("a reader that came too late was not told")
	}
}

// countRows counts rows of a table, or of what else there may stand behind FROM.
func countRows(t *testing.T, s *Store, of string) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+of).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
