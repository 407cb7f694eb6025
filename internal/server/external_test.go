package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/broker"
)

// A foreign broker is one that knows nothing of jobs.
func foreign(t *testing.T, h broker.Hooks, l net.Listener) (b *broker.Broker, addr string) {
	t.Helper()
	b, err := broker.New(broker.Options{Hooks: h})
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	go b.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = b.Shutdown(ctx)
	})
	return b, l.Addr().String()
}

// awaitReadyz waits until the server says so.
func (r *running) awaitReadyz(t *testing.T, status int, says string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		got, answer := ask(t, "GET", r.url+"/readyz", "")
		if got == status && strings.Contains(answer, says) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("readyz: %d %s, not %d %s", got, answer, status, says)
		}
	}
}

// What a broker refuses is logged, and does not hold up what it takes.
func TestForeignBrokerRefuses(t *testing.T) {
	var log notebook
	var refuse atomic.Bool
	_, addr := foreign(t, broker.Hooks{Publish: func(_ *broker.Client, topic string) bool {
		return topic != "forbidden" && (!refuse.Load() || !strings.HasSuffix(topic, "/notify-next"))
	}}, nil)
	s := start(t, Config{HTTP: "127.0.0.1:0", Broker: &Broker{URLs: []string{"mqtt://" + addr}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	s.awaitReadyz(t, 200, "true")
	c := mustCall(t, addr, "lamp", nil, "$aws/things/lamp/jobs/+", "hall/light")
	want(t, "POST", s.url+"/things/lamp", "{}", 200)
	refuse.Store(true)
	job := func(id string) {
		t.Helper()
		want(t, "PUT", s.url+"/jobs/"+id, `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}"}`, 200)
	}
	job("a")
	c.await(t, "$aws/things/lamp/jobs/notify")
	job("b")
	c.await(t, "$aws/things/lamp/jobs/notify")
	if text := log.String(); !strings.Contains(text, "the broker refuses notices or events") || !strings.Contains(text, "not authorized") {
		t.Error(text)
	}

	want(t, "POST", s.url+"/topics/hall%2Flight?qos=1", "on", 200)
	if p := c.await(t, "hall/light"); string(p.Payload) != "on" {
		t.Error(p)
	}
	want(t, "POST", s.url+"/topics/forbidden?qos=1", "on", 403, "refuses this message")
}

func TestForeignBrokerGone(t *testing.T) {
	b, addr := foreign(t, broker.Hooks{}, nil)
	s := start(t, Config{HTTP: "127.0.0.1:0", Broker: &Broker{URLs: []string{"mqtt://127.0.0.1:1", "mqtt://" + addr}}})
	s.awaitReadyz(t, 200, "true") // at the second address
	if err := b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitReadyz(t, 503, "Not attached to the MQTT broker")
	want(t, "POST", s.url+"/topics/hall", "on", 503)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	foreign(t, broker.Hooks{}, l)
	s.awaitReadyz(t, 200, "true")
}

// With a broker elsewhere there is no MQTT at any listener, and who asks for it is told.
func TestForeignBrokerAlone(t *testing.T) {
	_, addr := foreign(t, broker.Hooks{}, nil)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	pool := selfSigned(t, cert, key)
	s := start(t, Config{HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", TLSCert: cert, TLSKey: key, Broker: &Broker{URLs: []string{"mqtt://" + addr}}})
	want(t, "GET", s.url+mqttPath, "", 404, "the broker that this server is attached to")
	if _, err := tls.Dial("tcp", s.Addrs()["https"], &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{alpnMQTTCA}}); err == nil {
		t.Error("MQTT is agreed on")
	}
	conn, err := tls.Dial("tcp", s.Addrs()["https"], &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{alpnHTTPCA}})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, c := range []Config{{MQTT: "127.0.0.1:0"}, {MQTTS: "127.0.0.1:0"}} {
		c.Broker = &Broker{URLs: []string{"mqtt://" + addr}}
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "cannot listen for it too") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A broker is also reached over WebSocket and TLS, with a certificate and a password.
func TestForeignBrokerTransports(t *testing.T) {
	t.Run("WebSocket", func(t *testing.T) {
		there := start(t, Config{HTTP: "127.0.0.1:0"})
		s := start(t, Config{HTTP: "127.0.0.1:0", Broker: &Broker{URLs: []string{"ws://" + there.Addrs()["http"]}}})
		s.awaitReadyz(t, 200, "true")
	})
	t.Run("TLS", func(t *testing.T) {
		o := newOffice(t)
		o.server(t)
		o.device(t, "muster")
		if err := os.WriteFile(o.file("password"), []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(o.file("server.pem"), o.file("server.key"))
		if err != nil {
			t.Fatal(err)
		}
		var shown atomic.Value
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
			VerifyConnection: func(c tls.ConnectionState) error { shown.Store(c.PeerCertificates[0].Subject.CommonName); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, addr := foreign(t, broker.Hooks{Connect: func(_ context.Context, r *broker.ConnectRequest) (any, error) {
			if r.Username != "m" || string(r.Password) != "secret" {
				return nil, &broker.Refusal{Code: broker.BadCredentials}
			}
			return nil, nil
		}}, l)
		_, port, _ := net.SplitHostPort(addr)
		b := Broker{URLs: []string{"mqtts://127.0.0.1:" + port}, CA: o.file("ca.pem"), Cert: o.file("muster.pem"), Key: o.file("muster.key"), Username: "m", PasswordFile: o.file("password")}
		s := start(t, Config{HTTP: "127.0.0.1:0", Broker: &b})
		s.awaitReadyz(t, 200, "true")
		if shown.Load() != "muster" {
			t.Errorf("%v has been shown", shown.Load())
		}
		b.CA = ""
		if s := start(t, Config{HTTP: "127.0.0.1:0", Broker: &b}); s != nil {
			s.awaitReadyz(t, http.StatusServiceUnavailable, "Not attached")
		}
	})
}
