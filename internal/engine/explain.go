package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"muster"
	"muster/internal/store"
)

const (
	// maxLooked is how many rows an explanation reads of each kind; counts beyond are "at least".
	maxLooked = 100_000
	// maxBehind is how many jobs that are in the way are named.
	maxBehind = 20
	// slotHorizon is how far ahead a rate can put the next execution: one a minute is the slowest.
	slotHorizon = time.Minute + time.Second
	slotLooked  = 4096
)

// An Explanation says why a job, or a job on a thing, does not move.
type Explanation struct {
	Job       *muster.Job
	Now       muster.Time
	Counts    muster.Counts
	Thing     muster.ThingName  // empty: of the whole job
	Execution *muster.Execution // the thing's latest, nil: none
	Reasons   []muster.Reason
}

// Explain says why a job does not move: each reason with how many things it holds back.
func (g *Engine) Explain(ctx context.Context, id muster.JobID) (x Explanation, err error) {
	s := muster.Standing{}
	err = g.store.View(ctx, func(tx store.Reader) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		x.Job, x.Now, x.Counts = job, g.clock.Now(), tx.Counts(id)
		s = muster.Standing{Now: x.Now, Counts: x.Counts, Tally: tx.Tally(id), Slot: slotOf(tx, job, x.Now), Ahead: ahead(tx, job)}
		return nil
	})
	if err != nil {
		return x, err
	}
	if (x.Job.Status.Active() || x.Job.Status == muster.JobCanceled) && x.Job.RolledOut < len(x.Job.Targets) {
		if s.Waiting, s.AtLeast, err = g.unreached(ctx, x.Job); err != nil {
			return x, err
		}
	}
	x.Reasons = x.Job.Explain(s)
	if x.Job.Status != muster.JobDeleting {
		for _, look := range []func(context.Context, *Explanation) error{g.lookQueued, g.lookWorking, g.lookTargets} {
			if err := look(ctx, &x); err != nil {
				return x, err
			}
		}
		x.Reasons = append(x.Reasons, lost(x.Job, s.Tally)...)
	}
	if len(x.Reasons) == 0 && x.Job.Selection == muster.Continuous {
		x.Reasons = append(x.Reasons, muster.Reason{Code: muster.ReasonJoin, Text: "Every thing of the targets has been reached and is done; the job waits for things that join"})
	}
	return x, nil
}

// slotOf is when the rate allows the next execution, as the rollout's deadline says; 0 when it is not
// among the next ones.
func slotOf(tx store.Reader, job *muster.Job, now muster.Time) muster.Time {
	if !job.Rolling || job.Parked != "" || job.Settings.Rollout == nil {
		return 0
	}
	for _, d := range tx.Due(now.Add(slotHorizon), slotLooked) {
		if d.Kind == store.Rollout && d.Subject == string(job.ID) {
			return d.Due
		}
	}
	return 0
}

// unreached counts the things that a rollout has yet to come to.
func (g *Engine) unreached(ctx context.Context, job *muster.Job) (n int64, more bool, err error) {
	// A job in stages knows how many there are; it is not asked again.
	if job.Progress != nil {
		err = g.store.View(ctx, func(tx store.Reader) error {
			n = max(0, job.Progress.Targets-notified(tx, job.ID))
			return nil
		})
		return n, false, err
	}
	c := census{Target: job.RolledOut}
	for looked := 0; !c.over(job) && looked < maxLooked; {
		err := g.store.View(ctx, func(tx store.Reader) error {
			spent, err := c.step(tx, job, lookSlice, func(m muster.Membership) {
				if _, has := tx.Execution(job.ID, m.Thing, 0); !has {
					n++
				}
			})
			looked += spent
			return err
		})
		if err != nil {
			return n, false, err
		}
	}
	return n, !c.over(job), nil
}

// each calls fn for the job's executions with a status, up to maxLooked; more says that there are others.
func (g *Engine) each(ctx context.Context, id muster.JobID, status muster.Status, fn func(store.Reader, muster.Execution)) (more bool, err error) {
	after := ""
	for looked := 0; looked < maxLooked; {
		err := g.store.View(ctx, func(tx store.Reader) error {
			rows, next, err := tx.ExecutionsOfJob(id, status, store.Page{After: after, Limit: lookSlice})
			for _, e := range rows {
				fn(tx, e)
			}
			after = next
			looked += len(rows)
			return err
		})
		if err != nil || after == "" {
			return false, err
		}
	}
	return true, nil
}

