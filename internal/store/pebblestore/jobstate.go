package pebblestore

import (
	"encoding/binary"

	"github.com/RoaringBitmap/roaring/v2"

	"muster"
	"muster/internal/store/codec"
)

// jobState is a job and what is known of its executions without reading them.
type jobState struct {
	jid    uint32
	job    *muster.Job // replaced, never changed
	counts muster.Counts
	tally  muster.Tally
	sets   *sets // nil while they are only on disk: then sealed is true
	sealed bool  // the key of sealed sets exists and is what sets would be
	dirty  bool  // counts are to be written with this batch
}

// sets say which things have executions of a job, by status. A thing is in the set of each status
// that one of its attempts has; one that had executions but has none left is in the set of NoStatus.
type sets struct {
	by [muster.NumStatus]*roaring.Bitmap
	// multi are the things that have or had an attempt besides number 1. For all others number 1 is
	// the only execution, if there is any.
	multi *roaring.Bitmap
}

func newSets() *sets {
	return &sets{}
}

func (s *sets) has(st muster.Status, tid uint32) bool {
	return s.by[st] != nil && s.by[st].Contains(tid)
}

// add and remove report whether they changed the set.
func (s *sets) add(st muster.Status, tid uint32) bool {
	if s.by[st] == nil {
		s.by[st] = roaring.New()
	}
	return s.by[st].CheckedAdd(tid)
}

func (s *sets) remove(st muster.Status, tid uint32) bool {
	return s.by[st] != nil && s.by[st].CheckedRemove(tid)
}

func (s *sets) isMulti(tid uint32) bool { return s.multi != nil && s.multi.Contains(tid) }

func (s *sets) addMulti(tid uint32) bool {
	if s.multi == nil {
		s.multi = roaring.New()
	}
	return s.multi.CheckedAdd(tid)
}

// known reports whether the thing has or had an execution.
func (s *sets) known(tid uint32) bool {
	for _, b := range s.by {
		if b != nil && b.Contains(tid) {
			return true
		}
	}
	return false
}

// all is every thing that has or had an execution.
func (s *sets) all() *roaring.Bitmap {
	u := roaring.New()
	for _, b := range s.by {
		if b != nil {
			u.Or(b)
		}
	}
	return u
}

// encode writes the sets, each with its length before it.
func (s *sets) encode() []byte {
	var out []byte
	for _, b := range append(s.by[:], s.multi) {
		if b == nil || b.IsEmpty() {
			out = append(out, 0)
			continue
		}
		c := b.Clone() // what is kept in RAM stays as it is good for changes
		c.RunOptimize()
		v, err := c.ToBytes()
		if err != nil {
			panic(err) // a buffer does not fail
		}
		out = append(binary.AppendUvarint(out, uint64(len(v))), v...)
	}
	return out
}

func decodeSets(v []byte) (*sets, bool) {
	d := codec.Decoder{B: v}
	s := newSets()
	for i := range len(s.by) + 1 {
		n := d.Uvarint()
		if n == 0 {
			continue
		}
		b := roaring.New()
		if err := b.UnmarshalBinary(d.Bytes(n)); err != nil {
			return nil, false
		}
		if i < len(s.by) {
			s.by[i] = b
		} else {
			s.multi = b
		}
	}
	return s, !d.Bad
}

func (s *sets) equal(o *sets) bool {
	eq := func(a, b *roaring.Bitmap) bool {
		if a == nil || b == nil {
			return (a == nil || a.IsEmpty()) && (b == nil || b.IsEmpty())
		}
		return a.Equals(b)
	}
	for i := range s.by {
		if !eq(s.by[i], o.by[i]) {
			return false
		}
	}
	return true
}

func appendCounts(b []byte, c *muster.Counts, t *muster.Tally) []byte {
	for _, n := range append(c[:], t[:]...) {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func decodeCounts(v []byte) (c muster.Counts, t muster.Tally, ok bool) {
	d := codec.Decoder{B: v}
	for i := range c {
		c[i] = int64(d.Uvarint())
	}
	for i := range t {
		t[i] = int64(d.Uvarint())
	}
	return c, t, !d.Bad
}
