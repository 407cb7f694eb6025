package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// jobCmd are acts that AWS does not have.
type jobCmd struct {
	Hold        holdCmd        `cmd:"" help:"Pause the rollout and stop offering what is queued; what is in progress goes on."`
	Resume      resumeCmd      `cmd:"" help:"Let a held job go on; after a gate, with its next stage."`
	RetryFailed retryFailedCmd `cmd:"" name:"retry-failed" help:"Make a job for the things that failed, timed out or rejected another."`
}

// aServer is which server a command asks, and as whom.
type aServer struct {
	Endpoint string `placeholder:"URL" default:"http://127.0.0.1:8080" env:"MUSTER_ENDPOINT_URL" help:"The running server (default ${default})."`
	signing
}

type holdCmd struct {
	JobID  string `arg:"" help:"The job."`
	Reason string `placeholder:"TEXT" help:"Why, for whoever asks with muster explain."`
	aServer
}

// Run holds a job.
func (c *holdCmd) Run(ctx context.Context, w world) error {
	_, err := c.act(ctx, c.JobID, "hold", map[string]string{"reason": c.Reason})
	if err == nil {
		fmt.Fprintf(w.stdout, "job %s is held\n", c.JobID)
	}
	return err
}

type resumeCmd struct {
	JobID string `arg:"" help:"The job."`
	aServer
}

// Run resumes a job.
func (c *resumeCmd) Run(ctx context.Context, w world) error {
	_, err := c.act(ctx, c.JobID, "resume", nil)
	if err == nil {
		fmt.Fprintf(w.stdout, "job %s goes on\n", c.JobID)
	}
	return err
}

type retryFailedCmd struct {
	JobID string `arg:"" help:"The job in which things failed."`
	As    string `placeholder:"ID" help:"Id of the new job (default: that of the job with -retry-1 and so on)."`
	aServer
}

// Run makes the job and prints its id.
func (c *retryFailedCmd) Run(ctx context.Context, w world) error {
	made, err := c.act(ctx, c.JobID, "retry-failed", map[string]string{"jobId": c.As})
	if err == nil {
		fmt.Fprintln(w.stdout, made)
	}
	return err
}

// act does something to a job and returns the id of the job in the answer.
func (s *aServer) act(ctx context.Context, id, what string, with map[string]string) (string, error) {
	var body io.Reader = http.NoBody
	for name, value := range with {
		if value == "" {
			continue
		}
		text, err := json.Marshal(map[string]string{name: value})
		if err != nil {
			return "", err
		}
		body = bytes.NewReader(text)
	}
	a, err := s.post(ctx, s.Endpoint, jobPath(id)+"/"+what, "application/json", body)
	if err != nil {
		return "", err
	}
	var said struct {
		JobID string `json:"jobId"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &said) != nil {
		return "", a.refusal()
	}
	return said.JobID, nil
}

func jobPath(id string) string { return "/_muster/jobs/" + url.PathEscape(id) }

// indented is JSON as a person reads it.
func indented(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(text), "", "  ") != nil {
		return string(text)
	}
	return b.String()
}

// statuses is a list of counts, the same way each time.
func statuses(counts map[string]int64) string {
	var parts []string
	for _, name := range []string{"QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"} {
		if n := counts[name]; n != 0 {
			parts = append(parts, fmt.Sprintf("%s %s", grouped(int(n)), name))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
