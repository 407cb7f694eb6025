package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/internal/fleet"
	"muster/internal/operate"
	"muster/internal/screen"
	"muster/internal/server"
)

type demoCmd struct {
	Devices int     `short:"n" default:"1000" placeholder:"N" help:"How many devices, up to 10,000 (default ${default})."`
	Fail    float64 `default:"6" placeholder:"PERCENT" help:"How many of a hundred attempts fail (default ${default}). From 25 or so the job aborts."`
	Seed    uint64  `default:"1" placeholder:"N" help:"What devices do depends on this (default ${default})."`
	Keep    bool    `help:"Leave the server running at the end, to be asked, until SIGINT."`
	look
}

// Help tells what is to be seen.
func (*demoCmd) Help() string {
	return `Starts a server with its store in a temporary directory, registers a group of simulated devices that connect over MQTT, and rolls out a firmware job to them in stages: 5 % first, then 25 %, then all, each stage after a rest. What fails is tried again, what hangs times out, and if a quarter fails the job aborts.

The server has a clock that can be moved, and the demo moves it: what takes a minute there takes a second here. At the end every counter is held against what the devices were told and what their seed says. Nothing is left behind.

Exit code 0: everything adds up; 1: something does not; 2: it could not be done; 3: interrupted.`
}

// AfterApply says what is wrong with the flags before anything is done.
func (c *demoCmd) AfterApply(*kong.Context) error {
	switch {
	case c.Devices < 20 || c.Devices > 10_000:
		return fmt.Errorf("--devices is %d; between 20 and 10,000 are possible", c.Devices)
	case c.Fail < 0 || c.Fail > 90:
		return fmt.Errorf("--fail is %g; between 0 and 90 percent are possible", c.Fail)
	}
	return nil
}

const (
	demoJob   = "firmware-2-1-0"
	demoGroup = "pumps"
	demoSpeed = 60 // how much faster time passes for the job
	// demoTick is how often the clock is moved, and maxTick the longest step of real time that counts: on a machine that is
	// too busy for the devices time must not run ahead of them.
	demoTick = 100 * time.Millisecond
	maxTick  = 200 * time.Millisecond
	// idleSpeed is by how much faster still it passes while nobody has anything to do but wait.
	idleSpeed = 4
	frameTick = 100 * time.Millisecond
	plainTick = 2 * time.Second
	// demoLimit is far more than a demo takes on a busy machine.
	demoLimit = 4 * time.Minute
	// maxNotices is how many of the last notices are kept for the screen.
	maxNotices = 40
)

// demoShares are the stages, of which the first two rest for some minutes.
var demoShares = []string{"5 %", "25 %", "all"}

const demoStages = "5/2m 25/3m 100"

// A demo is one run.
type demo struct {
	*demoCmd
	screen  *screen.Screen
	addrs   map[string]string
	control *iot.Client
	fleet   *fleet.Fleet
	began   time.Time
	clock   time.Time // of the job, at first

	mu      sync.Mutex
	now     time.Time // of the job
	notices []string
	stage   string
	said    string // of plain lines, the last
	why     string
}

