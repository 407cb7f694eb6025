package broker

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// In a bubble one packet is under way at a time, and time passes when everybody waits.

func TestWill(t *testing.T) {
	sec := func(n uint32) []byte { return join(byte(pWillDelay), n) }
	for _, x := range []struct {
		name   string
		v      byte
		expiry uint32
		delay  uint32
		end    []byte // what the client says at last; nil: it just goes
		after  time.Duration
		none   bool
	}{
		{"cut", V311, 0, 0, nil, 0, false},                                                        // [MQTT3-3.1.2-8]
		{"goodbye", V311, 0, 0, []byte{0xE0, 0}, 0, true},                                         // [MQTT3-3.1.2-10]
		{"cut", V5, 0, 0, nil, 0, false},                                                          // [MQTT-3.1.2-7]
		{"goodbye", V5, 0, 0, []byte{0xE0, 0}, 0, true},                                           // [MQTT-3.14.4-3]
		{"goodbye with will", V5, 0, 0, []byte{0xE0, 1, 4}, 0, false},                             //
		{"broken packet", V5, 0, 0, []byte{0xC1, 0}, 0, false},                                    //
		{"delay, but the session ends", V5, 0, 10, nil, 0, false},                                 // [MQTT-3.1.3-9]
		{"delay", V5, 600, 10, nil, 10 * time.Second, false},                                      //
		{"delay longer than the session", V5, 20, 30, nil, 20 * time.Second, false},               //
		{"delay as long as the session", V5, 20, 20, nil, 20 * time.Second, false},                //
		{"delay and goodbye with will", V5, 600, 10, []byte{0xE0, 1, 4}, 10 * time.Second, false}, //
		{"delay and goodbye", V5, 600, 10, []byte{0xE0, 0}, 0, true},                              //
		{"silence", V5, 0, 0, []byte{}, 90*time.Second + time.Second, false},                      // [MQTT-3.1.2-22]
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := bubble(t, Options{})
				defer h.stop()
				watch := h.in(V5, "watch")
				watch.subscribe(1, "#")
				k := call{id: "a", keepAlive: 60, will: &lastWord{topic: "w", payload: "gone", qos: 1}}
				if x.v == V5 {
					k.props = join(byte(pSessionExpiry), x.expiry)
					k.will.props = join(sec(x.delay), byte(pContentType), str("text"), byte(pMessageExpiry), uint32(9))
				}
				a, _ := h.connect(x.v, k)
				start := time.Now()
				switch {
				case x.end == nil:
					a.conn.Close()
				case len(x.end) > 0:
					go a.conn.Write(x.end)
				}
				go func() {
					for {
						if _, _, err := a.next(); err != nil {
							return
						}
					}
				}()
				if x.none {
					pass(30 * time.Second)
					watch.quiet()
					return
				}
				w := watch.hear()
				if w.topic != "w" || w.payload != "gone" || w.qos != 1 || w.retain {
					t.Fatalf("%+v", w)
				}
				if props := join(byte(pMessageExpiry), uint32(9), byte(pContentType), str("text")); x.v == V5 && !bytes.Equal(w.props, props) {
					t.Fatalf("% x", w.props)
				}
				if took := time.Since(start); took < x.after || took > x.after+time.Second {
					t.Fatalf("after %v, want %v", took, x.after)
				}
				watch.quiet()
			})
		})
	}
}

func TestWillAndTheNextConnection(t *testing.T) {
	for _, x := range []struct {
		name  string
		v     byte
		delay uint32
		next  call
		cut   bool // the first connection is cut before the next is made
		want  bool
	}{
		{"taken over", V311, 0, call{id: "a", keep: true}, false, true},
		{"taken over", V5, 0, lasting(V5, "a"), false, true},
		{"taken over before the delay", V5, 10, lasting(V5, "a"), false, false}, // [MQTT-3.1.3-9]
		{"back before the delay", V5, 10, lasting(V5, "a"), true, false},        // [MQTT-3.1.3-9]
		{"clean start before the delay", V5, 10, call{id: "a"}, true, true},
		{"taken over by a clean start", V5, 10, call{id: "a"}, false, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := bubble(t, Options{})
				defer h.stop()
				watch := h.in(V5, "watch")
				watch.subscribe(1, "w")
				k := lasting(x.v, "a")
				k.will = &lastWord{topic: "w", payload: "gone", props: join(byte(pWillDelay), x.delay)}
				a, _ := h.connect(x.v, k)
				if x.cut {
					a.conn.Close()
					synctest.Wait()
				} else {
					go a.next()
				}
				again, _ := h.connect(x.v, x.next)
				if x.want {
					if w := watch.hear(); w.payload != "gone" {
						t.Fatalf("%+v", w)
					}
				}
				pass(20 * time.Second)
				watch.quiet()
				again.quiet()
			})
		})
	}
}

