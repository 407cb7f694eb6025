package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"muster"
)

var groupNames = []muster.GroupName{"site", "hall", "room", "yard", "dock"}

var parents = map[muster.GroupName]muster.GroupName{"hall": "site", "room": "hall"}

func (h *weather) populate() {
	for _, g := range groupNames {
		h.makeGroup(g)
	}
	for range 3 + h.random.IntN(6) {
		h.createThing()
	}
}

func (h *weather) makeGroup(g muster.GroupName) {
	h.note("group %s", g)
	want := accepted
	switch _, there := h.parent[g]; {
	case there:
	case parents[g] != "" && !h.thereIs(parents[g]):
		want = muster.Invalid
	default:
		h.parent[g] = parents[g]
	}
	h.do(want, nil, func(ctx context.Context) error {
		_, err := h.engine.CreateGroup(ctx, muster.Group{Name: g, Parent: parents[g]}, "")
		return err
	})
}

func (h *weather) thereIs(g muster.GroupName) bool { _, ok := h.parent[g]; return ok }

func (h *weather) createGroup() { h.makeGroup(pick(h, groupNames)) }

func (h *weather) deleteGroup() {
	g := h.group()
	h.note("delete-group %s", g)
	want := accepted
	for child, parent := range h.parent {
		if parent == g && child != g && h.thereIs(g) {
			want = muster.Invalid
		}
	}
	if want == accepted {
		for thing := range h.members {
			if h.members[thing][g] != 0 {
				changed := h.moves(thing)
				delete(h.members[thing], g)
				changed()
			}
		}
		// The lineage of what it held is gone once it is.
		delete(h.parent, g)
		h.tick()
	}
	h.do(want, nil, func(ctx context.Context) error { return h.engine.DeleteGroup(ctx, g, nil) })
}

func (h *weather) createThing() {
	h.made++
	n := muster.ThingName(fmt.Sprintf("t%02d", h.made))
	if h.made > 4 && h.chance(20) {
		n = muster.ThingName(fmt.Sprintf("t%02d", 1+h.random.IntN(h.made-1))) // perhaps one that was deleted
	}
	h.note("thing %s", n)
	if h.things[n] == 0 {
		h.things[n] = h.tick()
		h.members[n] = map[muster.GroupName]int{}
	}
	h.do(accepted, nil, func(ctx context.Context) error {
		_, err := h.engine.CreateThing(ctx, muster.Thing{Name: n})
		return err
	})
	if h.chance(70) {
		h.join(n, pick(h, groupNames), "")
	}
}

func (h *weather) deleteThing() {
	n := h.thing()
	h.note("delete-thing %s", n)
	delete(h.things, n)
	delete(h.members, n)
	h.tick()
	h.do(accepted, nil, func(ctx context.Context) error { return h.engine.DeleteThing(ctx, n, nil) })
}

// regroup lets a thing join, leave, or both at once.
func (h *weather) regroup() {
	n := h.thing()
	join, leave := h.group(), muster.GroupName("")
	if h.chance(60) {
		leave = pick(h, groupNames)
		for _, g := range groupNames {
			if h.members[n][g] != 0 && h.chance(60) {
				leave = g
			}
		}
	}
	if leave != "" && h.chance(50) {
		join = ""
	}
	h.join(n, join, leave)
}

func (h *weather) join(n muster.ThingName, join, leave muster.GroupName) {
	h.note("thing %s joins %q leaves %q", n, join, leave)
	var add, removed []muster.GroupName
	want, fresh := accepted, false
	if h.things[n] == 0 {
		want = muster.NotFound
	}
	if join != "" {
		add = append(add, join)
	}
	if leave != "" {
		removed = append(removed, leave)
	}
	for _, g := range slices.Concat(add, removed) {
		if !h.thereIs(g) {
			want = muster.NotFound
		}
	}
	if want == accepted && join != "" && h.members[n][join] == 0 {
		for g := range h.members[n] {
			if g != leave && h.root(g) == h.root(join) {
				want = muster.Invalid
			}
		}
	}
	if want == accepted {
		changed := h.moves(n)
		if leave != join {
			delete(h.members[n], leave)
		}
		if join != "" && h.members[n][join] == 0 {
			h.members[n][join] = h.tick()
			fresh = true
		}
		changed()
	}
	h.act = "join"
	h.do(want, nil, func(ctx context.Context) error { return h.engine.UpdateGroupsOfThing(ctx, n, add, removed) })
	// A thing that joins does not wait for a rate, nor for the loop.
	for _, id := range h.ids {
		if j := h.jobs[id]; j != nil && j.continuous && fresh && h.concerns(j, join) && h.must(j, n) {
			h.problem("%s joined %s and got no execution of %s", n, join, id)
		}
	}
}