// Run is the demo.
func (c *demoCmd) Run(ctx context.Context, w world) (err error) {
	// A terminal that is closed must not leave anything behind either.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{demoCmd: c, screen: c.screen(w), began: time.Now(), clock: time.Now().UTC().Truncate(time.Second)}
	defer d.screen.Close()
	s, err := server.New(server.Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "pebble:" + filepath.Join(dir, "data"),
		Clock: "manual:" + d.clock.Format(time.RFC3339), Grace: time.Second, Log: warnings(w)})
	if err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- s.Run(serving) }()
	defer func() {
		stopServing()
		err = errors.Join(err, <-served)
	}()
	d.now, d.addrs = d.clock, s.Addrs()
	ours := anyServer{Endpoint: "http://" + d.addrs["http"], signing: signing{Region: "us-east-1"}}
	if d.control, err = ours.control(ctx); err != nil {
		return err
	}
	d.screen.Say("muster demo: a server on %s, its data in %s until the end", ours.Endpoint, dir)
	report, err := d.play(ctx, &ours)
	d.screen.Close()
	if ctx.Err() != nil {
		d.screen.Say("interrupted; the server and its data are gone")
		return exit(exitNotOver)
	}
	if err != nil {
		return err
	}
	d.screen.Say("\n%s", strings.TrimSuffix(report.String(), "\n"))
	d.next(ours.Endpoint)
	if c.Keep {
		select {
		case <-ctx.Done():
		case err := <-served:
			served <- nil
			return err
		}
	}
	if !report.Good() {
		return exit(exitProblems)
	}
	return nil
}

// play registers, creates, watches and checks.
func (d *demo) play(ctx context.Context, ours *anyServer) (*fleet.Report, error) {
	names := fleet.Names("pump-", d.Devices)
	var lines bytes.Buffer
	if err := fleet.Lines(&lines, names, demoGroup); err != nil {
		return nil, err
	}
	a, err := ours.post(ctx, ours.Endpoint, "/_muster/import", "application/x-ndjson", &lines)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, a.refusal()
	}
	d.screen.Say("registered %s in group %s; they connect over MQTT to %s", count(len(names), "thing"), demoGroup, d.addrs["mqtt"])
	plan := fleet.Plan{Seed: d.Seed, Arrive: fleet.Arrivals{Over: 2 * time.Second}, Think: fleet.Span{Least: 100 * time.Millisecond, Most: 900 * time.Millisecond},
		Steps: 3, Poll: 10 * time.Second, Down: fleet.Span{Least: 300 * time.Millisecond, Most: time.Second}, Styles: fleet.Styles{fleet.StartNext: 1, fleet.Notify: 1}}
	rest := 100 - d.Fail
	plan.Mix[fleet.Fail] = d.Fail
	for outcome, share := range map[fleet.Outcome]float64{fleet.Succeed: 0.92, fleet.Reject: 0.01, fleet.Hang: 0.01, fleet.Crash: 0.03, fleet.Duplicate: 0.02, fleet.Stale: 0.01} {
		plan.Mix[outcome] = rest * share
	}
	if d.fleet, err = fleet.New(fleet.Options{Names: names, Plan: plan, MQTT: &fleet.MQTT{Address: d.addrs["mqtt"]}, Notice: d.notice}); err != nil {
		return nil, err
	}
	alive, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.fleet.Run(alive)
	}()
	defer func() {
		stop()
		<-gone
	}()
	if err := d.create(ctx); err != nil {
		return nil, err
	}
	if err := d.watch(ctx, ours); err != nil {
		return nil, err
	}
	stop()
	<-gone
	report, err := fleet.Account(ctx, d.fleet, d.control, demoJob)
	if err == nil {
		report.PerDevice = 0 // the server is in the same process
	}
	return report, err
}

