package pebblestore

import (
	"encoding/binary"

	"muster"
	"muster/internal/store/codec"
)

// A thing's queue is kept as one string: its pending executions in contract order, each as length,
// job, number and record.

// pendingRef is one execution of a queue, as it lies in the string.
type pendingRef struct {
	jid    uint32
	number int64
	record []byte
}

// cutPending takes the first execution off a queue.
func cutPending(q []byte) (p pendingRef, rest []byte, ok bool) {
	d := codec.Decoder{B: q}
	v := d.Bytes(d.Uvarint())
	e := codec.Decoder{B: v}
	p.jid = uint32(e.Uvarint())
	p.number = int64(e.Uvarint())
	p.record = e.B
	return p, d.B, !d.Bad && !e.Bad
}

func appendPending(q []byte, jid uint32, number int64, record []byte) []byte {
	n := uvarintLen(uint64(jid)) + uvarintLen(uint64(number)) + len(record)
	q = binary.AppendUvarint(q, uint64(n))
	q = binary.AppendUvarint(q, uint64(jid))
	q = binary.AppendUvarint(q, uint64(number))
	return append(q, record...)
}

func uvarintLen(u uint64) int {
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// queue decodes the pending executions of a thing.
func (s *state) queue(tid uint32, name muster.ThingName) []muster.Execution {
	h := at(s.queues, tid)
	if h == 0 {
		return nil
	}
	q := s.slab.get(h)
	n := 0
	for rest := q; len(rest) > 0; n++ {
		_, rest, _ = cutPending(rest)
	}
	out := make([]muster.Execution, n)
	for i := range out {
		p, rest, _ := cutPending(q)
		out[i].Job, out[i].Thing, out[i].Number = s.jobID(p.jid), name, p.number
		if !codec.DecodeExecution(p.record, &out[i]) {
			panic("a queue in memory does not decode")
		}
		q = rest
	}
	return out
}

// findPending is the execution of a job in a thing's queue, the one with the largest number if
// number is 0.
func (s *state) findPending(tid, jid uint32, number int64) (found pendingRef, ok bool) {
	h := at(s.queues, tid)
	if h == 0 {
		return found, false
	}
	for q := s.slab.get(h); len(q) > 0; {
		p, rest, good := cutPending(q)
		if !good {
			break
		}
		if p.jid == jid && (p.number == number || number == 0 && (!ok || p.number > found.number)) {
			found, ok = p, true
		}
		q = rest
	}
	return found, ok
}

// pendingWith reports whether a thing has a pending execution of a job with a status, besides the
// one with a number.
func (s *state) pendingWith(tid, jid uint32, st muster.Status, besides int64) bool {
	h := at(s.queues, tid)
	if h == 0 {
		return false
	}
	for q := s.slab.get(h); len(q) > 0; {
		p, rest, ok := cutPending(q)
		if !ok {
			break
		}
		if p.jid == jid && p.number != besides && codec.StatusOf(p.record) == st {
			return true
		}
		q = rest
	}
	return false
}

// order is what the place of an execution in its queue depends on.
type order struct {
	queued   bool // not in progress
	queuedAt uint64
	seq      uint64
}

func recordOrder(r []byte) order {
	d := codec.Decoder{B: r}
	o := order{queued: muster.Status(d.Byte()&15) != muster.InProgress}
	d.Uvarint()
	o.seq = d.Uvarint()
	o.queuedAt = d.Uvarint()
	return o
}

// before is the order of a queue, muster.Before on records.
func (a order) before(b order) bool {
	if a.queued != b.queued {
		return b.queued
	}
	if a.queuedAt != b.queuedAt {
		return a.queuedAt < b.queuedAt
	}
	return a.seq < b.seq
}

// withRecord appends to out the queue q with the execution's record put in its place, or taken out
// if record is nil.
func withRecord(out, q []byte, jid uint32, number int64, record []byte) []byte {
	placed := record == nil
	var o order
	if !placed {
		o = recordOrder(record)
	}
	for len(q) > 0 {
		p, rest, ok := cutPending(q)
		if !ok {
			panic("a queue in memory does not decode")
		}
		raw := q[:len(q)-len(rest)]
		q = rest
		if p.jid == jid && p.number == number {
			continue
		}
		if !placed && o.before(recordOrder(p.record)) {
			out = appendPending(out, jid, number, record)
			placed = true
		}
		out = append(out, raw...)
	}
	if !placed {
		out = appendPending(out, jid, number, record)
	}
	return out
}
