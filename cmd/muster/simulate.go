package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/internal/fleet"
	"muster/internal/server"
)

type simulateCmd struct {
	Devices  int    `short:"n" default:"100" placeholder:"N" help:"How many devices, up to 100,000 (default ${default})."`
	Prefix   string `default:"sim-" placeholder:"TEXT" help:"Their names: this and a number of six digits (default ${default})."`
	Things   string `placeholder:"FILE" help:"Play the things of this file instead, one name on a line."`
	Register bool   `help:"Register the things, in the group, before they come: in bulk with a server of ours, one by one with AWS."`
	Remove   bool   `help:"Delete the things and the group at the end."`
	Group    string `default:"simulated" placeholder:"NAME" help:"Thing group for --register, and target of a job that --job makes (default ${default})."`

	Job     string        `placeholder:"ID" help:"Stop once this job is over and everybody has had the last word. It is made for the group if there is none."`
	For     time.Duration `placeholder:"DURATION" help:"Stop after this time. Without it and --job devices live until SIGINT."`
	Timeout int64         `default:"1" placeholder:"MINUTES" help:"In-progress timeout of a job that --job makes, so that hanging devices do not hold it up (default ${default}; 0: none)."`
	Retries int32         `placeholder:"N" help:"Retries of such a job for FAILED and TIMED_OUT together."`

	Seed     uint64        `group:"plan" default:"1" placeholder:"N" help:"What a device does depends on this and on its name alone (default ${default})."`
	Outcomes string        `group:"plan" default:"succeed=90,fail=3,reject=1,hang=1,crash=2,duplicate=2,stale=1" placeholder:"MIX" help:"Weights of what becomes of an attempt (default ${default})."`
	Agents   string        `group:"plan" placeholder:"STYLES" help:"Weights of how devices find their work: start-next, notify, poll (default start-next=1,notify=1; over HTTP start-next)."`
	Arrive   string        `group:"plan" default:"over=10s" placeholder:"PATTERN" help:"When devices come: at-once, over=30s, ramp=1m (ever faster), waves=5/30s (default ${default})."`
	Online   string        `group:"plan" default:"always" placeholder:"PATTERN" help:"When they are connected: always, or 80%/10m, offline two of each ten minutes (default ${default})."`
	Think    string        `group:"plan" default:"200ms..2s" placeholder:"SPAN" help:"Time before each step (default ${default})."`
	Steps    int           `group:"plan" default:"3" placeholder:"N" help:"Steps of an attempt; each is reported (default ${default})."`
	Down     string        `group:"plan" default:"1s..5s" placeholder:"SPAN" help:"How long a device is away that has lost power (default ${default})."`
	Poll     time.Duration `group:"plan" default:"30s" placeholder:"DURATION" help:"How often a device asks that has not been notified (default ${default})."`

	HTTP     bool   `name:"http" group:"wire" help:"Devices speak HTTP instead of MQTT."`
	MQTT     string `name:"mqtt" group:"wire" placeholder:"URL" default:"mqtt://127.0.0.1:1883" env:"MUSTER_MQTT_URL" help:"Where devices connect: mqtt://HOST:PORT or mqtts://HOST:PORT; with --endpoint aws the account's own address (default ${default})."`
	Data     string `name:"data-endpoint" group:"wire" placeholder:"URL" help:"Where devices send requests with --http (default: --endpoint; with --endpoint aws the account's own address)."`
	V5       bool   `name:"mqtt5" group:"wire" help:"MQTT 5 instead of 3.1.1."`
	CA       string `name:"ca" group:"wire" placeholder:"FILE" help:"Authorities of the service's certificate, PEM (default: the system's)."`
	Cert     string `group:"wire" placeholder:"FILE" help:"Client certificate, PEM. {thing} in it stands for the device's name: each then has its own."`
	Key      string `group:"wire" placeholder:"FILE" help:"Its private key, PEM; {thing} likewise."`
	Username string `group:"wire" placeholder:"TEXT" help:"MQTT user name."`

	JSON  bool `name:"json" help:"Print the report as JSON."`
	Quiet bool `short:"q" help:"Print only the report."`
	anyServer
}

