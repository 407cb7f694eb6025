package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"muster/internal/broker"
)

// MQTT says where devices connect, and how.
type MQTT struct {
	Address  string // HOST:PORT
	V5       bool   // MQTT 5 instead of 3.1.1
	Username string
	// TLS makes the configuration for a device; nil: plain.
	TLS func(thing string) (*tls.Config, error)
}

// perSource is how many connections one local address makes: fewer than it has ports to do it from.
const perSource = 20_000

// dial connects the i-th device. More devices than one address has ports go out from further addresses, as far as the
// service is on this machine's loopback, where there are plenty.
func (m *MQTT) dial(ctx context.Context, name string, i int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: answerPatience, KeepAlive: -1}
	if host, _, err := net.SplitHostPort(m.Address); err == nil && i >= perSource {
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() && ip.To4() != nil {
			dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/perSource), 1)}
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", m.Address)
	if err != nil || m.TLS == nil {
		return conn, err
	}
	config, err := m.TLS(name)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secure := tls.Client(conn, config)
	hurry, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	if err := secure.HandshakeContext(hurry); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// An mqttWire is a device's wire over MQTT.
type mqttWire struct {
	d     *device
	c     *broker.Conn
	token uint32
	// What the last notify-next said.
	news   bool
	notice *execution
}

func (w *mqttWire) open() error {
	d := w.d
	o := broker.DialOptions{Version: broker.V311, ClientID: d.name, Username: d.f.MQTT.Username, Timeout: answerPatience}
	if d.f.MQTT.V5 {
		o.Version = broker.V5
	}
	select {
	case d.f.connecting <- struct{}{}:
		defer func() { <-d.f.connecting }()
	case <-d.f.ctx.Done():
		return d.f.ctx.Err()
	}
	conn, err := d.f.MQTT.dial(d.f.ctx, d.name, d.index)
	if err != nil {
		return err
	}
	cut := context.AfterFunc(d.f.ctx, func() { conn.Close() })
	c, err := broker.Dial(conn, o)
	if cut(); err != nil {
		return err
	}
	w.c = c
	w.news, w.notice = false, nil
	d.conn.Store(w.c)
	if d.f.ctx.Err() != nil {
		return d.f.ctx.Err() // who interrupts has not seen it
	}
	topic := d.topic("")
	filters := []string{topic + "+/update/+"}
	switch d.style {
	case StartNext:
		filters = append(filters, topic+"start-next/+", topic+"notify-next")
	case Notify:
		filters = append(filters, topic+"+/get/+", topic+"notify-next")
	case Poll:
		filters = append(filters, topic+"+/get/+")
	}
	return w.subscribe(filters)
}

func (w *mqttWire) subscribe(filters []string) error {
	id := w.c.Subscribe(1, filters...)
	end := time.Now().Add(answerPatience)
	for {
		a, err := w.arrival(end)
		switch {
		case err != nil:
			return err
		case a.Kind == broker.Subscribed && a.ID == id && a.Code >= 0x80:
			return fmt.Errorf("the topics of %s cannot be subscribed: reason code 0x%02X", w.d.name, byte(a.Code))
		case a.Kind == broker.Subscribed && a.ID == id:
			return nil
		}
	}
}

// arrival returns what comes next, having noted it if it is a notice.
func (w *mqttWire) arrival(until time.Time) (broker.Arrival, error) {
	a, err := w.c.Next(until)
	if err == nil && a.Kind == broker.Arrived && bytes.HasSuffix(a.Topic, []byte("/notify-next")) {
		said, err := decode(a.Payload)
		if err != nil {
			return a, fmt.Errorf("a notice of %s is no JSON: %w", w.d.name, err)
		}
		w.news, w.notice = true, said.Execution
		w.d.f.stats.Notices.Add(1)
	}
	return a, err
}

func (w *mqttWire) noticed() (*execution, bool) {
	e, news := w.notice, w.news
	w.news, w.notice = false, nil
	return e, news
}

// answers waits for the answers to requests to one topic with consecutive tokens.
func (w *mqttWire) answers(topic string, first uint32, into []error) (last answer) {
	const accepted, rejected = "/accepted", "/rejected"
	end := time.Now().Add(answerPatience)
	for i := range into {
		into[i] = errNoAnswer
	}
	for open := len(into); open > 0; {
		a, err := w.arrival(end)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return last
		}
		if err == nil && a.Kind == broker.Acked && a.Code >= 0x80 {
			err = fmt.Errorf("a request to %s was not taken: reason code 0x%02X", topic, byte(a.Code))
		}
		if err != nil {
			for i := range into {
				if errors.Is(into[i], errNoAnswer) {
					into[i] = err
				}
			}
			return last
		}
		if a.Kind != broker.Arrived || !bytes.HasPrefix(a.Topic, []byte(topic)) {
			continue
		}
		suffix := string(a.Topic[len(topic):])
		if suffix != accepted && suffix != rejected {
			continue
		}
		said, err := decode(a.Payload)
		token, bad := strconv.ParseUint(said.ClientToken, 10, 32)
		i := int(uint32(token) - first)
		if err != nil || bad != nil || i < 0 || i >= len(into) || !errors.Is(into[i], errNoAnswer) {
			continue // late, of an earlier request
		}
		open--
		into[i], last = nil, said
		if suffix == rejected {
			into[i] = said.refusal()
		}
	}
	return last
}

func (w *mqttWire) ask(topic, members string) (*execution, error) {
	w.token++
	b := append(append(make([]byte, 0, 64), '{'), members...)
	if members != "" {
		b = append(b, ',')
	}
	b = append(appendToken(b, w.token), '}')
	var errs [1]error
	w.c.Publish(topic, b)
	a := w.answers(topic, w.token, errs[:])
	return a.Execution, errs[0]
}

func (w *mqttWire) next() (*execution, error) {
	return w.ask(w.d.topic("$next/get"), `"includeJobDocument":false`)
}

func (w *mqttWire) startNext() (*execution, error) { return w.ask(w.d.topic("start-next"), "") }

func (w *mqttWire) update(job string, r report) error {
	w.token++
	topic := w.d.topic(job + "/update")
	w.c.Publish(topic, r.append(make([]byte, 0, 160), w.token))
	var errs [1]error
	w.answers(topic, w.token, errs[:])
	return errs[0]
}

func (w *mqttWire) twice(job string, r report) (errs [2]error) {
	topic := w.d.topic(job + "/update")
	first := w.token + 1
	for range errs {
		w.token++
		w.c.Publish(topic, r.append(make([]byte, 0, 160), w.token))
	}
	w.answers(topic, first, errs[:])
	return errs
}

func (w *mqttWire) rest(until time.Time, wake bool) (bool, error) {
	for {
		if wake && w.news {
			return true, nil
		}
		_, err := w.arrival(until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return wake && w.news, nil
		}
		if err != nil {
			return false, err
		}
	}
}

func (w *mqttWire) close(politely bool) {
	if w.c == nil {
		return
	}
	w.d.conn.Store(nil)
	if politely {
		_ = w.c.Close() // it may be broken
	} else {
		_ = w.c.Drop()
	}
	w.c = nil
}
