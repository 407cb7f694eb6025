package pebblestore

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2/batchrepr"

	"muster/internal/store/codec"
)

// A batch is what many Updates write, in the form in which pebble writes it to its log, so that it
// is encoded once and what a failed Update wrote is cut off again.
//
// Reads within the batch must see it. They are rare, for what devices do is answered from RAM, so
// nothing is indexed until somebody asks: index works off what was written since it was last called.
type batch struct {
	repr  []byte
	count uint32

	indexed int
	puts    map[string]span // latest write of a key since the batch began
	ranges  []keyRange      // ranges deleted; puts has what was written after
}

type span struct {
	at, len int
	deleted bool
}

type keyRange struct{ lower, upper []byte }

// The kinds of entries of pebble's log that are used here, from its documented format.
const (
	opDelete      = 0
	opSet         = 1
	opRangeDelete = 15
)

func (b *batch) reset(repr []byte) {
	*b = batch{repr: append(repr[:0], make([]byte, batchrepr.HeaderLen)...), indexed: batchrepr.HeaderLen}
}

func (b *batch) set(key, value []byte) {
	b.repr = append(b.repr, opSet)
	b.repr = appendBytes(b.repr, key)
	b.repr = appendBytes(b.repr, value)
	b.count++
}

func (b *batch) delete(key []byte) {
	b.repr = appendBytes(append(b.repr, opDelete), key)
	b.count++
}

func (b *batch) deleteRange(lower, upper []byte) {
	b.repr = append(b.repr, opRangeDelete)
	b.repr = appendBytes(b.repr, lower)
	b.repr = appendBytes(b.repr, upper)
	b.count++
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// cut takes back what was written since the batch had that length and count.
func (b *batch) cut(length int, count uint32) {
	b.repr, b.count = b.repr[:length], count
	if b.indexed > length {
		b.indexed, b.puts, b.ranges = batchrepr.HeaderLen, nil, nil
	}
}

func (b *batch) index() {
	if b.indexed == len(b.repr) {
		return
	}
	if b.puts == nil {
		b.puts = map[string]span{}
	}
	d := codec.Decoder{B: b.repr[b.indexed:]}
	for len(d.B) > 0 {
		op := d.Byte()
		key := d.Bytes(d.Uvarint())
		switch op {
		case opSet:
			v := d.Bytes(d.Uvarint())
			b.puts[string(key)] = span{at: len(b.repr) - len(d.B) - len(v), len: len(v)}
		case opDelete:
			b.puts[string(key)] = span{deleted: true}
		case opRangeDelete:
			r := keyRange{bytes.Clone(key), bytes.Clone(d.Bytes(d.Uvarint()))}
			for k := range b.puts {
				if r.has(k) {
					delete(b.puts, k)
				}
			}
			b.ranges = append(b.ranges, r)
		}
	}
	b.indexed = len(b.repr)
}

func (r keyRange) has(k string) bool { return k >= string(r.lower) && k < string(r.upper) }

func (b *batch) gone(k string) bool {
	for _, r := range b.ranges {
		if r.has(k) {
			return true
		}
	}
	return false
}

// get is what the batch says of a key: known is false when it says nothing.
func (b *batch) get(key []byte) (v []byte, exists, known bool) {
	b.index()
	if s, ok := b.puts[string(key)]; ok {
		return b.repr[s.at : s.at+s.len], !s.deleted, true
	}
	return nil, false, b.gone(string(key))
}

// keys are the keys in a range that the batch has written, in order.
func (b *batch) keys(lower, upper []byte) []string {
	b.index()
	r := keyRange{lower, upper}
	var out []string
	for k := range b.puts {
		if r.has(k) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}
