package broker

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A Client is one connection, from its CONNECT to its end. The exported fields do not change.
type Client struct {
	ID       string
	Version  byte // V311 or V5
	Identity any  // what Hooks.Connect returned
	Remote   net.Addr

	b         *Broker
	s         *session
	conn      net.Conn
	will      *will
	rates     *rates
	window    int           // QoS 1 messages under way to it
	maxPacket int           // bytes it takes
	aliasMax  int           // topic aliases it takes
	reasons   bool          // wants reason strings
	keepAlive time.Duration // the interval that holds

	// The connection's goroutine only.
	buf       []byte
	r, w      int
	idle      []byte // the small buffer, while buf is a larger one
	topic     string // of the last publish
	aliases   []string
	heard     bool      // a packet has come since the deadline was set
	readBy    time.Time // the deadline set
	sessionUp bool      // asked for a session that outlives the connection
	normal    bool      // said goodbye

	// Guarded by s.mu once there is a session.
	out      []byte // to be written
	held     []byte // to be written after the answers that are being made
	reply    []byte // those answers
	writing  bool   // somebody is writing
	lagging  bool   // it was logged that messages to it are dropped
	inWrite  int    // bytes of that
	ready    bool   // CONNACK is out or in out
	hold     bool   // what others send goes to held
	replying bool
	closing  bool // nothing more is to be sent
	broken   bool // nothing can be
	code     Code
	reason   string
	named    []string // topics by the alias told to the client, from 1
	drained  *sync.Cond
	writeBy  time.Time // deadline set
}

// ConnInfo tells of a connection what the broker cannot see.
type ConnInfo struct {
	TLS   *tls.ConnectionState // nil: none, or conn is a *tls.Conn and can be asked
	Value any                  // for Hooks.Connect: the listener, the WebSocket's HTTP request, ...
}

// outs recycles buffers of what is to be written.
var outs = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

func recycle(b []byte) {
	if cap(b) >= 512 && cap(b) <= 64<<10 {
		b = b[:0]
		outs.Put(&b)
	}
}

// sink is where the next packet goes. s.mu is held, here and below.
func (c *Client) sink() *[]byte {
	p := &c.out
	switch {
	case c.hold && c.replying:
		p = &c.reply
	case c.hold:
		p = &c.held
	}
	if *p == nil {
		*p = *outs.Get().(*[]byte)
	}
	return p
}

// lag counts a message that its client had no room for. The first one is logged.
func (c *Client) lag() {
	c.b.dropped.Add(1)
	if !c.lagging {
		c.lagging = true
		c.b.log.Warn("a client does not keep up; messages to it are dropped", "client", c.ID, "remote", c.Remote, "unwritten", c.pending(), "queued", c.s.bytes)
	}
}

// pending is how many bytes wait for the socket.
func (c *Client) pending() int { return len(c.out) + len(c.held) + len(c.reply) + c.inWrite }

// emit appends o, unless the client does not take it: too large, or not allowed.
func (c *Client) emit(o *outgoing) bool {
	if c.closing {
		return false
	}
	if deliver := c.b.hooks.Deliver; deliver != nil && !o.answer && !deliver(c, o.m.Topic) {
		return false
	}
	if c.Version == V5 {
		if !o.m.Expires.IsZero() {
			var ok bool
			if o.expiry, ok = left(o.m.Expires, c.b.now()); !ok {
				return false
			}
		}
		fresh := c.alias(o)
		if o.size(V5) > c.maxPacket { // [MQTT-3.1.2-24]
			return false
		}
		if fresh {
			c.named = append(c.named, o.topic)
		}
	} else {
		o.ids = nil
	}
	p := c.sink()
	*p = o.append(*p, c.Version)
	return true
}

// alias lets an alias stand for o's topic if it has one, or gives it one; fresh says that the client has yet
// to be told. Answers have none: their place among what is held is not known yet. [MQTT-3.1.2-26] [MQTT-3.1.2-27]
// [MQTT-3.3.2-11]
func (c *Client) alias(o *outgoing) (fresh bool) {
	if c.aliasMax == 0 || c.replying {
		return false
	}
	for i, t := range c.named {
		if t == o.topic {
			o.topic, o.alias = "", uint16(i+1)
			return false
		}
	}
	if len(c.named) < c.aliasMax {
		o.alias = uint16(len(c.named) + 1)
		return true
	}
	return false
}

// wake sees to it that what is in out gets written, without waiting for that.
func (c *Client) wake() {
	if len(c.out) > 0 && !c.writing {
		c.writing = true
		go c.drain()
	}
}

// drain is the writer on demand.
func (c *Client) drain() {
	c.s.mu.Lock()
	c.write()
	c.s.mu.Unlock()
}

