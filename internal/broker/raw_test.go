package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// The raw client: it writes bytes and reads packets, and knows no more of MQTT than a test has to spell out.

const patience = 5 * time.Second

type raw struct {
	t    testing.TB
	conn net.Conn
	buf  []byte
	v    byte
	id   uint16
	wait time.Duration
}

// house is a broker for a test, on a loopback port.
type house struct {
	t    testing.TB
	b    *Broker
	addr string // empty in a bubble
	stop func()
	ends []net.Conn
}

func open(t testing.TB, o Options) *house {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.Serve(l)
	}()
	h := &house{t: t, b: b, addr: l.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-served
	})
	t.Cleanup(h.stop)
	return h
}

// bubble is a broker without sockets, for tests in which time is made up. Only one end may write at a time.
func bubble(t testing.TB, o Options) *house {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, b: b}
	h.stop = sync.OnceFunc(func() {
		for _, conn := range h.ends {
			conn.Close()
		}
		if err := b.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return h
}

// dial opens a connection and says nothing.
func (h *house) dial(version byte) *raw {
	h.t.Helper()
	if h.addr == "" {
		ours, theirs := net.Pipe()
		h.ends = append(h.ends, ours)
		go h.b.ServeConn(theirs, ConnInfo{})
		return &raw{t: h.t, conn: ours, v: version, wait: 24 * time.Hour}
	}
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return &raw{t: h.t, conn: conn, v: version, wait: patience}
}

// call is what a raw client says in its CONNECT.
type call struct {
	id        string
	keep      bool // clean session or clean start is off
	keepAlive uint16
	props     []byte
	will      *lastWord
	user      string
	password  string
}

type lastWord struct {
	topic, payload string
	qos            byte
	retain         bool
	props          []byte
}

func str(s string) []byte { return appendText[string](nil, s) }

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case byte:
			b = append(b, p)
		case int:
			b = append(b, byte(p))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("join %T", p))
		}
	}
	return b
}

func withLength(b []byte) []byte { return append(appendVarint(nil, len(b)), b...) }

func packet(first byte, body ...any) []byte {
	return append([]byte{first}, withLength(join(body...))...)
}

func (k call) packet(version byte) []byte {
	var flags byte
	if !k.keep {
		flags |= 2
	}
	b := join(str("MQTT"), version)
	tail := str(k.id)
	if k.will != nil {
		flags |= 4 | k.will.qos<<3
		if k.will.retain {
			flags |= 0x20
		}
		if version == V5 {
			tail = append(tail, withLength(k.will.props)...)
		}
		tail = join(tail, str(k.will.topic), str(k.will.payload))
	}
	if k.user != "" {
		flags |= 0x80
		tail = append(tail, str(k.user)...)
	}
	if k.password != "" {
		flags |= 0x40
		tail = append(tail, str(k.password)...)
	}
	b = join(b, flags, k.keepAlive)
	if version == V5 {
		b = append(b, withLength(k.props)...)
	}
	return packet(0x10, b, tail)
}

// connect opens a connection and expects to be let in. It returns the CONNACK's body too.
func (h *house) connect(version byte, k call) (*raw, []byte) {
	h.t.Helper()
	c := h.dial(version)
	c.send(k.packet(version))
	first, body := c.read()
	if first != 0x20 || len(body) < 2 || body[1] != 0 {
		h.t.Fatalf("CONNACK: % x % x", first, body)
	}
	return c, body
}

// in connects with a clean session.
func (h *house) in(version byte, id string) *raw {
	h.t.Helper()
	c, _ := h.connect(version, call{id: id})
	return c
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *raw) next() (first byte, body []byte, err error) {
	for {
		n, remaining, bad := header(c.buf, 0)
		if bad != nil {
			return 0, nil, bad
		}
		if n > 0 && len(c.buf) >= n+remaining {
			first, body = c.buf[0], slices.Clone(c.buf[n:n+remaining])
			c.buf = c.buf[n+remaining:]
			return first, body, nil
		}
		c.conn.SetReadDeadline(time.Now().Add(c.wait))
		room := make([]byte, 4096)
		m, err := c.conn.Read(room)
		c.buf = append(c.buf, room[:m]...)
		if m == 0 && err != nil {
			return 0, nil, err
		}
	}
}

func (c *raw) read() (first byte, body []byte) {
	c.t.Helper()
	first, body, err := c.next()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return first, body
}

// expect reads one packet and compares it.
func (c *raw) expect(want []byte) {
	c.t.Helper()
	first, body := c.read()
	if got := packet(first, body); !bytes.Equal(got, want) {
		c.t.Fatalf("got  % x %q\nwant % x %q", got, got, want, want)
	}
}

// expectEnd expects the connection to be closed, after a DISCONNECT with that code if the client speaks MQTT 5.
func (c *raw) expectEnd(code Code) {
	c.t.Helper()
	first, body, err := c.next()
	if c.v == V5 && err == nil {
		if first != 0xE0 || len(body) == 0 || body[0] != byte(code) {
			c.t.Fatalf("got % x % x, want DISCONNECT %02x", first, body, byte(code))
		}
		first, body, err = c.next()
	} else if c.v == V5 {
		c.t.Fatalf("closed without a word, want DISCONNECT %02x: %v", byte(code), err)
	}
	if err == nil {
		c.t.Fatalf("got % x % x, want the end", first, body)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("still open")
	}
}

