package engine

import (
	"encoding/json"
	"math"
	"slices"

	"muster"
)

// observe takes up what one commit told, and says what of it nothing justifies.
func (w *world) observe(entry muster.Entry) {
	var last muster.ThingName
	for _, f := range entry.Facts {
		switch f.Kind {
		case muster.FactExecution:
			w.hear(f, f.Thing != last || !(f.From == muster.NoStatus && w.owed != nil))
			w.execution(f)
			last = f.Thing
		case muster.FactJob:
			w.job(f)
		}
	}
	if w.owed != nil {
		w.problem("%s#%d of %s ended with retries left and got none", w.owed.job.id, w.owed.number, w.owed.thing)
		w.owed = nil
	}
}

// settled: no job may be one that had to be aborted and was not.
func (w *world) settled() {
	for id := range w.abort {
		w.problem("job %s met its abort criterion and went on: %v", id, w.jobs[id].tally())
	}
	clear(w.abort)
}

// hear notes what a device is told.
func (w *world) hear(f muster.Fact, another bool) {
	t := w.told[f.Thing]
	if t == nil {
		t = &telling{}
		w.told[f.Thing] = t
	}
	t.facts++
	if another {
		t.keeps++
	}
	t.sets = t.sets || f.From == muster.NoStatus || f.To == muster.NoStatus || f.To.Terminal()
	t.list = t.list || f.Notice.List
	t.next = t.next || f.Notice.Next
	t.last = f
}

func (w *world) execution(f muster.Fact) {
	if f.From == muster.NoStatus && f.To == muster.NoStatus {
		return // something came into sight or went out of it
	}
	j := w.jobs[f.Job]
	if j == nil {
		w.problem("a fact about job %s, which there is not", f.Job)
		return
	}
	if f.From == muster.NoStatus {
		w.created(j, f)
		w.paceOf(j)
		return
	}
	if w.owed != nil {
		w.problem("%s#%d of %s ended with retries left and got none", w.owed.job.id, w.owed.number, w.owed.thing)
		w.owed = nil
	}
	var e *modelExecution
	for _, x := range j.attempts[f.Thing] {
		if x.number == f.Number {
			e = x
		}
	}
	if e == nil || e.status != f.From {
		w.problem("%s %s#%d goes from %s to %s, but is %+v", f.Thing, f.Job, f.Number, f.From, f.To, e)
		return
	}
	if f.To == muster.NoStatus {
		w.deleted(j, e)
	} else {
		w.changed(j, e, f)
	}
	if w.owed == nil {
		w.considerAbort(j, f)
	}
	w.paceOf(j)
}

// considerAbort: after every execution that ended, its retry included.
func (w *world) considerAbort(j *modelJob, f muster.Fact) {
	if (f.To.Terminal() || f.To == muster.NoStatus) && j.active() && j.endReached == 0 && j.aborts() {
		w.abort[j.id] = true
	}
}

func (w *world) created(j *modelJob, f muster.Fact) {
	now := w.clock()
	e := &modelExecution{job: j, thing: f.Thing, number: f.Number, status: f.To, version: f.Version, seq: w.tick(), queued: now, updated: now}
	old := j.latest(f.Thing)
	if f.To != muster.Queued || f.Version != 1 || f.Number != j.last[f.Thing]+1 {
		w.problem("%s %s: a new execution is %+v after number %d", f.Thing, f.Job, f, j.last[f.Thing])
	}
	if old != nil && old.pending() {
		w.problem("%s has two executions of %s", f.Thing, f.Job)
	}
	retried := w.owed
	if retried != nil {
		w.owed = nil
		if retried.job != j || retried.thing != f.Thing {
			w.problem("%s#%d of %s ended with retries left, and %s of %s got an execution", retried.job.id, retried.number, retried.thing, f.Job, f.Thing)
		}
		e.failed, e.expired = retried.failed, retried.expired
		if retried.status == muster.Failed {
			e.failed++
		} else {
			e.expired++
		}
	} else {
		if !w.lacks(j, f.Thing) {
			w.problem("%s got an execution of %s (%s, ended %d) that it should not have", f.Thing, f.Job, j.status, j.endReached)
		}
		if w.act != "join" {
			w.paced(j, now)
			if !j.open(now) || j.endAt != 0 && now >= j.endAt {
				w.problem("the rollout of %s went on outside its schedule", f.Job)
			}
		}
	}
	j.attempts[f.Thing] = append(j.attempts[f.Thing], e)
	j.last[f.Thing] = f.Number
	if retried != nil {
		w.considerAbort(j, muster.Fact{To: retried.status})
	}
}