// moves notes for which jobs a thing stays a target while its groups change. The function it returns is
// called when they have.
func (h *weather) moves(n muster.ThingName) func() {
	was := map[*modelJob]bool{}
	for _, j := range h.jobs {
		_, was[j] = h.target(j, n)
	}
	return func() {
		for j := range was {
			_, is := h.target(j, n)
			e := j.latest(n) // pending: the job did not look while the thing was no target
			j.moved[n] = is && (was[j] || j.moved[n] || e != nil && e.pending())
		}
	}
}

// concerns says whether a job has a group or one above it as a target.
func (h *weather) concerns(j *modelJob, g muster.GroupName) bool {
	for ; g != ""; g = h.parent[g] {
		if slices.Contains(j.targets, muster.Target{Group: g}) {
			return true
		}
	}
	return false
}

func (h *weather) report() {
	thing, id := h.thing(), h.job()
	if all := h.visible(thing); len(all) > 0 && h.chance(80) {
		id = pick(h, all).job.id
	}
	r := muster.Report{Status: pick(h, []muster.Status{muster.InProgress, muster.InProgress, muster.InProgress, muster.Succeeded, muster.Succeeded,
		muster.Failed, muster.Failed, muster.Failed, muster.Rejected, muster.Queued, muster.TimedOut})}
	if r.Status == muster.TimedOut && h.chance(50) {
		r.Status = muster.Failed
	}
	r.Step, r.Details = h.stepTimer(), h.details()
	e := h.find(thing, id, 0)
	if h.chance(10) {
		r.Number = 1 + h.random.Int64N(3)
		e = h.find(thing, id, r.Number)
	}
	if h.chance(30) {
		v := h.random.Int64N(4)
		if e != nil && h.chance(70) {
			_, v = e.seen()
		}
		r.ExpectedVersion = &v
	}
	h.note("report %s %s %s number=%d step=%v", thing, id, r.Status, r.Number, r.Step)
	var x *expectation
	want := h.judge(thing, e, r)
	if want == accepted {
		x = &expectation{thing, id, e.number, r.Status, e.version + 1, func(e *modelExecution) {
			if r.Details != nil {
				e.details = *r.Details
			}
			if r.Status == muster.InProgress {
				h.begin(e)
				h.step2(e, r.Step)
			}
		}}
	}
	h.do(want, x, func(ctx context.Context) error {
		_, err := h.engine.Report(ctx, thing, id, r)
		return err
	})
}

// judge says how a report is answered.
func (h *weather) judge(thing muster.ThingName, e *modelExecution, r muster.Report) muster.Kind {
	if r.Status == muster.TimedOut {
		return muster.Invalid
	}
	if h.things[thing] == 0 || e == nil {
		return muster.NotFound
	}
	status, version := e.seen()
	switch {
	case r.ExpectedVersion != nil && *r.ExpectedVersion != version:
		return muster.VersionMismatch
	case status.Terminal() || r.Status == muster.Queued:
		return muster.InvalidTransition
	case status == muster.Queued && e.job.status == muster.JobScheduled:
		return muster.InvalidTransition
	}
	return accepted
}

// begin starts an execution that was queued.
func (h *weather) begin(e *modelExecution) {
	if e.started != 0 {
		return
	}
	e.started = h.clock()
	if e.job.timeout > 0 {
		e.timeout = h.clock().Add(e.job.timeout)
	}
}

func (h *weather) step2(e *modelExecution, s muster.StepTimer) {
	switch {
	case !s.Set:
	case s.Minutes == -1:
		e.step = 0
	default:
		e.step = h.clock().Add(time.Duration(s.Minutes) * time.Minute)
	}
}

func (h *weather) stepTimer() muster.StepTimer {
	switch h.random.IntN(10) {
	case 0:
		return muster.StepTimer{Set: true, Minutes: -1}
	case 1, 2:
		return muster.StepTimer{Set: true, Minutes: 1 + h.random.Int64N(20)}
	}
	return muster.StepTimer{}
}

