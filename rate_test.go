package muster

import "testing"

func TestPerMinute(t *testing.T) {
	exponential := &Rollout{Exponential: &ExponentialRate{BasePerMinute: 50, Factor: 2, Notified: 1000}}
	bySuccess := &Rollout{MaximumPerMinute: 120, Exponential: &ExponentialRate{BasePerMinute: 50, Factor: 1.5, Succeeded: 10}}
	for _, c := range []struct {
		name                string
		r                   *Rollout
		notified, succeeded int64
		want                float64
	}{
		{"none given", nil, 0, 0, 0},
		{"given empty", &Rollout{}, 5, 5, 0},
		{"constant", &Rollout{MaximumPerMinute: 7}, 1000, 1000, 7},
		// The documentation's example: 50, then 100 after 1000, 200 after 2000, 400 after 3000.
		{"base", exponential, 999, 0, 50},
		{"once", exponential, 1000, 0, 100},
		{"twice", exponential, 2999, 0, 200},
		{"three times", exponential, 3000, 0, 400},
		{"never above the default maximum", exponential, 1 << 40, 0, 1000},
		{"by things that succeeded", bySuccess, 1000, 9, 50},
		{"once by things that succeeded", bySuccess, 0, 10, 75},
		{"up to its maximum", bySuccess, 0, 30, 120},
	} {
		if got := c.r.PerMinute(c.notified, c.succeeded); got != c.want {
			t.Errorf("%s: %v a minute, want %v", c.name, got, c.want)
		}
	}
}

func TestAbort(t *testing.T) {
	tally := func(ok, failed, rejected, timedOut int64) (t Tally) {
		t[Succeeded], t[Failed], t[Rejected], t[TimedOut] = ok, failed, rejected, timedOut
		t[Queued], t[Canceled], t[Removed] = 100, 100, 100 // never count
		return t
	}
	for _, c := range []struct {
		name string
		list []AbortCriterion
		t    Tally
		met  bool
	}{
		{"no criteria", nil, tally(0, 100, 0, 0), false},
		{"too few executed", []AbortCriterion{{"FAILED", 10, 10}}, tally(0, 9, 0, 0), false},
		{"just enough executed", []AbortCriterion{{"FAILED", 10, 10}}, tally(9, 1, 0, 0), true},
		{"below the threshold", []AbortCriterion{{"FAILED", 10.01, 10}}, tally(9, 1, 0, 0), false},
		{"another failure", []AbortCriterion{{"REJECTED", 10, 1}}, tally(5, 5, 0, 5), false},
		{"all failures", []AbortCriterion{{"ALL", 60, 1}}, tally(4, 2, 2, 2), true},
		{"any of the list", []AbortCriterion{{"REJECTED", 100, 1}, {"TIMED_OUT", 1, 1}}, tally(99, 0, 0, 1), true},
		{"two decimals are exact", []AbortCriterion{{"FAILED", 33.33, 3}}, tally(2, 1, 0, 0), true},
	} {
		job := &Job{Settings: Settings{Abort: c.list}}
		if why, met := job.Abort(c.t); met != c.met || met == (why == "") {
			t.Errorf("%s: %v %q", c.name, met, why)
		}
	}
}

func TestRetry(t *testing.T) {
	job := &Job{Status: JobInProgress, Settings: Settings{Retry: []RetryCriterion{{"FAILED", 2}, {"TIMED_OUT", 1}}}}
	e := NewExecution("j", "t", 1, 0, 1, 0)
	var history string
	for i, status := range []Status{Failed, TimedOut, Failed, TimedOut} {
		e = e.ended(status)
		next, ok := job.Retry(e, e.Number+1, e.Seq+1, Time(i))
		history += status.String() + " "
		if !ok {
			break
		}
		if next.Attempt != e.Attempt+1 || next.Version != 1 || next.Status != Queued || next.Details != "" || next.QueuedAt != Time(i) {
			t.Errorf("after %s: %+v", history, next)
		}
		e = next
	}
	if history != "FAILED TIMED_OUT FAILED TIMED_OUT " || e.Attempt != 3 || e.TimedOutRetries != 1 {
		t.Errorf("%s gave %+v", history, e)
	}
	for _, c := range []struct {
		name   string
		status Status
		retry  []RetryCriterion
		job    JobStatus
		want   bool
	}{
		{"all, failed", Failed, []RetryCriterion{{"ALL", 1}}, JobInProgress, true},
		{"all, timed out", TimedOut, []RetryCriterion{{"ALL", 1}}, JobInProgress, true},
		{"rejected is never retried", Rejected, []RetryCriterion{{"ALL", 10}}, JobInProgress, false},
		{"removed neither", Removed, []RetryCriterion{{"ALL", 10}}, JobInProgress, false},
		{"canceled neither", Canceled, []RetryCriterion{{"ALL", 10}}, JobInProgress, false},
		{"no budget", Failed, []RetryCriterion{{"FAILED", 0}}, JobInProgress, false},
		{"between windows", Failed, []RetryCriterion{{"FAILED", 1}}, JobScheduled, true},
		{"of a canceled job", Failed, []RetryCriterion{{"FAILED", 1}}, JobCanceled, false},
		{"of a deleted job", Failed, []RetryCriterion{{"FAILED", 1}}, JobDeleting, false},
	} {
		job := &Job{Status: c.job, Settings: Settings{Retry: c.retry}}
		if _, ok := job.Retry(NewExecution("j", "t", 1, 0, 1, 0).ended(c.status), 2, 2, 0); ok != c.want {
			t.Errorf("%s: %v", c.name, ok)
		}
	}
}

func TestTally(t *testing.T) {
	var tally Tally
	at := func(s Status) Execution { return Execution{Status: s} }
	for _, c := range []Change{
		{After: at(Queued)},
		{Before: at(Queued), After: at(Failed)},
		{After: at(Queued), Superseded: Failed},
		{Before: at(Queued), After: at(Succeeded)},
	} {
		tally.Add(c)
	}
	want := Tally{}
	want[Succeeded] = 1
	if tally != want {
		t.Errorf("a retried thing counts as %v", tally)
	}
	tally.Add(Change{Before: at(Failed), Stale: true})
	if tally != want {
		t.Errorf("deleting an old attempt makes it %v", tally)
	}
	tally.Add(Change{Before: at(Succeeded), Superseded: Rejected})
	if want[Succeeded], want[Rejected] = 0, 1; tally != want {
		t.Errorf("deleting the latest attempt makes it %v", tally)
	}
}
