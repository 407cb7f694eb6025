package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"muster"
)

// P8 and P9: a job is made and reaches its things.

const (
	createdMS  = "create_ms" // until CreateJob answers: median
	slowestMS  = "slowest_ms"
	perRollout = 9 // jobs made for one figure of P8; no more than 10 may be deleted at a time
)

// measureRollout makes a job for all things and waits until each has its
// execution, queued and durable, and the feed has told of each.
func (e *engineService) measureRollout(ctx context.Context, req Request) (Sample, error) {
	feed, err := e.store.FeedEnd(ctx)
	if err != nil {
		return nil, err
	}
	written := e.files.written()
	cpu, start := ownCPU(), time.Now()
	if _, err := e.CreateJob(ctx, jobFor(muster.JobID(req.Job), allGroup)); err != nil {
		return nil, err
	}
	answered := time.Since(start)
	if _, err := e.Tick(ctx); err != nil {
		return nil, err
	}
	took, used := time.Since(start), ownCPU()-cpu
	things := float64(e.settings.Things)
	s := Sample{
		createdMS: answered.Seconds() * 1000, Seconds: took.Seconds(), Operations: things,
		PerSecond: things / took.Seconds(), CPUPerOp: float64(used.Microseconds()) / things,
		BytesPerOp: float64(e.files.written()-written) / things,
	}
	if err := e.expect(ctx, muster.JobID(req.Job), muster.Counts{muster.Queued: int64(e.settings.Things)}); err != nil {
		return nil, err
	}
	return s, e.expectNews(ctx, feed)
}

// expectNews reads the feed from an entry on: it must tell every device of one
// new execution.
func (e *engineService) expectNews(ctx context.Context, after muster.Place) error {
	told := 0
	for {
		entries, err := e.store.Feed(ctx, after, 1000)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		for _, entry := range entries {
			if entry.Missed {
				return fmt.Errorf("the feed goes from %s to %s", after, entry.Place)
			}
			after = entry.Place
			for _, f := range entry.Facts {
				if f.Kind == muster.FactExecution && f.To == muster.Queued && f.Notice.Next && f.Notice.List {
					told++
				}
			}
		}
	}
	if told != e.settings.Things {
		return fmt.Errorf("the feed tells of %d queued executions, not %d", told, e.settings.Things)
	}
	return nil
}

// measureCreate makes jobs for a group, with the loop standing still so that
// nothing else is measured, and cancels them again.
func (e *engineService) measureCreate(ctx context.Context, req Request) (Sample, error) {
	var took []float64
	for i := range perRollout {
		id := muster.JobID(fmt.Sprintf("%s-%d", req.Job, i))
		start := time.Now()
		if _, err := e.CreateJob(ctx, jobFor(id, muster.GroupName(req.Group))); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start).Seconds()*1000)
	}
	// Once they are canceled, none of them will be rolled out.
	for _, end := range []func(muster.JobID) error{
		func(id muster.JobID) error { _, err := e.CancelJob(ctx, id, true, "", ""); return err },
		func(id muster.JobID) error { return e.DeleteJob(ctx, id, true) },
	} {
		for i := range perRollout {
			if err := end(muster.JobID(fmt.Sprintf("%s-%d", req.Job, i))); err != nil {
				return nil, err
			}
		}
		if _, err := e.Tick(ctx); err != nil {
			return nil, err
		}
	}
	if live := e.store.Stats().Live; live != 0 {
		return nil, fmt.Errorf("jobs that were canceled before their rollout have left %d executions", live)
	}
	return Sample{createdMS: median(took), slowestMS: slices.Max(took)}, nil
}

// engineCreate measures how soon CreateJob answers for a group.
func (b *Bench) engineCreate(group string) *Meter {
	open := func(ctx context.Context) (*Child, error) { return b.engine(ctx, "create", thingsSeed) }
	return &Meter{
		Name: "engine, CreateJob for group " + group,
		Prepare: func(ctx context.Context) error {
			c, err := open(ctx)
			if err != nil {
				return err
			}
			_, err = c.Call(Request{Op: "create", Job: "first-" + group, Group: group})
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, err := open(ctx)
			if err != nil {
				return nil, err
			}
			return c.Call(Request{Op: "create", Job: "made-" + group, Group: group})
		},
	}
}

// engineRollout measures a rollout in a store that has things and no job, as
// naiveLoad does in an empty one.
func (b *Bench) engineRollout() *Meter {
	return &Meter{
		Name: fmt.Sprintf("engine, rollout to %s", thousands(int64(b.Things))),
		Prepare: func(ctx context.Context) error {
			_, err := b.seed(ctx, thingsSeed)
			return err
		},
		Run: func(ctx context.Context) (s Sample, err error) {
			dir, err := b.sow(ctx, "rollout", thingsSeed)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			c, err := startChild(ctx, "engine", Settings{Dir: dir, Things: b.Things, Profiles: b.Profiles})
			if err != nil {
				return nil, err
			}
			defer c.Kill() // the store is thrown away
			return c.Call(Request{Op: "rollout", Job: naiveJob})
		},
	}
}
