package engine

import (
	"context"
	"slices"

	"muster"
	"muster/internal/store"
)

// balance compares the store with the world while nothing is due, and asks whether everything that
// should have happened has.
func (w *world) balance(s store.Store, whole bool) {
	now := w.clock()
	for id, j := range w.jobs {
		w.upToDate(id, j, now)
	}
	if len(w.problems) > 0 {
		return
	}
	err := s.View(context.Background(), func(tx store.Reader) error {
		jobs, _, err := tx.Jobs(store.JobFilter{}, store.Page{Limit: 1000})
		if len(jobs) != len(w.jobs) {
			w.problem("there are %d jobs, should be %d", len(jobs), len(w.jobs))
		}
		w.counted(tx, jobs)
		for id, j := range w.jobs {
			if got, want := tx.Counts(id), muster.Counts(j.counts()); got != want {
				w.problem("job %s counts %v, a recount says %v", id, got, want)
			}
			if got, want := tx.Tally(id), muster.Tally(j.tally()); got != want {
				w.problem("job %s tallies %v, a recount says %v", id, got, want)
			}
			if whole {
				w.rows(tx, j)
			}
		}
		for thing := range w.things {
			q, _ := tx.Queue(thing)
			var got []name
			for _, e := range q.Executions {
				got = append(got, name{e.Job, e.Number})
			}
			if want := names(w.pendingOf(thing)); !slices.Equal(got, want) {
				w.problem("the queue of %s is %v, should be %v", thing, got, want)
			}
		}
		return err
	})
	if err != nil {
		w.problem("the store: %v", err)
	}
	if whole {
		if err := s.Check(context.Background(), func(text string) { w.problem("check: %s", text) }); err != nil {
			w.problem("check: %v", err)
		}
	}
}

// counted: the jobs that are counted as rolling out are those that say so, and do.
func (w *world) counted(tx store.Reader, jobs []*muster.Job) {
	var want, got []string
	for _, j := range jobs {
		if j.Counted {
			want = append(want, countedPrefix+string(j.ID)+" "+jobCursor(j))
		}
		if j.Counted && !j.Concurrent() || j.Rolling && !j.Counted || j.Waiting {
			w.problem("job %s is %s, rolling %v, sweeping %v, counted %v, waiting %v", j.ID, j.Status, j.Rolling, j.Sweeping, j.Counted, j.Waiting)
		}
	}
	rows, _, err := tx.Settings(countedPrefix, store.Page{Limit: 1000})
	if err != nil {
		w.problem("the store: %v", err)
	}
	for _, r := range rows {
		got = append(got, r.Name+" "+r.Value)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		w.problem("counted are %v, should be %v", got, want)
	}
}

// upToDate: nothing that should have happened by now has not.
func (w *world) upToDate(id muster.JobID, j *modelJob, now muster.Time) {
	if j.status == muster.JobDeleting {
		w.problem("job %s is being deleted and still there", id)
	}
	if w.finished(j) && !w.mayLag(j, now) {
		w.problem("job %s is %s, but nothing is left to do: %v", id, j.status, j.counts())
	}
	if j.active() && j.endAt != 0 && now >= j.endAt && j.endReached == 0 {
		w.problem("the endTime of job %s was missed", id)
	}
	if j.active() && j.endReached == 0 && j.open(now) != (j.status == muster.JobInProgress) {
		w.problem("job %s is %s, its schedule says otherwise", id, j.status)
	}
	if rest := w.mustReach(j); len(rest) > 0 && !w.mayLag(j, now) {
		w.problem("job %s has not reached %v: %+v targets %v member %v since %v", id, rest, j.latest(rest[0]), j.targets, w.members[rest[0]], w.things[rest[0]])
	}
	for _, e := range j.all() {
		if due := e.deadline(); due != 0 && due <= now {
			w.problem("%s %s#%d should have timed out", e.thing, id, e.number)
		}
		if e.pending() && j.takes(e.status) {
			w.problem("%s %s#%d should have been canceled: job %s is %s", e.thing, id, e.number, id, j.status)
		}
		if _, ok := w.target(j, e.thing); e.status == muster.Queued && !ok && j.continuous && j.status == muster.JobInProgress {
			w.problem("%s %s#%d should have been removed", e.thing, id, e.number)
		}
		if e.pending() && w.things[e.thing] == 0 {
			w.problem("%s %s#%d is %s and its thing is gone", e.thing, id, e.number, e.status)
		}
	}
}

// mayLag: a rollout with a rate rests after each execution, up to a minute, before it looks for more.
func (w *world) mayLag(j *modelJob, now muster.Time) bool {
	return j.rollout != nil && len(j.made) > 0 && now < j.made[len(j.made)-1]+60_000
}

// rows compares every execution of a job.
func (w *world) rows(tx store.Reader, j *modelJob) {
	n := 0
	for after := ""; ; {
		rows, next, err := tx.ExecutionsOfJob(j.id, muster.NoStatus, store.Page{After: after, Limit: 7})
		if err != nil {
			w.problem("the store: %v", err)
			return
		}
		for _, e := range rows {
			n++
			x := w.find(e.Thing, j.id, e.Number)
			if x == nil {
				w.problem("%s %s#%d is there and should not be", e.Thing, j.id, e.Number)
				continue
			}
			want := muster.Execution{Job: j.id, Thing: x.thing, Number: x.number, Seq: e.Seq, Status: x.status, ForceCanceled: x.forced, Attempt: int32(x.failed + x.expired),
				TimedOutRetries: int32(x.expired), Version: x.version, QueuedAt: x.queued, StartedAt: x.started, UpdatedAt: x.updated, Details: x.details,
				InProgressTimeout: x.timeout, StepTimeout: x.step}
			if e != want {
				w.problem("%s %s#%d is\n%+v\nshould be\n%+v", e.Thing, j.id, e.Number, e, want)
			}
		}
		if after = next; next == "" {
			break
		}
	}
	if all := len(j.all()); n != all {
		w.problem("job %s has %d executions, should have %d", j.id, n, all)
	}
}

// heard compares what each device saw when the world stood still last, what it sees now, and what it
// was told in between. What was told in the middle of unfinished work may be told again when that is
// done: nothing may ever be missed, but only after a single act is nothing told twice.
func (w *world) heard(single bool) {
	for thing, t := range w.told {
		is := names(w.visible(thing))
		list := !sameSet(t.before, is)
		next := len(t.before) > 0 != (len(is) > 0) || len(is) > 0 && t.before[0] != is[0]
		switch {
		case list && !t.list:
			w.problem("%s saw %v and now %v, and was not notified: %+v", thing, t.before, is, t)
		case next && !t.next:
			w.problem("%s saw %v and now %v, and had no notify-next: %+v", thing, t.before, is, t)
		case single && t.keeps == 1 && (t.list != list || t.next != next):
			w.problem("%s saw %v and now %v, and was told list %v next %v: %+v", thing, t.before, is, t.list, t.next, t.last)
		case t.list && !t.sets && !list:
			w.problem("%s was notified of %+v", thing, t.last)
		}
		*t = telling{before: is}
	}
}
