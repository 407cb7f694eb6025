package broker

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// FuzzPublish: what can be read as a PUBLISH can be written, and reads the same again.
func FuzzPublish(f *testing.F) {
	for _, v := range both {
		f.Add(v, word{topic: "a/b", payload: "x", qos: 1, id: 7, props: join(byte(pUser), str("k"), str("v"), byte(pSubscriptionID), 9)}.packet(v))
		f.Add(v, word{topic: "a", props: join(byte(pMessageExpiry), uint32(3), byte(pCorrelationData), str(""))}.packet(v))
	}
	f.Fuzz(func(t *testing.T, v byte, p []byte) {
		if v != V5 {
			v = V311
		}
		n, remaining, bad := header(p, v)
		if bad != nil || n == 0 || len(p) < n+remaining || p[0]>>4 != tPublish || checkFlags(p[0]) != nil {
			return
		}
		var d publish
		if decodePublish(&d, p[0], p[n:n+remaining], v, inStored) != nil {
			return
		}
		m := &Message{Topic: string(d.topic), Payload: d.payload}
		d.props.into(m)
		if d.props.has(pMessageExpiry) {
			m.Expires = time.Unix(1<<40, 0)
		}
		o := outgoing{m: m, topic: m.Topic, alias: d.props.alias, id: d.id, ids: d.props.subIDs, qos: d.qos, dup: d.dup, retain: d.retain, expiry: d.props.expiry}
		b := o.append(nil, v)
		if len(b) != o.size(v) {
			t.Fatalf("%d bytes, announced as %d", len(b), o.size(v))
		}
		var again publish
		n, _, _ = header(b, v)
		if bad := decodePublish(&again, b[0], b[n:], v, inStored); bad != nil {
			t.Fatal(bad)
		}
		o2 := o
		o2.m = &Message{Topic: string(again.topic), Payload: again.payload, Expires: m.Expires}
		again.props.into(o2.m)
		if !bytes.Equal(o2.append(nil, v), b) {
			t.Fatalf("% x\n% x", o2.append(nil, v), b)
		}
		stored, ids, _, err := decodeMessage(encodeMessage(&outgoing{m: m, topic: m.Topic, id: 1, qos: 1, ids: o.ids}, 0))
		if err != nil || stored.Topic != m.Topic || !bytes.Equal(stored.Payload, m.Payload) || len(ids) != len(o.ids) {
			t.Fatalf("%+v %v", stored, err)
		}
	})
}

// FuzzConnection: a broker that is told anything at all stays what it was.
func FuzzConnection(f *testing.F) {
	for _, v := range both {
		k := call{id: "a", user: "u", password: "p", will: &lastWord{topic: "w", payload: "x", qos: 1}}
		b := join(k.packet(v), packet(0x82, uint16(1), (&raw{v: v}).props(nil), str("a/+"), 1), word{topic: "a/b", payload: "x", qos: 1, id: 3}.packet(v),
			packet(0xA2, uint16(2), (&raw{v: v}).props(nil), str("a/+")), []byte{0xC0, 0}, []byte{0xE0, 0})
		f.Add(b)
		f.Add(join(lasting(v, "b").packet(v), packet(0x82, uint16(1), (&raw{v: v}).props(nil), str("$share/g/#"), 1), packet(0x40, uint16(1))))
	}
	store := &MemoryStore{}
	b, err := New(Options{Sessions: store, Hooks: echo})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.ServeConn(theirs, ConnInfo{})
		}()
		go func() {
			ours.Write(said)
			ours.Close()
		}()
		heard := make([]byte, 1024)
		for {
			if _, err := ours.Read(heard); err != nil {
				break
			}
		}
		<-done
		if n := b.Stats().Connections; n != 0 {
			t.Fatalf("%d connections are left", n)
		}
	})
}

// FuzzRecord: a damaged record is an error, not a panic.
func FuzzRecord(f *testing.F) {
	b := &Broker{limits: Limits{}.withDefaults(), index: newIndex()}
	s := &session{b: b, id: "a", expiry: 9, client: &Client{will: &will{m: &Message{Topic: "w"}, delay: 3}}}
	s.subs = []*subscription{{s: s, filter: "a/b", opts: 1, id: 3}}
	f.Add(s.record())
	f.Fuzz(func(t *testing.T, record []byte) {
		s := &session{b: b, id: "a"}
		if s.restore(record, time.Now()) == nil {
			again := &session{b: b, id: "a"}
			if err := again.restore(s.record(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		decodeMessage(record)
		for _, u := range s.subs {
			b.index.remove(u)
		}
	})
}