// paced: no 60 seconds see more executions than the largest rate in force in them allows.
func (w *world) paced(j *modelJob, now muster.Time) {
	j.made = append(j.made, now)
	n := 0
	for _, t := range j.made {
		if t > now-60_000 {
			n++
		}
	}
	most := 0.0
	for i, r := range j.rates {
		if r.at > now-60_000 || i+1 == len(j.rates) || j.rates[i+1].at > now-60_000 {
			if r.rate == 0 {
				return
			}
			most = max(most, r.rate)
		}
	}
	if float64(n) > most+1e-6 {
		w.problem("job %s: %d executions within 60 s, at most %v were allowed: %v", j.id, n, most, j.made)
	}
}

// paceOf notes the rate that is in force from now on.
func (w *world) paceOf(j *modelJob) {
	rate := 0.0
	if r := j.rollout; r != nil && (r.MaximumPerMinute > 0 || r.Exponential != nil) {
		rate = 1000
		if r.MaximumPerMinute > 0 {
			rate = float64(r.MaximumPerMinute)
		}
		if x := r.Exponential; x != nil {
			reached := int64(0)
			notified := int64(0)
			t := j.tally()
			for _, n := range t {
				notified += n
			}
			if x.Notified > 0 {
				reached = notified / x.Notified
			} else {
				reached = t[muster.Succeeded] / x.Succeeded
			}
			rate = min(rate, float64(x.BasePerMinute)*math.Pow(x.Factor, float64(reached)))
		}
	}
	j.rates = append(j.rates, rateAt{w.clock(), rate})
}

func (w *world) deleted(j *modelJob, e *modelExecution) {
	x := w.expect
	byAct := x != nil && x.thing == e.thing && x.job == j.id && x.number == e.number && x.to == muster.NoStatus
	if byAct {
		w.expect = nil
	} else if j.status != muster.JobDeleting {
		w.problem("%s %s#%d was deleted by nobody", e.thing, j.id, e.number)
	}
	j.maimed[e.thing] = true
	j.attempts[e.thing] = slices.DeleteFunc(j.attempts[e.thing], func(o *modelExecution) bool { return o == e })
}

func (w *world) changed(j *modelJob, e *modelExecution, f muster.Fact) {
	now := w.clock()
	before := *e
	if x := w.expect; x != nil && x.thing == e.thing && x.job == j.id && x.number == e.number && x.to == f.To {
		w.expect = nil
		if f.Version != x.version {
			w.problem("%s %s#%d has version %d, should have %d", e.thing, j.id, e.number, f.Version, x.version)
		}
		e.status, e.version, e.updated = f.To, f.Version, now
		if f.Version == before.version {
			e.updated = before.updated
		}
		x.apply(e)
	} else {
		if f.Version != e.version+1 {
			w.problem("%s %s#%d went from version %d to %d", e.thing, j.id, e.number, e.version, f.Version)
		}
		e.updated = now
		w.justify(j, e, f, now)
		e.status, e.version = f.To, f.Version
	}
	if before.status.Terminal() {
		w.problem("%s %s#%d was %s and is now %s", e.thing, j.id, e.number, before.status, f.To)
	}
	if seen, _ := before.seen(); seen.Terminal() && f.To != seen {
		w.problem("%s %s#%d was seen as %s and is now %s", e.thing, j.id, e.number, seen, f.To)
	}
	if e.forced != f.Forced {
		w.problem("%s %s#%d: forced is %v", e.thing, j.id, e.number, f.Forced)
	}
	if f.To.Terminal() {
		e.timeout, e.step = 0, 0
		if w.again(e, f.To) {
			w.owed = e
		}
	}
}

