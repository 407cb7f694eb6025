// Package mustertest starts a real Muster server inside a Go test: on a free port of loopback, with its
// store in memory, and with a clock that stands still until the test moves it. What a job does in a month
// can so be seen in a millisecond, and the same each time.
//
// It speaks to the server over the same sockets as everybody else and knows no more of it than a client
// does. Real time still rules what is between client and server: signatures, connections, retries.
package mustertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"muster/internal/server"
)

// Start is where the clock of a server stands at first, unless At says otherwise: a Thursday.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// An Option changes the server that New starts.
type Option func(*options)

type options struct {
	start  time.Time
	config server.Config
}

// At lets the clock begin at a moment, which is kept to the second.
func At(start time.Time) Option { return func(o *options) { o.start = start } }

// Region lets the server, and AWSConfig, be of a region. Default us-east-1.
func Region(name string) Option { return func(o *options) { o.config.Region = name } }

// Account lets ARNs be of an account, twelve digits. Default 123456789012.
func Account(id string) Option { return func(o *options) { o.config.Account = id } }

// Log lets the server tell what it does. Default: it is silent.
func Log(l *slog.Logger) Option { return func(o *options) { o.config.Log = l } }

// A Server is a running Muster that ends with its test.
type Server struct {
	// URL is the endpoint of both planes, such as http://127.0.0.1:40123. It also speaks MQTT over WebSocket, at /mqtt.
	URL string
	// MQTT is where devices speak MQTT, such as tcp://127.0.0.1:40124. Any client id may act for any thing.
	MQTT string

	t      testing.TB
	region string
	client *http.Client
}

// New starts a server. It is stopped when the test ends; what it kept is gone then. Whatever goes wrong
// with the server, now or later, fails the test.
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	o := options{start: Start}
	for _, opt := range opts {
		opt(&o)
	}
	c := o.config
	c.HTTP, c.MQTT, c.Store, c.Grace = "127.0.0.1:0", "127.0.0.1:0", "memory", time.Second
	c.Clock = "manual:" + o.start.UTC().Format(time.RFC3339)
	s, err := server.New(c)
	if err != nil {
		t.Fatalf("mustertest: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	own := &http.Transport{}
	t.Cleanup(func() {
		own.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("mustertest: the server ended badly: %v", err)
		}
	})
	return &Server{URL: "http://" + s.Addrs()["http"], MQTT: "tcp://" + s.Addrs()["mqtt"], t: t, region: cmp.Or(c.Region, "us-east-1"), client: &http.Client{Transport: own}}
}

// AWSConfig is a configuration with which every client of the AWS SDK for Go, version 2, speaks to this
// server: its endpoint and region, and credentials that nobody checks.
func (s *Server) AWSConfig() aws.Config {
	return aws.Config{
		Region:       s.region,
		BaseEndpoint: aws.String(s.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test", Source: "mustertest"}, nil
		}),
	}
}

// Now is where the clock stands.
func (s *Server) Now() time.Time {
	s.t.Helper()
	now, _ := s.clock(http.MethodGet, nil)
	return now
}

// NextDue is when something will happen by itself: a timer, a rollout's next execution, a window. It is
// the zero time when nothing will. Of what is due already it is the past or the present.
func (s *Server) NextDue() time.Time {
	s.t.Helper()
	_, next := s.clock(http.MethodGet, nil)
	return next
}

// Advance moves the clock on, stopping wherever something is due, and returns when all of that is done:
// rollouts, timeouts, retries, windows; devices have been told of it. Advance(0) does what is due now, such as the rollout of a job that
// was just created. It returns where the clock stands.
func (s *Server) Advance(d time.Duration) time.Time {
	s.t.Helper()
	now, _ := s.clock(http.MethodPost, map[string]any{"advance": d.String()})
	return now
}

// AdvanceToNext moves the clock to when something is due, if anything is, and does it.
func (s *Server) AdvanceToNext() time.Time {
	s.t.Helper()
	now, _ := s.clock(http.MethodPost, map[string]any{"next": true})
	return now
}

func (s *Server) clock(method string, move any) (now, next time.Time) {
	s.t.Helper()
	var body bytes.Buffer
	if move != nil {
		if err := json.NewEncoder(&body).Encode(move); err != nil {
			s.t.Fatalf("mustertest: %v", err)
		}
	}
	// Not the test's context: a clean-up may want to look at the clock, too.
	req, err := http.NewRequestWithContext(context.Background(), method, s.URL+"/_muster/clock", &body)
	if err != nil {
		s.t.Fatalf("mustertest: %v", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("mustertest: the clock: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("mustertest: the clock: %s %s %v", resp.Status, text, err)
	}
	var is struct{ Now, NextDue time.Time }
	if err := json.Unmarshal(text, &is); err != nil {
		s.t.Fatalf("mustertest: the clock: %v in %s", err, text)
	}
	return is.Now, is.NextDue
}
