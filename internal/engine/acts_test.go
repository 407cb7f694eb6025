package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/internal/store"
)

// rarely does the acts of histories that few of them need; false: there is no such act.
func (h *teller) rarely(cmd string, args []string, opts map[string]string) (known bool, err error) {
	ctx := context.Background()
	switch cmd {
	case "restart": // an orderly one
		now := h.clock.Now()
		if err := h.store.Close(); err != nil {
			h.t.Fatal(err)
		}
		h.begin(now)
	case "jump": // the clock moves and nobody is there
		d, err := time.ParseDuration(args[1])
		if err != nil {
			h.t.Fatal(err)
		}
		h.clock.set(h.clock.Now().Add(d))
	case "set-clock":
		to, err := time.Parse(time.RFC3339, args[1])
		if err != nil {
			h.t.Fatal(err)
		}
		return true, h.Advance(ctx, muster.At(to))
	case "slice": // one piece of background work, and no more
		err = h.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
			for _, d := range tx.Due(now, 1) {
				if _, err := h.work(tx, d, now, 1); err != nil {
					return err
				}
			}
			return nil
		})
	case "update-job":
		err = h.UpdateJob(ctx, muster.JobID(args[1]), JobPatch{Settings: settingsOf(opts)})
	case "template":
		document := `{"operation":"test"}`
		_, err = h.CreateTemplate(ctx, NewTemplate{Template: muster.Template{ID: muster.TemplateID(args[1]), Settings: settingsOf(opts)}, Inline: &document})
	case "template-job":
		_, err = h.CreateJob(ctx, NewJob{ID: muster.JobID(args[1]), Template: muster.TemplateID(args[2]), Targets: targets(args[3:]), Settings: settingsOf(opts)})
	case "crowd": // more targets than a job may have
		var groups []muster.Target
		for i := range *number(args[2]) {
			name := muster.GroupName("crowd-" + strconv.FormatInt(i, 10))
			if _, err := h.CreateGroup(ctx, muster.Group{Name: name}, ""); err != nil {
				return true, err
			}
			groups = append(groups, muster.Target{Group: name})
		}
		_, err = h.AssociateTargets(ctx, muster.JobID(args[1]), groups, "")
	case "left":
		var e muster.Execution
		if e, err = h.DescribeForDevice(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), 0); err == nil {
			if seconds, ok := e.SecondsLeft(h.clock.Now()); ok {
				h.say("%d seconds left", seconds)
			} else {
				h.say("no timer runs")
			}
		}
	case "show":
		number, _ := strconv.ParseInt(opts["number"], 10, 64)
		var e muster.Execution
		if e, err = h.DescribeExecution(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), number); err == nil {
			text, _ := e.Details.MarshalJSON()
			h.say("#%d %s v%d attempt=%d queued=%s details=%s", e.Number, e.Status, e.Version, e.Attempt, e.QueuedAt.Time().Format("Jan 2 15:04:05"), text)
		}
	case "progress":
		var v JobView
		if v, err = h.DescribeJob(ctx, muster.JobID(args[1])); err == nil {
			h.say("%s concurrent=%v processing=%v", v.Status, v.Concurrent(), v.Processing)
		}
	case "limit": // what the server was started with: concurrent=, active=, rate=
		var l Limits
		for name, set := range map[string]func(int64){"concurrent": func(n int64) { l.ConcurrentJobs = int(n) },
			"active": func(n int64) { l.ActiveJobs = int(n) }, "rate": func(n int64) { l.PerMinute = n }} {
			if n := number(opts[name]); n != nil {
				set(*n)
			}
		}
		h.limits = l.filled()
		err = h.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
			h.reconsider(tx, now)
			return nil
		})
	case "windows":
		var v JobView
		if v, err = h.DescribeJob(ctx, muster.JobID(args[1])); err == nil {
			for _, t := range v.Scheduling.NextWindows(v.Now, muster.ScheduledShown) {
				h.say("opens %s", t.Time().Format("Mon Jan 2 15:04"))
			}
		}
	default:
		return false, nil
	}
	return true, err
}

// settingsOf reads the settings of a job: those of rolloutOf, timeout=, retry-FAILED= and so on, and
// abort=FAILED/40/3,ALL/50/2.
func settingsOf(opts map[string]string) (s muster.Settings) {
	s.Rollout = rolloutOf(opts)
	if opts["timeout"] != "" {
		d, _ := time.ParseDuration(opts["timeout"])
		s.Timeout = &muster.Timeout{InProgress: d}
	}
	for _, failure := range []string{"FAILED", "TIMED_OUT", "ALL"} {
		if n := number(opts["retry-"+failure]); n != nil {
			s.Retry = append(s.Retry, muster.RetryCriterion{FailureType: failure, Retries: *n})
		}
	}
	for c := range strings.SplitSeq(opts["abort"], ",") {
		if failure, rest, ok := strings.Cut(c, "/"); ok {
			percent, least, _ := strings.Cut(rest, "/")
			p, _ := strconv.ParseFloat(percent, 64)
			s.Abort = append(s.Abort, muster.AbortCriterion{FailureType: failure, Percentage: p, MinExecuted: *number(least)})
		}
	}
	return s
}
