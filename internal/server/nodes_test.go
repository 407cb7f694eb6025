package server

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"muster/internal/store"
	"muster/internal/store/pgstore"
	"muster/test/postgres"
)

func TestMain(m *testing.M) { postgres.Main(m) }

// A node is one of several servers over a database, which can end without a word.
type node struct {
	*running
	store *pgstore.Store
}

func startNode(t *testing.T, url string) *node {
	t.Helper()
	s, err := pgstore.Open(pgstore.Options{URL: url, Patience: 600 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return &node{startOver(t, Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"}, s), s}
}

// comeBack connects with a session that lasts.
func comeBack(t *testing.T, addr, id string) (c *caller, present bool) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c = &caller{inbox: make(chan *paho.Publish, 100), told: make(chan byte, 1)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived:  []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) { c.inbox <- p.Packet; return true, nil }},
		OnServerDisconnect: func(d *paho.Disconnect) { c.told <- d.ReasonCode },
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	expiry := uint32(3600)
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	if err != nil || ack.ReasonCode != 0 {
		t.Fatalf("connect: %v", err)
	}
	return c, ack.SessionPresent
}

func (c *caller) subscribe(t *testing.T, filter string) {
	t.Helper()
	if _, err := c.Subscribe(t.Context(), subscribing(filter)); err != nil {
		t.Fatal(err)
	}
}

func makeJob(t *testing.T, n *node, id, thing string) {
	t.Helper()
	want(t, "PUT", n.url+"/jobs/"+id, fmt.Sprintf(`{"targets":["arn:aws:iot:us-east-1:123456789012:thing/%s"],"document":"{}"}`, thing), 200)
}

// A device at one node hears of what is done at another.
func TestNoticesCrossNodes(t *testing.T) {
	url := postgres.URL(t)
	a, b := startNode(t, url), startNode(t, url)
	want(t, "POST", a.url+"/things/lamp", "{}", 200)
	lamp := mustCall(t, b.Addrs()["mqtt"], "lamp", nil, "$aws/things/lamp/jobs/notify-next")
	makeJob(t, a, "fw", "lamp")
	if p := lamp.await(t, "$aws/things/lamp/jobs/notify-next"); !strings.Contains(string(p.Payload), `"jobId":"fw"`) {
		t.Errorf("told %s", p.Payload)
	}
}

// What a client publishes at one node reaches those who subscribe it at another, and so do comings and goings.
func TestMessagesCrossNodes(t *testing.T) {
	url := postgres.URL(t)
	a, b := startNode(t, url), startNode(t, url)
	watcher := mustCall(t, a.Addrs()["mqtt"], "watcher", nil, "greetings/#", "$aws/events/presence/#")
	untilTwo(t, a, b)
	lamp := mustCall(t, b.Addrs()["mqtt"], "lamp", nil)
	watcher.await(t, "$aws/events/presence/connected/lamp")
	if _, err := lamp.Publish(t.Context(), &paho.Publish{Topic: "greetings/from", QoS: 1, Payload: []byte("lamp \x00\xff")}); err != nil {
		t.Fatal(err)
	}
	if p := watcher.await(t, "greetings/from"); string(p.Payload) != "lamp \x00\xff" {
		t.Errorf("%q came", p.Payload)
	}
	want(t, "POST", b.url+"/topics/greetings%2Fhttp?qos=1", "hello", 200)
	watcher.await(t, "greetings/http")
	_ = lamp.Disconnect(&paho.Disconnect{})
	watcher.await(t, "$aws/events/presence/disconnected/lamp")
	select {
	case p := <-watcher.inbox:
		t.Errorf("%s came once more", p.Topic)
	default:
	}
}

// untilTwo waits until nodes have seen each other.
func untilTwo(t *testing.T, nodes ...*node) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, n := range nodes {
		for late := time.After(patience); n.store.Lonely(); {
			select {
			case <-tick.C:
			case <-late:
				t.Fatal("nodes do not see each other")
			}
		}
	}
}

// A client id is at one node: who comes later to another sends the older one away, and has its session.
func TestTakeOverAcrossNodes(t *testing.T) {
	url := postgres.URL(t)
	a, b := startNode(t, url), startNode(t, url)
	want(t, "POST", a.url+"/things/lamp", "{}", 200)
	older, present := comeBack(t, a.Addrs()["mqtt"], "lamp")
	if present {
		t.Error("a new client has a session")
	}
	older.subscribe(t, "$aws/things/lamp/jobs/notify-next")
	newer, present := comeBack(t, b.Addrs()["mqtt"], "lamp")
	if !present {
		t.Error("the session stayed behind")
	}
	select {
	case reason := <-older.told:
		if reason != 0x8e {
			t.Errorf("the older one was sent away with %#x", reason)
		}
	case <-time.After(patience):
		t.Error("the older one was not sent away")
	}
	makeJob(t, a, "fw", "lamp")
	newer.await(t, "$aws/things/lamp/jobs/notify-next")
	// And back, after having been away.
	_ = newer.Disconnect(&paho.Disconnect{})
	makeJob(t, a, "fw2", "lamp")
	want(t, "POST", a.url+"/things/lamp/jobs/fw", `{"status":"SUCCEEDED"}`, 200)
	again, present := comeBack(t, a.Addrs()["mqtt"], "lamp")
	if !present {
		t.Error("the session did not come back")
	}
	for !strings.Contains(string(again.await(t, "$aws/things/lamp/jobs/notify-next").Payload), `"jobId":"fw2"`) {
	}
}

// What a device was to be told when its node died it is told by another.
func TestSessionsOutliveTheirNode(t *testing.T) {
	url := postgres.URL(t)
	a, b := startNode(t, url), startNode(t, url)
	want(t, "POST", b.url+"/things/lamp", "{}", 200)
	lamp, _ := comeBack(t, a.Addrs()["mqtt"], "lamp")
	lamp.subscribe(t, "$aws/things/lamp/jobs/notify-next")
	_ = lamp.Disconnect(&paho.Disconnect{})
	makeJob(t, b, "before", "lamp")
	untilPending(t, b, "before")
	a.store.Abandon()
	makeJob(t, b, "after", "lamp")
	want(t, "POST", b.url+"/things/lamp/jobs/before", `{"status":"SUCCEEDED"}`, 200)
	again, present := comeBack(t, b.Addrs()["mqtt"], "lamp")
	if !present {
		t.Error("the session died with its node")
	}
	for !strings.Contains(string(again.await(t, "$aws/things/lamp/jobs/notify-next").Payload), `"jobId":"after"`) {
	}
}

// untilPending waits for a job to be rolled out, by whichever node it is.
func untilPending(t *testing.T, n *node, id string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		if _, answer := ask(t, "GET", n.url+"/things/lamp/jobs", ""); strings.Contains(answer, `"`+id+`"`) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("job %s is not rolled out", id)
		}
	}
}

var _ store.Shared = (*pgstore.Store)(nil)
