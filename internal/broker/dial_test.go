package broker

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// meet dials the house's broker.
func (h *house) meet(o DialOptions) (*Conn, error) {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := Dial(conn, o)
	if err == nil {
		h.t.Cleanup(func() { c.Drop() })
	}
	return c, err
}

func (c *Conn) must(t *testing.T, kind ArrivalKind) Arrival {
	t.Helper()
	a, err := c.Next(time.Now().Add(patience))
	if err != nil || a.Kind != kind {
		t.Fatalf("%+v %v, want one of kind %d", a, err, kind)
	}
	return a
}

// Our own client and our own server understand each other, in both versions, also about what does not fit a small buffer.
func TestDial(t *testing.T) {
	for _, v := range []byte{V311, V5} {
		h := open(t, Options{})
		c, err := h.meet(DialOptions{Version: v, ClientID: "lamp"})
		if err != nil {
			t.Fatal(err)
		}
		id := c.Subscribe(1, "lamps/+", "hall")
		if a := c.must(t, Subscribed); a.ID != id || a.Code != GrantedQoS1 {
			t.Errorf("subscribed %+v", a)
		}
		long := bytes.Repeat([]byte("0123456789"), 5000)
		// roundTrip publishes what the client itself gets back, before or after the acknowledgement.
		roundTrip := func(payload []byte) {
			id := c.Publish("lamps/1", payload)
			var acked, came bool
			for !acked || !came {
				a, err := c.Next(time.Now().Add(patience))
				switch {
				case err != nil:
					t.Fatal(err)
				case a.Kind == Acked && a.ID == id:
					acked = true
				case a.Kind == Arrived && string(a.Topic) == "lamps/1" && bytes.Equal(a.Payload, payload):
					came = true
				default:
					t.Fatalf("%d %s, %d bytes", a.Kind, a.Topic, len(a.Payload))
				}
			}
		}
		for _, payload := range [][]byte{nil, []byte("on"), long, []byte("off")} {
			roundTrip(payload)
		}
		if a, err := c.Next(time.Now().Add(time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v %v, want nothing", a, err)
		}
		if len(c.buf) != dialBuffer {
			t.Errorf("at rest it holds %d bytes", len(c.buf))
		}
		// All were acknowledged: nothing comes again, and the window never fills.
		for range 200 {
			roundTrip([]byte("x"))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDialIsRefused(t *testing.T) {
	h := open(t, Options{})
	long := strings.Repeat("x", 200)
	for _, v := range []byte{V311, V5} {
		if _, err := h.meet(DialOptions{Version: v, ClientID: long}); err == nil {
			t.Errorf("version %d: a client id of 200 bytes is taken", v)
		} else if bad, ok := errors.AsType[*Refusal](err); !ok || bad.Code != ClientIDNotValid {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

// A second connection of a client takes over; the first is told, in MQTT 5.
func TestDialTakenOver(t *testing.T) {
	h := open(t, Options{})
	first, err := h.meet(DialOptions{Version: V5, ClientID: "lamp"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.meet(DialOptions{Version: V5, ClientID: "lamp"}); err != nil {
		t.Fatal(err)
	}
	_, err = first.Next(time.Now().Add(patience))
	if bad, ok := errors.AsType[*Refusal](err); !ok || bad.Code != SessionTakenOver {
		t.Errorf("it ends with %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	h := open(t, Options{})
	c, err := h.meet(DialOptions{ClientID: "lamp"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Next(time.Now().Add(time.Hour))
		ended <- err
	}()
	c.Interrupt()
	if err := <-ended; !errors.Is(err, ErrInterrupted) {
		t.Errorf("it ends with %v", err)
	}
}

// While somebody waits the connection is kept alive; a server that does not answer is noticed.
func TestDialPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer server.Close()
		pings := make(chan time.Time, 10)
		go func() {
			b := make([]byte, 100)
			server.Read(b)
			server.Write([]byte{tConnack << 4, 2, 0, 0})
			for i := 0; ; i++ {
				n, err := server.Read(b)
				if err != nil {
					return
				}
				if n == 2 && b[0] == tPingreq<<4 {
					pings <- time.Now()
				}
				if i < 2 {
					server.Write([]byte{tPingresp << 4, 0})
				}
			}
		}()
		c, err := Dial(client, DialOptions{ClientID: "lamp", KeepAlive: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := c.Next(start.Add(150 * time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if len(pings) != 2 {
			t.Errorf("%d pings in two and a half minutes", len(pings))
		}
		if _, err := c.Next(start.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "does not answer pings") {
			t.Errorf("it ends with %v", err)
		}
		if lasted := time.Since(start); lasted != 3*time.Minute+pingPatience {
			t.Errorf("it noticed after %v", lasted)
		}
		client.Close()
	})
}

func FuzzDial(f *testing.F) {
	f.Add([]byte{tConnack << 4, 3, 0, 0, 0, tPublish << 4, 4, 0, 1, 'x', 0}, true)
	f.Add([]byte{tConnack << 4, 2, 0, 0, tSuback << 4, 3, 0, 1, 1}, false)
	f.Fuzz(func(t *testing.T, said []byte, v5 bool) {
		c := &Conn{conn: &stale{bytes.NewReader(said)}, version: V311, buf: make([]byte, dialBuffer)}
		if v5 {
			c.version = V5
		}
		for range len(said) + 1 {
			if _, err := c.Next(time.Time{}); err != nil {
				return
			}
		}
		t.Error("it never ends")
	})
}

// stale is a connection that has said all it will say.
type stale struct{ *bytes.Reader }

func (*stale) Write(b []byte) (int, error)      { return len(b), nil }
func (*stale) Close() error                     { return nil }
func (*stale) LocalAddr() net.Addr              { return nil }
func (*stale) RemoteAddr() net.Addr             { return nil }
func (*stale) SetDeadline(time.Time) error      { return nil }
func (*stale) SetReadDeadline(time.Time) error  { return nil }
func (*stale) SetWriteDeadline(time.Time) error { return nil }
