package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A lifeline is what a Remote dials with: it can be cut.
type lifeline struct {
	addr string
	mu   sync.Mutex
	last net.Conn
	away bool // nobody is reached
}

func (l *lifeline) dial(ctx context.Context, _ int) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errors.New("nobody is there")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.addr)
	l.last = conn
	return conn, err
}

func (l *lifeline) cut(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
	l.last.Close()
}

var requestFilters = []string{"$aws/things/+/jobs/get", "$aws/things/+/jobs/+/update"}

// remote runs a Remote at the house until the test ends.
func (h *house) remote(o RemoteOptions) (*Remote, *lifeline) {
	h.t.Helper()
	line := &lifeline{addr: h.addr}
	if o.Dial == nil {
		o.Dial = line.dial
	}
	o.Filters, o.Probe = requestFilters, "$aws/muster/probe"
	if o.ClientID == "" {
		o.ClientID = "muster-1"
	}
	o.Group = "jobs"
	if o.Order == nil {
		o.Order = func(topic string) string { return strings.Join(strings.SplitN(topic, "/", 4)[:3], "/") }
	}
	r := NewRemote(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
		r.cut()
		r.serving.Wait()
	})
	return r, line
}

func (h *house) attached(o RemoteOptions) (*Remote, *lifeline) {
	h.t.Helper()
	r, line := h.remote(o)
	until(h.t, func() bool { return r.Health() == nil })
	return r, line
}

func mirror(_ context.Context, in *Message) *Message {
	return &Message{Topic: in.Topic + "/accepted", Payload: in.Payload, QoS: 1, CorrelationData: in.CorrelationData}
}

func TestRemoteAnswers(t *testing.T) {
	for _, sharing := range []Sharing{ShareAuto, ShareOn, ShareOff} {
		eachVersion(t, func(t *testing.T, v byte) {
			h := open(t, Options{})
			r, _ := h.attached(RemoteOptions{Version: v, Serve: mirror, Sharing: sharing})
			d, other := h.in(v, "lamp"), h.in(v, "other")
			d.subscribe(1, "$aws/things/lamp/jobs/#")
			other.subscribe(0, "$aws/things/+/jobs/get/+")
			d.send(word{topic: "$aws/things/lamp/jobs/get", payload: "q", qos: 1, id: 9}.packet(v))
			// Its own request comes back too, for nobody has taken it away.
			var topics []string
			for range 3 {
				first, body := d.read()
				if first>>4 == tPuback {
					topics = append(topics, "puback")
					continue
				}
				w, err := parseWord(first, body, v)
				if err != nil {
					t.Fatal(err)
				}
				topics = append(topics, w.topic)
				d.send(packet(0x40, w.id))
			}
			slices.Sort(topics)
			if want := []string{"$aws/things/lamp/jobs/get", "$aws/things/lamp/jobs/get/accepted", "puback"}; !slices.Equal(topics, want) {
				t.Fatal(topics)
			}
			if w := other.hear(); w.topic != "$aws/things/lamp/jobs/get/accepted" || w.payload != "q" || w.qos != 0 {
				t.Fatalf("%+v", w)
			}
			if err := r.Publish(t.Context(), &Message{Topic: "$aws/things/lamp/jobs/notify", QoS: 1}); err != nil {
				t.Fatal(err)
			}
			if w := d.hear(); w.topic != "$aws/things/lamp/jobs/notify" || w.qos != 1 {
				t.Fatalf("%+v", w)
			}
		})
	}
}

// Two that share get each request once.
func TestRemotesShare(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		var served [2]atomic.Int64
		for i := range served {
			h.attached(RemoteOptions{Version: v, ClientID: fmt.Sprint("muster-", i), Serve: func(ctx context.Context, in *Message) *Message {
				served[i].Add(1)
				return mirror(ctx, in)
			}})
		}
		d := h.in(v, "lamp")
		d.subscribe(1, "$aws/things/+/jobs/get/+")
		for i := range 20 {
			d.send(word{topic: fmt.Sprintf("$aws/things/t%d/jobs/get", i), qos: 1, id: uint16(i + 1)}.packet(v))
		}
		for answers := 0; answers < 20; {
			first, body := d.read()
			if w, err := parseWord(first, body, v); err == nil {
				answers++
				d.send(packet(0x40, w.id))
			}
		}
		if a, b := served[0].Load(), served[1].Load(); a+b != 20 || a == 0 || b == 0 {
			t.Errorf("%d and %d", a, b)
		}
	})
}

