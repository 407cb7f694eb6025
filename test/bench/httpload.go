package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// HTTPLoad is a closed loop of HTTP/1.1 requests over kept-alive connections.
// It writes bytes that are ready and reads no more of an answer than its
// status and length, because it shares the machine with the server it loads.
type HTTPLoad struct {
	Conns int
	For   time.Duration
	// Warm is spent before the measured part, and not counted.
	Warm time.Duration
	// Dial opens a connection; TLS goes here.
	Dial func(context.Context) (net.Conn, error)
	// Request returns a whole request. Connection c sends i = c, c+Conns,
	// c+2*Conns and so on, each after the answer to the one before, so i%Conns
	// says which connection asks. The bytes are written before the next call
	// for the same connection, which may reuse them.
	Request func(i int) []byte
	// Check, if set, sees every answer before its connection asks again; an
	// error ends the load. The body is only valid during the call. Calls for
	// different connections overlap.
	Check func(i, status int, body []byte) error
	// PID is the server's process, for CPU per request; 0 leaves it out.
	PID int
}

// dialTCP dials addr afresh for each connection.
func dialTCP(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}

// Run returns requests per second, latencies, and the server's CPU per request.
func (l HTTPLoad) Run(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]*httpConn, l.Conns)
	for i := range conns {
		c, err := l.Dial(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		// A server that hangs must not hang the run with it.
		stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		conns[i] = &httpConn{Conn: c, next: i, buf: make([]byte, 4096)}
	}
	if l.Warm > 0 {
		if _, err := l.lap(cancel, conns, l.Warm); err != nil {
			return nil, err
		}
	}
	return l.lap(cancel, conns, l.For)
}

func (l HTTPLoad) lap(cancel func(), conns []*httpConn, d time.Duration) (Sample, error) {
	before, err := l.serverCPU()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	stop := start.Add(d)
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		c.hist = histogram{}
		wg.Go(func() {
			if errs[i] = l.drive(c, stop); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	after, err := l.serverCPU()
	if err != nil {
		return nil, err
	}
	// The first to fail made the others time out; only others' words are noise.
	var timeout net.Error
	for _, e := range errs {
		if e != nil && (err == nil || errors.As(err, &timeout) && timeout.Timeout()) {
			err = e
		}
	}
	if err != nil {
		return nil, err
	}
	var all histogram
	for _, c := range conns {
		all.merge(&c.hist)
	}
	s := all.sample(took)
	if l.PID != 0 {
		s[CPUPerOp] = float64((after - before).Microseconds()) / max(1, s[Operations])
	}
	return s, nil
}

func (l HTTPLoad) serverCPU() (time.Duration, error) {
	if l.PID == 0 {
		return 0, nil
	}
	return processCPU(l.PID)
}

func (l HTTPLoad) drive(c *httpConn, stop time.Time) error {
	for before := time.Now(); before.Before(stop); {
		i := c.next
		c.next += l.Conns
		status, body, err := c.exchange(l.Request(i))
		if err == nil && l.Check != nil {
			err = l.Check(i, status, body)
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		after := time.Now()
		c.hist.add(after.Sub(before))
		before = after
	}
	return nil
}

type httpConn struct {
	net.Conn
	next int
	buf  []byte
	hist histogram
}

// maxAnswer bounds what a mistaken server can make the load generator hold.
const maxAnswer = 16 << 20

// exchange sends one request and reads one answer. The body stays valid until
// the next exchange.
func (c *httpConn) exchange(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	n, head, want := 0, 0, -1
	for {
		got, err := c.Read(c.buf[n:])
		n += got
		if want < 0 {
			if end := bytes.Index(c.buf[:n], []byte("\r\n\r\n")); end >= 0 {
				var length int
				head = end + 4
				if status, length, err = parseHead(c.buf[:end+2]); err != nil {
					return 0, nil, err
				}
				if want = head + length; want > maxAnswer {
					return 0, nil, fmt.Errorf("answer of %d bytes", want)
				}
			}
		}
		switch {
		case want >= 0 && n == want:
			return status, c.buf[head:n], nil
		case want >= 0 && n > want:
			return 0, nil, fmt.Errorf("%d bytes after the answer", n-want)
		case err != nil:
			return 0, nil, err
		case n > maxAnswer:
			return 0, nil, errors.New("head does not end")
		}
		if size := max(want, n+1); size > len(c.buf) {
			c.buf = append(c.buf, make([]byte, max(size, 2*len(c.buf))-len(c.buf))...)
		}
	}
}

// parseHead reads the status and Content-Length of a head whose lines all end
// in CRLF. An answer of unknown length is refused: Muster's answers to devices
// are short and have one.
func parseHead(head []byte) (status, length int, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("not an HTTP/1.1 answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("not a status: %q", line)
	}
	if status == 204 || status == 304 {
		return status, 0, nil
	}
	const name = "Content-Length:"
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
		if err != nil || length < 0 {
			return 0, 0, fmt.Errorf("not a length: %q", line)
		}
		return status, length, nil
	}
	return 0, 0, fmt.Errorf("status %d without Content-Length", status)
}

// httpRequest builds a request for Request callbacks.
func httpRequest(dst []byte, method, path, host string, body []byte) []byte {
	dst = append(append(append(dst, method...), ' '), path...)
	dst = append(append(dst, " HTTP/1.1\r\nHost: "...), host...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	return append(append(dst, "\r\n\r\n"...), body...)
}
