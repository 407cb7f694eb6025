package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"muster/test/device"
)

// P19: every device of a fleet loses its connection, and all come back at once,
// over TLS, each with a report.

// A herd is such devices. Their server is the real program; against it stands
// one that does TLS and nothing else.
type herd struct {
	b       *Bench
	p       *musterProcess
	size    int
	version int64 // of every execution
}

// herdSize is 10,000, or as many as there can be sockets of on one side.
func herdSize(b *Bench) int {
	return min(b.many(10_000), openFiles()-500)
}

// many is a number of devices, fewer of them beside a small fleet: a bench of a thousand things is a trial.
func (b *Bench) many(n int) int { return min(n, max(200, b.Things/10)) }

func (h *herd) meters() (measure, against *Meter) {
	measure = &Meter{
		Name:    fmt.Sprintf("MQTT, %d come back at once, TLS", h.size),
		Prepare: h.gather,
		Run: func(ctx context.Context) (Sample, error) {
			certs, err := h.b.certificates()
			if err != nil {
				return nil, err
			}
			d := mqttDial{addr: h.p.addrs["mqtts"], tls: certs.client}
			s, err := h.rush(ctx, h.p.pid, func(i int) (net.Conn, error) {
				m, err := d.open(ctx, i)
				if err != nil {
					return nil, err
				}
				m.version = h.version
				return m.Conn.Conn, m.trip()
			})
			if err != nil {
				return nil, err
			}
			h.version++
			return s, h.p.countInProgress(ctx, h.size, h.size)
		},
	}
	against = &Meter{
		Name:    fmt.Sprintf("%d handshakes at once", h.size),
		Prepare: h.certify,
		Run: func(ctx context.Context) (Sample, error) {
			certs, err := h.b.certificates()
			if err != nil {
				return nil, err
			}
			c, err := h.b.echo(ctx, "bare", certs.dir)
			if err != nil {
				return nil, err
			}
			d := mqttDial{addr: c.Addr, tls: certs.client}
			return h.rush(ctx, c.PID(), func(i int) (net.Conn, error) { return d.transport(ctx, i) })
		},
	}
	return measure, against
}

// certify makes the certificates of all, which is not measured.
func (h *herd) certify(context.Context) error {
	certs, err := h.b.certificates()
	for i := range h.size {
		if err == nil {
			certs.client(i)
		}
	}
	return err
}

// gather starts the server and makes a job for every device.
func (h *herd) gather(ctx context.Context) error {
	if err := h.certify(ctx); err != nil {
		return err
	}
	dir := filepath.Join(h.b.Dir, "herd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var err error
	if h.p, err = h.b.serveMuster(ctx, filepath.Join(dir, "data"), h.b.certs.flags()...); err != nil {
		return err
	}
	if err := h.p.register(ctx, h.size); err != nil {
		return err
	}
	if err := h.p.create(ctx, naiveJob); err != nil {
		return err
	}
	h.version = 1
	for late := time.Now().Add(mqttPatience); h.p.countInProgress(ctx, h.size, 0) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			return fmt.Errorf("the job was not rolled out within %v", mqttPatience)
		}
	}
	return h.p.tellAll(ctx, h.size)
}

// underWay is how many of a herd are on their way in at a time, as the load has a part of two CPUs where devices have
// one each: with more of them a device that has been answered would wait its turn to go on, not the server.
const underWay = 1024

// rush lets all come, as fast as they can. None goes before the last one is there.
func (h *herd) rush(ctx context.Context, pid int, come func(i int) (net.Conn, error)) (Sample, error) {
	conns, errs, took := make([]net.Conn, h.size), make([]error, h.size), make([]time.Duration, h.size)
	before, err := processCPU(pid)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	_ = parallel(h.size, underWay, func(i int) error { // errors are counted below
		begin := time.Now()
		conns[i], errs[i] = come(i)
		took[i] = time.Since(begin)
		return nil
	})
	all := time.Since(start)
	after, err := processCPU(pid)
	failed := 0
	for i, c := range conns {
		if c != nil {
			device.Reset(c)
		}
		if errs[i] != nil {
			failed++
			err = fmt.Errorf("%d of %d did not come back or could not report, the last of them: %w", failed, h.size, errs[i])
		}
	}
	if err != nil {
		return nil, err
	}
	var hist histogram
	for _, d := range took {
		hist.add(d)
	}
	s := hist.sample(all)
	s[Seconds] = all.Seconds()
	s[CPUPerOp] = float64((after - before).Microseconds()) / float64(h.size)
	return s, nil
}
