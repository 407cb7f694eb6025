package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"muster"
	"muster/internal/engine"
)

// P10: what devices notice of a job that rolls out to every thing, and of timers
// that fall due on every thing at once. The callers are those of P1, who report
// for another job; the yardstick is the same callers with nothing else to do.

const (
	waveJob  = "wave"
	timedJob = "timed"

	workPerSecond = "work_per_s" // executions that were made, or that timed out, meanwhile
	disturbers    = 64
)

// A jumpClock is real time, moved on by a jump.
type jumpClock struct {
	engine.SystemClock
	ahead atomic.Int64 // nanoseconds
}

func (c *jumpClock) Now() muster.Time {
	return c.SystemClock.Now().Add(time.Duration(c.ahead.Load()))
}

// startTimed makes a job with a timeout and starts it on every thing, so that a
// million timers run.
func (e *engineService) startTimed(ctx context.Context) error {
	n := jobFor(timedJob, allGroup)
	n.Settings.Timeout = &muster.Timeout{InProgress: muster.MaxTimeoutMinutes * time.Minute}
	if _, err := e.CreateJob(ctx, n); err != nil {
		return err
	}
	if _, err := e.Tick(ctx); err != nil {
		return err
	}
	err := e.reportAll(ctx, timedJob, 0, e.settings.Things, func(int) muster.Report { return muster.Report{Status: muster.InProgress} })
	return errors.Join(err, e.expect(ctx, timedJob, muster.Counts{muster.InProgress: int64(e.settings.Things)}))
}

// disturbRollout has the callers report while a job rolls out.
func (e *engineService) disturbRollout(ctx context.Context, req Request) (Sample, error) {
	s, err := e.disturbed(ctx, req, func() error {
		_, err := e.CreateJob(ctx, jobFor(waveJob, allGroup))
		return err
	})
	return s, errors.Join(err, e.expect(ctx, waveJob, muster.Counts{muster.Queued: int64(e.settings.Things)}))
}

// disturbTimers has them report while the timers of the timed job fall due.
func (e *engineService) disturbTimers(ctx context.Context, req Request) (Sample, error) {
	s, err := e.disturbed(ctx, req, func() error {
		e.clock.ahead.Store(int64((muster.MaxTimeoutMinutes + 1) * time.Minute))
		return nil
	})
	return s, errors.Join(err, e.expect(ctx, timedJob, muster.Counts{muster.TimedOut: int64(e.settings.Things)}))
}

// disturbed lets the callers report until what begin has set going is worked off,
// after a while without it that warms caches and is not measured.
func (e *engineService) disturbed(ctx context.Context, req Request, begin func() error) (Sample, error) {
	warm := time.Duration(req.Seconds / 5 * float64(time.Second))
	if _, err := e.fleet.lap(ctx, req.Callers, forTime(warm), e.report(ctx)); err != nil {
		return nil, err
	}
	var over atomic.Bool
	worked := make(chan error, 1)
	start := time.Now()
	go func() {
		defer over.Store(true)
		err := begin()
		if err == nil {
			_, err = e.Tick(ctx)
		}
		worked <- err
	}()
	s, err := e.fleet.lap(ctx, req.Callers, func(time.Time) bool { return !over.Load() }, e.report(ctx))
	if err = errors.Join(err, <-worked); err != nil {
		return nil, err
	}
	s[Seconds] = time.Since(start).Seconds()
	s[workPerSecond] = float64(e.settings.Things) / s[Seconds]
	return s, nil
}

// engineDisturbed measures reports while op disturbs them, each time on a fresh
// copy of a seed.
func (b *Bench) engineDisturbed(what, op, seed string) *Meter {
	return &Meter{
		Name: fmt.Sprintf("engine reports, %d callers, %s", disturbers, what),
		Prepare: func(ctx context.Context) error {
			_, err := b.seed(ctx, seed)
			return err
		},
		Run: func(ctx context.Context) (s Sample, err error) {
			dir, err := b.sow(ctx, op, seed)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			c, err := startChild(ctx, "engine", Settings{Dir: dir, Things: b.Things, Profiles: b.Profiles})
			if err != nil {
				return nil, err
			}
			defer c.Kill() // the store is thrown away
			return c.Call(Request{Op: op, Callers: disturbers, Seconds: b.Seconds})
		},
	}
}
