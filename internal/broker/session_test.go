package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// lasting is a CONNECT for a session that outlives its connection.
func lasting(v byte, id string, props ...any) call {
	k := call{id: id, keep: true}
	if v == V5 {
		k.props = join(byte(pSessionExpiry), uint32(600), join(props...))
	}
	return k
}

func TestMessagesWaitForWhoIsAway(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		a, _ := h.connect(v, lasting(v, "a"))
		a.subscribe(1, "one/#")
		a.subscribe(0, "zero/#")
		a.leave()
		h.gone(0)
		b := h.in(V311, "b")
		b.say(word{topic: "one/1", payload: "1", qos: 1})
		b.say(word{topic: "one/2", payload: "QoS 0 does not wait"})
		b.say(word{topic: "zero/3", payload: "nor what was subscribed so", qos: 1})
		b.say(word{topic: "one/4", payload: "4", qos: 1})
		a, ack := h.connect(v, lasting(v, "a"))
		if ack[0] != 1 {
			t.Fatal("no session present")
		}
		for _, want := range []string{"1", "4"} {
			if w := a.hear(); w.payload != want || w.qos != 1 || w.dup {
				t.Fatalf("%+v, want %s", w, want)
			}
		}
		a.quiet()
		a.leave()
		h.gone(1)
		a, _ = h.connect(v, lasting(v, "a"))
		a.quiet() // acknowledged is gone
	})
}

// [MQTT-4.4.0-1] [MQTT-3.3.1-1]: again, in order, with DUP and the same identifiers.
func TestUnacknowledgedIsSentAgain(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		a, _ := h.connect(v, lasting(v, "a"))
		a.subscribe(1, "t")
		b := h.in(V311, "b")
		var ids []uint16
		for i := range 4 {
			b.say(word{topic: "t", payload: fmt.Sprint(i), qos: 1})
			ids = append(ids, a.hearOnly().id)
		}
		a.send(packet(0x40, ids[1]))
		a.quiet()
		a.conn.Close()
		h.gone(1)
		b.say(word{topic: "t", payload: "4", qos: 1})
		a, _ = h.connect(v, lasting(v, "a"))
		for _, i := range []int{0, 2, 3} {
			if w := a.hear(); w.payload != fmt.Sprint(i) || !w.dup || w.id != ids[i] {
				t.Fatalf("%+v, want %d as %d", w, i, ids[i])
			}
		}
		w := a.hear()
		if w.payload != "4" || w.dup {
			t.Fatalf("%+v", w)
		}
		for _, i := range []int{0, 2, 3} {
			if w.id == ids[i] { // [MQTT-2.2.1-4]
				t.Fatalf("identifier %d is in use", w.id)
			}
		}
		a.quiet()
	})
}

func TestReceiveMaximumHolds(t *testing.T) {
	h := open(t, Options{})
	a, _ := h.connect(V5, lasting(V5, "a", byte(pReceiveMaximum), uint16(2)))
	a.subscribe(1, "t")
	b := h.in(V5, "b")
	for i := range 5 {
		b.say(word{topic: "t", payload: fmt.Sprint(i), qos: 1})
	}
	b.say(word{topic: "t", payload: "QoS 0 is not held up"}) // [MQTT-3.3.4-10]
	first, second := a.hearOnly(), a.hearOnly()
	if w := a.hearOnly(); w.qos != 0 {
		t.Fatalf("%+v", w)
	}
	a.quiet() // [MQTT-3.3.4-9]
	// A refusal counts as an acknowledgement, and is not tried again.
	a.send(packet(0x40, first.id, byte(QuotaExceeded)))
	if w := a.hear(); w.payload != "2" {
		t.Fatalf("%+v", w)
	}
	if w := a.hearOnly(); w.payload != "3" {
		t.Fatalf("%+v", w)
	}
	a.quiet()
	a.conn.Close()
	h.gone(1)
	// The next connection takes only one at a time.
	a, _ = h.connect(V5, lasting(V5, "a", byte(pReceiveMaximum), uint16(1)))
	if w := a.hearOnly(); w.payload != "1" || !w.dup || w.id != second.id {
		t.Fatalf("%+v", w)
	}
	a.quiet()
	a.send(packet(0x40, second.id, 0))
	for _, want := range []string{"3", "4"} {
		if w := a.hear(); w.payload != want || w.dup != (want == "3") {
			t.Fatalf("%+v, want %s", w, want)
		}
	}
	a.quiet()
}

