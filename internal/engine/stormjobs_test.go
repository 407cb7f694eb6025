package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
)

func (h *weather) createJob() {
	active := 0
	for _, j := range h.jobs {
		if j.active() {
			active++
		}
	}
	if active > 6 {
		return // a device is shown at most ten
	}
	h.made++
	document := `{"operation":"test"}`
	n := NewJob{ID: muster.JobID(fmt.Sprintf("j%02d", h.made)), Document: &document}
	j := &modelJob{id: n.ID, status: muster.JobInProgress, last: map[muster.ThingName]int64{}, moved: map[muster.ThingName]bool{}, maimed: map[muster.ThingName]bool{}, attempts: map[muster.ThingName][]*modelExecution{}, seq: h.tick()}
	if len(h.ids) > 0 && h.chance(10) {
		n.ID = h.job() // perhaps one that was deleted
		j.id = n.ID
	}
	want := accepted
	if h.jobs[n.ID] != nil {
		want = muster.AlreadyExists
	}
	for range 1 + h.random.IntN(3) {
		t := muster.Target{Group: h.group()}
		if h.chance(40) {
			t = muster.Target{Thing: h.thing()}
		}
		if (t.Group != "" && !h.thereIs(t.Group) || t.Group == "" && h.things[t.Thing] == 0) && want == accepted {
			want = muster.NotFound
		}
		if !slices.Contains(n.Targets, t) {
			n.Targets = append(n.Targets, t)
		}
	}
	j.targets = n.Targets
	if h.chance(55) {
		n.Selection, j.continuous = muster.Continuous, true
	}
	n.Settings = h.settings(45)
	j.take(n.Settings)
	h.schedule(&n, j)
	h.note("job %s targets=%v continuous=%v %s scheduling=%+v", n.ID, n.Targets, j.continuous, tellSettings(n.Settings), n.Scheduling)
	if want == accepted {
		h.jobs[j.id] = j
		h.paceOf(j)
		if !slices.Contains(h.ids, j.id) {
			h.ids = append(h.ids, j.id)
		}
	}
	h.do(want, nil, func(ctx context.Context) error {
		_, err := h.engine.CreateJob(ctx, n)
		return err
	})
}

func tellSettings(s muster.Settings) string {
	var all []string
	if r := s.Rollout; r != nil {
		all = append(all, fmt.Sprintf("max=%d exponential=%+v", r.MaximumPerMinute, r.Exponential))
	}
	if s.Timeout != nil {
		all = append(all, fmt.Sprint("timeout=", s.Timeout.InProgress))
	}
	return strings.Join(append(all, fmt.Sprintf("retry=%v abort=%v", s.Retry, s.Abort)), " ")
}

// schedule gives some jobs a start, an end or windows.
func (h *weather) schedule(n *NewJob, j *modelJob) {
	in := &SchedulingInput{}
	now := h.manual.Now()
	second := func(t muster.Time) muster.Time { return (t/1000 + 1) * 1000 }
	from := now
	if h.chance(15) {
		j.startAt = second(now.Add(30*time.Minute + time.Duration(h.random.IntN(180))*time.Minute))
		in.Start, from = j.startAt.Time().Format(time.RFC3339), j.startAt
		j.status = muster.JobScheduled
	}
	if h.chance(25) {
		j.endAt = second(from.Add(30*time.Minute + time.Duration(h.random.IntN(600))*time.Minute))
		in.End = j.endAt.Time().Format(time.RFC3339)
		j.behavior = "STOP_ROLLOUT"
		if in.EndBehavior = pick(h, []string{"", "STOP_ROLLOUT", "CANCEL", "FORCE_CANCEL"}); in.EndBehavior != "" {
			j.behavior = in.EndBehavior
		}
	}
	if j.continuous && h.chance(30) {
		for range 1 + h.random.IntN(2) {
			d := daily{length: time.Duration(1+h.random.IntN(40)) * time.Minute}
			for range 1 + h.random.IntN(2) {
				d.minutes = append(d.minutes, h.random.IntN(60))
			}
			for hour := range 24 {
				if h.chance(70) {
					d.hours = append(d.hours, hour)
				}
			}
			if len(d.hours) > 0 {
				j.windows = append(j.windows, d)
				in.Windows = append(in.Windows, muster.Window{Start: d.cron(), Duration: d.length})
			}
		}
		if len(j.windows) > 0 {
			j.status = muster.JobScheduled
		}
	}
	if in.Start+in.End != "" || len(in.Windows) > 0 {
		n.Scheduling = in
	}
}

