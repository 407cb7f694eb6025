package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	smallBuffer = 1 << 10
	largeBuffer = 16 << 10
)

// larges recycles the read buffers of connections that have much to say at once.
var larges = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

var errGone = errors.New("connection closed")

// serve is the life of a connection. It returns when the connection is closed and its session told.
func (c *Client) serve(info ConnInfo) {
	b := c.b
	defer c.free()
	now := b.now()
	c.conn.SetDeadline(now.Add(b.limits.ConnectTimeout))
	if t, ok := c.conn.(*tls.Conn); ok && info.TLS == nil {
		if err := t.Handshake(); err != nil {
			b.log.Debug("no TLS connection", "remote", c.Remote, "error", err)
			return
		}
		state := t.ConnectionState()
		info.TLS = &state
	}
	first, body, err := c.packet() // [MQTT-3.1.0-1] [MQTT3-3.1.0-1]: CONNECT first
	if err != nil {
		b.log.Debug("no CONNECT", "remote", c.Remote, "error", err)
		return
	}
	if first != tConnect<<4 {
		b.log.Debug("no CONNECT", "remote", c.Remote, "packet", first>>4)
		return
	}
	if bad := c.onConnect(body, info); bad != nil {
		b.log.Debug("connection refused", "remote", c.Remote, "client", c.ID, "error", bad)
		return
	}
	info = ConnInfo{}
	c.conn.SetReadDeadline(time.Time{})
	c.heard, c.readBy = true, time.Time{}
	c.flush()
	if b.hooks.Connected != nil {
		b.hooks.Connected(c)
	}
	err = c.loop()
	c.finish(err)
}

// loop handles packets until something ends the connection.
func (c *Client) loop() error {
	for {
		first, body, err := c.packet()
		if err != nil {
			return err
		}
		if bad := c.handle(first, body); bad != nil {
			return bad
		}
		if c.normal {
			return nil
		}
	}
}

