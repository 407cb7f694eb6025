package broker

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// notes are what was logged, by whichever goroutine.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// A client that does not read holds up nobody, is held a bounded amount for, and is let go in the end.
func TestSlowSocket(t *testing.T) {
	for qos := range byte(2) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clients := make(chan *Client, 2)
				var log notes
				h := bubble(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Hooks: Hooks{Connected: func(c *Client) { clients <- c }}})
				defer h.stop()
				k := call{id: "a", keep: true}
				a, _ := h.connect(V311, k)
				a.subscribe(1, "t")
				slow := <-clients
				b := h.in(V311, "b")
				payload := strings.Repeat("x", 1000)
				for range 5000 {
					b.say(word{topic: "t", payload: payload, qos: qos})
				}
				b.quiet()
				s := slow.s
				s.mu.Lock()
				pending, held := slow.pending(), s.bytes
				s.mu.Unlock()
				if limit := h.b.limits.Buffer + 2000; pending > limit || pending < 50_000 {
					t.Errorf("%d bytes pending, may be %d", pending, limit)
				}
				if held > h.b.limits.QueueBytes || qos == 1 && held < h.b.limits.QueueBytes/2 {
					t.Errorf("%d bytes queued", held)
				}
				if h.b.Stats().Dropped < 3000 {
					t.Errorf("%d dropped", h.b.Stats().Dropped)
				}
				if n := strings.Count(log.String(), "does not keep up"); n != 1 || h.b.Stats().Slow != 0 {
					t.Errorf("it was logged %d times, and %d were ended", n, h.b.Stats().Slow)
				}
				pass(31 * time.Second)
				if n := h.b.Stats().Connections; n != 1 {
					t.Errorf("%d connections", n)
				}
				if n := strings.Count(log.String(), "does not read"); n != 1 || h.b.Stats().Slow != 1 {
					t.Errorf("it was logged %d times, and %d were ended:\n%s", n, h.b.Stats().Slow, &log)
				}
				if qos == 0 {
					return
				}
				a, _ = h.connect(V311, k)
				for i := range 10 {
					if w := a.hearOnly(); !w.dup || w.payload != payload {
						t.Errorf("message %d: DUP %v", i, w.dup)
					}
				}
				a.conn.Close()
			})
		})
	}
}

// What a client asks for and does not read, it cannot ask for without end.
func TestUnreadAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bubble(t, Options{Hooks: echo})
		defer h.stop()
		a := h.in(V311, "a")
		a.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		n, err := 0, error(nil)
		for err == nil {
			_, err = a.conn.Write(word{topic: "$aws/x", payload: "x", qos: 1, id: 1}.packet(V311))
			n++
		}
		if n > 10_000 {
			t.Errorf("%d requests were taken", n)
		}
	})
}

// A million bytes announced cost no more than those that came.
func TestBufferGrowsWithWhatCame(t *testing.T) {
	h := open(t, Options{})
	c := h.dial(V311)
	c.send([]byte{0x10, 0x80, 0x80, 0x08}) // 128 KiB of CONNECT
	c.send(make([]byte, 2000))
	until(t, func() bool {
		h.b.mu.Lock()
		defer h.b.mu.Unlock()
		return len(h.b.clients) == 1
	})
	c.conn.Close()
	h.gone(0)
}

// Everybody wants the same client ids, at once, while messages fly.
func TestTakeOverRaces(t *testing.T) {
	store := &MemoryStore{}
	var mu sync.Mutex
	connected, disconnected := 0, 0
	h := open(t, Options{Sessions: store, Hooks: Hooks{
		Connected:       func(*Client) { mu.Lock(); connected++; mu.Unlock() },
		Disconnected:    func(*Client, Ended) { mu.Lock(); disconnected++; mu.Unlock() },
		InterceptPrefix: "$ask",
		Intercept: func(c *Client, m *Message) bool {
			c.Reply(&Message{Topic: "$answer", Payload: m.Payload})
			return true
		},
	}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 60 {
				v := both[r.IntN(2)]
				k := lasting(v, fmt.Sprint("client-", r.IntN(2)))
				k.keep = r.IntN(3) > 0
				if r.IntN(2) == 0 {
					k.will = &lastWord{topic: "will", payload: "w", qos: 1, props: join(byte(pWillDelay), uint32(r.IntN(2)))}
				}
				conn, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				filter := []string{"t/#", "t/1", "$answer", "$share/g/t/+", "will"}[r.IntN(5)]
				conn.Write(k.packet(v))
				conn.Write(packet(0x82, uint16(1), (&raw{v: v}).props(nil), str(filter), 1))
				for i := range 5 {
					conn.Write(word{topic: "t/1", payload: "x", qos: 1, id: uint16(i + 1)}.packet(v))
					conn.Write(word{topic: "$ask", payload: "x", qos: 1, id: uint16(i + 1)}.packet(v))
				}
				conn.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(5)) * time.Millisecond))
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		})
	}
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := h.b.Publish(t.Context(), &Message{Topic: "t/1", Payload: []byte("s"), QoS: 1}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	h.gone(0)
	until(t, func() bool { mu.Lock(); defer mu.Unlock(); return connected >= 100 })
	close(stop)
	wg.Wait()
	h.gone(0)
	// Each id can still be had, cleanly, and nothing is left over.
	for i := range 2 {
		h.in(V311, fmt.Sprint("client-", i)).leave()
	}
	h.gone(0)
	if s := h.b.Stats(); s.Sessions != 0 || s.Subscriptions != 0 || h.b.held.Load() != 0 {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	if connected != disconnected {
		t.Errorf("%d connected, %d disconnected", connected, disconnected)
	}
	mu.Unlock()
	h.stop()
	if store.Len() != 0 {
		t.Errorf("%d entries are left", store.Len())
	}
}

// All queues together have a bound too, and what they hold is accounted for to the byte.
func TestQueuesTogetherAreBounded(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprint("stored ", stored), func(t *testing.T) {
			o := Options{Limits: Limits{Held: 100_000}}
			if stored {
				o.Sessions = &MemoryStore{}
			}
			h := open(t, o)
			const clients = 20
			for i := range clients {
				c, _ := h.connect(V311, lasting(V311, fmt.Sprint("c", i)))
				c.subscribe(1, "t")
				c.leave()
			}
			h.gone(0)
			for range 50 {
				if err := h.b.Publish(t.Context(), &Message{Topic: "t", Payload: make([]byte, 1000), QoS: 1}); err != nil {
					t.Fatal(err)
				}
				if n := h.b.held.Load(); n > 100_000 {
					t.Fatalf("%d bytes held", n)
				}
			}
			until(t, func() bool { return !stored || h.b.held.Load() == 0 }) // what is stored is not in memory
			got := 0
			for i := range clients {
				c, _ := h.connect(V311, lasting(V311, fmt.Sprint("c", i)))
				c.send([]byte{0xC0, 0})
				for {
					first, body := c.read()
					if first == 0xD0 {
						break
					}
					w, _ := parseWord(first, body, V311)
					c.send(packet(0x40, w.id))
					got++
				}
				c.leave()
			}
			h.gone(0)
			if stored && got != clients*50 || !stored && (got < 50 || got > 100) {
				t.Errorf("%d messages came", got)
			}
			if n := h.b.held.Load(); n != 0 {
				t.Errorf("%d bytes are held for nobody", n)
			}
		})
	}
}