// lookQueued tells what the job's queued executions wait for, as far as it is on their things.
func (g *Engine) lookQueued(ctx context.Context, x *Explanation) error {
	if !x.Job.Shows() || x.Counts[muster.Queued] == 0 {
		return nil
	}
	type blocked struct{ things int64 }
	behind := map[muster.JobID]*blocked{}
	never := muster.Reason{Code: muster.ReasonNever}
	retried := muster.Reason{Code: muster.ReasonRetry}
	var oldest muster.Time
	more, err := g.each(ctx, x.Job.ID, muster.Queued, func(tx store.Reader, e muster.Execution) {
		if e.Attempt > 0 {
			retried.Things++
		}
		q, _ := tx.Queue(e.Thing)
		if first, ok := q.Next(offered(tx)); ok && first.Job != e.Job {
			b := behind[first.Job]
			if b == nil {
				b = &blocked{}
				behind[first.Job] = b
			}
			b.things++
			return
		}
		never.Things++
		if oldest == 0 || e.QueuedAt < oldest {
			oldest = e.QueuedAt
		}
		if due := x.Job.Deadline(e); due != 0 && (never.Until == 0 || due < never.Until) {
			never.Until = due
		}
	})
	if err != nil {
		return err
	}
	ids := make([]muster.JobID, 0, len(behind))
	for id := range behind {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b muster.JobID) int {
		if d := behind[b].things - behind[a].things; d != 0 {
			return int(d)
		}
		return compare(a, b)
	})
	for _, id := range ids[:min(len(ids), maxBehind)] {
		x.Reasons = append(x.Reasons, muster.Reason{Code: muster.ReasonBehind, Job: id, Things: behind[id].things, AtLeast: more,
			Text: "Job " + string(id) + " is first on these things"})
	}
	if never.AtLeast = more; never.Things > 0 {
		never.Text = "The devices have been offered the job and have not started it, the first since " + stamp(oldest)
		if never.Until != 0 {
			never.Text += "; the first times out " + stamp(never.Until)
		}
		x.Reasons = append(x.Reasons, never)
	}
	if retried.AtLeast = more; retried.Things > 0 {
		retried.Text = "An earlier attempt failed or timed out, and another one is queued"
		x.Reasons = append(x.Reasons, retried)
	}
	return nil
}

func compare(a, b muster.JobID) int {
	if a < b {
		return -1
	}
	return 1
}

// lookWorking tells of what is in progress.
func (g *Engine) lookWorking(ctx context.Context, x *Explanation) error {
	if x.Counts[muster.InProgress] == 0 {
		return nil
	}
	r := muster.Reason{Code: muster.ReasonWorking, Things: x.Counts[muster.InProgress]}
	untimed, oldest := 0, muster.Time(0)
	more, err := g.each(ctx, x.Job.ID, muster.InProgress, func(_ store.Reader, e muster.Execution) {
		switch due := e.Deadline(); {
		case due == 0:
			untimed++
		case r.Until == 0 || due < r.Until:
			r.Until = due
		}
		if oldest == 0 || e.StartedAt < oldest {
			oldest = e.StartedAt
		}
	})
	if err != nil {
		return err
	}
	r.Text = "The devices are at work, the first since " + stamp(oldest)
	if r.Until != 0 {
		r.Text += "; the first times out " + stamp(r.Until)
	}
	if untimed > 0 {
		r.Text += "; " + strconv.Itoa(untimed)
		if more {
			r.Text += " or more"
		}
		r.Text += " of them may take for ever, as no timer runs"
	}
	x.Reasons = append(x.Reasons, r)
	return nil
}

// lookTargets tells of targets that do not lead to anything.
func (g *Engine) lookTargets(ctx context.Context, x *Explanation) error {
	if !x.Job.Status.Active() {
		return nil
	}
	return g.store.View(ctx, func(tx store.Reader) error {
		for _, t := range x.Job.Targets {
			gone, what := true, "Thing "+string(t.Thing)
			if t.Group != "" {
				what = "Thing group " + string(t.Group)
				_, there := tx.Group(t.Group)
				gone = !there
			} else if _, there := tx.Thing(t.Thing); there {
				continue
			}
			if gone {
				x.Reasons = append(x.Reasons, muster.Reason{Code: muster.ReasonNoTarget, Text: what + " is a target and does not exist any more"})
				continue
			}
			// A target of a million things is not empty; one of a thousand empty groups is not looked through.
			one := muster.Job{Targets: []muster.Target{t}, Selection: x.Job.Selection, Seq: x.Job.Seq}
			things, c := 0, census{}
			for rows := 0; things == 0 && !c.over(&one) && rows < lookSlice; {
				spent, err := c.step(tx, &one, 16, func(muster.Membership) { things++ })
				if err != nil {
					return err
				}
				rows += spent
			}
			if things == 0 && c.over(&one) {
				x.Reasons = append(x.Reasons, muster.Reason{Code: muster.ReasonEmpty, Text: what + " is a target and has no things that the job is for"})
			}
		}
		return nil
	})
}

// lost tells of things that are done, and not well.
func lost(job *muster.Job, t muster.Tally) (all []muster.Reason) {
	for _, status := range failedStatuses {
		if n := t[status]; n > 0 {
			all = append(all, muster.Reason{Code: muster.ReasonFailed, Things: n,
				Text: fmt.Sprintf("The last attempt ended as %s, with no retries left; the act retry-failed makes a job for such things", status)})
		}
	}
	return all
}

