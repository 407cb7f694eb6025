package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// A keyPair is the server's certificate, read from files that may change.
type keyPair struct {
	current atomic.Pointer[tls.Certificate]
	mu      sync.Mutex // one load at a time
	sum     [sha256.Size]byte
	failed  string // the last error, so that a ticker tells it once
}

// loadCertificate reads the server's certificate and key. What is wrong leaves the ones in use.
func (s *Server) loadCertificate() (err error) {
	k := &s.keyPair
	k.mu.Lock()
	defer k.mu.Unlock()
	first := k.current.Load() == nil
	defer func() {
		switch {
		case err == nil:
			k.failed = ""
		case !first && err.Error() != k.failed:
			k.failed = err.Error()
			s.log.Error("the server's certificate stays as it was", "error", err)
		}
	}()
	if s.config.TLSCert == "" || s.config.TLSKey == "" {
		return errors.New("TLS needs a certificate and its key: --tls-cert FILE --tls-key FILE")
	}
	chain, err := os.ReadFile(s.config.TLSCert)
	if err != nil {
		return fmt.Errorf("the server's certificate cannot be read: %w", err)
	}
	key, err := os.ReadFile(s.config.TLSKey)
	if err != nil {
		return fmt.Errorf("the key of the server's certificate cannot be read: %w", err)
	}
	sum := sha256.Sum256(bytes.Join([][]byte{chain, key}, []byte{0}))
	if !first && sum == k.sum {
		return nil
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("the server's certificate cannot be used: %w", err)
	}
	k.sum = sum
	k.current.Store(&c)
	if !first {
		s.log.Info("the server's certificate has changed and is read")
	}
	return nil
}

// hasTLS says whether any listener speaks TLS.
func (c *Config) hasTLS() bool { return c.HTTPS != "" || c.HTTPSData != "" || c.MQTTS != "" }

// tlsConfig is what a door agrees on with its clients. Each of them meets the files as they are by then.
func (s *Server) tlsConfig(d *door) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: mqttProtocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.keyPair.current.Load(), nil }}
	switch {
	case s.mqtt == nil:
		config.NextProtos = httpProtocols
	case d.http:
		config.NextProtos = slices.Concat(httpProtocols, mqttProtocols)
	}
	if s.identities == nil {
		return config
	}
	config.ClientAuth, config.VerifyConnection = d.clients, s.identities.verify
	type made struct {
		pool   *x509.CertPool
		config *tls.Config
	}
	var last atomic.Pointer[made]
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool := s.identities.roster.Load().pool
		if m := last.Load(); m != nil && m.pool == pool {
			return m.config, nil
		}
		c := config.Clone()
		c.GetConfigForClient, c.ClientCAs = nil, pool
		last.Store(&made{pool, c})
		return c, nil
	}
	return config
}
