package sdk_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"muster/test/process"
)

// What takes AWS weeks is seen in seconds on a server whose clock is moved.
func TestCLIClock(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	for name, journey := range map[string]func(*testing.T, timed){
		"rollout, timeout, retries, abort": clockRollout,
		"a weekly window":                  clockWindow,
		"endTime cancels":                  clockEnd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Each has a server of its own: they do not move each other's clock.
			url := process.Start(t, "--clock", "manual:2026-01-01T00:00:00Z")
			journey(t, timed{newCLI(t, url, admin)})
		})
	}
}

// A timed server is one whose clock the test moves.
type timed struct{ cli }

// move moves the clock, and returns when all that was due on the way is done.
func (c timed) move(t *testing.T, how string) {
	t.Helper()
	resp, err := http.Post(c.url+"/_muster/clock", "application/json", strings.NewReader(how))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("moving the clock by %s: %s %s %v", how, resp.Status, text, err)
	}
}

func (c timed) advance(t *testing.T, d string) {
	t.Helper()
	c.move(t, fmt.Sprintf(`{"advance":%q}`, d))
}

// fleet imports a group of things and returns its ARN.
func (c timed) fleet(t *testing.T, group string, things ...string) string {
	t.Helper()
	lines := fmt.Sprintf(`{"thingGroup":{"thingGroupName":%q}}`+"\n", group)
	for _, name := range things {
		lines += fmt.Sprintf(`{"thing":{"thingName":%q,"thingGroupNames":[%q]}}`+"\n", name, group)
	}
	resp, err := http.Post(c.url+"/_muster/import", "application/x-ndjson", strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("import: %s %s %v", resp.Status, text, err)
	}
	return "arn:aws:iot:us-east-1:123456789012:thinggroup/" + group
}

// says requires a job's status and its counters that are not 0, as "IN_PROGRESS Queued=2 Succeeded=1".
func (c timed) says(t *testing.T, job, want string) tree {
	t.Helper()
	told := c.run(t, "iot", "describe-job", "--job-id", job)
	got := told.text("job.status")
	for _, name := range []string{"Queued", "InProgress", "Succeeded", "Failed", "TimedOut", "Rejected", "Removed", "Canceled"} {
		if n := told.number("job.jobProcessDetails.numberOf" + name + "Things"); n != 0 {
			got += fmt.Sprintf(" %s=%d", name, n)
		}
	}
	same(t, job, got, want)
	return told
}

// attempts lists a thing's executions of a job, newest last, as "1 TIMED_OUT, 2 QUEUED".
func (c timed) attempts(t *testing.T, thing, job, want string) {
	t.Helper()
	list := c.run(t, "iot", "list-job-executions-for-thing", "--thing-name", thing, "--job-id", job)
	rows, _ := list.at("executionSummaries").([]any)
	var all []string
	for _, row := range rows {
		r := tree{row}
		all = append(all, fmt.Sprintf("%d %s", r.number("jobExecutionSummary.executionNumber"), r.text("jobExecutionSummary.status")))
		// The first attempt is no retry, the second is the first one.
		same(t, "retryAttempt", r.number("jobExecutionSummary.retryAttempt"), r.number("jobExecutionSummary.executionNumber")-1)
	}
	slices.Sort(all)
	same(t, thing+" "+job, strings.Join(all, ", "), want)
}

func (c timed) startNext(t *testing.T, thing, job string) {
	t.Helper()
	same(t, thing+" starts", c.run(t, "iot-jobs-data", "start-next-pending-job-execution", "--thing-name", thing).text("execution.jobId"), job)
}

func (c timed) update(t *testing.T, thing, job, status string) {
	t.Helper()
	c.run(t, "iot-jobs-data", "update-job-execution", "--thing-name", thing, "--job-id", job, "--status", status)
}

func (c timed) pending(t *testing.T, thing string, want ...string) {
	t.Helper()
	got := c.run(t, "iot-jobs-data", "get-pending-job-executions", "--thing-name", thing)
	all := slices.Concat(got.each("inProgressJobs", "jobId"), got.each("queuedJobs", "jobId"))
	same(t, thing+" is offered", strings.Join(all, " "), strings.Join(want, " "))
}

