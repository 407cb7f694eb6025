package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// remoteConn is one connection of a Remote. One goroutine reads, one writes what others append.
type remoteConn struct {
	r       *Remote
	net     net.Conn
	in      *bufio.Reader
	version byte
	beat    time.Duration // how often the broker is asked whether it is there

	gone    chan struct{} // closed when the connection has ended and both goroutines have
	closing chan struct{} // closed when it ends
	endOnce sync.Once
	err     error // why it has ended; read after gone
	wake    chan struct{}
	running sync.WaitGroup

	// Guarded by Remote.mu.
	out       []byte
	asked     map[uint16]chan granted
	used      map[uint16]*parcel // identifiers of parcels that are flying or waiting to be sent again
	flying    map[uint16]*parcel
	quota     int // of QoS 1 messages that may fly besides
	maxPacket int
	maxQoS    byte
	last      uint16         // identifier
	pending   []*inquiry     // of QoS 1, in the order they came
	shared    bool           // subscriptions are
	deaf      bool           // requests are left to the broker
	bye       bool           // when all is written, that is the end
	catch     func(*publish) // takes all publishes, for a probe
}

// granted is what the broker says to a SUBSCRIBE or UNSUBSCRIBE.
type granted struct {
	codes  []byte
	reason string
}

// unansweredMax is how many messages fly to a broker that cannot say how many it takes.
const unansweredMax = 1024

// dial connects as a client, and agrees on a version. An expiry of zero is a session that ends with the connection.
func (r *Remote) dial(ctx context.Context, id string, version byte, expiry time.Duration) (*remoteConn, welcome, error) {
	c, w, err := r.dialOnce(ctx, id, version, expiry)
	if refused := (*Refusal)(nil); errors.As(err, &refused) && refused.Code == UnsupportedVersion && version == V5 && r.o.Version == 0 {
		return r.dialOnce(ctx, id, V311, expiry)
	}
	return c, w, err
}

func (r *Remote) dialOnce(ctx context.Context, id string, version byte, expiry time.Duration) (c *remoteConn, w welcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Patience)
	defer cancel()
	username, password, err := r.o.Login()
	if err != nil {
		return nil, w, err
	}
	conn, err := r.o.Dial(ctx, r.attempt)
	if err != nil {
		return nil, w, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	h := hello{version: version, cleanStart: expiry == 0, keepAlive: uint16(r.o.KeepAlive / time.Second), clientID: id, username: username, password: password,
		expiry: uint32(expiry / time.Second), receiveMax: uint16(r.o.InFlight), maxPacket: maxHeld}
	if _, err = conn.Write(h.append(nil)); err != nil {
		return nil, w, err
	}
	in := bufio.NewReaderSize(conn, 32<<10)
	first, body, _, err := readPacket(in, version)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, w, fmt.Errorf("the broker has not answered to CONNECT within %v", r.o.Patience)
	case errors.Is(err, io.EOF):
		return nil, w, errors.New("the broker has hung up on CONNECT: it may want TLS, not know this client, or not speak this version of MQTT")
	case err != nil:
		return nil, w, err
	case first>>4 != tConnack:
		return nil, w, unexpected(first)
	}
	var bad *Refusal
	if w, bad = decodeConnack(body, version); bad != nil {
		return nil, w, bad
	}
	if w.code != Success {
		return nil, w, fmt.Errorf("the broker refuses the connection: %w", named(w.code, w.reason))
	}
	if !stop() {
		return nil, w, ctx.Err()
	}
	c = &remoteConn{r: r, net: conn, in: in, version: version, beat: r.o.KeepAlive, gone: make(chan struct{}), closing: make(chan struct{}),
		wake: make(chan struct{}, 1), asked: map[uint16]chan granted{}, used: map[uint16]*parcel{}, flying: map[uint16]*parcel{},
		quota: min(w.receiveMax, unansweredMax), maxPacket: w.maxPacket, maxQoS: w.maxQoS}
	if w.keepAlive > 0 {
		c.beat = min(c.beat, time.Duration(w.keepAlive)*time.Second)
	}
	return c, w, nil
}

// start begins to read and write. gone is closed when both have ended.
func (c *remoteConn) start() {
	c.running.Go(c.read)
	c.running.Go(c.write)
	go func() {
		c.running.Wait()
		close(c.gone)
	}()
}