// A will that waits, and one of a connection that dies with the server, are published by the next server.
func TestWillOutlivesTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &MemoryStore{}
		h := bubble(t, Options{Sessions: store})
		k := lasting(V5, "a")
		k.will = &lastWord{topic: "w", payload: "gone", props: join(byte(pWillDelay), uint32(100))}
		a, _ := h.connect(V5, k)
		pass(10 * time.Second)
		a.conn.Close()
		pass(20 * time.Second)
		h.stop()
		h = bubble(t, Options{Sessions: store})
		defer h.stop()
		watch := h.in(V5, "watch")
		watch.subscribe(1, "w")
		start := time.Now()
		if w := watch.hear(); w.payload != "gone" {
			t.Fatalf("%+v", w)
		}
		if took := time.Since(start); took != 80*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	for _, x := range []struct {
		name  string
		v     byte
		asked uint16
		after time.Duration
	}{
		{"as asked", V311, 60, 90 * time.Second},
		{"short", V311, 2, 3 * time.Second}, // [MQTT3-3.1.2-24]
		{"none", V311, 0, 1800 * time.Second},
		{"long", V311, 5000, 1800 * time.Second},
		{"short", V5, 2, 45 * time.Second},
		{"none", V5, 0, 1800 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := bubble(t, Options{})
				defer h.stop()
				c, _ := h.connect(x.v, call{id: "a", keepAlive: x.asked})
				pass(x.after - time.Second)
				c.quiet()
				pass(x.after - time.Second)
				c.quiet()
				start := time.Now()
				c.expectEnd(KeepAliveTimeout)
				if took := time.Since(start); took < x.after || took > x.after+time.Second {
					t.Errorf("ended after %v, want %v", took, x.after)
				}
			})
		})
	}
	// Bytes are not packets: who dribbles is not alive.
	synctest.Test(t, func(t *testing.T) {
		h := bubble(t, Options{})
		defer h.stop()
		c, _ := h.connect(V311, call{id: "a", keepAlive: 60})
		start := time.Now()
		var dribble sync.WaitGroup
		defer dribble.Wait()
		dribble.Go(func() {
			for _, b := range (word{topic: "a", payload: "0123456789"}).packet(V311) {
				if _, err := c.conn.Write([]byte{b}); err != nil {
					return
				}
				pass(10 * time.Second)
			}
		})
		c.expectClosed()
		if took := time.Since(start); took > 91*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
	// Nor does a connection last that never says CONNECT.
	synctest.Test(t, func(t *testing.T) {
		h := bubble(t, Options{})
		defer h.stop()
		c := h.dial(V311)
		start := time.Now()
		c.expectClosed()
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestSessionExpiry(t *testing.T) {
	for _, x := range []struct {
		name   string
		v      byte
		limits Limits
		call   call
		away   time.Duration
		want   byte
	}{
		{"in time", V5, Limits{}, lasting(V5, "a"), 599 * time.Second, 1},
		{"too late", V5, Limits{}, lasting(V5, "a"), 601 * time.Second, 0},
		{"3.1.1 in time", V311, Limits{}, lasting(V311, "a"), 3599 * time.Second, 1},
		{"3.1.1 too late", V311, Limits{}, lasting(V311, "a"), 3601 * time.Second, 0},
		{"no end", V5, Limits{SessionExpiry: -1}, call{id: "a", keep: true, props: join(byte(pSessionExpiry), uint32(never))}, 10000 * time.Hour, 1},
		{"no end, capped", V5, Limits{}, call{id: "a", keep: true, props: join(byte(pSessionExpiry), uint32(never))}, 3601 * time.Second, 0},
		{"longest that ends", V5, Limits{SessionExpiry: -1}, call{id: "a", keep: true, props: join(byte(pSessionExpiry), uint32(never-1))}, 10000 * time.Hour, 1},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(x.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &MemoryStore{}
					h := bubble(t, Options{Limits: x.limits, Sessions: store})
					defer func() { h.stop() }()
					c, _ := h.connect(x.v, x.call)
					c.subscribe(1, "t")
					c.conn.Close()
					synctest.Wait()
					pass(x.away / 2)
					if restart {
						h.stop()
						h = bubble(t, Options{Limits: x.limits, Sessions: store})
					}
					pass(x.away / 2)
					if h.b.HasSubscriber("t") != (x.want == 1) {
						t.Error("subscription lasts otherwise than the session")
					}
					if _, body := h.connect(x.v, x.call); body[0] != x.want {
						t.Errorf("session present %d", body[0])
					}
				})
			})
		}
	}
}

func TestMessageExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bubble(t, Options{Sessions: &MemoryStore{}})
		defer h.stop()
		a, _ := h.connect(V5, lasting(V5, "a"))
		a.subscribe(1, "t")
		b := h.in(V5, "b")
		life := func(n uint32) []byte { return join(byte(pMessageExpiry), n) }
		b.say(word{topic: "t", payload: "at once", qos: 1, props: life(0)})
		if w := a.hear(); w.payload != "at once" || !bytes.Equal(w.props, life(0)) {
			t.Fatalf("%+v", w)
		}
		a.leave()
		synctest.Wait()
		b.say(word{topic: "t", payload: "short", qos: 1, props: life(5)})
		b.say(word{topic: "t", payload: "long", qos: 1, props: life(60)})
		b.say(word{topic: "t", payload: "longest", qos: 1, props: life(never)})
		b.say(word{topic: "r", payload: "short", retain: true, props: life(5)})
		b.say(word{topic: "r/r", payload: "long", retain: true, props: life(60)})
		b.quiet()
		pass(5500 * time.Millisecond)
		a, _ = h.connect(V5, lasting(V5, "a"))
		for _, want := range []struct {
			payload string
			left    uint32
		}{{"long", 55}, {"longest", 604800 - 5}} { // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
			if w := a.hear(); w.payload != want.payload || !bytes.Equal(w.props, life(want.left)) {
				t.Fatalf("%+v, want %+v", w, want)
			}
		}
		a.quiet()
		a.subscribe(1, "r/#")
		if w := a.hear(); w.payload != "long" || !bytes.Equal(w.props, life(55)) {
			t.Fatalf("%+v", w)
		}
		a.quiet()
		if n := h.b.Stats().Retained; n != 1 {
			t.Errorf("%d retained messages", n)
		}
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bubble(t, Options{Limits: Limits{PublishRate: 10, ConnectRate: 1}})
		defer h.stop()
		a := h.in(V5, "a")
		start := time.Now()
		for range 30 {
			a.say(word{topic: "t", qos: 1})
		}
		if took := time.Since(start); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("30 publishes at 10 a second, the first 10 at once: took %v", took)
		}
		a.leave()
		h.in(V5, "b")
		again := h.dial(V5)
		again.send(call{id: "b"}.packet(V5))
		if _, body := again.read(); Code(body[1]) != ConnectionRateExceeded {
			t.Errorf("% x", body)
		}
		pass(time.Second)
		h.dial(V5).send(call{id: "b"}.packet(V5))
	})
}

// A will is a publish like others: it may be a request, in the name of who has gone.
func TestWillIsIntercepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &MemoryStore{}
		asked := make(chan any, 3)
		o := Options{Sessions: store, Hooks: Hooks{
			Connect: func(_ context.Context, r *ConnectRequest) (any, error) { return "identity of " + r.ClientID, nil },
			Intercept: func(c *Client, m *Message) bool {
				c.Reply(&Message{Topic: "answer"})
				c.Close(AdministrativeAction, "")
				asked <- c.Identity
				return true
			},
		}}
		h := bubble(t, o)
		for _, delay := range []uint32{0, 10} {
			k := lasting(V5, "a")
			k.will = &lastWord{topic: "w", payload: "gone", props: join(byte(pWillDelay), delay)}
			a, _ := h.connect(V5, k)
			a.conn.Close()
			pass(time.Minute)
			if got := <-asked; got != "identity of a" {
				t.Errorf("%v", got)
			}
		}
		k := lasting(V5, "a")
		k.will = &lastWord{topic: "w", payload: "gone", props: join(byte(pWillDelay), uint32(100))}
		a, _ := h.connect(V5, k)
		a.conn.Close()
		synctest.Wait()
		h.stop()
		h = bubble(t, o)
		defer h.stop()
		pass(5 * time.Minute)
		if len(asked) > 0 {
			t.Errorf("asked for %v", <-asked)
		}
	})
}
