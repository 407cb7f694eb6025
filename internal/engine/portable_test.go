package engine

import (
	"testing"

	"muster"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
)

// A store that takes the rows of one whose jobs are settled behind the feed settles those that were not yet.
func TestWhatCameUnsettledIsSettled(t *testing.T) {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e := muster.NewExecution("j", "a", 1, 0, 2, 5)
	e.Status, e.Version = muster.Succeeded, 2
	rows := []store.Row{store.Thing{Thing: muster.Thing{Name: "a", ID: "id", Version: 1}},
		store.Job{Job: &muster.Job{ID: "j", Seq: 1, Status: muster.JobInProgress, Targets: []muster.Target{{Thing: "a"}}, RolledOut: 1}},
		store.Document{Job: "j", Document: muster.Document{Text: "{}"}}, store.Execution{Execution: e}, store.Seq(9)}
	if err := s.Load(t.Context(), func() (store.Row, bool, error) {
		if len(rows) == 0 {
			return nil, false, nil
		}
		r := rows[0]
		rows = rows[1:]
		return r, true, nil
	}); err != nil {
		t.Fatal(err)
	}
	g := New(s, Options{Clock: &SystemClock{}})
	if _, err := g.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := g.DescribeJob(t.Context(), "j")
	if err != nil || v.Job.Status != muster.JobCompleted {
		t.Errorf("the job is %+v, %v", v, err)
	}
}

// A row whose place is of one store goes without it.
func TestPortable(t *testing.T) {
	at := rolloutCursor{Job: 7, Target: 2, Slot: 3.5}
	far := at
	far.Place = treePage{Walk: tree{{Group: "g", Next: "n"}}, Member: "token"}
	for _, c := range []struct{ row, want store.Deadline }{
		{store.Deadline{Kind: store.Rollout, Cursor: far.String()}, store.Deadline{Kind: store.Rollout, Cursor: at.String()}},
		{store.Deadline{Kind: store.Count, Cursor: "12/" + far.String()}, store.Deadline{Kind: store.Count, Cursor: "0/" + rolloutCursor{Job: 7, Slot: 3.5}.String()}},
		{store.Deadline{Kind: store.Shown, Cursor: "token/7"}, store.Deadline{Kind: store.Shown, Cursor: "/7"}},
		{store.Deadline{Kind: store.Sweep, Cursor: "7"}, store.Deadline{Kind: store.Sweep, Cursor: "7"}},
	} {
		if got := Portable(c.row); got != c.want || Portable(got) != got {
			t.Errorf("%+v: got %+v, want %+v", c.row, got, c.want)
		}
	}
	if got := Portable(store.Job{Job: &muster.Job{Parked: far.String()}}).(store.Job); got.Parked != at.String() {
		t.Errorf("parked at %s", got.Parked)
	}
}
