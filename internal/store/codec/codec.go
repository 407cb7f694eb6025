// Package codec writes executions as bytes, for the stores that keep them so.
package codec

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

// AppendExecution writes an execution without what names it.
func AppendExecution(b []byte, e *muster.Execution) []byte {
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

// DecodeExecution fills in what the record says. The details are copied.
func DecodeExecution(v []byte, e *muster.Execution) bool {
	d := Decoder{B: v}
	flags := d.Byte()
	e.Status = muster.Status(flags & 15)
	e.ForceCanceled = flags&recForced != 0
	e.Version = int64(d.Uvarint())
	e.Seq = d.Uvarint()
	e.QueuedAt = muster.Time(d.Uvarint())
	e.UpdatedAt = e.QueuedAt + muster.Time(d.Varint())
	e.StartedAt, e.InProgressTimeout, e.StepTimeout, e.Attempt, e.TimedOutRetries = 0, 0, 0, 0, 0
	if flags&recStarted != 0 {
		e.StartedAt = e.QueuedAt + muster.Time(d.Varint())
	}
	if flags&recTimers != 0 {
		e.InProgressTimeout = d.timer(e.QueuedAt)
		e.StepTimeout = d.timer(e.QueuedAt)
	}
	if flags&recAttempt != 0 {
		e.Attempt = int32(d.Uvarint())
		e.TimedOutRetries = int32(d.Uvarint())
	}
	if d.Bad || e.Status == muster.NoStatus || e.Status >= muster.NumStatus {
		return false
	}
	e.Details = muster.Pairs(d.B)
	return true
}

// StatusOf is the status a record tells, without decoding the rest.
func StatusOf(v []byte) muster.Status {
	if len(v) == 0 {
		return muster.NoStatus
	}
	return muster.Status(v[0] & 15)
}

// A Decoder takes values off the front of B; Bad tells that one was not there.
type Decoder struct {
	B   []byte
	Bad bool
}

// Byte takes one byte.
func (d *Decoder) Byte() byte {
	if len(d.B) == 0 {
		d.Bad = true
		return 0
	}
	c := d.B[0]
	d.B = d.B[1:]
	return c
}

// Uvarint takes an unsigned number.
func (d *Decoder) Uvarint() uint64 {
	if len(d.B) > 0 && d.B[0] < 0x80 {
		u := uint64(d.B[0])
		d.B = d.B[1:]
		return u
	}
	u, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Bad, d.B = true, nil
		return 0
	}
	d.B = d.B[n:]
	return u
}

// Varint takes a signed number.
func (d *Decoder) Varint() int64 {
	u := d.Uvarint()
	x := int64(u >> 1)
	if u&1 != 0 {
		x = ^x
	}
	return x
}

func (d *Decoder) timer(from muster.Time) muster.Time {
	if d.Byte() == 0 {
		return 0
	}
	return from + muster.Time(d.Varint())
}

// Bytes takes n bytes; they are not copied.
func (d *Decoder) Bytes(n uint64) []byte {
	if n > uint64(len(d.B)) {
		d.Bad, d.B = true, nil
		return nil
	}
	v := d.B[:n]
	d.B = d.B[n:]
	return v
}

// Text takes a string that AppendText wrote.
func (d *Decoder) Text() string { return string(d.Bytes(d.Uvarint())) }

// AppendText writes a string with its length before it.
func AppendText[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// What the first byte of the fact of an execution says beside the kind, which is in its low three bits.
const (
	factForced  = 1 << 3
	factList    = 1 << 4
	factNext    = 1 << 5
	factDetails = 1 << 6
)

// AppendFact begins the fact of a change of an execution: with what names it, which each store writes in its own way,
// between head and tail, the rest follows.
func AppendFact(b []byte, c *muster.Change, n muster.Notice, names func([]byte) []byte) []byte {
	x := c.Execution()
	flags := byte(muster.FactExecution)
	if x.ForceCanceled {
		flags |= factForced
	}
	if n.List {
		flags |= factList
	}
	if n.Next {
		flags |= factNext
	}
	gone := c.After.Status == muster.NoStatus && x.Details != ""
	if gone {
		flags |= factDetails
	}
	b = append(b, flags, byte(c.Before.Status)<<4|byte(c.After.Status))
	b = names(b)
	b = binary.AppendUvarint(b, uint64(x.Number))
	b = binary.AppendUvarint(b, uint64(x.Version))
	if gone {
		b = AppendText(b, x.Details)
	}
	return b
}

// AppendRowFact writes the fact of a row.
func AppendRowFact(b []byte, f *muster.Fact) []byte {
	b = AppendText(AppendText(AppendText(append(b, byte(f.Kind)), f.Name), f.Thing), f.Group)
	return AppendText(AppendText(b, f.Before), f.After)
}

// Fact takes the fact that AppendFact or AppendRowFact wrote; names reads what names an execution.
func (d *Decoder) Fact(names func(*Decoder, *muster.Fact)) (f muster.Fact) {
	flags := d.Byte()
	f.Kind = muster.FactKind(flags & 7)
	if f.Kind != muster.FactExecution {
		f.Name = d.Text()
		f.Thing = muster.ThingName(d.Text())
		f.Group = muster.GroupName(d.Text())
		f.Before = d.Text()
		f.After = d.Text()
		return f
	}
	st := d.Byte()
	f.From, f.To = muster.Status(st>>4), muster.Status(st&15)
	f.Forced = flags&factForced != 0
	f.Notice = muster.Notice{List: flags&factList != 0, Next: flags&factNext != 0}
	names(d, &f)
	f.Number = int64(d.Uvarint())
	f.Version = int64(d.Uvarint())
	if flags&factDetails != 0 {
		f.Details = muster.Pairs(d.Text())
	}
	return f
}
