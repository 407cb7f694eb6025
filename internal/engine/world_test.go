package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"muster"
)

// A world is what the storm believes: the jobs service as one would write it down who has all the time
// there is. Maps, lists that are searched from end to end, and nothing shared with the rules it checks:
// it reads the constants of package muster, never its decisions.
type world struct {
	clock    func() muster.Time
	jumpedTo muster.Time // where a jump left the clock: what was due before may happen only then
	seq      int         // of what was done or told
	things   map[muster.ThingName]int
	parent   map[muster.GroupName]muster.GroupName
	members  map[muster.ThingName]map[muster.GroupName]int // since when
	jobs     map[muster.JobID]*modelJob

	act      string          // what is being done
	expect   *expectation    // the change that it has to make
	owed     *modelExecution // this ended with budget left: the next fact is its retry
	abort    map[muster.JobID]bool
	told     map[muster.ThingName]*telling
	problems []string
}

// A telling is what the feed said of one thing since the world last stood still.
type telling struct {
	before     []name // what the device saw then
	facts      int
	keeps      int  // how many separate changes of the queue these facts were
	sets       bool // one of them made or ended an execution, or said nothing but the notice
	list, next bool
	last       muster.Fact
}

type name struct {
	Job    muster.JobID
	Number int64
}

// An expectation is a change of one execution that an act has to make.
type expectation struct {
	thing   muster.ThingName
	job     muster.JobID
	number  int64
	to      muster.Status
	version int64
	apply   func(*modelExecution)
}

type modelJob struct {
	id         muster.JobID
	status     muster.JobStatus
	forced     bool
	ended      muster.Time // when it was canceled
	endReached muster.Time
	over       muster.Time // when it was completed or canceled
	continuous bool
	targets    []muster.Target
	retry      []muster.RetryCriterion
	abort      []muster.AbortCriterion
	timeout    time.Duration
	rollout    *muster.Rollout
	startAt    muster.Time
	endAt      muster.Time
	behavior   string
	windows    []daily
	seq        int
	moved      map[muster.ThingName]bool // between groups at one moment
	maimed     map[muster.ThingName]bool // somebody deleted executions

	attempts map[muster.ThingName][]*modelExecution // oldest first
	last     map[muster.ThingName]int64             // largest number ever given
	made     []muster.Time                          // by the rollout, which the rate binds
	rates    []rateAt
}

type rateAt struct {
	at   muster.Time
	rate float64
}

// A daily window opens at some minutes of some hours of every day.
type daily struct {
	minutes, hours []int
	length         time.Duration
}

func (d daily) cron() string {
	list := func(all []int) string {
		text := ""
		for i, n := range all {
			text += map[bool]string{true: ","}[i > 0] + fmt.Sprint(n)
		}
		return text
	}
	return "cron(" + list(d.minutes) + " " + list(d.hours) + " * * ? *)"
}

type modelExecution struct {
	job             *modelJob
	thing           muster.ThingName
	number          int64
	status          muster.Status
	version         int64
	forced          bool
	seq             int
	failed, expired int // retries that were made before it, by why
	details         muster.Pairs
	queued, started muster.Time
	updated         muster.Time
	timeout, step   muster.Time
}

func newWorld(clock func() muster.Time) *world {
	return &world{clock: clock, things: map[muster.ThingName]int{}, parent: map[muster.GroupName]muster.GroupName{},
		members: map[muster.ThingName]map[muster.GroupName]int{}, jobs: map[muster.JobID]*modelJob{},
		abort: map[muster.JobID]bool{}, told: map[muster.ThingName]*telling{}}
}

func (w *world) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *world) tick() int { w.seq++; return w.seq }

func (j *modelJob) active() bool {
	return j.status == muster.JobScheduled || j.status == muster.JobInProgress
}

func (e *modelExecution) pending() bool {
	return e.status == muster.Queued || e.status == muster.InProgress
}

