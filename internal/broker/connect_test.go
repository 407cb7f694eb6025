package broker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// connackProps are the properties every MQTT 5 client of a broker with default limits is told.
func connackProps(more ...any) []byte {
	return join(byte(pReceiveMaximum), uint16(100), byte(pMaximumQoS), 1, byte(pMaximumPacket), uint32(146<<10), join(more...),
		byte(pTopicAliasMax), uint16(8))
}

func connack(flags byte, code Code, props []byte) []byte {
	return packet(0x20, flags, byte(code), withLength(props))
}

func TestConnackTells(t *testing.T) {
	h := open(t, Options{})
	for _, x := range []struct {
		name string
		call call
		v    byte
		want []byte
	}{
		{"3.1.1", call{id: "a"}, V311, []byte{0x20, 2, 0, 0}},
		{"3.1.1 with user and password", call{id: "a", user: "?SDK=Go", password: "x"}, V311, []byte{0x20, 2, 0, 0}},
		{"5, keep-alive in range", call{id: "b", keepAlive: 60}, V5, connack(0, 0, connackProps())},
		{"5, no keep-alive", call{id: "b"}, V5,
			connack(0, 0, join(connackProps(), byte(pServerKeepAlive), uint16(1200)))},
		{"5, keep-alive too short", call{id: "b", keepAlive: 5}, V5,
			connack(0, 0, join(connackProps(), byte(pServerKeepAlive), uint16(30)))},
		{"5, keep-alive too long", call{id: "b", keepAlive: 1201}, V5,
			connack(0, 0, join(connackProps(), byte(pServerKeepAlive), uint16(1200)))},
		{"5, session expiry capped", call{id: "c", keepAlive: 60, props: join(byte(pSessionExpiry), uint32(never))}, V5,
			connack(0, 0, join(byte(pSessionExpiry), uint32(3600), connackProps()))},
		{"5, session expiry as asked", call{id: "d", keepAlive: 60, props: join(byte(pSessionExpiry), uint32(100))}, V5,
			connack(0, 0, connackProps())},
		{"5, all it may say", call{id: "e", keepAlive: 60, user: "u", password: "p", props: join(byte(pReceiveMaximum), uint16(3),
			byte(pMaximumPacket), uint32(5000), byte(pTopicAliasMax), uint16(9), byte(pRequestResponse), 1, byte(pRequestProblem), 0,
			byte(pUser), str("k"), str("v"), byte(pUser), str("k"), str("v"))}, V5, connack(0, 0, connackProps())},
		{"5, password without user name", call{id: "f", keepAlive: 60, password: "p"}, V5, connack(0, 0, connackProps())},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := h.dial(x.v)
			c.t = t
			c.send(x.call.packet(x.v))
			c.expect(x.want)
			c.leave()
		})
	}
}

