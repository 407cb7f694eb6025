package pebblestore

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"muster"
)

// reader finds rows, in RAM or on disk. In an Update it also sees what the batch wrote so far.
type reader struct {
	*state
	s   *Store
	b   *batch // nil in a view
	err error  // what a read came upon; the surrounding View or Update returns it

	// The thing that was asked for last. An act asks for the same one several times.
	name muster.ThingName
	tid  uint32
}

// tidOf is the tid of a thing that is registered, or of which something is left.
func (r *reader) tidOf(name muster.ThingName) (uint32, bool) {
	if r.name == name && name != "" {
		return r.tid, true
	}
	tid, ok := r.names.find(string(name))
	if ok {
		r.name, r.tid = name, tid
	}
	return tid, ok
}

func (r *reader) Exact() bool { return true }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// readable reports whether the disk may be read at all: a store that has failed does not know what
// is on it.
func (r *reader) readable() bool {
	if r.err == nil {
		if err := r.s.Health(); err != nil {
			r.fail(err)
		}
	}
	return r.err == nil
}

// get is a copy of the value of a key.
func (r *reader) get(key []byte) ([]byte, bool) {
	if r.b != nil {
		if v, exists, known := r.b.get(key); known || exists {
			return bytes.Clone(v), exists
		}
	}
	if !r.readable() {
		return nil, false
	}
	v, closer, err := r.s.db.Get(key)
	if err != nil {
		if !errors.Is(err, pebble.ErrNotFound) {
			r.fail(r.s.unreadable(err))
		}
		return nil, false
	}
	v = bytes.Clone(v)
	if err := closer.Close(); err != nil {
		r.fail(r.s.unreadable(err))
	}
	return v, true
}

// scan calls fn with each key in a range and its value, in order, until it returns false. They are
// valid during the call.
func (r *reader) scan(lower, upper []byte, fn func(k, v []byte) bool) {
	if !r.readable() {
		return
	}
	it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		r.fail(r.s.unreadable(err))
		return
	}
	var written []string
	if r.b != nil {
		written = r.b.keys(lower, upper)
	}
	it.First()
	for {
		if len(written) > 0 && (!it.Valid() || written[0] <= string(it.Key())) {
			k := written[0]
			written = written[1:]
			if it.Valid() && k == string(it.Key()) {
				it.Next()
			}
			if v, exists, _ := r.b.get([]byte(k)); exists && !fn([]byte(k), v) {
				break
			}
			continue
		}
		if !it.Valid() {
			break
		}
		if (r.b == nil || !r.b.gone(string(it.Key()))) && !fn(it.Key(), it.Value()) {
			break
		}
		it.Next()
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		r.fail(r.s.unreadable(err))
	}
}

// A cursor finds many keys of one range, given in ascending order.
type cursor struct {
	r  *reader
	it *pebble.Iterator
}

func (r *reader) cursor(lower, upper []byte) *cursor {
	if !r.readable() {
		return &cursor{r: r}
	}
	it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		r.fail(r.s.unreadable(err))
	}
	return &cursor{r: r, it: it}
}

// get is the value of a key, valid until the next call.
func (c *cursor) get(key []byte) ([]byte, bool) {
	if c.r.b != nil {
		if v, exists, known := c.r.b.get(key); known || exists {
			return v, exists
		}
	}
	if c.it == nil {
		return nil, false
	}
	// Neighbours are often asked for one after the other, and a few steps cost less than a seek.
	for range 8 {
		if !c.it.Valid() || bytes.Compare(c.it.Key(), key) >= 0 {
			break
		}
		c.it.Next()
	}
	if !c.it.Valid() || bytes.Compare(c.it.Key(), key) < 0 {
		c.it.SeekGE(key)
	}
	if !c.it.Valid() || !bytes.Equal(c.it.Key(), key) {
		return nil, false
	}
	return c.it.Value(), true
}

func (c *cursor) close() {
	if c.it != nil {
		if err := errors.Join(c.it.Error(), c.it.Close()); err != nil {
			c.r.fail(c.r.s.unreadable(err))
		}
	}
}