func (h *weather) details() *muster.Pairs {
	switch h.random.IntN(6) {
	case 0:
		p := muster.MakePairs("percent", fmt.Sprint(h.random.IntN(100)))
		return &p
	case 1:
		return new(muster.Pairs)
	}
	return nil
}

func (h *weather) startNext() {
	thing := h.thing()
	s := Start{Step: h.stepTimer(), Details: h.details()}
	h.note("start-next %s step=%v", thing, s.Step)
	want := accepted
	if h.things[thing] == 0 {
		want = muster.NotFound
	}
	all := h.visible(thing)
	var x *expectation
	if len(all) > 0 {
		first := *all[0]
		first.job, first.version = all[0].job, first.version+1
		fresh := first.status == muster.Queued
		if !fresh {
			first.version--
		}
		change := func(e *modelExecution) {
			if fresh {
				if s.Details != nil {
					e.details = *s.Details
				}
				h.begin(e)
			}
			h.step2(e, s.Step)
		}
		was := first.step
		change(&first)
		if fresh || first.step != was {
			x = &expectation{thing, first.job.id, first.number, muster.InProgress, first.version, change}
		}
	}
	h.do(want, x, func(ctx context.Context) error {
		e, ok, err := h.engine.StartNext(ctx, thing, s)
		if err == nil && ok != (len(all) > 0) || ok && (e.Job != all[0].job.id || e.Number != all[0].number) {
			h.problem("the next of %s is %s#%d (%v), should be %v", thing, e.Job, e.Number, ok, names(all))
		}
		return err
	})
}

// looks asks without changing anything.
func (h *weather) looks() {
	ctx := context.Background()
	thing, id := h.thing(), h.job()
	h.note("look at %s and %s", thing, id)
	all := h.visible(thing)
	if pending, err := h.engine.Pending(ctx, thing); err == nil {
		var got []name
		for _, e := range pending {
			got = append(got, name{e.Job, e.Number})
		}
		if !slices.Equal(got, names(all)) {
			h.problem("%s is shown %v, should be %v", thing, got, names(all))
		}
	}
	e := h.find(thing, id, 0)
	want := muster.NotFound
	if h.things[thing] != 0 && e != nil {
		want = accepted
		if s, _ := e.seen(); s.Terminal() {
			want = muster.Terminal
		}
	}
	h.do(want, nil, func(ctx context.Context) error {
		_, err := h.engine.DescribeForDevice(ctx, thing, id, 0)
		return err
	})
	if e == nil {
		return
	}
	status, version := e.seen()
	if got, err := h.engine.DescribeExecution(ctx, thing, id, 0); err != nil || got.Status != status || got.Version != version {
		h.problem("%s %s is described as %s v%d (%v), should be %s v%d", thing, id, got.Status, got.Version, err, status, version)
	}
}

func (h *weather) cancelExecution() {
	thing, id, force := h.thing(), h.job(), h.chance(40)
	e := h.find(thing, id, 0)
	var expected *int64
	if h.chance(30) {
		v := h.random.Int64N(4)
		expected = &v
	}
	details := h.details()
	h.note("cancel %s %s force=%v", thing, id, force)
	want, x := muster.NotFound, (*expectation)(nil)
	if e != nil {
		status, version := e.seen()
		switch {
		case expected != nil && *expected != version:
			want = muster.VersionMismatch
		case status.Terminal() || status == muster.InProgress && !force:
			want = muster.InvalidTransition
		default:
			want = accepted
			x = &expectation{thing, id, e.number, muster.Canceled, version + 1, func(e *modelExecution) {
				e.forced = force
				if details != nil {
					e.details = *details
				}
			}}
		}
	}
	h.do(want, x, func(ctx context.Context) error {
		return h.engine.CancelExecution(ctx, thing, id, force, expected, details)
	})
}

func (h *weather) deleteExecution() {
	thing, id, force := h.thing(), h.job(), h.chance(50)
	number := int64(1 + h.random.IntN(2))
	e := h.find(thing, id, number)
	if e != nil && e.pending() && h.chance(60) {
		return // deleting everything leaves nothing to look at
	}
	h.note("delete %s %s#%d force=%v", thing, id, number, force)
	want, x := muster.NotFound, (*expectation)(nil)
	if e != nil {
		want = muster.InvalidTransition
		if s, _ := e.seen(); s.Terminal() || force {
			want, x = accepted, &expectation{thing: thing, job: id, number: number}
		}
	}
	h.do(want, x, func(ctx context.Context) error { return h.engine.DeleteExecution(ctx, thing, id, number, force) })
}
