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
	tx.Put(store.Job{Job: job})
	if had && was.Status.Active() && !job.Status.Active() && job.Status != muster.JobDeleting {
		tx.Put(store.Deadline{Due: now, Kind: store.Retention, Subject: string(job.ID), Cursor: jobCursor(job)})
	}
}

// schedule brings a job in line with its startTime, endTime and maintenance windows (state-machine.md §8).
func schedule(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	job, ok := mine(tx, d)
	if !ok || !job.Status.Active() {
		return
	}
	next, again := job.Edge(now)
	if again != 0 {
		tx.Put(store.Deadline{Due: again, Kind: store.Schedule, Subject: d.Subject, Cursor: d.Cursor})
	}
	if next.Updated == job.Updated && next.Status == job.Status && next.EndReached == job.EndReached {
		return
	}
	putJob(tx, &next, now)
	if next.Rolling && !job.Rolling {
		startRollout(tx, &next, now)
	}
	if next.Sweeping {
		tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: d.Subject, Cursor: d.Cursor})
	}
	if next.Status != job.Status && tx.Counts(job.ID)[muster.Queued] > 0 {
		tx.Put(store.Deadline{Due: now, Kind: store.Shown, Subject: d.Subject, Cursor: "/" + d.Cursor})
	}
	settleJob(tx, job.ID, now)
}

// tellShown tells devices of queued executions of a job that its window brought into sight or out of it, and
// removes those of things that left a CONTINUOUS job's targets while nobody looked.
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
	after := offered(tx)
	before := func(e muster.Execution) bool {
		if e.Job == job.ID && e.Status == muster.Queued {
			return job.Namespace == "" && !job.Offers(e)
		}
		return after(e)
	}
	everything := func(muster.Execution) bool { return true }
	for _, e := range rows {
		if _, wanted := targeted(tx, job, e.Thing); !wanted && job.Selection == muster.Continuous {
			reconcile(tx, job, e.Thing, now)
			continue
		}
		q, _ := tx.Queue(e.Thing)
		if n := muster.Compare(q.Visible(before), q.Visible(after), everything); n != (muster.Notice{}) {
			tx.Keep(e.Thing, n)
		}
	}
	if next != "" {
		tx.Put(store.Deadline{Due: now, Kind: store.Shown, Subject: d.Subject, Cursor: next + "/" + seq})
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
	if due := e.Deadline(); !present || settled.Status.Terminal() || due == 0 || due > now {
		return
	}
	finish(tx, q, job, now, muster.Change{Before: e, After: e.Expire(now)})
}

// finish keeps the end of an execution, together with the attempt that follows it if the job grants one.
func finish(tx store.Tx, q muster.Queue, job *muster.Job, now muster.Time, end muster.Change) {
	changes := []muster.Change{end}
	switch end.After.Status {
	case muster.Failed, muster.TimedOut:
		if next, ok := job.Retry(end.After, tx.NextNumber(job.ID, q.Thing), tx.NextSeq(), now); ok {
			changes = append(changes, muster.Change{After: next, Superseded: end.After.Status})
		}
	}
	keep(tx, q, now, changes...)
}

// timers keeps the deadlines of a change's execution.
func timers(tx store.Tx, c *muster.Change) {
	before, after := c.Before.Deadline(), c.After.Deadline()
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
