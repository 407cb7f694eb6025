package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"muster/test/device"
)

// A mqttConn is a device: MQTT 3.1.1, one request at a time, and no more of an
// answer looked at than has to be checked.
type mqttConn struct {
	*device.Conn
	thing   int
	topics  string // $aws/things/{thing}/jobs/
	update  string // topic of updates
	answer  []byte // topic of their answers
	notice  []byte // topic of notify-next
	payload []byte
	version int64 // of the thing's execution, as it was told
	rng     *rand.Rand
	hist    histogram
}

// mqttPatience bounds every wait for a server.
const mqttPatience = 2 * time.Minute

// mqttDial says where devices connect to, and how.
type mqttDial struct {
	addr string
	// tls gives the configuration of a device; nil: plain.
	tls func(thing int) *tls.Config
}

// open connects a device and lets it subscribe to what devices do: three
// filters, one of them with a wildcard.
func (d mqttDial) open(ctx context.Context, thing int) (*mqttConn, error) {
	c, err := d.transport(ctx, thing)
	if err != nil {
		return nil, err
	}
	m := newDevice(c, thing)
	m.SetDeadline(time.Now().Add(mqttPatience))
	if _, err = m.Hello(string(appendThing(nil, thing)), false); err == nil {
		err = m.Subscribe(nil, m.topics+"notify-next", m.topics+"start-next/accepted", m.topics+"+/update/accepted")
	}
	if err != nil {
		m.Reset()
		return nil, err
	}
	return m, nil
}

// newDevice makes the device of a thing, whose execution has its first version.
func newDevice(c net.Conn, thing int) *mqttConn {
	m := &mqttConn{Conn: device.New(c, device.V311), thing: thing, topics: fmt.Sprintf("$aws/things/%s/jobs/", appendThing(nil, thing)),
		version: 1, rng: rand.New(rand.NewPCG(rand.Uint64(), uint64(thing)))}
	m.update = m.topics + naiveJob + "/update"
	m.answer, m.notice = []byte(m.update+"/accepted"), []byte(m.topics+"notify-next")
	return m
}

func (d mqttDial) transport(ctx context.Context, thing int) (net.Conn, error) {
	// Loopback has as many addresses to come from as ports at each: the ends of
	// ten thousand connections just closed are not in the way of the next.
	from := net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+thing%64))}
	dialer := net.Dialer{LocalAddr: &from, Timeout: mqttPatience}
	c, err := dialer.DialContext(ctx, "tcp", d.addr)
	if err != nil || d.tls == nil {
		return c, err
	}
	t := tls.Client(c, d.tls(thing))
	t.SetDeadline(time.Now().Add(mqttPatience))
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// trip reports to the server and waits until the report is acknowledged and
// accepted, in whatever order and whatever else the device is told meanwhile.
// The version that the thing must have by then is checked.
func (m *mqttConn) trip() error {
	m.payload = appendUpdate(m.payload[:0], m.version, m.rng.Uint64())
	id, err := m.Publish(m.update, m.payload)
	if err != nil {
		return err
	}
	for acked, accepted := false, false; !acked || !accepted; {
		p, err := m.Next()
		if err != nil {
			return err
		}
		switch {
		case p.Kind == device.Acked && p.ID == id:
			acked = true
			continue
		case p.Kind != device.Message:
			return fmt.Errorf("unexpected packet of type %d, identifier %d", p.Kind, p.ID)
		case bytes.Equal(p.Topic, m.answer) && !accepted:
			if err := m.accepted(p.Payload); err != nil {
				return err
			}
			accepted = true
		case !bytes.Equal(p.Topic, m.notice):
			return fmt.Errorf("answered on %s: %s", p.Topic, p.Payload)
		}
		if err := m.Ack(p); err != nil {
			return err
		}
	}
	return nil
}

// accepted holds an answer against the version that must be its outcome, unless it is the canned one.
func (m *mqttConn) accepted(payload []byte) error {
	const name = `"versionNumber":`
	_, tail, _ := bytes.Cut(payload, []byte(name))
	digits, _, _ := bytes.Cut(tail, []byte("}"))
	got, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || got != m.version+1 && !bytes.Equal(payload, []byte(cannedAccepted)) {
		return fmt.Errorf("version %d expected: %s", m.version+1, payload)
	}
	m.version++
	return nil
}

// parallel runs f for 0 to n-1, so many at a time, and returns the first error.
func parallel(n, atOnce int, f func(i int) error) error {
	if n == 0 {
		return nil
	}
	next := make(chan int)
	failed := make(chan error, min(n, atOnce))
	for range min(n, atOnce) {
		go func() {
			var err error
			for i := range next {
				if err == nil {
					err = f(i)
				}
			}
			failed <- err
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	var err error
	for range min(n, atOnce) {
		err = errors.Join(err, <-failed)
	}
	return err
}