// packet returns the next packet's first byte and what follows its fixed header, valid until the next call.
// Before it waits for more it writes what there is to write.
func (c *Client) packet() (first byte, body []byte, err error) {
	for {
		n, remaining, bad := header(c.buf[c.r:c.w], c.Version)
		if bad != nil {
			return 0, nil, bad
		}
		if n > 0 {
			if n+remaining > c.b.limits.Packet {
				return 0, nil, refuse(PacketTooLarge, "packet is larger than the maximum") // [MQTT-3.2.2-15] binds the client
			}
			if c.w-c.r >= n+remaining {
				first, body = c.buf[c.r], c.buf[c.r+n:c.r+n+remaining]
				c.r += n + remaining
				c.heard = true
				if bad := checkFlags(first); bad != nil {
					return 0, nil, bad
				}
				return first, body, nil
			}
		}
		if c.s != nil && !c.flush() {
			return 0, nil, errGone
		}
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads at least one more byte. The buffer grows with what has come, not with what was announced, and
// shrinks when all is used up.
func (c *Client) fill() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		if c.idle != nil {
			c.shrink()
		}
	case c.w == len(c.buf) && c.idle != nil && c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	case c.w == len(c.buf):
		c.grow()
	}
	if c.s != nil && c.heard {
		c.heard = false
		// [MQTT-3.1.2-22] [MQTT3-3.1.2-24]: one and a half times the interval. The deadline is moved once a second at
		// most, so the connection ends up to a second later than that.
		now := c.b.now()
		if by := now.Add(c.keepAlive + c.keepAlive/2); by.After(c.readBy) {
			c.readBy = by.Add(time.Second)
			c.conn.SetReadDeadline(c.readBy)
		}
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.s != nil {
		return refuse(KeepAliveTimeout, "")
	}
	return err
}

func (c *Client) grow() {
	var b []byte
	if c.idle == nil {
		c.idle = c.buf
		b = *larges.Get().(*[]byte)
	} else {
		b = make([]byte, 2*len(c.buf))
	}
	c.w = copy(b, c.buf[c.r:c.w])
	c.r = 0
	if old := c.buf; len(old) == largeBuffer {
		larges.Put(&old)
	}
	c.buf = b
}

func (c *Client) shrink() {
	if len(c.buf) == largeBuffer {
		b := c.buf
		larges.Put(&b)
	}
	c.buf, c.idle = c.idle, nil
}

// handle obeys one packet.
func (c *Client) handle(first byte, body []byte) *Refusal {
	switch first >> 4 {
	case tPublish:
		return c.onPublish(first, body)
	case tPuback:
		id, _, bad := decodeAck(body, c.Version)
		if bad == nil {
			c.s.acked(c, id)
		}
		return bad
	case tPingreq:
		if len(body) > 0 {
			return malformed("PINGREQ has no body")
		}
		c.s.mu.Lock()
		if !c.closing {
			p := c.sink()
			*p = append(*p, tPingresp<<4, 0) // [MQTT-3.12.4-1] [MQTT3-3.12.4-1]
		}
		c.s.mu.Unlock()
		return nil
	case tSubscribe:
		return c.onSubscribe(body)
	case tUnsubscribe:
		return c.onUnsubscribe(body)
	case tDisconnect:
		return c.onDisconnect(body)
	case tConnect:
		return violation("a second CONNECT") // [MQTT-3.1.0-2] [MQTT3-3.1.0-2]
	case tPubrec, tPubrel, tPubcomp:
		return violation("QoS 2 was never under way")
	case tAuth:
		return violation("AUTH without an authentication method")
	}
	return violation("packet is not for servers")
}

// onDisconnect lets the client go.
func (c *Client) onDisconnect(body []byte) *Refusal {
	code, dp, bad := decodeDisconnect(body, c.Version)
	if bad != nil {
		return bad
	}
	if dp.has(pSessionExpiry) {
		if !c.sessionUp && dp.sessionExpiry != 0 {
			return violation("session expiry begins with CONNECT") // MQTT 5, 3.14.2.2.2
		}
		c.s.mu.Lock()
		if c.s.client == c {
			c.s.expiry = c.b.limits.expiry(dp.sessionExpiry)
		}
		c.s.mu.Unlock()
	}
	c.s.mu.Lock()
	if code == Success {
		c.will = nil // [MQTT-3.14.4-3] [MQTT-3.1.2-10] [MQTT3-3.14.4-3] [MQTT3-3.1.2-10]
	}
	c.code, c.normal = code, true
	c.s.mu.Unlock()
	return nil
}

// finish ends the connection and tells the session and the hooks.
func (c *Client) finish(err error) {
	var bad *Refusal
	c.s.mu.Lock()
	by := c.closing && c.code != 0 // ended by the server before now
	cut := false
	switch {
	case c.normal:
		c.shut(c.code, "")
		by = false
	case errors.As(err, &bad):
		c.shut(bad.Code, bad.Reason)
		by = true
	case !c.closing:
		c.closing, c.code, cut = true, UnspecifiedError, true
	}
	code, reason := c.code, c.reason
	c.s.mu.Unlock()
	if cut {
		c.conn.Close()
	}
	if bad != nil {
		c.b.log.Debug("connection ended", "client", c.ID, "remote", c.Remote, "error", bad)
	}
	c.await()
	c.b.leave(c)
	if c.b.hooks.Disconnected != nil {
		c.b.hooks.Disconnected(c, Ended{ByClient: c.normal, ByServer: by, Code: code, Reason: reason})
	}
}

// await waits for the last packets to be written.
func (c *Client) await() {
	c.s.mu.Lock()
	for c.writing {
		if c.drained == nil {
			c.drained = sync.NewCond(&c.s.mu)
		}
		c.drained.Wait()
	}
	c.s.mu.Unlock()
	c.conn.Close()
}

// free gives the buffers back.
func (c *Client) free() {
	c.conn.Close()
	if c.idle != nil {
		c.shrink()
	}
	c.buf, c.aliases = nil, nil
	c.b.forget(c)
}

// Ended says how a connection came to its end.
type Ended struct {
	ByClient bool // with a DISCONNECT
	ByServer bool // for the reason that Code gives
	Code     Code // of the DISCONNECT, sent or received; UnspecifiedError when the connection broke
	Reason   string
}

// remote is the address of the other end.
func remote(conn net.Conn) net.Addr {
	if a := conn.RemoteAddr(); a != nil {
		return a
	}
	return &net.TCPAddr{}
}
