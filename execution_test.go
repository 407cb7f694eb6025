package muster

import (
	"errors"
	"math/rand"
	"slices"
	"testing"
	"time"
)

func TestStatusNames(t *testing.T) {
	for s := Queued; s < NumStatus; s++ {
		if got, ok := ParseStatus(s.String()); !ok || got != s {
			t.Errorf("%v is read as %v, %v", s, got, ok)
		}
		if s.Terminal() != (s != Queued && s != InProgress) {
			t.Errorf("%v is terminal: %v", s, s.Terminal())
		}
	}
	if got, ok := ParseStatus("SUCCESS"); !ok || got != Succeeded {
		t.Errorf("SUCCESS is read as %v, %v", got, ok)
	}
	for _, s := range []string{"", "queued", "Failed", "FAILURE", "?", " QUEUED"} {
		if got, ok := ParseStatus(s); ok {
			t.Errorf("%q is read as %v", s, got)
		}
	}
	if NumStatus.String() != "?" || NoStatus.Terminal() {
		t.Error("what is no status has a name or is terminal")
	}
}

func TestReportCheck(t *testing.T) {
	details := func(n int) *Pairs { p := manyPairs(n); return &p }
	step := func(minutes int64) StepTimer { return StepTimer{Set: true, Minutes: minutes} }
	for _, c := range []struct {
		name   string
		report Report
		want   string
	}{
		{"progress", Report{Status: InProgress}, ""},
		{"ten details", Report{Status: InProgress, Details: details(10)}, ""},
		{"eleven details", Report{Status: InProgress, Details: details(11)}, "statusDetails has 11 pairs; at most 10 are allowed"},
		{"shortest step", Report{Status: InProgress, Step: step(1)}, ""},
		{"longest step", Report{Status: InProgress, Step: step(10080)}, ""},
		{"cancel the step timer", Report{Status: InProgress, Step: step(-1)}, ""},
		{"step of nothing", Report{Status: InProgress, Step: step(0)}, "stepTimeoutInMinutes is 0; it must be -1 or between 1 and 10080"},
		{"step of -2", Report{Status: InProgress, Step: step(-2)}, "stepTimeoutInMinutes is -2; it must be -1 or between 1 and 10080"},
		{"step of more than a week", Report{Status: Succeeded, Step: step(10081)}, "stepTimeoutInMinutes is 10081; it must be -1 or between 1 and 10080"},
		{"no status", Report{}, "1 validation error detected: Value null at 'status' failed to satisfy constraint: Member must not be null"},
		{"a status of the service", Report{Status: TimedOut}, "status TIMED_OUT is set by the service; a device may report IN_PROGRESS, SUCCEEDED, FAILED or REJECTED"},
	} {
		t.Run(c.name, func(t *testing.T) { wantInvalid(t, c.report.Check(), c.want) })
	}
}

// The picture of state-machine.md §6: 20 minutes in all from 12:00; steps of 7 at 12:05, 5 at 12:10, 9 at 12:13.
func TestStepTimerCannotOutlastTheInProgressTimer(t *testing.T) {
	at := func(minutes int) Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	e, err := NewExecution("fw", "lamp", 1, 0, 1, at(-5)).Report(Report{Status: InProgress}, 20*time.Minute, at(0))
	if err != nil {
		t.Fatal(err)
	}
	if e.Deadline() != at(20) {
		t.Errorf("deadline is %v", e.Deadline().Time())
	}
	for _, c := range []struct {
		now, step, want int
	}{{5, 7, 12}, {10, 5, 15}, {13, 9, 20}} {
		e, err = e.Report(Report{Status: InProgress, Step: StepTimer{true, int64(c.step)}}, 20*time.Minute, at(c.now))
		if err != nil || e.Deadline() != at(c.want) {
			t.Errorf("at 12:%02d the deadline is %v, %v; want 12:%d", c.now, e.Deadline().Time(), err, c.want)
		}
		if left, ok := e.SecondsLeft(at(c.now)); !ok || left != int64(c.want-c.now)*60 {
			t.Errorf("at 12:%02d %d seconds are left, %v", c.now, left, ok)
		}
	}
	if left, ok := e.SecondsLeft(at(60)); !ok || left != 0 {
		t.Errorf("long after the deadline %d seconds are left, %v", left, ok)
	}
	e, _ = e.Report(Report{Status: InProgress}, 5*time.Minute, at(14))
	if e.Deadline() != at(20) {
		t.Errorf("a report without a step, after UpdateJob, moved the deadline to %v", e.Deadline().Time())
	}
	e, _ = e.Report(Report{Status: InProgress, Step: StepTimer{true, -1}}, 0, at(15))
	if e.Deadline() != at(20) {
		t.Errorf("without a step timer the deadline is %v", e.Deadline().Time())
	}
	late, err := e.Report(Report{Status: Succeeded}, 0, at(90))
	if err != nil || late.Status != Succeeded || late.Deadline() != 0 {
		t.Errorf("a result past the deadline, before the timer fired, gives %v, %v", late.Status, err)
	}
	if _, ok := late.SecondsLeft(at(91)); ok {
		t.Error("a timer runs after the end")
	}
}

