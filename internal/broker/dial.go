package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// A Conn is the client's end of a connection, for who plays many devices in one process: it has no goroutine of its
// own, and at rest half a kilobyte of buffer. It speaks QoS 0 and 1. All methods but Interrupt are for one goroutine.
type Conn struct {
	conn        net.Conn
	version     byte
	keepAlive   time.Duration
	wrote       time.Time // when something was last sent
	unanswered  bool      // a PINGREQ is on its way
	id          uint16    // last one given to a packet
	buf         []byte
	r, w        int
	out         []byte
	interrupted atomic.Bool
}

// DialOptions say how a client introduces itself. Session state is never kept between connections.
type DialOptions struct {
	Version   byte // V311 (also if zero) or V5
	ClientID  string
	Username  string
	KeepAlive time.Duration // default 1200 s, the longest a server of AWS's kind grants
	Timeout   time.Duration // of the introduction; default 30 s
}

// An ArrivalKind says what Next returned.
type ArrivalKind byte

// What can arrive.
const (
	Arrived    ArrivalKind = iota // a message
	Acked                         // PUBACK
	Subscribed                    // SUBACK
)

// An Arrival is what came from the server. Topic and Payload are good until the next call.
type Arrival struct {
	Kind           ArrivalKind
	Topic, Payload []byte
	ID             uint16 // of what is acknowledged
	Code           Code   // 0x80 and above: it was refused; of several filters the worst
}

const (
	dialTimeout  = 30 * time.Second
	dialBuffer   = 512
	longestAlive = 1200 * time.Second
	// pingPatience is how long an answer to PINGREQ may take before the connection counts as dead.
	pingPatience = 20 * time.Second
)

// ErrInterrupted is returned by Next after Interrupt.
var ErrInterrupted = errors.New("interrupted")

// Dial introduces a client to the server at the other end of conn, and returns once it is accepted. A refusal is a
// *Refusal. On error conn is closed.
func Dial(conn net.Conn, o DialOptions) (_ *Conn, err error) {
	c := &Conn{conn: conn, version: cmp.Or(o.Version, V311), keepAlive: cmp.Or(o.KeepAlive, longestAlive), buf: make([]byte, dialBuffer)}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	end := time.Now().Add(cmp.Or(o.Timeout, dialTimeout))
	if err := conn.SetWriteDeadline(end); err != nil {
		return nil, err
	}
	c.out = c.appendConnect(c.out, o)
	first, body, err := c.packet(end)
	if err != nil {
		return nil, err
	}
	r := &reader{p: body}
	r.byte() // session present: there is none, it was asked to be clean
	code := Code(r.byte())
	var said told
	if c.version == V5 {
		said.read(r)
	} else if code != 0 {
		code = fromReturn(byte(code))
	}
	switch {
	case first != tConnack<<4 || r.bad != nil:
		return nil, malformed("no CONNACK")
	case code != Success:
		return nil, refuse(code, said.reason)
	case said.keepAlive > 0:
		c.keepAlive = time.Duration(said.keepAlive) * time.Second
	}
	return c, nil
}

func (c *Conn) appendConnect(b []byte, o DialOptions) []byte {
	flags, n := byte(2), 10+2+len(o.ClientID) // clean
	if c.version == V5 {
		n++
	}
	if o.Username != "" {
		flags |= 0x80
		n += 2 + len(o.Username)
	}
	b = appendVarint(append(b, tConnect<<4), n)
	b = append(appendText(b, "MQTT"), c.version, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(c.keepAlive/time.Second))
	if c.version == V5 {
		b = append(b, 0)
	}
	b = appendText(b, o.ClientID)
	if o.Username != "" {
		b = appendText(b, o.Username)
	}
	return b
}

// Subscribe asks for filters, all with one QoS, and returns the identifier that Subscribed will have. It is sent when Next is
// called, as is all else.
func (c *Conn) Subscribe(qos byte, filters ...string) uint16 {
	n := 2
	if c.version == V5 {
		n++
	}
	for _, f := range filters {
		n += 3 + len(f)
	}
	id := c.nextID()
	c.out = appendVarint(append(c.out, tSubscribe<<4|2), n)
	c.out = binary.BigEndian.AppendUint16(c.out, id)
	if c.version == V5 {
		c.out = append(c.out, 0)
	}
	for _, f := range filters {
		c.out = append(appendText(c.out, f), qos)
	}
	return id
}

// Publish sends a message with QoS 1 and returns the identifier that Acked will have.
func (c *Conn) Publish(topic string, payload []byte) uint16 {
	o := outgoing{m: &Message{Payload: payload}, topic: topic, id: c.nextID(), qos: 1}
	c.out = o.append(c.out, c.version)
	return o.id
}

func (c *Conn) nextID() uint16 {
	if c.id++; c.id == 0 {
		c.id = 1
	}
	return c.id
}

