package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"muster"
	"muster/internal/store/pebblestore"
)

// A caller is an MQTT 5 connection and what has come by it.
type caller struct {
	*paho.Client
	inbox chan *paho.Publish
	told  chan byte // the reason of a DISCONNECT
}

// call connects, with TLS if it is given.
func call(ctx context.Context, addr, id string, config *tls.Config) (*caller, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	c := &caller{inbox: make(chan *paho.Publish, 100), told: make(chan byte, 1)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived:  []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) { c.inbox <- p.Packet; return true, nil }},
		OnServerDisconnect: func(d *paho.Disconnect) { c.told <- d.ReasonCode },
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 60, CleanStart: true})
	if err == nil && ack.ReasonCode != 0 {
		err = fmt.Errorf("reason %#x", ack.ReasonCode)
	}
	return c, err
}

const patience = 10 * time.Second

func mustCall(t *testing.T, addr, id string, config *tls.Config, filters ...string) *caller {
	t.Helper()
	c, err := call(t.Context(), addr, id, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	for _, f := range filters {
		if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: f, QoS: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *caller) await(t *testing.T, topic string) *paho.Publish {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case p := <-c.inbox:
			if p.Topic == topic {
				return p
			}
		case <-late:
			t.Fatalf("nothing on %s", topic)
		}
	}
}

// What moves the clock hears of it when all is told: a test that moves it need not wait for the notices.
func TestMovedClockHasTold(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Clock: "manual:2026-01-02T15:04:05Z"})
	want(t, "POST", s.url+"/things/lamp", "{}", 200)
	want(t, "PUT", s.url+"/jobs/fw", `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}",
		"timeoutConfig":{"inProgressTimeoutInMinutes":5}}`, 200)
	c := mustCall(t, s.Addrs()["mqtt"], "lamp", nil, "$aws/things/lamp/jobs/#")
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"1s"}`, 200)
	if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "$aws/things/lamp/jobs/start-next", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	c.await(t, "$aws/things/lamp/jobs/start-next/accepted")
	// Whatever comes after the move comes before what is sent after its answer.
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"5m"}`, 200)
	if _, err := c.Publish(t.Context(), &paho.Publish{Topic: "$aws/things/lamp/jobs/get", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for heard := 0; ; {
		switch p := <-c.inbox; p.Topic {
		case "$aws/things/lamp/jobs/notify", "$aws/things/lamp/jobs/notify-next":
			heard++
		case "$aws/things/lamp/jobs/get/accepted":
			if heard < 2 {
				t.Errorf("%d notices came before the answer", heard)
			}
			return
		}
	}
}

func TestPresence(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"})
	watcher := mustCall(t, s.Addrs()["mqtt"], "watcher", nil, "$aws/events/presence/#", "$aws/events/subscriptions/#")
	lamp := mustCall(t, s.Addrs()["mqtt"], "lamp", nil)
	if p := watcher.await(t, "$aws/events/presence/connected/lamp"); !strings.Contains(string(p.Payload), `"ipAddress":"127.0.0.1"`) {
		t.Errorf("connected: %s", p.Payload)
	}
	ask := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "hall/#", QoS: 1}, {Topic: "$share/g/hall/+", QoS: 1}, {Topic: "#/wrong", QoS: 1}}}
	_, _ = lamp.Subscribe(t.Context(), ask) // of which one is refused
	if p := watcher.await(t, "$aws/events/subscriptions/subscribed/lamp"); !strings.Contains(string(p.Payload), `"topics":["hall/#","$share/g/hall/+"]`) {
		t.Errorf("subscribed: %s", p.Payload)
	}
	_, _ = lamp.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"$share/g/hall/+", "never/subscribed"}})
	if p := watcher.await(t, "$aws/events/subscriptions/unsubscribed/lamp"); !strings.Contains(string(p.Payload), `"topics":["$share/g/hall/+"]`) {
		t.Errorf("unsubscribed: %s", p.Payload)
	}
	_ = lamp.Disconnect(&paho.Disconnect{})
	if p := watcher.await(t, "$aws/events/presence/disconnected/lamp"); !strings.Contains(string(p.Payload), `"clientInitiatedDisconnect":true`) {
		t.Errorf("disconnected: %s", p.Payload)
	}
}

// A server that stops says so to its clients.
func TestGoodbye(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"})
	c := mustCall(t, s.Addrs()["mqtt"], "lamp", nil)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if reason := <-c.told; reason != 0x8B {
		t.Errorf("told %#x, not that the server is shutting down", reason)
	}
}