// ExplainThing says why a job does not move on a thing.
func (g *Engine) ExplainThing(ctx context.Context, id muster.JobID, name muster.ThingName) (x Explanation, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		x = Explanation{Job: job, Now: g.clock.Now(), Counts: tx.Counts(id), Thing: name}
		if e, ok := tx.Execution(id, name, 0); ok {
			if settled, present := job.Settle(e); present {
				x.Execution = &settled
			}
		}
		_, registered := tx.Thing(name)
		if x.Execution == nil && !registered {
			return noThing(name)
		}
		s := muster.Standing{Now: x.Now, Counts: x.Counts, Tally: tx.Tally(id), Slot: slotOf(tx, job, x.Now), Ahead: ahead(tx, job)}
		x.Reasons = onThing(tx, &x, registered, job.Explain(s))
		for i := range x.Reasons {
			x.Reasons[i].Things, x.Reasons[i].AtLeast = 1, false
		}
		return nil
	})
	return x, err
}

// onThing says why one thing does not move; ofJob is what the job itself is why.
func onThing(tx store.Reader, x *Explanation, registered bool, ofJob []muster.Reason) []muster.Reason {
	say := func(code muster.ReasonCode, until muster.Time, text string) []muster.Reason {
		return []muster.Reason{{Code: code, Until: until, Text: text}}
	}
	e := x.Execution
	switch {
	case e == nil:
		if _, ok := targeted(tx, x.Job, x.Thing); !ok || !chosen(tx, x.Job, x.Thing) {
			text := "The thing is not a target of the job"
			if x.Job.Selection == muster.Snapshot {
				text += ", or joined after the job was created"
			}
			return say(muster.ReasonNoTarget, 0, text)
		}
		if len(ofJob) > 0 {
			return ofJob
		}
		return say(muster.ReasonRolling, 0, "The thing is a target, and the rollout has not come to it")
	case e.Status.Terminal():
		return ended(x, e, ofJob)
	case e.Status == muster.InProgress:
		return say(muster.ReasonWorking, e.Deadline(), working(x.Job, e))
	case !x.Job.Offers(*e):
		// Its place in the queue and the device do not matter until the job is offered; its rate does not any more.
		return slices.DeleteFunc(ofJob, func(r muster.Reason) bool {
			return r.Code == muster.ReasonRate || r.Code == muster.ReasonRolling || r.Code == muster.ReasonRoom || r.Code == muster.ReasonBake || r.Code == muster.ReasonTurn
		})
	}
	q, _ := tx.Queue(x.Thing)
	if first, ok := q.Next(offered(tx)); ok && first.Job != e.Job {
		all := say(muster.ReasonBehind, x.Job.Deadline(*e), fmt.Sprintf("Job %s is first on the thing: its execution %d is %s since %s", first.Job, first.Number, first.Status, stamp(max(first.QueuedAt, first.StartedAt))))
		all[0].Job = first.Job
		return all
	}
	text := "The device has been offered the job and has never started it, since " + stamp(e.QueuedAt)
	if e.Attempt > 0 {
		text += "; this is retry " + strconv.Itoa(int(e.Attempt))
	}
	if due := x.Job.Deadline(*e); due != 0 {
		text += "; it times out " + stamp(due)
	}
	if !registered {
		text += "; the thing is not registered any more"
	}
	return say(muster.ReasonNever, x.Job.Deadline(*e), text+retries(x.Job, e))
}

func working(job *muster.Job, e *muster.Execution) string {
	text := "The device is at work since " + stamp(e.StartedAt) + " and reported last " + stamp(e.UpdatedAt)
	if due := e.Deadline(); due != 0 {
		return text + "; it times out " + stamp(due) + retries(job, e)
	}
	return text + "; no timer runs, so that it may take for ever" + retries(job, e)
}

func retries(job *muster.Job, e *muster.Execution) string {
	failed, timedOut := job.RetriesLeft(*e)
	if failed == 0 && timedOut == 0 {
		return "; no retries are left"
	}
	return fmt.Sprintf("; retries left: %d if it fails, %d if it times out", failed, timedOut)
}

func ended(x *Explanation, e *muster.Execution, ofJob []muster.Reason) []muster.Reason {
	text := "It ended as " + e.Status.String() + " " + stamp(e.UpdatedAt)
	if e.Attempt > 0 {
		text += ", at retry " + strconv.Itoa(int(e.Attempt))
	}
	switch {
	case e.Status == muster.Canceled && !x.Job.Status.Active() && len(ofJob) > 0:
		return ofJob
	case slices.Contains(failedStatuses, e.Status):
		return []muster.Reason{{Code: muster.ReasonFailed, Text: text + "; no retries are left"}}
	case e.Status == muster.Canceled:
		return []muster.Reason{{Code: muster.ReasonCanceled, Text: text}}
	case e.Status == muster.Removed:
		return []muster.Reason{{Code: muster.ReasonNoTarget, Text: text + ": the thing was no target any more"}}
	}
	return []muster.Reason{{Code: muster.ReasonDone, Text: text}}
}

func stamp(t muster.Time) string { return t.Time().Format(time.RFC3339) }
