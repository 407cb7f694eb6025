package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// certificate is a self-signed one for tests.
func certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// Hooks.Connect sees the client's certificate and what the listener's owner says of the connection.
func TestConnectSeesTheConnection(t *testing.T) {
	server, serverPool := certificate(t, "server")
	device, devicePool := certificate(t, "lamp")
	h := open(t, Options{Hooks: Hooks{Connect: func(_ context.Context, r *ConnectRequest) (any, error) {
		if r.TLS == nil {
			return r.Conn.Value, nil
		}
		if len(r.TLS.PeerCertificates) == 0 {
			return nil, errors.New("no certificate")
		}
		return r.TLS.PeerCertificates[0].Subject.CommonName + " over " + r.TLS.NegotiatedProtocol, nil
	}, Publish: func(c *Client, topic string) bool { return topic == c.Identity }}})
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: devicePool,
		ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"x-amzn-mqtt-ca"}})
	if err != nil {
		t.Fatal(err)
	}
	go h.b.Serve(l)
	dial := func(certs ...tls.Certificate) *raw {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: serverPool, ServerName: "server", Certificates: certs, NextProtos: []string{"x-amzn-mqtt-ca"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &raw{t: t, conn: conn, v: V5, wait: patience}
	}
	c := dial(device)
	c.send(call{id: "a", keepAlive: 60}.packet(V5))
	c.expect(connack(0, 0, connackProps()))
	if code := c.say(word{topic: "lamp over x-amzn-mqtt-ca", qos: 1}); code != NoMatchingSubscribers {
		t.Error(code)
	}
	c = dial()
	c.send(call{id: "b"}.packet(V5))
	c.expect(connack(0, NotAuthorized, nil))
	c.expectClosed()

	ours, theirs := net.Pipe()
	go h.b.ServeConn(theirs, ConnInfo{Value: "who"})
	c = &raw{t: t, conn: ours, v: V5, wait: patience}
	c.send(call{id: "c", keepAlive: 60}.packet(V5))
	c.expect(connack(0, 0, connackProps()))
	if code := c.say(word{topic: "who", qos: 1}); code != NoMatchingSubscribers {
		t.Error(code)
	}
	ours.Close()
}
