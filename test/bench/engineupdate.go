package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"muster"
)

// P1, P2 and P14: reports of devices, decided and durable. Y2 takes an execution
// from QUEUED to IN_PROGRESS to SUCCEEDED and back, which Muster's rules do not
// allow: a status that is final stays. Here the first report of a thing is
// QUEUED to IN_PROGRESS, every later one IN_PROGRESS with new details.

// detailPairs makes of Y2's details the pairs that a door would have decoded
// them to. Only the trace differs, and it always has the same length.
var detailPairs = func() func(details []byte) muster.Pairs {
	const before, after = `"trace":"`, `"}`
	sample := string(appendDetails(nil, 0))
	from := strings.Index(sample, before) + len(before)
	to := len(sample) - len(after)
	pairs := string(muster.MakePairs("step", "install", "progress", "42", "firmware", "2.14.0-rc3", "slot", "B", "battery", "87", "trace", sample[from:to]))
	at := strings.Index(pairs, sample[from:to])
	head, tail := pairs[:at], pairs[at+to-from:]
	return func(details []byte) muster.Pairs { return muster.Pairs(head + string(details[from:to]) + tail) }
}()

// report is one update as the fleet asks for it.
func (e *engineService) report(ctx context.Context) doUpdate {
	return func(_, thing int, expected int64, details []byte) (int64, error) {
		pairs := detailPairs(details)
		r := muster.Report{Status: muster.InProgress, Details: &pairs}
		if expected != 0 {
			r.ExpectedVersion = &expected
		}
		got, err := e.Report(ctx, thingName(thing), naiveJob, r)
		switch {
		case err != nil:
			return 0, err
		case expected != 0 && got.Version != expected+1, got.Status != muster.InProgress, got.Details != pairs:
			return 0, fmt.Errorf("%s is %s in version %d after a report of IN_PROGRESS in version %d", got.Thing, got.Status, got.Version, expected)
		}
		e.reports.Add(1)
		return got.Version, nil
	}
}

// measureUpdates leaves the bytes to measureWritten, which has to close the store.
func (e *engineService) measureUpdates(ctx context.Context, req Request) (Sample, error) {
	exact := e.fleet.versions[0] != 0
	if e.reports.Load() == 0 {
		e.quiet()
		e.logBefore, e.tablesBefore = e.files.log.Load(), e.files.tables.Load()
	}
	before, counted := e.store.Stats(), e.reports.Load()
	sample, err := e.fleet.run(ctx, req.Callers, time.Duration(req.Seconds*float64(time.Second)), e.report(ctx))
	if err != nil {
		return nil, err
	}
	after := e.store.Stats()
	if got, made := after.Updates-before.Updates, e.reports.Load()-counted; got != uint64(made) {
		return nil, fmt.Errorf("the store counts %d updates of %d", got, made)
	}
	batches := float64(max(1, after.Batches-before.Batches))
	sample["batch"] = float64(after.Updates-before.Updates) / batches
	sample["sync_us"] = micros(after.SyncTime-before.SyncTime) / batches
	if exact {
		err = e.countReported(ctx)
	}
	return sample, err
}

// measureWritten counts bytes as Y2 does: from tables to tables with compactions
// done, over every report since the store was opened.
func (e *engineService) measureWritten() (Sample, error) {
	if err := e.settle(); err != nil {
		return nil, err
	}
	reports := float64(max(1, e.reports.Load()))
	log, tables := float64(e.files.log.Load()-e.logBefore), float64(e.files.tables.Load()-e.tablesBefore)
	return Sample{BytesPerOp: (log + tables) / reports, "log_bytes": log / reports, "table_bytes": tables / reports}, nil
}

// countReported compares the job's counters with what the devices know.
func (e *engineService) countReported(ctx context.Context) error {
	want, reports := e.fleet.told()
	if made := e.reports.Load(); made != reports {
		return fmt.Errorf("%d reports took the versions up by %d", made, reports)
	}
	return e.expect(ctx, naiveJob, want)
}

// told is what the counters must be after the reports that the versions tell of, each from the first version on.
func (f *fleet) told() (want muster.Counts, reports int64) {
	for _, v := range f.versions {
		if reports += v - muster.FirstVersion; v > muster.FirstVersion {
			want[muster.InProgress]++
		} else {
			want[muster.Queued]++
		}
	}
	return want, reports
}

// engineUpdates measures durable reports with a number of callers on a store
// that all meters with this Bench share.
func (b *Bench) engineUpdates(callers int) *Meter {
	open := func(ctx context.Context) (*Child, error) { return b.engine(ctx, "engine", liveSeed) }
	return &Meter{
		Name: fmt.Sprintf("engine reports, %d callers", callers),
		Prepare: func(ctx context.Context) error {
			_, err := open(ctx)
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, err := open(ctx)
			if err != nil {
				return nil, err
			}
			s, err := c.Call(Request{Op: "update", Callers: callers, Seconds: b.Seconds})
			if err != nil {
				return nil, err
			}
			written, err := c.Call(Request{Op: "written"})
			maps.Copy(s, written)
			return s, err
		},
	}
}

// engineReopen is naiveReopen for the engine: the same callers for the same
// time, SIGKILL, and the time until the next process is ready.
func (b *Bench) engineReopen() *Meter {
	const callers = 64
	var c *Child
	var settings Settings
	start := func(ctx context.Context) (err error) {
		if c, err = startChild(ctx, "engine", settings); err == nil {
			b.onClose(c.Kill)
		}
		return err
	}
	return &Meter{
		Name: "engine, reopen after SIGKILL",
		Prepare: func(ctx context.Context) error {
			dir, err := b.sow(ctx, "engine-reopen", liveSeed)
			if err != nil {
				return err
			}
			settings = Settings{Dir: dir, Things: b.Things}
			return start(ctx)
		},
		Run: func(ctx context.Context) (Sample, error) {
			if c == nil {
				return nil, errors.New("did not come back from an earlier kill")
			}
			ended := make(chan error, 1)
			go func(c *Child) {
				_, err := c.Call(Request{Op: "update", Callers: callers, Seconds: 24 * 3600})
				ended <- err
			}(c)
			select {
			case err := <-ended:
				return nil, fmt.Errorf("reports ended before the kill: %w", err)
			case <-time.After(time.Duration(b.Seconds * float64(time.Second))):
			}
			c.Kill()
			<-ended
			if err := start(ctx); err != nil {
				return nil, err
			}
			if _, err := c.Call(Request{Op: "check"}); err != nil {
				return nil, err
			}
			return Sample{Seconds: c.Ready.Seconds(), OpenOnly: c.Opened[OpenOnly]}, nil
		},
	}
}