// create makes the job.
func (d *demo) create(ctx context.Context) error {
	_, err := d.control.CreateJob(ctx, &iot.CreateJobInput{
		JobId:       aws.String(demoJob),
		Targets:     []string{"arn:aws:iot:us-east-1:123456789012:thinggroup/" + demoGroup},
		Description: aws.String("Firmware 2.1.0 for all pumps"),
		Document:    aws.String(`{"operation":"update","version":"2.1.0","url":"https://firmware.example.com/pump-2.1.0.bin"}`),
		JobExecutionsRolloutConfig: &types.JobExecutionsRolloutConfig{ExponentialRate: &types.ExponentialRolloutRate{
			BaseRatePerMinute: aws.Int32(50), IncrementFactor: aws.Float64(2), RateIncreaseCriteria: &types.RateIncreaseCriteria{NumberOfSucceededThings: aws.Int32(100)}}},
		AbortConfig: &types.AbortConfig{CriteriaList: []types.AbortCriteria{{Action: types.AbortActionCancel, FailureType: types.JobExecutionFailureTypeFailed,
			MinNumberOfExecutedThings: aws.Int32(int32(max(10, d.Devices/25))), ThresholdPercentage: aws.Float64(25)}}},
		TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(10)},
		JobExecutionsRetryConfig: &types.JobExecutionsRetryConfig{CriteriaList: []types.RetryCriteria{
			{FailureType: types.RetryableFailureTypeFailed, NumberOfRetries: aws.Int32(1)}, {FailureType: types.RetryableFailureTypeTimedOut, NumberOfRetries: aws.Int32(1)}}},
		Tags: []types.Tag{{Key: aws.String("muster:stages"), Value: aws.String(demoStages)}},
	})
	if err != nil {
		return fmt.Errorf("the job cannot be made: %w", err)
	}
	d.screen.Say("made job %s: 5 %%, then 25 %%, then all; one retry; aborts when 25 %% fail. A minute there is a second here.\n", demoJob)
	return nil
}

// notice notes what a device did.
func (d *demo) notice(n fleet.Notice) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(fmt.Sprintf("%s %s, attempt %d", n.Thing, n.Text, n.Attempt))
}

func (d *demo) note(text string) {
	d.notices = append(d.notices, d.now.Format("15:04:05")+"  "+text)
	if len(d.notices) > maxNotices {
		d.notices = d.notices[1:]
	}
}

// event notes something about the job as a whole, also where lines are plain.
func (d *demo) event(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.mu.Lock()
	d.note(d.screen.Paint(screen.Bold, text))
	d.mu.Unlock()
	if !d.screen.Live() {
		d.screen.Say("%s", d.stamped(text))
	}
}

func (d *demo) stamped(text string) string {
	return fmt.Sprintf("%5.1fs  %s", time.Since(d.began).Seconds(), text)
}

// watch moves the clock and shows the job, until it is over and no device has anything in hand.
func (d *demo) watch(ctx context.Context, ours *anyServer) error {
	clock := time.NewTicker(demoTick)
	defer clock.Stop()
	every := frameTick
	if !d.screen.Live() {
		every = plainTick
	}
	draw := time.NewTicker(every)
	defer draw.Stop()
	var rate operate.Rate
	var p *operate.Progress
	quiet, last := 0, time.Now()
	late := time.After(demoLimit)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("the job is not over after %s: %s", demoLimit, d.why)
		case <-draw.C:
			if p != nil {
				d.show(p, rate.Add(p.Ended(), time.Now()))
			}
			continue
		case <-clock.C:
		}
		step := min(time.Since(last), maxTick)
		last = time.Now()
		stats := d.fleet.Stats()
		if stats.InHand.Load() > 0 || stats.Begun.Load() == 0 {
			quiet = 0
		} else if quiet++; quiet > 5 {
			step *= idleSpeed
		}
		if err := d.advance(ctx, ours, step*demoSpeed); err != nil {
			return err
		}
		var err error
		if p, err = operate.Look(ctx, d.control, demoJob); err != nil {
			return err
		}
		if err := d.explain(ctx, ours); err != nil {
			return err
		}
		if p.Over() && stats.InHand.Load() == 0 && p.Executions["QUEUED"] == 0 {
			d.event("the job is %s after %s", p.Status, d.now.Sub(d.clock).Round(time.Second))
			d.show(p, rate.Add(p.Ended(), time.Now()))
			return nil
		}
	}
}

func (d *demo) advance(ctx context.Context, ours *anyServer, by time.Duration) error {
	a, err := ours.post(ctx, ours.Endpoint, "/_muster/clock", "application/json", strings.NewReader(fmt.Sprintf(`{"advance":%q}`, by)))
	if err != nil {
		return err
	}
	var is struct{ Now time.Time }
	if a.status != http.StatusOK || json.Unmarshal(a.body, &is) != nil {
		return a.refusal()
	}
	d.mu.Lock()
	d.now = is.Now
	d.mu.Unlock()
	return nil
}

