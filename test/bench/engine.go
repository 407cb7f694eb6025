package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/internal/engine"
	"muster/internal/store/pebblestore"
)

// What is measured: Muster's engine over its store in a directory, without
// doors, as a child process.

const (
	allGroup   = "all"      // every thing
	smallGroup = "thousand" // the first 1,000
	pageGroup  = "hundred"  // the first 100
	pageSize   = 100

	// fillers is how many callers bring a store to where a measurement begins.
	fillers = 512
)

type engineService struct {
	settings Settings
	files    *countingFS
	store    *pebblestore.Store
	clock    *jumpClock
	*engine.Engine

	fleet   *fleet
	reports atomic.Int64 // since it was opened
	// What was written before the first report.
	logBefore, tablesBefore uint64

	tokens map[string][]string // what measurePages found out
}

func openEngineService(ctx context.Context, s Settings) (service, hello, error) {
	e := &engineService{settings: s, files: newCountingFS(), clock: &jumpClock{}, tokens: map[string][]string{}}
	start := time.Now()
	if err := e.open(); err != nil {
		return nil, hello{}, err
	}
	took := time.Since(start)
	e.fleet = newFleet(s.Things)
	// Where nobody has reported yet, every version is known, and every report can
	// name the one it expects.
	if v, err := e.DescribeJob(ctx, naiveJob); err == nil && v.Counts[muster.Queued] == int64(s.Things) {
		for i := range e.fleet.versions {
			e.fleet.versions[i] = muster.FirstVersion
		}
	}
	return e, hello{Sample: Sample{OpenOnly: took.Seconds()}}, nil
}

func (e *engineService) open() (err error) {
	o := pebblestore.Options{Dir: e.settings.Dir, FS: e.files}
	if e.settings.Frugal {
		o.CacheBytes = 1 << 20
	}
	if e.store, err = pebblestore.Open(o); err != nil {
		return err
	}
	e.Engine = engine.New(e.store, engine.Options{Clock: e.clock})
	return nil
}

func (e *engineService) Close() error { return e.store.Close() }

func (e *engineService) Call(ctx context.Context, req Request) (Sample, error) {
	switch req.Op {
	case "import":
		return e.importThings(ctx)
	case "settle":
		return nil, e.settle()
	case "check":
		return nil, e.check(ctx)
	case "update":
		return e.measureUpdates(ctx, req)
	case "written":
		return e.measureWritten()
	case "rollout":
		return e.measureRollout(ctx, req)
	case "time":
		return nil, e.startTimed(ctx)
	case "disturb-rollout":
		return e.disturbRollout(ctx, req)
	case "disturb-timers":
		return e.disturbTimers(ctx, req)
	case "pile":
		return nil, e.pile(ctx, req.Callers)
	case "pending":
		return e.measurePending(ctx, req)
	case "create":
		return e.measureCreate(ctx, req)
	case "start":
		return e.progress(ctx, muster.InProgress, noisyDetails)
	case "finish":
		return e.progress(ctx, muster.Succeeded, finalDetails)
	case "last":
		return nil, e.finishLast(ctx)
	case "heap":
		return e.heap(), nil
	case "spread":
		return nil, e.spread(ctx)
	case "describe":
		return e.measureDescribe(ctx, req)
	case "pages":
		return e.measurePages(ctx, req)
	}
	return nil, fmt.Errorf("engine cannot %q", req.Op)
}

func thingName(i int) muster.ThingName { return muster.ThingName(appendThing(nil, i)) }

