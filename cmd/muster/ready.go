package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

type readyCmd struct {
	Endpoint string        `placeholder:"URL" default:"http://127.0.0.1:8080" env:"MUSTER_ENDPOINT_URL" help:"The running server (default ${default})."`
	Timeout  time.Duration `placeholder:"DURATION" default:"4s" help:"How long it may take to answer (default ${default})."`
}

// Help tells the exit codes, which whoever looks after containers needs.
func (*readyCmd) Help() string {
	return `Asks a running server whether it can take requests, as GET /readyz does: a health check for containers that have no curl. Exit code 0: it can; 1: it says why not; 2: it does not answer.`
}

// Run asks once.
func (c *readyCmd) Run(ctx context.Context, w world) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("%q is not the URL of a server: write http://HOST:PORT", c.Endpoint)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer answer.Body.Close()
	var said struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&said); err != nil {
		return fmt.Errorf("%s is no muster server: it answered %s", c.Endpoint, answer.Status)
	}
	if !said.Ready {
		fmt.Fprintln(w.stderr, said.Reason)
		return exit(exitProblems)
	}
	fmt.Fprintln(w.stdout, "ready")
	return nil
}
