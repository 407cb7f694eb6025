package engine

import (
	"muster"
	"muster/internal/store"
)

// mine finds the active job that a deadline is about, if it is still the same job.
func mine(tx store.Reader, d store.Deadline) (*muster.Job, bool) {
	job, ok := tx.Job(muster.JobID(d.Subject))
	return job, ok && d.Cursor == jobCursor(job)
}

// putJob stores a job, and what follows from its being over.
func putJob(tx store.Tx, job *muster.Job, now muster.Time) {
	was, had := tx.Job(job.ID)
	if !job.Concurrent() {
		uncount(tx, job, now)
	}
	if job.Waiting && !job.Rolling {
		leaveLine(tx, job)
	}
	tx.Put(store.Job{Job: job})
	if had && was.Status.Active() && !job.Status.Active() && job.Status != muster.JobDeleting {
		tx.Put(store.Deadline{Due: now, Kind: store.Retention, Subject: string(job.ID), Cursor: jobCursor(job)})
	}
}

// schedule brings a job in line with its startTime, endTime and maintenance windows (state-machine.md §8).
func (g *Engine) schedule(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	job, ok := mine(tx, d)
	if !ok || !job.Status.Active() {
		return
	}
	if again := g.edge(tx, job, now); again != 0 {
		tx.Put(store.Deadline{Due: again, Kind: store.Schedule, Subject: d.Subject, Cursor: d.Cursor})
	}
}

// edge brings an active job in line with its schedule, and says when that has something to say again.
func (g *Engine) edge(tx store.Tx, job *muster.Job, now muster.Time) (again muster.Time) {
	// By criteria that UpdateJob brought it may have to be aborted: then there is nothing to show any more.
	settleJob(tx, job.ID, now)
	if job, _ = tx.Job(job.ID); !job.Status.Active() {
		return 0
	}
	next, again := job.Edge(now)
	if next.Updated == job.Updated && next.Status == job.Status && next.EndReached == job.EndReached {
		return again
	}
	if begins := next.Rolling && !job.Rolling; begins && next.Windowed() && g.crowded(tx) {
		// AWS does so with jobs that have windows (state-machine.md §1).
		if canceled, err := job.Cancel(false, CrowdedReason, "Canceled: as many jobs as are allowed were rolling out when the job's maintenance window opened", now); err == nil {
			putJob(tx, &canceled, now)
			tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: string(job.ID), Cursor: jobCursor(job)})
			return 0
		}
	} else if begins {
		g.admit(tx, &next, now)
	}
	shown := next.Status != job.Status && next.Held == nil && tx.Counts(job.ID)[muster.Queued] > 0
	if shown {
		next.Showing = tx.NextSeq()
	}
	putJob(tx, &next, now)
	if next.Sweeping {
		tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: string(job.ID), Cursor: jobCursor(job)})
	}
	if shown {
		tx.Put(store.Deadline{Due: now, Kind: store.Shown, Subject: string(job.ID), Cursor: "/" + jobCursor(job)})
	}
	settleJob(tx, job.ID, now)
	return again
}

// tellShown tells devices of queued executions of a job that its window, or who holds and resumes it, brought
// into sight or out of it, starts their queued timeouts, and removes those of things that left a CONTINUOUS job's targets while nobody looked.
func tellShown(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	tx.Delete(d)
	page, seq, _ := cutLast(d.Cursor, '/')
	job, ok := tx.Job(muster.JobID(d.Subject))
	if !ok || jobCursor(job) != seq || !job.Status.Active() {
		return 0, nil
	}
	rows, next, err := tx.ExecutionsOfJob(job.ID, muster.Queued, store.Page{After: page, Limit: budget})
	if err != nil {
		return 0, err
	}
	for _, e := range rows {
		if job.Showing != 0 && e.Seq > job.Showing {
			continue // made since; its device was told then what there was to tell
		}
		q, _ := tx.Queue(e.Thing)
		q.Thing = e.Thing
		if _, wanted := targeted(tx, job, e.Thing); !wanted && job.Selection == muster.Continuous && job.Status == muster.JobInProgress {
			keep(tx, q, now, muster.Change{Before: e, After: e.Remove(now)})
			continue
		}
		if n := notice(tx, q, q); n != (muster.Notice{}) {
			tx.Keep(e.Thing, n)
		}
		if due := job.Deadline(e); due != 0 {
			tx.Put(store.Deadline{Due: due, Kind: store.Timer, Subject: store.TimerSubject(e.Thing, e.Job, e.Number)})
		}
	}
	if next != "" {
		tx.Put(store.Deadline{Due: now, Kind: store.Shown, Subject: d.Subject, Cursor: next + "/" + seq})
	} else if job, _ = tx.Job(job.ID); job.Showing != 0 {
		told := *job
		told.Showing = 0
		putJob(tx, &told, now)
	}
	return len(rows) + 1, nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return "", s, false
}

