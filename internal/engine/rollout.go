package engine

import (
	"encoding/json"
	"slices"

	"muster"
	"muster/internal/store"
)

// A rolloutCursor says how far a rollout has come within the first target that is not done yet: which
// group of that target's tree, and where in its members. Job guards against another job of the same id.
type rolloutCursor struct {
	Job    uint64 `json:"j"`
	Target int    `json:"t,omitempty"`
	Group  uint64 `json:"g,omitempty"` // Seq of the group being rolled out; 0: the first
	Member string `json:"m,omitempty"`
}

func (c rolloutCursor) String() string {
	b, _ := json.Marshal(c) // a struct of numbers and a string always marshals
	return string(b)
}

// rollout materialises up to budget executions of a job and reports how many rows it looked at.
func rollout(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	tx.Delete(d)
	var c rolloutCursor
	if err := json.Unmarshal([]byte(d.Cursor), &c); err != nil {
		return 0, err
	}
	job, ok := tx.Job(muster.JobID(d.Subject))
	if !ok || job.Seq != c.Job || !job.Rolling && job.Status != muster.JobScheduled {
		return 0, nil
	}
	next := *job
	if next.Status == muster.JobScheduled {
		next.Status, next.Rolling, next.Updated = muster.JobInProgress, true, now
		tx.Put(store.Job{Job: &next})
	}
	job = &next
	c.Target = max(c.Target, job.RolledOut)
	for c.Target < len(job.Targets) && spent < budget {
		n, done, err := rolloutTarget(tx, job, &c, now, budget-spent)
		if err != nil {
			return spent, err
		}
		spent += n
		if done {
			c = rolloutCursor{Job: c.Job, Target: c.Target + 1}
		}
	}
	if c.Target < len(job.Targets) {
		tx.Put(store.Deadline{Due: now, Kind: store.Rollout, Subject: d.Subject, Cursor: c.String()})
	}
	if c.Target != job.RolledOut {
		moved := *job
		moved.RolledOut = c.Target
		moved.Rolling = c.Target < len(job.Targets)
		if moved.Finished(tx.Counts(job.ID)) {
			moved.Status, moved.Completed, moved.Updated = muster.JobCompleted, now, now
		}
		tx.Put(store.Job{Job: &moved})
	}
	return spent, nil
}

// rolloutTarget goes on with one target, moving the cursor within it.
func rolloutTarget(tx store.Tx, job *muster.Job, c *rolloutCursor, now muster.Time, budget int) (spent int, done bool, err error) {
	target := job.Targets[c.Target]
	if target.Group == "" {
		reach(tx, job, target.Thing, now)
		return 1, true, nil
	}
	for _, group := range subtree(tx, target.Group) {
		if group.Seq < c.Group || job.Selection == muster.Snapshot && group.Seq > job.Seq {
			continue
		}
		if group.Seq > c.Group {
			c.Group, c.Member = group.Seq, ""
		}
		for {
			if spent >= budget {
				return spent, false, nil
			}
			members, next, err := tx.Members(group.Name, store.Page{After: c.Member, Limit: budget - spent})
			if err != nil {
				return spent, false, err
			}
			for _, m := range members {
				if job.Selection == muster.Continuous || m.Seq <= job.Seq {
					reach(tx, job, m.Thing, now)
				}
			}
			spent += max(1, len(members))
			c.Member = next
			if next == "" {
				break
			}
		}
		c.Group++ // the group is done: the next one is younger
	}
	return spent, true, nil
}

// subtree is a group and everything below it, oldest first; parents come before their children.
func subtree(tx store.Reader, root muster.GroupName) []muster.Group {
	group, ok := tx.Group(root)
	if !ok {
		return nil
	}
	out := []muster.Group{group}
	for i := 0; i < len(out); i++ {
		for after := ""; ; {
			children, next, err := tx.Groups(out[i].Name, store.Page{After: after, Limit: muster.MaxChildren})
			out = append(out, children...)
			if after = next; err != nil || next == "" {
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b muster.Group) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	return out
}

// reach makes the first execution of a job on a thing that its rollout has come to. A thing that has
// one already is left to reconcile.
func reach(tx store.Tx, job *muster.Job, name muster.ThingName, now muster.Time) {
	if latest, has := tx.Execution(job.ID, name, 0); !has {
		enqueue(tx, job, name, now)
	} else if latest.Status == muster.Removed {
		reconcile(tx, job, name, now)
	}
}

// enqueue gives a registered thing a new execution.
func enqueue(tx store.Tx, job *muster.Job, name muster.ThingName, now muster.Time) {
	q, registered := tx.Queue(name)
	if !registered {
		return
	}
	e := muster.NewExecution(job.ID, name, tx.NextNumber(job.ID, name), 0, tx.NextSeq(), now)
	keep(tx, q, now, muster.Change{After: e})
}

// reconcile brings a thing's execution of an active job in line with whether the thing is a target now
// (state-machine.md §11): it serves the rollout, joins and leaves.
func reconcile(tx store.Tx, job *muster.Job, name muster.ThingName, now muster.Time) {
	since, wanted := targeted(tx, job, name)
	latest, has := tx.Execution(job.ID, name, 0)
	switch {
	case wanted && !has,
		// Removed when it left, or done in an earlier membership: a new attempt for the new one.
		wanted && latest.Status.Terminal() && (latest.Status == muster.Removed || since > latest.Seq):
		enqueue(tx, job, name, now)
	case !wanted && has && !latest.Status.Terminal() && job.Selection == muster.Continuous:
		q, _ := tx.Queue(name)
		q.Thing = name
		keep(tx, q, now, muster.Change{Before: latest, After: latest.Remove(now)})
	}
}

// targeted reports whether a registered thing is a target of the job, and since when: the sequence
// of the oldest membership that makes it one, 0 for a thing that is a target itself.
func targeted(tx store.Reader, job *muster.Job, name muster.ThingName) (since uint64, ok bool) {
	if _, registered := tx.Queue(name); !registered {
		return 0, false
	}
	if slices.Contains(job.Targets, muster.Target{Thing: name}) {
		return 0, true
	}
	for _, m := range tx.GroupsOf(name) {
		if job.Selection == muster.Snapshot && m.Seq > job.Seq {
			continue
		}
		for group := range lineage(tx, m.Group) {
			if slices.Contains(job.Targets, muster.Target{Group: group.Name}) && (!ok || m.Seq < since) {
				since, ok = m.Seq, true
			}
		}
	}
	return since, ok
}

// lineage yields a group and its ancestors, the group first.
func lineage(tx store.Reader, name muster.GroupName) func(yield func(muster.Group) bool) {
	return func(yield func(muster.Group) bool) {
		for name != "" {
			group, ok := tx.Group(name)
			if !ok || !yield(group) {
				return
			}
			name = group.Parent
		}
	}
}