// A request that is being served when the connection goes comes again, is not served again, and is answered.
func TestRemoteConnectionLost(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		begun, go_ := make(chan string, 10), make(chan struct{})
		_, line := h.attached(RemoteOptions{Version: v, Sharing: ShareOff, Serve: func(ctx context.Context, in *Message) *Message {
			begun <- string(in.Payload)
			<-go_
			return mirror(ctx, in)
		}})
		d := h.in(v, "lamp")
		d.subscribe(1, "$aws/things/lamp/jobs/get/accepted")
		d.say(word{topic: "$aws/things/lamp/jobs/get", payload: "1", qos: 1})
		<-begun
		line.cut(true)
		h.gone(1)
		d.say(word{topic: "$aws/things/lamp/jobs/get", payload: "2", qos: 1}) // kept by the broker
		line.cut(false)
		h.gone(2)
		close(go_)
		for _, want := range []string{"1", "2"} {
			if w := d.hear(); w.payload != want {
				t.Fatalf("%+v", w)
			}
		}
		if got := <-begun; got != "2" || len(begun) > 0 {
			t.Errorf("served again: %s, and %d more", got, len(begun))
		}
		d.quiet()
	})
}

// A process that dies while it serves a request leaves it to the next one.
func TestRemoteDies(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		begun := make(chan struct{}, 10)
		_, line := h.attached(RemoteOptions{Version: v, Sharing: ShareOff, Serve: func(ctx context.Context, in *Message) *Message {
			begun <- struct{}{}
			<-ctx.Done()
			return nil
		}})
		d := h.in(v, "lamp")
		d.subscribe(1, "$aws/things/lamp/jobs/get/accepted")
		d.say(word{topic: "$aws/things/lamp/jobs/get", payload: "1", qos: 1})
		<-begun
		line.cut(true)
		h.gone(1)
		h.attached(RemoteOptions{Version: v, Sharing: ShareOff, Serve: mirror})
		if w := d.hear(); w.payload != "1" {
			t.Fatalf("%+v", w)
		}
		d.quiet()
	})
}

// What is published reaches the broker once it is there again, in order.
func TestRemotePublishesOverLoss(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{Limits: Limits{Unacknowledged: 2}})
		r, line := h.attached(RemoteOptions{Version: v, Serve: mirror})
		d := h.in(v, "lamp")
		d.subscribe(1, "n/#")
		line.cut(true)
		until(t, func() bool { return r.Health() != nil })
		if err := r.Publish(t.Context(), &Message{Topic: "n/0"}); !errors.Is(err, ErrDetached) {
			t.Errorf("QoS 0 without a connection: %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Publish(gone, &Message{Topic: "elsewhere", QoS: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits for it any more: %v", err)
		}
		published := make(chan error, 1)
		go func() {
			var all []*Message
			for i := range 20 {
				all = append(all, &Message{Topic: fmt.Sprint("n/", i), QoS: 1})
			}
			published <- r.Publish(t.Context(), all...)
		}()
		until(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.waiting) == 20 })
		line.cut(false)
		for i := range 20 {
			if w := d.hear(); w.topic != fmt.Sprint("n/", i) {
				t.Fatalf("%d: %+v", i, w)
			}
		}
		if err := <-published; err != nil {
			t.Error(err)
		}
	})
}

// What the broker refuses is not tried for ever.
func TestRemoteRefused(t *testing.T) {
	h := open(t, Options{Hooks: Hooks{Publish: func(_ *Client, topic string) bool { return topic != "no" }}})
	r, _ := h.attached(RemoteOptions{Serve: mirror})
	var refused *Refusal
	if err := r.Publish(t.Context(), &Message{Topic: "no", QoS: 1}, &Message{Topic: "yes", QoS: 1}); !errors.As(err, &refused) || refused.Code != NotAuthorized {
		t.Errorf("%v", err)
	}
}

