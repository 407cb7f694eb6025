package engine

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"muster"
)

// fleet is an engine with things in a tree of groups, some of them in two, and one outside.
func fleet(t *testing.T, things int) *teller {
	h := newTeller(t)
	h.act(strings.Fields("group fleet"))
	h.act(strings.Fields("group north in=fleet"))
	h.act(strings.Fields("group south in=fleet"))
	h.act(strings.Fields("group odd"))
	var rows []ImportRow
	for i := range things {
		groups := []muster.GroupName{[]muster.GroupName{"fleet", "north", "south"}[i%3]}
		if i%2 == 1 {
			groups = append(groups, "odd")
		}
		rows = append(rows, ImportRow{Thing: &muster.Thing{Name: muster.ThingName(fmt.Sprintf("t%04d", i))}, Groups: groups})
	}
	rows = append(rows, ImportRow{Thing: &muster.Thing{Name: "alone"}})
	if _, err := h.Import(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	return h
}

// A played job is what devices that behave as a dry run assumes make of a real one.
type played struct {
	*teller
	assume  Assume
	began   muster.Time
	draws   rehearsal // for its draw alone
	fresh   []muster.ThingName
	working []playing
	curve   []Minute
	last    muster.Time
}

type playing struct {
	ends   muster.Time
	thing  muster.ThingName
	number int64
}

// read takes what the feed has into the curve.
func (p *played) read() {
	entries, err := p.store.Feed(context.Background(), p.fed, 100_000)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, entry := range entries {
		p.fed = entry.Place
		for _, f := range entry.Facts {
			if f.Kind != muster.FactExecution || f.From == f.To {
				continue
			}
			at := p.began.Add(p.clock.Now().Sub(p.began).Truncate(time.Minute))
			if n := len(p.curve); n == 0 || p.curve[n-1].At != at {
				p.curve = append(p.curve, Minute{At: at})
			}
			m := &p.curve[len(p.curve)-1]
			p.last = p.clock.Now()
			switch {
			case f.From == muster.NoStatus:
				m.Made++
				p.fresh = append(p.fresh, f.Thing)
			case f.To.Terminal():
				m.Ended[f.To]++
			}
			v, err := p.DescribeJob(context.Background(), "job")
			if err != nil {
				p.t.Fatal(err)
			}
			m.InFlight = v.Counts.Pending()
		}
	}
}

// act lets the devices do what they would do at this moment.
func (p *played) act() (acted bool) {
	ctx := context.Background()
	if v, _ := p.DescribeJob(ctx, "job"); v.Shows() && len(p.fresh) > 0 {
		fresh := p.fresh
		p.fresh = nil
		for _, name := range fresh {
			if e, ok, err := p.StartNext(ctx, name, Start{}); err == nil && ok {
				p.working = append(p.working, playing{p.clock.Now().Add(p.assume.Duration), name, e.Number})
			}
		}
		acted = true
	}
	for len(p.working) > 0 && p.working[0].ends <= p.clock.Now() {
		w := p.working[0]
		p.working = p.working[1:]
		if e, err := p.DescribeExecution(ctx, w.thing, "job", w.number); err == nil && e.Status == muster.InProgress {
			if _, err := p.Report(ctx, w.thing, "job", muster.Report{Status: p.draws.draw(), Number: w.number}); err != nil {
				p.t.Fatal(err)
			}
		}
		acted = true
	}
	p.read()
	return acted
}

// play runs the job on the real engine, under the manual clock, until nothing more happens before a moment.
func (p *played) play(n NewJob, until muster.Time) {
	ctx := context.Background()
	p.began, p.draws.assume = p.clock.Now(), p.assume
	if _, err := p.CreateJob(ctx, n); err != nil {
		p.t.Fatal(err)
	}
	for {
		next, err := p.Tick(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		p.read()
		if p.act() {
			continue
		}
		if len(p.working) > 0 && (next == 0 || p.working[0].ends < next) {
			next = p.working[0].ends
		}
		if next == 0 || next > until {
			return
		}
		if err := p.Advance(ctx, next); err != nil {
			p.t.Fatal(err)
		}
		p.read()
	}
}

// What a dry run tells is what happens, minute by minute, when the job is then created and devices do as
// was assumed.
func TestDryRunIsWhatHappens(t *testing.T) {
	all := []muster.Target{{Group: "north"}, {Group: "fleet"}, {Thing: "alone"}, {Group: "odd"}}
	tags := func(pairs ...string) muster.Pairs { return muster.MakePairs(pairs...) }
	for _, c := range []struct {
		name   string
		things int
		assume Assume
		job    NewJob
		status muster.JobStatus
		held   string
	}{
		{"at once", 1500, Assume{100, 5 * time.Minute}, NewJob{}, muster.JobCompleted, ""},
		{"constant rate", 100, Assume{100, 90 * time.Second}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 7}}}, muster.JobCompleted, ""},
		{"rate by notified", 120, Assume{100, time.Minute}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{
			Exponential: &muster.ExponentialRate{BasePerMinute: 3, Factor: 1.5, Notified: 20}}}}, muster.JobCompleted, ""},
		{"rate by succeeded", 60, Assume{90, 3 * time.Minute}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{
			Exponential: &muster.ExponentialRate{BasePerMinute: 2, Factor: 2, Succeeded: 5}}}}, muster.JobCompleted, ""},
		{"retries", 50, Assume{60, time.Minute}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 30},
			Retry: []muster.RetryCriterion{{FailureType: "FAILED", Retries: 2}}}}, muster.JobCompleted, ""},
		{"time out", 20, Assume{100, time.Hour}, NewJob{Settings: muster.Settings{Timeout: &muster.Timeout{InProgress: 30 * time.Minute},
			Retry: []muster.RetryCriterion{{FailureType: "TIMED_OUT", Retries: 1}}}}, muster.JobCompleted, ""},
		{"abort", 90, Assume{70, 2 * time.Minute}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 10},
			Abort: []muster.AbortCriterion{{FailureType: "FAILED", Percentage: 25, MinExecuted: 20}}}}, muster.JobCanceled, ""},
		{"windows", 90, Assume{100, 10 * time.Minute}, NewJob{Selection: muster.Continuous,
			Settings:   muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 1}},
			Scheduling: &SchedulingInput{Windows: []muster.Window{{Start: "cron(0 2 * * ? *)", Duration: 40 * time.Minute}}}}, muster.JobInProgress, ""},
		{"windows and retries", 30, Assume{50, 10 * time.Minute}, NewJob{Selection: muster.Continuous,
			Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 1},
				Retry: []muster.RetryCriterion{{FailureType: "ALL", Retries: 3}}},
			Scheduling: &SchedulingInput{Windows: []muster.Window{{Start: "cron(0 2 * * ? *)", Duration: 15 * time.Minute}}}}, muster.JobInProgress, ""},
		{"start and end", 200, Assume{100, 10 * time.Minute}, NewJob{
			Settings:   muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 2}},
			Scheduling: &SchedulingInput{Start: "2026-01-01 05:00", End: "2026-01-01 06:00", EndBehavior: "CANCEL"}}, muster.JobCompleted, ""},
		{"stages", 100, Assume{95, time.Minute}, NewJob{Tags: tags(muster.TagStages, "5/30m 25/2h 100", muster.TagStageMaxFailed, "20")}, muster.JobCompleted, ""},
		{"stages with a gate that holds", 100, Assume{50, time.Minute}, NewJob{Tags: tags(muster.TagStages, "5/30m 25/2h 100", muster.TagStageMaxFailed, "20"),
			Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 4}}}, muster.JobInProgress, "of things"},
		{"in flight", 50, Assume{80, 7 * time.Minute}, NewJob{Tags: tags(muster.TagMaxInFlight, "6", muster.TagQueuedTimeout, "5"),
			Settings: muster.Settings{Retry: []muster.RetryCriterion{{FailureType: "FAILED", Retries: 1}}}}, muster.JobCompleted, ""},
		{"no time", 40, Assume{75, 0}, NewJob{Settings: muster.Settings{Rollout: &muster.Rollout{MaximumPerMinute: 20}}}, muster.JobCompleted, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := fleet(t, c.things)
			ctx := t.Context()
			document := `{}`
			c.job.ID, c.job.Targets, c.job.Document = "job", all, &document
			d, err := h.DryRun(ctx, c.job, c.assume)
			if err != nil {
				t.Fatal(err)
			}
			if rows, _, err := h.ListJobs(ctx, JobFilter{}, "", Page{Limit: 10}); err != nil || len(rows) != 0 {
				t.Errorf("a dry run left jobs behind: %v %v", rows, err)
			}
			if want := int64(c.things + 1); d.Things != want || d.Rehearsed != want || len(d.Samples) != samplesShown {
				t.Errorf("%d things, %d rehearsed, %d samples; want %d", d.Things, d.Rehearsed, len(d.Samples), want)
			}
			p := &played{teller: h, assume: c.assume}
			p.play(c.job, h.clock.Now().Add(20*24*time.Hour))
			v, err := h.DescribeJob(ctx, "job")
			if err != nil {
				t.Fatal(err)
			}
			// A CONTINUOUS job goes from window to window after everything is done.
			if d.Expected.Status != c.status || v.Status != c.status && c.job.Selection != muster.Continuous {
				t.Errorf("the dry run ends as %s, the job as %s, want %s", d.Expected.Status, v.Status, c.status)
			}
			if d.Expected.Counts != v.Counts {
				t.Errorf("counts of the dry run %v, of the job %v", d.Expected.Counts, v.Counts)
			}
			p.last = max(p.last, v.Completed)
			if c.held == "" && d.Expected.At != p.last || (c.held != "") != (d.Expected.Held != "") || (v.Held != nil) != (d.Expected.Held != "") {
				t.Errorf("the dry run ends %s %q, the job %s %v", stamp(d.Expected.At), d.Expected.Held, stamp(p.last), v.Held)
			}
			if c.held != "" && v.Held.Why != d.Expected.Held {
				t.Errorf("held because %q, in the dry run because %q", v.Held.Why, d.Expected.Held)
			}
			for i := range d.Curve {
				d.Curve[i].Notified = 0 // the feed does not tell
			}
			if !reflect.DeepEqual(d.Curve, p.curve) {
				for i := range max(len(d.Curve), len(p.curve)) {
					var a, b Minute
					if i < len(d.Curve) {
						a = d.Curve[i]
					}
					if i < len(p.curve) {
						b = p.curve[i]
					}
					if a != b {
						t.Fatalf("minute %d\ndry run %s %+v\nthe job %s %+v", i, stamp(a.At), a, stamp(b.At), b)
					}
				}
			}
		})
	}
}

