package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
)

// P3 and P4: devices over HTTP, against the real program.

// updateSize is the size of an update's body.
const updateSize = 201

// updaters are the devices that report: seven of eight. The rest are asked
// about, so that their answers stay of one size.
func updaters(things int) int { return things - things/8 }

// A deviceLoad is the devices' side of updates over HTTP: each connection
// reports for things of its own, and expects the version that it was told.
type deviceLoad struct {
	conns    int
	versions []int64
	state    []deviceConn
	reports  atomic.Int64
}

type deviceConn struct {
	thing   int
	rng     *rand.Rand
	request []byte
	body    []byte
}

func newDeviceLoad(things, conns int) *deviceLoad {
	d := &deviceLoad{conns: conns, versions: make([]int64, updaters(things)), state: make([]deviceConn, conns)}
	for i := range d.versions {
		d.versions[i] = 1
	}
	for c := range d.state {
		d.state[c].rng = rand.New(rand.NewPCG(rand.Uint64(), uint64(c)))
	}
	return d
}

// Request is the next update of a connection: 201 bytes of body.
func (d *deviceLoad) Request(i int) []byte {
	c := i % d.conns
	s := &d.state[c]
	s.thing = s.rng.IntN((len(d.versions)-c+d.conns-1)/d.conns)*d.conns + c
	s.body = appendUpdate(s.body[:0], d.versions[s.thing], s.rng.Uint64())
	path := "/things/" + string(appendThing(nil, s.thing)) + "/jobs/" + naiveJob
	s.request = httpRequest(s.request[:0], http.MethodPost, path, "localhost", s.body)
	return s.request
}

// appendUpdate appends the body of an update: updateSize bytes, some of them noise.
func appendUpdate(b []byte, version int64, noise uint64) []byte {
	end := len(b) + updateSize - len(`"}}`)
	b = append(b, `{"status":"IN_PROGRESS","expectedVersion":`...)
	b = strconv.AppendInt(b, version, 10)
	b = append(b, `,"includeJobExecutionState":true,"statusDetails":{"step":"install","progress":"42","firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"`...)
	for ; len(b) < end; noise = noise>>4 | noise<<60 {
		b = append(b, "0123456789abcdef"[noise&15])
	}
	return append(b, `"}}`...)
}

// told notes that the update of a connection was accepted.
func (d *deviceLoad) told(i int) {
	d.versions[d.state[i%d.conns].thing]++
	d.reports.Add(1)
}

// Check holds the answer to an update against the version that must be its outcome.
func (d *deviceLoad) Check(i, status int, body []byte) error {
	const name = `"versionNumber":`
	want := d.versions[d.state[i%d.conns].thing] + 1
	_, tail, _ := bytes.Cut(body, []byte(name))
	digits, _, _ := bytes.Cut(tail, []byte("}"))
	if got, err := strconv.ParseInt(string(digits), 10, 64); status != http.StatusOK || err != nil || got != want {
		return fmt.Errorf("status %d, version %d expected: %s", status, want, body)
	}
	d.told(i)
	return nil
}

// reads are requests about executions of things that nobody reports for.
func reads(things, conns int, suffix string) func(i int) []byte {
	type conn struct {
		rng     *rand.Rand
		request []byte
	}
	state := make([]conn, conns)
	for c := range state {
		state[c].rng = rand.New(rand.NewPCG(rand.Uint64(), uint64(c)))
	}
	first := updaters(things)
	return func(i int) []byte {
		s := &state[i%conns]
		thing := first + s.rng.IntN(things-first)
		s.request = httpRequest(s.request[:0], http.MethodGet, "/things/"+string(appendThing(nil, thing))+suffix, "localhost", nil)
		return s.request
	}
}

// deviceServer is the server of P3 and P4 with a live execution for every thing.
type deviceServer struct {
	b       *Bench
	p       *musterProcess
	err     error
	load    *deviceLoad
	answers map[string]string
}

const deviceConns = 64

func (d *deviceServer) start(ctx context.Context) error {
	if d.p != nil || d.err != nil {
		return d.err
	}
	d.load, d.answers = newDeviceLoad(d.b.Things, deviceConns), map[string]string{}
	dir, err := d.b.sow(ctx, "devices", liveSeed)
	if err == nil && d.b.Profiles != "" {
		d.p, err = d.b.serveProfiled(ctx, dir)
	} else if err == nil {
		d.p, err = d.b.serveMuster(ctx, dir)
	}
	if err == nil {
		err = d.p.tellAll(ctx, d.b.Things)
	}
	d.err = err
	return err
}

