package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// P7: what a connection at rest costs.

const (
	connKB    = "conn_kb"
	idleConns = 4000
	idleWarm  = 200 // before that, for what comes with the first ones
)

// idle measures by how much a server's resident memory grows with each device
// that connects, subscribes and then does nothing.
func (b *Bench) idle(secure bool) (measure, against *Meter) {
	how := map[bool]string{false: "plain", true: "TLS"}[secure]
	measure = &Meter{
		Name: "MQTT, idle connections, " + how,
		Prepare: func(ctx context.Context) error {
			_, err := b.buildMuster(ctx)
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			dir, err := os.MkdirTemp(b.Dir, "idle-")
			if err != nil {
				return nil, err
			}
			door, flags, dial := "mqtt", []string(nil), mqttDial{}
			if secure {
				certs, err := b.certificates()
				if err != nil {
					return nil, err
				}
				door, flags, dial.tls = "mqtts", certs.flags(), certs.client
			}
			p, err := b.serveMuster(ctx, filepath.Join(dir, "data"), flags...)
			if err != nil {
				return nil, err
			}
			defer p.stop()
			dial.addr = p.addrs[door]
			return b.growth(ctx, dial, p.pid)
		},
	}
	against = &Meter{
		Name: "Y4r bare loop, idle connections, " + how,
		Run: func(ctx context.Context) (Sample, error) {
			settings, dial := Settings{Answer: "bare"}, mqttDial{}
			if secure {
				certs, err := b.certificates()
				if err != nil {
					return nil, err
				}
				settings.Certs, dial.tls = certs.dir, certs.client
			}
			c, err := startChild(ctx, "mqttecho", settings)
			if err != nil {
				return nil, err
			}
			defer c.Kill()
			dial.addr = c.Addr
			return b.growth(ctx, dial, c.PID())
		},
	}
	return measure, against
}

// growth connects idleConns devices and lets the server come to rest.
func (b *Bench) growth(ctx context.Context, d mqttDial, pid int) (Sample, error) {
	conns := make([]*mqttConn, idleConns+idleWarm)
	defer func() { (&mqttLoad{conns: conns}).close() }()
	open := func(from, to int) error {
		return parallel(to-from, 16, func(i int) (err error) {
			conns[from+i], err = d.open(ctx, from+i)
			return err
		})
	}
	rest := time.Duration(b.Seconds * float64(time.Second))
	if err := open(0, idleWarm); err != nil {
		return nil, err
	}
	time.Sleep(rest)
	before, err := residentKB(pid)
	if err != nil {
		return nil, err
	}
	if err := open(idleWarm, len(conns)); err != nil {
		return nil, err
	}
	time.Sleep(rest)
	after, err := residentKB(pid)
	if err != nil {
		return nil, err
	}
	if after <= before {
		return nil, fmt.Errorf("the server did not grow: %v KB, then %v KB", before, after)
	}
	return Sample{connKB: (after - before) / idleConns, "before_mib": before / 1024, Operations: idleConns}, nil
}
