package engine

import (
	"muster"
	"muster/internal/store"
)

// sweep cancels what a canceled job takes along. What it changes leaves the lists it reads, so that it
// needs no cursor: it is done when the lists are empty.
func sweep(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	job, ok := mine(tx, d)
	tx.Delete(d)
	if !ok || job.Status == muster.JobDeleting || !job.Sweeping {
		return 0, nil
	}
	id := job.ID
	spent, err = eachOf(tx, id, job.Taken(), budget, func(q muster.Queue, e muster.Execution) {
		settled, _ := job.Settle(e)
		keep(tx, q, now, muster.Change{Before: e, After: settled})
	})
	if err != nil {
		return spent, err
	}
	if spent >= budget {
		tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: d.Subject, Cursor: d.Cursor})
		return spent, nil
	}
	done := *job
	done.Sweeping = false
	done.Updated = now
	putJob(tx, &done, now)
	settleJob(tx, id, now)
	return spent, nil
}

// remove deletes a job's executions, pending ones first so that devices hear of it, then the job.
func remove(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	job, ok := mine(tx, d)
	tx.Delete(d)
	if !ok || job.Status != muster.JobDeleting {
		return 0, nil
	}
	id := job.ID
	all := []muster.Status{muster.Queued, muster.InProgress, muster.Succeeded, muster.Failed, muster.TimedOut,
		muster.Rejected, muster.Removed, muster.Canceled}
	spent, err = eachOf(tx, id, all, budget, func(q muster.Queue, e muster.Execution) {
		keep(tx, q, now, muster.Change{Before: e, Stale: true})
	})
	if err != nil {
		return spent, err
	}
	if spent >= budget {
		tx.Put(store.Deadline{Due: now, Kind: store.Delete, Subject: d.Subject, Cursor: d.Cursor})
		return spent, nil
	}
	tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: d.Subject}})
	gone := *job
	uncount(tx, &gone, now)
	tx.Delete(store.Job{Job: job})
	return spent, nil
}

// eachOf calls fn for up to budget of the job's executions in the given states; fn takes each out of
// its state.
func eachOf(tx store.Tx, id muster.JobID, statuses []muster.Status, budget int, fn func(muster.Queue, muster.Execution)) (n int, err error) {
	for _, status := range statuses {
		for n < budget {
			rows, _, err := tx.ExecutionsOfJob(id, status, store.Page{Limit: budget - n})
			if err != nil {
				return n, err
			}
			if len(rows) == 0 {
				break
			}
			for _, e := range rows {
				q, _ := tx.Queue(e.Thing)
				q.Thing = e.Thing
				fn(q, e)
			}
			n += len(rows)
		}
	}
	return n, nil
}
