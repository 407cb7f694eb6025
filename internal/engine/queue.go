package engine

import (
	"muster"
	"muster/internal/store"
)

// offered says which executions of a queue a device is shown, by the present state of their jobs.
func offered(tx store.Reader) func(muster.Execution) bool {
	return func(e muster.Execution) bool {
		job, ok := tx.Job(e.Job)
		return ok && job.Offers(e)
	}
}

// known says which executions of a queue a device was told of and not that they are gone. That is what it
// is offered, but for what the end of a job took along, or its window hid or brought into sight, where the
// sweep that stores and tells it has yet to come by.
func known(tx store.Reader) func(muster.Execution) bool {
	return func(e muster.Execution) bool {
		job, ok := tx.Job(e.Job)
		return ok && job.Told(e)
	}
}

// keep is the only way a changed queue reaches the store: it derives what the device has to be told
// from what it was told of the queue before and what it is offered after, so that no act can forget it, and
// settles jobs that the changes end. It returns the queue as it is now.
func keep(tx store.Tx, q muster.Queue, now muster.Time, changes ...muster.Change) muster.Queue {
	if len(changes) == 0 {
		return q
	}
	after := q.With(changes...)
	tx.Keep(q.Thing, notice(tx, q, after), changes...)
	for i := range changes {
		c := &changes[i]
		timers(tx, c)
		pending := c.After.Status == muster.Queued || c.After.Status == muster.InProgress
		if !pending && c.Before.Status != muster.NoStatus && tx.Exact() {
			settleJob(tx, c.Before.Job, now)
		}
	}
	return after
}

// notice says what a device has to be told.
func notice(tx store.Reader, before, after muster.Queue) muster.Notice {
	told, show := known(tx), offered(tx)
	for _, e := range before.Executions {
		if told(e) != show(e) {
			return muster.Compare(before.Visible(told), after.Visible(show), func(muster.Execution) bool { return true })
		}
	}
	return muster.Compare(before, after, show)
}

// settleJob aborts a job that too many things have failed, and completes one whose last execution has
// ended.
func settleJob(tx store.Tx, id muster.JobID, now muster.Time) {
	job, ok := tx.Job(id)
	if !ok || !job.Status.Active() {
		return
	}
	if len(job.Settings.Abort) > 0 && job.EndReached == 0 {
		if why, met := job.Abort(tx.Tally(id)); met {
			aborted, err := job.Cancel(false, muster.AbortReason, why, now)
			if err == nil {
				putJob(tx, &aborted, now)
				tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: string(id), Cursor: jobCursor(job)})
				return
			}
		}
	}
	if job.Parked != "" && job.Extras != nil && job.Extras.MaxInFlight > 0 {
		tx.Put(store.Deadline{Due: now, Kind: store.Room, Subject: string(id), Cursor: jobCursor(job)})
	}
	if job.Finished(tx.Counts(id)) {
		done := job.Complete(now)
		putJob(tx, &done, now)
	}
}

// thing loads a registered thing's queue.
func thing(tx store.Reader, name muster.ThingName) (muster.Queue, error) {
	q, ok := tx.Queue(name)
	if !ok {
		return q, muster.Errorf(muster.NotFound, "Thing %s does not exist", name)
	}
	return q, nil
}

// found is an execution that a request names: as it is stored, and as the state of its job leaves it.
type found struct {
	job     *muster.Job
	stored  muster.Execution
	settled muster.Execution
}

// find loads an execution, pending or over. number 0 is the latest.
func find(tx store.Reader, q muster.Queue, id muster.JobID, number int64) (found, error) {
	job, ok := tx.Job(id)
	if ok {
		f := found{job: job}
		if i := q.Find(id, number); i >= 0 {
			f.stored = q.Executions[i]
		} else {
			f.stored, ok = tx.Execution(id, q.Thing, number)
		}
		if ok {
			if f.settled, ok = job.Settle(f.stored); ok {
				return f, nil
			}
		}
	}
	if number != 0 {
		return found{}, muster.Errorf(muster.NotFound, "Thing %s has no execution %d of job %s", q.Thing, number, id)
	}
	return found{}, muster.Errorf(muster.NotFound, "Thing %s has no execution of job %s", q.Thing, id)
}
