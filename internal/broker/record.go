package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// The keys of the store. A client id has no NUL, so a message's key cannot be another client's.
func sessionKey(id string) string     { return "s" + id }
func retainedKey(topic string) string { return "r" + topic }
func messagePrefix(id string) string  { return "m" + id + "\x00" }

func messageKey(id string, seq uint64) string {
	b := make([]byte, 0, len(id)+10)
	b = append(append(append(b, 'm'), id...), 0)
	return string(binary.BigEndian.AppendUint64(b, seq))
}

const recordVersion = 1

var errRecord = errors.New("broker: stored record is damaged")

// encodeMessage is a moment, flags and an MQTT 5 PUBLISH.
func encodeMessage(o *outgoing, flags byte) []byte {
	m := o.m
	var expires int64
	if !m.Expires.IsZero() {
		expires = m.Expires.UnixNano()
	}
	b := make([]byte, 0, 10+o.size(V5))
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	return o.append(b, V5)
}

func decodeMessage(b []byte) (m *Message, ids []uint32, flags byte, err error) {
	if len(b) < 12 || b[0] != recordVersion {
		return nil, nil, 0, errRecord
	}
	flags = b[1]
	expires := int64(binary.BigEndian.Uint64(b[2:]))
	b = slices.Clone(b[10:])
	n, _, bad := header(b, V5)
	var d publish
	if bad == nil {
		bad = decodePublish(&d, b[0], b[n:], V5, inStored)
	}
	if bad != nil {
		return nil, nil, 0, errRecord
	}
	m = &Message{Topic: string(d.topic), Payload: d.payload, QoS: d.qos, Retain: d.retain}
	d.props.into(m)
	if expires != 0 {
		m.Expires = time.Unix(0, expires)
	}
	m.weight()
	return m, d.props.subIDs, flags, nil
}

const maybeSent = 1

func encodeElement(e *element, sent bool) []byte {
	var flags byte
	if sent {
		flags = maybeSent
	}
	return encodeMessage(&outgoing{m: e.m, topic: e.m.Topic, ids: e.ids, qos: 1, retain: e.retain, id: 1}, flags)
}

// load learns what the store holds for a session that was not looked at since the broker started, and with
// whole gets the messages themselves. mu is held.
func (s *session) load(whole bool) error {
	if !s.cold && !(whole && slices.ContainsFunc(s.waiting, func(e element) bool { return e.m == nil })) {
		return nil
	}
	var found []element
	prefix := messagePrefix(s.id)
	err := s.b.journal.store.Scan(context.Background(), []byte(prefix), func(key, value []byte) error {
		if len(key) != len(prefix)+8 {
			return errRecord
		}
		m, ids, flags, err := decodeMessage(value)
		if err != nil {
			return err
		}
		seq := binary.BigEndian.Uint64(key[len(prefix):])
		found = append(found, element{m: m, ids: ids, seq: seq, size: int32(m.weight()), retain: m.Retain, kept: true,
			dup: flags&maybeSent != 0 || seq <= s.sent})
		return nil
	})
	if err != nil {
		s.b.log.Error("waiting messages not read", "client", s.id, "error", err)
		return err
	}
	if s.cold {
		s.cold = false
		for _, e := range found {
			s.seq = max(s.seq, e.seq)
			if !whole && s.client == nil {
				e.m = nil
			} else {
				s.b.held.Add(int64(e.size))
			}
			s.bytes += int(e.size)
			s.waiting = append(s.waiting, e)
		}
		s.sent = min(s.sent, s.seq)
		return nil
	}
	for i := range s.waiting {
		e := &s.waiting[i]
		if e.m != nil {
			continue
		}
		if at, ok := slices.BinarySearchFunc(found, e.seq, func(f element, seq uint64) int { return int(f.seq) - int(seq) }); ok {
			e.m = found[at].m
			s.b.held.Add(int64(e.size))
		}
	}
	// What is neither here nor there cannot be sent, and must not hold up the rest.
	s.waiting = slices.DeleteFunc(s.waiting, func(e element) bool {
		if e.m == nil {
			s.bytes -= int(e.size)
		}
		return e.m == nil
	})
	return nil
}

// record is the session as it is stored: how long it lasts, since when its client is away, what it subscribes,
// and its will. mu is held.
func (s *session) record() []byte {
	var since, sent uint64
	if s.client == nil {
		since, sent = uint64(s.since.UnixNano()), s.sent
	} else {
		sent = math.MaxUint64 // a connection that ended with the process may have sent anything
	}
	b := []byte{recordVersion}
	b = binary.BigEndian.AppendUint32(b, s.expiry)
	b = binary.BigEndian.AppendUint64(b, since)
	b = binary.BigEndian.AppendUint64(b, sent)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.subs)))
	for _, u := range s.subs {
		b = appendText(b, u.name())
		b = binary.BigEndian.AppendUint32(append(b, byte(u.opts)), u.id)
	}
	w := s.will
	if s.client != nil {
		w = s.client.will
	}
	if w == nil {
		return append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(append(b, 1), w.delay)
	b = binary.BigEndian.AppendUint32(b, w.expiry)
	var flags byte
	if w.expires {
		flags = 1
	}
	return append(b, encodeMessage(&outgoing{m: w.m, topic: w.m.Topic, qos: w.m.QoS, retain: w.m.Retain, id: 1}, flags)...)
}

// restore fills s from its record and subscribes it.
func (s *session) restore(record []byte, now time.Time) error {
	if len(record) == 0 || record[0] != recordVersion {
		return errRecord
	}
	r := &reader{p: record[1:]}
	s.expiry = r.uint32()
	since := int64(uint64(r.uint32())<<32 | uint64(r.uint32()))
	s.sent = uint64(r.uint32())<<32 | uint64(r.uint32())
	if since == 0 {
		s.since = now
	} else {
		s.since = time.Unix(0, since)
	}
	for range r.uint16() {
		name := strings.Clone(r.text())
		opts := options(r.byte())
		id := r.uint32()
		group, filter, ok := SplitShare(name)
		if r.bad != nil || !ok {
			return errRecord
		}
		u := &subscription{s: s, filter: filter, id: id, opts: opts}
		s.subs = append(s.subs, u)
		s.b.index.add(u, group)
	}
	if r.byte() == 1 {
		w := &will{delay: r.uint32(), expiry: r.uint32()}
		if r.bad != nil {
			return errRecord
		}
		m, _, flags, err := decodeMessage(r.p)
		if err != nil {
			return err
		}
		w.m, w.expires = m, flags&1 != 0
		s.will = w
	}
	if r.bad != nil {
		return errRecord
	}
	return nil
}
