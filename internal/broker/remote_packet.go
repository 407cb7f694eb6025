package broker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The client's side of the packets: what it writes, and what only a server sends.

// hello is a CONNECT to be written.
type hello struct {
	version    byte
	cleanStart bool
	keepAlive  uint16
	clientID   string
	username   string
	password   []byte // nil: none
	expiry     uint32 // of the session, in seconds; MQTT 5 only, as is what follows
	receiveMax uint16
	maxPacket  uint32
}

func (h *hello) append(b []byte) []byte {
	var flags byte
	if h.cleanStart {
		flags |= 0x02
	}
	body := appendText(nil, "MQTT")
	if h.username != "" || h.password != nil && h.version == V311 {
		flags |= 0x80 // [MQTT3-3.1.2-22]: no password without a user name
	}
	if h.password != nil {
		flags |= 0x40
	}
	body = binary.BigEndian.AppendUint16(append(body, h.version, flags), h.keepAlive)
	if h.version == V5 {
		props := binary.BigEndian.AppendUint16([]byte{pReceiveMaximum}, h.receiveMax)
		props = binary.BigEndian.AppendUint32(append(props, pMaximumPacket), h.maxPacket)
		if h.expiry > 0 {
			props = binary.BigEndian.AppendUint32(append(props, pSessionExpiry), h.expiry)
		}
		body = append(appendVarint(body, len(props)), props...)
	}
	body = appendText(body, h.clientID)
	if flags&0x80 != 0 {
		body = appendText(body, h.username)
	}
	if h.password != nil {
		body = appendText(body, h.password)
	}
	return append(appendVarint(append(b, tConnect<<4), len(body)), body...)
}

// appendFilters appends a SUBSCRIBE for QoS 1 without retained messages, or an UNSUBSCRIBE.
func appendFilters(b []byte, kind, version byte, id uint16, filters []string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if version == V5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = appendText(body, f)
		switch {
		case kind == tUnsubscribe:
		case version == V5:
			body = append(body, 1|2<<4) // retain handling 2
		default:
			body = append(body, 1)
		}
	}
	return append(appendVarint(append(b, kind<<4|2), len(body)), body...)
}

// welcome is a CONNACK as read.
type welcome struct {
	session    bool // the server has kept it
	code       Code
	reason     string
	receiveMax int
	maxPacket  int
	maxQoS     byte
	keepAlive  uint16 // 0: the server says none
}

// returnCodes are what the 3.1.1 CONNACK return codes mean.
var returnCodes = []Code{Success, UnsupportedVersion, ClientIDNotValid, ServerUnavailable, BadCredentials, NotAuthorized}

// decodeConnack reads what follows the fixed header. A server that does not speak MQTT 5 answers in its own version.
func decodeConnack(p []byte, version byte) (w welcome, bad *Refusal) {
	w.receiveMax, w.maxPacket, w.maxQoS = 65535, maxRemaining, 1
	r := &reader{p: p}
	w.session = r.byte()&1 != 0
	code := r.byte()
	if version == V311 || len(r.p) == 0 {
		if version == V5 {
			w.code = Code(code)
			if code < 0x80 && code != 0 && int(code) < len(returnCodes) {
				w.code = returnCodes[code]
			}
			return w, r.end()
		}
		w.code = UnspecifiedError
		if int(code) < len(returnCodes) {
			w.code = returnCodes[code]
		}
		return w, r.end()
	}
	w.code = Code(code)
	each(r, w.property)
	return w, r.end()
}

// Properties that only a server sends.
const (
	pResponseInfo      = 26
	pServerReference   = 28
	pWildcardAvailable = 40
	pSubIDAvailable    = 41
	pShareAvailable    = 42
)

// inServerPublish is what a server may say of a message.
var inServerPublish = inPublish | setOf(pSubscriptionID)

// each reads the properties of a packet of a server that is no PUBLISH. Which may stand where is left to the server.
func each(r *reader, got func(id, number uint32, text string)) {
	if len(r.p) == 0 {
		return // MQTT 5, 3.4.2.2.1 and 3.14.2.2.1: what has none may end before them
	}
	q := reader{p: r.take(int(r.varint()))}
	for r.bad == nil && q.bad == nil && len(q.p) > 0 {
		var number uint32
		var text string
		id := q.varint()
		switch id {
		case pMaximumQoS, pRetainAvailable, pWildcardAvailable, pSubIDAvailable, pShareAvailable:
			number = uint32(q.byte())
		case pReceiveMaximum, pServerKeepAlive, pTopicAliasMax:
			number = uint32(q.uint16())
		case pMaximumPacket, pSessionExpiry:
			number = q.uint32()
		case pReasonString, pAssignedID, pResponseInfo, pServerReference, pAuthMethod:
			text = q.text()
		case pAuthData:
			q.binary()
		case pUser:
			q.text()
			q.text()
		default:
			q.fail(malformed("unknown property"))
		}
		if q.bad == nil {
			got(id, number, text)
		}
	}
	if q.bad != nil {
		r.fail(q.bad)
	}
}

