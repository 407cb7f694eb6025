package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/server"
)

// lab is a server in this process, with a clock that stands still.
func lab(t *testing.T, credentials string) (url string) {
	t.Helper()
	s := serveHere(t, server.Config{Clock: "manual:2026-01-01T00:00:00Z", Credentials: credentials})
	return "http://" + s.Addrs()["http"]
}

// serveHere runs a server in this process for the length of the test.
func serveHere(t *testing.T, c server.Config) *server.Server {
	t.Helper()
	s, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func send(t *testing.T, method, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d", method, url, response.StatusCode)
	}
}

const aJob = `{"jobId":"fw","targets":["arn:aws:iot:us-east-1:123456789012:thing/a","arn:aws:iot:us-east-1:123456789012:thing/b"],"document":"{}",
"jobExecutionsRolloutConfig":{"maximumPerMinute":1},
"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":50,"minNumberOfExecutedThings":1}]}}`

// A job from its dry run to the retry of what failed.
func TestJobCommands(t *testing.T) {
	url := lab(t, "")
	send(t, "POST", url+"/things/a", "{}")
	send(t, "POST", url+"/things/b", "{}")
	file := filepath.Join(t.TempDir(), "job.json")
	if err := os.WriteFile(file, []byte(aJob), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(want int, says string, args ...string) {
		t.Helper()
		code, out, errs := said(aJob, append(args, "--endpoint", url)...)
		if code != want || !strings.Contains(out+errs, says) || (want == 0) != (errs == "") {
			t.Errorf("muster %s: %d\n%s%s\nit should say %s", strings.Join(args, " "), code, out, errs, says)
		}
	}
	do(0, `targets   2 things, 0 with queued work; such as a, b
abort     Aborts at 1 failures (FAILED) if nothing succeeds, at 1 of 2 if all others have succeeded
2026-01-01T00:00:00Z  The job is created and IN_PROGRESS
2026-01-01T00:06:00Z  The job becomes COMPLETED
earliest  2026-01-01T00:01:00Z, COMPLETED; executions: 2 SUCCEEDED
expected  2026-01-01T00:06:00Z, COMPLETED; executions: 2 SUCCEEDED
`, "dry-run", "-f", file)
	do(0, "2026-01-01T00:01:00Z         1          2          2  none\n", "dry-run", "-f", "-", "--curve")
	do(0, "CANCELED; executions: 1 FAILED; Aborted: 1 of 1", "dry-run", "-f", "-", "--success", "0", "--duration", "30s")
	do(0, `"withQueuedWork": 0`, "dry-run", "-f", "-", "--json")
	do(exitFailed, "the server refused: success is", "dry-run", "-f", "-", "--success", "200")
	do(exitFailed, "no such file", "dry-run", "-f", file+"2")

	do(exitFailed, "the server refused: Job fw does not exist", "explain", "fw")
	send(t, "PUT", url+"/jobs/fw", aJob)
	send(t, "POST", url+"/_muster/clock", `{"advance":"0s"}`)
	do(0, "fw is IN_PROGRESS; executions: 1 QUEUED\n         1  The rollout goes at 1 a minute; the next thing follows at 2026-01-01T00:01:00Z\n", "explain", "fw")
	do(0, "fw is IN_PROGRESS; execution 1 on a is QUEUED\n         1  The device has been offered", "explain", "fw", "a")
	do(0, "; b has no execution of it\n", "explain", "fw", "b")
	do(0, `"code": "WAITING_FOR_RATE"`, "explain", "fw", "--json")
	do(0, "job fw is held\n", "job", "hold", "fw", "--reason", "lunch")
	do(0, "Somebody holds the job since 2026-01-01T00:00:00Z: lunch", "explain", "fw")
	do(exitFailed, "is held already", "job", "hold", "fw")
	do(0, "job fw goes on\n", "job", "resume", "fw")
	do(exitFailed, "is not held", "job", "resume", "fw")
	do(exitFailed, "nothing to try again", "job", "retry-failed", "fw")
	send(t, "POST", url+"/things/a/jobs/fw", `{"status":"FAILED"}`)
	do(0, "targets   1 thing, 0 with queued work; such as a\n", "dry-run", "--retry-failed", "fw")
	do(0, "fw-retry-1\n", "job", "retry-failed", "fw")
	do(0, "again\n", "job", "retry-failed", "fw", "--as", "again")
	do(0, "what failed is tried again by fw-retry-1, again\n", "explain", "fw")
	do(0, "tries again what failed in fw\n", "explain", "again")
}

// Where signatures are asked for the commands sign, what they read and what they change.
func TestJobCommandsSign(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"secret-of-the-example"},{"accessKeyId":"AKIDREADER","secretAccessKey":"secret-of-the-reader","readOnly":true}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	url := lab(t, keys)
	for _, c := range []struct{ key, secret, args, says string }{
		{"", "", "explain fw", "the server refused: "},
		{"", "", "job hold fw", "the server refused: "},
		{"AKIDEXAMPLE", "secret-of-the-example", "explain fw", "Job fw does not exist"},
		{"AKIDEXAMPLE", "secret-of-the-example", "job hold fw", "Job fw does not exist"},
		{"AKIDEXAMPLE", "secret-of-the-example", "dry-run -f -", "which does not exist"},
		{"AKIDREADER", "secret-of-the-reader", "explain fw", "Job fw does not exist"},
		{"AKIDREADER", "secret-of-the-reader", "job hold fw", "the server refused: "},
	} {
		args := append(strings.Fields(c.args), "--endpoint", url)
		if c.key != "" {
			args = append(args, "--access-key-id", c.key, "--secret-access-key", c.secret)
		}
		if code, out, errs := said(aJob, args...); code != exitFailed || out != "" || !strings.Contains(errs, c.says) || c.key == "AKIDREADER" && c.args == "job hold fw" && strings.Contains(errs, "does not exist") {
			t.Errorf("%s as %q: %d %s%s", c.args, c.key, code, out, errs)
		}
	}
}
