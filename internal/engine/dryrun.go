package engine

import (
	"context"
	"math"
	"slices"
	"sort"
	"time"

	"muster"
	"muster/internal/store"
)

const (
	// maxRehearsed is how many things a dry run plays through at most: less than two seconds of work.
	maxRehearsed = 100_000
	// maxCounted is how many things it counts at most.
	maxCounted = 5_000_000
	// maxMinutes is how many minutes its curve has at most.
	maxMinutes = 10_000
	// maxSteps ends a rehearsal that would go on for ever.
	maxSteps = 20 * maxRehearsed
	// lookSlice is how many rows a look at a big job reads before it lets writers through.
	lookSlice     = 1024
	samplesShown  = 10
	dryRunID      = "dry-run"
	windowsShown  = 7
	defaultTaking = 5 * time.Minute
)

// Assume is what a dry run takes for granted of devices: each starts what it is offered at once, takes
// Duration, and succeeds in Success percent of the attempts, evenly spread; the others fail.
type Assume struct {
	Success  float64 // 0..100
	Duration time.Duration
}

// DefaultAssume is what a dry run takes for granted when nobody says otherwise.
var DefaultAssume = Assume{Success: 100, Duration: defaultTaking}

// A DryRun is what a job would come to if it were created now.
type DryRun struct {
	Job     muster.Job
	Now     muster.Time
	Assumes Assume

	Things    int64              // that the job targets, each counted once
	Samples   []muster.ThingName // some of them
	Busy      int64              // of them have queued work already, which they may do first
	Rehearsed int64              // of them took part; fewer than Things when there are too many
	More      bool               // Things is only as many as were counted

	// Waits says that too many other jobs are rolling out now for this one to begin. The rehearsal has no other jobs.
	Waits bool

	Windows  []WindowTime // the next ones
	Aborts   []AbortAt
	Earliest Outcome // if every device succeeds, in no time
	Expected Outcome // under the assumptions
	Curve    []Minute
	CurveCut bool // the curve goes on
	Moments  []Moment
}

// A WindowTime is when a maintenance window is open.
type WindowTime struct{ Opens, Closes muster.Time }

// An AbortAt says how many failures a criterion takes to abort the job.
type AbortAt struct {
	Criterion muster.AbortCriterion
	First     int64 // when every thing that executes fails
	Last      int64 // when all other things have succeeded, 0: not even if all fail
}

// An Outcome is how a rehearsal ended.
type Outcome struct {
	Status muster.JobStatus
	Held   string      // why it is held, and waits for somebody
	Why    string      // why it was aborted
	At     muster.Time // of the last change
	Ends   bool        // everything the job was to reach is over
	Counts muster.Counts
}

// A Minute is what happens within a minute of a rehearsal. Minutes of which nothing is to tell are left out.
type Minute struct {
	At       muster.Time
	Made     int64 // executions that were queued
	Ended    muster.Counts
	InFlight int64 // at its end
	Notified int64 // things that have an execution, at its end
}

// A Moment is a turn of the job itself.
type Moment struct {
	At   muster.Time
	What string
}

// DryRun tells what a job would come to if it were created now, and changes nothing. The engine's own
// rules are run on a model of the job, with a clock of its own.
func (g *Engine) DryRun(ctx context.Context, n NewJob, a Assume) (d DryRun, err error) {
	if err := a.check(); err != nil {
		return d, err
	}
	named := n.ID != ""
	if !named {
		n.ID = dryRunID
	}
	job, doc, err := g.prepareJob(ctx, n)
	if err != nil {
		return d, err
	}
	d.Job = job
	err = g.store.View(ctx, func(tx store.Reader) error {
		if named {
			if err := g.freeJob(tx, n.ID); err != nil {
				return err
			}
		}
		d.Waits = g.crowded(tx)
		return checkTargets(tx, job.Targets, "targets")
	})
	if err != nil {
		return d, err
	}
	return g.play(ctx, d, doc, a)
}

func (a Assume) check() error {
	if !(a.Success >= 0 && a.Success <= 100) || a.Duration < 0 {
		return muster.Errorf(muster.Invalid, "A dry run assumes success of 0 to 100 percent and a duration that is not negative")
	}
	return nil
}