// justify asks why an execution changed that no act named.
func (w *world) justify(j *modelJob, e *modelExecution, f muster.Fact, now muster.Time) {
	switch f.To {
	case muster.TimedOut:
		due := e.deadline()
		if f.From != muster.InProgress || due == 0 || now < due || now != due && now != w.jumpedTo {
			w.problem("%s %s#%d timed out at %d, its deadline is %d", e.thing, j.id, e.number, now, due)
		}
	case muster.Canceled:
		if !j.takes(f.From) {
			w.problem("%s %s#%d was canceled, but job %s is %s", e.thing, j.id, e.number, j.id, j.status)
		}
		e.updated = max(j.ended, j.endReached)
		e.forced = j.forced || j.status != muster.JobCanceled && j.behavior == "FORCE_CANCEL"
	case muster.Removed:
		if _, ok := w.target(j, e.thing); ok || !j.continuous && w.things[e.thing] != 0 {
			w.problem("%s %s#%d was removed, but its thing is a target", e.thing, j.id, e.number)
		}
	default:
		w.problem("%s %s#%d went from %s to %s by itself", e.thing, j.id, e.number, f.From, f.To)
	}
}

func (e *modelExecution) deadline() muster.Time {
	switch {
	case e.status != muster.InProgress:
		return 0
	case e.timeout == 0 || e.step != 0 && e.step < e.timeout:
		return e.step
	}
	return e.timeout
}

// job follows a job's row.
func (w *world) job(f muster.Fact) {
	id := muster.JobID(f.Name)
	j := w.jobs[id]
	if j == nil {
		w.problem("a fact about job %s, which there is not", id)
		return
	}
	now := w.clock()
	if f.After == "" {
		for _, e := range j.all() {
			if e.pending() {
				w.problem("job %s went away with %s#%d of %s pending", id, id, e.number, e.thing)
			}
		}
		if j.status != muster.JobDeleting {
			w.problem("job %s was %s and went away", id, j.status)
		}
		delete(w.jobs, id)
		return
	}
	var is muster.Job
	if err := json.Unmarshal([]byte(f.After), &is); err != nil {
		w.problem("job %s: %v", id, err)
		return
	}
	if is.EndReached != 0 && j.endReached == 0 {
		if j.endAt == 0 || now < j.endAt || now != j.endAt && now != w.jumpedTo || is.EndReached != now {
			w.problem("job %s ended at %d, its endTime is %d", id, now, j.endAt)
		}
		j.endReached = now
	}
	if is.Status != j.status {
		w.turned(j, is, now)
	}
	if is.ForceCanceled != j.forced {
		w.problem("job %s: forceCanceled is %v", id, is.ForceCanceled)
	}
}

// turned asks why a job changed its status without anybody asking for it.
func (w *world) turned(j *modelJob, is muster.Job, now muster.Time) {
	ok := false
	switch was := j.status; is.Status {
	case muster.JobCanceled:
		// Met by what ended just now, or long since by criteria that UpdateJob brought.
		ok = w.abort[j.id] || j.active() && j.endReached == 0 && j.aborts()
		ok = ok && is.ReasonCode == "ABORT_CRITERIA_MET"
		delete(w.abort, j.id)
		j.ended, j.over = now, now
	case muster.JobCompleted:
		ok = w.finished(j)
		j.over = now
	case muster.JobInProgress:
		ok = was == muster.JobScheduled && j.open(now)
	case muster.JobScheduled:
		ok = was == muster.JobInProgress && !j.open(now)
	case muster.JobDeleting:
		ok = !j.active() && j.over != 0 && now >= j.over.Add(stormRetention)
	}
	if !ok {
		w.problem("job %s turned from %s to %s at %d: %v", j.id, j.status, is.Status, now, j.counts())
	}
	j.status = is.Status
}
