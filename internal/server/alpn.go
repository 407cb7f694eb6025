package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What a client may ask for within TLS (events-and-limits.md §3). Who asks for nothing means HTTP where
// HTTP is spoken, and MQTT elsewhere.
const (
	alpnMQTTCA = "x-amzn-mqtt-ca"
	alpnMQTT   = "mqtt"
	alpnHTTPCA = "x-amzn-http-ca"
)

var (
	httpProtocols = []string{"h2", "http/1.1", alpnHTTPCA}
	mqttProtocols = []string{alpnMQTTCA, alpnMQTT}
)

// A paced listener accepts no faster than its limiter allows. Who comes meanwhile waits in the kernel's
// queue: a herd that comes back at once slows down instead of timing out.
type paced struct {
	net.Listener
	pace *rate.Limiter // nil: no limit
	ctx  context.Context
	stop context.CancelFunc
}

func pace(l net.Listener, r *rate.Limiter) *paced {
	ctx, stop := context.WithCancel(context.Background())
	return &paced{l, r, ctx, stop}
}

func (p *paced) Accept() (net.Conn, error) {
	if p.pace != nil && p.pace.Wait(p.ctx) != nil {
		return nil, net.ErrClosed
	}
	return p.Listener.Accept()
}

func (p *paced) Close() error {
	p.stop()
	return p.Listener.Close()
}

// A gate agrees on TLS with each client of a listener, and gives it to the server of the protocol that
// it asked for: those of HTTP come out of Accept.
type gate struct {
	net.Listener
	config *tls.Config
	turns  turns
	http   bool           // HTTP is spoken here
	mqtt   func(net.Conn) // nil: MQTT is not spoken here
	log    *slog.Logger

	ready     chan net.Conn
	ended     chan struct{}
	closeOnce sync.Once
	running   sync.WaitGroup
}

// open makes a gate of a listener. Somebody has to run it.
func open(l net.Listener, config *tls.Config, t turns, http bool, mqtt func(net.Conn), log *slog.Logger) *gate {
	return &gate{Listener: l, config: inTurn(config), turns: t, http: http, mqtt: mqtt, log: log, ready: make(chan net.Conn), ended: make(chan struct{})}
}

// run accepts until the listener is closed, and returns when nobody is on the way from it any more.
func (g *gate) run() error {
	defer g.running.Wait()
	pause := 5 * time.Millisecond
	for {
		conn, err := g.Listener.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			g.running.Go(func() { g.admit(conn) })
			continue
		case errors.Is(err, net.ErrClosed):
			return err
		}
		// Out of file descriptors, most likely: others will leave.
		g.log.Warn("a connection could not be accepted", "listener", g.Addr().String(), "error", err)
		select {
		case <-time.After(pause):
		case <-g.ended:
			return net.ErrClosed
		}
		pause = min(2*pause, time.Second)
	}
}

func (g *gate) admit(raw net.Conn) {
	h := beginHandshake(g.turns, raw, g.ended)
	conn := tls.Server(raw, g.config)
	err := conn.HandshakeContext(withHandshake(h))
	if inTime := h.end(); !inTime || err != nil {
		g.log.Debug("no TLS connection", "remote", raw.RemoteAddr().String(), "error", err)
		raw.Close()
		return
	}
	asked := conn.ConnectionState().NegotiatedProtocol
	switch {
	case slices.Contains(mqttProtocols, asked) || !g.http:
		// It is the broker's now, which waits for its own connections.
		go g.mqtt(conn)
	case asked == alpnHTTPCA:
		g.pass(aside{conn})
	default:
		g.pass(conn)
	}
}

// pass gives a connection to the HTTP server, which takes it unless it is about to end.
func (g *gate) pass(conn net.Conn) {
	select {
	case g.ready <- conn:
	case <-g.ended:
		conn.Close()
	}
}

// Accept returns the next connection that speaks HTTP.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case conn := <-g.ready:
		return conn, nil
	case <-g.ended:
		return nil, net.ErrClosed
	}
}

// Close closes the listener.
func (g *gate) Close() (err error) {
	g.closeOnce.Do(func() {
		close(g.ended)
		err = g.Listener.Close()
	})
	return err
}

// aside keeps from net/http that a connection is one of TLS: it would hang up on a client that asked for
// a protocol whose name it does not know, although what is spoken is plain HTTP/1.1.
type aside struct{ net.Conn }

type tlsKey struct{}

// connContext remembers the TLS of such a connection, and rememberTLS gives it back to its requests.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if a, ok := c.(aside); ok {
		state := a.Conn.(*tls.Conn).ConnectionState()
		return context.WithValue(ctx, tlsKey{}, &state)
	}
	return ctx
}

func rememberTLS(r *http.Request) {
	if r.TLS == nil {
		r.TLS, _ = r.Context().Value(tlsKey{}).(*tls.ConnectionState)
	}
}

// keepGate remembers a gate for the end, unless that has come.
func (s *Server) keepGate(g *gate) bool {
	s.gatesMu.Lock()
	defer s.gatesMu.Unlock()
	if !s.gatesClosed {
		s.gates = append(s.gates, g)
	}
	return !s.gatesClosed
}

func (s *Server) closeGates() {
	s.gatesMu.Lock()
	defer s.gatesMu.Unlock()
	s.gatesClosed = true
	for _, g := range s.gates {
		g.Close()
	}
}
