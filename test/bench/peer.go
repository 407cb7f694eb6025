package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// P20: the same calls, by the same client, to another program that speaks AWS
// IoT Jobs. The one that is looked for is moto's server, which keeps everything
// in memory; Muster keeps it on disk, durable before it answers.

const (
	peerConns = 16
	// peerThings are what jobs are made for, one after the other: a thing that
	// had thousands of jobs waiting would be a question of its own.
	peerThings = 200
	// peerJobs are there when jobs are listed.
	peerJobs = 20
)

// A peer is a server that answers like AWS.
type peer struct {
	name string
	// fresh starts it, or empties it, and says where it is.
	fresh func(context.Context) (addr string, stop func(), err error)
	// dial is how its connections are made.
	dial func(addr string) func(context.Context) (net.Conn, error)
}

func (b *Bench) musterPeer() peer {
	return peer{"muster", func(ctx context.Context) (string, func(), error) {
		dir, err := os.MkdirTemp(b.Dir, "peer-")
		if err != nil {
			return "", nil, err
		}
		p, err := b.serveMuster(ctx, filepath.Join(dir, "data"))
		if err != nil {
			return "", nil, err
		}
		return p.addr, p.stop, nil
	}, dialTCP}
}

// motoPeer is moto's server, if it is installed.
func (b *Bench) motoPeer() (peer, bool) {
	path, err := exec.LookPath("moto_server")
	if err != nil {
		return peer{}, false
	}
	addr := ""
	return peer{"moto", func(ctx context.Context) (string, func(), error) {
		if addr == "" {
			at, err := b.startMoto(ctx, path)
			if err != nil {
				return "", nil, err
			}
			addr = at
		}
		answer, err := http.Post("http://"+addr+"/moto-api/reset", "", nil)
		if err != nil {
			return "", nil, err
		}
		answer.Body.Close()
		return addr, func() {}, nil
	}, dialEach}, true
}

func (b *Bench) startMoto(ctx context.Context, path string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String() // free now, and hardly taken in a moment
	l.Close()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, "-H", "127.0.0.1", "-p", port)
	if err := startGroup(cmd); err != nil {
		return "", err
	}
	b.onClose(func() { killGroup(cmd) })
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(20 * time.Millisecond) {
		if answer, err := http.Get("http://" + addr + "/moto-api/"); err == nil {
			answer.Body.Close()
			return addr, nil
		}
	}
	return "", fmt.Errorf("%s did not start", path)
}

// dialEach is for servers that close the connection after each answer: every
// request, which is one write, gets a connection of its own.
func dialEach(addr string) func(context.Context) (net.Conn, error) {
	dial := dialTCP(addr)
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &eachConn{Conn: c, dial: func() (net.Conn, error) { return dial(ctx) }}, nil
	}
}

type eachConn struct {
	net.Conn
	dial func() (net.Conn, error)
	used bool
}

func (c *eachConn) Write(p []byte) (int, error) {
	if c.used {
		c.Conn.Close()
		fresh, err := c.dial()
		if err != nil {
			return 0, err
		}
		c.Conn = fresh
	}
	c.used = true
	return c.Conn.Write(p)
}

// controlRequest is a request to the control plane. Nobody verifies the
// signature, but its scope says which service is meant.
func controlRequest(method, path string, body string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=0\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
}

func createJobRequest(id string, thing int) []byte {
	return controlRequest(http.MethodPut, "/jobs/"+id,
		`{"targets":["arn:aws:iot:us-east-1:123456789012:thing/`+string(thingName(thing%peerThings))+`"],"document":"{\"operation\":\"install\"}","targetSelection":"SNAPSHOT"}`)
}

// peerMeter asks a server that has some things and jobs the same question
// again and again.
func (b *Bench) peerMeter(p peer, what string, jobs int, request func(i int) []byte) *Meter {
	return &Meter{
		Name: p.name + ", " + what,
		Run: func(ctx context.Context) (Sample, error) {
			addr, stop, err := p.fresh(ctx)
			if err != nil {
				return nil, err
			}
			defer stop()
			var setup [][]byte
			for i := range peerThings {
				setup = append(setup, controlRequest(http.MethodPost, "/things/"+string(thingName(i)), "{}"))
			}
			for i := range jobs {
				setup = append(setup, createJobRequest(fmt.Sprintf("there-%d", i), i))
			}
			for _, r := range setup {
				if _, err := (&musterProcess{addr: addr}).ask(ctx, r); err != nil {
					return nil, fmt.Errorf("%s: %w", p.name, err)
				}
			}
			load := b.httpLoad(addr, 0, peerConns)
			load.Dial, load.Request = p.dial(addr), request
			load.Check = func(_, status int, body []byte) error {
				if status != http.StatusOK {
					return fmt.Errorf("status %d: %s", status, body)
				}
				return nil
			}
			return load.Run(ctx)
		},
	}
}

// peerRows are the rows of P20. Without a peer they say so.
func (b *Bench) peerRows() []Row {
	created := atomic.Int64{}
	create := func(int) []byte {
		n := int(created.Add(1))
		return createJobRequest(fmt.Sprintf("job-%d", n), n)
	}
	list := func(int) []byte { return controlRequest(http.MethodGet, "/jobs", "") }
	own := b.musterPeer()
	rows := []Row{
		{ID: "P20", What: "UpdateJobExecution per second", Skip: "no peer is installed that has UpdateJobExecution (moto has not)"},
		{ID: "P20", What: "CreateJob per second, 16 connections", Figure: PerSecond, Unit: "/s", Target: 50, Good: 10,
			Measure: b.peerMeter(own, "CreateJob", 0, create)},
		{ID: "P20", What: fmt.Sprintf("ListJobs of %d per second, 16 connections", peerJobs), Figure: PerSecond, Unit: "/s", Target: 50, Good: 10,
			Measure: b.peerMeter(own, "ListJobs", peerJobs, list)},
	}
	moto, ok := b.motoPeer()
	for i := range rows {
		switch {
		case rows[i].Skip != "":
		case !ok:
			rows[i].Skip = "no peer is installed (python3 -m pip install 'moto[server]')"
		default:
			rows[i].Yardstick = moto.name
		}
	}
	if ok {
		rows[1].Against = b.peerMeter(moto, "CreateJob", 0, create)
		rows[2].Against = b.peerMeter(moto, "ListJobs", peerJobs, list)
	}
	return rows
}