// play rehearses the job of a dry run.
func (g *Engine) play(ctx context.Context, d DryRun, doc muster.Document, a Assume) (DryRun, error) {
	job := d.Job
	d.Assumes, d.Now = a, g.clock.Now()
	job.Created = d.Now
	m, err := g.modelOf(ctx, job, &d)
	if err != nil {
		return d, err
	}
	job.RetryOf = nil // the model has only what the job is for
	alone := New(nil, Options{Clock: g.clock, Log: g.log, Limits: g.limits})
	alone.limits.ConcurrentJobs = 0
	earliest := rehearse(ctx, alone, m.again(), job, doc, d.Now, Assume{Success: 100})
	expected := rehearse(ctx, alone, m, job, doc, d.Now, a)
	if err := ctx.Err(); err != nil {
		return d, err
	}
	d.Earliest, d.Expected = earliest.outcome(), expected.outcome()
	d.Curve, d.CurveCut, d.Moments = expected.curve, expected.cut, expected.moments
	d.Windows = windowsOf(job.Scheduling, d.Now)
	for _, c := range job.Settings.Abort {
		d.Aborts = append(d.Aborts, abortAt(c, d.Things))
	}
	return d, nil
}

// modelOf copies the things of a job's targets, some at a time so that writers need not wait.
func (g *Engine) modelOf(ctx context.Context, job muster.Job, d *DryRun) (*model, error) {
	m := newModel()
	for _, t := range job.Targets {
		if t.Group != "" {
			m.targets[t.Group] = nil
		}
	}
	job.Seq = math.MaxUint64 // every membership there is is older than the job
	c := census{}
	for !c.over(&job) && d.Things < maxCounted {
		err := g.store.View(ctx, func(tx store.Reader) error {
			_, err := c.step(tx, &job, lookSlice, func(of muster.Membership) {
				d.Things++
				if q, _ := tx.Queue(of.Thing); len(q.Executions) > 0 {
					d.Busy++
				}
				if len(d.Samples) < samplesShown {
					d.Samples = append(d.Samples, of.Thing)
				}
				if d.Rehearsed < maxRehearsed {
					d.Rehearsed++
					m.add(job.Targets[c.Target].Group, of)
				}
			})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	d.More = !c.over(&job)
	return m, nil
}

func windowsOf(s *muster.Scheduling, now muster.Time) (all []WindowTime) {
	if opened, closes, ok := s.OpenWindow(now); ok {
		all = append(all, WindowTime{opened, closes})
	}
	for _, at := range s.NextWindows(now, windowsShown) {
		if _, closes, ok := s.OpenWindow(at); ok {
			all = append(all, WindowTime{at, closes})
		}
	}
	return all
}

// abortAt asks the rule itself, number by number as far as halving allows: more failures never make an
// abort less near.
func abortAt(c muster.AbortCriterion, things int64) AbortAt {
	one := muster.Job{Settings: muster.Settings{Abort: []muster.AbortCriterion{c}}}
	status, ok := muster.ParseStatus(c.FailureType)
	if !ok {
		status = muster.Failed // ALL
	}
	aborts := func(bad, good int64) bool {
		var t muster.Tally
		t[status], t[muster.Succeeded] = bad, good
		_, met := one.Abort(t)
		return met
	}
	least := func(met func(int) bool) int64 {
		if n := sort.Search(int(things)+1, met); int64(n) <= things {
			return int64(n)
		}
		return 0
	}
	return AbortAt{Criterion: c,
		First: least(func(n int) bool { return aborts(int64(n), 0) }),
		Last:  least(func(n int) bool { return aborts(int64(n), things-int64(n)) })}
}

// A rehearsal plays a job through.
type rehearsal struct {
	*model
	assume  Assume
	began   muster.Time
	now     muster.Time
	last    muster.Time // of the last change of an execution or of the job
	why     string      // of an abort
	fresh   []int       // queued and not started
	working []attempt   // earliest end first: all take the same time
	drawn   int64

	curve   []Minute
	cut     bool
	moments []Moment
}

// An attempt is an execution that a simulated device works at.
type attempt struct {
	ends   muster.Time
	thing  int
	number int64
}

// rehearse begins the job on the model, as CreateJob does, and lets time pass as the loop does.
func rehearse(ctx context.Context, g *Engine, m *model, job muster.Job, doc muster.Document, now muster.Time, a Assume) *rehearsal {
	r := &rehearsal{model: m, assume: a, began: now, now: now, last: now}
	m.kept, m.turned = r.changed, r.turn
	g.beginJob(m, job, doc, "", now)
	for step := 0; step < maxSteps && !r.over() && ctx.Err() == nil; step++ {
		if due := m.Due(r.now, 1); len(due) > 0 {
			if _, err := g.work(m, due[0], r.now, slice); err != nil {
				break
			}
			continue
		}
		if r.act() {
			continue
		}
		next := m.NextDue()
		if len(r.working) > 0 && (next == 0 || r.working[0].ends < next) {
			next = r.working[0].ends
		}
		if next == 0 {
			break
		}
		r.now = next
	}
	return r
}

// act lets the devices do what they can at this moment: start what is offered, report what has taken its time.
func (r *rehearsal) act() (acted bool) {
	if r.job.Shows() && len(r.fresh) > 0 {
		fresh := r.fresh
		r.fresh = nil
		for _, i := range fresh {
			r.say(i, r.latest[i].Number, muster.InProgress)
			if e := &r.latest[i]; e.Status == muster.InProgress {
				r.working = append(r.working, attempt{r.now.Add(r.assume.Duration), i, e.Number})
			}
		}
		acted = true
	}
	for len(r.working) > 0 && r.working[0].ends <= r.now {
		w := r.working[0]
		r.working = r.working[1:]
		if e := &r.latest[w.thing]; e.Number == w.number && e.Status == muster.InProgress {
			r.say(w.thing, w.number, r.draw())
		}
		acted = true
	}
	return acted
}

// say is a device's report. One that is refused came too late: its execution has timed out or was canceled.
func (r *rehearsal) say(i int, number int64, status muster.Status) {
	e := &r.latest[i]
	_, _, _ = report(r.model, e.Thing, e.Job, muster.Report{Status: status, Number: number}, r.now)
}

// draw spreads the failures evenly: after any number of attempts their share is right to one.
func (r *rehearsal) draw() muster.Status {
	const whole = 1_000_000
	bad := int64(math.Round((100 - r.assume.Success) * whole / 100))
	before := r.drawn * bad / whole
	r.drawn++
	if r.drawn*bad/whole > before {
		return muster.Failed
	}
	return muster.Succeeded
}

// over reports whether nothing is to come that could be told beforehand.
func (r *rehearsal) over() bool {
	if !r.job.Status.Active() {
		return r.counts.Pending() == 0 || len(r.working) == 0 && !r.job.Sweeping
	}
	if r.job.Held != nil {
		return len(r.working) == 0
	}
	return r.reached() && r.counts.Pending() == 0
}

// reached reports whether the rollout has come to everything that it was to reach.
func (r *rehearsal) reached() bool {
	return r.job.RolledOut == len(r.job.Targets) && !r.job.Rolling
}

func (r *rehearsal) outcome() Outcome {
	o := Outcome{Status: r.job.Status, At: r.last, Counts: r.counts, Why: r.why, Ends: r.counts.Pending() == 0 && (!r.job.Status.Active() || r.reached())}
	if r.job.Held != nil && r.job.Status.Active() {
		o.Held = r.job.Held.Why
	}
	return o
}

// changed writes a change of an execution into the curve.
func (r *rehearsal) changed(c muster.Change) {
	r.last = r.now
	m := r.minute()
	switch {
	case c.Before.Status == muster.NoStatus:
		r.fresh = append(r.fresh, r.index[c.After.Thing])
		if m != nil {
			m.Made++
		}
	case c.After.Status.Terminal() && m != nil:
		m.Ended[c.After.Status]++
	}
	if m != nil {
		m.InFlight, m.Notified = r.counts.Pending(), notified(r.model, r.job.ID)
	}
}

// minute is the row of the present minute, nil when the curve has got too long.
func (r *rehearsal) minute() *Minute {
	at := r.began.Add(r.now.Sub(r.began).Truncate(time.Minute))
	if n := len(r.curve); n > 0 && r.curve[n-1].At == at {
		return &r.curve[n-1]
	}
	if len(r.curve) == maxMinutes {
		r.cut = true
		return nil
	}
	r.curve = append(r.curve, Minute{At: at})
	return &r.curve[len(r.curve)-1]
}

// turn notes what becomes of the job itself.
func (r *rehearsal) turn(was, is *muster.Job) {
	for _, what := range muster.Turns(was, is) {
		r.last = r.now
		if len(r.moments) < maxMinutes {
			r.moments = append(r.moments, Moment{r.now, what})
		}
	}
	if is.Status == muster.JobCanceled {
		r.why = is.Comment
	}
	if was != nil && is.Status != was.Status && slices.Contains([]muster.JobStatus{muster.JobCanceled, muster.JobCompleted}, is.Status) {
		r.last = r.now
	}
}
