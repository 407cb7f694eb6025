package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

type explainCmd struct {
	JobID string `arg:"" help:"The job."`
	Thing string `arg:"" optional:"" help:"Only why it does not move on this thing."`
	JSON  bool   `name:"json" help:"Print the server's answer as it is."`
	aServer
}

// Run prints the reasons, one on a line, each after the number of things it holds back.
func (c *explainCmd) Run(ctx context.Context, w world) error {
	path := jobPath(c.JobID)
	if c.Thing != "" {
		path += "/things/" + url.PathEscape(c.Thing)
	}
	a, err := c.get(ctx, c.Endpoint, path+"/explain")
	if err != nil {
		return err
	}
	var x struct {
		JobID     string `json:"jobId"`
		Status    string `json:"status"`
		RetryOf   string `json:"retryOf"`
		RetriedBy []string
		Stages    *struct {
			Stage, Of int
			Targets   int64
		} `json:"stages"`
		Executions map[string]int64 `json:"executions"`
		Execution  *struct {
			Number int64  `json:"executionNumber"`
			Status string `json:"status"`
		} `json:"execution"`
		Reasons []struct {
			Things  int64  `json:"things"`
			AtLeast bool   `json:"atLeast"`
			Text    string `json:"text"`
		} `json:"reasons"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &x) != nil || x.JobID == "" {
		return a.refusal()
	}
	if c.JSON {
		fmt.Fprintln(w.stdout, indented(a.body))
		return nil
	}
	fmt.Fprintf(w.stdout, "%s is %s", x.JobID, x.Status)
	switch {
	case c.Thing == "":
		fmt.Fprintf(w.stdout, "; executions: %s\n", statuses(x.Executions))
	case x.Execution == nil:
		fmt.Fprintf(w.stdout, "; %s has no execution of it\n", c.Thing)
	default:
		fmt.Fprintf(w.stdout, "; execution %d on %s is %s\n", x.Execution.Number, c.Thing, x.Execution.Status)
	}
	if s := x.Stages; s != nil && s.Stage > 0 {
		fmt.Fprintf(w.stdout, "stage %d of %d, of %s in all\n", s.Stage, s.Of, count(int(s.Targets), "thing"))
	}
	if x.RetryOf != "" {
		fmt.Fprintf(w.stdout, "tries again what failed in %s\n", x.RetryOf)
	}
	if len(x.RetriedBy) > 0 {
		fmt.Fprintf(w.stdout, "what failed is tried again by %s\n", strings.Join(x.RetriedBy, ", "))
	}
	for _, r := range x.Reasons {
		number := grouped(int(r.Things))
		if r.AtLeast {
			number += "+"
		}
		fmt.Fprintf(w.stdout, "%10s  %s\n", number, r.Text)
	}
	if len(x.Reasons) == 0 {
		fmt.Fprintln(w.stdout, "nothing holds it back")
	}
	return nil
}