func (c timed) job(t *testing.T, id, target string, settings map[string]any, more ...string) {
	t.Helper()
	args := append([]string{"iot", "create-job", "--job-id", id, "--targets", target, "--document", document}, more...)
	for name, value := range settings {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+name, string(text))
	}
	c.run(t, args...)
	c.advance(t, "0s") // what is due now is done
}

type object = map[string]any

func clockRollout(t *testing.T, c timed) {
	things := []string{"pump-1", "pump-2", "pump-3", "pump-4", "pump-5", "pump-6"}
	group := c.fleet(t, "pumps", things...)
	c.job(t, "fw", group, object{
		"job-executions-rollout-config": object{"maximumPerMinute": 4, "exponentialRate": object{"baseRatePerMinute": 1, "incrementFactor": 2,
			"rateIncreaseCriteria": object{"numberOfNotifiedThings": 2}}},
		"timeout-config":              object{"inProgressTimeoutInMinutes": 30},
		"job-executions-retry-config": object{"criteriaList": []object{{"failureType": "TIMED_OUT", "numberOfRetries": 2}}},
		"abort-config":                object{"criteriaList": []object{{"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 60, "minNumberOfExecutedThings": 2}}},
	})
	// One a minute until two were notified, then two a minute until four were, then four.
	told := c.says(t, "fw", "IN_PROGRESS Queued=1")
	same(t, "isConcurrent", told.at("job.isConcurrent"), any(true))
	same(t, "processingTargets", fmt.Sprint(told.at("job.jobProcessDetails.processingTargets")), "["+group+"]")
	c.advance(t, "59s")
	c.says(t, "fw", "IN_PROGRESS Queued=1")
	c.advance(t, "1s")
	c.says(t, "fw", "IN_PROGRESS Queued=2")
	c.advance(t, "60s")
	c.says(t, "fw", "IN_PROGRESS Queued=4")
	c.advance(t, "30s")
	told = c.says(t, "fw", "IN_PROGRESS Queued=6")
	same(t, "isConcurrent at the end", told.at("job.isConcurrent"), any(false))
	same(t, "processingTargets at the end", told.at("job.jobProcessDetails.processingTargets"), nil)

	// A device starts and is not heard of again: after 30 minutes it has timed out and is to try again, twice.
	quiet := things[0]
	for attempt := 1; attempt <= 3; attempt++ {
		c.startNext(t, quiet, "fw")
		c.advance(t, "29m")
		e := c.run(t, "iot", "describe-job-execution", "--thing-name", quiet, "--job-id", "fw")
		same(t, "status after 29 minutes", e.text("execution.status"), "IN_PROGRESS")
		same(t, "number", e.number("execution.executionNumber"), attempt)
		same(t, "seconds left", e.number("execution.approximateSecondsBeforeTimedOut"), 60)
		c.advance(t, "2m")
		c.attempts(t, quiet, "fw", []string{"1 TIMED_OUT, 2 QUEUED", "1 TIMED_OUT, 2 TIMED_OUT, 3 QUEUED", "1 TIMED_OUT, 2 TIMED_OUT, 3 TIMED_OUT"}[attempt-1])
	}
	c.pending(t, quiet)
	// Three executions timed out, but it is one thing of the two that abort waits for.
	c.says(t, "fw", "IN_PROGRESS Queued=5 TimedOut=3")
	c.update(t, things[1], "fw", "SUCCEEDED")
	c.says(t, "fw", "IN_PROGRESS Queued=4 Succeeded=1 TimedOut=3") // one of two is below 60 %
	c.startNext(t, things[3], "fw")
	c.update(t, things[2], "fw", "REJECTED")
	told = c.says(t, "fw", "CANCELED Queued=2 InProgress=1 Succeeded=1 TimedOut=3 Rejected=1") // two of three are not
	same(t, "reason", told.text("job.reasonCode"), "ABORT_CRITERIA_MET")
	c.pending(t, things[4]) // at once, before all rows are written
	c.advance(t, "0s")
	c.says(t, "fw", "CANCELED InProgress=1 Succeeded=1 TimedOut=3 Rejected=1 Canceled=2")
	c.update(t, things[3], "fw", "SUCCEEDED") // what was in progress may end
	rows := c.run(t, "iot", "list-job-executions-for-job", "--job-id", "fw").each("executionSummaries", "jobExecutionSummary.status")
	slices.Sort(rows)
	same(t, "rows", strings.Join(rows, " "), "CANCELED CANCELED REJECTED SUCCEEDED SUCCEEDED TIMED_OUT TIMED_OUT TIMED_OUT")
}

func clockWindow(t *testing.T, c timed) {
	group := c.fleet(t, "lamps", "lamp-1", "lamp-2")
	c.job(t, "weekly", group, object{"scheduling-config": object{"maintenanceWindows": []object{{"startTime": "cron(0 2 ? * MON *)", "durationInMinutes": 60}}}},
		"--target-selection", "CONTINUOUS")
	told := c.says(t, "weekly", "SCHEDULED")
	starts := told.each("job.scheduledJobRollouts", "startTime")
	if len(starts) != 7 || !strings.Contains(starts[0], "2026-01-05") || !strings.Contains(starts[6], "2026-02-16") {
		t.Errorf("the next windows: %v", starts)
	}
	c.advance(t, "72h") // Sunday
	c.says(t, "weekly", "SCHEDULED")
	c.pending(t, "lamp-1")
	c.move(t, `{"set":"2026-01-05T01:59:59Z"}`)
	c.says(t, "weekly", "SCHEDULED")
	c.advance(t, "1s")
	c.says(t, "weekly", "IN_PROGRESS Queued=2")
	c.pending(t, "lamp-1", "weekly")
	c.startNext(t, "lamp-1", "weekly")

	c.advance(t, "1h") // it closes: what is queued is out of sight, what is in progress goes on
	c.says(t, "weekly", "SCHEDULED Queued=1 InProgress=1")
	c.pending(t, "lamp-1", "weekly")
	c.pending(t, "lamp-2")
	same(t, "lamp-2 starts", c.run(t, "iot-jobs-data", "start-next-pending-job-execution", "--thing-name", "lamp-2").at("execution"), nil)
	c.update(t, "lamp-1", "weekly", "SUCCEEDED")

	c.advance(t, "167h") // the next Monday at two
	c.says(t, "weekly", "IN_PROGRESS Queued=1 Succeeded=1")
	c.pending(t, "lamp-1")
	c.startNext(t, "lamp-2", "weekly")
	c.update(t, "lamp-2", "weekly", "SUCCEEDED")
	c.advance(t, "24h")
	c.says(t, "weekly", "SCHEDULED Succeeded=2") // it never completes
}

func clockEnd(t *testing.T, c timed) {
	group := c.fleet(t, "fans", "fan-1", "fan-2", "fan-3")
	c.job(t, "ends", group, object{"scheduling-config": object{"endTime": "2026-01-02 00:00", "endBehavior": "CANCEL"}})
	c.says(t, "ends", "IN_PROGRESS Queued=3")
	c.startNext(t, "fan-1", "ends")
	c.update(t, "fan-2", "ends", "SUCCEEDED")
	c.advance(t, "23h")
	c.says(t, "ends", "IN_PROGRESS Queued=1 InProgress=1 Succeeded=1")
	c.pending(t, "fan-3", "ends")
	c.advance(t, "1h")
	c.says(t, "ends", "IN_PROGRESS InProgress=1 Succeeded=1 Canceled=1")
	c.pending(t, "fan-3")
	c.attempts(t, "fan-3", "ends", "1 CANCELED")
	c.update(t, "fan-1", "ends", "SUCCEEDED")
	c.says(t, "ends", "COMPLETED Succeeded=2 Canceled=1")

	// With force what is in progress ends, too; the job is over at that moment.
	c.job(t, "forced", group, object{"scheduling-config": object{"endTime": "2026-01-03T00:00:00Z", "endBehavior": "FORCE_CANCEL"}})
	c.startNext(t, "fan-1", "forced")
	c.advance(t, "72h")
	c.says(t, "forced", "COMPLETED Canceled=3")
	c.refuse(t, "InvalidStateTransitionException", "iot-jobs-data", "update-job-execution", "--thing-name", "fan-1", "--job-id", "forced", "--status", "SUCCEEDED")
}