// What happens because of a request is told after its answer.
func TestRemoteAnswersFirst(t *testing.T) {
	h := open(t, Options{})
	begun, go_ := make(chan struct{}), make(chan struct{})
	r, _ := h.attached(RemoteOptions{Serve: func(ctx context.Context, in *Message) *Message {
		close(begun)
		<-go_
		return mirror(ctx, in)
	}})
	d := h.in(V5, "lamp")
	d.subscribe(1, "$aws/things/lamp/jobs/get/accepted", "$aws/things/lamp/jobs/notify", "$aws/things/pump/jobs/notify")
	d.say(word{topic: "$aws/things/lamp/jobs/get", qos: 1})
	<-begun
	published := make(chan error, 1)
	go func() {
		published <- r.Publish(t.Context(), &Message{Topic: "$aws/things/lamp/jobs/notify", QoS: 1}, &Message{Topic: "$aws/things/pump/jobs/notify", QoS: 1})
	}()
	if w := d.hear(); w.topic != "$aws/things/pump/jobs/notify" {
		t.Fatalf("%+v", w)
	}
	close(go_)
	for _, want := range []string{"$aws/things/lamp/jobs/get/accepted", "$aws/things/lamp/jobs/notify"} {
		if w := d.hear(); w.topic != want {
			t.Fatalf("%+v, not %s", w, want)
		}
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
}

// Requests of one thing are served in turn, of several at once, and no more than are allowed.
func TestRemoteLanes(t *testing.T) {
	h := open(t, Options{})
	var most, now atomic.Int64
	var mu sync.Mutex
	order := map[string]string{}
	go_ := make(chan struct{})
	h.attached(RemoteOptions{Version: V5, InFlight: 4, Serve: func(ctx context.Context, in *Message) *Message {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-go_
		mu.Lock()
		defer mu.Unlock()
		order[in.Topic] += string(in.Payload)
		return mirror(ctx, in)
	}})
	d := h.in(V5, "lamp")
	d.subscribe(0, "$aws/things/+/jobs/get/accepted")
	for i := range 30 {
		d.send(word{topic: fmt.Sprintf("$aws/things/t%d/jobs/get", i%3), payload: fmt.Sprint(i / 3), qos: 1, id: uint16(i + 1)}.packet(V5))
	}
	until(t, func() bool { return now.Load() == 3 })
	close(go_)
	for answers := 0; answers < 30; {
		if first, _ := d.read(); first>>4 == tPublish {
			answers++
		}
	}
	if most.Load() != 3 {
		t.Errorf("%d at once", most.Load())
	}
	for topic, got := range order {
		if got != "0123456789" {
			t.Errorf("%s: %s", topic, got)
		}
	}
}

// Shutdown answers what it has begun, and leaves the rest to the broker.
func TestRemoteShutdown(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		begun, go_ := make(chan struct{}, 1), make(chan struct{})
		r, _ := h.attached(RemoteOptions{Version: v, Sharing: ShareOff, Serve: func(ctx context.Context, in *Message) *Message {
			begun <- struct{}{}
			<-go_
			return mirror(ctx, in)
		}})
		d := h.in(v, "lamp")
		d.subscribe(1, "$aws/things/+/jobs/get/accepted")
		d.say(word{topic: "$aws/things/lamp/jobs/get", payload: "1", qos: 1})
		<-begun
		ended := make(chan error, 1)
		go func() { ended <- r.Shutdown(t.Context()) }()
		until(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.conn.deaf && r.idle != nil })
		d.say(word{topic: "$aws/things/lamp/jobs/get", payload: "2", qos: 1})
		close(go_)
		if w := d.hear(); w.payload != "1" {
			t.Fatalf("%+v", w)
		}
		if err := <-ended; err != nil || len(begun) > 0 {
			t.Error(err, len(begun))
		}
		h.gone(1)
		h.attached(RemoteOptions{Version: v, Sharing: ShareOff, Serve: mirror})
		if w := d.hear(); w.payload != "2" {
			t.Fatalf("%+v", w)
		}
		d.quiet()
	})
}