// Next sends what there is to send and returns what comes next, or os.ErrDeadlineExceeded once nothing came until the
// given time. Messages of QoS 1 are acknowledged; the connection is kept alive as long as somebody is in Next.
func (c *Conn) Next(until time.Time) (Arrival, error) {
	for {
		first, body, err := c.packet(until)
		if err != nil {
			return Arrival{}, err
		}
		r := &reader{p: body}
		switch first >> 4 {
		case tPublish:
			a := Arrival{Kind: Arrived, Topic: r.binary()}
			var id uint16
			if first>>1&3 > 0 {
				id = r.packetID()
			}
			if c.version == V5 {
				new(told).read(r)
			}
			if r.bad != nil {
				return a, r.bad
			}
			if id != 0 {
				c.out = appendAck(c.out, c.version, id, Success, "")
			}
			a.Payload = r.p
			return a, nil
		case tPuback:
			a := Arrival{Kind: Acked, ID: r.packetID()}
			if c.version == V5 && len(r.p) > 0 {
				a.Code = Code(r.byte())
			}
			return a, r.badOrNil()
		case tSuback:
			a := Arrival{Kind: Subscribed, ID: r.packetID()}
			if c.version == V5 {
				new(told).read(r)
			}
			for _, code := range r.p {
				a.Code = max(a.Code, Code(code))
			}
			return a, r.badOrNil()
		case tPingresp:
			c.unanswered = false
		case tDisconnect:
			var code Code
			var said told
			if len(r.p) > 0 {
				if code = Code(r.byte()); len(r.p) > 0 {
					said.read(r)
				}
			}
			return Arrival{}, refuse(code, cmp.Or(said.reason, "the server ends the connection"))
		default:
			return Arrival{}, violation("a server sends no such packet")
		}
	}
}

// badOrNil is the error without a type, so that none is nil.
func (r *reader) badOrNil() error {
	if r.bad != nil {
		return r.bad
	}
	return nil
}

// packet returns the next packet: its first byte, and what follows its header.
func (c *Conn) packet(until time.Time) (first byte, body []byte, err error) {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if len(c.buf) > dialBuffer {
			c.buf = make([]byte, dialBuffer)
		}
	}
	for {
		size, remaining, bad := header(c.buf[c.r:c.w], c.version)
		if bad != nil {
			return 0, nil, bad
		}
		if size > 0 && c.w-c.r >= size+remaining {
			first, body = c.buf[c.r], c.buf[c.r+size:c.r+size+remaining]
			c.r += size + remaining
			return first, body, nil
		}
		c.room(max(size+remaining, 8))
		if err := c.fill(until); err != nil {
			return 0, nil, err
		}
	}
}

// room sees to it that a packet of n bytes fits.
func (c *Conn) room(n int) {
	switch {
	case c.r == 0 && n <= len(c.buf):
	case n <= len(c.buf):
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	default:
		b := make([]byte, n)
		c.w = copy(b, c.buf[c.r:c.w])
		c.buf, c.r = b, 0
	}
}

// fill reads what is there, pinging as long as nothing is.
func (c *Conn) fill(until time.Time) error {
	for {
		if err := c.flush(); err != nil {
			return err
		}
		ping := c.wrote.Add(c.keepAlive)
		if c.unanswered {
			ping = c.wrote.Add(pingPatience)
		}
		by := until
		if ping.Before(by) {
			by = ping
		}
		if err := c.conn.SetReadDeadline(by); err != nil {
			return err
		}
		if c.interrupted.Load() {
			return ErrInterrupted
		}
		n, err := c.conn.Read(c.buf[c.w:])
		c.w += n
		switch {
		case n > 0:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.interrupted.Load():
			return ErrInterrupted
		}
		now := time.Now()
		switch {
		case !now.Before(until):
			return os.ErrDeadlineExceeded
		case !now.Before(ping) && c.unanswered:
			return errors.New("the server does not answer pings")
		case !now.Before(ping):
			c.out = append(c.out, tPingreq<<4, 0)
			c.unanswered = true
		}
	}
}

func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.wrote = time.Now()
	if err := c.conn.SetWriteDeadline(c.wrote.Add(dialTimeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > dialBuffer {
		c.out = nil
	}
	return err
}

// Interrupt lets Next return ErrInterrupted, now and for ever. Any goroutine may call it.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // a closed connection has returned already
}

// Close says goodbye and closes the connection.
func (c *Conn) Close() error {
	c.out = append(c.out, tDisconnect<<4, 0)
	return errors.Join(c.flush(), c.conn.Close())
}

// Drop closes the connection without a word, as a device does whose power is cut.
func (c *Conn) Drop() error { return c.conn.Close() }

// told is what matters to a client of the properties that a server sends.
type told struct {
	keepAlive uint16
	reason    string
}

func (t *told) read(r *reader) {
	q := reader{p: r.take(int(r.varint()))}
	for q.bad == nil && r.bad == nil && len(q.p) > 0 {
		switch q.varint() {
		case pPayloadFormat, pRequestProblem, pRequestResponse, pMaximumQoS, pRetainAvailable, pWildcardAvailable, pSubIDAvailable, pShareAvailable:
			q.byte()
		case pServerKeepAlive:
			t.keepAlive = q.uint16()
		case pReceiveMaximum, pTopicAliasMax, pTopicAlias:
			q.uint16()
		case pMessageExpiry, pSessionExpiry, pWillDelay, pMaximumPacket:
			q.uint32()
		case pSubscriptionID:
			q.varint()
		case pReasonString:
			t.reason = q.text()
		case pContentType, pResponseTopic, pCorrelationData, pAssignedID, pAuthMethod, pAuthData, pResponseInfo, pServerReference:
			q.binary()
		case pUser:
			q.binary()
			q.binary()
		default:
			q.fail(malformed("unknown property"))
		}
	}
	if q.bad != nil {
		r.fail(q.bad)
	}
}

// fromReturn is the reason code of a 3.1.1 return code.
func fromReturn(b byte) Code {
	switch b {
	case 1:
		return UnsupportedVersion
	case 2:
		return ClientIDNotValid
	case 3:
		return ServerUnavailable
	case 4:
		return BadCredentials
	}
	return NotAuthorized
}
