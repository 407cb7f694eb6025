package awsapi

import (
	"sync/atomic"

	"muster"
	"muster/internal/meter"
)

// counters are what the follower of the feed counts as it goes.
type counters struct {
	transitions    [muster.NumStatus][muster.NumStatus]atomic.Uint64
	notices        [2]atomic.Uint64 // notify, notify-next
	events         atomic.Uint64
	entries, facts atomic.Uint64
	missed         atomic.Uint64
	delay          meter.Histogram
	untold         atomic.Int64 // when the oldest entry that is read and not told was written; 0: all is told
}

// told counts what has been handed on.
func (c *counters) told(matters []matter) {
	for _, m := range matters {
		switch m := m.(type) {
		case *notice:
			if m.list != "" {
				c.notices[0].Add(1)
			}
			if m.next != "" {
				c.notices[1].Add(1)
			}
		case *event:
			c.events.Add(1)
		}
	}
}

// read counts entries that the feed has passed. What other processes wrote is theirs to count.
func (c *counters) read(entries []muster.Entry, now muster.Time) {
	for i := range entries {
		e := &entries[i]
		if e.Missed {
			c.missed.Add(1)
		}
		c.entries.Add(1)
		if e.At != 0 {
			c.delay.Took(now.Sub(e.At))
		}
		if !e.Here {
			continue
		}
		c.facts.Add(uint64(len(e.Facts)))
		for k := range e.Facts {
			f := &e.Facts[k]
			if f.Kind == muster.FactExecution && f.Job != "" && f.From != f.To && f.From < muster.NumStatus && f.To < muster.NumStatus {
				c.transitions[f.From][f.To].Add(1)
			}
		}
	}
}

// A Transition is of an execution: from NoStatus it was created, to NoStatus deleted.
type Transition struct{ From, To muster.Status }

// Stats are what the face has read of the feed, and told, since it was made.
type Stats struct {
	Transitions         map[Transition]uint64 // of executions, those that did happen, written by this process
	Notify, NotifyNext  uint64                // notices handed on to subscribers
	Events              uint64                // messages below $aws/events/ handed on
	Entries, Facts      uint64                // of the feed, passed
	Missed              uint64                // times the feed was cut off before it was told
	Delay               meter.Snapshot        // from an entry's time to its being told, in nanoseconds of the engine's clock
	Untold              muster.Time           // when the oldest entry that is being told was written; 0: all is told
	RequestsUnderWay    int                   // of the data plane
	MaxRequestsUnderWay int                   // 0: any number
}

// Stats is cheap.
func (a *API) Stats() Stats {
	c := &a.count
	s := Stats{Transitions: map[Transition]uint64{}, Notify: c.notices[0].Load(), NotifyNext: c.notices[1].Load(), Events: c.events.Load(),
		Entries: c.entries.Load(), Facts: c.facts.Load(), Missed: c.missed.Load(), Delay: c.delay.Snapshot(), Untold: muster.Time(c.untold.Load()),
		RequestsUnderWay: len(a.limits.places), MaxRequestsUnderWay: cap(a.limits.places)}
	for from := range c.transitions {
		for to := range c.transitions[from] {
			if n := c.transitions[from][to].Load(); n > 0 {
				s.Transitions[Transition{muster.Status(from), muster.Status(to)}] = n
			}
		}
	}
	return s
}
