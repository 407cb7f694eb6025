package sdk_test

import (
	"encoding/json"
	"net"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/test/process"
)

// restConversation is the plain REST form in which UpdateJobExecution was first published: the documented URL
// (only where that host lives is told to curl apart), the documented headers, no signature.
//
// It is requests, each followed by `-->` and its answer. In an answer, "<time>" stands for any RFC 3339
// time in UTC, "<number>" for any number, and "<...word...>" for any text with the word in it; a member "..." admits others.
const restConversation = `
POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS","statusDetails":{"progress":"10%"},"expectedVersion":1}
--> 200
{"success":true,"data":{"id":"abc123","created_at":"<time>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS","statusDetails":{"progress":"50%","retries":2},"expectedVersion":"2","executionNumber":1,
 "includeJobExecutionState":true,"includeJobDocument":true,"stepTimeoutInMinutes":5}
--> 200
{"success":true,"data":{"id":"abc123","created_at":"<time>","jobDocument":"{\"operation\":\"reboot\"}",
 "executionState":{"status":"IN_PROGRESS","statusDetails":{"progress":"50%","retries":"2"},"versionNumber":3}}}

GET http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123?includeJobDocument=false
accept: application/json
--> 200
{"success":true,"data":{"id":"abc123","created_at":"<time>","execution":{"jobId":"abc123","thingName":"pump1","status":"IN_PROGRESS",
 "statusDetails":{"progress":"50%","retries":"2"},"queuedAt":"<number>","startedAt":"<number>","lastUpdatedAt":"<number>",
 "approximateSecondsBeforeTimedOut":"<number>","versionNumber":3,"executionNumber":1}}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"SUCCESS","expectedVersion":1}
--> 409
{"success":false,"error":{"code":"VERSION_MISMATCH","message":"<...version...>",
 "executionState":{"status":"IN_PROGRESS","statusDetails":{"progress":"50%","retries":"2"},"versionNumber":3}}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"DONE"}
--> 400
{"success":false,"error":{"code":"VALIDATION_ERROR","message":"<...status...>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"statusDetails":{"progress":"60%"}}
--> 400
{"success":false,"error":{"code":"VALIDATION_ERROR","message":"<...status...>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":
--> 400
{"success":false,"error":{"code":"VALIDATION_ERROR","message":"<......>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS","stepTimeoutInMinutes":0}
--> 400
{"success":false,"error":{"code":"VALIDATION_ERROR","message":"<...stepTimeoutInMinutes...>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/no-such-job
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS"}
--> 404
{"success":false,"error":{"code":"NOT_FOUND","message":"<......>"}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/no-such-thing/jobs/abc123
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS"}
--> 404
{"success":false,"error":{"code":"NOT_FOUND","message":"<......>"}}

GET http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs
accept: application/json
--> 200
{"success":true,"data":{"inProgressJobs":[{"jobId":"abc123","queuedAt":"<number>","startedAt":"<number>","lastUpdatedAt":"<number>",
 "versionNumber":3,"executionNumber":1}],"queuedJobs":[]}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"SUCCESS","includeJobExecutionState":true}
--> 200
{"success":true,"data":{"id":"abc123","created_at":"<time>",
 "executionState":{"status":"SUCCEEDED","statusDetails":{"progress":"50%","retries":"2"},"versionNumber":4}}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"FAILED"}
--> 409
{"success":false,"error":{"code":"INVALID_STATE_TRANSITION","message":"<......>",
 "executionState":{"status":"SUCCEEDED","statusDetails":{"progress":"50%","retries":"2"},"versionNumber":4}}}

GET http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
--> 410
{"success":false,"error":{"code":"TERMINAL_STATE","message":"<......>"}}

GET http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/$next
accept: application/json
--> 200
{"success":true,"data":{}}

PUT http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/$next
accept: application/json
content-type: application/json

{}
--> 200
{"success":true,"data":{}}

PUT http://data.jobs.iot.us-east-1.amazonaws.com/things/pump2/jobs/%24next
accept: application/json
--> 200
{"success":true,"data":{"id":"abc123","created_at":"<time>","execution":{"jobId":"abc123","thingName":"pump2","status":"IN_PROGRESS",
 "queuedAt":"<number>","startedAt":"<number>","lastUpdatedAt":"<number>","versionNumber":2,"executionNumber":1,
 "jobDocument":"{\"operation\":\"reboot\"}"}}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump2/jobs/abc123
accept: */*
content-type: application/json

{"status":"REJECTED","includeJobExecutionState":true}
--> 200
{"executionState":{"status":"REJECTED","versionNumber":3}}

POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump2/jobs/abc123
accept: */*
content-type: application/json

{"status":"FAILED","expectedVersion":2}
--> 409
{"message":"<...version...>","code":"VersionMismatch","executionState":{"status":"REJECTED","versionNumber":3},"...":"..."}
`

