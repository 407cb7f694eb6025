package fleet_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster"
	"muster/internal/fleet"
	"muster/internal/server"
)

// A yard is a server whose clock stands still until it is moved, and a client of it.
type yard struct {
	t       *testing.T
	http    string
	mqtt    string
	control *iot.Client
}

func newYard(t *testing.T) *yard {
	t.Helper()
	s, err := server.New(server.Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Clock: "manual", Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	y := &yard{t: t, http: "http://" + s.Addrs()["http"], mqtt: s.Addrs()["mqtt"]}
	y.control = iot.New(iot.Options{Region: "us-east-1", BaseEndpoint: &y.http, Credentials: credentials.NewStaticCredentialsProvider("x", "x", "")})
	return y
}

func (y *yard) post(path, body string) {
	y.t.Helper()
	response, err := http.Post(y.http+path, "application/json", strings.NewReader(body))
	if err != nil {
		y.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		y.t.Fatalf("%s: %s", path, response.Status)
	}
}

// patience bounds what should take a second or two.
const patience = time.Minute

// play registers a fleet in bulk, makes a job for it, and moves the clock whenever no device has anything in hand, until
// the job is over.
func (y *yard) play(o fleet.Options, job *iot.CreateJobInput) (*fleet.Fleet, *fleet.JobCheck) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	var lines bytes.Buffer
	if err := fleet.Lines(&lines, o.Names, "yard"); err != nil {
		y.t.Fatal(err)
	}
	y.post("/_muster/import", lines.String())
	job.Targets = []string{"arn:aws:iot:us-east-1:123456789012:thinggroup/yard"}
	job.Document = aws.String(`{"operation":"update"}`)
	if _, err := y.control.CreateJob(ctx, job); err != nil {
		y.t.Fatal(err)
	}
	f, err := fleet.New(o)
	if err != nil {
		y.t.Fatal(err)
	}
	alive, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		f.Run(alive)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun, lacking := int64(-1), 0
	for over := false; !over; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			stop()
			<-gone
			y.t.Fatalf("the job is not over: begun %d, in hand %d, hung %d", f.Stats().Begun.Load(), f.Stats().InHand.Load(), f.Stats().Hung.Load())
		}
		// Time passes only when everybody has done what there was to do.
		if now := f.Stats().Begun.Load(); now != begun || f.Stats().InHand.Load() > 0 {
			begun, lacking = now, 0
		} else if lacking++; lacking > 10 {
			y.post("/_muster/clock", `{"advance":"1m"}`)
			lacking = 0
		}
		out, err := y.control.DescribeJob(ctx, &iot.DescribeJobInput{JobId: job.JobId})
		if err != nil {
			y.t.Fatal(err)
		}
		over = out.Job.Status != types.JobStatusInProgress && f.Stats().InHand.Load() == 0
	}
	stop()
	<-gone
	c, err := fleet.Check(ctx, f, y.control, *job.JobId)
	if err != nil {
		y.t.Fatal(err)
	}
	return f, c
}

var quick = fleet.Plan{Seed: 1, Think: fleet.Span{Most: 20 * time.Millisecond}, Down: fleet.Span{Most: 50 * time.Millisecond}, Poll: 100 * time.Millisecond}

func everything(t *testing.T) fleet.Mix {
	t.Helper()
	m, err := fleet.ParseMix("succeed=40,fail=15,reject=10,hang=5,crash=10,duplicate=10,stale=10")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Every outcome there is, with retries of both kinds: what comes out is what the seed says, on each thing and in sum.
func TestAllComesOutAsSeeded(t *testing.T) {
	for name, v5 := range map[string]bool{"MQTT 3.1.1": false, "MQTT 5": true} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			plan := quick
			plan.Mix = everything(t)
			plan.Styles = fleet.Styles{fleet.StartNext: 1, fleet.Notify: 1, fleet.Poll: 1}
			f, c := y.play(fleet.Options{Names: fleet.Names("sim-", 150), Plan: plan, MQTT: &fleet.MQTT{Address: y.mqtt, V5: v5}}, &iot.CreateJobInput{
				JobId: aws.String("fw"), TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(1)},
				JobExecutionsRetryConfig: &types.JobExecutionsRetryConfig{CriteriaList: []types.RetryCriteria{
					{FailureType: types.RetryableFailureTypeFailed, NumberOfRetries: aws.Int32(2)},
					{FailureType: types.RetryableFailureTypeTimedOut, NumberOfRetries: aws.Int32(1)},
				}},
			})
			if !c.Exact() || c.Things != 150 || c.Status != "COMPLETED" {
				t.Errorf("%+v", c)
			}
			s := f.Stats()
			if s.Wrong.Load() != 0 || s.Refused.Load() != 0 || s.Breaks.Load() != 0 {
				t.Errorf("wrong %d, refused %d, breaks %d", s.Wrong.Load(), s.Refused.Load(), s.Breaks.Load())
			}
			for what, n := range map[string]int64{"crashes": s.Crashes.Load(), "duplicates": s.Duplicates.Load(), "stale": s.StaleRefused.Load(),
				"rejected": c.Listed[muster.Rejected], "timed out": c.Listed[muster.TimedOut], "retries": int64(c.Retries)} {
				if n == 0 {
					t.Errorf("there are no %s", what)
				}
			}
		})
	}
}

func TestOverHTTP(t *testing.T) {
	y := newYard(t)
	plan := quick
	plan.Mix = everything(t)
	plan.Styles = fleet.Styles{fleet.StartNext: 1, fleet.Poll: 1}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50, MaxConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	h := &fleet.HTTP{URL: y.http, Region: "us-east-1", Keys: credentials.NewStaticCredentialsProvider("x", "x", ""),
		Client: func(string) (*http.Client, error) { return client, nil }}
	f, c := y.play(fleet.Options{Names: fleet.Names("sim-", 80), Plan: plan, HTTP: h}, &iot.CreateJobInput{
		JobId: aws.String("fw"), TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(1)}})
	if !c.Exact() || c.Things != 80 || f.Stats().Wrong.Load() != 0 || f.Stats().Duplicates.Load() == 0 || f.Stats().StaleRefused.Load() == 0 {
		t.Errorf("%+v", c)
	}
}
