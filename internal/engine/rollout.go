package engine

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"

	"muster"
	"muster/internal/store"
)

// A rolloutCursor says how far a rollout has come within the first target that is not done yet.
type rolloutCursor struct {
	Job    uint64 // Seq of the job: another one may have got its id
	Target int
	Place  treePage // in the tree of that target's group
	Slot   float64  // when the rate allows the next execution, in milliseconds
}

// String writes the cursor as it is kept. No group has a slash in its name.
func (c rolloutCursor) String() string {
	var b muster.PairsBuilder
	b.Set("/job", strconv.FormatUint(c.Job, 10))
	b.Set("/target", strconv.Itoa(c.Target))
	b.Set("/slot", strconv.FormatFloat(c.Slot, 'g', -1, 64))
	c.Place.write(&b)
	return base64.RawURLEncoding.EncodeToString([]byte(b.Pairs())) // it may lie in the job's row, which is text
}

// parseRolloutCursor is the way back.
func parseRolloutCursor(s string) (c rolloutCursor, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	p := muster.Pairs(raw)
	job, _ := p.Get("/job")
	target, _ := p.Get("/target")
	slot, _ := p.Get("/slot")
	var err1, err2, err3 error
	c.Job, err1 = strconv.ParseUint(job, 10, 64)
	c.Target, err2 = strconv.Atoi(target)
	c.Slot, err3 = strconv.ParseFloat(slot, 64)
	c.Place = readTreePage(p)
	return c, errors.Join(err, err1, err2, err3)
}

// jobCursor marks the work of one job, so that it is not taken for that of a later job of the same id.
func jobCursor(job *muster.Job) string { return strconv.FormatUint(job.Seq, 10) }

// startRollout makes the loop roll the job out, from its first target that is not done.
func startRollout(tx store.Tx, job *muster.Job, now muster.Time) {
	d := store.Deadline{Due: now, Kind: store.Rollout, Subject: string(job.ID), Cursor: rolloutCursor{Job: job.Seq, Slot: float64(job.Paced)}.String()}
	if job.Staged() && job.Progress == nil {
		d.Kind, d.Cursor = store.Count, "0/"+d.Cursor
	}
	tx.Put(d)
}

// rollout materialises up to budget executions of a job and reports how many rows it looked at.
func (g *Engine) rollout(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	tx.Delete(d)
	c, err := parseRolloutCursor(d.Cursor)
	if err != nil {
		return 0, err
	}
	job, ok := tx.Job(muster.JobID(d.Subject))
	if !ok || job.Seq != c.Job || !job.Rolling || job.Waiting {
		return 0, nil
	}
	if job.Scheduling != nil {
		// The loop may be late: nothing is made after the end or outside a window, whatever fell due first.
		g.edge(tx, job, now)
		if job, ok = tx.Job(job.ID); !ok || !job.Rolling || job.Waiting {
			return 0, nil
		}
	}
	if job.Held != nil {
		parked := park(tx, *job, d.Cursor, now)
		putJob(tx, &parked, now)
		return 0, nil
	}
	if c.Target < job.RolledOut {
		c = rolloutCursor{Job: c.Job, Target: job.RolledOut, Slot: c.Slot}
	}
	p := pace{job: job, slot: c.Slot}
	for c.Target < len(job.Targets) && spent < budget && p.ready(tx, now) {
		n, done, err := rolloutTarget(tx, job, &c, &p, now, budget-spent)
		if err != nil {
			return spent, err
		}
		spent += n
		if done {
			c = rolloutCursor{Job: c.Job, Target: c.Target + 1}
		}
	}
	c.Slot = p.slot
	waits := c.Target < len(job.Targets) && p.room(tx) == 0
	if c.Target < len(job.Targets) && !waits {
		tx.Put(store.Deadline{Due: max(now, muster.Time(math.Ceil(c.Slot))), Kind: store.Rollout, Subject: d.Subject, Cursor: c.String()})
	}
	if c.Target != job.RolledOut || waits {
		job, _ = tx.Job(job.ID)
		moved := *job
		moved.RolledOut = c.Target
		moved.Rolling = c.Target < len(job.Targets)
		moved.Paced = muster.Time(math.Ceil(c.Slot))
		if waits {
			moved = park(tx, moved, c.String(), now)
		}
		putJob(tx, &moved, now)
		settleJob(tx, job.ID, now)
	}
	return spent, nil
}

// A pace keeps a rollout to its rate: executions are made one at a time, each at least the interval
// of the present rate after the one before. A rollout that is late does not catch up, so that no
// minute sees more than the rate allows (state-machine.md §9).
type pace struct {
	job  *muster.Job
	slot float64
}

// makeUp is how late, in milliseconds, a rollout above AWS's rates may be without losing anything.
const makeUp = 120

// perMinute is the present rate, 0 for none.
func (p *pace) perMinute(tx store.Reader) float64 {
	if p.job.Settings.Rollout == nil {
		return 0
	}
	rate := p.job.Settings.Rollout.PerMinute(notified(tx, p.job.ID), tx.Tally(p.job.ID)[muster.Succeeded])
	return math.Floor(rate + 1e-6) // 61 in a minute are more than 60.5
}