// A broker that takes everything and delivers nothing, or not what is shared, is found out.
func TestRemoteProbe(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		h := open(t, Options{Hooks: Hooks{Deliver: func(*Client, string) bool { return false }}})
		r, _ := h.remote(RemoteOptions{Serve: mirror, Patience: 50 * time.Millisecond})
		until(t, func() bool { return strings.Contains(r.Health().Error(), "has not delivered what was published") })
	})
	t.Run("not what is shared", func(t *testing.T) {
		h := open(t, Options{Hooks: Hooks{Deliver: func(_ *Client, topic string) bool { return !strings.HasSuffix(topic, "/shared") }}})
		r, _ := h.remote(RemoteOptions{Serve: mirror, Sharing: ShareOn, Patience: 50 * time.Millisecond})
		until(t, func() bool { return errors.Is(r.Health(), ErrNotShared) })
		r, _ = h.attached(RemoteOptions{Serve: mirror, ClientID: "muster-2", Patience: 50 * time.Millisecond})
		if r.conn.shared {
			t.Error("it is taken for shared")
		}
	})
	t.Run("refused", func(t *testing.T) {
		h := open(t, Options{Hooks: Hooks{Subscribe: func(_ *Client, filter string) bool { return !strings.HasSuffix(filter, "/update") }}})
		r, _ := h.remote(RemoteOptions{Serve: mirror})
		until(t, func() bool {
			return strings.Contains(r.Health().Error(), "jobs/+/update: not authorized")
		})
	})
	t.Run("login", func(t *testing.T) {
		h := open(t, Options{Hooks: Hooks{Connect: func(_ context.Context, r *ConnectRequest) (any, error) {
			if r.Username != "muster" || string(r.Password) != "secret" {
				return nil, &Refusal{Code: BadCredentials}
			}
			return nil, nil
		}}})
		word := new(atomic.Value)
		word.Store("wrong")
		eachVersion(t, func(t *testing.T, v byte) {
			word.Store("wrong")
			r, _ := h.remote(RemoteOptions{Serve: mirror, Version: v, Login: func() (string, []byte, error) { return "muster", []byte(word.Load().(string)), nil }})
			until(t, func() bool { return strings.Contains(r.Health().Error(), "bad user name or password") })
			word.Store("secret")
			until(t, func() bool { return r.Health() == nil })
		})
	})
}

// What is not shared is served by the one whose it is.
func TestRemoteMine(t *testing.T) {
	h := open(t, Options{})
	var whose atomic.Int64
	var served [2]atomic.Int64
	for i := range served {
		h.attached(RemoteOptions{Sharing: ShareOff, ClientID: fmt.Sprint("muster-", i), Mine: func() bool { return whose.Load() == int64(i) },
			Serve: func(ctx context.Context, in *Message) *Message {
				served[i].Add(1)
				return mirror(ctx, in)
			}})
	}
	d := h.in(V5, "lamp")
	d.subscribe(0, "$aws/things/+/jobs/get/accepted")
	d.say(word{topic: "$aws/things/lamp/jobs/get", qos: 1})
	d.hear()
	d.quiet()
	whose.Store(1)
	until(t, func() bool {
		d.send(word{topic: "$aws/things/lamp/jobs/get"}.packet(V5))
		return served[1].Load() > 0
	})
	if served[0].Load() == 0 {
		t.Error("the first has served nothing")
	}
}

// A Remote whose sharing changes does not serve what comes by the subscriptions of before.
func TestRemoteChangesForm(t *testing.T) {
	h := open(t, Options{})
	first, _ := h.attached(RemoteOptions{Version: V5, Sharing: ShareOff, Serve: mirror})
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var served atomic.Int64
	h.attached(RemoteOptions{Version: V5, Sharing: ShareOn, Serve: func(ctx context.Context, in *Message) *Message {
		served.Add(1)
		return mirror(ctx, in)
	}})
	d := h.in(V5, "lamp")
	d.subscribe(0, "$aws/things/+/jobs/get/accepted")
	d.say(word{topic: "$aws/things/lamp/jobs/get"})
	d.hear()
	d.quiet()
	if served.Load() != 1 {
		t.Errorf("served %d times", served.Load())
	}
}

