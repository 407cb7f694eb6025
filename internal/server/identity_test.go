package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/broker"
)

func changes(pairs ...any) (all []broker.Change) {
	for i := 0; i < len(pairs); i += 2 {
		value, _ := pairs[i+1].([]byte)
		all = append(all, broker.Change{Key: []byte(pairs[i].(string)), Value: value})
	}
	return all
}

func write(t *testing.T, s *sessions, pairs ...string) {
	t.Helper()
	var all []any
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, pairs[i], []byte(pairs[i+1]))
	}
	if err := s.Write(t.Context(), changes(all...)); err != nil {
		t.Fatal(err)
	}
}

func credentialsFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[{"accessKeyId":"AKIAEXAMPLE000000000","secretAccessKey":"secret"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// An office signs certificates for a test.
type office struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{dir: t.TempDir()}
	o.sign(t, "ca", &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	o.server(t)
	return o
}

func (o *office) file(name string) string { return filepath.Join(o.dir, name) }

// server makes a new certificate of the server in place of the one there is.
func (o *office) server(t *testing.T) *x509.Certificate {
	return o.sign(t, "server", &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}})
}

func (o *office) device(t *testing.T, name string, uris ...string) *x509.Certificate {
	about := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		about.URIs = append(about.URIs, u)
	}
	return o.sign(t, name, about)
}