func TestNoTimerWithoutTimeout(t *testing.T) {
	e := NewExecution("fw", "lamp", 1, 0, 1, noon).Start(nil, StepTimer{}, 0, tenPast)
	if e.Deadline() != 0 {
		t.Errorf("deadline is %v", e.Deadline().Time())
	}
	e = e.Start(nil, StepTimer{true, 5}, 0, halfPast)
	if e.Deadline() != halfPast.Add(5*time.Minute) || e.Version != 2 {
		t.Errorf("deadline is %v at version %d", e.Deadline().Time(), e.Version)
	}
}

func TestVersionsOfATypicalRun(t *testing.T) { // state-machine.md §3: 1 queued, 2 in progress, 3 succeeded
	e := NewExecution("fw", "lamp", 1, 0, 1, noon)
	started := e.Start(nil, StepTimer{}, 0, tenPast)
	two := int64(2)
	done, err := started.Report(Report{Status: Succeeded, ExpectedVersion: &two}, 0, halfPast)
	if err != nil || e.Version != 1 || started.Version != 2 || done.Version != 3 {
		t.Errorf("versions are %d, %d, %d; %v", e.Version, started.Version, done.Version, err)
	}
	if done.QueuedAt != noon || done.StartedAt != tenPast || done.UpdatedAt != halfPast {
		t.Errorf("times are %v, %v, %v", done.QueuedAt.Time(), done.StartedAt.Time(), done.UpdatedAt.Time())
	}
}

// A world is a thing and all executions it ever had, under random acts. It is checked after each.
type world struct {
	t      *testing.T
	now    Time
	seq    uint64
	all    map[[2]int64]Execution // by job and number
	queue  Queue
	counts map[JobID]*Counts
}

func (w *world) keep(before, after Execution) {
	t := w.t
	switch {
	case before.Status == NoStatus:
		if after.Version != 1 || after.Status != Queued {
			t.Fatalf("begins as %+v", after)
		}
	case after.Status == NoStatus:
	case before == after:
		return
	case before.Status.Terminal():
		t.Fatalf("%+v had ended and became %+v", before, after)
	case after.Version != before.Version+1 && (after.Version != before.Version || after.Status != before.Status || after.UpdatedAt != before.UpdatedAt):
		t.Fatalf("%+v became %+v", before, after)
	case after.Status == Queued || before.Status == InProgress && after.StartedAt != before.StartedAt:
		t.Fatalf("%+v began again as %+v", before, after)
	case after.Status != InProgress && (after.InProgressTimeout != 0 || after.StepTimeout != 0):
		t.Fatalf("a timer runs for %+v", after)
	case before.Status == InProgress && after.Status == InProgress && after.InProgressTimeout != before.InProgressTimeout:
		t.Fatalf("the in-progress timer moved: %+v became %+v", before, after)
	}
	change := Change{Before: before, After: after}
	e := *change.Execution()
	old := slices.Clone(w.queue.Executions)
	next := w.queue.With(change)
	if !slices.Equal(old, w.queue.Executions) {
		t.Fatal("With changed the queue it was called on")
	}
	w.queue = next
	if w.counts[e.Job] == nil {
		w.counts[e.Job] = &Counts{}
	}
	w.counts[e.Job].Add(change)
	key := [2]int64{int64(e.Job[0]), e.Number}
	if after.Status == NoStatus {
		delete(w.all, key)
	} else {
		w.all[key] = after
	}
	w.check()
}

