package broker

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// maxRemaining is the largest remaining length that four bytes can say.
const maxRemaining = 268_435_455

// header reads a fixed header. It returns the length of the header and of what follows; size 0 means more
// bytes are needed.
func header(p []byte, version byte) (size, remaining int, bad *Refusal) {
	for i := 1; i < len(p); i++ {
		remaining |= int(p[i]&0x7F) << (7 * (i - 1))
		if p[i]&0x80 == 0 {
			if p[i] == 0 && i > 1 && version == V5 {
				return 0, 0, malformed("remaining length is longer than need be") // [MQTT-1.5.5-1]
			}
			return i + 1, remaining, nil
		}
		if i == 4 {
			return 0, 0, malformed("remaining length has more than four bytes")
		}
	}
	return 0, 0, nil
}

// reader takes a packet apart. The first thing that is wrong sticks; all later reads give zeros.
type reader struct {
	p   []byte
	bad *Refusal
}

func (r *reader) fail(bad *Refusal) {
	if r.bad == nil {
		r.bad = bad
	}
	r.p = nil
}

func (r *reader) take(n int) []byte {
	if len(r.p) < n {
		r.fail(malformed("packet is too short"))
		return nil
	}
	b := r.p[:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer, which has to be as short as it can be. [MQTT-1.5.5-1]
func (r *reader) varint() uint32 {
	var v uint32
	for i := 0; i < 4; i++ {
		b := r.byte()
		v |= uint32(b&0x7F) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				r.fail(malformed("variable byte integer is longer than need be"))
				return 0
			}
			return v
		}
	}
	r.fail(malformed("variable byte integer has more than four bytes"))
	return 0
}

// binary reads two bytes of length and that many bytes.
func (r *reader) binary() []byte {
	n := int(r.uint16())
	if r.bad != nil {
		return nil
	}
	return r.take(n)
}

// text reads a UTF-8 string: well formed, without surrogates [MQTT-1.5.4-1] [MQTT3-1.5.3-1] and without
// U+0000 [MQTT-1.5.4-2] [MQTT3-1.5.3-2]; a byte order mark is kept [MQTT-1.5.4-3] [MQTT3-1.5.3-3].
func (r *reader) text() string {
	b := r.binary()
	if !validText(b) {
		r.fail(malformed("string is not UTF-8, or has a NUL"))
		return ""
	}
	return string(b)
}

func validText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c == 0 {
			return false
		}
	}
	return true
}

// packetID reads a packet identifier. [MQTT-2.2.1-3] [MQTT3-2.3.1-1]: never zero.
func (r *reader) packetID() uint16 {
	id := r.uint16()
	if id == 0 && r.bad == nil {
		r.fail(violation("packet identifier is zero"))
	}
	return id
}

// end checks that nothing is left.
func (r *reader) end() *Refusal {
	if r.bad == nil && len(r.p) > 0 {
		r.fail(malformed("packet is too long"))
	}
	return r.bad
}

// checkFlags holds the lower four bits of a packet's first byte against its kind.
// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
// [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1] [MQTT3-3.14.1-1]
func checkFlags(first byte) *Refusal {
	flags := first & 0x0F
	switch first >> 4 {
	case tPublish:
		if flags>>1&3 == 3 {
			return malformed("QoS 3") // [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
		}
		if flags&0x08 != 0 && flags>>1&3 == 0 {
			return malformed("DUP on a QoS 0 message") // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
		}
		return nil
	case tPubrel, tSubscribe, tUnsubscribe:
		if flags != 2 {
			return malformed("reserved flags")
		}
	case 0:
		return malformed("packet of type 0")
	default:
		if flags != 0 {
			return malformed("reserved flags")
		}
	}
	return nil
}

// decodeConnect reads what follows the fixed header of a CONNECT. When the refusal's code is
// UnsupportedVersion the version it names is not one of ours.
func decodeConnect(p []byte) (*connect, *Refusal) {
	r := &reader{p: p}
	k := &connect{}
	name := r.text()
	k.version = r.byte()
	if r.bad != nil {
		return k, r.bad
	}
	if name == "MQIsdp" || name == "MQTT" && k.version != V311 && k.version != V5 {
		return k, refuse(UnsupportedVersion, "only MQTT 3.1.1 and 5") // [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
	}
	if name != "MQTT" {
		k.version = 0
		return k, refuse(UnsupportedVersion, "not MQTT") // [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
	}
	flags := r.byte()
	k.cleanStart = flags&0x02 != 0
	k.keepAlive = r.uint16()
	if flags&0x01 != 0 {
		return k, malformed("reserved connect flag") // [MQTT-3.1.2-3] [MQTT3-3.1.2-3]
	}
	hasWill, willQoS, willRetain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	if !hasWill && (willQoS != 0 || willRetain) {
		// [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-15]
		return k, malformed("will options without a will")
	}
	if willQoS == 3 {
		return k, malformed("will of QoS 3") // [MQTT-3.1.2-12] [MQTT3-3.1.2-14]
	}
	hasUser, hasPassword := flags&0x80 != 0, flags&0x40 != 0
	if k.version == V311 && hasPassword && !hasUser {
		return k, malformed("password without user name") // [MQTT3-3.1.2-22]
	}
	if k.version == V5 {
		k.props.read(r, inConnect)
	}
	// Always there and first [MQTT-3.1.3-3] [MQTT3-3.1.3-3], UTF-8 [MQTT-3.1.3-4] [MQTT3-3.1.3-4], the rest in its order
	// [MQTT-3.1.3-1] [MQTT3-3.1.3-1].
	k.clientID = r.text()
	if hasWill {
		// [MQTT-3.1.2-9] [MQTT3-3.1.2-9]: topic and message are there when the flag says so.
		w := &will{m: &Message{QoS: willQoS, Retain: willRetain}}
		if k.version == V5 {
			var wp props
			wp.read(r, inWill)
			w.delay = wp.willDelay
			w.expiry, w.expires = wp.expiry, wp.has(pMessageExpiry)
			wp.into(w.m)
		}
		w.m.Topic = r.text() // [MQTT-3.1.3-11] [MQTT3-3.1.3-10]
		w.m.Payload = append([]byte(nil), r.binary()...)
		if r.bad == nil && !validTopic(w.m.Topic) {
			return k, refuse(TopicNameInvalid, "will topic")
		}
		k.will = w
	}
	if hasUser {
		k.username, k.hasUser = r.text(), true // [MQTT-3.1.2-17] [MQTT-3.1.3-12] [MQTT3-3.1.2-19] [MQTT3-3.1.3-11]
	}
	if hasPassword {
		k.password = append([]byte(nil), r.binary()...) // [MQTT-3.1.2-19] [MQTT3-3.1.2-21]
	}
	return k, r.end() // nothing without its flag [MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT3-3.1.2-18] [MQTT3-3.1.2-20]
}

