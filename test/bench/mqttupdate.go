package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// P5 and P6: updates over MQTT, against the real program and against its own
// broker without an engine.

// mqttLoad is a closed loop: each connection is a device, which reports and
// waits for acknowledgement and answer before it reports again.
type mqttLoad struct {
	conns []*mqttConn
	pid   int
}

// openLoad connects devices that lie as far from each other as they can.
func openLoad(ctx context.Context, d mqttDial, pid, things, conns int) (*mqttLoad, error) {
	l := &mqttLoad{conns: make([]*mqttConn, conns), pid: pid}
	err := parallel(conns, 16, func(i int) (err error) {
		l.conns[i], err = d.open(ctx, i*(things/conns))
		return err
	})
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *mqttLoad) close() {
	for _, c := range l.conns {
		if c != nil {
			c.Reset()
		}
	}
}

// run reports for some time, after a fifth of it that is not measured.
func (l *mqttLoad) run(ctx context.Context, d time.Duration) (Sample, error) {
	// A server that hangs must not hang the run with it.
	for _, c := range l.conns {
		stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if _, err := l.lap(d / 5); err != nil {
		return nil, err
	}
	return l.lap(d)
}

func (l *mqttLoad) lap(d time.Duration) (Sample, error) {
	before, err := processCPU(l.pid)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	stop := start.Add(d)
	errs := make([]error, len(l.conns))
	var wg sync.WaitGroup
	for i, c := range l.conns {
		c.hist = histogram{}
		c.SetDeadline(stop.Add(mqttPatience))
		wg.Go(func() {
			for begin := time.Now(); begin.Before(stop) && errs[i] == nil; {
				errs[i] = c.trip()
				end := time.Now()
				c.hist.add(end.Sub(begin))
				begin = end
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	after, err := processCPU(l.pid)
	if err != nil {
		return nil, err
	}
	var all histogram
	for i, c := range l.conns {
		if errs[i] != nil {
			return nil, errs[i]
		}
		all.merge(&c.hist)
	}
	s := all.sample(took)
	s[CPUPerOp] = float64((after - before).Microseconds()) / max(1, s[Operations])
	return s, nil
}

// updates are the meters of P5: the real program, and Y4.
func (d *mqttServer) updates(conns int) (measure, against *Meter) {
	measure = &Meter{
		Name:    fmt.Sprintf("MQTT UpdateJobExecution, %d connections", conns),
		Prepare: d.start,
		Run: func(ctx context.Context) (s Sample, err error) {
			if d.lost != nil {
				return nil, fmt.Errorf("which versions things have is not known since a load failed: %w", d.lost)
			}
			load, err := openLoad(ctx, mqttDial{addr: d.p.addrs["mqtt"]}, d.p.pid, d.b.Things, conns)
			if err != nil {
				return nil, err
			}
			defer load.close()
			for _, c := range load.conns {
				c.version = max(1, d.versions[c.thing])
			}
			profiled := make(chan struct{})
			go func() {
				defer close(profiled)
				d.p.profile(fmt.Sprintf("mqtt-update-%d", conns), d.b.Seconds)
			}()
			s, err = load.run(ctx, d.b.span())
			<-profiled
			if err != nil {
				d.lost = err
				return nil, err
			}
			for _, c := range load.conns {
				d.versions[c.thing] = c.version
			}
			return s, d.count(ctx)
		},
	}
	return measure, d.b.echoMeter("Y4 MQTT echo", "broker", conns)
}

// echoMeter measures an echo under the load of conns devices.
func (b *Bench) echoMeter(name, kind string, conns int) *Meter {
	return &Meter{
		Name: fmt.Sprintf("%s, %d connections", name, conns),
		Prepare: func(ctx context.Context) error {
			_, err := b.echo(ctx, kind, "")
			return err
		},
		Run: func(ctx context.Context) (s Sample, err error) {
			c, err := b.echo(ctx, kind, "")
			if err != nil {
				return nil, err
			}
			load, err := openLoad(ctx, mqttDial{addr: c.Addr}, c.PID(), b.Things, conns)
			if err != nil {
				return nil, err
			}
			defer load.close()
			b.alongside(c, fmt.Sprintf("%d", conns), func() { s, err = load.run(ctx, b.span()) })
			return s, err
		},
	}
}

func (b *Bench) span() time.Duration { return time.Duration(b.Seconds * float64(time.Second)) }

// alongside runs f, and has the child profiled meanwhile if profiles are taken.
func (b *Bench) alongside(c *Child, of string, f func()) {
	if b.Profiles == "" {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Call(Request{Op: of, Seconds: b.Seconds}) // no profile is no reason to stop
	}()
	f()
	<-done
}

// mqttServer is the server of P5: a live execution for every thing. It is not
// the one of P3, whose versions its own load counts.
type mqttServer struct {
	b   *Bench
	p   *musterProcess
	err error
	// versions are what the things were told, from one load to the next.
	versions map[int]int64
	lost     error // why versions are not known any more
}

func (d *mqttServer) start(ctx context.Context) error {
	if d.p != nil || d.err != nil {
		return d.err
	}
	d.versions = map[int]int64{}
	var dir string
	if dir, d.err = d.b.sow(ctx, "mqtt-devices", liveSeed); d.err != nil {
		return d.err
	}
	if d.b.Profiles != "" {
		d.p, d.err = d.b.serveProfiled(ctx, dir)
	} else {
		d.p, d.err = d.b.serveMuster(ctx, dir)
	}
	if d.err == nil {
		d.err = d.p.tellAll(ctx, d.b.Things)
	}
	return d.err
}

// count compares the server's counters of the job with what the devices were told.
func (d *mqttServer) count(ctx context.Context) error {
	inProgress := 0
	for _, v := range d.versions {
		if v > 1 {
			inProgress++
		}
	}
	return d.p.countInProgress(ctx, d.b.Things, inProgress)
}
