package muster

import (
	"strings"
	"testing"
	"time"
)

func TestExplainCodes(t *testing.T) {
	now := At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	staged, _ := ParseExtras(MakePairs(TagStages, "50/1h 100"))
	few, _ := ParseExtras(MakePairs(TagMaxInFlight, "2"))
	for _, c := range []struct {
		name  string
		job   Job
		s     Standing
		codes string
		first int64 // things of the first reason
		until Time
	}{
		{"deleting", Job{Status: JobDeleting}, Standing{Counts: Counts{Queued: 3}}, "DELETING", 3, 0},
		{"aborted", Job{Status: JobCanceled, ReasonCode: AbortReason}, Standing{Tally: Tally{Canceled: 3}, Waiting: 4}, "ABORTED", 7, 0},
		{"canceled", Job{Status: JobCanceled, ReasonCode: "x"}, Standing{Tally: Tally{Canceled: 3}}, "CANCELED", 3, 0},
		{"complete", Job{Status: JobCompleted}, Standing{}, "DONE", 0, 0},
		{"starts later", Job{Status: JobScheduled, Scheduling: &Scheduling{StartAt: now + 5}}, Standing{Waiting: 9}, "NOT_STARTED", 9, now + 5},
		{"window that is over for ever", Job{Status: JobScheduled, Scheduling: &Scheduling{EndAt: now - 1, Windows: []Window{{"cron(0 2 * * ? *)", time.Hour}}}},
			Standing{Counts: Counts{Queued: 1}}, "OUTSIDE_WINDOW", 1, 0},
		{"window and held", Job{Status: JobScheduled, Held: &Hold{}, Scheduling: &Scheduling{Windows: []Window{{"cron(0 2 * * ? *)", time.Hour}}}},
			Standing{Waiting: 2}, "HELD OUTSIDE_WINDOW", 2, 0},
		{"namespace", Job{Status: JobInProgress, Namespace: "n"}, Standing{Counts: Counts{Queued: 2}}, "NAMESPACE", 2, 0},
		{"end", Job{Status: JobInProgress, EndReached: 1}, Standing{Waiting: 2}, "END_TIME_REACHED", 2, 0},
		{"rolling", Job{Status: JobInProgress, Rolling: true}, Standing{Waiting: 2}, "ROLLING_OUT", 2, 0},
		{"rate", Job{Status: JobInProgress, Rolling: true, Settings: Settings{Rollout: &Rollout{MaximumPerMinute: 5}}}, Standing{Waiting: 2, Slot: 77}, "WAITING_FOR_RATE", 2, 77},
		{"counting", Job{Status: JobInProgress, Rolling: true, Extras: staged}, Standing{}, "ROLLING_OUT", 0, 0},
		{"baking", Job{Status: JobInProgress, Rolling: true, Extras: staged, Progress: &Progress{Targets: 4, Filled: now}},
			Standing{Waiting: 2, Tally: Tally{Queued: 2}}, "STAGE_BAKING", 2, now.Add(time.Hour)},
		{"full", Job{Status: JobInProgress, Rolling: true, Extras: staged, Progress: &Progress{Targets: 4}},
			Standing{Waiting: 2, Tally: Tally{Queued: 2}}, "STAGE_BAKING", 2, 0},
		{"in flight", Job{Status: JobInProgress, Rolling: true, Extras: few}, Standing{Waiting: 8, Counts: Counts{InProgress: 2}}, "MAX_IN_FLIGHT", 8, 0},
		{"all reached", Job{Status: JobInProgress}, Standing{}, "", 0, 0},
	} {
		c.s.Now = now
		all := c.job.Explain(c.s)
		var codes []string
		for _, r := range all {
			codes = append(codes, string(r.Code))
			if r.Text == "" {
				t.Errorf("%s: %s says nothing", c.name, r.Code)
			}
		}
		if got := strings.Join(codes, " "); got != c.codes {
			t.Errorf("%s: %q, want %q", c.name, got, c.codes)
		} else if len(all) > 0 && (all[0].Things != c.first || all[len(all)-1].Until != c.until && c.until != 0) {
			t.Errorf("%s: %+v, want %d until %d", c.name, all, c.first, c.until)
		}
	}
}

func TestRetriesLeft(t *testing.T) {
	job := func(all ...RetryCriterion) *Job { return &Job{Status: JobInProgress, Settings: Settings{Retry: all}} }
	for _, c := range []struct {
		name             string
		job              *Job
		e                Execution
		failed, timedOut int64
	}{
		{"none", job(), Execution{}, 0, 0},
		{"failed alone", job(RetryCriterion{"FAILED", 3}), Execution{Attempt: 1}, 2, 0},
		{"each its own", job(RetryCriterion{"FAILED", 3}, RetryCriterion{"TIMED_OUT", 2}), Execution{Attempt: 2, TimedOutRetries: 1}, 2, 1},
		{"shared", job(RetryCriterion{"ALL", 4}), Execution{Attempt: 3, TimedOutRetries: 3}, 1, 1},
		{"used up", job(RetryCriterion{"ALL", 4}), Execution{Attempt: 4}, 0, 0},
		{"over", &Job{Status: JobCanceled, Settings: Settings{Retry: []RetryCriterion{{"ALL", 4}}}}, Execution{}, 0, 0},
	} {
		if failed, timedOut := c.job.RetriesLeft(c.e); failed != c.failed || timedOut != c.timedOut {
			t.Errorf("%s: %d and %d, want %d and %d", c.name, failed, timedOut, c.failed, c.timedOut)
		}
	}
}

func TestTurns(t *testing.T) {
	staged, _ := ParseExtras(MakePairs(TagStages, "50/1h 100"))
	is := Job{Status: JobInProgress, Extras: staged, Progress: &Progress{Targets: 4}}
	filled := is
	filled.Progress = &Progress{Targets: 4, Filled: 1}
	held, _ := filled.Hold(true, "Too many.", 2)
	resumed, _ := held.Resume(3)
	canceled, _ := resumed.Cancel(false, "", "enough", 4)
	var got []string
	for was, row := (*Job)(nil), []*Job{{Status: JobScheduled}, {Status: JobInProgress, Extras: staged}, &is, &filled, &held, &resumed, &canceled}; len(row) > 0; row = row[1:] {
		got = append(got, Turns(was, row[0])...)
		was = row[0]
	}
	want := []string{"The job is created and SCHEDULED", "The job becomes IN_PROGRESS",
		"Stage 1 of 2 (50 %) begins, which is to reach 2 things",
		"Stage 1 of 2 (50 %) has reached its 2 things; its bake time lasts until 1970-01-01T01:00:00Z",
		"The job is held. Too many.", "The job is resumed", "Stage 2 of 2 (100 %) begins, which is to reach all 4 things",
		"The job becomes CANCELED. enough"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
