package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const aFile = `
thingGroupName: pumps
description: All of them
attributes: {site: north}
things: [a, b]
---
jobTemplateId: firmware
description: Firmware of pumps
document: {operation: update}
timeoutConfig: {inProgressTimeoutInMinutes: 30}
---
jobId: fw
targets: [thinggroup/pumps]
targetSelection: CONTINUOUS
description: First
document: {operation: update, url: "https://example.com/1", tries: 3}
jobExecutionsRolloutConfig:
  exponentialRate:
    baseRatePerMinute: 50
    incrementFactor: 1.5
    rateIncreaseCriteria: {numberOfSucceededThings: 10}
abortConfig:
  criteriaList: [{failureType: FAILED, action: CANCEL, thresholdPercentage: 12.5, minNumberOfExecutedThings: 10}]
jobExecutionsRetryConfig:
  criteriaList: [{failureType: ALL, numberOfRetries: 2}]
tags: {team: water, "muster:max-in-flight": 100}
`

// A file from nothing to nothing to do, and changed in every way that there is.
func TestApply(t *testing.T) {
	url := lab(t, "")
	for _, name := range []string{"a", "b", "c"} {
		send(t, "POST", url+"/things/"+name, "{}")
	}
	text := aFile
	apply := func(want int, says string, args ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "job.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := said("y\n", append([]string{"apply", "-f", file, "--endpoint", url}, args...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("apply %s: %d\n%s%s\nit should say %s", strings.Join(args, " "), code, out, errs, says)
		}
	}
	change := func(old, new string) {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %q", old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	const plan = `+   group pumps
~   members of group pumps
      + a
      + b
+   template firmware
+   job fw
      targets: thinggroup/pumps
`
	apply(0, plan+"4 steps to do; nothing was changed\n", "--dry-run")
	apply(exitFailed, "4 steps to do, and nobody to ask: say --yes")
	apply(0, plan+"4 steps done\n", "--yes")
	for range 2 {
		apply(0, "nothing to do\n", "--yes")
	}
	if code, out, errs := said(text, "apply", "-f", "-", "--endpoint", url); code != 0 || out != "nothing to do\n" {
		t.Errorf("from the standard input: %d %s%s", code, out, errs)
	}
	send(t, "POST", url+"/_muster/clock", `{"advance":"1m"}`)
	if code, out, errs := said("", "watch", "fw", "--once", "--endpoint", url); code != 0 || !strings.Contains(out, "2 QUEUED") {
		t.Errorf("%d %s%s", code, out, errs)
	}

	send(t, "POST", url+"/thing-groups/more", "{}")
	change("description: First", "description: Second")
	change("numberOfRetries: 2", "numberOfRetries: 3")
	change("[thinggroup/pumps]", "[thinggroup/pumps, thinggroup/more]")
	change("team: water", "team: fire")
	change("All of them", "Most of them")
	change("Firmware of pumps", "Firmware of all pumps")
	change("[a, b]", "[a, c]")
	apply(0, `~   group pumps
      description: "All of them" -> "Most of them"
~   members of group pumps
      + c
-/+ template firmware (a template cannot be changed; it is replaced)
      description: "Firmware of pumps" -> "Firmware of all pumps"
~   job fw
      description: "First" -> "Second"
      jobExecutionsRetryConfig: {"criteriaList":[{"failureType":"ALL","numberOfRetries":2}]} -> {"criteriaList":[{"failureType":"ALL","numberOfRetries":3}]}
      + target arn:aws:iot:us-east-1:123456789012:thinggroup/more
      tag team: "water" -> "fire"
    group pumps has members that the file does not name; they stay (--prune removes them)
4 steps done
`, "--yes")
	apply(0, "they stay (--prune removes them)\nnothing to do\n", "--yes")
	apply(0, "      - b\n1 step done\n", "--yes", "--prune")
	apply(0, "nothing to do\n", "--yes", "--prune")

	change("thinggroup/more]", "thinggroup/more, thing/c]")
	apply(exitFailed, "only groups can, once a job is made", "--yes")
	change(", thing/c]", "]")
	change("tries: 3", "tries: 4")
	change("muster:max-in-flight\": 100", "muster:max-in-flight\": 200")
	change("[a, c]", "[a, c, nobody]")
	apply(exitFailed, "3 obstacles; nothing was changed", "--yes")
	apply(exitFailed, "document: ", "--yes")
	apply(exitFailed, "the tag muster:max-in-flight is read when a job is made", "--yes")
	apply(exitFailed, "there is no thing nobody", "--yes")

	for wrong, says := range map[string]string{
		"":                                    "describes nothing",
		"a: 1":                                "none of: a job (jobId)",
		"jobId: x\ntargets: [a]\ntypo: 1":     `there is no member "typo"`,
		"jobId: x":                            "a job needs a jobId and targets",
		"jobId: x\ntargets: a":                "cannot be a string",
		"jobId: x\ntargets: [somewhere]":      `the target "somewhere" is no ARN`,
		"jobId: x\ntargets: [thing/nobody]":   "there is no thing/nobody",
		"jobId: x\njobId: y\ntargets: [a]":    "document 1",
		"thingGroupName: g\nparent: house":    `there is no member "parent"`,
		"jobId: x\ntargets: [thing/a\nmore: ": "document 1",
	} {
		text = wrong
		apply(exitFailed, says, "--yes")
	}
}