func TestConnectRefused(t *testing.T) {
	h := open(t, Options{Hooks: Hooks{
		Connect: func(_ context.Context, r *ConnectRequest) (any, error) {
			switch r.Username {
			case "stranger":
				return nil, errors.New("never heard of")
			case "banned":
				return nil, &Refusal{Banned, "go away"}
			}
			return r.Username, nil
		},
		Publish: func(_ *Client, topic string) bool { return topic != "secret" },
	}})
	no := func(code Code, reason string) []byte {
		var props []byte
		if reason != "" {
			props = join(byte(pReasonString), str(reason))
		}
		return connack(0, code, props)
	}
	v311 := func(code byte) []byte { return []byte{0x20, 2, 0, code} }
	connect := func(name string, version, flags byte, rest ...any) []byte {
		return packet(0x10, str(name), version, flags, uint16(60), join(rest...))
	}
	long := strings.Repeat("x", 129)
	for _, x := range []struct {
		name string
		v    byte
		send []byte
		want []byte // nil: closed without a word
	}{
		{"no CONNECT first", V311, []byte{0xC0, 0}, nil},                                                                                          // [MQTT3-3.1.0-1]
		{"other protocol", V311, connect("HTTP", 4, 2, str("a")), nil},                                                                            // [MQTT3-3.1.2-1]
		{"MQTT 3.1", V311, connect("MQIsdp", 3, 2, str("a")), v311(1)},                                                                            // [MQTT3-3.1.2-2]
		{"level 3", V311, connect("MQTT", 3, 2, str("a")), v311(1)},                                                                               // [MQTT3-3.1.2-2]
		{"level 6", V311, connect("MQTT", 6, 2, str("a")), v311(1)},                                                                               // [MQTT3-3.1.2-2]
		{"reserved flag", V311, connect("MQTT", 4, 3, str("a")), nil},                                                                             // [MQTT3-3.1.2-3]
		{"reserved flag of 5", V5, connect("MQTT", 5, 3, 0, str("a")), no(MalformedPacket, "reserved connect flag")},                              // [MQTT-3.1.2-3]
		{"header flags", V311, append([]byte{0x11}, call{id: "a"}.packet(V311)[1:]...), nil},                                                      // [MQTT3-2.2.2-2]
		{"will QoS without will", V311, connect("MQTT", 4, 2|8, str("a")), nil},                                                                   // [MQTT3-3.1.2-13]
		{"will retain without will", V311, connect("MQTT", 4, 2|32, str("a")), nil},                                                               // [MQTT3-3.1.2-15]
		{"will QoS 3", V311, connect("MQTT", 4, 2|4|24, str("a"), str("w"), str("")), nil},                                                        // [MQTT3-3.1.2-14]
		{"password without user", V311, connect("MQTT", 4, 2|64, str("a"), str("p")), nil},                                                        // [MQTT3-3.1.2-22]
		{"user name missing", V311, connect("MQTT", 4, 2|128, str("a")), nil},                                                                     // [MQTT3-3.1.2-19]
		{"something behind", V311, connect("MQTT", 4, 2, str("a"), str("b")), nil},                                                                //
		{"client id not UTF-8", V311, connect("MQTT", 4, 2, str("\xff")), nil},                                                                    // [MQTT3-1.5.3-1]
		{"client id with NUL", V311, connect("MQTT", 4, 2, str("a\x00")), nil},                                                                    // [MQTT3-1.5.3-2]
		{"client id with surrogate", V5, connect("MQTT", 5, 2, 0, str("\xed\xa0\x80")), no(MalformedPacket, "string is not UTF-8, or has a NUL")}, // [MQTT-1.5.4-1]
		{"no client id, session kept", V311, call{keep: true}.packet(V311), v311(2)},                                                              // [MQTT3-3.1.3-8]
		{"long client id", V311, call{id: long}.packet(V311), v311(2)},                                                                            // [MQTT3-3.1.3-9]
		{"long client id of 5", V5, call{id: long}.packet(V5), no(ClientIDNotValid, "client id is too long")},                                     // [MQTT-3.1.3-8]
		{"will QoS 2", V311, call{id: "a", will: &lastWord{topic: "w", qos: 2}}.packet(V311), v311(3)},                                            //
		{"will QoS 2 of 5", V5, call{id: "a", will: &lastWord{topic: "w", qos: 2}}.packet(V5), no(QoSNotSupported, "will of QoS 2")},              // [MQTT-3.2.2-12]
		{"will wildcard", V5, call{id: "a", will: &lastWord{topic: "w/#"}}.packet(V5), no(TopicNameInvalid, "will topic")},                        //
		{"will retained below $", V5, call{id: "a", will: &lastWord{topic: "$aws/x", retain: true}}.packet(V5), no(RetainNotSupported, "no retained messages below $")},
		{"will not allowed", V5, call{id: "a", will: &lastWord{topic: "secret"}}.packet(V5), no(NotAuthorized, "will topic")},
		{"not known", V311, call{id: "a", user: "stranger"}.packet(V311), v311(5)},
		{"not known to 5", V5, call{id: "a", user: "stranger"}.packet(V5), no(NotAuthorized, "")},
		{"banned", V5, call{id: "a", user: "banned"}.packet(V5), no(Banned, "go away")},
		{"banned, not told why", V5, call{id: "a", user: "banned", props: join(byte(pRequestProblem), 0)}.packet(V5), no(Banned, "")}, // [MQTT-3.1.2-29]
		{"receive maximum 0", V5, call{id: "a", props: join(byte(pReceiveMaximum), uint16(0))}.packet(V5), no(ProtocolError, "receive maximum is zero")},
		{"maximum packet 0", V5, call{id: "a", props: join(byte(pMaximumPacket), uint32(0))}.packet(V5), no(ProtocolError, "")},
		{"request problem 2", V5, call{id: "a", props: join(byte(pRequestProblem), 2)}.packet(V5), no(ProtocolError, "")},
		{"property twice", V5, call{id: "a", props: join(byte(pSessionExpiry), uint32(1), byte(pSessionExpiry), uint32(1))}.packet(V5), no(ProtocolError, "property given twice")},
		{"property of PUBLISH", V5, call{id: "a", props: join(byte(pTopicAlias), uint16(1))}.packet(V5), no(MalformedPacket, "property does not belong here")},
		{"unknown property", V5, call{id: "a", props: join(0x7F, 0)}.packet(V5), no(MalformedPacket, "property does not belong here")},
		{"enhanced authentication", V5, call{id: "a", props: join(byte(pAuthMethod), str("SCRAM"))}.packet(V5), no(BadAuthMethod, "no enhanced authentication")}, // [MQTT-4.12.0-1]
	} {
		t.Run(x.name, func(t *testing.T) {
			c := h.dial(x.v)
			c.t = t
			c.send(x.send)
			if x.want != nil {
				c.expect(x.want)
			}
			c.expectClosed()
		})
	}
	if n := h.b.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestPacketsThatEndTheConnection(t *testing.T) {
	h := open(t, Options{})
	sub := func(v byte, opts byte, props ...any) []byte {
		c := &raw{v: v}
		return packet(0x82, uint16(1), c.props(join(props...)), str("a"), opts)
	}
	for _, x := range []struct {
		name string
		send func(v byte) []byte
		code Code
		only byte
	}{
		{"second CONNECT", func(v byte) []byte { return call{id: "x"}.packet(v) }, ProtocolError, 0}, // [MQTT-3.1.0-2]
		{"type 0", func(byte) []byte { return []byte{0, 0} }, MalformedPacket, 0},
		{"CONNACK", func(byte) []byte { return []byte{0x20, 2, 0, 0} }, ProtocolError, 0},
		{"PINGREQ flags", func(byte) []byte { return []byte{0xC1, 0} }, MalformedPacket, 0}, // [MQTT3-2.2.2-2] [MQTT-2.1.3-1]
		{"PINGREQ body", func(byte) []byte { return []byte{0xC0, 1, 0} }, MalformedPacket, 0},
		{"length of five bytes", func(byte) []byte { return []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1} }, MalformedPacket, 0},
		{"length padded", func(byte) []byte { return []byte{0xC0, 0x80, 0} }, MalformedPacket, V5}, // [MQTT-1.5.5-1]
		{"packet too large", func(byte) []byte { return []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F} }, PacketTooLarge, 0},
		{"payload too large", func(v byte) []byte { return word{topic: "a", payload: strings.Repeat("x", 128<<10+1)}.packet(v) }, PacketTooLarge, 0},
		{"PUBREL", func(byte) []byte { return []byte{0x62, 2, 0, 1} }, ProtocolError, 0},
		{"AUTH", func(byte) []byte { return []byte{0xF0, 0} }, ProtocolError, V5},
		{"QoS 2", func(v byte) []byte { return word{topic: "a", qos: 2, id: 1}.packet(v) }, QoSNotSupported, 0},     // [MQTT-3.2.2-11]
		{"QoS 3", func(v byte) []byte { return word{topic: "a", qos: 3, id: 1}.packet(v) }, MalformedPacket, 0},     // [MQTT-3.3.1-4]
		{"DUP of QoS 0", func(v byte) []byte { return word{topic: "a", dup: true}.packet(v) }, MalformedPacket, 0},  // [MQTT-3.3.1-2]
		{"PUBLISH without id", func(v byte) []byte { return word{topic: "a", qos: 1}.packet(v) }, ProtocolError, 0}, // [MQTT3-2.3.1-1]
		{"topic with wildcard", func(v byte) []byte { return word{topic: "a/+"}.packet(v) }, TopicNameInvalid, 0},   // [MQTT-3.3.2-2]
		{"topic with NUL", func(v byte) []byte { return word{topic: "a\x00"}.packet(v) }, MalformedPacket, 0},       // [MQTT-4.7.3-2]
		{"topic not UTF-8", func(v byte) []byte { return word{topic: "\xc3\x28"}.packet(v) }, MalformedPacket, 0},   // [MQTT3-1.5.3-1]
		{"empty topic", func(v byte) []byte { return word{}.packet(v) }, TopicNameInvalid, V311},                    // [MQTT-4.7.3-1]
		{"neither topic nor alias", func(v byte) []byte { return word{}.packet(v) }, ProtocolError, V5},
		{"long topic", func(v byte) []byte { return word{topic: strings.Repeat("x", 257)}.packet(v) }, TopicNameInvalid, 0},
		{"deep topic", func(v byte) []byte { return word{topic: strings.Repeat("/", 8)}.packet(v) }, TopicNameInvalid, 0},
		{"retained below $", func(v byte) []byte { return word{topic: "$aws/x", retain: true}.packet(v) }, RetainNotSupported, 0},
		{"alias 0", func(v byte) []byte { return word{topic: "a", props: join(byte(pTopicAlias), uint16(0))}.packet(v) }, TopicAliasInvalid, V5},
		{"alias too large", func(v byte) []byte { return word{topic: "a", props: join(byte(pTopicAlias), uint16(9))}.packet(v) }, TopicAliasInvalid, V5}, // [MQTT-3.3.2-9]
		{"alias unknown", func(v byte) []byte { return word{props: join(byte(pTopicAlias), uint16(1))}.packet(v) }, ProtocolError, V5},
		{"subscription identifier from a client", func(v byte) []byte { return word{topic: "a", props: join(byte(pSubscriptionID), 1)}.packet(v) }, MalformedPacket, V5}, // [MQTT-3.3.4-6]
		{"response topic with wildcard", func(v byte) []byte { return word{topic: "a", props: join(byte(pResponseTopic), str("b/#"))}.packet(v) }, TopicNameInvalid, V5}, // [MQTT-3.3.2-14]
		{"payload format 2", func(v byte) []byte { return word{topic: "a", props: join(byte(pPayloadFormat), 2)}.packet(v) }, ProtocolError, V5},
		{"properties longer than packet", func(v byte) []byte { return packet(0x30, str("a"), 9) }, MalformedPacket, V5},
		{"SUBSCRIBE flags", func(v byte) []byte { return append([]byte{0x80}, sub(v, 0)[1:]...) }, MalformedPacket, 0},                   // [MQTT-3.8.1-1]
		{"SUBSCRIBE without filters", func(v byte) []byte { return packet(0x82, uint16(1), (&raw{v: v}).props(nil)) }, ProtocolError, 0}, // [MQTT3-3.8.3-3]
		{"SUBSCRIBE without id", func(v byte) []byte { return packet(0x82, uint16(0), (&raw{v: v}).props(nil), str("a"), 0) }, ProtocolError, 0},
		{"SUBSCRIBE QoS 3", func(v byte) []byte { return sub(v, 3) }, MalformedPacket, 0}, // [MQTT3-3-8.3-4]
		{"SUBSCRIBE reserved bits", func(v byte) []byte { return sub(v, 0x40) }, MalformedPacket, 0},
		{"SUBSCRIBE options of 5", func(v byte) []byte { return sub(v, 4) }, MalformedPacket, V311},
		{"retain handling 3", func(v byte) []byte { return sub(v, 0x30) }, ProtocolError, V5},
		{"subscription identifier 0", func(v byte) []byte { return sub(v, 0, byte(pSubscriptionID), 0) }, ProtocolError, V5},
		{"no local on shared", func(v byte) []byte { return packet(0x82, uint16(1), 0, str("$share/g/a"), 4) }, ProtocolError, V5},           // [MQTT-3.8.3-4]
		{"UNSUBSCRIBE flags", func(v byte) []byte { return packet(0xA0, uint16(1), (&raw{v: v}).props(nil), str("a")) }, MalformedPacket, 0}, // [MQTT-3.10.1-1]
		{"UNSUBSCRIBE without filters", func(v byte) []byte { return packet(0xA2, uint16(1), (&raw{v: v}).props(nil)) }, ProtocolError, 0},   // [MQTT-3.10.3-2]
		{"DISCONNECT flags", func(byte) []byte { return []byte{0xE1, 0} }, MalformedPacket, 0},                                               // [MQTT-3.14.1-1]
		{"DISCONNECT with a body", func(byte) []byte { return []byte{0xE0, 1, 0} }, MalformedPacket, V311},
		{"session expiry in DISCONNECT only", func(byte) []byte { return packet(0xE0, 0, withLength(join(byte(pSessionExpiry), uint32(9)))) }, ProtocolError, V5},
		{"PUBACK cut short", func(byte) []byte { return []byte{0x40, 1, 0} }, MalformedPacket, 0},
	} {
		for _, v := range both {
			if x.only != 0 && x.only != v {
				continue
			}
			t.Run(x.name, func(t *testing.T) {
				c, _ := h.connect(v, call{id: "a", props: join(byte(pRequestProblem), 0)})
				c.t = t
				go c.conn.Write(x.send(v))
				if v == V5 {
					c.expect([]byte{0xE0, 1, byte(x.code)})
				}
				c.expectClosed()
			})
		}
	}
}

