package server

import (
	"crypto/tls"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections that are given to it.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Handshakes take turns. A client that stops in the middle holds its place for three seconds, one that says nothing holds
// none, and the time in the queue is nobody's fault.
func TestHandshakesTakeTurns(t *testing.T) {
	o := newOffice(t)
	pair, err := tls.LoadX509KeyPair(o.file("server.pem"), o.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{pair}}
	synctest.Test(t, func(t *testing.T) {
		l, served := make(pipes), make(chan net.Conn, 10)
		g := open(l, server, make(turns, 1), false, func(c net.Conn) { served <- c }, slog.New(slog.DiscardHandler))
		ran := make(chan struct{})
		go func() { defer close(ran); g.run() }()
		arrive := func() net.Conn {
			near, far := net.Pipe()
			l <- far
			return near
		}
		shake := func() (chan error, net.Conn) {
			c, done := tls.Client(arrive(), &tls.Config{InsecureSkipVerify: true}), make(chan error, 1)
			go func() { done <- c.Handshake() }()
			return done, c
		}
		began := time.Now()
		silent := arrive()
		done, first := shake()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a client that says nothing kept another waiting for %v", took)
		}
		// Ten that send their hello and no more, each three seconds's wait for who comes after.
		var stopped []net.Conn
		for range 10 {
			raw := arrive()
			stopped = append(stopped, raw)
			go tls.Client(mute{raw}, &tls.Config{InsecureSkipVerify: true}).Handshake()
			synctest.Wait()
		}
		began = time.Now()
		done, last := shake()
		if err := <-done; err != nil {
			t.Fatalf("after %v in the queue: %v", time.Since(began), err)
		}
		if took := time.Since(began); took != 10*turnFor {
			t.Errorf("it waited %v", took)
		}
		// Those are cut in the end, and so was the silent one.
		<-time.After(finishTimeout)
		for i, c := range append(stopped, silent) {
			if _, err := c.Write([]byte{0}); err == nil {
				t.Errorf("connection %d is still open", i)
			}
		}
		if len(g.turns) != 0 || len(served) != 2 {
			t.Errorf("%d turns are taken, %d connections were served", len(g.turns), len(served))
		}
		for _, c := range []net.Conn{first, last, <-served, <-served} {
			c.Close()
		}
		g.Close()
		<-ran
	})
}

// A mute connection hears nothing.
type mute struct{ net.Conn }

func (m mute) Read(b []byte) (int, error) {
	for {
		if _, err := m.Conn.Read(b); err != nil {
			return 0, err
		}
	}
}
