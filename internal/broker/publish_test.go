package broker

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func TestSubscribeAnswers(t *testing.T) {
	h := open(t, Options{Hooks: Hooks{Subscribe: func(_ *Client, f string) bool { return !strings.HasPrefix(f, "secret") }}})
	eachVersion(t, func(t *testing.T, v byte) {
		no := func(code Code) byte {
			if v == V311 {
				return 0x80 // [MQTT-3.9.3-2]
			}
			return byte(code)
		}
		for _, x := range []struct {
			filter string
			opts   byte
			want   byte
		}{
			{"a", 0, 0}, {"a", 1, 1}, {"a", 2, 1}, {"#", 1, 1}, {"$aws/things/+/jobs/#", 1, 1}, {"$share/g/a/+", 1, 1},
			{"secret/a", 1, no(NotAuthorized)}, {"$share/g/secret", 1, no(NotAuthorized)},
			{"a+", 1, no(TopicFilterInvalid)}, {"a/#/b", 1, no(TopicFilterInvalid)}, {"", 1, no(TopicFilterInvalid)},
			{"$share/g", 1, no(TopicFilterInvalid)}, {"$share/+/a", 1, no(TopicFilterInvalid)},
			{strings.Repeat("x", 256), 1, 1}, {strings.Repeat("x", 257), 1, no(TopicFilterInvalid)},
			{"1/2/3/4/5/6/7/8", 1, 1}, {"1/2/3/4/5/6/7/8/9", 1, no(TopicFilterInvalid)}, {"$share/g/1/2/3/4/5/6/7/8", 1, 1},
		} {
			c := h.in(v, "a")
			c.t = t
			if codes := c.subscribe(x.opts, x.filter); !bytes.Equal(codes, []byte{x.want}) {
				t.Errorf("%q: % x, want %x", x.filter, codes, x.want)
			}
		}
		c := h.in(v, "a")
		if codes := c.subscribe(1, "a", "secret", "b"); !bytes.Equal(codes, []byte{1, no(NotAuthorized), 1}) { // [MQTT-3.8.4-6] [MQTT-3.9.3-1]
			t.Errorf("% x", codes)
		}
		if codes := c.subscribe(1, "1", "2", "3", "4", "5", "6", "7", "8", "9"); !bytes.Equal(codes, bytes.Repeat([]byte{no(QuotaExceeded)}, 9)) {
			t.Errorf("% x", codes)
		}
		for i := range 48 {
			if codes := c.subscribe(1, fmt.Sprint("n/", i)); codes[0] != 1 {
				t.Fatalf("subscription %d: % x", i+2, codes)
			}
		}
		if codes := c.subscribe(0, "n/48", "n/1"); !bytes.Equal(codes, []byte{no(QuotaExceeded), 0}) {
			t.Errorf("% x", codes)
		}
		want := []byte{0, byte(NoSubscriptionExisted), 0, byte(TopicFilterInvalid)}
		if v == V311 {
			want = nil
		}
		if codes := c.unsubscribe("n/1", "n/48", "a", "#/a"); !bytes.Equal(codes, want) { // [MQTT-3.10.4-5] [MQTT-3.11.3-1]
			t.Errorf("% x", codes)
		}
		if n := h.b.Stats().Subscriptions; n != 48 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

// [MQTT-3.3.4-2] [MQTT3-3.3.5-1]: overlapping subscriptions bring one copy, of the highest QoS, with all identifiers.
func TestOverlappingSubscriptions(t *testing.T) {
	h := open(t, Options{})
	a, b, c := h.in(V5, "a"), h.in(V311, "b"), h.in(V5, "c")
	a.subscribeWith(join(byte(pSubscriptionID), 1), 0, "t/+")
	a.subscribeWith(join(byte(pSubscriptionID), 0x80, 1), 1, "t/#", "+/1")
	a.subscribe(0, "t/1")
	b.subscribe(0, "t/+")
	b.subscribe(1, "t/#")
	c.say(word{topic: "t/1", payload: "x", qos: 1})
	w := a.hear()
	props := map[string]bool{}
	for r := (&reader{p: w.props}); len(r.p) > 0; {
		r.byte()
		props[fmt.Sprint(r.varint())] = true
	}
	if w.qos != 1 || len(props) != 2 || !props["1"] || !props["128"] { // [MQTT-3.3.4-4] [MQTT-3.3.4-5]
		t.Errorf("%+v %v", w, props)
	}
	if w := b.hear(); w.qos != 1 {
		t.Errorf("%+v", w)
	}
	// [MQTT-3.8.4-3]: the same filter again replaces options and identifier.
	a.unsubscribe("t/+", "t/#", "+/1")
	a.subscribeWith(join(byte(pSubscriptionID), 7), 1, "t/1")
	c.say(word{topic: "t/1", payload: "x", qos: 1})
	if w := a.hear(); w.qos != 1 || !bytes.Equal(w.props, join(byte(pSubscriptionID), 7)) {
		t.Errorf("%+v", w)
	}
	a.quiet()
	b.hear()
	b.quiet()
}

func TestPublishPropertiesPassUnaltered(t *testing.T) {
	h := open(t, Options{})
	a, old, b := h.in(V5, "a"), h.in(V311, "old"), h.in(V5, "b")
	a.subscribe(1, "t")
	old.subscribe(1, "t")
	sent := join(byte(pPayloadFormat), 1, byte(pMessageExpiry), uint32(60), byte(pContentType), str("text/plain"), byte(pResponseTopic), str("re"),
		byte(pCorrelationData), str("\x00\xff"), byte(pUser), str("b"), str("2"), byte(pUser), str("a"), str("1"), byte(pUser), str("b"), str("2"))
	if code := b.say(word{topic: "t", payload: "x", qos: 1, props: sent}); code != Success {
		t.Error(code)
	}
	if w := a.hear(); !bytes.Equal(w.props, sent) { // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
		t.Errorf("% x", w.props)
	}
	if w := old.hear(); w.payload != "x" {
		t.Errorf("%+v", w)
	}
	if code := b.say(word{topic: "t", payload: "\xff", qos: 1, props: join(byte(pPayloadFormat), 1)}); code != PayloadFormatInvalid {
		t.Error(code)
	}
	if code := b.say(word{topic: "nobody", qos: 1}); code != NoMatchingSubscribers {
		t.Error(code)
	}
	a.quiet()
}

func TestTopicAliases(t *testing.T) {
	h := open(t, Options{Hooks: Hooks{Publish: func(_ *Client, topic string) bool { return topic != "" && topic != "secret" }}})
	a, _ := h.connect(V5, call{id: "a", props: join(byte(pTopicAliasMax), uint16(2))})
	a.subscribe(1, "t/#")
	b := h.in(V5, "b")
	alias := func(n uint16) []byte { return join(byte(pTopicAlias), n) }
	b.say(word{topic: "t/1", payload: "1", props: alias(8)})
	b.say(word{topic: "", payload: "2", qos: 1, props: alias(8)})                                           // [MQTT-3.3.2-12]
	if code := b.say(word{topic: "secret", payload: "x", qos: 1, props: alias(1)}); code != NotAuthorized { // the alias holds all the same
		t.Error(code)
	}
	if code := b.say(word{payload: "x", qos: 1, props: alias(1)}); code != NotAuthorized {
		t.Error(code)
	}
	b.say(word{topic: "t/2", payload: "3", qos: 1, props: alias(8)})
	b.say(word{payload: "4", qos: 1, props: alias(8)})
	b.say(word{topic: "t/3", payload: "5", qos: 1})
	for _, want := range []word{
		{topic: "t/1", payload: "1", props: alias(1)},
		{topic: "", payload: "2", props: alias(1)},
		{topic: "t/2", payload: "3", props: alias(2)},
		{topic: "", payload: "4", props: alias(2)},
		{topic: "t/3", payload: "5"}, // [MQTT-3.1.2-26]
	} {
		got := a.hear()
		got.id, got.qos = 0, 0
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	// [MQTT-3.3.2-7]: an alias lasts as long as its connection.
	a.conn.Close()
	b = h.in(V5, "b")
	b.send(word{props: alias(8)}.packet(V5))
	first, body := b.read()
	if first != 0xE0 || Code(body[0]) != ProtocolError {
		t.Errorf("% x % x", first, body)
	}
}

func TestMaximumPacketSize(t *testing.T) {
	h := open(t, Options{})
	a, _ := h.connect(V5, lasting(V5, "a", byte(pMaximumPacket), uint32(40)))
	a.subscribe(1, "t")
	b := h.in(V5, "b")
	for _, n := range []int{32, 33, 1000, 5} { // 8 bytes come with the payload
		b.say(word{topic: "t", payload: strings.Repeat("x", n), qos: 1})
	}
	b.say(word{topic: "t", payload: strings.Repeat("x", 100)})
	b.say(word{topic: "t", payload: strings.Repeat("x", 6)})
	for _, n := range []int{32, 5, 6} { // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
		if w := a.hear(); len(w.payload) != n {
			t.Fatalf("%d bytes, want %d", len(w.payload), n)
		}
	}
	a.quiet()
	// What we take is told and holds to the byte; a 128 KiB payload passes in both versions.
	eachVersion(t, func(t *testing.T, v byte) {
		c := h.in(v, "c")
		c.subscribe(1, "big")
		big := strings.Repeat("y", 128<<10)
		go c.conn.Write(word{topic: "big", payload: big, qos: 1, id: 9}.packet(v))
		acked, heard := false, false
		for !acked || !heard {
			first, body := c.read()
			switch first >> 4 {
			case tPuback:
				acked = true
			case tPublish:
				w, _ := parseWord(first, body, v)
				heard = w.payload == big
			}
		}
	})
}

func TestSubscriptionOptions(t *testing.T) {
	h := open(t, Options{})
	a, b := h.in(V5, "a"), h.in(V5, "b")
	// no local [MQTT-3.8.3-3]
	a.subscribe(1|4, "nl")
	b.subscribe(1|4, "nl")
	a.say(word{topic: "nl", payload: "from a", qos: 1})
	b.hear()
	a.quiet()
	// retain as published [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	a.subscribe(1|8, "rap/+")
	b.subscribe(1, "rap/+")
	c := h.in(V311, "c")
	c.subscribe(1, "rap/+")
	c.say(word{topic: "rap/1", payload: "1", retain: true})
	if w := c.hear(); w.retain { // [MQTT3-3.3.1-9]
		t.Errorf("%+v", w)
	}
	if w := a.hear(); !w.retain {
		t.Errorf("%+v", w)
	}
	if w := b.hear(); w.retain {
		t.Errorf("%+v", w)
	}
	// retain handling [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]; what was retained comes with RETAIN [MQTT3-3.3.1-8]
	for _, x := range []struct {
		opts byte
		want bool
	}{{1, true}, {1 | 0x10, false}, {1 | 0x20, false}, {1, true}} {
		a.subscribe(x.opts, "rap/+")
		if x.want {
			if w := a.hear(); !w.retain || w.payload != "1" {
				t.Errorf("%+v", w)
			}
		}
		a.quiet()
	}
	a.unsubscribe("rap/+")
	a.subscribe(1|0x20, "rap/+")
	a.quiet()
	a.unsubscribe("rap/+")
	a.subscribe(1|0x10, "rap/+")
	if w := a.hear(); !w.retain {
		t.Errorf("%+v", w)
	}
	a.subscribe(1, "$share/g/rap/+")
	a.quiet() // none for shared ones
}

func TestRetained(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		store := &MemoryStore{}
		o := Options{Sessions: store, Limits: Limits{Retained: 4}}
		h := open(t, o)
		a := h.in(v, "a")
		for _, topic := range []string{"r/1", "r/2", "r/2/3", "s"} {
			a.say(word{topic: topic, payload: topic, qos: 1, retain: true})
		}
		a.say(word{topic: "r/1", payload: "new", qos: 1, retain: true})
		a.say(word{topic: "r/2", payload: "not retained", qos: 1})
		if code := a.say(word{topic: "r/9", payload: "no room", qos: 1, retain: true}); v == V5 && code != QuotaExceeded {
			t.Error(code)
		}
		a.say(word{topic: "s", qos: 1, retain: true}) // [MQTT-3.3.1-6] [MQTT-3.3.1-7]: empty, so forgotten
		for restart := range 2 {
			if restart == 1 {
				h.stop()
				h = open(t, o)
			}
			b := h.in(v, "b")
			for _, x := range []struct {
				filter string
				want   []string
			}{
				{"r/1", []string{"new"}}, {"s", nil}, {"r/+", []string{"new", "r/2"}}, {"#", []string{"new", "r/2", "r/2/3"}},
				{"r/2/#", []string{"r/2", "r/2/3"}}, {"+/+/3", []string{"r/2/3"}}, {"+", nil}, {"r/9", nil},
			} {
				b.subscribe(0, x.filter)
				got := map[string]bool{}
				for range x.want {
					w := b.hear()
					if !w.retain || w.qos != 0 {
						t.Errorf("%+v", w)
					}
					got[w.payload] = true
				}
				b.quiet()
				for _, p := range x.want {
					if !got[p] {
						t.Errorf("%q: no %q", x.filter, p)
					}
				}
			}
		}
		if n := h.b.Stats().Retained; n != 3 || store.Len() != 3 {
			t.Errorf("%d retained, %d stored", n, store.Len())
		}
	})
}

func TestSharedSubscriptions(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		a, _ := h.connect(v, lasting(v, "a"))
		b, _ := h.connect(v, lasting(v, "b"))
		own, all := h.in(v, "own"), h.in(v, "all")
		a.subscribe(1, "$share/g/$aws/t/+")
		b.subscribe(1, "$share/g/$aws/t/+")
		own.subscribe(1, "$share/other/$aws/t/+")
		all.subscribe(1, "$aws/t/#")
		p := h.in(v, "p")
		for i := range 4 {
			p.say(word{topic: "$aws/t/1", payload: fmt.Sprint(i), qos: 1})
		}
		seen := map[string]int{}
		for _, c := range []*raw{a, a, b, b} {
			seen[c.hear().payload]++
		}
		if len(seen) != 4 {
			t.Error(seen)
		}
		for range 4 {
			own.hear()
			all.hear()
		}
		// Who is away gets nothing while another is there.
		b.leave()
		h.gone(4)
		for i := range 4 {
			p.say(word{topic: "$aws/t/1", payload: fmt.Sprint(i), qos: 1})
			a.hear()
		}
		// When all are away it waits with one of them.
		a.leave()
		h.gone(3)
		for i := range 4 {
			p.say(word{topic: "$aws/t/1", payload: fmt.Sprint("late ", i), qos: 1})
		}
		// One of the two ends its session: what it had goes to the other.
		h.in(v, "a").leave()
		b, _ = h.connect(v, lasting(v, "b"))
		seen = map[string]int{}
		for range 4 {
			seen[b.hear().payload]++
		}
		b.quiet()
		if len(seen) != 4 {
			t.Error(seen)
		}
		b.unsubscribe("$share/g/$aws/t/+")
		p.say(word{topic: "$aws/t/1", qos: 1})
		b.quiet()
	})
}