func TestReasonStringsOnlyWhenWanted(t *testing.T) {
	h := open(t, Options{})
	c := h.in(V5, "a")
	c.send([]byte{0xC0, 1, 0})
	c.expect(packet(0xE0, byte(MalformedPacket), withLength(join(byte(pReasonString), str("PINGREQ has no body")))))
	c.expectClosed()
}

func TestClientIDChosenByTheBroker(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		names := make(chan string, 2)
		h := open(t, Options{Hooks: Hooks{Connected: func(c *Client) { names <- c.ID }}})
		_, ack := h.connect(v, call{keepAlive: 60}) // [MQTT-3.1.3-6] [MQTT3-3.1.3-6]
		name := <-names
		h.connect(v, call{keepAlive: 60})
		if other := <-names; other == name || len(name) < 20 {
			t.Fatal(name, other)
		}
		if told := bytes.Contains(ack, join(byte(pAssignedID), str(name))); told != (v == V5) { // [MQTT-3.2.2-16]
			t.Fatalf("% x", ack)
		}
	})
}

func TestTakeOver(t *testing.T) {
	eachVersion(t, func(t *testing.T, v byte) {
		ended := make(chan Ended, 2)
		h := open(t, Options{Hooks: Hooks{Disconnected: func(_ *Client, how Ended) { ended <- how }}})
		first := h.in(v, "a")
		second := h.in(v, "a")
		first.expectEnd(SessionTakenOver) // [MQTT-3.1.4-3] [MQTT3-3.1.4-2]
		second.quiet()
		if how := <-ended; !how.ByServer || how.ByClient || how.Code != SessionTakenOver {
			t.Fatalf("%+v", how)
		}
		second.leave()
		if how := <-ended; how.ByServer || !how.ByClient || how.Code != Success {
			t.Fatalf("%+v", how)
		}
	})
}