func TestTheOldestGivesWay(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprint("stored ", stored), func(t *testing.T) {
			o := Options{Limits: Limits{Queue: 5, Unacknowledged: 2, QueueBytes: 10_000}}
			store := &MemoryStore{}
			if stored {
				o.Sessions = store
			}
			h := open(t, o)
			a, _ := h.connect(V311, lasting(V311, "a"))
			a.subscribe(1, "t")
			a.leave()
			h.gone(0)
			b := h.in(V311, "b")
			for i := range 12 {
				b.say(word{topic: "t", payload: fmt.Sprint(i), qos: 1})
			}
			a, _ = h.connect(V311, lasting(V311, "a"))
			for i := 7; i < 12; i++ {
				if w := a.hear(); w.payload != fmt.Sprint(i) {
					t.Fatalf("%+v, want %d", w, i)
				}
			}
			a.quiet()
			a.leave()
			h.gone(1)
			for i := range 4 {
				b.say(word{topic: "t", payload: fmt.Sprintf("%03999d", i), qos: 1})
			}
			if n := h.b.Stats().Dropped; n != 7+2 {
				t.Errorf("dropped %d", n)
			}
			a, _ = h.connect(V311, lasting(V311, "a"))
			for i := 2; i < 4; i++ {
				if w := a.hear(); w.payload != fmt.Sprintf("%03999d", i) {
					t.Fatalf("%d bytes, want number %d", len(w.payload), i)
				}
			}
			a.quiet()
			a.leave()
			h.stop()
			if stored && store.Len() != 1 {
				t.Errorf("%d entries are left", store.Len())
			}
		})
	}
}