// Help tells how the report is to be read, and what it costs.
func (*simulateCmd) Help() string {
	return `Each device is a client of its own that works as agents in the field do: it finds an execution, reports each step, and ends it. Outcomes:
  succeed    reports SUCCEEDED
  fail       reports FAILED at one of the steps
  reject     reports REJECTED
  hang       goes silent at one of the steps; the job's timeout ends it
  crash      loses power at one of the steps, comes back and goes on
  duplicate  sends every report twice; the second must be refused
  stale      expects an old version once, which must be refused, and goes on
Each attempt at a job is drawn anew, so a retry may succeed.

At the end every execution that the service lists is held against what the device was told and what the seed says, and the lists against the job's counters.

A device over plain MQTT takes about 15 KB of this process's memory, with TLS more; the report has the figure of the run. Of connections to 127.0.0.1 20,000 each come from an address of their own, 127.0.1.1, 127.0.2.1 and so on. Each needs a file descriptor, here and in the server (ulimit -n).

Exit code 0: everything adds up; 1: something does not; 2: it could not be done; 3: stopped before the job was over.`
}

// What a wait for a job can end with besides.
const exitNotOver = 3

// maxDevices is what one process is meant for.
const maxDevices = 100_000

// AfterApply is called once the flags are there: what can be wrong in them is said before anything is done.
func (c *simulateCmd) AfterApply(*kong.Context) error {
	_, err := c.plan()
	switch {
	case err != nil:
		return err
	case c.Things == "" && (c.Devices < 1 || c.Devices > maxDevices):
		return fmt.Errorf("--devices is %d; between 1 and %d are possible", c.Devices, maxDevices)
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("--cert and --key belong together")
	}
	return nil
}

func (c *simulateCmd) plan() (p fleet.Plan, err error) {
	p = fleet.Plan{Seed: c.Seed, Steps: c.Steps, Poll: c.Poll}
	take := func(parse func() error) {
		if err == nil {
			err = parse()
		}
	}
	take(func() (err error) { p.Mix, err = fleet.ParseMix(c.Outcomes); return })
	take(func() (err error) { p.Arrive, err = fleet.ParseArrivals(c.Arrive); return })
	take(func() (err error) { p.Online, err = fleet.ParseOnline(c.Online); return })
	take(func() (err error) { p.Think, err = fleet.ParseSpan(c.Think); return })
	take(func() (err error) { p.Down, err = fleet.ParseSpan(c.Down); return })
	if c.Agents != "" {
		take(func() (err error) { p.Styles, err = fleet.ParseStyles(c.Agents); return })
	}
	return p, err
}

// Run plays the fleet.
func (c *simulateCmd) Run(ctx context.Context, w world) error {
	names, err := c.names()
	if err != nil {
		return err
	}
	config, err := c.config(ctx)
	if err != nil {
		return err
	}
	control := iot.NewFromConfig(config)
	o := fleet.Options{Names: names}
	if o.Plan, err = c.plan(); err != nil {
		return err
	}
	if c.HTTP {
		o.HTTP, err = c.http(ctx, control, config)
	} else {
		o.MQTT, err = c.mqtt(ctx, control)
	}
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if !c.Quiet {
			fmt.Fprintf(w.stderr, format+"\n", args...)
		}
	}
	if c.Register {
		say("registering %s in group %s", count(len(names), "thing"), c.Group)
		if err := c.register(ctx, control, names); err != nil {
			return err
		}
	}
	if c.Job != "" {
		if err := c.ensureJob(ctx, control, say); err != nil {
			return err
		}
	}
	f, err := fleet.New(o)
	if err != nil {
		return err
	}
	over := c.live(ctx, f, control, say)
	// What was interrupted is reported on all the same.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	report, err := fleet.Account(after, f, control, c.Job)
	if err != nil {
		return err
	}
	if c.Remove {
		say("removing %s", count(len(names), "thing"))
		if err := fleet.Unregister(after, control, names, c.Group); err != nil {
			return err
		}
	}
	if c.JSON {
		text, err := json.Marshal(report)
		if err != nil {
			return err
		}
		fmt.Fprintln(w.stdout, indented(text))
	} else {
		fmt.Fprint(w.stdout, report)
	}
	switch {
	case !report.Good():
		return exit(exitProblems)
	case !over:
		return exit(exitNotOver)
	}
	return nil
}

