package pebblestore

import (
	"encoding/binary"

	"muster"
)

// A record is what an execution's key does not say. It begins with the status and what else is
// there, so that most fields of a queued execution take no byte at all:
//
//	flags     status in the low four bits; forced, started, timers, attempt
//	version   uvarint
//	seq       uvarint
//	queued    uvarint, milliseconds
//	updated   varint, from queued
//	started   varint, from queued, if started
//	timers    two varints from queued, 0 for none (and one more otherwise), if there are timers
//	attempt   two uvarints: retries, and those after a time-out, if there were any
//	details   the rest
const (
	recForced  = 1 << 4
	recStarted = 1 << 5
	recTimers  = 1 << 6
	recAttempt = 1 << 7
)

func appendRecord(b []byte, e *muster.Execution) []byte {
	flags := byte(e.Status)
	if e.ForceCanceled {
		flags |= recForced
	}
	if e.StartedAt != 0 {
		flags |= recStarted
	}
	if e.InProgressTimeout != 0 || e.StepTimeout != 0 {
		flags |= recTimers
	}
	if e.Attempt != 0 || e.TimedOutRetries != 0 {
		flags |= recAttempt
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(e.Version))
	b = binary.AppendUvarint(b, e.Seq)
	b = binary.AppendUvarint(b, uint64(e.QueuedAt))
	b = binary.AppendVarint(b, int64(e.UpdatedAt-e.QueuedAt))
	if flags&recStarted != 0 {
		b = binary.AppendVarint(b, int64(e.StartedAt-e.QueuedAt))
	}
	if flags&recTimers != 0 {
		b = appendTimer(b, e.InProgressTimeout, e.QueuedAt)
		b = appendTimer(b, e.StepTimeout, e.QueuedAt)
	}
	if flags&recAttempt != 0 {
		b = binary.AppendUvarint(b, uint64(e.Attempt))
		b = binary.AppendUvarint(b, uint64(e.TimedOutRetries))
	}
	return append(b, e.Details...)
}

func appendTimer(b []byte, t, from muster.Time) []byte {
	if t == 0 {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), int64(t-from))
}

// decodeRecord fills in what the record says. The details are copied.
func decodeRecord(v []byte, e *muster.Execution) bool {
	d := decoder{b: v}
	flags := d.byte()
	e.Status = muster.Status(flags & 15)
	e.ForceCanceled = flags&recForced != 0
	e.Version = int64(d.uvarint())
	e.Seq = d.uvarint()
	e.QueuedAt = muster.Time(d.uvarint())
	e.UpdatedAt = e.QueuedAt + muster.Time(d.varint())
	e.StartedAt, e.InProgressTimeout, e.StepTimeout, e.Attempt, e.TimedOutRetries = 0, 0, 0, 0, 0
	if flags&recStarted != 0 {
		e.StartedAt = e.QueuedAt + muster.Time(d.varint())
	}
	if flags&recTimers != 0 {
		e.InProgressTimeout = d.timer(e.QueuedAt)
		e.StepTimeout = d.timer(e.QueuedAt)
	}
	if flags&recAttempt != 0 {
		e.Attempt = int32(d.uvarint())
		e.TimedOutRetries = int32(d.uvarint())
	}
	if d.bad || e.Status == muster.NoStatus || e.Status >= muster.NumStatus {
		return false
	}
	e.Details = muster.Pairs(d.b)
	return true
}

// recordStatus is the status a record tells, without decoding the rest.
func recordStatus(v []byte) muster.Status {
	if len(v) == 0 {
		return muster.NoStatus
	}
	return muster.Status(v[0] & 15)
}

// A decoder takes values off the front of b; bad tells that one was not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		u := uint64(d.b[0])
		d.b = d.b[1:]
		return u
	}
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	x := int64(u >> 1)
	if u&1 != 0 {
		x = ^x
	}
	return x
}

func (d *decoder) timer(from muster.Time) muster.Time {
	if d.byte() == 0 {
		return 0
	}
	return from + muster.Time(d.varint())
}

// bytes takes n bytes; they are not copied.
func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes(d.uvarint())) }

func appendText[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendUvarint(b []byte, u uint64) []byte { return binary.AppendUvarint(b, u) }