// expectClosed expects the end without a word.
func (c *raw) expectClosed() {
	c.t.Helper()
	first, body, err := c.next()
	if err == nil {
		c.t.Fatalf("got % x % x, want the end", first, body)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("still open")
	}
}

// quiet sends a PINGREQ and expects nothing but its answer.
func (c *raw) quiet() {
	c.t.Helper()
	c.send([]byte{0xC0, 0})
	c.expect([]byte{0xD0, 0})
}

func (c *raw) newID() uint16 {
	c.id++
	return c.id
}

func (c *raw) props(p []byte) []byte {
	if c.v != V5 {
		return nil
	}
	return withLength(p)
}

// subscribe subscribes with these options and props and returns the codes.
func (c *raw) subscribe(opts byte, filters ...string) []byte {
	c.t.Helper()
	return c.subscribeWith(nil, opts, filters...)
}

func (c *raw) subscribeWith(props []byte, opts byte, filters ...string) []byte {
	c.t.Helper()
	id := c.newID()
	body := join(id, c.props(props))
	for _, f := range filters {
		body = join(body, str(f), opts)
	}
	c.send(packet(0x82, body))
	first, got := c.read()
	head := join(id, c.props(nil))
	if first != 0x90 || !bytes.HasPrefix(got, head) {
		c.t.Fatalf("SUBACK: % x % x", first, got)
	}
	return got[len(head):]
}

func (c *raw) unsubscribe(filters ...string) []byte {
	c.t.Helper()
	id := c.newID()
	body := join(id, c.props(nil))
	for _, f := range filters {
		body = join(body, str(f))
	}
	c.send(packet(0xA2, body))
	first, got := c.read()
	head := join(id, c.props(nil))
	if first != 0xB0 || !bytes.HasPrefix(got, head) {
		c.t.Fatalf("UNSUBACK: % x % x", first, got)
	}
	return got[len(head):]
}

// word is a PUBLISH.
type word struct {
	topic, payload string
	qos            byte
	id             uint16
	dup, retain    bool
	props          []byte
}

func (w word) packet(v byte) []byte {
	first := byte(0x30) | w.qos<<1
	if w.dup {
		first |= 8
	}
	if w.retain {
		first |= 1
	}
	body := str(w.topic)
	if w.qos > 0 {
		body = join(body, w.id)
	}
	if v == V5 {
		body = append(body, withLength(w.props)...)
	}
	return packet(first, body, w.payload)
}

func parseWord(first byte, body []byte, v byte) (w word, err error) {
	if first>>4 != 3 {
		return w, fmt.Errorf("got packet % x % x, want PUBLISH", first, body)
	}
	var d publish
	if bad := decodePublish(&d, first, body, v, inStored); bad != nil {
		return w, bad
	}
	w = word{topic: string(d.topic), payload: string(d.payload), qos: d.qos, id: d.id, dup: d.dup, retain: d.retain}
	if v == V5 {
		at := 2 + len(d.topic)
		if d.qos > 0 {
			at += 2
		}
		r := &reader{p: body[at:]}
		w.props = r.take(int(r.varint()))
		if len(w.props) == 0 {
			w.props = nil
		}
	}
	return w, nil
}

// hear reads a PUBLISH and acknowledges it if need be.
func (c *raw) hear() word {
	c.t.Helper()
	w := c.hearOnly()
	if w.qos > 0 {
		c.send(packet(0x40, w.id))
	}
	return w
}

func (c *raw) hearOnly() word {
	c.t.Helper()
	first, body := c.read()
	w, err := parseWord(first, body, c.v)
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// say publishes, and for QoS 1 returns the code of the PUBACK.
func (c *raw) say(w word) Code {
	c.t.Helper()
	if w.qos > 0 && w.id == 0 {
		w.id = c.newID()
	}
	c.send(w.packet(c.v))
	if w.qos == 0 {
		return Success
	}
	first, body := c.read()
	if first != 0x40 || len(body) < 2 || binary.BigEndian.Uint16(body) != w.id {
		c.t.Fatalf("PUBACK: % x % x", first, body)
	}
	if len(body) > 2 {
		return Code(body[2])
	}
	return Success
}

// leave says goodbye and waits for the end.
func (c *raw) leave() {
	c.t.Helper()
	c.send([]byte{0xE0, 0})
	c.expectClosed()
}

// gone waits until the broker has no connection left but n.
func (h *house) gone(n int) {
	h.t.Helper()
	until(h.t, func() bool { return h.b.Stats().Connections == n })
}

// pass lets time pass, in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// until waits for something that another goroutine is about to do.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not come to be")
		}
	}
}

var both = []byte{V311, V5}

func eachVersion(t *testing.T, f func(t *testing.T, v byte)) {
	for _, v := range both {
		t.Run(map[byte]string{V311: "3.1.1", V5: "5"}[v], func(t *testing.T) { f(t, v) })
	}
}
