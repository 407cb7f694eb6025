package main

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

// fleet is the devices' side of the update workload: each caller is a closed
// loop over things of its own, so that a version it was told stays the version
// and every conflict is a fault of the store. It remembers versions from run
// to run.
type fleet struct {
	versions []int64 // by thing; 0 means not yet told
}

// doUpdate reports the next step of a thing and returns its new version once
// that is durable. Expected is 0 on a thing's first update. Calls with the
// same caller never overlap.
type doUpdate func(caller, thing int, expected int64, details []byte) (version int64, err error)

func newFleet(things int) *fleet { return &fleet{versions: make([]int64, things)} }

// run lets the callers update random things for d, after a fifth of d that
// warms caches and is not measured. CPU is this process's: callers and store.
func (f *fleet) run(ctx context.Context, callers int, d time.Duration, do doUpdate) (Sample, error) {
	if _, err := f.lap(ctx, callers, forTime(d/5), do); err != nil {
		return nil, err
	}
	return f.lap(ctx, callers, forTime(d), do)
}

// forTime says yes for a time from now on.
func forTime(d time.Duration) func(now time.Time) bool {
	stop := time.Now().Add(d)
	return func(now time.Time) bool { return now.Before(stop) }
}

// lap lets the callers update random things for as long as going says yes.
func (f *fleet) lap(ctx context.Context, callers int, going func(now time.Time) bool, do doUpdate) (Sample, error) {
	callers = min(callers, len(f.versions))
	hists := make([]histogram, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	cpu, start := ownCPU(), time.Now()
	for c := range callers {
		wg.Go(func() { errs[c] = f.caller(ctx, c, callers, going, &hists[c], do) })
	}
	wg.Wait()
	took, used := time.Since(start), ownCPU()-cpu
	for c := range callers {
		if errs[c] != nil {
			return nil, errs[c]
		}
		if c > 0 {
			hists[0].merge(&hists[c])
		}
	}
	s := hists[0].sample(took)
	s[CPUPerOp] = float64(used.Microseconds()) / max(1, s[Operations])
	return s, nil
}

func (f *fleet) caller(ctx context.Context, c, callers int, going func(time.Time) bool, h *histogram, do doUpdate) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), uint64(c)))
	own := (len(f.versions) - c + callers - 1) / callers
	var details []byte
	for before := time.Now(); going(before) && ctx.Err() == nil; {
		thing := rng.IntN(own)*callers + c
		details = appendDetails(details[:0], rng.Uint64())
		v, err := do(c, thing, f.versions[thing], details)
		if err != nil {
			return err
		}
		f.versions[thing] = v
		after := time.Now()
		h.add(after.Sub(before))
		before = after
	}
	return ctx.Err()
}

const detailsSize = 186

// appendDetails appends status details as a device sends them: JSON of
// detailsSize bytes, about half of them noise, so that a compressing store is
// paid for what compression does to real reports and no more.
func appendDetails(dst []byte, noise uint64) []byte {
	const (
		head = `{"step":"install","progress":"42","firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"`
		tail = `"}`
		hex  = "0123456789abcdef"
	)
	dst = append(dst, head...)
	for i := range detailsSize - len(head) - len(tail) {
		if i%16 == 0 {
			noise = (noise ^ noise>>31) * 0x9E3779B97F4A7C15
		}
		dst = append(dst, hex[noise>>(i%16*4)&15])
	}
	return append(dst, tail...)
}

// appendThing appends the name of a thing; names sort as their numbers do.
func appendThing(dst []byte, thing int) []byte {
	dst = append(dst, "thing-0000000"...)
	for i := len(dst) - 1; thing > 0; i-- {
		dst[i] = byte('0' + thing%10)
		thing /= 10
	}
	return dst
}

// histogram counts latencies in buckets 3 % wide, so that a caller's
// bookkeeping costs nothing beside what it measures.
type histogram struct {
	buckets [(40 - histBits + 1) << histBits]uint32
	count   uint64
	longest time.Duration
}

const histBits = 5

func (h *histogram) add(d time.Duration) {
	h.buckets[min(bucketOf(d), len(h.buckets)-1)]++
	h.count++
	h.longest = max(h.longest, d)
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<histBits {
		return int(v)
	}
	shift := bits.Len64(v) - histBits - 1
	return (shift+1)<<histBits + int(v>>shift) - 1<<histBits
}

// bucketTop is the longest latency that falls into bucket b.
func bucketTop(b int) time.Duration {
	if b < 1<<histBits {
		return time.Duration(b)
	}
	shift := b>>histBits - 1
	return time.Duration((b&(1<<histBits-1)+1<<histBits+1)<<shift - 1)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.longest = max(h.longest, o.longest)
}

// quantile is a latency that a share q of all stays within.
func (h *histogram) quantile(q float64) time.Duration {
	left := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if uint64(n) > left {
			return bucketTop(i)
		}
		left -= uint64(n)
	}
	return 0
}

func (h *histogram) sample(took time.Duration) Sample {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return Sample{
		Operations: float64(h.count),
		PerSecond:  float64(h.count) / took.Seconds(),
		P50:        ms(h.quantile(0.50)),
		P99:        ms(h.quantile(0.99)),
		Slowest:    ms(h.longest),
	}
}