func TestHooksDecide(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{Hooks: Hooks{
			Publish: func(_ *Client, topic string) bool { return topic != "no" },
			Deliver: func(c *Client, topic string) bool { return !(c.ID == "a" && topic == "t/secret") },
		}})
		a, b := h.in(v, "a"), h.in(v, "b")
		a.subscribe(1, "t/+")
		b.subscribe(1, "t/+")
		b.say(word{topic: "t/secret", payload: "1"})
		b.say(word{topic: "t/open", payload: "2"})
		if w := a.hear(); w.payload != "2" {
			t.Errorf("%+v", w)
		}
		b.hear()
		b.hear()
		if v == V5 {
			if code := b.say(word{topic: "no", qos: 1}); code != NotAuthorized {
				t.Error(code)
			}
		} else {
			b.send(word{topic: "no", qos: 1, id: 1}.packet(v))
			b.expectClosed()
		}
		a.send(word{topic: "no"}.packet(v))
		a.expectEnd(NotAuthorized)
	})
}

func TestAnswers(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		proceed := make(chan *Client)
		release := make(chan struct{})
		h := open(t, Options{Hooks: Hooks{
			InterceptPrefix: "$aws/",
			Intercept: func(c *Client, m *Message) bool {
				switch string(m.Payload) {
				case "wait":
					proceed <- c
					<-release
				case "pass":
					return false
				}
				c.Reply(&Message{Topic: m.Topic + "/accepted", Payload: []byte("one"), CorrelationData: m.CorrelationData})
				c.Reply(&Message{Topic: m.Topic + "/more", Payload: []byte("two")})
				return true
			},
		}})
		a, b := h.in(v, "a"), h.in(v, "b")
		a.subscribe(1, "$aws/+/accepted", "$aws/notify")
		b.subscribe(1, "$aws/#")
		// What comes while an answer is being made comes after it.
		a.send(word{topic: "$aws/get", payload: "wait", qos: 1, id: 5}.packet(v))
		c := <-proceed
		if err := h.b.Publish(t.Context(), &Message{Topic: "$aws/notify", Payload: []byte("n"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		release <- struct{}{}
		a.expect([]byte{0x40, 2, 0, 5})
		for _, want := range []string{"one", "two", "n"} {
			if w := a.hear(); w.payload != want {
				t.Errorf("%+v, want %s", w, want)
			}
		}
		b.hear()
		// Pipelined requests are answered in order.
		for i := range 20 {
			a.send(word{topic: "$aws/get", payload: "x", qos: 1, id: uint16(i + 1)}.packet(v))
		}
		for i := range 20 {
			a.expect(packet(0x40, uint16(i+1)))
			a.hear()
			a.hear()
		}
		// A message that was not handled is routed.
		a.say(word{topic: "$aws/pass", payload: "pass", qos: 1})
		if w := b.hear(); w.payload != "pass" {
			t.Errorf("%+v", w)
		}
		b.quiet()
		// Correlation data may be copied.
		if v == V5 {
			data := join(byte(pCorrelationData), str("xyz"))
			a.say(word{topic: "$aws/get", qos: 1, props: data})
			if w := a.hear(); !bytes.Equal(w.props, data) {
				t.Errorf("%+v", w)
			}
			a.hear()
		}
		// An answer to somebody who has gone does no harm.
		a.leave()
		h.gone(1)
		c.Reply(&Message{Topic: "$aws/get/accepted"})
		// Later answers find whoever is still there.
		a = h.in(v, "a")
		a.send(word{topic: "$aws/get", payload: "wait", id: 5}.packet(v))
		c = <-proceed
		release <- struct{}{}
		a.hear()
		a.hear()
		c.Reply(&Message{Topic: "$aws/late", Payload: []byte("late")})
		if w := a.hear(); w.payload != "late" || w.qos != 0 {
			t.Errorf("%+v", w)
		}
		c.Close(AdministrativeAction, "")
		a.expectEnd(AdministrativeAction)
	})
}

// An answer to a session that lasts, and that subscribes it with QoS 1, finds its next connection.
func TestAnswerWaitsForASessionThatSubscribesIt(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		asked := make(chan *Client, 1)
		h := open(t, Options{Hooks: Hooks{Intercept: func(c *Client, m *Message) bool {
			asked <- c
			return true
		}}})
		a, _ := h.connect(v, lasting(v, "a"))
		a.subscribe(1, "get/accepted")
		a.say(word{topic: "get", qos: 1})
		a.leave()
		h.gone(0)
		c := <-asked
		c.Reply(&Message{Topic: "get/rejected"})
		c.Reply(&Message{Topic: "get/accepted", Payload: []byte("late")})
		a, _ = h.connect(v, lasting(v, "a"))
		if w := a.hear(); w.payload != "late" || w.qos != 1 {
			t.Errorf("%+v", w)
		}
		a.quiet()
	})
}

