// Package device is the least that can be a device: MQTT 3.1.1 or 5 over a connection, one goroutine, nothing hidden.
// Tests use it where thousands are needed, or where a client of good manners would not do what is to be tried.
package device

import (
	"encoding/binary"
	"fmt"
	"net"
)

// Packet types, as far as devices send and get them.
const (
	connect    = 1
	connack    = 2
	publish    = 3
	puback     = 4
	subscribe  = 8
	suback     = 9
	disconnect = 14
)

// Versions of the protocol.
const (
	V311 = 4
	V5   = 5
)

// A Conn is a device on a connection that is open. Its methods are for one goroutine.
type Conn struct {
	net.Conn
	Version byte

	buf  []byte
	r, w int
	out  []byte
	last uint16
}

// New makes a device of a connection.
func New(c net.Conn, version byte) *Conn {
	return &Conn{Conn: c, Version: version, buf: make([]byte, 1024)}
}

// A Packet is what has come. Topic and Payload are valid until the next packet is read.
type Packet struct {
	Kind    Kind
	QoS     byte
	Dup     bool
	ID      uint16
	Topic   []byte
	Payload []byte // of a message; of others, what follows the packet identifier
}

// Kind is what a packet is.
type Kind byte

// Kinds of packets that a server sends.
const (
	Connected  Kind = connack
	Message    Kind = publish
	Acked      Kind = puback
	Subscribed Kind = suback
	Dismissed  Kind = disconnect
)

// Hello connects. A session that lasts, for an hour, is kept when the connection ends; present says that there was one.
func (c *Conn) Hello(id string, lasting bool) (present bool, err error) {
	flags := byte(2) // clean
	if lasting {
		flags = 0
	}
	body := append(text(nil, "MQTT"), c.Version, flags, 0, 0) // no keep-alive
	if c.Version == V5 {
		if lasting {
			body = append(body, 5, 0x11, 0, 0, 0x0E, 0x10)
		} else {
			body = append(body, 0)
		}
	}
	if err := c.send(connect<<4, text(body, id)); err != nil {
		return false, err
	}
	p, err := c.Next()
	switch {
	case err != nil:
		return false, err
	case p.Kind != Connected || len(p.Payload) < 2 || p.Payload[1] != 0:
		return false, fmt.Errorf("%s is not let in: packet %d %x", id, p.Kind, p.Payload)
	}
	return p.Payload[0] == 1, nil
}

// Subscribe subscribes filters with QoS 1 and waits for the grant. Messages that come meanwhile are given to meanwhile.
func (c *Conn) Subscribe(meanwhile func(Packet) error, filters ...string) error {
	c.last++
	body := binary.BigEndian.AppendUint16(nil, c.last)
	if c.Version == V5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = append(text(body, f), 1)
	}
	if err := c.send(subscribe<<4|2, body); err != nil {
		return err
	}
	for {
		p, err := c.Next()
		if err != nil {
			return err
		}
		if p.Kind == Message && meanwhile != nil {
			if err := meanwhile(p); err != nil {
				return err
			}
			continue
		}
		if p.Kind != Subscribed {
			return fmt.Errorf("packet %d instead of a grant: %x", p.Kind, p.Payload)
		}
		granted := p.Payload[min(len(p.Payload), max(0, len(p.Payload)-len(filters))):]
		for i, f := range filters {
			if i >= len(granted) || granted[i] > 1 {
				return fmt.Errorf("%s is not granted: %x", f, p.Payload)
			}
		}
		return nil
	}
}

// Publish sends a message with QoS 1 and returns its packet identifier.
func (c *Conn) Publish(topic string, payload []byte) (id uint16, err error) {
	if c.last++; c.last == 0 {
		c.last = 1
	}
	size := 2 + len(topic) + 2 + len(payload)
	if c.Version == V5 {
		size++
	}
	c.out = text(length(append(c.out[:0], publish<<4|2), size), topic)
	c.out = binary.BigEndian.AppendUint16(c.out, c.last)
	if c.Version == V5 {
		c.out = append(c.out, 0)
	}
	c.out = append(c.out, payload...)
	_, err = c.Write(c.out)
	return c.last, err
}

// Ack acknowledges a message, if it asks for that.
func (c *Conn) Ack(p Packet) error {
	if p.Kind != Message || p.QoS == 0 {
		return nil
	}
	_, err := c.Write([]byte{puback << 4, 2, byte(p.ID >> 8), byte(p.ID)})
	return err
}

// Goodbye says that the device goes, and closes.
func (c *Conn) Goodbye() {
	c.send(disconnect<<4, nil) // whether it arrives is all the same
	c.Close()
}

// Reset ends the connection at once, and leaves nothing of it behind in the kernel.
func (c *Conn) Reset() { Reset(c.Conn) }

// Reset ends a connection of TCP, or of TLS over it, without a word.
func Reset(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// Next is the next packet.
func (c *Conn) Next() (Packet, error) {
	for {
		head, size, ok := header(c.buf[c.r:c.w])
		if ok && c.w-c.r >= head+size {
			first, body := c.buf[c.r], c.buf[c.r+head:c.r+head+size]
			c.r += head + size
			return c.read(first, body)
		}
		if ok && head+size > len(c.buf) {
			c.buf = append(c.buf, make([]byte, head+size)...)
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		n, err := c.Read(c.buf[c.w:])
		if c.w += n; n == 0 && err != nil {
			return Packet{}, err
		}
	}
}

func (c *Conn) read(first byte, body []byte) (Packet, error) {
	p := Packet{Kind: Kind(first >> 4), Payload: body}
	cut := func(n int) []byte {
		if n > len(body) {
			return nil
		}
		piece := body[:n]
		body = body[n:]
		return piece
	}
	number := func() (n uint16, ok bool) {
		b := cut(2)
		if b == nil {
			return 0, false
		}
		return binary.BigEndian.Uint16(b), true
	}
	switch p.Kind {
	case Message:
		p.QoS, p.Dup = first>>1&3, first&8 != 0
		n, ok := number()
		if ok {
			p.Topic = cut(int(n))
			ok = p.Topic != nil
		}
		if ok && p.QoS > 0 {
			p.ID, ok = number()
		}
		if ok && c.Version == V5 {
			var props [5]byte // as if they were what follows a fixed header
			head, size, known := header(props[:1+copy(props[1:], body)])
			ok = known && cut(head-1+size) != nil
		}
		if !ok {
			return p, fmt.Errorf("malformed message: %x", p.Payload)
		}
		p.Payload = body
	case Acked, Subscribed:
		id, ok := number()
		if !ok {
			return p, fmt.Errorf("malformed packet %d: %x", p.Kind, p.Payload)
		}
		p.ID, p.Payload = id, body
	}
	return p, nil
}

func (c *Conn) send(first byte, body []byte) error {
	c.out = append(length(append(c.out[:0], first), len(body)), body...)
	_, err := c.Write(c.out)
	return err
}

// header reads a fixed header: its own length, and that of what follows.
func header(b []byte) (head, size int, ok bool) {
	for i := 1; i < len(b) && i < 5; i++ {
		if size |= int(b[i]&0x7F) << (7 * (i - 1)); b[i] < 0x80 {
			return i + 1, size, true
		}
	}
	return 0, 0, false
}

func length(b []byte, n int) []byte {
	for ; n > 0x7F; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