func (c *simulateCmd) names() ([]string, error) {
	if c.Things == "" {
		return fleet.Names(c.Prefix, c.Devices), nil
	}
	f, err := os.Open(c.Things)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name := strings.TrimSpace(lines.Text()); name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(names) > maxDevices {
		return nil, fmt.Errorf("%s has %d names; between 1 and %d are possible", c.Things, len(names), maxDevices)
	}
	return names, nil
}

// register makes the things in bulk where that is possible, and one by one elsewhere.
func (c *simulateCmd) register(ctx context.Context, control *iot.Client, names []string) error {
	if c.isAWS() {
		return fleet.Register(ctx, control, names, c.Group)
	}
	lines, to := io.Pipe()
	go func() { to.CloseWithError(fleet.Lines(to, names, c.Group)) }()
	defer lines.Close()
	a, err := c.post(ctx, c.Endpoint, "/_muster/import", "application/x-ndjson", lines)
	if err != nil {
		return err
	}
	if a.status == http.StatusNotFound || a.status == http.StatusForbidden { // another service, such as AWS by its URL
		return fleet.Register(ctx, control, names, c.Group)
	}
	var report server.ImportReport
	switch {
	case json.Unmarshal(a.body, &report) != nil || report.Errors == nil:
		return a.refusal()
	case report.Message != "":
		return errors.New(report.Message)
	case report.Refused > 0:
		return fmt.Errorf("%s could not be registered: %s", count(report.Refused, "thing"), report.Errors[0].Error)
	}
	return nil
}

// ensureJob makes the job that is to be followed, if there is none.
func (c *simulateCmd) ensureJob(ctx context.Context, control *iot.Client, say func(string, ...any)) error {
	_, err := control.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &c.Job})
	if _, none := errors.AsType[*types.ResourceNotFoundException](err); !none {
		return err
	}
	group, err := control.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: &c.Group})
	if err != nil {
		return fmt.Errorf("there is no job %s, and for a new one the group %s is needed (--register makes it): %w", c.Job, c.Group, err)
	}
	in := &iot.CreateJobInput{JobId: &c.Job, Targets: []string{*group.ThingGroupArn}, Document: aws.String(`{"operation":"update","version":"2.1.0"}`)}
	if c.Timeout > 0 {
		in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: &c.Timeout}
	}
	if c.Retries > 0 {
		in.JobExecutionsRetryConfig = &types.JobExecutionsRetryConfig{CriteriaList: []types.RetryCriteria{{FailureType: types.RetryableFailureTypeAll, NumberOfRetries: &c.Retries}}}
	}
	if _, err := control.CreateJob(ctx, in); err != nil {
		return fmt.Errorf("the job %s cannot be made: %w", c.Job, err)
	}
	say("made job %s for group %s", c.Job, c.Group)
	return nil
}

// live runs the fleet until the job is over, the time is up or somebody interrupts. over: nothing was cut short.
func (c *simulateCmd) live(ctx context.Context, f *fleet.Fleet, control *iot.Client, say func(string, ...any)) (over bool) {
	alive, stop := context.WithCancel(ctx)
	defer stop()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		f.Run(alive)
	}()
	var end <-chan time.Time
	if c.For > 0 {
		t := time.NewTimer(c.For)
		defer t.Stop()
		end = t.C
		over = c.Job == ""
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for seconds := 1; ; seconds++ {
		select {
		case <-ctx.Done():
			<-gone
			return c.Job == "" && c.For == 0
		case <-end:
			stop()
			<-gone
			return over
		case <-tick.C:
		}
		if seconds%5 == 0 {
			say("%s", f.Stats())
		}
		if c.Job == "" || f.Stats().InHand.Load() > 0 {
			continue
		}
		job, err := control.DescribeJob(alive, &iot.DescribeJobInput{JobId: &c.Job})
		if err != nil {
			say("%v", err)
			continue
		}
		if job.Job.Status == types.JobStatusCompleted || job.Job.Status == types.JobStatusCanceled {
			stop()
			<-gone
			return true
		}
	}
}

