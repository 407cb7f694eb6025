package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// A job from its first look to the verdict, and what scripts are told of it.
func TestWatch(t *testing.T) {
	url := lab(t, "")
	send(t, "POST", url+"/things/a", "{}")
	send(t, "POST", url+"/things/b", "{}")
	watch := func(want int, says string, args ...string) string {
		t.Helper()
		code, out, errs := said("", append([]string{"watch", "--endpoint", url, "--every", "100ms"}, args...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("watch %s: %d\n%s%s\nit should say %s", strings.Join(args, " "), code, out, errs, says)
		}
		return out
	}
	const both = `"targets":["arn:aws:iot:us-east-1:123456789012:thing/a","arn:aws:iot:us-east-1:123456789012:thing/b"],"document":"{}"`
	create := func(id, more string) {
		t.Helper()
		send(t, "PUT", url+"/jobs/"+id, "{"+both+more+"}")
		send(t, "POST", url+"/_muster/clock", `{"advance":"0s"}`)
	}
	report := func(thing, job, status string) {
		t.Helper()
		send(t, "POST", url+"/things/"+thing+"/jobs/"+job, `{"status":"`+status+`"}`)
		send(t, "POST", url+"/_muster/clock", `{"advance":"0s"}`)
	}

	watch(exitFailed, "the job none cannot be looked at", "none")
	create("fw", "")
	watch(0, "fw is IN_PROGRESS: 2 QUEUED", "fw", "--once")
	watch(exitNotOver, "fw is not over after 200ms", "fw", "--wait", "--timeout", "200ms")
	watch(0, "fw is not over after 200ms", "fw", "--timeout", "200ms")
	report("a", "fw", "SUCCEEDED")
	report("b", "fw", "FAILED")
	watch(0, "fw is COMPLETED: 1 of 2 things failed (50.0 %)", "fw")
	watch(0, "1 of 2 things failed", "fw", "--wait")
	watch(0, "1 of 2 things failed", "fw", "--wait", "--fail-on", "50%")
	watch(exitProblems, "more than 49.5 %", "fw", "--wait", "--fail-on", "49.5%")
	watch(0, "1 of 2 things failed", "fw", "--wait", "--fail-on", "1")
	watch(exitProblems, "more than 0", "fw", "--wait", "--fail-on", "0")

	// What succeeds in a retry has not failed.
	create("again", `,"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"FAILED","numberOfRetries":2}]}`)
	for _, status := range []string{"FAILED", "FAILED", "SUCCEEDED"} {
		report("a", "again", status)
	}
	for range 3 {
		report("b", "again", "FAILED")
	}
	watch(0, "again is COMPLETED: 1 of 2 things failed (50.0 %)", "again", "--wait", "--fail-on", "50%")
	out := watch(0, `"SUCCEEDED":1`, "again", "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var f struct{ Things, Failed int }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &f); err != nil || f.Things != 2 || f.Failed != 1 {
		t.Errorf("%v: %s", err, out)
	}

	create("stop", "")
	send(t, "PUT", url+"/jobs/stop/cancel", `{"reasonCode":"BAD_BUILD"}`)
	watch(exitProblems, "stop is CANCELED (BAD_BUILD)", "stop", "--wait")
	watch(0, "stop is CANCELED", "stop")

	watch(exitFailed, "--fail-on is for --wait", "fw", "--fail-on", "1")
	watch(exitFailed, "write 5, or 2%", "fw", "--wait", "--fail-on", "many")
	watch(exitFailed, "exclude each other", "fw", "--wait", "--once")
}
