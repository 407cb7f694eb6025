package muster

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseExtras(t *testing.T) {
	five, zero, half := 5.0, 0.0, 2.55
	stages := []Stage{{5, 30 * time.Minute}, {25, 2 * time.Hour}, {100, 0}}
	for _, c := range []struct {
		name string
		tags Pairs
		want *Extras
		says string // of the refusal
	}{
		{"none", MakePairs("site", "north"), nil, ""},
		{"queued timeout", MakePairs(TagQueuedTimeout, "90"), &Extras{QueuedTimeout: 90 * time.Minute}, ""},
		{"queued timeout longest", MakePairs(TagQueuedTimeout, "10080"), &Extras{QueuedTimeout: 7 * 24 * time.Hour}, ""},
		{"queued timeout zero", MakePairs(TagQueuedTimeout, "0"), nil, "between 1 and 10080"},
		{"queued timeout too long", MakePairs(TagQueuedTimeout, "10081"), nil, "between 1 and 10080"},
		{"queued timeout in words", MakePairs(TagQueuedTimeout, "1h"), nil, "whole number"},
		{"queued timeout empty", MakePairs(TagQueuedTimeout, ""), nil, "whole number"},
		{"queued timeout with sign", MakePairs(TagQueuedTimeout, "+5"), nil, "whole number"},
		{"in flight", MakePairs(TagMaxInFlight, "50"), &Extras{MaxInFlight: 50}, ""},
		{"in flight none", MakePairs(TagMaxInFlight, "0"), nil, "between 1 and"},
		{"stages", MakePairs(TagStages, "5/30m 25/2h 100"), &Extras{Stages: stages}, ""},
		{"stages with more space", MakePairs(TagStages, "  5/30m   25/2h 100 "), &Extras{Stages: stages}, ""},
		{"one stage", MakePairs(TagStages, "100"), &Extras{Stages: []Stage{{100, 0}}}, ""},
		{"gate", MakePairs(TagStages, "5/30m 25/2h 100", TagStageMaxFailed, "5"), &Extras{Stages: stages, MaxFailed: &five}, ""},
		{"gate that nothing may fail", MakePairs(TagStages, "5/30m 25/2h 100", TagStageMaxFailed, "0"), &Extras{Stages: stages, MaxFailed: &zero}, ""},
		{"gate with decimals", MakePairs(TagStages, "5/30m 25/2h 100", TagStageMaxFailed, "2.55"), &Extras{Stages: stages, MaxFailed: &half}, ""},
		{"gate with too many decimals", MakePairs(TagStages, "100", TagStageMaxFailed, "2.555"), nil, "two decimals"},
		{"gate with percent sign", MakePairs(TagStages, "100", TagStageMaxFailed, "5%"), nil, "without a sign"},
		{"gate that is no number", MakePairs(TagStages, "100", TagStageMaxFailed, "NaN"), nil, "percentage"},
		{"gate below zero", MakePairs(TagStages, "100", TagStageMaxFailed, "-1"), nil, "percentage"},
		{"gate with exponent", MakePairs(TagStages, "100", TagStageMaxFailed, "1e1"), nil, "percentage"},
		{"gate without stages", MakePairs(TagStageMaxFailed, "5"), nil, "without " + TagStages},
		{"no stages", MakePairs(TagStages, " "), nil, "0 stages"},
		{"too many stages", MakePairs(TagStages, strings.Repeat("1/1m ", 21)), nil, "21 stages"},
		{"falling", MakePairs(TagStages, "25/1m 5/1m 100"), nil, "not more than the stage before"},
		{"the same", MakePairs(TagStages, "25/1m 25/1m 100"), nil, "not more than the stage before"},
		{"not all", MakePairs(TagStages, "25/1m 90"), nil, "the last stage must be 100"},
		{"all and bake", MakePairs(TagStages, "25/1m 100/1m"), nil, "without a bake time"},
		{"no bake", MakePairs(TagStages, "25 100"), nil, "has no bake time"},
		{"bake too short", MakePairs(TagStages, "25/59s 100"), nil, "between 1m and 720h"},
		{"bake too long", MakePairs(TagStages, "25/721h 100"), nil, "between 1m and 720h"},
		{"bake below zero", MakePairs(TagStages, "25/-1h 100"), nil, "between 1m and 720h"},
		{"bake in days", MakePairs(TagStages, "25/1d 100"), nil, "between 1m and 720h"},
		{"zero percent", MakePairs(TagStages, "0/1m 100"), nil, "above 0"},
		{"over a hundred", MakePairs(TagStages, "50/1m 101"), nil, "up to 100"},
		{"percent sign", MakePairs(TagStages, "50%/1m 100"), nil, "no percentage"},
		{"unknown", MakePairs("muster:stage", "100"), nil, "no setting that is known"},
		{"other case", MakePairs("Muster:stages", "100"), nil, "no setting that is known"},
	} {
		got, err := ParseExtras(c.tags)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		if err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if known, ok := err.(*Error); err != nil && (!ok || known.Kind != Invalid) {
			t.Errorf("%s: %v is no error of a request", c.name, err)
		}
	}
}