func TestSessionsOutliveTheServer(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		store := &MemoryStore{}
		h := open(t, Options{Sessions: store})
		a, _ := h.connect(v, lasting(v, "a"))
		if v == V5 {
			a.subscribeWith(join(byte(pSubscriptionID), 200, 1), 1|8, "t/+")
		} else {
			a.subscribe(1, "t/+")
		}
		b := h.in(V5, "b")
		b.say(word{topic: "t/1", payload: "sent before", qos: 1})
		a.hearOnly()
		a.conn.Close()
		h.gone(1)
		b.say(word{topic: "t/2", payload: "waits", qos: 1, props: join(byte(pMessageExpiry), uint32(60), byte(pContentType), str("c"),
			byte(pResponseTopic), str("r"), byte(pCorrelationData), str("d"), byte(pUser), str("k"), str("v"), byte(pPayloadFormat), 1)})
		if err := h.b.Publish(t.Context(), &Message{Topic: "t/3", Payload: []byte("from the service"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		h.stop()

		h = open(t, Options{Sessions: store})
		if !h.b.HasSubscriber("t/9") || h.b.HasSubscriber("u") {
			t.Error("subscriptions did not come back")
		}
		if err := h.b.Publish(t.Context(), &Message{Topic: "t/4", Payload: []byte("before it is back"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		a, ack := h.connect(v, lasting(v, "a"))
		if ack[0] != 1 {
			t.Fatal("no session present")
		}
		subID := join(byte(pSubscriptionID), 200, 1)
		for i, want := range []word{
			{topic: "t/1", payload: "sent before", dup: true, props: subID},
			{topic: "t/2", payload: "waits", props: join(byte(pPayloadFormat), 1, byte(pMessageExpiry), uint32(60), byte(pContentType), str("c"),
				byte(pResponseTopic), str("r"), byte(pCorrelationData), str("d"), byte(pUser), str("k"), str("v"), subID)},
			{topic: "t/3", payload: "from the service", props: subID},
			{topic: "t/4", payload: "before it is back", props: subID},
		} {
			want.qos, want.id = 1, uint16(i+1)
			if v == V311 {
				want.props = nil
			}
			if got := a.hear(); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		}
		a.quiet()
		a.leave()
		h.stop()
		if store.Len() != 1 {
			t.Errorf("%d entries are left, want the session", store.Len())
		}
		h = open(t, Options{Sessions: store})
		a, _ = h.connect(v, lasting(v, "a"))
		a.quiet()
		a.leave()
		h.gone(0)
		a = h.in(v, "a") // clean
		a.leave()
		h.stop()
		if store.Len() != 0 {
			t.Errorf("%d entries are left of a clean session", store.Len())
		}
	})
}

// A server that dies says nothing to anybody. What it had sent and heard no acknowledgement of comes again.
func TestSessionsOutliveACrash(t *testing.T) {
	store := &MemoryStore{}
	h := open(t, Options{Sessions: store})
	a, _ := h.connect(V311, lasting(V311, "a"))
	a.subscribe(1, "t")
	b := h.in(V311, "b")
	b.say(word{topic: "t", payload: "1", qos: 1})
	a.hearOnly()
	// What the store holds now is what the next server finds.
	crashed := &MemoryStore{}
	store.Scan(context.Background(), nil, func(k, v []byte) error {
		return crashed.Write(context.Background(), []Change{{k, v}})
	})
	h = open(t, Options{Sessions: crashed})
	a, ack := h.connect(V311, lasting(V311, "a"))
	if ack[0] != 1 {
		t.Fatal("no session present")
	}
	if w := a.hear(); w.payload != "1" || !w.dup {
		t.Fatalf("%+v", w)
	}
	a.quiet()
}

func TestNothingIsPromisedThatIsNotStored(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) { synctest.Test(t, func(t *testing.T) { notStored(t, v) }) })
}

func notStored(t *testing.T, v byte) {
	var broken atomic.Bool
	store := &MemoryStore{Fail: func([]Change) error {
		if broken.Load() {
			return errors.New("disk on fire")
		}
		return nil
	}}
	h := bubble(t, Options{Sessions: store})
	defer h.stop()
	a, _ := h.connect(v, lasting(v, "a"))
	a.subscribe(1, "t")
	b := h.in(v, "b")
	broken.Store(true)
	if codes := a.subscribe(1, "u"); codes[0] != 0x80 {
		t.Errorf("SUBACK %x", codes)
	}
	if h.b.HasSubscriber("u") {
		t.Error("subscribed all the same")
	}
	if err := h.b.Publish(t.Context(), &Message{Topic: "t", QoS: 1}); err == nil {
		t.Error("published all the same")
	}
	b.send(word{topic: "t", payload: "1", qos: 1, id: 1}.packet(v))
	if v == V5 {
		first, body := b.read()
		if first != 0x40 || Code(body[2]) != UnspecifiedError {
			t.Errorf("% x % x", first, body)
		}
	} else {
		b.expectClosed()
	}
	c := h.dial(v)
	c.send(lasting(v, "c").packet(v))
	if first, body := c.read(); first != 0x20 || body[1] == 0 {
		t.Errorf("CONNACK % x", body)
	}
	broken.Store(false)
	if codes := a2(h, v).subscribe(1, "v"); codes[0] != 1 {
		t.Errorf("SUBACK %x", codes)
	}
}

func a2(h *house, v byte) *raw {
	c, _ := h.connect(v, lasting(v, "a2"))
	return c
}

// A message that is acknowledged before its batch is written never reaches the store.
func TestJournalForgetsWhatIsOver(t *testing.T) {
	store := &MemoryStore{}
	j := newJournal(store, nil)
	j.put("m1", entry{value: []byte("x"), fresh: true}, false)
	j.drop("m1")
	j.put("m2", entry{value: []byte("x"), fresh: true}, false)
	if err := j.put("s", entry{value: []byte("y")}, true).wait(); err != nil {
		t.Fatal(err)
	}
	if store.Len() != 2 {
		t.Errorf("%d entries", store.Len())
	}
	j.drop("m2")
	j.close()
	if store.Len() != 1 {
		t.Errorf("%d entries", store.Len())
	}
	if err := j.put("s", entry{}, true).wait(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
