package engine

import (
	"context"
	"slices"
	"strconv"

	"muster"
	"muster/internal/store"
)

// HoldJob holds a job: its rollout pauses and its queued executions are not offered, until somebody
// resumes it. What is in progress goes on. why may be empty.
func (g *Engine) HoldJob(ctx context.Context, id muster.JobID, why string) (result muster.Job, err error) {
	return g.turnJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		return job.Hold(false, why, now)
	})
}

// ResumeJob lets a held job go on.
func (g *Engine) ResumeJob(ctx context.Context, id muster.JobID) (result muster.Job, err error) {
	return g.turnJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		next, err := job.Resume(now)
		if err != nil {
			return job, err
		}
		if next.Bakes() != 0 {
			awaitBake(tx, &next, now) // it may have ended while the job was held
		}
		return unpark(tx, next, now), nil
	})
}

// turnJob holds or resumes a job.
func (g *Engine) turnJob(ctx context.Context, id muster.JobID, turn func(store.Tx, muster.Job, muster.Time) (muster.Job, error)) (result muster.Job, err error) {
	err = g.update(ctx, store.Keys{Jobs: []muster.JobID{id}}, func(tx store.Tx, now muster.Time) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		next, err := turn(tx, *job, now)
		if err != nil {
			return err
		}
		putHeld(tx, job, next, now)
		result = next
		return nil
	})
	if err == nil {
		g.rouse()
	}
	return result, err
}

// putHeld stores a job that became held or was resumed; devices are told if that changes what they see.
func putHeld(tx store.Tx, was *muster.Job, next muster.Job, now muster.Time) {
	shown := was.Shows() != next.Shows() && tx.Counts(next.ID)[muster.Queued] > 0
	if shown {
		next.Showing = tx.NextSeq()
	}
	putJob(tx, &next, now)
	if shown {
		tx.Put(store.Deadline{Due: now, Kind: store.Shown, Subject: string(next.ID), Cursor: "/" + jobCursor(&next)})
	}
}

// failedStatuses are what RetryFailed tries again.
var failedStatuses = []muster.Status{muster.Failed, muster.TimedOut, muster.Rejected}

// RetryFailed makes a job that tries again what failed, was rejected or timed out in another: the same
// document and settings, at once, linked both ways. id may be empty; the result's id is then made of the
// parent's.
//
// Up to as many things as a job can have targets are its targets themselves. Of more, its targets are
// those of the other job, and it reaches the failed things among them.
func (g *Engine) RetryFailed(ctx context.Context, parent, id muster.JobID) (result muster.Job, err error) {
	things, exact, err := g.failedThings(ctx, parent)
	if err != nil {
		return result, err
	}
	err = g.update(ctx, store.Keys{Jobs: []muster.JobID{parent, id}}, func(tx store.Tx, now muster.Time) error {
		of, ok := tx.Job(parent)
		if !ok || of.Status == muster.JobDeleting {
			return noJob(parent)
		}
		made, err := g.retryJob(tx, of, id, things, exact)
		if err != nil {
			return err
		}
		doc, _ := tx.Document(parent)
		result = g.beginJob(tx, made, doc, tx.Tags(muster.Ref{Kind: muster.RefJob, Name: string(parent)}), now)
		linked := *of
		linked.RetriedBy = append(slices.Clone(of.RetriedBy), made.ID)
		putJob(tx, &linked, now)
		return nil
	})
	if err == nil {
		g.rouse()
	}
	return result, err
}

// retryJob is the job that tries again what failed in another, before it is stored.
func (g *Engine) retryJob(tx store.Reader, of *muster.Job, id muster.JobID, things []muster.ThingName, exact bool) (made muster.Job, err error) {
	made = muster.Job{ID: id, Targets: of.Targets, Description: "Tries again what failed in job " + string(of.ID), Namespace: of.Namespace,
		Settings: of.Settings, Extras: of.Extras, TemplateARN: of.TemplateARN, Parameters: of.Parameters,
		DestinationPackageVersions: of.DestinationPackageVersions, DocumentSource: of.DocumentSource,
		RetryOf: &muster.RetryOf{Job: of.ID, Seq: of.Seq}}
	if made.ID == "" {
		made.ID = freeID(tx, of.ID, len(of.RetriedBy)+1)
	}
	if err := g.freeJob(tx, made.ID); err != nil || !exact {
		return made, err
	}
	made.Targets, made.RetryOf.Chosen = nil, true
	for _, name := range things {
		if _, registered := tx.Thing(name); registered && hasFailed(tx, of.ID, name) {
			made.Targets = append(made.Targets, muster.Target{Thing: name})
		}
	}
	if len(made.Targets) == 0 {
		return made, nothingFailed(of.ID)
	}
	return made, nil
}

// DryRunRetry tells what RetryFailed would come to if it were asked for now, and changes nothing.
func (g *Engine) DryRunRetry(ctx context.Context, parent muster.JobID, a Assume) (d DryRun, err error) {
	if err := a.check(); err != nil {
		return d, err
	}
	things, exact, err := g.failedThings(ctx, parent)
	if err != nil {
		return d, err
	}
	var doc muster.Document
	err = g.store.View(ctx, func(tx store.Reader) error {
		of, ok := tx.Job(parent)
		if !ok || of.Status == muster.JobDeleting {
			return noJob(parent)
		}
		d.Job, err = g.retryJob(tx, of, "", things, exact)
		doc, _ = tx.Document(parent)
		d.Waits = g.crowded(tx)
		return err
	})
	if err != nil {
		return d, err
	}
	return g.play(ctx, d, doc, a)
}

// maxIDTries bounds the search for a free id.
const maxIDTries = 1000

func freeID(tx store.Reader, parent muster.JobID, n int) (id muster.JobID) {
	const longest = 64
	for range maxIDTries {
		end := "-retry-" + strconv.Itoa(n)
		id = parent[:min(len(parent), longest-len(end))] + muster.JobID(end)
		if _, exists := tx.Job(id); !exists {
			break
		}
		n++
	}
	return id
}

func nothingFailed(id muster.JobID) error {
	return muster.Errorf(muster.Invalid, "No thing of job %s has failed, timed out or rejected it; there is nothing to try again", id)
}

func hasFailed(tx store.Reader, id muster.JobID, name muster.ThingName) bool {
	latest, ok := tx.Execution(id, name, 0)
	return ok && slices.Contains(failedStatuses, latest.Status)
}

// failedThings finds what failed in a job; exact is false when that is more than a job has targets.
func (g *Engine) failedThings(ctx context.Context, id muster.JobID) (things []muster.ThingName, exact bool, err error) {
	for _, status := range failedStatuses {
		for after := ""; ; {
			var next string
			err := g.store.View(ctx, func(tx store.Reader) error {
				if _, ok := tx.Job(id); !ok {
					return noJob(id)
				}
				rows, token, err := tx.ExecutionsOfJob(id, status, store.Page{After: after, Limit: slice})
				for _, e := range rows {
					if hasFailed(tx, id, e.Thing) && !slices.Contains(things, e.Thing) {
						things = append(things, e.Thing)
					}
				}
				next = token
				return err
			})
			if err != nil || len(things) > muster.MaxTargets {
				return nil, false, err
			}
			if after = next; next == "" {
				break
			}
		}
	}
	if len(things) == 0 {
		return nil, false, nothingFailed(id)
	}
	return things, true, nil
}
