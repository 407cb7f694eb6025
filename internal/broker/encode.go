package broker

import (
	"encoding/binary"
	"time"
)

func appendVarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintSize(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

func appendText[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendTextProp[T string | []byte](b []byte, id byte, s T) []byte {
	return appendText(append(b, id), s)
}

// outgoing is one copy of a message as it goes to one client.
type outgoing struct {
	m      *Message
	topic  string // empty when the alias stands for it
	alias  uint16
	id     uint16
	ids    []uint32 // subscription identifiers
	qos    byte
	dup    bool
	retain bool
	answer bool   // given by Reply
	expiry uint32 // what is left, in seconds, when m expires
}

// left returns the rest of a message's life in whole seconds, rounded up; ok is false when it has none.
// [MQTT-3.3.2-6]: the time it waited here is taken off.
func left(expires, now time.Time) (seconds uint32, ok bool) {
	d := expires.Sub(now)
	if d <= 0 {
		return 0, false
	}
	d -= instant
	return uint32(min((d+time.Second-1)/time.Second, never)), true
}

// instant is added to the life of what a client publishes, so that "0 seconds" reaches those who are there.
const instant = time.Millisecond

func (o *outgoing) propsSize() int {
	m, n := o.m, 0
	if m.UTF8 {
		n += 2
	}
	if !m.Expires.IsZero() {
		n += 5
	}
	if m.ContentType != "" {
		n += 3 + len(m.ContentType)
	}
	if m.ResponseTopic != "" {
		n += 3 + len(m.ResponseTopic)
	}
	if m.CorrelationData != nil {
		n += 3 + len(m.CorrelationData)
	}
	if o.alias != 0 {
		n += 3
	}
	for _, u := range m.User {
		n += 5 + len(u.Key) + len(u.Value)
	}
	for _, id := range o.ids {
		n += 1 + varintSize(int(id))
	}
	return n
}

// size is the length of the PUBLISH that append would append.
func (o *outgoing) size(version byte) int {
	n := 2 + len(o.topic) + len(o.m.Payload)
	if o.qos > 0 {
		n += 2
	}
	if version == V5 {
		p := o.propsSize()
		n += varintSize(p) + p
	}
	return 1 + varintSize(n) + n
}

// append appends o as a PUBLISH.
func (o *outgoing) append(b []byte, version byte) []byte {
	m := o.m
	props := 0
	n := 2 + len(o.topic) + len(m.Payload)
	if o.qos > 0 {
		n += 2
	}
	if version == V5 {
		props = o.propsSize()
		n += varintSize(props) + props
	}
	first := byte(tPublish<<4) | o.qos<<1
	if o.dup {
		first |= 8
	}
	if o.retain {
		first |= 1
	}
	b = appendVarint(append(b, first), n)
	b = appendText(b, o.topic)
	if o.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, o.id)
	}
	if version == V5 {
		b = o.appendProps(appendVarint(b, props))
	}
	return append(b, m.Payload...)
}

func (o *outgoing) appendProps(b []byte) []byte {
	m := o.m
	if m.UTF8 {
		b = append(b, pPayloadFormat, 1) // [MQTT-3.3.2-4]: unaltered, as are all below
	}
	if !m.Expires.IsZero() {
		b = binary.BigEndian.AppendUint32(append(b, pMessageExpiry), o.expiry)
	}
	if m.ContentType != "" {
		b = appendTextProp(b, pContentType, m.ContentType) // [MQTT-3.3.2-20]
	}
	if m.ResponseTopic != "" {
		b = appendTextProp(b, pResponseTopic, m.ResponseTopic) // [MQTT-3.3.2-15]
	}
	if m.CorrelationData != nil {
		b = appendTextProp(b, pCorrelationData, m.CorrelationData) // [MQTT-3.3.2-16]
	}
	if o.alias != 0 {
		b = binary.BigEndian.AppendUint16(append(b, pTopicAlias), o.alias)
	}
	for _, u := range m.User { // [MQTT-3.3.2-17], in their order [MQTT-3.3.2-18]
		b = appendText(appendTextProp(b, pUser, u.Key), u.Value)
	}
	for _, id := range o.ids { // [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]
		b = appendVarint(append(b, pSubscriptionID), int(id))
	}
	return b
}

// appendAck appends a PUBACK with the identifier it came with [MQTT-2.2.1-5] [MQTT3-2.3.1-6]. Success is said in two bytes.
func appendAck(b []byte, version byte, id uint16, code Code, reason string) []byte {
	switch {
	case version == V311 || code == Success:
		b = append(b, tPuback<<4, 2)
		return binary.BigEndian.AppendUint16(b, id)
	case reason == "":
		b = append(b, tPuback<<4, 3)
		return append(binary.BigEndian.AppendUint16(b, id), byte(code))
	}
	n := 3 + len(reason)
	b = appendVarint(append(b, tPuback<<4), 3+varintSize(n)+n)
	b = append(binary.BigEndian.AppendUint16(b, id), byte(code))
	return appendTextProp(appendVarint(b, n), pReasonString, reason)
}

// appendCodes appends a SUBACK or UNSUBACK with the identifier it came with [MQTT-2.2.1-6] [MQTT3-2.3.1-7] and a code for each
// filter, in their order. Of properties there are none [MQTT-2.2.2-1] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2].
func appendCodes(b []byte, kind byte, version byte, id uint16, codes []byte) []byte {
	n := 2 + len(codes)
	if version == V5 {
		n++
	}
	b = appendVarint(append(b, kind<<4), n)
	b = binary.BigEndian.AppendUint16(b, id)
	if version == V5 {
		b = append(b, 0)
	}
	return append(b, codes...)
}

// appendDisconnect appends a DISCONNECT to an MQTT 5 client.
func appendDisconnect(b []byte, code Code, reason string) []byte {
	if reason == "" {
		return append(b, tDisconnect<<4, 1, byte(code))
	}
	n := 3 + len(reason)
	b = appendVarint(append(b, tDisconnect<<4), 1+varintSize(n)+n)
	return appendTextProp(appendVarint(append(b, byte(code)), n), pReasonString, reason)
}

// appendRefusal appends a CONNACK that refuses. version 0 is a protocol we do not speak.
func appendRefusal(b []byte, version byte, r *Refusal, reasons bool) []byte {
	if version != V5 {
		return append(b, tConnack<<4, 2, 0, returnCode(r.Code)) // [MQTT3-3.2.2-4]: no session present
	}
	if r.Reason == "" || !reasons {
		return append(b, tConnack<<4, 3, 0, byte(r.Code), 0) // [MQTT-3.2.2-6]
	}
	n := 3 + len(r.Reason)
	b = appendVarint(append(b, tConnack<<4), 2+varintSize(n)+n)
	b = appendVarint(append(b, 0, byte(r.Code)), n)
	return appendTextProp(b, pReasonString, r.Reason)
}

// returnCode is the 3.1.1 CONNACK return code nearest to a reason code.
func returnCode(c Code) byte {
	switch c {
	case UnsupportedVersion:
		return 1
	case ClientIDNotValid:
		return 2
	case BadCredentials, BadAuthMethod:
		return 4
	case NotAuthorized, Banned, RetainNotSupported, TopicNameInvalid:
		return 5
	}
	return 3
}
