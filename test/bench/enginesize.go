package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"muster"
)

// P12 and P13: how much room an execution takes, in RAM and on disk. What is
// compared are two stores that differ in nothing else. Sizes do not vary from
// round to round, so they are taken once.

const (
	heapBytes     = "heap_bytes"
	liveBytes     = "live_bytes"     // RAM per execution that is queued
	reportedBytes = "reported_bytes" // RAM per execution in progress with details
	overBytes     = "over_bytes"     // RAM per execution that is over, of a job that is not
	sealedBytes   = "sealed_bytes"   // the same once the job is over
	diskBytes     = "disk_bytes"
)

// heap is what lives in the heap. The store was opened with small caches, so
// that they do not drown what is looked for.
func (e *engineService) heap() Sample {
	e.quiet()
	runtime.GC()
	runtime.GC() // what pools held is gone only now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Sample{heapBytes: float64(m.HeapAlloc)}
}

// progress takes all executions but the first thing's one step further, with as
// many callers at once as fill a store, and measures that too.
func (e *engineService) progress(ctx context.Context, status muster.Status, of func(i int) muster.Pairs) (Sample, error) {
	things := e.settings.Things
	most := things - 1
	start := time.Now()
	err := e.reportAll(ctx, naiveJob, 1, things, func(i int) muster.Report {
		details := of(i)
		return muster.Report{Status: status, Details: &details}
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	want := muster.Counts{muster.Queued: 1}
	want[status] = int64(most)
	return Sample{Operations: float64(most), Seconds: took, PerSecond: float64(most) / took}, e.expect(ctx, naiveJob, want)
}

// noisyDetails are the details of a report in progress, 186 bytes of JSON.
func noisyDetails(i int) muster.Pairs { return detailPairs(appendDetails(nil, uint64(i))) }

// finalDetails are 100 bytes of JSON, about half of them noise as well.
func finalDetails(i int) muster.Pairs {
	noisy := appendDetails(nil, uint64(i))
	trace := noisy[len(noisy)-len(`"}`)-55 : len(noisy)-len(`"}`)]
	return muster.MakePairs("step", "verify", "progress", "100", "trace", string(trace))
}

// finishLast ends the last execution, and with it the job.
func (e *engineService) finishLast(ctx context.Context) error {
	things := e.settings.Things
	err := e.reportAll(ctx, naiveJob, 0, 1, func(i int) muster.Report {
		details := finalDetails(i)
		return muster.Report{Status: muster.Succeeded, Details: &details}
	})
	if err != nil {
		return err
	}
	v, err := e.DescribeJob(ctx, naiveJob)
	if err == nil && v.Status != muster.JobCompleted {
		err = fmt.Errorf("the job is %s when all its executions are over", v.Status)
	}
	return errors.Join(err, e.expect(ctx, naiveJob, muster.Counts{muster.Succeeded: int64(things)}))
}

// sizer takes the sizes.
type sizer struct {
	b    *Bench
	took Sample
	err  error
	done bool
}

func (z *sizer) meter() *Meter {
	return &Meter{
		Name:    "engine, sizes",
		Prepare: z.measure,
		Run:     func(context.Context) (Sample, error) { return z.took, z.err },
	}
}

func (z *sizer) measure(ctx context.Context) error {
	if !z.done {
		z.done, z.took = true, Sample{}
		z.err = z.take(ctx)
	}
	return z.err
}

func (z *sizer) take(ctx context.Context) error {
	b, n := z.b, float64(z.b.Things)
	dir, err := b.sow(ctx, "sizes", liveSeed)
	if err != nil {
		return err
	}
	bare, err := b.sow(ctx, "sizes-bare", thingsSeed)
	if err != nil {
		return err
	}
	none, err := b.heapOf(ctx, bare)
	if err != nil {
		return err
	}
	// lives does something to the store and says what it has made of the heap, per execution.
	lives := func(figure string, ops ...Request) (s Sample, err error) {
		if len(ops) > 0 {
			c, err := startChild(ctx, "engine", Settings{Dir: dir, Things: b.Things})
			if err != nil {
				return nil, err
			}
			defer c.Kill()
			for _, op := range ops {
				if s, err = c.Call(op); err != nil {
					return nil, err
				}
			}
			if err := c.Close(); err != nil {
				return nil, err
			}
		}
		heap, err := b.heapOf(ctx, dir)
		z.took[figure] = (heap - none) / n
		return s, err
	}
	if _, err := lives(liveBytes); err != nil {
		return err
	}
	if _, err := lives(reportedBytes, Request{Op: "start"}); err != nil {
		return err
	}
	finished, err := lives(overBytes, Request{Op: "finish"})
	if err != nil {
		return err
	}
	z.took[PerSecond] = finished[PerSecond]
	if _, err := lives(sealedBytes, Request{Op: "last"}); err != nil {
		return err
	}
	with, err := b.diskOf(ctx, dir)
	if err != nil {
		return err
	}
	without, err := b.diskOf(ctx, bare)
	z.took[diskBytes] = (with - without) / n
	return err
}

// heapOf opens a store in a process of its own for a look at its heap.
func (b *Bench) heapOf(ctx context.Context, dir string) (float64, error) {
	c, err := startChild(ctx, "engine", Settings{Dir: dir, Things: 1, Frugal: true})
	if err != nil {
		return 0, err
	}
	defer c.Kill()
	s, err := c.Call(Request{Op: "heap"})
	if err != nil {
		return 0, err
	}
	return s[heapBytes], c.Close()
}

// feedKind begins the keys of the feed, as pebblestore lays them out.
const feedKind = 'f'

// diskOf is the size of a store's tables after compaction, without the feed: how
// long that is kept is a setting, not a price. The log is no table. The store
// is of no use afterwards.
func (b *Bench) diskOf(ctx context.Context, dir string) (float64, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
	if err != nil {
		return 0, err
	}
	if err = dropFeed(db); err == nil {
		err = db.Compact(ctx, []byte{0}, []byte{0xff}, false)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return 0, err
	}
	size := 0.0
	err = filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".sst") {
			return err
		}
		info, err := os.Stat(path)
		if err == nil {
			size += float64(info.Size())
		}
		return err
	})
	return size, err
}

func dropFeed(db *pebble.DB) error {
	lower, upper := []byte{feedKind}, []byte{feedKind + 1}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	found := it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if !found {
		return errors.New("there is no feed where it used to be in the store")
	}
	return db.DeleteRange(lower, upper, pebble.Sync)
}
