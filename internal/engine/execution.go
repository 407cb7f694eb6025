package engine

import (
	"context"

	"muster"
	"muster/internal/store"
)

// DescribeExecution is the control plane's DescribeJobExecution: any state, number 0 the latest.
func (g *Engine) DescribeExecution(ctx context.Context, name muster.ThingName, id muster.JobID, number int64) (result muster.Execution, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		q, _ := tx.Queue(name)
		q.Thing = name
		f, err := find(tx, q, id, number)
		result = f.settled
		return err
	})
	return result, err
}

// CancelExecution cancels one execution; force also one in progress. A version mismatch is told
// before a state that forbids it (state-machine.md §2).
func (g *Engine) CancelExecution(ctx context.Context, name muster.ThingName, id muster.JobID, force bool, expected *int64, details *muster.Pairs) error {
	if details != nil {
		if err := muster.CheckDetails(*details); err != nil {
			return err
		}
	}
	return g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		q, f, err := findAny(tx, name, id, 0)
		if err != nil {
			return err
		}
		if expected != nil && *expected != f.settled.Version {
			return muster.Errorf(muster.VersionMismatch, "Expected version %d but found version %d", *expected, f.settled.Version)
		}
		next, err := f.settled.Cancel(force, now)
		if err != nil {
			return err
		}
		if details != nil {
			next.Details = *details
		}
		keep(tx, q, now, muster.Change{Before: f.stored, After: next})
		return nil
	})
}

// findAny is find for requests that may name a thing that is gone.
func findAny(tx store.Reader, name muster.ThingName, id muster.JobID, number int64) (muster.Queue, found, error) {
	q, _ := tx.Queue(name)
	q.Thing = name
	f, err := find(tx, q, id, number)
	return q, f, err
}

// DeleteExecution deletes one execution: without force only one that is over.
func (g *Engine) DeleteExecution(ctx context.Context, name muster.ThingName, id muster.JobID, number int64, force bool) error {
	return g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		q, f, err := findAny(tx, name, id, number)
		if err != nil {
			return err
		}
		if !f.settled.Status.Terminal() && !force {
			return muster.Errorf(muster.InvalidTransition, "The execution of job %s on thing %s is %s and cannot be deleted without force", id, name, f.settled.Status)
		}
		keep(tx, q, now, deletion(tx, f.stored))
		return nil
	})
}

// deletion is the change that deletes an execution: which attempt is the latest afterwards is part of it.
func deletion(tx store.Reader, e muster.Execution) muster.Change {
	c := muster.Change{Before: e}
	latest, _ := tx.Execution(e.Job, e.Thing, 0)
	if latest.Number != e.Number {
		c.Stale = true
		return c
	}
	var before int64
	for after := ""; ; {
		rows, next, err := tx.ExecutionsOfThing(e.Thing, e.Job, muster.NoStatus, store.Page{After: after, Limit: 100})
		for _, r := range rows {
			if r.Number < e.Number && r.Number > before {
				before, c.Superseded = r.Number, r.Status
			}
		}
		if after = next; err != nil || next == "" {
			return c
		}
	}
}

// ExecutionsOfJob lists a job's executions; status NoStatus means all.
func (g *Engine) ExecutionsOfJob(ctx context.Context, id muster.JobID, status muster.Status, p Page) (rows []muster.Execution, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		rows, next, err = tx.ExecutionsOfJob(id, status, p)
		rows = settleRows(rows, func(muster.JobID) (*muster.Job, bool) { return job, true })
		return err
	})
	return rows, next, err
}

// ExecutionsOfThing lists a thing's executions; id "" means of all jobs.
func (g *Engine) ExecutionsOfThing(ctx context.Context, name muster.ThingName, id muster.JobID, status muster.Status, namespace string, p Page) (rows []muster.Execution, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		if rows, next, err = tx.ExecutionsOfThing(name, id, status, p); err != nil {
			return err
		}
		if len(rows) == 0 && p.After == "" {
			if _, ok := tx.Queue(name); !ok {
				return muster.Errorf(muster.NotFound, "Thing %s does not exist", name)
			}
		}
		rows = settleRows(rows, func(id muster.JobID) (*muster.Job, bool) {
			job, ok := tx.Job(id)
			return job, ok && (namespace == "" || job.Namespace == namespace)
		})
		return nil
	})
	return rows, next, err
}

// settleRows shows rows as their jobs leave them. A row that a sweep has yet to reach is listed under
// the status it is stored with until then, and shown with the status it has.
func settleRows(rows []muster.Execution, job func(muster.JobID) (*muster.Job, bool)) []muster.Execution {
	out := rows[:0]
	for _, e := range rows {
		if j, ok := job(e.Job); ok {
			if settled, present := j.Settle(e); present {
				out = append(out, settled)
			}
		}
	}
	return out
}
