package engine

import (
	"context"

	"muster"
	"muster/internal/store"
)

// Report is UpdateJobExecution: what a device says about an execution (data-plane.md §3).
func (g *Engine) Report(ctx context.Context, name muster.ThingName, id muster.JobID, r muster.Report) (muster.Execution, error) {
	if err := r.Check(); err != nil {
		return muster.Execution{}, err
	}
	var result muster.Execution
	rouse := false
	err := g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		next, job, err := report(tx, name, id, r, now)
		if err != nil {
			return err
		}
		result = next
		rouse = job.Parked != "" && next.Status.Terminal() // the rollout may go on
		return nil
	})
	if rouse {
		g.rouse()
	}
	return result, err
}

func report(tx store.Tx, name muster.ThingName, id muster.JobID, r muster.Report, now muster.Time) (next muster.Execution, job *muster.Job, err error) {
	q, err := thing(tx, name)
	if err != nil {
		return next, nil, err
	}
	f, err := find(tx, q, id, r.Number)
	if err != nil {
		return next, nil, err
	}
	if next, err = f.settled.Report(r, f.job.InProgressTimeout(), now); err != nil {
		return next, nil, err
	}
	if f.stored.Status == muster.Queued && (f.job.Status == muster.JobScheduled || f.job.Held != nil) {
		return next, nil, held(f.job, f.stored)
	}
	if change := (muster.Change{Before: f.stored, After: next}); next.Status.Terminal() {
		finish(tx, q, f.job, now, change)
	} else {
		keep(tx, q, now, change)
	}
	return next, f.job, nil
}

// held refuses to start an execution of a job that waits for its time.
func held(job *muster.Job, e muster.Execution) error {
	state := job.Status.String()
	if job.Held != nil {
		state = "held"
	}
	err := muster.Errorf(muster.InvalidTransition, "Job %s is %s; its execution on thing %s cannot start now", job.ID, state, e.Thing)
	err.Execution = &e
	return err
}

// A Start is what StartNextPendingJobExecution carries.
type Start struct {
	Details *muster.Pairs
	Step    muster.StepTimer
}

// StartNext is StartNextPendingJobExecution. ok is false when nothing is pending.
func (g *Engine) StartNext(ctx context.Context, name muster.ThingName, s Start) (result muster.Execution, ok bool, err error) {
	// A report of IN_PROGRESS has the same members and the same limits.
	if err := (muster.Report{Status: muster.InProgress, Details: s.Details, Step: s.Step}).Check(); err != nil {
		return result, false, err
	}
	err = g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		result, ok = muster.Execution{}, false
		q, err := thing(tx, name)
		if err != nil {
			return err
		}
		e, found := q.Next(offered(tx))
		if !found {
			return nil
		}
		job, _ := tx.Job(e.Job)
		next := e.Start(s.Details, s.Step, job.InProgressTimeout(), now)
		if next != e {
			keep(tx, q, now, muster.Change{Before: e, After: next})
		}
		result, ok = next, true
		return nil
	})
	return result, ok, err
}

// DescribeForDevice is the data plane's DescribeJobExecution of a named job: an execution that is over
// is refused (data-plane.md §3).
func (g *Engine) DescribeForDevice(ctx context.Context, name muster.ThingName, id muster.JobID, number int64) (result muster.Execution, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		q, err := thing(tx, name)
		if err != nil {
			return err
		}
		f, err := find(tx, q, id, number)
		if err != nil {
			return err
		}
		if f.settled.Status.Terminal() {
			return muster.Errorf(muster.Terminal, "Job Execution has reached terminal state. It is neither IN_PROGRESS nor QUEUED")
		}
		result = f.settled
		return nil
	})
	return result, err
}

// DescribeNext is the data plane's DescribeJobExecution of $next. ok is false when nothing is pending.
func (g *Engine) DescribeNext(ctx context.Context, name muster.ThingName) (result muster.Execution, ok bool, err error) {
	return g.DescribeNextIn(ctx, name, "")
}

// DescribeNextIn is DescribeNext among the jobs of a namespace.
func (g *Engine) DescribeNextIn(ctx context.Context, name muster.ThingName, namespace string) (result muster.Execution, ok bool, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		q, err := thing(tx, name)
		if err != nil {
			return err
		}
		result, ok = q.Next(offeredIn(tx, namespace))
		return nil
	})
	return result, ok, err
}

// Pending is GetPendingJobExecutions: the first executions that the device is shown, in queue order
// (data-plane.md §3).
func (g *Engine) Pending(ctx context.Context, name muster.ThingName) (result []muster.Execution, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		q, err := thing(tx, name)
		if err != nil {
			return err
		}
		result = shown(tx, q, "")
		return nil
	})
	return result, err
}
