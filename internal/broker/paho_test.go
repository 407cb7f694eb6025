package broker

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// The clients that people use: Eclipse Paho for 3.1.1 and for 5.

func connect3(t *testing.T, h *house, id string, clean bool, got chan<- string) paho3.Client {
	t.Helper()
	o := paho3.NewClientOptions().AddBroker("tcp://"+h.addr).SetClientID(id).SetCleanSession(clean).SetAutoReconnect(false).
		SetProtocolVersion(4).SetConnectTimeout(patience).SetBinaryWill("will/"+id, []byte("gone"), 1, true).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
			got <- fmt.Sprintf("%s %s %d %v", m.Topic(), m.Payload(), m.Qos(), m.Retained())
		})
	c := paho3.NewClient(o)
	await3(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func await3(t *testing.T, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("paho: %v", token.Error())
	}
}

func expectOne(t *testing.T, got <-chan string) string {
	t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(patience):
		t.Fatal("nothing came")
		return ""
	}
}

func expectText(t *testing.T, got <-chan string, want string) {
	t.Helper()
	if s := expectOne(t, got); s != want {
		t.Fatalf("got %q, want %q", s, want)
	}
}

func TestPaho311(t *testing.T) {
	h := open(t, Options{Hooks: echo})
	got, other := make(chan string, 10), make(chan string, 10)
	a := connect3(t, h, "a", false, got)
	b := connect3(t, h, "b", true, other)
	await3(t, a.SubscribeMultiple(map[string]byte{"t/#": 1, "$aws/things/+/jobs/+/update/accepted": 1, "will/+": 1}, nil))
	await3(t, b.Publish("t/1", 1, false, "hello"))
	expectText(t, got, "t/1 hello 1 false")
	await3(t, a.Publish("$aws/things/a/jobs/fw/update", 1, false, request))
	expectText(t, got, "$aws/things/a/jobs/fw/update/accepted "+string(canned)+" 1 false")
	await3(t, b.Publish("r", 1, true, "kept"))
	await3(t, a.Subscribe("r", 1, nil))
	expectText(t, got, "r kept 1 true")
	a.Disconnect(100)
	h.gone(1)
	for i := range 5 {
		await3(t, b.Publish("t/2", 1, false, fmt.Sprint(i)))
	}
	a = connect3(t, h, "a", false, got)
	for i := range 5 {
		s := expectOne(t, got)
		if i == 0 && s == "r kept 1 true" { // it went before it had acknowledged
			s = expectOne(t, got)
		}
		if want := fmt.Sprintf("t/2 %d 1 false", i); s != want {
			t.Fatalf("got %q, want %q", s, want)
		}
	}
	connect3(t, h, "b", true, other) // takes over
	expectText(t, got, "will/b gone 1 false")
	await3(t, a.Unsubscribe("t/#"))
	if token := b.Publish("t/1", 1, false, "late"); token.WaitTimeout(patience) && token.Error() == nil && b.IsConnected() {
		t.Error("the one that was taken over still speaks")
	}
}

func connect5(t *testing.T, h *house, k *paho5.Connect, got chan<- *paho5.Publish, ended chan<- byte) (*paho5.Client, *paho5.Connack) {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := paho5.NewClient(paho5.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			got <- p.Packet
			return true, nil
		}},
		OnServerDisconnect: func(d *paho5.Disconnect) { ended <- d.ReasonCode },
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := c.Connect(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	return c, ack
}

func TestPaho5(t *testing.T) {
	h := open(t, Options{Hooks: Hooks{InterceptPrefix: "$aws/", Intercept: func(c *Client, m *Message) bool {
		c.Reply(&Message{Topic: m.Topic + "/accepted", Payload: canned, CorrelationData: m.CorrelationData})
		return true
	}}})
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	got := make(chan *paho5.Publish, 10)
	ended := make(chan byte, 10)
	hear := func(what string) *paho5.Publish {
		t.Helper()
		select {
		case p := <-got:
			return p
		case <-ctx.Done():
			t.Fatal("nothing came:", what)
			return nil
		}
	}
	expiry := uint32(300)
	k := &paho5.Connect{ClientID: "a", KeepAlive: 10, Properties: &paho5.ConnectProperties{SessionExpiryInterval: &expiry}}
	a, ack := connect5(t, h, k, got, ended)
	if ack.SessionPresent || *ack.Properties.ServerKeepAlive != 30 || *ack.Properties.MaximumQoS != 1 || !ack.Properties.RetainAvailable {
		t.Errorf("%+v", ack.Properties)
	}
	id := 7
	sub, err := a.Subscribe(ctx, &paho5.Subscribe{
		Properties:    &paho5.SubscribeProperties{SubscriptionIdentifier: &id},
		Subscriptions: []paho5.SubscribeOptions{{Topic: "t/+", QoS: 2}, {Topic: "$aws/+/accepted", QoS: 1}},
	})
	if err != nil || string(sub.Reasons) != "\x01\x01" {
		t.Fatal(sub, err)
	}
	b, _ := connect5(t, h, &paho5.Connect{ClientID: "b", CleanStart: true, KeepAlive: 60}, nil, ended)
	sent := &paho5.Publish{Topic: "t/1", QoS: 1, Payload: []byte("x"), Properties: &paho5.PublishProperties{
		ContentType: "text", ResponseTopic: "re", CorrelationData: []byte("c"), User: paho5.UserProperties{{Key: "k", Value: "v"}}}}
	if r, err := b.Publish(ctx, sent); err != nil || r.ReasonCode != 0 {
		t.Fatal(r, err)
	}
	p := hear("t/1")
	if p.Topic != "t/1" || p.QoS != 1 || *p.Properties.SubscriptionIdentifier != 7 || p.Properties.ContentType != "text" ||
		p.Properties.ResponseTopic != "re" || string(p.Properties.CorrelationData) != "c" || p.Properties.User[0].Value != "v" {
		t.Errorf("%+v %+v", p, p.Properties)
	}
	if r, err := a.Publish(ctx, &paho5.Publish{Topic: "$aws/get", QoS: 1, Properties: &paho5.PublishProperties{CorrelationData: []byte("z")}}); err != nil {
		t.Fatal(r, err)
	}
	if p := hear("answer"); p.Topic != "$aws/get/accepted" || string(p.Properties.CorrelationData) != "z" {
		t.Errorf("%+v", p)
	}
	if err := a.Disconnect(&paho5.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	h.gone(1)
	if _, err := b.Publish(ctx, sent); err != nil {
		t.Fatal(err)
	}
	_, ack = connect5(t, h, k, got, ended)
	if !ack.SessionPresent {
		t.Error("no session present")
	}
	hear("what waited")
	connect5(t, h, k, got, ended)
	select {
	case code := <-ended:
		if Code(code) != SessionTakenOver {
			t.Errorf("%02x", code)
		}
	case <-ctx.Done():
		t.Error("not told of the take-over")
	}
}
