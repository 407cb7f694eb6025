package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// A certCmd makes certificates to try things out with. A fleet has an authority of its own.
type certCmd struct {
	CA     certCACmd     `cmd:"" name:"ca" help:"Make an authority. The other two make one if there is none."`
	Server certServerCmd `cmd:"" help:"Make the server's certificate."`
	Device certDeviceCmd `cmd:"" help:"Make the certificates of devices."`
}

// Help is what muster cert --help says.
func (*certCmd) Help() string {
	return `For trying out: the authority's key lies beside the certificates, unencrypted.

  muster cert server
  muster cert device lamp
  muster serve --mqtts :8883 --https-data :8443 --tls-cert muster-certs/server.pem \
    --tls-key muster-certs/server.key --client-ca muster-certs/ca.pem
  mosquitto_sub -h localhost -p 8883 --cafile muster-certs/ca.pem --cert muster-certs/lamp.pem \
    --key muster-certs/lamp.key -i lamp -t '$aws/things/lamp/jobs/notify'`
}

type certFiles struct {
	Dir   string `placeholder:"DIR" default:"muster-certs" help:"Where certificates and keys are, and are written to (default ${default})."`
	Days  int    `placeholder:"N" default:"365" help:"How long they are good (default ${default})."`
	Force bool   `help:"Replace what is there."`
}

type certCACmd struct {
	certFiles
	Name string `placeholder:"NAME" default:"Muster test CA" help:"Its common name (default ${default})."`
}

type certServerCmd struct {
	certFiles
	Hosts []string `arg:"" optional:"" name:"host" help:"Names and addresses by which clients reach the server (default localhost, 127.0.0.1 and ::1)."`
}

type certDeviceCmd struct {
	certFiles
	URI   string   `name:"uri" placeholder:"PREFIX" help:"Also put the name into a SAN URI behind PREFIX, for a server with --client-thing uri:PREFIX."`
	Names []string `arg:"" name:"thing" help:"Names of things."`
}

// Run makes an authority.
func (c *certCACmd) Run(w world) error {
	if c.Days < 1 {
		return errors.New("--days must be 1 or more")
	}
	_, err := c.makeCA(w.stdout, c.Name, c.Days)
	return err
}

// Run makes the server's certificate.
func (c *certServerCmd) Run(w world) error {
	hosts := c.Hosts
	if len(hosts) == 0 {
		hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	about := &x509.Certificate{Subject: pkix.Name{CommonName: hosts[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			about.IPAddresses = append(about.IPAddresses, ip)
		} else {
			about.DNSNames = append(about.DNSNames, h)
		}
	}
	_, err := c.signed(w.stdout, "server", about)
	return err
}

// thingName is what a thing may be called.
var thingName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// Run makes the certificates of devices.
func (c *certDeviceCmd) Run(w world) error {
	for _, name := range c.Names {
		if !thingName.MatchString(name) {
			return fmt.Errorf("%q is not a thing's name: 1 to 128 of a-z, A-Z, 0-9, :, _ and -", name)
		}
		if name == "ca" || name == "server" {
			return fmt.Errorf("a thing called %s would take the place of the file %s.pem here; give it another name", name, name)
		}
	}
	for _, name := range c.Names {
		about := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if c.URI != "" {
			u, err := url.Parse(c.URI + name)
			if err != nil {
				return fmt.Errorf("%s is not the beginning of a URI: %w", c.URI, err)
			}
			about.URIs = []*url.URL{u}
		}
		made, err := c.signed(w.stdout, name, about)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(made.Raw)
		fmt.Fprintf(w.stdout, "  fingerprint %s\n", hex.EncodeToString(sum[:]))
	}
	return nil
}

// An authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (c *certFiles) makeCA(say io.Writer, name string, days int) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	about := lasting(days, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	made, err := c.write(say, "ca", about, about, key, key)
	return &authority{made, key}, err
}

// theCA is the authority of the directory, which is made if there is none.
func (c *certFiles) theCA(say io.Writer) (*authority, error) {
	cert, err := readPEM(c.file("ca", ".pem"), "CERTIFICATE")
	if errors.Is(err, fs.ErrNotExist) {
		return c.makeCA(say, "Muster test CA", max(c.Days, 3650)) // it is to outlive what it signs later
	}
	if err != nil {
		return nil, err
	}
	key, err := readPEM(c.file("ca", ".key"), "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	a := &authority{}
	if a.cert, err = x509.ParseCertificate(cert); err != nil {
		return nil, fmt.Errorf("%s: %w", c.file("ca", ".pem"), err)
	}
	secret, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.file("ca", ".key"), err)
	}
	ok := false
	if a.key, ok = secret.(*ecdsa.PrivateKey); !ok {
		return nil, fmt.Errorf("%s is not a key that muster cert has made", c.file("ca", ".key"))
	}
	return a, nil
}

// signed makes a certificate that the authority has signed.
func (c *certFiles) signed(say io.Writer, name string, about *x509.Certificate) (*x509.Certificate, error) {
	if c.Days < 1 {
		return nil, errors.New("--days must be 1 or more")
	}
	ca, err := c.theCA(say)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	about.KeyUsage = x509.KeyUsageDigitalSignature
	return c.write(say, name, lasting(c.Days, about), ca.cert, key, ca.key)
}

// lasting is good from an hour ago, for clocks that go slow, and has a number of its own.
func lasting(days int, about *x509.Certificate) *x509.Certificate {
	number := make([]byte, 16)
	rand.Read(number)
	number[0] &= 0x7f
	about.SerialNumber = new(big.Int).SetBytes(number)
	now := time.Now()
	about.NotBefore, about.NotAfter = now.Add(-time.Hour), now.AddDate(0, 0, days)
	return about
}

func (c *certFiles) file(name, ext string) string { return filepath.Join(c.Dir, name+ext) }

// write signs a certificate and writes it and its key.
func (c *certFiles) write(say io.Writer, name string, about, by *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, about, by, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	certFile, keyFile := c.file(name, ".pem"), c.file(name, ".key")
	if err := c.put(keyFile, "PRIVATE KEY", secret, 0o600); err != nil {
		return nil, err
	}
	if err := c.put(certFile, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	fmt.Fprintf(say, "%s %s\n", certFile, keyFile)
	return x509.ParseCertificate(der)
}

// put writes a file in one step. What is there is only replaced if that is meant.
func (c *certFiles) put(name, kind string, der []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(name); err == nil && !c.Force {
		return fmt.Errorf("%s exists already; --force replaces it", name)
	}
	temp, err := os.CreateTemp(c.Dir, ".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(temp, &pem.Block{Type: kind, Bytes: der}), temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

func readPEM(name, kind string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s is not a PEM file with a %s", name, kind)
	}
	return block.Bytes, nil
}