func TestSessionPresent(t *testing.T) {
	h := open(t, Options{})
	lasting := join(byte(pSessionExpiry), uint32(100))
	for _, x := range []struct {
		name    string
		v       byte
		call    call
		present byte
	}{
		{"none yet", V311, call{id: "a", keep: true}, 0},
		{"kept", V311, call{id: "a", keep: true}, 1}, // [MQTT3-3.2.2-2]
		{"clean", V311, call{id: "a"}, 0},            // [MQTT3-3.2.2-1]
		{"none after clean", V311, call{id: "a", keep: true}, 0},
		{"kept for 5", V5, call{id: "a", keep: true}, 1},
		{"ended with its connection", V5, call{id: "a", keep: true}, 0},
		{"ended again", V5, call{id: "a", keep: true, props: lasting}, 0},
		{"lasting", V5, call{id: "a", keep: true, props: lasting}, 1},
		{"clean start, lasting", V5, call{id: "a", props: lasting}, 0}, // [MQTT-3.1.2-4]
		{"lasting still", V5, call{id: "a", keep: true, props: lasting}, 1},
	} {
		c, body := h.connect(x.v, x.call)
		if body[0] != x.present {
			t.Errorf("%s: session present %d", x.name, body[0])
		}
		c.leave()
		h.gone(0)
	}
	// Kept by its expiry in CONNECT, ended by its expiry in DISCONNECT.
	c, _ := h.connect(V5, call{id: "b", props: lasting})
	c.send(packet(0xE0, 0, withLength(join(byte(pSessionExpiry), uint32(0)))))
	c.expectClosed()
	h.gone(0)
	if _, body := h.connect(V5, call{id: "b", keep: true}); body[0] != 0 {
		t.Error("session was to end with its connection")
	}
}
