// Package meter counts. What is counted costs an atomic addition or two and no lock, so that it may be done on the way of
// every request; whoever shows the numbers reads them when asked. It knows no names, labels or formats.
package meter

import (
	"sync/atomic"
	"time"
)

// Latency are bounds for what somebody waits for, in nanoseconds: from 100 µs to 10 s.
var Latency = []int64{
	int64(100 * time.Microsecond), int64(250 * time.Microsecond), int64(500 * time.Microsecond),
	int64(time.Millisecond), int64(2500 * time.Microsecond), int64(5 * time.Millisecond),
	int64(10 * time.Millisecond), int64(25 * time.Millisecond), int64(50 * time.Millisecond),
	int64(100 * time.Millisecond), int64(250 * time.Millisecond), int64(500 * time.Millisecond),
	int64(time.Second), int64(2500 * time.Millisecond), int64(5 * time.Second), int64(10 * time.Second),
}

// Lateness are bounds for what is due at a time, in nanoseconds: from 10 ms to an hour.
var Lateness = []int64{
	int64(10 * time.Millisecond), int64(50 * time.Millisecond), int64(100 * time.Millisecond), int64(500 * time.Millisecond),
	int64(time.Second), int64(5 * time.Second), int64(10 * time.Second), int64(30 * time.Second),
	int64(time.Minute), int64(5 * time.Minute), int64(15 * time.Minute), int64(time.Hour),
}

// Sizes are bounds for how many there are of something.
var Sizes = []int64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}

// most is how many bounds a histogram may have.
const most = 16

// A Histogram counts values by size. Make one with Over; it must not be copied.
type Histogram struct {
	bounds  []int64
	buckets [most + 1]atomic.Uint64
	sum     atomic.Int64
}

// Over sets the bounds, ascending and at most 16, before the first value.
func (h *Histogram) Over(bounds []int64) {
	if len(bounds) > most {
		panic("meter: too many bounds")
	}
	h.bounds = bounds
}

// Observe counts a value; a negative one is 0.
func (h *Histogram) Observe(v int64) {
	v = max(v, 0)
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(v)
}

// Took counts a duration.
func (h *Histogram) Took(d time.Duration) { h.Observe(int64(d)) }

// A Snapshot is what a histogram has counted. It may be off by what was being counted when it was made.
type Snapshot struct {
	Bounds []int64
	Counts []uint64 // of values up to each bound, those of smaller bounds among them
	Count  uint64   // of all
	Sum    int64
}

// Snapshot reads the histogram.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Bounds: h.bounds, Counts: make([]uint64, len(h.bounds)), Sum: h.sum.Load()}
	for i := range h.bounds {
		s.Count += h.buckets[i].Load()
		s.Counts[i] = s.Count
	}
	s.Count += h.buckets[len(h.bounds)].Load()
	return s
}
