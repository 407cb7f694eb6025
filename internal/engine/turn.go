package engine

import (
	"fmt"

	"muster"
	"muster/internal/store"
)

// Limits are quotas of AWS's that a server may set otherwise. Zero values are AWS's, but for ConcurrentJobs.
type Limits struct {
	PerMinute      int64 // highest rate of a rollout that a job may ask for; 0: 1000
	ActiveJobs     int   // SCHEDULED and IN_PROGRESS; 0: 100,000
	ConcurrentJobs int   // rolling out, or canceled while they were; 0: any number. AWS has 500
}

func (l Limits) filled() Limits {
	if l.PerMinute == 0 {
		l.PerMinute = muster.MaxPerMinute
	}
	if l.ActiveJobs == 0 {
		l.ActiveJobs = muster.MaxActiveJobs
	}
	return l
}

// CrowdedReason is the reasonCode of a job that was canceled because its window opened while as many
// jobs as are allowed were rolling out. AWS does not document its own.
const CrowdedReason = "CONCURRENT_JOBS_LIMIT"

// Where jobs are counted that roll out, and in what order others wait for their turn. Both are kept only
// while there is a limit.
const (
	countedPrefix = "rolling:"
	waitingPrefix = "waiting:"
)

func waitingName(job *muster.Job) string { return fmt.Sprintf("%s%016x", waitingPrefix, job.Seq) }

// crowded reports whether as many jobs roll out as are allowed, or others wait already.
func (g *Engine) crowded(tx store.Reader) bool {
	if g.limits.ConcurrentJobs == 0 {
		return false
	}
	if _, waits := firstInLine(tx); waits {
		return true
	}
	return g.full(tx)
}

func (g *Engine) full(tx store.Reader) bool {
	most := g.limits.ConcurrentJobs
	if most == 0 {
		return false
	}
	counted, _, err := tx.Settings(countedPrefix, store.Page{Limit: most})
	return err != nil || len(counted) >= most
}

func firstInLine(tx store.Reader) (id muster.JobID, ok bool) {
	first, _, err := tx.Settings(waitingPrefix, store.Page{Limit: 1})
	if err != nil || len(first) == 0 {
		return "", false
	}
	return muster.JobID(first[0].Value), true
}

// ahead is how many jobs have their turn before one that waits.
func ahead(tx store.Reader, job *muster.Job) (n int) {
	if !job.Waiting {
		return 0
	}
	own := waitingName(job)
	line, _, _ := tx.Settings(waitingPrefix, store.Page{Limit: maxLooked})
	for n < len(line) && line[n].Name != own {
		n++
	}
	return n
}

// admit lets the rollout of a job begin, or wait for others to be done (state-machine.md §9). The caller
// stores the job.
func (g *Engine) admit(tx store.Tx, job *muster.Job, now muster.Time) {
	if g.crowded(tx) {
		job.Waiting = true
		tx.Put(store.Setting{Name: waitingName(job), Value: string(job.ID)})
		return
	}
	g.count(tx, job)
	startRollout(tx, job, now)
}

func (g *Engine) count(tx store.Tx, job *muster.Job) {
	if g.limits.ConcurrentJobs > 0 && !job.Counted {
		job.Counted = true
		tx.Put(store.Setting{Name: countedPrefix + string(job.ID), Value: jobCursor(job)})
	}
}

// uncount takes a job that is done with its rollout out of the count, and lets the next one have its turn.
func uncount(tx store.Tx, job *muster.Job, now muster.Time) {
	if job.Counted {
		job.Counted = false
		tx.Put(store.Setting{Name: countedPrefix + string(job.ID)})
		tx.Put(store.Deadline{Due: now, Kind: store.Turn})
	}
}

// leaveLine takes a job that is not to be rolled out any more out of the line.
func leaveLine(tx store.Tx, job *muster.Job) {
	job.Waiting = false
	tx.Put(store.Setting{Name: waitingName(job)})
}

// turns lets jobs that wait begin their rollout, oldest first, as far as there is room.
func (g *Engine) turns(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	tx.Delete(d)
	for !g.full(tx) {
		id, waits := firstInLine(tx)
		if !waits {
			return spent, nil
		}
		if spent++; spent > budget {
			tx.Put(store.Deadline{Due: now, Kind: store.Turn})
			return spent, nil
		}
		job, ok := tx.Job(id)
		if !ok || !job.Waiting {
			return spent, muster.Errorf(muster.Internal, "job %s waits for its turn and is not there", id)
		}
		next := *job
		leaveLine(tx, &next)
		g.count(tx, &next)
		putJob(tx, &next, now)
		startRollout(tx, &next, now)
	}
	return spent, nil
}

// reconsider lets those that wait look again: the limit may be another one than when they came.
func (g *Engine) reconsider(tx store.Tx, now muster.Time) {
	if _, waits := firstInLine(tx); waits {
		tx.Put(store.Deadline{Due: now, Kind: store.Turn})
	}
}