// end closes the connection; the first reason is kept.
func (c *remoteConn) end(why error) {
	c.endOnce.Do(func() {
		c.err = why
		close(c.closing)
		c.net.Close()
	})
}

func (c *remoteConn) ended() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// kick lets what was appended to out be written.
func (c *remoteConn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *remoteConn) write() {
	beat := time.NewTicker(c.beat)
	defer beat.Stop()
	var spare []byte
	for {
		select {
		case <-c.closing:
			return
		case <-beat.C:
			c.r.mu.Lock()
			c.out = append(c.out, tPingreq<<4, 0)
			c.r.mu.Unlock()
		case <-c.wake:
		}
		c.r.mu.Lock()
		b, bye := c.out, c.bye
		c.out = spare[:0]
		c.r.mu.Unlock()
		if len(b) == 0 {
			spare = b
			continue
		}
		_ = c.net.SetWriteDeadline(c.r.o.Now().Add(c.r.o.Patience))
		if _, err := c.net.Write(b); err != nil {
			c.end(err)
			return
		}
		if bye {
			c.end(ErrClosed)
			return
		}
		if spare = b; cap(spare) > 1<<20 {
			spare = nil
		}
	}
}

func (c *remoteConn) read() {
	for {
		_ = c.net.SetReadDeadline(c.r.o.Now().Add(c.beat + c.r.o.Patience))
		first, body, cut, err := readPacket(c.in, c.version)
		if err == nil {
			err = c.obey(first, body, cut)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the broker has hung up")
			}
			c.end(err)
			return
		}
	}
}

func (c *remoteConn) obey(first byte, body []byte, cut bool) error {
	if first>>4 != tPublish && cut {
		return named(PacketTooLarge, "")
	}
	switch first >> 4 {
	case tPublish:
		return c.publish(first, body, cut)
	case tPuback:
		id, code, reason, bad := decodeServerAck(body, c.version)
		if bad != nil {
			return bad
		}
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		p := c.flying[id]
		switch {
		case p == nil && code >= 0x80: // of a probe
			return fmt.Errorf("the broker refuses what is published to it: %w", named(code, reason))
		case p != nil:
			delete(c.flying, id)
			delete(c.used, id)
			c.quota++
			if code < 0x80 {
				c.r.arrived(p, nil)
			} else {
				c.r.arrived(p, named(code, reason))
			}
			c.pump()
		}
		return nil
	case tSuback, tUnsuback:
		id, codes, reason, bad := decodeCodes(body, c.version)
		if bad != nil {
			return bad
		}
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		if to := c.asked[id]; to != nil {
			delete(c.asked, id)
			to <- granted{codes, reason}
		}
		return nil
	case tPingresp:
		return nil
	case tDisconnect:
		code, reason := decodeGoodbye(body)
		return fmt.Errorf("the broker has ended the connection: %w", named(code, reason))
	}
	return unexpected(first)
}

// arrived ends the way of a parcel.
func (r *Remote) arrived(p *parcel, refused *Refusal) {
	if p.request != nil {
		r.answers--
	}
	p.taken(refused)
	r.settle()
}

// publish takes a message that came.
func (c *remoteConn) publish(first byte, body []byte, cut bool) error {
	if bad := checkFlags(first); bad != nil {
		return bad
	}
	var d publish
	if bad := decodePublish(&d, first, body, c.version, inServerPublish); bad != nil {
		return bad
	}
	if d.qos == 2 {
		return named(QoSNotSupported, "") // nothing was subscribed with it
	}
	if c.catch != nil {
		c.catch(&d)
		c.acknowledge(d.id)
		return nil
	}
	m := &Message{Topic: string(d.topic), Payload: d.payload, QoS: d.qos}
	if d.props.hasCorrelation {
		m.CorrelationData = d.props.correlation
	}
	c.r.mu.Lock()
	deaf := c.deaf
	c.r.mu.Unlock()
	switch {
	case deaf:
		return nil // it stays with the broker
	case cut || d.retain:
		// What was kept by the broker is no request of now, and what is so long is none at all.
		c.r.mu.Lock()
		c.r.drop("messages that are retained or too long are no requests and are dropped")
		c.r.mu.Unlock()
		if d.id != 0 {
			c.skip(d.id)
		}
		return nil
	}
	c.r.accept(c, &inquiry{in: m, id: d.id, conn: c})
	return nil
}