// settings are random, each with a chance of some percent.
func (h *weather) settings(percent int) (s muster.Settings) {
	if h.chance(percent) {
		s.Timeout = &muster.Timeout{InProgress: time.Duration(1+h.random.IntN(40)) * time.Minute}
	}
	if h.chance(percent) {
		s.Rollout = &muster.Rollout{}
		if h.chance(60) {
			s.Rollout.MaximumPerMinute = 1 + h.random.Int64N(7)
		}
		if h.chance(60) {
			s.Rollout.Exponential = &muster.ExponentialRate{BasePerMinute: 1 + h.random.Int64N(3), Factor: pick(h, []float64{1.1, 1.5, 2, 3.7, 5})}
			if h.chance(50) {
				s.Rollout.Exponential.Notified = 1 + h.random.Int64N(3)
			} else {
				s.Rollout.Exponential.Succeeded = 1 + h.random.Int64N(2)
			}
		}
	}
	if h.chance(percent) {
		switch h.random.IntN(3) {
		case 0:
			s.Retry = []muster.RetryCriterion{{FailureType: "ALL", Retries: h.random.Int64N(4)}}
		case 1:
			s.Retry = []muster.RetryCriterion{{FailureType: "FAILED", Retries: h.random.Int64N(3)}, {FailureType: "TIMED_OUT", Retries: h.random.Int64N(3)}}
		default:
			s.Retry = []muster.RetryCriterion{{FailureType: pick(h, []string{"FAILED", "TIMED_OUT"}), Retries: 1 + h.random.Int64N(3)}}
		}
	}
	if h.chance(percent * 2 / 3) {
		for range 1 + h.random.IntN(2) {
			s.Abort = append(s.Abort, muster.AbortCriterion{FailureType: pick(h, []string{"FAILED", "REJECTED", "TIMED_OUT", "ALL"}),
				Percentage: pick(h, []float64{1, 25, 33.33, 50, 66.67, 100}), MinExecuted: 1 + h.random.Int64N(3)})
		}
	}
	return s
}

// take overlays what settings give.
func (j *modelJob) take(s muster.Settings) {
	if s.Timeout != nil {
		j.timeout = s.Timeout.InProgress
	}
	if s.Rollout != nil {
		j.rollout = s.Rollout
	}
	if s.Retry != nil {
		j.retry = s.Retry
	}
	if s.Abort != nil {
		j.abort = s.Abort
	}
}

func (h *weather) updateJob() {
	id := h.job()
	s := h.settings(30)
	h.note("update-job %s %s", id, tellSettings(s))
	want := accepted
	switch j := h.jobs[id]; {
	case j == nil:
		want = muster.NotFound
	case !j.active():
		want = muster.Invalid
	default:
		j.take(s)
		h.paceOf(j)
	}
	h.do(want, nil, func(ctx context.Context) error { return h.engine.UpdateJob(ctx, id, JobPatch{Settings: s}) })
}

func (h *weather) cancelJob() {
	id, force := h.job(), h.chance(40)
	h.note("cancel-job %s force=%v", id, force)
	want := accepted
	switch j := h.jobs[id]; {
	case j == nil:
		want = muster.NotFound
	case j.active() || j.status == muster.JobCanceled && force && !j.forced:
		now := h.manual.Now()
		j.status, j.forced, j.ended, j.over = muster.JobCanceled, force, now, now
	default:
		want = muster.Invalid
	}
	h.do(want, nil, func(ctx context.Context) error {
		_, err := h.engine.CancelJob(ctx, id, force, "", "")
		return err
	})
}

func (h *weather) deleteJob() {
	id, force := h.job(), h.chance(50)
	h.note("delete-job %s force=%v", id, force)
	want := accepted
	switch j := h.jobs[id]; {
	case j == nil:
		want = muster.NotFound
	case j.status == muster.JobDeleting || j.active() && !force:
		want = muster.InvalidTransition
	default:
		j.status = muster.JobDeleting
	}
	h.do(want, nil, func(ctx context.Context) error { return h.engine.DeleteJob(ctx, id, force) })
}

func (h *weather) associate() {
	id, g := h.job(), h.group()
	h.note("associate %s %s", id, g)
	want := accepted
	t := muster.Target{Group: g}
	switch j := h.jobs[id]; {
	case j == nil:
		want = muster.NotFound
	case !j.continuous || j.status != muster.JobInProgress || j.endReached != 0:
		want = muster.Invalid
	case !h.thereIs(g):
		want = muster.NotFound
	case !slices.Contains(j.targets, t):
		j.targets = append(j.targets, t)
	}
	h.do(want, nil, func(ctx context.Context) error {
		_, err := h.engine.AssociateTargets(ctx, id, []muster.Target{t}, "")
		return err
	})
}
