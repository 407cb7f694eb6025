package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Certs are an authority, a server's certificate, and one for every device. All
// devices have the same key: what it costs to make keys is nobody's question here.
type certs struct {
	dir  string // ca.pem, server.pem, server.key
	ca   *x509.Certificate
	sign *ecdsa.PrivateKey
	key  *ecdsa.PrivateKey
	pool *x509.CertPool

	mu    sync.Mutex
	known map[int]*tls.Config
}

// certificates makes them once.
func (b *Bench) certificates() (*certs, error) {
	if b.certs != nil {
		return b.certs, nil
	}
	c := &certs{dir: filepath.Join(b.Dir, "certs"), pool: x509.NewCertPool(), known: map[int]*tls.Config{}}
	if err := c.make(); err != nil {
		return nil, err
	}
	b.certs = c
	return c, nil
}

func (c *certs) make() (err error) {
	if c.sign, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	c.ca = template("bench authority")
	c.ca.IsCA, c.ca.BasicConstraintsValid, c.ca.KeyUsage = true, true, x509.KeyUsageCertSign
	authority, err := x509.CreateCertificate(rand.Reader, c.ca, c.ca, c.sign.Public(), c.sign)
	if err != nil {
		return err
	}
	if c.ca, err = x509.ParseCertificate(authority); err != nil {
		return err
	}
	c.pool.AddCert(c.ca)
	host := template("localhost")
	host.DNSNames, host.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	server, err := c.issue(host)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(c.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(os.MkdirAll(c.dir, 0o700), write("ca.pem", "CERTIFICATE", authority),
		write("server.pem", "CERTIFICATE", server), write("server.key", "PRIVATE KEY", key))
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // there is no randomness
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
}

func (c *certs) issue(t *x509.Certificate) ([]byte, error) {
	return x509.CreateCertificate(rand.Reader, t, c.ca, c.key.Public(), c.sign)
}

// flags make muster serve MQTT with them.
func (c *certs) flags() []string {
	return []string{"--mqtts", "127.0.0.1:0", "--tls-cert", filepath.Join(c.dir, "server.pem"), "--tls-key", filepath.Join(c.dir, "server.key"),
		"--client-ca", filepath.Join(c.dir, "ca.pem")}
}

// client is how a device connects. It begins every time anew: sessions are not resumed.
func (c *certs) client(thing int) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.known[thing]
	if config == nil {
		der, err := c.issue(template(string(appendThing(nil, thing))))
		if err != nil {
			panic(err) // the key is ours and the template is good
		}
		config = &tls.Config{RootCAs: c.pool, ServerName: "localhost",
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: c.key}}}
		c.known[thing] = config
	}
	return config
}

// serverTLS is a server with the certificates in dir, as Muster's is where devices have to show one.
func serverTLS(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate in ca.pem")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, nil
}
