package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"muster/test/device"
)

// P17: how long after CreateJob devices know of it.

const (
	listeners   = 5000
	toldFirst   = 1000
	toldFirstMS = "first_1000_ms"
)

// A crowd is devices that are connected to a server of their own and wait to
// be told of jobs.
type crowd struct {
	b     *Bench
	p     *musterProcess
	conns []*mqttConn
	jobs  int
}

func (c *crowd) meter() *Meter {
	return &Meter{Name: fmt.Sprintf("MQTT notify-next, %d connected", listeners), Prepare: c.gather, Run: c.run}
}

// gather starts the server, registers the things, and connects them.
func (c *crowd) gather(ctx context.Context) (err error) {
	if c.p, err = c.b.serveMuster(ctx, filepath.Join(c.b.Dir, "crowd")); err != nil {
		return err
	}
	if err := c.p.register(ctx, listeners); err != nil {
		return err
	}
	c.conns = make([]*mqttConn, listeners)
	c.b.onClose(func() { (&mqttLoad{conns: c.conns}).close() })
	d := mqttDial{addr: c.p.addrs["mqtt"]}
	return parallel(listeners, 16, func(i int) (err error) {
		c.conns[i], err = d.open(ctx, i)
		return err
	})
}

// register makes n things that are all in one group.
func (p *musterProcess) register(ctx context.Context, n int) error {
	var lines bytes.Buffer
	fmt.Fprintf(&lines, `{"thingGroup":{"thingGroupName":%q}}`+"\n", allGroup)
	for i := range n {
		fmt.Fprintf(&lines, `{"thing":{"thingName":"%s","thingGroupNames":[%q]}}`+"\n", appendThing(nil, i), allGroup)
	}
	_, err := p.ask(ctx, httpRequest(nil, http.MethodPost, "/_muster/import", "localhost", lines.Bytes()))
	return err
}

// create makes a job for all of them.
func (p *musterProcess) create(ctx context.Context, job string) error {
	body := fmt.Sprintf(`{"targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/%s"],"document":"{\"operation\":\"update\"}"}`, allGroup)
	_, err := p.ask(ctx, httpRequest(nil, http.MethodPut, "/jobs/"+job, "localhost", []byte(body)))
	return err
}

// run makes a job, waits until each device is told of it, and cancels it, which
// they are told too.
func (c *crowd) run(ctx context.Context) (Sample, error) {
	c.jobs++
	job := fmt.Sprintf("fw-%d", c.jobs)
	start := time.Now()
	told, err := c.told(ctx, `"jobId":"`+job+`"`, func() error { return c.p.create(ctx, job) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(told, time.Time.Compare)
	var h histogram
	for _, at := range told {
		h.add(at.Sub(start))
	}
	s := h.sample(told[len(told)-1].Sub(start))
	s[toldFirstMS] = told[toldFirst-1].Sub(start).Seconds() * 1000
	_, err = c.told(ctx, "", func() error {
		_, err := c.p.ask(ctx, httpRequest(nil, http.MethodPut, "/jobs/"+job+"/cancel?force=true", "localhost", []byte("{}")))
		return err
	})
	return s, err
}

// told returns when each device got a notify-next that has what is wanted in it, or that speaks of no execution if that is nothing.
func (c *crowd) told(ctx context.Context, wanted string, act func() error) ([]time.Time, error) {
	at, errs := make([]time.Time, len(c.conns)), make([]error, len(c.conns))
	var wg sync.WaitGroup
	for i, m := range c.conns {
		m.SetDeadline(time.Now().Add(mqttPatience))
		wg.Go(func() { at[i], errs[i] = m.told(wanted) })
	}
	stop := context.AfterFunc(ctx, func() {
		for _, m := range c.conns {
			m.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	if err := act(); err != nil {
		return nil, err
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("thing %d was not told: %w", i, err)
		}
	}
	return at, nil
}

func (m *mqttConn) told(wanted string) (time.Time, error) {
	for {
		p, err := m.Next()
		if err != nil {
			return time.Time{}, err
		}
		at := time.Now()
		if p.Kind != device.Message || !bytes.HasSuffix(p.Topic, []byte("/notify-next")) {
			return at, fmt.Errorf("unexpected packet of type %d on %s", p.Kind, p.Topic)
		}
		if err := m.Ack(p); err != nil {
			return at, err
		}
		execution := bytes.Contains(p.Payload, []byte(`"execution"`))
		if wanted == "" && !execution || wanted != "" && bytes.Contains(p.Payload, []byte(wanted)) {
			return at, nil
		}
	}
}