func TestStageShares(t *testing.T) {
	for _, c := range []struct {
		stages  string
		stage   int
		targets int64
		want    int64
		limited bool
	}{
		{"5/1m 100", 0, 1000, 50, true},
		{"5/1m 100", 0, 1001, 51, true}, // never less than the share
		{"5/1m 100", 0, 1, 1, true},
		{"0.01/1m 100", 0, 1_000_000, 100, true},
		{"33.33/1m 100", 0, 10_000, 3333, true},
		{"29/1m 100", 0, 100, 29, true}, // 0.29 is no number of two's powers
		{"5/1m 100", 1, 1000, 0, false},
		{"5/1m 100", 0, 0, 0, false}, // of nothing there is no share
		{"100", 0, 10, 0, false},
	} {
		x, err := ParseExtras(MakePairs(TagStages, c.stages))
		if err != nil {
			t.Fatal(err)
		}
		j := Job{Extras: x, Progress: &Progress{Targets: c.targets, Stage: c.stage}}
		if n, limited := j.StageShare(); n != c.want || limited != c.limited {
			t.Errorf("stage %d of %q, %d targets: %d %v, want %d %v", c.stage, c.stages, c.targets, n, limited, c.want, c.limited)
		}
	}
	if _, limited := (&Job{}).StageShare(); limited {
		t.Error("a job without stages is limited")
	}
}

func TestRoom(t *testing.T) {
	staged, _ := ParseExtras(MakePairs(TagStages, "50/1m 100"))
	few, _ := ParseExtras(MakePairs(TagMaxInFlight, "10"))
	both, _ := ParseExtras(MakePairs(TagMaxInFlight, "10", TagStages, "50/1m 100"))
	for _, c := range []struct {
		name              string
		x                 *Extras
		notified, pending int64
		want              int64
	}{
		{"nothing asked", nil, 7, 7, -1},
		{"stage", staged, 7, 7, 43},
		{"stage is full", staged, 50, 7, 0},
		{"others have joined", staged, 60, 7, 0},
		{"few", few, 70, 7, 3},
		{"as many as may be", few, 70, 10, 0},
		{"more than may be", few, 70, 12, 0},
		{"the smaller of both", both, 47, 2, 3},
		{"the other one", both, 7, 8, 2},
	} {
		j := Job{Extras: c.x, Progress: &Progress{Targets: 100}}
		if got := j.Room(c.notified, c.pending); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestGate(t *testing.T) {
	x, _ := ParseExtras(MakePairs(TagStages, "50/1m 100", TagStageMaxFailed, "10"))
	open, _ := ParseExtras(MakePairs(TagStages, "50/1m 100"))
	for _, c := range []struct {
		name  string
		x     *Extras
		tally Tally
		want  bool
	}{
		{"all well", x, Tally{Succeeded: 10}, true},
		{"just as many as allowed", x, Tally{Succeeded: 9, Failed: 1}, true},
		{"one more", x, Tally{Succeeded: 17, Failed: 1, TimedOut: 1}, false},
		{"rejected counts", x, Tally{Succeeded: 1, Rejected: 1}, false},
		{"at work does not count", x, Tally{Succeeded: 1, InProgress: 10, Queued: 10, Removed: 4, Canceled: 3}, true},
		{"nothing to judge by", x, Tally{InProgress: 10}, false},
		{"no gate", open, Tally{Failed: 10}, true},
		{"no stages", nil, Tally{Failed: 10}, true},
	} {
		j := Job{Extras: c.x, Progress: &Progress{Targets: 100, Filled: 1}}
		if why, passes := j.Gate(c.tally); passes != c.want || (why == "") != passes {
			t.Errorf("%s: %q %v", c.name, why, passes)
		}
	}
}

func TestHoldAndResume(t *testing.T) {
	j := Job{ID: "fw", Status: JobInProgress}
	queued, working := Execution{Status: Queued}, Execution{Status: InProgress}
	held, err := j.Hold(false, "lunch", 10)
	if err != nil || held.Held == nil || held.Updated != 10 || held.Offers(queued) || !held.Offers(working) || !j.Offers(queued) {
		t.Errorf("%+v %v", held, err)
	}
	if _, err := held.Hold(false, "", 11); err == nil {
		t.Error("held twice")
	}
	again, err := held.Resume(20)
	if err != nil || again.Held != nil || !again.Offers(queued) || again.Shown != 20 {
		t.Errorf("%+v %v", again, err)
	}
	if _, err := again.Resume(21); err == nil {
		t.Error("resumed twice")
	}
	for _, over := range []JobStatus{JobCompleted, JobCanceled, JobDeleting} {
		j.Status, held.Status = over, over
		if _, err := j.Hold(false, "", 1); err == nil {
			t.Errorf("a job that is %s was held", over)
		}
		if _, err := held.Resume(1); err == nil {
			t.Errorf("a job that is %s was resumed", over)
		}
	}
}

func TestQueuedDeadline(t *testing.T) {
	x, _ := ParseExtras(MakePairs(TagQueuedTimeout, "10"))
	const minute = Time(60_000)
	queued := Execution{Status: Queued, QueuedAt: 5 * minute}
	for _, c := range []struct {
		name string
		job  Job
		e    Execution
		want Time
	}{
		{"queued", Job{Status: JobInProgress, Extras: x}, queued, 15 * minute},
		{"came back into sight", Job{Status: JobInProgress, Extras: x, Shown: 7 * minute}, queued, 17 * minute},
		{"was in sight before", Job{Status: JobInProgress, Extras: x, Shown: minute}, queued, 15 * minute},
		{"held", Job{Status: JobInProgress, Extras: x, Held: &Hold{}}, queued, 0},
		{"outside its window", Job{Status: JobScheduled, Extras: x}, queued, 0},
		{"not asked for", Job{Status: JobInProgress}, queued, 0},
		{"at work", Job{Status: JobInProgress, Extras: x}, Execution{Status: InProgress, InProgressTimeout: 3}, 3},
		{"over", Job{Status: JobInProgress, Extras: x}, Execution{Status: Failed}, 0},
		{"none", Job{Status: JobInProgress, Extras: x}, Execution{}, 0},
	} {
		if got := c.job.Deadline(c.e); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