func (o *office) sign(t *testing.T, name string, about *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	about.SerialNumber, about.NotBefore, about.NotAfter = number, time.Unix(0, 0), time.Unix(1<<33, 0)
	by, signer := o.cert, o.key
	if by == nil {
		by, signer = about, key
	}
	der, err := x509.CreateCertificate(rand.Reader, about, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if o.cert == nil {
		o.cert, o.key = cert, key
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(o.file(name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

// of is the TLS of a device; of nobody without a name.
func (o *office) of(t *testing.T, name string) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	config.RootCAs.AddCert(o.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(o.file(name+".pem"), o.file(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func (o *office) config() Config {
	return Config{MQTTS: "127.0.0.1:0", HTTPSData: "127.0.0.1:0", TLSCert: o.file("server.pem"), TLSKey: o.file("server.key"), ClientCA: o.file("ca.pem")}
}

func printOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func TestDenialWithoutRestart(t *testing.T) {
	o := newOffice(t)
	lamp := o.device(t, "lamp")
	o.device(t, "pump")
	c := o.config()
	c.ClientDeny = o.file("denied")
	if err := os.WriteFile(c.ClientDeny, []byte("# nobody yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, c)
	lampTLS, pumpTLS := o.of(t, "lamp"), o.of(t, "pump")
	mqtts := s.Addrs()["mqtts"]
	live, other := mustCall(t, mqtts, "lamp", lampTLS), mustCall(t, mqtts, "pump", pumpTLS)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: lampTLS}, Timeout: patience}
	defer web.CloseIdleConnections()
	at := "https://" + s.Addrs()["https-data"] + "/things/lamp/jobs"
	if r, err := web.Get(at); err != nil || r.StatusCode != 404 { // it is let in, and not registered
		t.Fatalf("%v %v", r, err)
	} else {
		io.Copy(io.Discard, r.Body) // or the connection would not be kept
		r.Body.Close()
	}

	if err := os.WriteFile(c.ClientDeny, []byte("sha256 Fingerprint="+colons(printOf(lamp))+" # stolen\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if reason := <-live.told; reason != 0x87 {
		t.Errorf("the connection of a denied device ends with %#x", reason)
	}
	if c, err := call(t.Context(), mqtts, "lamp", lampTLS); err == nil {
		c.Disconnect(nil)
		t.Error("a denied device was let in")
	}
	if r, err := web.Get(at); err == nil {
		r.Body.Close()
		if typ := r.Header.Get("x-amzn-ErrorType"); r.StatusCode != 400 || typ != "CertificateValidationException" {
			t.Errorf("a denied device gets %d %s on a connection that is still up", r.StatusCode, typ)
		}
	} else {
		t.Errorf("the connection that is up does not answer: %v", err)
	}
	web.CloseIdleConnections()
	if r, err := web.Get(at); err == nil {
		r.Body.Close()
		t.Errorf("a denied device gets %d", r.StatusCode)
	}
	if _, err := other.Subscribe(t.Context(), subscribing("hall")); err != nil {
		t.Errorf("another device: %v", err)
	}

	if err := os.WriteFile(c.ClientDeny, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a list that cannot be read: %v", err)
	}
	if _, err := call(t.Context(), mqtts, "lamp", lampTLS); err == nil {
		t.Error("what cannot be read has let a denied device in")
	}
}

func colons(digits string) string {
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strings.ToUpper(digits[i : i+2]))
	}
	return b.String()
}

func TestNewCertificatesWithoutRestart(t *testing.T) {
	o := newOffice(t)
	o.device(t, "lamp")
	s := start(t, o.config())
	mqtts := s.Addrs()["mqtts"]
	old := mustCall(t, mqtts, "lamp", o.of(t, "lamp"))
	fresh := o.server(t)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", mqtts, o.of(t, "lamp"))
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0]; got.SerialNumber.Cmp(fresh.SerialNumber) != 0 {
		t.Error("the server still shows its old certificate")
	}
	conn.Close()
	if _, err := old.Subscribe(t.Context(), subscribing("hall")); err != nil {
		t.Errorf("the connection of before: %v", err)
	}
	// Another authority takes the place of the one there was.
	second := newOffice(t)
	second.device(t, "lamp")
	text, err := os.ReadFile(second.file("ca.pem"))
	if err == nil {
		err = os.WriteFile(o.file("ca.pem"), text, 0o600)
	}
	if err == nil {
		err = s.Reload()
	}
	if err != nil {
		t.Fatal(err)
	}
	config := o.of(t, "")
	config.Certificates = second.of(t, "lamp").Certificates
	mustCall(t, mqtts, "lamp", config)
	if _, err := call(t.Context(), mqtts, "lamp", o.of(t, "lamp")); err == nil {
		t.Error("the authority that has gone is still believed")
	}
}

func TestNamesOfCertificates(t *testing.T) {
	o := newOffice(t)
	lamp := o.device(t, "lamp", "urn:dev:ops:1", "spiffe://fleet/pump-1")
	twice := o.device(t, "twice", "spiffe://fleet/a", "spiffe://fleet/b")
	wild, deep, empty, long := o.device(t, "+"), o.sign(t, "deep", &x509.Certificate{Subject: pkix.Name{CommonName: "lamp/jobs"}}),
		o.sign(t, "empty", &x509.Certificate{}), o.sign(t, "long", &x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("n", 129)}})
	poser := o.sign(t, "poser", &x509.Certificate{Subject: pkix.Name{CommonName: printOf(lamp)}})
	mapping := o.file("things.json")
	text := fmt.Sprintf(`{"things":{%q:"heater","twice":"oven"}}`, colons(printOf(lamp)))
	if err := os.WriteFile(mapping, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by   string
		cert *x509.Certificate
		want string // empty: refused
	}{
		{"", lamp, "lamp"}, {"cn", lamp, "lamp"}, {"cn", wild, ""}, {"cn", deep, ""}, {"cn", empty, ""}, {"cn", long, ""},
		{"uri:spiffe://fleet/", lamp, "pump-1"}, {"uri:spiffe://fleet/", twice, ""}, {"uri:spiffe://fleet/", wild, ""},
		{"uri:spiffe://", lamp, ""}, {"uri:urn:dev:", lamp, "ops:1"},
		{"file:" + mapping, lamp, "heater"}, {"file:" + mapping, twice, "oven"}, {"file:" + mapping, wild, ""}, {"file:" + mapping, poser, ""},
	} {
		i, err := newIdentities(o.file("ca.pem"), "", c.by, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := i.identify(c.cert)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s of %s: %q, %v; want %q", c.by, c.cert.Subject.CommonName, got, err, c.want)
		}
	}
	for _, by := range []string{"dns", "uri:", "file:", "file:" + o.file("none"), "file:" + o.file("ca.pem")} {
		if _, err := newIdentities(o.file("ca.pem"), "", by, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("named by %s", by)
		}
	}
	if _, err := newIdentities(o.dir, "", "", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("a directory: %v", err)
	}
	for _, ca := range []string{o.file("none"), o.file("ca.key"), t.TempDir()} {
		if _, err := newIdentities(ca, "", "", slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("authorities of %s", ca)
		}
	}
	denied, err := parseDenied([]byte("# two\n" + printOf(lamp) + "\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: wild.Raw}))))
	if err != nil || len(denied) != 2 || !denied[sha256.Sum256(wild.Raw)] || !denied[sha256.Sum256(lamp.Raw)] {
		t.Errorf("%v, %v", denied, err)
	}
}
