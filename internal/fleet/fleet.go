// Package fleet plays devices: many of them in one process, each a real client on the real wire, whose behaviour
// depends on a seed and its own name only, so that what must come out can be said beforehand and held against what
// the service counts. It works with any service that speaks AWS IoT Jobs.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Options say what the devices are and where they go.
type Options struct {
	Names []string // of things, which exist
	Plan  Plan
	MQTT  *MQTT // or
	HTTP  *HTTP
	// Notice is told what devices do that is worth a line. It is called from many goroutines and must not block.
	Notice func(Notice)
}

// A Notice is something a device did.
type Notice struct {
	At         time.Time
	Thing, Job string
	Attempt    int // from 1
	Text       string
}

// A Fleet is a number of devices.
type Fleet struct {
	Options
	ctx        context.Context
	began      time.Time // when it was made, for what was there before it
	started    time.Time
	ran        time.Duration
	stats      Stats
	devices    []*device
	connecting chan struct{} // bounds how many do so at once

	mu   sync.Mutex
	jobs map[string]uint32
	ids  []string // of jobs, by index
	// What went wrong, the first of each kind.
	problems []string
	breaks   map[string]int64
	refusals map[string]int64

	memory memory
}

// maxConnecting bounds the connections that are being made at once: more would not be made sooner.
const maxConnecting = 512

// New makes a fleet. Its devices come when it runs.
func New(o Options) (*Fleet, error) {
	f := &Fleet{Options: o, connecting: make(chan struct{}, maxConnecting), jobs: map[string]uint32{}, breaks: map[string]int64{}, refusals: map[string]int64{}}
	f.began = time.Now().Truncate(time.Second)
	f.memory.begin()
	f.Plan = o.Plan.withDefaults(o.MQTT != nil)
	switch {
	case (o.MQTT == nil) == (o.HTTP == nil):
		return nil, errors.New("a fleet speaks either MQTT or HTTP")
	case o.HTTP != nil && f.Plan.Styles[Notify] > 0:
		return nil, errors.New("the style notify lives by notices, which only MQTT brings")
	case len(o.Names) == 0:
		return nil, errors.New("a fleet has one device at least")
	case f.Plan.Steps < 1 || f.Plan.Steps > 1000:
		return nil, fmt.Errorf("an attempt has %d steps; between 1 and 1000 are possible", f.Plan.Steps)
	}
	f.devices = make([]*device, len(o.Names))
	signer := v4.NewSigner()
	for i, name := range o.Names {
		d := &device{f: f, name: name, index: i, style: f.Plan.style(name)}
		if o.MQTT != nil {
			d.wire = &mqttWire{d: d}
		} else {
			d.wire = &httpWire{d: d, signer: signer}
		}
		f.devices[i] = d
	}
	return f, nil
}

// Run lets the devices live until ctx ends, and returns when all of them are gone.
func (f *Fleet) Run(ctx context.Context) {
	f.ctx, f.started = ctx, time.Now()
	stop := context.AfterFunc(ctx, func() {
		for _, d := range f.devices {
			if c := d.conn.Load(); c != nil {
				c.Interrupt()
			}
		}
	})
	defer stop()
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(watched)
		f.memory.watch(over)
	}()
	var all sync.WaitGroup
	for _, d := range f.devices {
		all.Go(d.run)
	}
	all.Wait()
	f.ran = time.Since(f.started)
	close(over)
	<-watched
}

// Stats are the fleet's counters, which move while it runs.
func (f *Fleet) Stats() *Stats { return &f.stats }

// sleep waits, or returns the error of the context that has ended.
func (f *Fleet) sleep(d time.Duration) error {
	if d <= 0 {
		return f.ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// job is the index of a job.
func (f *Fleet) job(id string) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.jobs[id]
	if !ok {
		i = uint32(len(f.ids))
		f.jobs[id] = i
		f.ids = append(f.ids, id)
	}
	return i
}

func (f *Fleet) tell(d *device, job string, nth int, text string) {
	if f.Notice != nil {
		f.Notice(Notice{time.Now(), d.name, job, nth + 1, text})
	}
}

// maxKinds bounds how many kinds of errors are kept apart.
const maxKinds = 20

// wrong notes something that a service must not do.
func (f *Fleet) wrong(format string, args ...any) {
	f.stats.Wrong.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.problems) < maxKinds {
		f.problems = append(f.problems, fmt.Sprintf(format, args...))
	}
}

// broke notes why a connection ended.
func (f *Fleet) broke(d *device, err error) {
	f.stats.Breaks.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	count(f.breaks, kind(err))
}

// refused notes a refusal that is not part of the plan: the execution was timed out or cancelled meanwhile, or somebody else
// has changed it.
func (f *Fleet) refused(d *device, job string, err error) {
	f.stats.Refused.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	count(f.refusals, kind(err))
}

func count(m map[string]int64, text string) {
	if _, known := m[text]; !known && len(m) >= maxKinds {
		text = "others"
	}
	m[text]++
}

// kind is an error without what is different each time.
func kind(err error) string {
	if r, ok := errors.AsType[*Refused](err); ok {
		return r.Code
	}
	return innermost(err).Error()
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