// A page of another origin must not use what is open on the loopback of who looks at it.
func TestForeignWebSocket(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0"})
	at := "ws://" + s.Addrs()["http"] + "/mqtt"
	_, answer, err := websocket.Dial(t.Context(), at, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}}})
	if err == nil || answer == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page: %v, %v", answer, err)
	}
	conn, _, err := websocket.Dial(t.Context(), at, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if conn.Subprotocol() != "mqtt" {
		t.Errorf("the subprotocol is %q", conn.Subprotocol())
	}
	conn.CloseNow()
}

// A WebSocket that does not answer keeps nobody waiting, although closing it takes its time.
func TestSilentWebSocket(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"})
	conn, _, err := websocket.Dial(t.Context(), "ws://"+s.Addrs()["http"]+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageBinary, []byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04lamp")); err != nil {
		t.Fatal(err)
	}
	if _, ack, err := conn.Read(t.Context()); err != nil || string(ack) != "\x20\x02\x00\x00" {
		t.Fatalf("%x, %v", ack, err)
	}
	began := time.Now() // from here on it is not read from
	mustCall(t, s.Addrs()["mqtt"], "lamp", nil)
	mustCall(t, s.Addrs()["mqtt"], "pump", nil)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("others had to wait %v", took)
	}
}

// A herd is slowed down; nobody of it is turned away.
func TestHerdIsPaced(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Connects: 100})
	began := time.Now()
	var herd sync.WaitGroup
	failed := make(chan error, 60)
	for i := range 60 {
		herd.Go(func() {
			c, err := call(t.Context(), s.Addrs()["mqtt"], fmt.Sprint("lamp", i), nil)
			if err != nil {
				failed <- err
				return
			}
			_ = c.Disconnect(&paho.Disconnect{})
		})
	}
	herd.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	// Ten come at once, the others a hundred in a second.
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("60 came within %v", took)
	}
}

func TestMQTTPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = New(Config{HTTP: "127.0.0.1:0", MQTT: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "another MQTT broker") || !strings.Contains(err.Error(), "--mqtt") {
		t.Errorf("New says %v", err)
	}
	for _, c := range []Config{{MQTT: "0.0.0.0:0"}, {MQTT: "0.0.0.0:0", Credentials: credentialsFile(t)}} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "--insecure") {
			t.Errorf("MQTT that asks nobody, for everybody: %v", err)
		}
	}
}

// Who owns a client id outlives the server.
func TestSessionsKeepOwners(t *testing.T) {
	dir := t.TempDir()
	clock := time.Unix(1e9, 0)
	now := func() time.Time { return clock }
	keep := func(do func(s *sessions)) {
		kept, err := pebblestore.Open(pebblestore.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		do(newSessions(kept, now))
		if err := kept.Close(); err != nil {
			t.Fatal(err)
		}
	}
	binary := string([]byte{'m', 'a', 0, 1, 0xff, 0, 0})
	keep(func(s *sessions) {
		if !s.claim("agent", "lamp") || s.claim("agent", "thief") || !s.claim("agent", "lamp") {
			t.Error("the id is the first one's")
		}
		if !s.claim("thief", "lamp") || !s.claim("thief", "thief") {
			t.Error("a thing's own name is its by right")
		}
		s.up("agent", "lamp")
		write(t, s, "sagent", "session", binary, "", "rtopic", "retained")
		s.down("agent")
		s.claims = map[string]*claim{}
		if s.claim("agent", "thief") {
			t.Error("the id is free although its session is kept")
		}
	})
	keep(func(s *sessions) {
		got := map[string]string{}
		if err := s.Scan(t.Context(), nil, func(k, v []byte) error { got[string(k)] = string(v); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || got["sagent"] != "session" || got[binary] != "" || got["rtopic"] != "retained" {
			t.Errorf("kept: %q", got)
		}
		if s.claim("agent", "thief") || !s.claim("agent", "") {
			t.Error("the id is its owner's after a restart, and anybody's who may act for all")
		}
		clock = clock.Add(2 * claimFor)
		s.tidy()
		if len(s.claims) != 0 {
			t.Errorf("claims of those who never came: %v", s.claims)
		}
		if err := s.Write(t.Context(), changes("sagent", nil)); err != nil {
			t.Fatal(err)
		}
		if !s.claim("agent", "thief") {
			t.Error("the id of a session that has ended is not free")
		}
	})
}

// The first one of many that is wrong says so; a value of nothing is no value.
func TestUnavailableStore(t *testing.T) {
	var known *muster.Error
	s := start(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"})
	addr := s.Addrs()["mqtt"]
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.mqtt.sessions.Write(context.Background(), changes("sx", []byte("v"))); !errors.As(err, &known) || known.Kind != muster.Unavailable {
		t.Errorf("a closed store: %v", err)
	}
	if _, err := call(t.Context(), addr, "lamp", nil); err == nil {
		t.Error("a stopped server still listens")
	}
}

func subscribing(filter string) *paho.Subscribe {
	return &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}}
}
