package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What muster cert makes is good for both ends of a connection, and for those ends only.
func TestCert(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	for _, args := range []string{"server localhost 192.0.2.7", "device lamp pump:1", "device --uri spiffe://fleet/ oven"} {
		what, rest, _ := strings.Cut(args, " ")
		code, out, text := said("", append([]string{"cert", what, "--dir", dir}, strings.Fields(rest)...)...)
		if code != 0 || text != "" || !strings.Contains(out, ".pem") {
			t.Fatalf("muster cert %s: %d %s%s", args, code, out, text)
		}
		if what == "device" && !strings.Contains(out, "fingerprint ") {
			t.Errorf("muster cert %s tells no fingerprint: %s", args, out)
		}
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal("no authority", err)
	}
	for name, c := range map[string]struct {
		usage x509.ExtKeyUsage
		host  string
		names string
	}{
		"server": {x509.ExtKeyUsageServerAuth, "192.0.2.7", "localhost"},
		"lamp":   {x509.ExtKeyUsageClientAuth, "", "lamp"},
		"pump:1": {x509.ExtKeyUsageClientAuth, "", "pump:1"},
		"oven":   {x509.ExtKeyUsageClientAuth, "", "oven"},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.usage}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		other := x509.ExtKeyUsageServerAuth + x509.ExtKeyUsageClientAuth - c.usage
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{other}}); err == nil {
			t.Errorf("%s is good for the other end too", name)
		}
		if pair.Leaf.Subject.CommonName != c.names {
			t.Errorf("%s names %s", name, pair.Leaf.Subject.CommonName)
		}
		if info, err := os.Stat(filepath.Join(dir, name+".key")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s: %v, %v", name, info.Mode(), err)
		}
		if name == "oven" && (len(pair.Leaf.URIs) != 1 || pair.Leaf.URIs[0].String() != "spiffe://fleet/oven") {
			t.Errorf("%s has %v", name, pair.Leaf.URIs)
		}
	}
	before, _ := os.ReadFile(filepath.Join(dir, "lamp.pem"))
	if code, _, text := said("", "cert", "device", "--dir", dir, "lamp"); code != exitFailed || !strings.Contains(text, "--force") {
		t.Errorf("a certificate that is there: %d %s", code, text)
	}
	if now, _ := os.ReadFile(filepath.Join(dir, "lamp.pem")); string(now) != string(before) {
		t.Error("a certificate that is there was replaced")
	}
	if code, _, text := said("", "cert", "device", "--dir", dir, "--force", "lamp"); code != 0 {
		t.Errorf("with --force: %s", text)
	}
	if code, _, _ := said("", "cert", "ca", "--dir", dir); code != exitFailed {
		t.Error("an authority that is there was replaced")
	}
}