// TestREST holds that conversation with curl.
func TestREST(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	url := process.Start(t)
	restJob(t, newSDK(t, url, admin))
	converse(t, curl, url, restConversation)
	same(t, "what SUCCESS is stored as", newSDK(t, url, admin).execution(t, "pump1", "abc123").Status, types.JobExecutionStatusSucceeded)
}

// TestRESTUnsigned: where signatures are wanted, who asks in this form without one is told so in this form.
func TestRESTUnsigned(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	converse(t, curl, process.Start(t, signed(t)...), `
POST http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/abc123
accept: application/json
content-type: application/json

{"status":"IN_PROGRESS"}
--> 401
{"success":false,"error":{"code":"UNAUTHORIZED","message":"<......>"}}
`)
}

// TestRESTSwitch: --rest takes the choice away from the request.
func TestRESTSwitch(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	for mode, answer := range map[string]string{
		"always": `{"success":true,"data":{}}`,
		"never":  `{}`,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			accept := map[string]string{"always": "*/*", "never": "application/json"}[mode]
			url := process.Start(t, "--rest", mode)
			newSDK(t, url, admin).thing(t, "pump1")
			converse(t, curl, url, `
GET http://data.jobs.iot.us-east-1.amazonaws.com/things/pump1/jobs/$next
accept: `+accept+`
--> 200
`+answer+"\n")
		})
	}
}

// restJob gives two pumps one job each, as the conversation expects.
func restJob(t *testing.T, s sdk) {
	t.Helper()
	s.create(t, &iot.CreateJobInput{JobId: new("abc123"), Document: new(`{"operation":"reboot"}`), Targets: []string{s.thing(t, "pump1"), s.thing(t, "pump2")}})
	for _, thing := range []string{"pump1", "pump2"} {
		s.await(t, thing, "abc123", types.JobExecutionStatusQueued)
	}
}

// converse says each request with curl and compares each answer.
func converse(t *testing.T, curl, url, text string) {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.TrimSpace(text), "\n--> ")
	request := blocks[0]
	for _, block := range blocks[1:] {
		// A block is an answer and, after the next blank line, the request that follows it.
		answer, following, _ := strings.Cut(block, "\n\n")
		status, want, _ := strings.Cut(answer, "\n")

		head, body, hasBody := strings.Cut(request, "\n\n")
		lines := strings.Split(head, "\n")
		method, target, _ := strings.Cut(lines[0], " ")
		args := []string{"--silent", "--show-error", "--globoff", "--noproxy", "*", "--max-time", "10", "--request", method, target,
			"--connect-to", "data.jobs.iot.us-east-1.amazonaws.com:80:127.0.0.1:" + port, "--write-out", "\n%{http_code} %{content_type}"}
		for _, header := range lines[1:] {
			args = append(args, "--header", header)
		}
		if hasBody {
			args = append(args, "--data-binary", body)
		}
		out, err := exec.CommandContext(t.Context(), curl, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v %s", request, err, out)
		}
		cut := strings.LastIndex(string(out), "\n")
		got, gotStatus := string(out[:cut]), string(out[cut+1:])
		if !strings.HasPrefix(gotStatus, status+" application/json") || !alike(t, want, got) {
			t.Errorf("%s\ngot  %s %s\nwant %s %s", request, gotStatus, got, status, want)
		}
		request = following
	}
}

// alike compares an answer with the expected JSON and its stand-ins.
func alike(t *testing.T, want, got string) bool {
	t.Helper()
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("the test's own JSON: %v in %s", err, want)
	}
	return json.Unmarshal([]byte(got), &g) == nil && alikeValues(w, g)
}

func alikeValues(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		_, open := want["..."]
		if !ok || !open && len(got) != len(want) {
			return false
		}
		for name, w := range want {
			if g, ok := got[name]; name != "..." && (!ok || !alikeValues(w, g)) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			if !alikeValues(want[i], got[i]) {
				return false
			}
		}
		return true
	case string:
		text, isText := got.(string)
		_, isNumber := got.(float64)
		word, isWord := strings.CutPrefix(want, "<...")
		switch {
		case want == "<number>":
			return isNumber
		case want == "<time>":
			at, err := time.Parse(time.RFC3339, text)
			return err == nil && at.Location() == time.UTC && time.Since(at).Abs() < time.Hour
		case isWord:
			return isText && text != "" && strings.Contains(strings.ToLower(text), strings.ToLower(strings.TrimSuffix(word, "...>")))
		}
		return isText && text == want
	}
	return reflect.DeepEqual(want, got)
}