// mqtt says where devices connect.
func (c *simulateCmd) mqtt(ctx context.Context, control *iot.Client) (*fleet.MQTT, error) {
	scheme, at, ok := strings.Cut(c.MQTT, "://")
	if c.isAWS() && c.MQTT == "mqtt://127.0.0.1:1883" {
		host, err := endpointOf(ctx, control, "iot:Data-ATS")
		if err != nil {
			return nil, err
		}
		scheme, at, ok = "mqtts", net.JoinHostPort(host, "8883"), true
	}
	if _, _, err := net.SplitHostPort(at); !ok || err != nil || scheme != "mqtt" && scheme != "mqtts" {
		return nil, fmt.Errorf("--mqtt is %q; write mqtt://HOST:PORT or mqtts://HOST:PORT", c.MQTT)
	}
	m := &fleet.MQTT{Address: at, V5: c.V5, Username: c.Username}
	if scheme == "mqtts" {
		host, port, _ := net.SplitHostPort(at)
		var err error
		if m.TLS, err = c.tls(host); err != nil {
			return nil, err
		}
		if port == "443" {
			plain := m.TLS
			m.TLS = func(thing string) (*tls.Config, error) {
				config, err := plain(thing)
				if err == nil {
					config = config.Clone()
					config.NextProtos = []string{"x-amzn-mqtt-ca"} // events-and-limits.md §3
				}
				return config, err
			}
		}
	} else if c.Cert != "" {
		return nil, errors.New("--cert is for TLS: write --mqtt mqtts://HOST:PORT")
	}
	return m, nil
}

// maxConns bounds the connections that devices share over HTTP.
const maxConns = 256

// http says where devices send requests.
func (c *simulateCmd) http(ctx context.Context, control *iot.Client, config aws.Config) (*fleet.HTTP, error) {
	h := &fleet.HTTP{URL: c.Data, Region: config.Region, Keys: config.Credentials}
	switch {
	case h.URL == "" && c.isAWS():
		host, err := endpointOf(ctx, control, "iot:Jobs")
		if err != nil {
			return nil, err
		}
		h.URL = "https://" + host
	case h.URL == "":
		h.URL = c.Endpoint
	}
	if c.Cert != "" || !c.isAWS() && c.AccessKeyID == "" {
		h.Keys = nil // a certificate says who it is, or nobody asks
	}
	secure, err := c.tls("")
	if err != nil {
		return nil, err
	}
	client := func(thing string) (*http.Client, error) {
		config, err := secure(thing)
		if err != nil {
			return nil, err
		}
		conns := maxConns
		if strings.Contains(c.Cert, "{thing}") {
			conns = 1
		}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: time.Minute}}, nil
	}
	if strings.Contains(c.Cert, "{thing}") {
		h.Client = client
		return h, nil
	}
	shared, err := client("")
	h.Client = func(string) (*http.Client, error) { return shared, nil }
	return h, err
}

// endpointOf asks AWS for an address of the account.
func endpointOf(ctx context.Context, control *iot.Client, kind string) (string, error) {
	out, err := control.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: &kind})
	if err != nil {
		return "", fmt.Errorf("the address of %s is not known: %w", kind, err)
	}
	return *out.EndpointAddress, nil
}

// tls makes the configuration of a device. Devices with one certificate share it.
func (c *simulateCmd) tls(host string) (func(thing string) (*tls.Config, error), error) {
	base := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		base.RootCAs = x509.NewCertPool()
		if !base.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", c.CA)
		}
	}
	if strings.Contains(c.Cert, "{thing}") {
		return func(thing string) (*tls.Config, error) {
			pair, err := tls.LoadX509KeyPair(strings.ReplaceAll(c.Cert, "{thing}", thing), strings.ReplaceAll(c.Key, "{thing}", thing))
			if err != nil {
				return nil, err
			}
			config := base.Clone()
			config.Certificates = []tls.Certificate{pair}
			return config, nil
		}, nil
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		base.Certificates = []tls.Certificate{pair}
	}
	return func(string) (*tls.Config, error) { return base, nil }, nil
}
