package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"muster/internal/broker"
)

// Y4, the MQTT echo: Muster's own broker that answers updates with a canned
// accepted, and no engine. Y4r is less than that: a goroutine for each
// connection that knows no session, index or limit.

// cannedAccepted is what an accepted answer with a state looks like, as long as Muster's.
const cannedAccepted = `{"timestamp":1764000000,"executionState":{"status":"IN_PROGRESS","statusDetails":{"step":"install","progress":"42",` +
	`"firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"0123456789abc"},"versionNumber":2}}`

// An echoService is either of them. Settings.Answer says which: "broker" or
// "bare"; with Settings.Certs it speaks TLS and asks for certificates.
type echoService struct {
	listener net.Listener
	broker   *broker.Broker // nil: bare
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
}

func openEchoService(_ context.Context, s Settings) (service, hello, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, hello{}, err
	}
	e := &echoService{listener: l, conns: map[net.Conn]struct{}{}}
	if s.Certs != "" {
		config, err := serverTLS(s.Certs)
		if err != nil {
			return nil, hello{}, errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, config)
	}
	if s.Answer == "bare" {
		go e.accept(l)
		return e, hello{Addr: e.listener.Addr().String()}, nil
	}
	e.broker, err = broker.New(broker.Options{Hooks: broker.Hooks{
		InterceptPrefix: "$aws/things/",
		Intercept: func(c *broker.Client, m *broker.Message) bool {
			c.Reply(&broker.Message{Topic: m.Topic + "/accepted", Payload: []byte(cannedAccepted)})
			return true
		},
	}})
	if err != nil {
		return nil, hello{}, errors.Join(err, l.Close())
	}
	go e.broker.Serve(l) // ends with the listener
	return e, hello{Addr: e.listener.Addr().String()}, nil
}

func (e *echoService) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		e.conns[conn] = struct{}{}
		e.mu.Unlock()
		go func() {
			bare(conn)
			e.mu.Lock()
			delete(e.conns, conn)
			e.mu.Unlock()
		}()
	}
}

// Call is profiled like every call; this one only waits.
func (e *echoService) Call(_ context.Context, req Request) (Sample, error) {
	time.Sleep(time.Duration(req.Seconds * float64(time.Second)))
	return nil, nil
}

func (e *echoService) Close() error {
	if e.broker != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = e.broker.Shutdown(now) // which cuts who is connected, as it is told to
		return nil
	}
	err := e.listener.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.Close()
	}
	return err
}

// Packet types of MQTT.
const (
	mqttConnect   = 1
	mqttConnack   = 2
	mqttPublish   = 3
	mqttPuback    = 4
	mqttSubscribe = 8
	mqttSuback    = 9
)

func mqttLength(b []byte, n int) []byte {
	for ; n > 0x7F; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func mqttText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// bare answers one connection: CONNECT, SUBSCRIBE of three filters, and
// publishes, PUBACK and answer in one write.
func bare(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1024)
	body := make([]byte, 1024)
	var out []byte
	var id uint16
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		n, shift := 0, 0
		for {
			c, err := r.ReadByte()
			if err != nil {
				return
			}
			if n |= int(c&0x7F) << shift; c < 0x80 {
				break
			}
			shift += 7
		}
		if n > len(body) {
			return
		}
		if _, err := io.ReadFull(r, body[:n]); err != nil {
			return
		}
		out = out[:0]
		switch first >> 4 {
		case mqttConnect:
			out = append(out, mqttConnack<<4, 2, 0, 0)
		case mqttSubscribe:
			out = append(out, mqttSuback<<4, 5, body[0], body[1], 1, 1, 1)
		case mqttPublish:
			end := 2 + int(binary.BigEndian.Uint16(body))
			topic := string(body[2:end]) + "/accepted"
			id++
			out = append(out, mqttPuback<<4, 2, body[end], body[end+1], mqttPublish<<4|2)
			out = mqttText(mqttLength(out, 4+len(topic)+len(cannedAccepted)), topic)
			out = append(binary.BigEndian.AppendUint16(out, id), cannedAccepted...)
		}
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}
}

// echo is the running echo of a kind, "broker" or "bare", with certificates or without.
func (b *Bench) echo(ctx context.Context, kind, certs string) (*Child, error) {
	key := "mqtt-" + kind
	if certs != "" {
		key += "-tls"
	}
	if c := b.children[key]; c != nil {
		return c, nil
	}
	c, err := b.adopt(ctx, key, "mqttecho", Settings{Answer: kind, Certs: certs})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}