func TestShutdownTellsClients(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		a, b := h.in(v, "a"), h.dial(v)
		h.stop()
		a.expectEnd(ServerShuttingDown)
		b.expectClosed()
		if err := h.b.Publish(t.Context(), &Message{Topic: "t"}); err != ErrClosed {
			t.Error(err)
		}
	})
}

// PUBACK, answer and what is published meanwhile leave in one write.
func TestOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *Broker
		h := bubble(t, Options{Hooks: Hooks{InterceptPrefix: "$aws/", Intercept: func(c *Client, m *Message) bool {
			b.Publish(context.Background(), &Message{Topic: "$aws/notify", Payload: []byte("n"), QoS: 1})
			c.Reply(&Message{Topic: m.Topic + "/accepted"})
			return true
		}}})
		defer h.stop()
		b = h.b
		a := h.in(V311, "a")
		a.subscribe(1, "$aws/#")
		a.send(word{topic: "$aws/get", qos: 1, id: 9}.packet(V311))
		room := make([]byte, 1000)
		n, err := a.conn.Read(room) // a pipe reads one write at a time
		if err != nil {
			t.Fatal(err)
		}
		want := join(packet(0x40, uint16(9)), word{topic: "$aws/get/accepted", qos: 1, id: 2}.packet(V311), word{topic: "$aws/notify", payload: "n", qos: 1, id: 1}.packet(V311))
		if !bytes.Equal(room[:n], want) {
			t.Errorf("got  %q\nwant %q", room[:n], want)
		}
	})
}

// Each publisher's messages arrive in their order, however they come through windows and queues.
func TestOrder(t *testing.T) {
	h := open(t, Options{})
	a, _ := h.connect(V5, call{id: "a", props: join(byte(pReceiveMaximum), uint16(3))})
	a.subscribe(1, "o/+")
	const n = 300
	var wg sync.WaitGroup
	for p := range 3 {
		wg.Go(func() {
			c := h.in(V311, fmt.Sprint("p", p))
			for i := range n {
				c.say(word{topic: fmt.Sprint("o/", p), payload: fmt.Sprint(i), qos: 1})
			}
		})
	}
	next := map[string]int{}
	for range 3 * n {
		w := a.hear()
		if w.payload != fmt.Sprint(next[w.topic]) {
			t.Fatalf("%+v, want %d", w, next[w.topic])
		}
		next[w.topic]++
	}
	wg.Wait()
}
