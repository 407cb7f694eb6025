package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"muster"
	"muster/internal/engine"
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

// What a node asks of the database is among its metrics, as group commit is with the embedded store.
func TestDatabaseIsCounted(t *testing.T) {
	n := startNode(t, postgres.URL(t))
	want(t, "POST", n.url+"/things/lamp", "{}", 200)
	_, text := ask(t, "GET", n.url+"/metrics", "")
	for _, name := range []string{"muster_store_updates_total", "muster_store_batch_size_count", "muster_store_sync_duration_seconds_count", "muster_store_queue_wait_seconds_count",
		"muster_store_statements_total", "muster_store_round_trips_total"} {
		if !regexp.MustCompile(`(?m)^` + name + ` [1-9]`).MatchString(text) {
			t.Errorf("%s is not counted", name)
		}
	}
	if !strings.Contains(text, "\nmuster_store_deadlocks_total 0\n") || !strings.Contains(text, "\nmuster_store_up 1\n") {
		t.Error("there are deadlocks, or no database")
	}
}

// until looks again and again whether something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// untilTwo waits until nodes have seen each other.
func untilTwo(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		until(t, "nodes see each other", func() bool { return !n.store.Lonely() })
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
	until(t, "job "+id+" is rolled out", func() bool {
		_, answer := ask(t, "GET", n.url+"/things/lamp/jobs", "")
		return strings.Contains(answer, `"`+id+`"`)
	})
}

// unsteady is a store that cannot be read at first.
type unsteady struct {
	store.Shared
	fails int
}

func (u *unsteady) View(ctx context.Context, fn func(store.Reader) error) error {
	if u.fails--; u.fails >= 0 {
		return errors.New("no database")
	}
	return u.Shared.View(ctx, fn)
}

// What was to be told to the clients of a node that is dead is told when the database can be read again, not before and
// not never.
func TestTakingOverIsTriedAgain(t *testing.T) {
	n := startNode(t, postgres.URL(t))
	flaky := &unsteady{Shared: n.store}
	h := newHosts(n.store, time.Now, engine.New(flaky, engine.Options{Clock: new(engine.SystemClock)}), n.log)
	h.broker, h.told = n.mqtt.broker, toldSetting
	var to []muster.Place
	h.rewind = func(p muster.Place) { to = append(to, p) }
	if err := n.engine.SetSetting(t.Context(), toldSetting("dead"), "so far"); err != nil {
		t.Fatal(err)
	}
	h.owe("lamp", "dead")
	flaky.fails = 1
	if err := h.settle(t.Context()); err == nil || len(to) > 0 {
		t.Errorf("told again from %q, %v", to, err)
	}
	for range 2 {
		if err := h.settle(t.Context()); err != nil || len(to) != 1 || to[0] != "so far" {
			t.Errorf("told again from %q, %v", to, err)
		}
	}
}

// Nothing stays behind of a node that ended and has no clients any more.
func TestEndedNodesAreForgotten(t *testing.T) {
	url := postgres.URL(t)
	a, b := startNode(t, url), startNode(t, url)
	h := newHosts(b.store, time.Now, b.engine, b.log)
	h.told = toldSetting
	ctx := t.Context()
	var name string
	look := func() (dead, alive bool) {
		t.Helper()
		if err := h.takeOver(ctx, func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		told, err := b.engine.Settings(ctx, toldSetting(""))
		if err != nil {
			t.Fatal(err)
		}
		_, dead = told[name]
		_, alive = told[b.store.Node()]
		return dead, alive
	}
	i := 0
	until(t, "both nodes tell", func() bool { // each under the name that it has by then
		want(t, "POST", fmt.Sprintf("%s/things/lamp%d", b.url, i), "{}", 200)
		i++
		name = a.store.Node()
		dead, alive := look()
		return dead && alive
	})
	a.store.Abandon()
	until(t, "the node is taken for dead", func() bool { return !b.store.Alive(ctx, name) })
	if dead, _ := look(); !dead {
		t.Error("it is forgotten though somebody may be taking over from it")
	}
	if dead, alive := look(); dead || !alive {
		t.Error("what stays behind is not that of the node that lives")
	}
}

var _ store.Shared = (*pgstore.Store)(nil)
