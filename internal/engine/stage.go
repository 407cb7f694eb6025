package engine

import (
	"slices"
	"strconv"
	"strings"

	"muster"
	"muster/internal/store"
)

// A census walks the things that a job is to reach, each once, in the order of its rollout. It can
// be kept as a rolloutCursor, or go on in another transaction.
type census struct {
	Target int
	Place  treePage
}

// over reports whether the walk has come to its end.
func (c *census) over(job *muster.Job) bool { return c.Target >= len(job.Targets) }

// step looks at up to budget rows more.
func (c *census) step(tx store.Reader, job *muster.Job, budget int, each func(muster.Membership)) (spent int, err error) {
	for !c.over(job) && spent < budget {
		target := job.Targets[c.Target]
		if target.Group == "" {
			spent++
			c.meet(tx, job, muster.Membership{Thing: target.Thing}, each)
			c.Target++
			continue
		}
		if c.Place.Walk == nil {
			c.Place.Walk = tree{{Group: target.Group}}
		}
		members, next, err := tx.Members(c.Place.Walk.at(), store.Page{After: c.Place.Member, Limit: budget - spent})
		if err != nil {
			return spent, err
		}
		for _, m := range members {
			if job.Selection == muster.Continuous || m.Seq <= job.Seq {
				c.meet(tx, job, m, each)
			}
		}
		spent += max(1, len(members))
		if c.Place.Member = next; next != "" {
			continue
		}
		if c.Place.Walk, err = c.Place.Walk.step(tx); err != nil {
			return spent, err
		}
		if len(c.Place.Walk) == 0 {
			*c = census{Target: c.Target + 1}
		}
	}
	return spent, nil
}

// meet calls each for a registered thing that no earlier target has.
func (c *census) meet(tx store.Reader, job *muster.Job, m muster.Membership, each func(muster.Membership)) {
	if _, registered := tx.Queue(m.Thing); !registered || !chosen(tx, job, m.Thing) {
		return
	}
	if earlier := job.Targets[:c.Target]; len(earlier) > 0 {
		before := *job
		before.Targets = earlier
		if _, met := targeted(tx, &before, m.Thing); met {
			return
		}
	}
	each(m)
}

// countTargets counts what a job in stages is to reach, in slices, and then begins its rollout: shares are
// shares of something.
func countTargets(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	tx.Delete(d)
	sofar, cursor, _ := strings.Cut(d.Cursor, "/")
	n, err := strconv.ParseInt(sofar, 10, 64)
	if err != nil {
		return 0, err
	}
	at, err := parseRolloutCursor(cursor)
	if err != nil {
		return 0, err
	}
	job, ok := tx.Job(muster.JobID(d.Subject))
	if !ok || job.Seq != at.Job || !job.Rolling || job.Waiting || job.Progress != nil {
		return 0, nil
	}
	c := census{Target: at.Target, Place: at.Place}
	if spent, err = c.step(tx, job, budget, func(muster.Membership) { n++ }); err != nil {
		return spent, err
	}
	if !c.over(job) {
		at.Target, at.Place = c.Target, c.Place
		tx.Put(store.Deadline{Due: now, Kind: store.Count, Subject: d.Subject, Cursor: strconv.FormatInt(n, 10) + "/" + at.String()})
		return spent, nil
	}
	counted := *job
	counted.Progress = &muster.Progress{Targets: n}
	putJob(tx, &counted, now)
	startRollout(tx, &counted, now)
	return spent, nil
}

// park makes a rollout wait for something that has no due time: room among what is in flight, the end
// of a stage's bake time, or somebody who resumes the job.
func park(tx store.Tx, job muster.Job, cursor string, now muster.Time) muster.Job {
	job.Parked = cursor
	if share, ok := job.StageShare(); ok && job.Progress.Filled == 0 && job.Held == nil && notified(tx, job.ID) >= share {
		filled := *job.Progress
		filled.Filled = now
		job.Progress = &filled
		awaitBake(tx, &job, now)
	}
	return job
}

// unpark lets a parked rollout look again whether it can go on.
func unpark(tx store.Tx, job muster.Job, now muster.Time) muster.Job {
	if job.Parked != "" && job.Rolling && job.Held == nil {
		tx.Put(store.Deadline{Due: now, Kind: store.Rollout, Subject: string(job.ID), Cursor: job.Parked})
		job.Parked = ""
	}
	return job
}

func awaitBake(tx store.Tx, job *muster.Job, now muster.Time) {
	tx.Put(store.Deadline{Due: max(now, job.Bakes()), Kind: store.Bake, Subject: string(job.ID), Cursor: jobCursor(job)})
}

// baked ends the bake time of a stage: the next one begins, or the gate holds the job.
func baked(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	job, ok := mine(tx, d)
	if !ok || !job.Status.Active() || job.EndReached != 0 || job.Held != nil || job.Bakes() == 0 || job.Bakes() > now {
		return
	}
	if why, passes := job.Gate(tx.Tally(job.ID)); !passes {
		if held, err := job.Hold(true, why, now); err == nil {
			putHeld(tx, job, held, now)
		}
		return
	}
	next := unpark(tx, job.NextStage(), now)
	putJob(tx, &next, now)
}

// makeRoom lets a rollout go on that waited for things to be done.
func makeRoom(tx store.Tx, d store.Deadline, now muster.Time) {
	tx.Delete(d)
	job, ok := mine(tx, d)
	if !ok || job.Parked == "" || job.Room(notified(tx, job.ID), tx.Counts(job.ID).Pending()) == 0 {
		return
	}
	if next := unpark(tx, *job, now); next.Parked == "" {
		putJob(tx, &next, now)
	}
}

// notified is how many things have an execution of the job.
func notified(tx store.Reader, id muster.JobID) (n int64) {
	for _, of := range tx.Tally(id) {
		n += of
	}
	return n
}

// chosen reports whether a thing of the job's targets is one that the job is for: a job that tries
// again what failed is for what failed before it was made.
func chosen(tx store.Reader, job *muster.Job, name muster.ThingName) bool {
	of := job.RetryOf
	if of == nil || of.Chosen {
		return true
	}
	parent, ok := tx.Job(of.Job)
	if !ok || parent.Seq != of.Seq {
		return false
	}
	latest, ok := tx.Execution(of.Job, name, 0)
	return ok && slices.Contains(failedStatuses, latest.Status) && latest.UpdatedAt <= job.Created
}
