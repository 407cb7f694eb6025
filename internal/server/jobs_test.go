package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// lab is a server with a manual clock, a group of things and nothing else.
func lab(t *testing.T, things ...string) *running {
	t.Helper()
	s := start(t, Config{Clock: "manual:2026-01-01T00:00:00Z"})
	want(t, "POST", s.url+"/thing-groups/fleet", "{}", 200)
	for _, name := range things {
		want(t, "POST", s.url+"/things/"+name, "{}", 200)
		want(t, "PUT", s.url+"/thing-groups/addThingToThingGroup", `{"thingName":"`+name+`","thingGroupName":"fleet"}`, 200)
	}
	return s
}

const fleetARN = "arn:aws:iot:us-east-1:123456789012:thinggroup/fleet"

// body is a CreateJob for the fleet with more members.
func body(more string) string {
	return `{"targets":["` + fleetARN + `"],"document":"{\"v\":1}"` + more + `}`
}

// create makes a job. Its path is of both planes for some methods, but PUT is CreateJob's alone.
func create(t *testing.T, s *running, id, more string) {
	t.Helper()
	want(t, "PUT", s.url+"/jobs/"+id, body(more), 200)
	advance(t, s, "0s")
}

func advance(t *testing.T, s *running, d string) {
	t.Helper()
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"`+d+`"}`, 200)
}

func report(t *testing.T, s *running, thing, job, status string) {
	t.Helper()
	want(t, "POST", s.url+"/things/"+thing+"/jobs/"+job, `{"status":"`+status+`"}`, 200)
}

func TestHoldResumeRetry(t *testing.T) {
	s := lab(t, "a", "b")
	create(t, s, "fw", "")
	on := s.url + "/_muster/jobs/fw/"
	want(t, "POST", on+"hold", `{"reason":"lunch"}`, 200, `"jobId":"fw","status":"IN_PROGRESS"`, `"by":"operator","reason":"lunch"`)
	want(t, "GET", s.url+"/things/a/jobs", "", 200, `"queuedJobs":[]`)
	want(t, "POST", s.url+"/things/a/jobs/fw", `{"status":"IN_PROGRESS"}`, 409, "is held")
	want(t, "POST", on+"hold", "", 409, "held already")
	want(t, "GET", on+"explain", "", 200, `"code":"HELD","things":2`, "lunch", `"executions":{"QUEUED":2}`)
	if answer := want(t, "POST", on+"resume", "", 200); strings.Contains(answer, "held") {
		t.Error(answer)
	}
	want(t, "POST", on+"resume", "", 409, "not held")
	want(t, "GET", s.url+"/things/a/jobs", "", 200, `"jobId":"fw"`)

	want(t, "POST", on+"retry-failed", "", 400, "nothing to try again")
	report(t, s, "a", "fw", "FAILED")
	report(t, s, "b", "fw", "SUCCEEDED")
	want(t, "POST", s.url+"/_muster/dry-run?retryFailed=fw", "", 200, `"jobId":"fw-retry-1"`, `"targeted":{"things":1`, `"finished":true`)
	want(t, "POST", s.url+"/_muster/dry-run?retryFailed=fw", "{}", 400, "no body")
	want(t, "POST", s.url+"/_muster/dry-run?retryFailed=none", "", 404, "does not exist")
	want(t, "POST", on+"retry-failed", "{}", 200, `"jobId":"fw-retry-1"`, `"retryOf":"fw"`)
	want(t, "POST", on+"retry-failed", `{"jobId":"fw-retry-1"}`, 409, "already exists")
	want(t, "POST", on+"retry-failed", `{"jobId":"no good"}`, 400, "letters")
	advance(t, s, "0s")
	want(t, "GET", on+"explain", "", 200, `"retriedBy":["fw-retry-1"]`, `"code":"DONE"`, `"code":"FAILED","things":1`)
	want(t, "GET", s.url+"/_muster/jobs/fw-retry-1/explain", "", 200, `"retryOf":"fw"`, `"code":"NEVER_STARTED","things":1`)
	want(t, "GET", s.url+"/jobs/fw-retry-1/job-document", "", 200, `{\"v\":1}`)

	want(t, "POST", on+"hold", `{"reasons":1}`, 400, "The body must be empty")
	want(t, "POST", on+"hold", `{"reason":"`+strings.Repeat("x", 1025)+`"}`, 400, "at most 1024")
	want(t, "POST", on+"hold", strings.Repeat("x", 5000), 400, "at most 4096")
	want(t, "POST", s.url+"/_muster/jobs/none/hold", "", 404, "does not exist")
	want(t, "POST", s.url+"/_muster/jobs/none/resume", "", 404, "does not exist")
	want(t, "POST", s.url+"/_muster/jobs/none/retry-failed", "", 404, "does not exist")
	want(t, "GET", on+"hold", "", 404)
}

func TestExplain(t *testing.T) {
	s := lab(t, "a", "b", "c", "d")
	create(t, s, "fw", `,"tags":[{"Key":"muster:stages","Value":"25/30m 100"},{"Key":"muster:stage-max-failed-percent","Value":"0"}]`)
	on := s.url + "/_muster/jobs/fw/"
	want(t, "GET", on+"explain", "", 200, `"stages":{"stage":1,"of":2,"targets":4,"bakesUntil":"2026-01-01T00:30:00Z"}`,
		`"code":"STAGE_BAKING","things":3,"until":"2026-01-01T00:30:00Z"`)
	want(t, "GET", on+"things/a/explain", "", 200, `"thingName":"a"`, `"status":"QUEUED"`, "NEVER_STARTED")
	want(t, "GET", on+"things/b/explain", "", 200, "STAGE_BAKING")
	want(t, "GET", on+"things/none/explain", "", 404, "Thing none does not exist")
	want(t, "GET", s.url+"/_muster/jobs/none/explain", "", 404, "Job none does not exist")
	report(t, s, "a", "fw", "REJECTED")
	advance(t, s, "1h")
	want(t, "GET", on+"explain", "", 200, `"by":"gate"`, `"code":"HELD","things":3`)
	// What AWS does not have is in no answer of AWS.
	if answer := want(t, "GET", s.url+"/jobs/fw", "", 200); strings.Contains(strings.ToLower(answer), "held") {
		t.Error(answer)
	}
}

func TestBadExtensionTags(t *testing.T) {
	s := lab(t, "a")
	tag := func(key, value string) string { return `,"tags":[{"Key":"` + key + `","Value":"` + value + `"}]` }
	for _, c := range []struct{ key, value, says string }{
		{"muster:stages", "5", "the last stage must be 100"},
		{"muster:queued-timeout-minutes", "soon", "whole number of minutes"},
		{"muster:unheard-of", "1", "no setting that is known"},
	} {
		want(t, "PUT", s.url+"/jobs/bad", body(tag(c.key, c.value)), 400, c.says)
		want(t, "POST", s.url+"/_muster/dry-run", body(tag(c.key, c.value)), 400, c.says)
	}
	want(t, "POST", s.url+"/thing-groups/other", `{"tags":[{"Key":"muster:stages","Value":"100"}]}`, 400, "only a job can have them")
	// Later tags of a job change nothing but the tag.
	create(t, s, "fw", "")
	arn := "arn:aws:iot:us-east-1:123456789012:job/fw"
	want(t, "POST", s.url+"/tags", `{"resourceArn":"`+arn+`","tags":[{"Key":"muster:max-in-flight","Value":"1"}]}`, 200)
	want(t, "POST", s.url+"/tags", `{"resourceArn":"`+arn+`","tags":[{"Key":"muster:max-in-flight","Value":"x"}]}`, 400, "whole number")
	want(t, "POST", s.url+"/tags", `{"resourceArn":"`+arn+`","tags":[{"Key":"muster:more","Value":"1"}]}`, 400, "no setting that is known")
	want(t, "GET", s.url+"/_muster/jobs/fw/explain", "", 200, "NEVER_STARTED")
}

func TestDryRun(t *testing.T) {
	s := lab(t, "a", "b", "c", "d")
	create(t, s, "old", "")
	text := want(t, "POST", s.url+"/_muster/dry-run?success=50&duration=90s", body(`,"jobId":"new","jobExecutionsRolloutConfig":{"maximumPerMinute":2},
		"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":75,"minNumberOfExecutedThings":2}]}`), 200)
	var d dryRun
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.JobID != "new" || d.Targeted.Things != 4 || d.Targeted.QueuedWork != 4 || len(d.Targeted.Samples) != 4 || d.Bounded != "" {
		t.Errorf("%+v", d.Targeted)
	}
	if len(d.Aborts) != 1 || d.Aborts[0].First != 2 || d.Aborts[0].Last != 3 {
		t.Errorf("%+v", d.Aborts)
	}
	if d.Expected.At != "2026-01-01T00:03:00Z" || d.Expected.Status != "COMPLETED" || d.Expected.Executions["FAILED"] != 2 || !d.Expected.Finished {
		t.Errorf("%+v", d.Expected)
	}
	if len(d.Curve) != 4 || d.Curve[0].Minute != "2026-01-01T00:00:00Z" || d.Curve[0].Queued != 2 || d.Curve[1].Queued != 2 || d.Curve[1].Notified != 4 {
		t.Errorf("%+v", d.Curve)
	}
	want(t, "POST", s.url+"/_muster/dry-run", body(`,"targetSelection":"CONTINUOUS","schedulingConfig":{"maintenanceWindows":[{"startTime":"cron(0 2 * * ? *)","durationInMinutes":60}]}`), 200,
		`"windows":[{"opens":"2026-01-01T02:00:00Z","closes":"2026-01-01T03:00:00Z"}`, `"at":"2026-01-01T02:00:00Z"`)
	want(t, "GET", s.url+"/jobs/new", "", 404)

	want(t, "POST", s.url+"/_muster/dry-run", body(`,"jobId":"old"`), 409, "Job old already exists")
	want(t, "POST", s.url+"/_muster/dry-run?jobId=old", body(""), 409, "Job old already exists")
	want(t, "POST", s.url+"/_muster/dry-run?success=101", body(""), 400, "success is")
	want(t, "POST", s.url+"/_muster/dry-run?success=NaN", body(""), 400, "success is")
	want(t, "POST", s.url+"/_muster/dry-run?duration=-1s", body(""), 400, "duration is")
	want(t, "POST", s.url+"/_muster/dry-run", "{", 400)
	want(t, "POST", s.url+"/_muster/dry-run", "{}", 400, "targets")
	want(t, "POST", s.url+"/_muster/dry-run", `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/none"],"document":"{}"}`, 404, "does not exist")
	want(t, "POST", s.url+"/_muster/dry-run", body(`,"jobExecutionsRolloutConfig":{"maximumPerMinute":5000}`), 400, "maximumPerMinute")
}

// What the server is told to allow reaches the jobs, and what it refuses says so.
func TestLimits(t *testing.T) {
	s := start(t, Config{Clock: "manual:2026-01-01T00:00:00Z", Limits: Limits{PerMinute: 2000, ActiveJobs: 3, ConcurrentJobs: 1}})
	want(t, "POST", s.url+"/thing-groups/fleet", "{}", 200)
	for _, name := range []string{"a", "b"} {
		want(t, "POST", s.url+"/things/"+name, "{}", 200)
		want(t, "PUT", s.url+"/thing-groups/addThingToThingGroup", `{"thingName":"`+name+`","thingGroupName":"fleet"}`, 200)
	}
	rate := func(most, base string) string {
		return `,"jobExecutionsRolloutConfig":{"maximumPerMinute":` + most + `,"exponentialRate":{"baseRatePerMinute":` + base +
			`,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedThings":1000}}}`
	}
	want(t, "PUT", s.url+"/jobs/fast", body(rate("2001", "5")), 400, "maximumPerMinute is 2001; it must be between 1 and 2000")
	want(t, "PUT", s.url+"/jobs/fast", body(rate("2000", "2001")), 400, "baseRatePerMinute is 2001; it must be between 1 and 2000")
	want(t, "POST", s.url+"/_muster/dry-run", body(rate("2000", "2001")), 400, "between 1 and 2000")
	create(t, s, "slow", `,"jobExecutionsRolloutConfig":{"maximumPerMinute":1}`)
	create(t, s, "fast", rate("2000", "1500"))
	want(t, "GET", s.url+"/_muster/jobs/fast/explain", "", 200, `"code":"WAITING_FOR_JOBS","things":2`)
	want(t, "POST", s.url+"/_muster/dry-run", body(""), 200, `"waits":"As many jobs`)
	create(t, s, "third", "")
	want(t, "PUT", s.url+"/jobs/fourth", body(""), 410, "at most 3 are allowed")
	advance(t, s, "1m") // the slow one is done
	want(t, "GET", s.url+"/things/b/jobs", "", 200, `"jobId":"slow"`, `"jobId":"fast"`, `"jobId":"third"`)
}