// publish is a PUBLISH as read. Topic, payload and correlation data are views of the packet.
type publish struct {
	topic   []byte
	payload []byte
	id      uint16
	qos     byte
	dup     bool
	retain  bool
	props   props
}

// decodePublish reads what follows the fixed header of a PUBLISH into d.
func decodePublish(d *publish, first byte, p []byte, version byte, allowed propSet) *Refusal {
	r := reader{p: p}
	d.qos, d.dup, d.retain = first>>1&3, first&8 != 0, first&1 != 0
	d.topic = r.binary() // [MQTT-3.3.2-1] [MQTT3-3.3.2-1]: the first field
	if !validText(d.topic) {
		return malformed("topic is not UTF-8, or has a NUL")
	}
	if d.qos > 0 {
		d.id = r.packetID() // [MQTT-2.2.1-2] [MQTT3-2.3.1-5]: only with QoS 1 and 2
	}
	if version == V5 {
		d.props.read(&r, allowed)
	}
	d.payload = r.p
	return r.bad
}

func decodeSubscribe(p []byte, version byte) (subscribe, *Refusal) {
	r := &reader{p: p}
	s := subscribe{id: r.packetID()}
	if version == V5 {
		var sp props
		sp.read(r, inSubscribe)
		s.subID = sp.subID()
	}
	if len(r.p) == 0 && r.bad == nil {
		return s, violation("SUBSCRIBE without a filter") // [MQTT-3.8.3-2] [MQTT3-3.8.3-3]
	}
	for r.bad == nil && len(r.p) > 0 {
		w := wanted{filter: r.text(), opts: options(r.byte())} // [MQTT-3.8.3-1] [MQTT3-3.8.3-1]
		switch {
		case r.bad != nil:
		case w.opts.qos() == 3:
			r.fail(malformed("QoS 3")) // [MQTT3-3-8.3-4]
		case version == V311 && w.opts&0xFC != 0, w.opts&0xC0 != 0:
			r.fail(malformed("reserved subscription options")) // [MQTT-3.8.3-5] [MQTT3-3-8.3-4]
		case w.opts.retaining() == 3:
			r.fail(violation("retain handling 3"))
		case w.opts.noLocal() && strings.HasPrefix(w.filter, sharePrefix):
			r.fail(violation("no local on a shared subscription")) // [MQTT-3.8.3-4]
		}
		s.filters = append(s.filters, w)
	}
	return s, r.bad
}

func decodeUnsubscribe(p []byte, version byte) (id uint16, filters []string, bad *Refusal) {
	r := &reader{p: p}
	id = r.packetID()
	if version == V5 {
		var up props
		up.read(r, inUnsubscribe)
	}
	if len(r.p) == 0 && r.bad == nil {
		return id, nil, violation("UNSUBSCRIBE without a filter") // [MQTT-3.10.3-2] [MQTT3-3.10.3-2]
	}
	for r.bad == nil && len(r.p) > 0 {
		filters = append(filters, r.text()) // [MQTT-3.10.3-1] [MQTT3-3.10.3-1]
	}
	return id, filters, r.bad
}

// decodeAck reads a PUBACK.
func decodeAck(p []byte, version byte) (id uint16, code Code, bad *Refusal) {
	r := reader{p: p}
	id = r.packetID()
	if version == V5 && len(r.p) > 0 {
		code = Code(r.byte())
		if len(r.p) > 0 { // MQTT 5, 3.4.2.2.1: no properties when the remaining length is below 4
			var ap props
			ap.read(&r, inAck)
		}
	}
	return id, code, r.end()
}

// decodeDisconnect reads a DISCONNECT.
func decodeDisconnect(p []byte, version byte) (code Code, dp props, bad *Refusal) {
	r := &reader{p: p}
	if version == V5 && len(r.p) > 0 {
		code = Code(r.byte())
		if len(r.p) > 0 {
			dp.read(r, inDisconnect)
		}
	}
	return code, dp, r.end()
}

// view is b as a string that lives no longer than b stays as it is.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
