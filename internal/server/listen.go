package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"muster/internal/awsapi/wire"
)

// A door is a listener, or two of the same port, and what serves it.
type door struct {
	name      string // its key in Addrs
	plane     wire.Plane
	http, tls bool // MQTT is spoken where HTTP is not
	clients   tls.ClientAuthType
	// authenticates says that nobody gets in unknown, and hint how that could be.
	authenticates bool
	hint          string
	listeners     []net.Listener
	server        *http.Server // nil: MQTT alone
}

// Addrs are the addresses that are listened on, by "http", "control", "data", "https", "https-data", "mqtt", "mqtts", "metrics" and "pprof".
// Where a port is open on both loopbacks it is the one of IPv4.
func (s *Server) Addrs() map[string]string {
	addrs := map[string]string{}
	for _, d := range s.doors {
		addrs[d.name] = d.listeners[0].Addr().String()
	}
	for _, d := range s.sides {
		addrs[d.name] = d.listeners[0].Addr().String()
	}
	return addrs
}

// Authenticates says whether requests must be signed.
func (s *Server) Authenticates() bool { return s.credentials != nil }

// LoopbackOnly says whether no other machine can reach any listener.
func (s *Server) LoopbackOnly() bool {
	for _, d := range s.doors {
		for _, l := range d.listeners {
			if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
				return false
			}
		}
	}
	return true
}

// Open says whether any listener asks nobody who they are.
func (s *Server) Open() bool {
	return slices.ContainsFunc(s.doors, func(d *door) bool { return !d.authenticates })
}

// Exposed says whether other machines can reach a listener that asks nobody who they are.
func (s *Server) Exposed() bool {
	for _, d := range s.doors {
		for _, l := range d.listeners {
			if a, ok := l.Addr().(*net.TCPAddr); !d.authenticates && (!ok || !a.IP.IsLoopback()) {
				return true
			}
		}
	}
	return false
}

// listen opens every listener of the config.
func (s *Server) listen() error {
	signed, certified := s.credentials != nil, s.identities != nil
	const (
		ifGiven  = tls.VerifyClientCertIfGiven
		required = tls.RequireAndVerifyClientCert
	)
	devices := required // who signs need not show a certificate
	if signed {
		devices = ifGiven
	}
	for _, d := range []struct {
		door
		address string
	}{
		{door{name: "http", http: true, authenticates: signed, hint: hintSign}, s.config.HTTP},
		{door{name: "https", http: true, tls: true, clients: ifGiven, authenticates: signed, hint: hintSign}, s.config.HTTPS},
		{door{name: "control", http: true, plane: wire.Control, authenticates: signed, hint: hintSign}, s.config.Control},
		{door{name: "data", http: true, plane: wire.Data, authenticates: signed, hint: hintSign}, s.config.Data},
		{door{name: "https-data", http: true, tls: true, plane: wire.Data, clients: devices, authenticates: signed || certified, hint: hintShow + ", or for signatures (--auth sigv4 --credentials FILE)"}, s.config.HTTPSData},
		{door{name: "mqtt", hint: "Speak TLS and " + lower(hintShow) + " there (--mqtts), or MQTT over WebSocket with signatures (--http with --auth sigv4)"}, s.config.MQTT},
		{door{name: "mqtts", tls: true, clients: required, authenticates: certified, hint: hintShow}, s.config.MQTTS},
	} {
		if d.address == "" {
			continue
		}
		at, err := place(d.address, d.authenticates, s.config.Insecure)
		if e, ok := errors.AsType[*exposed](err); ok {
			e.hint = d.hint
		}
		if err == nil {
			d.listeners, err = bind(at)
		}
		if err != nil {
			if d.name == "mqtt" && errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w. Perhaps another MQTT broker runs here; give another address (--mqtt :2883), or none (--mqtt=)", err)
			}
			return fmt.Errorf("%s: %w", d.name, err)
		}
		s.doors = append(s.doors, &d.door)
	}
	return nil
}

