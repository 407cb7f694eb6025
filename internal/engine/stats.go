package engine

import (
	"sync/atomic"

	"muster"
	"muster/internal/meter"
	"muster/internal/store"
)

// deadlineNames are how the kinds of deadlines are called outside.
var deadlineNames = map[store.DeadlineKind]string{
	store.Rollout: "rollout", store.Sweep: "sweep", store.Delete: "delete", store.Timer: "timer", store.Schedule: "schedule",
	store.Shown: "shown", store.Retention: "retention", store.Count: "count", store.Bake: "bake", store.Room: "room",
}

// counters are what the loop counts as it goes.
type counters struct {
	worked   [16]atomic.Uint64 // by kind
	due      atomic.Int64
	lateness meter.Histogram
	ticks    atomic.Uint64
	failures atomic.Uint64
}

// Stats are what the loop has done since the engine was made.
type Stats struct {
	Worked   map[string]uint64 // deadlines worked on, in whole or a slice, by kind
	Due      int64             // deadlines found due and not done yet, as far as one look goes (512)
	Lateness meter.Snapshot    // how long after their moment those of a moment were done, in nanoseconds of the engine's clock
	Ticks    uint64            // rounds that found something to do
	Failures uint64            // rounds that failed, to be tried again
}

// Stats is cheap.
func (g *Engine) Stats() Stats {
	s := Stats{Worked: map[string]uint64{}, Due: g.counted.due.Load(), Lateness: g.counted.lateness.Snapshot(), Ticks: g.counted.ticks.Load(), Failures: g.counted.failures.Load()}
	for kind, name := range deadlineNames {
		s.Worked[name] = g.counted.worked[kind].Load()
	}
	return s
}

// note counts what a committed slice has done.
func (c *counters) note(done []store.Deadline, left int, now muster.Time) {
	c.due.Store(int64(left))
	for _, d := range done {
		c.worked[d.Kind%store.DeadlineKind(len(c.worked))].Add(1)
		switch d.Kind {
		case store.Timer, store.Schedule, store.Bake:
			// Of a moment. The others are work that may take many slices, all of them due since it began.
			c.lateness.Took(now.Sub(d.Due))
		}
	}
}

// JobCounts are the jobs there are, by status.
func (l Glance) JobCounts() map[muster.JobStatus]int {
	counts := map[muster.JobStatus]int{}
	for status := muster.JobScheduled; status <= muster.JobDeleting; status++ {
		counts[status] = l.tx.JobCount(status)
	}
	return counts
}

// GroupsOf are the groups that a thing is directly in.
func (l Glance) GroupsOf(thing muster.ThingName) []muster.Membership { return l.tx.GroupsOf(thing) }

// A Tick is one round of the loop that had something to do, or failed.
type Tick struct {
	Deadlines int // worked on
	Err       error
}
