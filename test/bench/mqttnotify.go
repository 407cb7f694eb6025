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

// A crowd is devices that connect to a server of their own and wait to be told
// of jobs.
type crowd struct {
	b    *Bench
	p    *musterProcess
	jobs int
}

func (c *crowd) meter() *Meter {
	return &Meter{Name: fmt.Sprintf("MQTT notify-next, %d connected", c.b.many(listeners)), Prepare: c.gather, Run: c.run}
}

// gather starts the server and registers the things.
func (c *crowd) gather(ctx context.Context) (err error) {
	if c.p, err = c.b.serveMuster(ctx, filepath.Join(c.b.Dir, "crowd")); err != nil {
		return err
	}
	if err := c.p.register(ctx, c.b.many(listeners)); err != nil {
		return err
	}
	return c.p.tellAll(ctx, c.b.many(listeners))
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
	return p.createFor(ctx, job, "thinggroup/"+allGroup)
}

func (p *musterProcess) createFor(ctx context.Context, job, target string) error {
	body := fmt.Sprintf(`{"targets":["arn:aws:iot:us-east-1:123456789012:%s"],"document":"{\"operation\":\"update\"}"}`, target)
	_, err := p.ask(ctx, httpRequest(nil, http.MethodPut, "/jobs/"+job, "localhost", []byte(body)))
	return err
}

// tellAll waits until the server has told all that was done by now, as one does
// that begins with a filled store. The feed is told in order: once a thing of
// nobody's, which this registers, is told of a job of its own, nothing older is
// on its way.
func (p *musterProcess) tellAll(ctx context.Context, thing int) error {
	const job = "told-last"
	name := string(appendThing(nil, thing))
	line := fmt.Appendf(nil, `{"thing":{"thingName":%q}}`+"\n", name)
	if _, err := p.ask(ctx, httpRequest(nil, http.MethodPost, "/_muster/import", "localhost", line)); err != nil {
		return err
	}
	m, err := mqttDial{addr: p.addrs["mqtt"]}.open(ctx, thing)
	if err != nil {
		return err
	}
	defer m.Reset()
	_, err = told(ctx, []*mqttConn{m}, job, func() error { return p.createFor(ctx, job, "thing/"+name) })
	return err
}

// run connects the devices, makes a job, waits until each is told of it, and
// cancels it, which they are told too. They do not stay for the next round: that
// may be so late that the server has ended the connections of who was silent.
func (c *crowd) run(ctx context.Context) (Sample, error) {
	conns := make([]*mqttConn, c.b.many(listeners))
	defer func() { (&mqttLoad{conns: conns}).close() }()
	d := mqttDial{addr: c.p.addrs["mqtt"]}
	err := parallel(c.b.many(listeners), 16, func(i int) (err error) {
		conns[i], err = d.open(ctx, i)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.jobs++
	job := fmt.Sprintf("fw-%d", c.jobs)
	start := time.Now()
	at, err := told(ctx, conns, job, func() error { return c.p.create(ctx, job) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(at, time.Time.Compare)
	var h histogram
	for _, one := range at {
		h.add(one.Sub(start))
	}
	s := h.sample(at[len(at)-1].Sub(start))
	s[toldFirstMS] = at[min(toldFirst, len(at))-1].Sub(start).Seconds() * 1000
	_, err = told(ctx, conns, "", func() error {
		_, err := c.p.ask(ctx, httpRequest(nil, http.MethodPut, "/jobs/"+job+"/cancel?force=true", "localhost", []byte("{}")))
		return err
	})
	return s, err
}

// told returns when each device got the notify-next that act is for: of the job, or of no execution if that is "".
func told(ctx context.Context, conns []*mqttConn, job string, act func() error) ([]time.Time, error) {
	at, errs := make([]time.Time, len(conns)), make([]error, len(conns))
	var wg sync.WaitGroup
	for i, m := range conns {
		m.SetDeadline(time.Now().Add(mqttPatience))
		wg.Go(func() { at[i], errs[i] = m.told(job) })
	}
	stop := context.AfterFunc(ctx, func() {
		for _, m := range conns {
			m.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	if err := act(); err != nil {
		return nil, err
	}
	took := time.Now()
	wg.Wait()
	var err error
	missing := 0
	for i, one := range errs {
		if one != nil {
			missing++
			err = fmt.Errorf("%d of %d were not told of job %q, which was acted on %.1f s before: thing %d: %w", missing, len(conns), job, time.Since(took).Seconds(), conns[i].thing, one)
		}
	}
	return at, err
}

func (m *mqttConn) told(job string) (time.Time, error) {
	wanted := []byte(`"jobId":"` + job + `"`)
	for {
		p, err := m.Next()
		if err != nil {
			return time.Time{}, err
		}
		at := time.Now()
		if p.Kind != device.Message || !bytes.Equal(p.Topic, m.notice) {
			return at, fmt.Errorf("unexpected packet of type %d on %s", p.Kind, p.Topic)
		}
		if err := m.Ack(p); err != nil {
			return at, err
		}
		if job == "" && !bytes.Contains(p.Payload, []byte(`"execution"`)) || job != "" && bytes.Contains(p.Payload, wanted) {
			return at, nil
		}
	}
}