// skip acknowledges a message in its turn. [MQTT-4.6.0-2]
func (c *remoteConn) skip(id uint16) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.pending = append(c.pending, &inquiry{id: id, conn: c, done: true})
	c.release()
}

func (c *remoteConn) acknowledge(id uint16) {
	if id == 0 {
		return
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.out = appendAck(c.out, c.version, id, Success, "")
	c.kick()
}

// release acknowledges the requests that are done, in the order they came [MQTT-4.6.0-2] [MQTT3-4.6.0-2]. Called with Remote.mu.
func (c *remoteConn) release() {
	n := 0
	for n < len(c.pending) && c.pending[n].done {
		c.out = appendAck(c.out, c.version, c.pending[n].id, Success, "")
		n++
	}
	if n > 0 {
		c.pending = c.pending[n:]
		c.kick()
	}
}

// pump sends what waits, as far as the broker takes it. Called with Remote.mu.
func (c *remoteConn) pump() {
	r := c.r
	n := 0
	for ; n < len(r.waiting); n++ {
		p := r.waiting[n]
		qos := min(p.m.QoS, c.maxQoS)
		if qos > 0 && c.quota <= 0 {
			break
		}
		o := outgoing{m: p.m, topic: p.m.Topic, qos: qos, retain: p.m.Retain}
		if !p.m.Expires.IsZero() {
			var ok bool
			if o.expiry, ok = left(p.m.Expires, r.o.Now()); !ok {
				c.passed(p, nil) // nobody needs it any more
				continue
			}
		}
		if qos > 0 {
			if o.dup = p.id != 0; !o.dup {
				p.id = c.identifier()
			}
			o.id = p.id
		}
		if o.size(c.version) > c.maxPacket {
			c.passed(p, named(PacketTooLarge, ""))
			continue
		}
		c.out = o.append(c.out, c.version)
		if q := p.request; q != nil && !q.done {
			q.done = true
			q.conn.release() // behind the answer, if that is this connection; else nobody writes it
		}
		if qos == 0 {
			r.arrived(p, nil)
			continue
		}
		c.used[p.id], c.flying[p.id] = p, p
		c.quota--
	}
	if n > 0 {
		r.waiting = r.waiting[n:]
		if len(r.waiting) == 0 {
			r.waiting = nil
		}
		c.kick()
	}
}

// passed ends the way of a parcel that is not sent.
func (c *remoteConn) passed(p *parcel, refused *Refusal) {
	delete(c.used, p.id)
	if q := p.request; q != nil && !q.done {
		q.done = true
		q.conn.release()
	}
	c.r.arrived(p, refused)
}

// identifier is one that is not in use. [MQTT-2.2.1-3]
func (c *remoteConn) identifier() uint16 {
	for {
		c.last++
		if c.last != 0 && c.used[c.last] == nil && c.asked[c.last] == nil {
			return c.last
		}
	}
}

// ask subscribes or unsubscribes, and returns when the broker has agreed to all.
func (c *remoteConn) ask(ctx context.Context, kind byte, filters []string) error {
	answer := make(chan granted, 1)
	c.r.mu.Lock()
	id := c.identifier()
	c.asked[id] = answer
	c.out = appendFilters(c.out, kind, c.version, id, filters)
	c.kick()
	c.r.mu.Unlock()
	late := time.NewTimer(c.r.o.Patience)
	defer late.Stop()
	select {
	case g := <-answer:
		if kind == tUnsubscribe {
			return nil // what it did not know is gone too
		}
		for i, f := range filters {
			if i < len(g.codes) && g.codes[i] >= 0x80 {
				return fmt.Errorf("the broker refuses the subscription of %s: %w", f, named(Code(g.codes[i]), g.reason))
			}
		}
		if len(g.codes) != len(filters) {
			return violation("SUBACK with another number of codes")
		}
		return nil
	case <-c.closing:
		return c.err
	case <-late.C:
		return fmt.Errorf("the broker has not answered to the subscription of %s", strings.Join(filters, ", "))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goodbye writes what there is and a DISCONNECT, and closes.
func (c *remoteConn) goodbye() {
	c.r.mu.Lock()
	c.out, c.bye = append(c.out, tDisconnect<<4, 0), true
	c.kick()
	c.r.mu.Unlock()
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case <-c.gone:
	case <-late.C:
		c.end(ErrClosed)
		<-c.gone
	}
}