// importThings registers the things and puts them into their groups, with a few
// slices in flight as an import over HTTP has them.
func (e *engineService) importThings(ctx context.Context) (Sample, error) {
	for _, g := range []muster.GroupName{allGroup, smallGroup, pageGroup} {
		if _, err := e.CreateGroup(ctx, muster.Group{Name: g}, ""); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	err := inParallel((e.settings.Things+engine.ImportSlice-1)/engine.ImportSlice, 4, func(slice int) error {
		var rows []engine.ImportRow
		for i := slice * engine.ImportSlice; i < min((slice+1)*engine.ImportSlice, e.settings.Things); i++ {
			groups := []muster.GroupName{allGroup}
			if i < leastThings {
				groups = append(groups, smallGroup)
			}
			if i < pageSize {
				groups = append(groups, pageGroup)
			}
			rows = append(rows, engine.ImportRow{Thing: &muster.Thing{Name: thingName(i)}, Groups: groups})
		}
		results, err := e.Import(ctx, rows)
		for _, r := range results {
			if err == nil && !r.Made {
				err = errors.Join(errors.New("a thing was not made"), r.Refused)
			}
		}
		return err
	})
	took := time.Since(start).Seconds()
	return Sample{Seconds: took, PerSecond: float64(e.settings.Things) / took}, err
}

// settle empties the memory into tables, which only closing does, and waits
// until compactions have caught up.
func (e *engineService) settle() error {
	e.quiet()
	if err := e.store.Close(); err != nil {
		return err
	}
	if err := e.open(); err != nil {
		return err
	}
	e.quiet()
	return nil
}

// quiet waits until nothing has been written for a while.
func (e *engineService) quiet() {
	const look, enough = 20 * time.Millisecond, 5
	giveUp := time.Now().Add(30 * time.Second)
	last := e.files.written()
	for calm := 0; calm < enough && time.Now().Before(giveUp); calm++ {
		time.Sleep(look)
		if now := e.files.written(); now != last {
			last, calm = now, 0
		}
	}
}

// check verifies all that is kept.
func (e *engineService) check(ctx context.Context) error {
	var problems []error
	err := e.store.Check(ctx, func(problem string) {
		if len(problems) < 5 {
			problems = append(problems, errors.New(problem))
		}
	})
	return errors.Join(append(problems, err)...)
}

// begin makes a job for a group, and rolls it out.
func (e *engineService) begin(ctx context.Context, id muster.JobID, group muster.GroupName) error {
	if _, err := e.CreateJob(ctx, jobFor(id, group)); err != nil {
		return err
	}
	_, err := e.Tick(ctx)
	return err
}

func jobFor(id muster.JobID, group muster.GroupName) engine.NewJob {
	document := jobDocument
	return engine.NewJob{ID: id, Document: &document, Targets: []muster.Target{{Group: group}}}
}

const jobDocument = `{"operation":"install","url":"https://updates.example.com/pump/2.14.0-rc3.bin","sha256":"0f343b0931126a20f133d67c2b018a3b"}`

// reportAll has many callers make a report for each thing from one number to
// another; a report without a status is left out.
func (e *engineService) reportAll(ctx context.Context, id muster.JobID, from, to int, report func(i int) muster.Report) error {
	return inParallel(to-from, fillers, func(k int) error {
		r := report(from + k)
		if r.Status == muster.NoStatus {
			return nil
		}
		got, err := e.Report(ctx, thingName(from+k), id, r)
		if err == nil && got.Status != r.Status {
			err = fmt.Errorf("%s is %s after a report of %s", got.Thing, got.Status, r.Status)
		}
		return err
	})
}

// expect compares a job's counters with what they must be.
func (e *engineService) expect(ctx context.Context, id muster.JobID, want muster.Counts) error {
	v, err := e.DescribeJob(ctx, id)
	if err == nil && v.Counts != want {
		err = fmt.Errorf("the counters of job %s are %v, not %v", id, v.Counts, want)
	}
	return err
}

// inParallel calls fn with 0 to n-1, in order but for what overlaps, and
// returns its first error.
func inParallel(n, callers int, fn func(int) error) error {
	var next atomic.Int64
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for errs[c] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[c] = fn(i)
			}
			next.Store(int64(n)) // the others need not go on
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