func (j *modelJob) latest(thing muster.ThingName) *modelExecution {
	if all := j.attempts[thing]; len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// all executions of a job, in no order.
func (j *modelJob) all() (all []*modelExecution) {
	for _, list := range j.attempts {
		all = append(all, list...)
	}
	return all
}

// seen is an execution as everybody sees it: what its job takes along has ended, also before that is stored.
func (e *modelExecution) seen() (status muster.Status, version int64) {
	if e.pending() && e.job.takes(e.status) {
		return muster.Canceled, e.version + 1
	}
	return e.status, e.version
}

func (j *modelJob) takes(s muster.Status) bool {
	switch {
	case j.status == muster.JobCanceled:
		return j.forced || s == muster.Queued
	case j.endReached != 0 && j.behavior == "FORCE_CANCEL":
		return true
	case j.endReached != 0 && j.behavior == "CANCEL":
		return s == muster.Queued
	}
	return false
}

// target says whether a thing is a target of a job, and since when. Only memberships that are as old as
// a SNAPSHOT job count for it.
func (w *world) target(j *modelJob, thing muster.ThingName) (since int, ok bool) {
	if w.things[thing] == 0 || j == nil {
		return 0, false
	}
	for _, t := range j.targets {
		if t.Thing == thing {
			return 0, true
		}
	}
	for group, joined := range w.members[thing] {
		if !j.continuous && joined > j.seq {
			continue
		}
		for g := group; g != ""; g = w.parent[g] {
			for _, t := range j.targets {
				if t.Group == g && (!ok || joined < since) {
					since, ok = joined, true
				}
			}
		}
	}
	return since, ok
}

// lacks says whether the job should give the thing an execution.
func (w *world) lacks(j *modelJob, thing muster.ThingName) bool {
	since, ok := w.target(j, thing)
	if !ok || j.status != muster.JobInProgress || j.endReached != 0 {
		return false
	}
	e := j.latest(thing)
	if e == nil {
		return true
	}
	return j.continuous && !e.pending() && (e.status == muster.Removed || since > e.seq)
}

// must is lacks, without the cases in which the contract leaves open whether there is an execution:
// somebody deleted the one there was, or the thing itself and made it again; or the thing went from one
// group to another without leaving, and what is over may count as of an earlier membership or not.
func (w *world) must(j *modelJob, thing muster.ThingName) bool {
	if e := j.latest(thing); j.maimed[thing] || e != nil && e.status != muster.Removed && j.moved[thing] {
		return false
	}
	return w.lacks(j, thing) && w.things[thing] <= max(j.seq, w.joinedSince(j, thing))
}

func (w *world) joinedSince(j *modelJob, thing muster.ThingName) int {
	since, _ := w.target(j, thing)
	return since
}

func (w *world) mustReach(j *modelJob) (all []muster.ThingName) {
	for thing := range w.things {
		if w.must(j, thing) {
			all = append(all, thing)
		}
	}
	slices.Sort(all)
	return all
}

func (j *modelJob) counts() (c [muster.NumStatus]int64) {
	for _, e := range j.all() {
		c[e.status]++
	}
	return c
}

func (j *modelJob) tally() (t [muster.NumStatus]int64) {
	for _, list := range j.attempts {
		if len(list) > 0 {
			t[list[len(list)-1].status]++
		}
	}
	return t
}

// aborts says whether the tally meets a criterion.
func (j *modelJob) aborts() bool {
	t := j.tally()
	executed := t[muster.Succeeded] + t[muster.Failed] + t[muster.Rejected] + t[muster.TimedOut]
	for _, c := range j.abort {
		bad := map[string]int64{"FAILED": t[muster.Failed], "REJECTED": t[muster.Rejected], "TIMED_OUT": t[muster.TimedOut],
			"ALL": executed - t[muster.Succeeded]}[c.FailureType]
		if executed >= c.MinExecuted && float64(bad)/float64(executed)*100 >= c.Percentage-1e-9 {
			return true
		}
	}
	return false
}

// again says whether an execution that ends with a status is followed by another.
func (w *world) again(e *modelExecution, to muster.Status) bool {
	j := e.job
	if !j.active() || j.endReached != 0 {
		return false
	}
	if _, ok := w.target(j, e.thing); j.continuous && !ok {
		return false
	}
	for _, c := range j.retry {
		used := -1
		switch {
		case c.FailureType == "ALL" && (to == muster.Failed || to == muster.TimedOut):
			used = e.failed + e.expired
		case c.FailureType == "FAILED" && to == muster.Failed:
			used = e.failed
		case c.FailureType == "TIMED_OUT" && to == muster.TimedOut:
			used = e.expired
		}
		if used >= 0 && int64(used) < c.Retries {
			return true
		}
	}
	return false
}

// finished says whether nothing is left to do in a job.
func (w *world) finished(j *modelJob) bool {
	if !j.active() || j.continuous && j.endReached == 0 {
		return false
	}
	for _, e := range j.all() {
		if e.pending() {
			return false
		}
	}
	if j.endReached != 0 {
		return true
	}
	return j.status == muster.JobInProgress && len(w.mustReach(j)) == 0
}

// open says whether the schedule wants the job to be at work now.
func (j *modelJob) open(now muster.Time) bool {
	if now < j.startAt {
		return false
	}
	if len(j.windows) == 0 {
		return true
	}
	const day = 24 * time.Hour
	today := muster.At(now.Time().Truncate(day))
	for _, window := range j.windows {
		for _, midnight := range []muster.Time{today, today.Add(-day)} {
			for _, h := range window.hours {
				for _, m := range window.minutes {
					from := midnight.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
					if now >= from && now < from.Add(window.length) {
						return true
					}
				}
			}
		}
	}
	return false
}

// visible is what the device is shown, in order.
func (w *world) visible(thing muster.ThingName) (all []*modelExecution) {
	for _, j := range w.jobs {
		for _, e := range j.attempts[thing] {
			s, _ := e.seen()
			if s == muster.InProgress && j.status != muster.JobDeleting || s == muster.Queued && j.status == muster.JobInProgress {
				all = append(all, e)
			}
		}
	}
	sortQueue(all)
	return all
}

func sortQueue(all []*modelExecution) {
	rank := map[muster.Status]int{muster.InProgress: 0, muster.Queued: 1}
	slices.SortFunc(all, func(a, b *modelExecution) int {
		return cmp.Or(cmp.Compare(rank[a.status], rank[b.status]), cmp.Compare(a.queued, b.queued), cmp.Compare(a.seq, b.seq))
	})
}

// pendingOf is the stored queue.
func (w *world) pendingOf(thing muster.ThingName) (all []*modelExecution) {
	for _, j := range w.jobs {
		for _, e := range j.attempts[thing] {
			if e.pending() {
				all = append(all, e)
			}
		}
	}
	sortQueue(all)
	return all
}

func names(all []*modelExecution) (out []name) {
	for _, e := range all {
		out = append(out, name{e.job.id, e.number})
	}
	return out
}

// setOf is names without their order.
func setOf(all []name) map[name]bool {
	set := map[name]bool{}
	for _, n := range all {
		set[n] = true
	}
	return set
}

func sameSet(a, b []name) bool { return maps.Equal(setOf(a), setOf(b)) }

// find is the execution that a request means, 0 the newest.
func (w *world) find(thing muster.ThingName, job muster.JobID, number int64) *modelExecution {
	j := w.jobs[job]
	if j == nil || j.status == muster.JobDeleting {
		return nil
	}
	if number == 0 {
		return j.latest(thing)
	}
	for _, e := range j.attempts[thing] {
		if e.number == number {
			return e
		}
	}
	return nil
}

func (w *world) root(g muster.GroupName) muster.GroupName {
	for w.parent[g] != "" {
		g = w.parent[g]
	}
	return g
}