func TestDryRunAborts(t *testing.T) {
	h := fleet(t, 999)
	document := `{}`
	n := NewJob{Document: &document, Targets: []muster.Target{{Group: "fleet"}, {Thing: "alone"}}}
	n.Settings.Abort = []muster.AbortCriterion{{FailureType: "FAILED", Percentage: 10, MinExecuted: 50},
		{FailureType: "ALL", Percentage: 0.05, MinExecuted: 1}, {FailureType: "REJECTED", Percentage: 1, MinExecuted: 5000}}
	d, err := h.DryRun(t.Context(), n, DefaultAssume)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []AbortAt{{First: 50, Last: 100}, {First: 1, Last: 1}, {First: 0, Last: 0}} {
		if got := d.Aborts[i]; got.First != want.First || got.Last != want.Last {
			t.Errorf("criterion %d aborts at %d and %d, want %d and %d", i, got.First, got.Last, want.First, want.Last)
		}
	}
	if d.Earliest.At != d.Now || d.Expected.At != d.Now.Add(5*time.Minute) || !d.Expected.Ends {
		t.Errorf("earliest %s, expected %s", stamp(d.Earliest.At), stamp(d.Expected.At))
	}
}

func TestDryRunRefuses(t *testing.T) {
	h := fleet(t, 3)
	ctx := t.Context()
	document := `{}`
	job := NewJob{ID: "there", Document: &document, Targets: []muster.Target{{Group: "fleet"}}}
	if _, err := h.CreateJob(ctx, job); err != nil {
		t.Fatal(err)
	}
	h.act([]string{"tick"})
	for want, change := range map[string]func(*NewJob, *Assume){
		"Job there already exists":    func(n *NewJob, _ *Assume) { n.ID = "there" },
		"which does not exist":        func(n *NewJob, _ *Assume) { n.Targets = []muster.Target{{Group: "none"}} },
		"muster:stages":               func(n *NewJob, _ *Assume) { n.Tags = muster.MakePairs(muster.TagStages, "5%") },
		"0 to 100 percent":            func(_ *NewJob, a *Assume) { a.Success = 101 },
		"documentSource":              func(n *NewJob, _ *Assume) { n.Document = nil },
		"duration that is not negati": func(_ *NewJob, a *Assume) { a.Duration = -1 },
	} {
		n, a := job, DefaultAssume
		n.ID = "other"
		change(&n, &a)
		if _, err := h.DryRun(ctx, n, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	job.ID = ""
	if d, err := h.DryRun(ctx, job, DefaultAssume); err != nil || d.Busy != 3 {
		t.Errorf("%d are busy, %v", d.Busy, err)
	}
}

// BenchmarkDryRun plays as many things through as a dry run takes.
func BenchmarkDryRun(b *testing.B) {
	m := newModel()
	m.targets["fleet"] = nil
	for i := range maxRehearsed {
		m.add("fleet", muster.Membership{Thing: muster.ThingName(fmt.Sprintf("thing-%07d", i)), Seq: uint64(i)})
	}
	job := muster.Job{ID: "job", Targets: []muster.Target{{Group: "fleet"}}}
	job.Settings.Rollout = &muster.Rollout{MaximumPerMinute: 1000}
	job.Settings.Abort = []muster.AbortCriterion{{FailureType: "ALL", Percentage: 50, MinExecuted: 100}}
	g := New(nil, Options{Clock: &ManualClock{now: start}})
	for b.Loop() {
		r := rehearse(b.Context(), g, m.again(), job, muster.Document{}, start, Assume{Success: 90, Duration: time.Minute})
		if o := r.outcome(); !o.Ends || o.Counts[muster.Failed] != maxRehearsed/10 {
			b.Fatalf("%+v", o)
		}
	}
}
