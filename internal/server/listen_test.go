package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPlace(t *testing.T) {
	all, both := spot{port: 80}, spot{port: 80, loopback: true}
	for _, c := range []struct {
		name                    string
		address                 string
		authenticates, insecure bool
		want                    spot
		says                    string // of the refusal
	}{
		{"port alone", "80", false, false, both, ""},
		{"colon and port", ":80", false, false, both, ""},
		{"port alone, signed", "80", true, false, all, ""},
		{"colon and port, signed", ":80", true, false, all, ""},
		{"port alone, insecure", ":80", false, true, all, ""},
		{"localhost", "localhost:80", false, false, both, ""},
		{"localhost, signed", "localhost:80", true, false, both, ""},
		{"loopback", "127.0.0.1:80", false, false, spot{ip: net.ParseIP("127.0.0.1"), port: 80}, ""},
		{"another loopback", "127.8.8.8:80", false, false, spot{ip: net.ParseIP("127.8.8.8"), port: 80}, ""},
		{"loopback of IPv6", "[::1]:80", false, false, spot{ip: net.IPv6loopback, port: 80}, ""},
		{"everything", "0.0.0.0:80", false, false, spot{}, "--insecure"},
		{"everything of IPv6", "[::]:80", false, false, spot{}, "--insecure"},
		{"an interface", "192.0.2.1:80", false, false, spot{}, "192.0.2.1:80 can be reached from other machines"},
		{"an interface, signed", "192.0.2.1:80", true, false, spot{ip: net.ParseIP("192.0.2.1"), port: 80}, ""},
		{"an interface, insecure", "192.0.2.1:80", false, true, spot{ip: net.ParseIP("192.0.2.1"), port: 80}, ""},
		{"no port", "127.0.0.1", false, false, spot{}, "port must be a number"},
		{"a word", "http", false, false, spot{}, "port must be a number"},
		{"too large a port", ":65536", false, false, spot{}, "port must be a number"},
		{"IPv6 without brackets", "::1:80", false, false, spot{}, "HOST:PORT"},
	} {
		got, err := place(c.address, c.authenticates, c.insecure)
		switch {
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %+v, %v; want an error with %q", c.name, got, err, c.says)
		case c.says == "" && (err != nil || !got.ip.Equal(c.want.ip) || got.port != c.want.port || got.loopback != c.want.loopback):
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func TestPortAloneIsBothLoopbacks(t *testing.T) {
	listeners, err := bind(spot{loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	port := listeners[0].Addr().(*net.TCPAddr).Port
	for _, l := range listeners {
		defer l.Close()
		if a := l.Addr().(*net.TCPAddr); !a.IP.IsLoopback() || a.Port != port {
			t.Errorf("listens on %v", a)
		}
	}
	if _, err := bind(spot{loopback: true, port: port}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("the port twice: %v", err)
	}
}

func TestUnauthenticatedBeyondLoopback(t *testing.T) {
	if _, err := New(Config{HTTP: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "--insecure") {
		t.Errorf("New says %v", err)
	}
	s := start(t, Config{HTTP: "0.0.0.0:0", Insecure: true})
	if s.LoopbackOnly() {
		t.Error("every interface is not loopback only")
	}
}

func TestHTTPS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := selfSigned(t, cert, key)
	s := start(t, Config{HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", TLSCert: cert, TLSKey: key})
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + s.Addrs()["https"] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 || response.ProtoMajor != 2 {
		t.Errorf("%s %s, %v", response.Proto, text, err)
	}
	if _, err := New(Config{HTTPS: ":0"}); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("https without a certificate: %v", err)
	}
	if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("a bad certificate was read without a word")
	}
	if response, err := client.Get("https://" + s.Addrs()["https"] + "/healthz"); err != nil {
		t.Errorf("after a bad certificate: %v", err)
	} else {
		response.Body.Close()
	}
}

func selfSigned(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP("127.0.0.1")},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) {
		t.Fatal("the certificate is not one")
	}
	return roots
}