// retain deletes a job that has been over for the time of retention, or waits for that.
func (g *Engine) retain(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	job, ok := mine(tx, d)
	if !ok || job.Status.Active() || job.Status == muster.JobDeleting {
		return
	}
	if due := job.Updated.Add(g.retention); due > now {
		tx.Put(store.Deadline{Due: due, Kind: store.Retention, Subject: d.Subject, Cursor: d.Cursor})
		return
	}
	if tx.JobCount(muster.JobDeleting) >= muster.MaxDeletingJobs {
		tx.Put(store.Deadline{Due: now.Add(retentionRetry), Kind: store.Retention, Subject: d.Subject, Cursor: d.Cursor})
		return
	}
	if next, err := job.Delete(false, now); err == nil {
		putJob(tx, &next, now)
		tx.Put(store.Deadline{Due: now, Kind: store.Delete, Subject: d.Subject, Cursor: d.Cursor})
	}
}

// expire ends an execution whose timer has run out. A report that came first has moved or removed the
// deadline, so that only a timer that still runs is found here (state-machine.md §6).
func expire(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	name, id, number, ok := store.ParseTimerSubject(d.Subject)
	if !ok {
		return
	}
	q, _ := tx.Queue(name)
	q.Thing = name
	i := q.Find(id, number)
	job, has := tx.Job(id)
	if i < 0 || !has {
		return
	}
	e := q.Executions[i]
	settled, present := job.Settle(e)
	if due := job.Deadline(e); !present || settled.Status.Terminal() || due == 0 || due > now {
		return
	}
	finish(tx, q, job, now, muster.Change{Before: e, After: e.Expire(now)})
}

// finish keeps the end of an execution, together with the attempt that follows it if the job grants one.
func finish(tx store.Tx, q muster.Queue, job *muster.Job, now muster.Time, end muster.Change) {
	changes := []muster.Change{end}
	switch end.After.Status {
	case muster.Failed, muster.TimedOut:
		if next, ok := job.Retry(end.After, tx.NextNumber(job.ID, q.Thing), tx.NextSeq(), now); ok && stays(tx, job, q.Thing) {
			changes = append(changes, muster.Change{After: next, Superseded: end.After.Status})
		}
	}
	keep(tx, q, now, changes...)
}

// stays says whether a thing that has an execution is still one that the job is for: it may have left the
// targets of a CONTINUOUS job while the job waited for its window (state-machine.md §7).
func stays(tx store.Reader, job *muster.Job, name muster.ThingName) bool {
	_, wanted := targeted(tx, job, name)
	return wanted || job.Selection == muster.Snapshot
}

// timers keeps the deadlines of a change's execution.
func timers(tx store.Tx, c *muster.Change) {
	before, after := c.Before.Deadline(), c.After.Deadline()
	if c.Before.Status == muster.Queued || c.After.Status == muster.Queued {
		if job, ok := tx.Job(c.Execution().Job); ok && job.Extras != nil {
			before, after = job.Deadline(c.Before), job.Deadline(c.After)
		}
	}
	if before == after {
		return
	}
	e := c.Execution()
	subject := store.TimerSubject(e.Thing, e.Job, e.Number)
	if before != 0 {
		tx.Delete(store.Deadline{Due: before, Kind: store.Timer, Subject: subject})
	}
	if after != 0 {
		tx.Put(store.Deadline{Due: after, Kind: store.Timer, Subject: subject})
	}
}