// prepare starts the server and asks once, to learn what an answer looks like.
func (d *deviceServer) prepare(what string, request func(i int) []byte) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := d.start(ctx); err != nil || d.answers[what] != "" {
			return err
		}
		answer, err := d.p.ask(ctx, request(0))
		d.answers[what] = string(answer)
		return err
	}
}

func (d *deviceServer) answer(what string) func() string {
	return func() string { return d.answers[what] }
}

func (d *deviceServer) run(ctx context.Context, what string, request func(i int) []byte, check func(i, status int, body []byte) error) (Sample, error) {
	load := d.b.httpLoad(d.p.addr, d.p.pid, deviceConns)
	load.Request, load.Check = request, check
	profiled := make(chan struct{})
	go func() {
		defer close(profiled)
		d.p.profile(what, d.b.Seconds)
	}()
	s, err := load.Run(ctx)
	<-profiled
	return s, err
}

// updates are the meters of P3: the server, and Y3 with the same bytes.
func (d *deviceServer) updates() (measure, against *Meter) {
	const what = "update"
	b := d.b
	measure = &Meter{
		Name: fmt.Sprintf("HTTP UpdateJobExecution, %d connections", deviceConns),
		Prepare: func(ctx context.Context) error {
			return d.prepare(what, func(i int) []byte {
				r := d.load.Request(i)
				d.load.told(i)
				return r
			})(ctx)
		},
		Run: func(ctx context.Context) (Sample, error) {
			s, err := d.run(ctx, what, d.load.Request, d.load.Check)
			if err != nil {
				return nil, err
			}
			return s, d.countReported(ctx)
		},
	}
	same := newDeviceLoad(b.Things, deviceConns)
	return measure, b.httpEmptyLike("empty-"+what, deviceConns, func(i int) []byte {
		r := same.Request(i)
		same.told(i)
		return r
	}, d.answer(what))
}

// queries are the meters of P4, for one kind of question.
func (d *deviceServer) queries(what, suffix string) (measure, against *Meter) {
	request := reads(d.b.Things, deviceConns, suffix)
	measure = &Meter{
		Name:    fmt.Sprintf("HTTP %s, %d connections", what, deviceConns),
		Prepare: d.prepare(what, request),
		Run: func(ctx context.Context) (Sample, error) {
			want := len(d.answers[what])
			return d.run(ctx, what, request, func(_, status int, body []byte) error {
				if status != http.StatusOK || len(body) != want {
					return fmt.Errorf("status %d, %d bytes instead of %d: %s", status, len(body), want, body)
				}
				return nil
			})
		},
	}
	return measure, d.b.httpEmptyLike("empty-"+what, deviceConns, reads(d.b.Things, deviceConns, suffix), d.answer(what))
}

// countReported compares the server's counters of the job with what the devices were told.
func (d *deviceServer) countReported(ctx context.Context) error {
	inProgress := 0
	reports := int64(0)
	for _, v := range d.load.versions {
		if reports += v - 1; v > 1 {
			inProgress++
		}
	}
	if reports != d.load.reports.Load() {
		return errors.New("versions and accepted reports do not add up")
	}
	return d.p.countInProgress(ctx, d.b.Things, inProgress)
}

// countInProgress asks the server for the job's counters: of so many things so
// many must be in progress, and the others queued.
func (p *musterProcess) countInProgress(ctx context.Context, things, inProgress int) error {
	body, err := p.ask(ctx, httpRequest(nil, http.MethodGet, "/jobs/"+naiveJob, "localhost", nil))
	if err != nil {
		return err
	}
	var got struct {
		Job struct {
			Details struct {
				Queued     int `json:"numberOfQueuedThings"`
				InProgress int `json:"numberOfInProgressThings"`
			} `json:"jobProcessDetails"`
		} `json:"job"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	if counted := got.Job.Details; counted.InProgress != inProgress || counted.Queued != things-inProgress {
		return fmt.Errorf("the server counts %d in progress and %d queued; %d things of %d were reported for", counted.InProgress, counted.Queued, inProgress, things)
	}
	return nil
}