func (w *welcome) property(id, number uint32, text string) {
	switch id {
	case pReceiveMaximum:
		w.receiveMax = int(number)
	case pMaximumPacket:
		w.maxPacket = int(min(number, maxRemaining))
	case pMaximumQoS:
		w.maxQoS = byte(number)
	case pServerKeepAlive:
		w.keepAlive = uint16(number)
	case pReasonString:
		w.reason = text
	}
}

// decodeCodes reads a SUBACK, or an UNSUBACK, which has codes in MQTT 5 alone.
func decodeCodes(p []byte, version byte) (id uint16, codes []byte, reason string, bad *Refusal) {
	r := &reader{p: p}
	id = r.packetID()
	if version == V5 {
		each(r, reasonInto(&reason))
	}
	return id, r.p, reason, r.bad
}

// decodeServerAck reads a PUBACK.
func decodeServerAck(p []byte, version byte) (id uint16, code Code, reason string, bad *Refusal) {
	r := &reader{p: p}
	id = r.packetID()
	if version == V5 && len(r.p) > 0 {
		code = Code(r.byte())
		each(r, reasonInto(&reason))
	}
	return id, code, reason, r.end()
}

// decodeGoodbye reads a DISCONNECT.
func decodeGoodbye(p []byte) (code Code, reason string) {
	r := &reader{p: p}
	if len(r.p) > 0 {
		code = Code(r.byte())
		each(r, reasonInto(&reason))
	}
	return code, reason
}

func reasonInto(reason *string) func(id, number uint32, text string) {
	return func(id, _ uint32, text string) {
		if id == pReasonString {
			*reason = text
		}
	}
}

// words are what people call the codes with which servers refuse.
var words = map[Code]string{
	UnspecifiedError: "unspecified error", UnsupportedVersion: "the protocol version is not supported", ClientIDNotValid: "the client id is not valid",
	BadCredentials: "bad user name or password", NotAuthorized: "not authorized", ServerUnavailable: "the server is unavailable",
	ServerBusy: "the server is busy", Banned: "banned", ServerShuttingDown: "the server is shutting down", KeepAliveTimeout: "keep-alive timeout",
	SessionTakenOver: "another client has connected with the same client id", TopicFilterInvalid: "the topic filter is not valid",
	TopicNameInvalid: "the topic name is not valid", ReceiveMaximumExceeded: "receive maximum exceeded", PacketTooLarge: "the packet is too large",
	MessageRateTooHigh: "the message rate is too high", QuotaExceeded: "quota exceeded", AdministrativeAction: "administrative action",
	RetainNotSupported: "retain is not supported", QoSNotSupported: "the QoS is not supported", ConnectionRateExceeded: "connection rate exceeded",
	MaximumConnectTime: "maximum connect time", sharedNotSupported: "shared subscriptions are not supported", wildcardsNotSupported: "wildcards are not supported",
}

const (
	sharedNotSupported    Code = 0x9E
	wildcardsNotSupported Code = 0xA2
)

// named is a refusal that says what its code means.
func named(code Code, reason string) *Refusal {
	if reason == "" {
		reason = words[code]
	}
	return refuse(code, reason)
}

// maxHeld is how much of a packet is read. What is longer can be no request, and is thrown away.
const maxHeld = 256 << 10

// readPacket reads a whole packet. Of one that is longer than maxHeld the rest is skipped, and cut is true.
func readPacket(in *bufio.Reader, version byte) (first byte, body []byte, cut bool, err error) {
	if first, err = in.ReadByte(); err != nil {
		return 0, nil, false, err
	}
	head := []byte{first, 0, 0, 0, 0}
	for i := 1; ; i++ {
		if head[i], err = in.ReadByte(); err != nil {
			return 0, nil, false, err
		}
		size, remaining, bad := header(head[:i+1], version)
		if bad != nil {
			return 0, nil, false, bad
		}
		if size == 0 {
			continue
		}
		body = make([]byte, min(remaining, maxHeld))
		if _, err = io.ReadFull(in, body); err == nil && remaining > maxHeld {
			cut = true
			_, err = io.CopyN(io.Discard, in, int64(remaining-maxHeld))
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return first, body, cut, err
	}
}

// unexpected is a packet that no server sends at that moment.
func unexpected(first byte) *Refusal { return violation(fmt.Sprintf("packet of type %d", first>>4)) }