func (w *world) check() {
	recount := map[JobID]*Counts{}
	pending := 0
	for _, e := range w.all {
		if recount[e.Job] == nil {
			recount[e.Job] = &Counts{}
		}
		recount[e.Job][e.Status]++
		if !e.Status.Terminal() {
			pending++
			if i := slices.Index(w.queue.Executions, e); i < 0 {
				w.t.Fatalf("%+v is not in the queue", e)
			}
		}
	}
	if len(w.queue.Executions) != pending {
		w.t.Fatalf("the queue has %d executions; %d are pending", len(w.queue.Executions), pending)
	}
	for i := 1; i < pending; i++ {
		if !Before(w.queue.Executions[i-1], w.queue.Executions[i]) {
			w.t.Fatalf("the queue is out of order: %+v", w.queue.Executions)
		}
	}
	for job, counts := range w.counts {
		want := Counts{}
		if recount[job] != nil {
			want = *recount[job]
		}
		if *counts != want {
			w.t.Fatalf("counts of %s are %v; a recount gives %v", job, *counts, want)
		}
	}
}

// Version only grows, what is terminal is final, refusals change nothing, counts equal a recount, the
// queue is what is pending in its order: over any acts.
func FuzzExecution(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 4, 3, 0, 1, 9})
	f.Add([]byte("0a1b2c3d4e5f6g7h8i9j0a1b2c3d4e5f6g7h8i9j"))
	f.Add([]byte{0, 1, 1, 0, 2, 1, 1, 0, 4, 2, 2, 0, 0, 5, 1, 0, 3, 0, 2, 6, 0, 0, 0, 0, 1, 7, 1, 255, 8})
	r := rand.New(rand.NewSource(3)) // so that go test alone sees random acts, too
	for range 200 {
		acts := make([]byte, 40+r.Intn(400))
		r.Read(acts)
		f.Add(acts)
	}
	f.Fuzz(func(t *testing.T, acts []byte) {
		w := &world{t: t, now: noon, all: map[[2]int64]Execution{}, counts: map[JobID]*Counts{}}
		next := func() byte {
			if len(acts) == 0 {
				return 0
			}
			b := acts[0]
			acts = acts[1:]
			return b
		}
		pick := func() (Execution, bool) {
			keys := make([][2]int64, 0, len(w.all))
			for k := range w.all {
				keys = append(keys, k)
			}
			slices.SortFunc(keys, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
			if len(keys) == 0 {
				return Execution{}, false
			}
			return w.all[keys[int(next())%len(keys)]], true
		}
		number := int64(0)
		for steps := 0; len(acts) > 0 && steps < 200; steps++ {
			w.now += Time(next()) * 1000
			act := next() % 8
			if act == 0 {
				w.seq++
				number++
				w.keep(Execution{}, NewExecution(JobID("abc"[next()%3:][:1]), "lamp", number, 0, w.seq, w.now))
				continue
			}
			e, ok := pick()
			if !ok {
				continue
			}
			var after Execution
			var err error
			switch act {
			case 1, 2:
				r := Report{Status: Status(next() % byte(NumStatus)), Step: StepTimer{next()%2 == 0, int64(next()) - 1}}
				if b := next(); b%3 == 0 {
					v := int64(b) % 5
					r.ExpectedVersion = &v
				} else if b%3 == 1 {
					d := manyPairs(int(b) % 12)
					r.Details = &d
				}
				if r.Check() != nil {
					continue
				}
				after, err = e.Report(r, time.Duration(next())*time.Minute, w.now)
				if err == nil && r.Status == InProgress && r.Step.Set && r.Step.Minutes > 0 && after.StepTimeout != w.now.Add(Minutes(r.Step.Minutes)) {
					t.Fatalf("step timer of %+v", after)
				}
			case 3:
				first, ok := w.queue.Next(func(Execution) bool { return true })
				if !ok {
					continue
				}
				e, after = first, first.Start(nil, StepTimer{next()%2 == 0, 5}, time.Hour, w.now)
			case 4:
				after, err = e.Cancel(next()%2 == 0, w.now)
			case 5:
				if e.Status.Terminal() {
					continue
				}
				after = e.Remove(w.now)
			case 6:
				if e.Deadline() == 0 {
					continue
				}
				after = e.Expire(w.now)
			case 7:
				after = Execution{} // deleted
			}
			if err != nil {
				var told *Error
				if after != e || !errors.As(err, &told) || told.Execution == nil || *told.Execution != e {
					t.Fatalf("refused with %v, but %+v became %+v", err, e, after)
				}
				continue
			}
			w.keep(e, after)
		}
	})
}
