package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"muster"
	"muster/internal/store"
)

// A meddler does something after every update of the engine's.
type meddler struct {
	store.Store
	after func()
}

func (m *meddler) Update(ctx context.Context, on store.Keys, fn func(store.Tx) error) error {
	err := m.Store.Update(ctx, on, fn)
	if m.after != nil {
		m.after()
	}
	return err
}

// The loop takes large slices while nobody asks for anything, and small ones while somebody does.
func TestSlices(t *testing.T) {
	for _, busy := range []bool{false, true} {
		h := newTeller(t)
		ctx := t.Context()
		h.act([]string{"group", "fleet"})
		var rows []ImportRow
		for i := range 3 * slice {
			rows = append(rows, ImportRow{Thing: &muster.Thing{Name: muster.ThingName(fmt.Sprintf("t%05d", i))}, Groups: []muster.GroupName{"fleet"}})
		}
		if _, err := h.Import(ctx, rows); err != nil {
			t.Fatal(err)
		}
		m := &meddler{Store: h.store}
		g := New(m, Options{Clock: h.clock})
		h.act(strings.Fields("job fw @fleet"))
		made, most := int64(0), int64(0)
		m.after = func() {
			v, err := g.DescribeJob(ctx, "fw")
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, v.Counts[muster.Queued]-made)
			made = v.Counts[muster.Queued]
			if busy {
				g.asked.Add(1)
			}
		}
		if busy {
			g.asked.Add(1)
		}
		if _, err := g.Tick(ctx); err != nil {
			t.Fatal(err)
		}
		want := int64(slice)
		if busy {
			want = busySlice
		}
		if made != 3*slice || most != want {
			t.Errorf("busy %v: %d executions, at most %d in a slice, want %d", busy, made, most, want)
		}
	}
}