// write writes out until it is empty. c.writing is true; s.mu is released while the socket is busy.
func (c *Client) write() {
	for len(c.out) > 0 && !c.broken {
		buf := c.out
		c.out, c.inWrite = nil, len(buf)
		c.extend()
		c.s.mu.Unlock()
		_, err := c.conn.Write(buf)
		recycle(buf)
		c.s.mu.Lock()
		c.inWrite = 0
		if err != nil {
			if !c.closing && errors.Is(err, os.ErrDeadlineExceeded) {
				c.b.slow.Add(1)
				c.b.log.Warn("a client does not read; its connection is ended", "client", c.ID, "remote", c.Remote, "within", c.b.limits.WriteTimeout, "unwritten", len(buf)+c.pending())
			}
			c.broken, c.closing = true, true
			break
		}
		if len(c.s.waiting) > 0 && c.s.client == c {
			c.s.pump()
		}
		if c.drained != nil {
			c.drained.Broadcast()
		}
	}
	if c.broken {
		c.out, c.held, c.reply = nil, nil, nil
	}
	if c.closing {
		c.s.mu.Unlock()
		c.conn.Close() // of TLS it writes, and may take its time
		c.s.mu.Lock()
	}
	c.writing = false
	if c.drained != nil {
		c.drained.Broadcast()
	}
}

// extend gives the socket time to take what is written next. The deadline is moved when half of it is used up.
func (c *Client) extend() {
	now, limit := c.b.now(), c.b.limits.WriteTimeout
	if c.writeBy.Sub(now) < limit/2 {
		c.writeBy = now.Add(limit)
		c.conn.SetWriteDeadline(c.writeBy)
	}
}

// flush writes what the connection's goroutine has gathered. If somebody is writing, that one does it, and
// flush waits only when much is pending: a client that does not read is not read from.
// It reports whether the connection is still good.
func (c *Client) flush() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.out) > 0 && !c.writing {
		c.writing = true
		c.write()
	}
	for c.writing && c.pending() > c.b.limits.Buffer {
		if c.drained == nil {
			c.drained = sync.NewCond(&c.s.mu)
		}
		c.drained.Wait()
	}
	return !c.closing
}

// shut ends the connection with a reason, once what is pending is written. [MQTT-4.13.1-1] [MQTT-4.13.2-1]
// [MQTT3-4.8.0-1] [MQTT-3.14.4-2]. A 3.1.1 client is not told. s.mu is held.
func (c *Client) shut(code Code, reason string) {
	if c.closing {
		return
	}
	c.closing = true // [MQTT-3.14.4-1]: nothing after the DISCONNECT
	c.code, c.reason = code, reason
	if c.hold {
		c.release()
	}
	if c.Version == V5 && c.ready && !c.normal { // [MQTT-3.14.0-1]: not before the CONNACK
		if !c.reasons || len(reason)+8 > c.maxPacket {
			reason = "" // [MQTT-3.14.2-3]; and no user property [MQTT-3.14.2-4]
		}
		if c.out == nil {
			c.out = *outs.Get().(*[]byte)
		}
		c.out = appendDisconnect(c.out, code, reason) // [MQTT-3.14.2-1], without a session expiry [MQTT-3.14.2-2]
	}
	// A client that does not take its goodbye must not keep the one that follows waiting.
	c.conn.SetWriteDeadline(c.b.now().Add(goodbye))
	c.writeBy = c.b.now().Add(c.b.limits.WriteTimeout)
	switch {
	case c.writing:
	case len(c.out) > 0:
		c.wake()
	default:
		go c.conn.Close()
	}
}

// goodbye is how long the last packets may take.
const goodbye = 2 * time.Second

// release puts the answers that were made and what was held behind them to what is written next.
func (c *Client) release() {
	c.hold, c.replying = false, false
	for _, p := range []*[]byte{&c.reply, &c.held} {
		if *p == nil {
			continue
		}
		if c.out == nil {
			c.out = *p
		} else {
			c.out = append(c.out, *p...)
			recycle(*p)
		}
		*p = nil
	}
}

// Reply sends m to this client, subscribed or not, and to nobody else: with QoS 1 and its subscription
// identifiers if it subscribes a matching filter, else with QoS 0. Called from Hooks.Intercept it goes out with the
// PUBACK of the request, and before whatever others send the client meanwhile. It may be called from elsewhere, and
// later. If the connection is gone the message waits for the client's next if it subscribes it with QoS 1, and is
// dropped otherwise. m must not be changed afterwards.
func (c *Client) Reply(m *Message) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return
	}
	qos, ids, _ := s.granted(m.Topic)
	if s.client != c || c.closing {
		if qos > 0 {
			s.give(m, 1, false, ids, nil, true)
		}
		return
	}
	c.replying = true
	if qos == 0 {
		o := outgoing{m: m, topic: m.Topic, ids: ids, answer: true}
		if c.pending() > 2*s.b.limits.Buffer {
			c.lag()
		} else if !c.emit(&o) {
			s.b.dropped.Add(1)
		}
	} else {
		m.own()
		if s.push(element{m: m, ids: ids, answer: true, size: int32(m.weight())}) {
			s.pump()
		}
	}
	c.replying = false
	if !c.hold {
		c.wake()
	}
}

// Close ends the connection with a reason. An MQTT 5 client is told.
func (c *Client) Close(code Code, reason string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.shut(code, reason)
}