// PUBACKs go out in the order the requests came, each behind its answer. [MQTT-4.6.0-2]
func TestRemoteAcknowledgesInOrder(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		h := open(t, Options{})
		line := &lifeline{addr: h.addr}
		ours := make(chan *raw, 1)
		dials := 0
		slow := make(chan struct{})
		r, _ := h.remote(RemoteOptions{Version: v, Sharing: ShareOff, Dial: func(ctx context.Context, attempt int) (net.Conn, error) {
			if dials++; dials == 1 { // the probe
				return line.dial(ctx, attempt)
			}
			a, b := net.Pipe()
			ours <- &raw{t: t, conn: a, v: v, wait: patience}
			return b, nil
		}, Serve: func(ctx context.Context, in *Message) *Message {
			if strings.Contains(in.Topic, "slow") {
				<-slow
			}
			return mirror(ctx, in)
		}})
		c := <-ours
		defer c.conn.Close()
		if first, body := c.read(); first != 0x10 || body[6] != v {
			t.Fatalf("% x % x", first, body)
		}
		ack := packet(0x20, 0, 0)
		if v == V5 {
			ack = packet(0x20, 0, 0, withLength(join(pReceiveMaximum, uint16(1)))) // one answer at a time
		}
		c.send(ack)
		first, body := c.read()
		if first != 0x82 {
			t.Fatalf("% x % x", first, body)
		}
		c.send(packet(0x90, body[:2], c.props(nil), 1, 1))
		c.send(word{topic: "$aws/things/slow/jobs/get", qos: 1, id: 7}.packet(v))
		c.send(word{topic: "$aws/things/fast/jobs/get", qos: 1, id: 8}.packet(v))
		answer := c.hearOnly()
		if answer.topic != "$aws/things/fast/jobs/get/accepted" {
			t.Fatalf("%+v", answer)
		}
		close(slow)
		if v == V5 {
			until(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.held == 0 })
			r.mu.Lock()
			if len(r.waiting) != 1 || len(r.conn.flying) != 1 {
				t.Errorf("%d wait and %d fly, but the broker takes one at a time", len(r.waiting), len(r.conn.flying))
			}
			r.mu.Unlock()
			c.send(packet(0x40, answer.id)) // makes room for the other
		}
		if w := c.hearOnly(); w.topic != "$aws/things/slow/jobs/get/accepted" {
			t.Fatalf("%+v", w)
		}
		c.expect(packet(0x40, 0, 7))
		c.expect(packet(0x40, 0, 8))

		// Too long to be one, so it is thrown away and acknowledged.
		long := word{topic: "$aws/things/fast/jobs/get", payload: strings.Repeat("x", maxHeld), qos: 1, id: 9}.packet(v)
		c.send(long)
		c.expect(packet(0x40, 0, 9))
		// What the broker has kept is none of now.
		c.send(word{topic: "$aws/things/fast/jobs/get", payload: "old", qos: 1, id: 10, retain: true}.packet(v))
		c.expect(packet(0x40, 0, 10))
	})
}

// A broker that does not speak MQTT 5 says so in its own version.
func TestRemoteFallsBack(t *testing.T) {
	h := open(t, Options{})
	var tried sync.Map
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c := &raw{t: t, conn: conn, v: V311, wait: patience}
				first, body, err := c.next()
				if err != nil {
					conn.Close()
					return
				}
				tried.Store(body[6], true)
				if body[6] == V5 {
					conn.Write([]byte{0x20, 2, 0, 1})
					conn.Close()
					return
				}
				there, err := net.Dial("tcp", h.addr)
				if err != nil {
					conn.Close()
					return
				}
				there.Write(packet(first, body))
				go func() { defer conn.Close(); pipe(conn, there) }()
				defer there.Close()
				there.Write(c.buf)
				pipe(there, conn)
			}()
		}
	}()
	line := &lifeline{addr: l.Addr().String()}
	r, _ := h.attached(RemoteOptions{Dial: line.dial, Serve: mirror})
	if _, ok := tried.Load(byte(V5)); !ok || r.conn.version != V311 {
		t.Error("it has not tried both")
	}
	line.cut(true)
}

func pipe(to, from net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func FuzzServerPackets(f *testing.F) {
	f.Add(byte(0x20), []byte{0, 0, 3, 33, 0, 1})
	f.Add(byte(0x90), []byte{0, 1, 0, 1})
	f.Add(byte(0x40), []byte{0, 1, 0x87, 5, 31, 0, 2, 'n', 'o'})
	f.Add(byte(0xE0), []byte{0x8B, 0})
	f.Add(byte(0x32), append(str("a/b"), 0, 1, 0, 'x'))
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		for _, v := range both {
			w, bad := decodeConnack(body, v)
			if bad == nil && w.maxPacket > maxRemaining {
				t.Errorf("%+v", w)
			}
			r := NewRemote(RemoteOptions{Serve: mirror})
			c := &remoteConn{r: r, version: v, catch: func(d *publish) {
				if !bytes.Contains(body, d.payload) {
					t.Error("a payload from elsewhere")
				}
			}}
			_ = c.obey(first, body, false)
		}
	})
}