// ready reports whether another execution may be made now.
func (p *pace) ready(tx store.Reader, now muster.Time) bool {
	return (p.perMinute(tx) == 0 || float64(now) >= p.slot) && p.room(tx) != 0
}

// room is how many executions stages and max-in-flight leave to be made, -1 for any number.
func (p *pace) room(tx store.Reader) int64 {
	if p.job.Extras == nil {
		return -1
	}
	return p.job.Room(notified(tx, p.job.ID), tx.Counts(p.job.ID).Pending())
}

// made notes that one was made.
func (p *pace) made(tx store.Reader, now muster.Time) {
	rate := p.perMinute(tx)
	if rate == 0 {
		return
	}
	minute := 60_000.0
	switch late := float64(now) - p.slot; {
	case rate > muster.MaxPerMinute:
		// Slots are so near to each other that the loop's own lateness would cost many of them. What may be
		// made up for is added to the minute, so that no minute sees more all the same.
		minute += makeUp
		p.slot = max(p.slot, float64(now)-makeUp)
	case late >= 1: // later than the rounding of a slot to a millisecond
		p.slot = float64(now)
	}
	// Rounded up to what a float64 holds exactly at such times, so that no errors add up.
	p.slot += math.Ceil(minute/rate*1024) / 1024
}

// rolloutTarget goes on with one target, moving the cursor within it.
func rolloutTarget(tx store.Tx, job *muster.Job, c *rolloutCursor, p *pace, now muster.Time, budget int) (spent int, done bool, err error) {
	target := job.Targets[c.Target]
	if target.Group == "" {
		if reach(tx, job, target.Thing, now) {
			p.made(tx, now)
		}
		return 1, true, nil
	}
	at := &c.Place
	if at.Walk == nil {
		at.Walk = tree{{Group: target.Group}}
	}
	paced := p.perMinute(tx) > 0
	for len(at.Walk) > 0 {
		if spent >= budget || !p.ready(tx, now) {
			return spent, false, nil
		}
		limit := budget - spent
		if paced {
			limit = 1 // what is left of a page could not be kept
		}
		if room := p.room(tx); room >= 0 {
			limit = int(min(int64(limit), room))
		}
		members, next, err := tx.Members(at.Walk.at(), store.Page{After: at.Member, Limit: limit})
		if err != nil {
			return spent, false, err
		}
		for _, m := range members {
			if (job.Selection == muster.Continuous || m.Seq <= job.Seq) && reach(tx, job, m.Thing, now) {
				p.made(tx, now)
			}
		}
		spent += max(1, len(members))
		if at.Member = next; next != "" {
			continue
		}
		if at.Walk, err = at.Walk.step(tx); err != nil {
			return spent, false, err
		}
	}
	return spent, true, nil
}

// reach makes the first execution of a job on a thing that its rollout has come to, and reports
// whether it made one. A thing that has one already is left to reconcile.
func reach(tx store.Tx, job *muster.Job, name muster.ThingName, now muster.Time) bool {
	if !chosen(tx, job, name) {
		return false
	}
	latest, has := tx.Execution(job.ID, name, 0)
	switch {
	case !has:
		return enqueue(tx, job, name, muster.NoStatus, now)
	case latest.Status.Terminal() && job.Selection == muster.Continuous:
		return reconcile(tx, job, name, now)
	}
	return false
}

// enqueue gives a registered thing a new execution; superseded is the status of its latest one before.
func enqueue(tx store.Tx, job *muster.Job, name muster.ThingName, superseded muster.Status, now muster.Time) bool {
	q, registered := tx.Queue(name)
	if !registered {
		return false
	}
	e := muster.NewExecution(job.ID, name, tx.NextNumber(job.ID, name), 0, tx.NextSeq(), now)
	keep(tx, q, now, muster.Change{After: e, Superseded: superseded})
	return true
}

// reconcile brings a thing's execution of an active job in line with whether the thing is a target now
// (state-machine.md §11), and reports whether it made a new one. It serves the rollout, joins and leaves.
func reconcile(tx store.Tx, job *muster.Job, name muster.ThingName, now muster.Time) bool {
	since, wanted := targeted(tx, job, name)
	latest, has := tx.Execution(job.ID, name, 0)
	switch {
	case wanted && job.EndReached != 0: // no more rollout
	case wanted && !has:
		return enqueue(tx, job, name, muster.NoStatus, now)
	case wanted && latest.Status.Terminal() && (latest.Status == muster.Removed || since > latest.Seq):
		// Removed when it left, or done in an earlier membership: a new attempt for the new one.
		return enqueue(tx, job, name, latest.Status, now)
	case !wanted && has && !latest.Status.Terminal() && job.Selection == muster.Continuous:
		q, _ := tx.Queue(name)
		q.Thing = name
		after := latest.Remove(now)
		if settled, present := job.Settle(latest); present && settled.Status.Terminal() {
			after = settled // it was seen to end so already
		}
		keep(tx, q, now, muster.Change{Before: latest, After: after})
	}
	return false
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