// explain notes when a stage begins, and what the job waits for.
func (d *demo) explain(ctx context.Context, ours *anyServer) error {
	a, err := ours.get(ctx, ours.Endpoint, jobPath(demoJob)+"/explain")
	if err != nil {
		return err
	}
	var x struct {
		Stages *struct {
			Stage, Of int
		} `json:"stages"`
		Reasons []struct{ Text string } `json:"reasons"`
	}
	if a.status != http.StatusOK || json.Unmarshal(a.body, &x) != nil {
		return a.refusal()
	}
	d.why = ""
	if len(x.Reasons) > 0 {
		d.why = x.Reasons[0].Text
	}
	if s := x.Stages; s != nil && s.Stage > 0 {
		if now := fmt.Sprintf("stage %d of %d: %s of the things", s.Stage, s.Of, demoShares[min(s.Stage, len(demoShares))-1]); now != d.stage {
			d.stage = now
			d.event("%s", now)
		}
	}
	return nil
}

// show draws the job, or says it in a line.
func (d *demo) show(p *operate.Progress, rate float64) {
	if !d.screen.Live() {
		if line := fmt.Sprintf("%s; %.0f a second", counts(p), rate); line != d.said {
			d.said = line
			d.screen.Say("%s", d.stamped(line))
		}
		return
	}
	width, height := d.screen.Size()
	paint := d.screen.Paint
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := []string{
		fmt.Sprintf("%s is %s; %s", paint(screen.Bold, demoJob), paint(screen.Bold, p.Status), d.stage),
		paint(screen.Faint, fmt.Sprintf("%s devices online; job's clock +%s, here +%.0fs", grouped(int(d.fleet.Stats().Online.Load())), d.now.Sub(d.clock).Round(time.Second), time.Since(d.began).Seconds())),
		"",
	}
	lines = append(lines, bars(d.screen, p, max(int64(d.Devices), p.Total()))...)
	lines = append(lines, "", fmt.Sprintf("  %.0f executions end in a second; %s", rate, failing(p)))
	if d.why != "" && !p.Over() {
		lines = append(lines, "  "+paint(screen.Faint, "waits: "+d.why))
	} else {
		lines = append(lines, "")
	}
	lines = append(lines, "")
	room := max(min(height-len(lines)-2, maxNotices), 0)
	for _, n := range d.notices[max(0, len(d.notices)-room):] {
		lines = append(lines, "  "+screen.Cut(n, width-4))
	}
	d.screen.Frame(lines)
}

// next says what to type next.
func (d *demo) next(endpoint string) {
	self := "muster"
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		self = "go run ./cmd/muster"
	}
	say := d.screen.Say
	if d.Keep {
		say("\nThe server runs on. Try, in another terminal:")
		say("  curl %s/jobs/%s", endpoint, demoJob)
		say("  curl -H 'accept: application/json' %s/things/pump-000001/jobs", endpoint)
		say("  %s explain %s --endpoint %s", self, demoJob, endpoint)
		say("  %s watch %s --endpoint %s", self, demoJob, endpoint)
		say("  AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any aws iot describe-job --job-id %s --region us-east-1 --endpoint-url %s", demoJob, endpoint)
		say("Ctrl-C ends it and removes its data.")
		return
	}
	say("\nNext, with a server that stays (its data in ./muster-data):")
	say("  %s serve", self)
	say("and in another terminal:")
	say("  %s simulate -n 50 --register --job first", self)
	say("  %s watch first", self)
	say("  curl http://localhost:8080/jobs/first")
	say("  AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any aws iot describe-job --job-id first --region us-east-1 --endpoint-url http://localhost:8080")
}