// An exposed error refuses to listen where anybody could come.
type exposed struct {
	address, port string
	hint          string // how to find out who comes
}

const (
	hintSign = "Ask for signatures (--auth sigv4 --credentials FILE)"
	hintShow = "Ask for certificates of devices (--client-ca FILE)"
)

func (e *exposed) Error() string {
	return fmt.Sprintf("%s can be reached from other machines, and nothing authenticates: anybody could act for every device. "+
		"%s, listen on loopback (127.0.0.1:%s), or say that it is meant so (--insecure)", e.address, e.hint, e.port)
}

// lower is a sentence in the middle of another.
func lower(sentence string) string { return strings.ToLower(sentence[:1]) + sentence[1:] }

// A spot is where to listen: on one address, or on the port of both loopbacks.
type spot struct {
	ip       net.IP // nil: every interface
	loopback bool   // both of them
	port     int
}

// place reads an address and refuses one that would let anybody on the network in (design §7).
func place(address string, authenticates, insecure bool) (spot, error) {
	host, port := "", address
	if strings.Contains(address, ":") {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return spot{}, fmt.Errorf("%q is not an address: write HOST:PORT, :PORT or PORT, as in 127.0.0.1:8080", address)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return spot{}, fmt.Errorf("%q is not an address: the port must be a number from 0 to 65535", address)
	}
	at := spot{port: int(n)}
	open := !authenticates && !insecure
	switch host {
	case "":
		at.loopback = open
		return at, nil
	case "localhost":
		at.loopback = true
		return at, nil
	}
	resolved, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return spot{}, fmt.Errorf("the host of %q cannot be found: %w", address, err)
	}
	at.ip = resolved.IP
	if open && !at.ip.IsLoopback() {
		return spot{}, &exposed{address, port, hintSign}
	}
	return at, nil
}

func bind(at spot) ([]net.Listener, error) {
	if !at.loopback {
		host := ""
		if at.ip != nil {
			host = at.ip.String()
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(at.port)))
		return []net.Listener{l}, inUse(err, at.port)
	}
	v4, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(at.port)))
	if err != nil {
		return nil, inUse(err, at.port)
	}
	v6, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(v4.Addr().(*net.TCPAddr).Port)))
	switch {
	case err == nil:
		return []net.Listener{v4, v6}, nil
	case at.port != 0 && errors.Is(err, syscall.EADDRINUSE):
		// Whoever has it would get the requests to "localhost" that prefer IPv6.
		v4.Close()
		return nil, inUse(err, at.port)
	}
	return []net.Listener{v4}, nil // this machine has no IPv6
}

func inUse(err error, port int) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is in use by another process: %w", port, err)
	}
	return err
}

// serve serves a listener of the door until it is closed.
func (s *Server) serve(d *door, l net.Listener) error {
	m := s.mqtt
	switch {
	case !d.tls && d.http:
		return d.server.Serve(l)
	case !d.tls:
		return m.broker.Serve(pace(l, s.arrivals))
	}
	// Where certificates are known to be devices', MQTT asks for one; where there are only signatures,
	// nobody can say who they are this way.
	anonymous := s.identities == nil && (!d.http || s.credentials == nil)
	g := open(pace(l, s.arrivals), s.tlsConfig(d), s.turns, d.http, func(c net.Conn) { m.serveConn(c, link{anonymous: anonymous}) }, s.log)
	if !s.keepGate(g) {
		return net.ErrClosed
	}
	if !d.http {
		return g.run()
	}
	go g.run() // ends when the server closes its listener
	return d.server.Serve(g)
}

// httpServer serves the AWS face beside Muster's own endpoints.
func (s *Server) httpServer(d *door) *http.Server {
	var config *tls.Config
	if d.tls {
		config = &tls.Config{NextProtos: httpProtocols} // so that it speaks HTTP/2; the gate has the real one
	}
	return &http.Server{
		TLSConfig:         config,
		Handler:           s.handler(d.plane),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quietLog(s.log),
		ConnContext:       connContext,
	}
}
