package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"muster/internal/awsapi/wire"
)

// listen opens every listener of the config.
func (s *Server) listen() error {
	for _, d := range []struct {
		door
		address string
	}{
		{door{name: "http"}, s.config.HTTP},
		{door{name: "https", tls: true}, s.config.HTTPS},
		{door{name: "control", plane: wire.Control}, s.config.Control},
		{door{name: "data", plane: wire.Data}, s.config.Data},
	} {
		if d.address == "" {
			continue
		}
		at, err := place(d.address, s.credentials != nil, s.config.Insecure)
		if err == nil {
			d.listeners, err = bind(at)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		s.doors = append(s.doors, &d.door)
	}
	return nil
}

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
		return spot{}, fmt.Errorf("%s can be reached from other machines, and nothing authenticates: anybody could act for every device. "+
			"Ask for signatures (--auth sigv4 --credentials FILE), listen on loopback (127.0.0.1:%s), or say that it is meant so (--insecure)", address, port)
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

func (d *door) serve(l net.Listener) error {
	if d.tls {
		return d.server.ServeTLS(l, "", "")
	}
	return d.server.Serve(l)
}

type certificate = tls.Certificate

func (s *Server) loadCertificate() error {
	if s.config.TLSCert == "" || s.config.TLSKey == "" {
		return errors.New("https needs a certificate and its key: --tls-cert FILE --tls-key FILE")
	}
	c, err := tls.LoadX509KeyPair(s.config.TLSCert, s.config.TLSKey)
	if err != nil {
		return fmt.Errorf("the certificate for https cannot be read: %w", err)
	}
	s.certificate.Store(&c)
	return nil
}

// httpServer serves the AWS face beside Muster's own endpoints.
func (s *Server) httpServer(plane wire.Plane) *http.Server {
	return &http.Server{
		Handler:           s.handler(plane),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quietLog(s.log),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certificate.Load(), nil
		}},
	}
}
