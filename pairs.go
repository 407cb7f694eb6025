package muster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"iter"
	"slices"
)

// Pairs is an immutable list of names and values in the order given: status details, attributes,
// tags, parameters. It is kept encoded, so that it can be compared, stored and shared as it is; the
// empty string is the empty list.
type Pairs string

// MakePairs encodes names and values, given alternately. Later values of a name replace earlier ones.
func MakePairs(kv ...string) Pairs {
	var b PairsBuilder
	for i := 0; i+1 < len(kv); i += 2 {
		b.Set(kv[i], kv[i+1])
	}
	return b.Pairs()
}

// All yields the pairs in order.
func (p Pairs) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		s := string(p)
		for s != "" {
			var k, v string
			var ok bool
			if k, s, ok = cutString(s); !ok {
				return
			}
			if v, s, ok = cutString(s); !ok {
				return
			}
			if !yield(k, v) {
				return
			}
		}
	}
}

// Len is the number of pairs.
func (p Pairs) Len() int {
	n := 0
	for range p.All() {
		n++
	}
	return n
}

// Get is the value of a name.
func (p Pairs) Get(name string) (string, bool) {
	for k, v := range p.All() {
		if k == name {
			return v, true
		}
	}
	return "", false
}

// Valid reports whether p was made by a PairsBuilder: stores use it on what they read back.
func (p Pairs) Valid() bool {
	s := string(p)
	for s != "" {
		var ok bool
		if _, s, ok = cutString(s); !ok {
			return false
		}
		if _, s, ok = cutString(s); !ok {
			return false
		}
	}
	return true
}

// Merge returns p with the pairs of q laid over it; an empty value in q removes the name.
func (p Pairs) Merge(q Pairs) Pairs {
	var b PairsBuilder
	for k, v := range p.All() {
		if w, ok := q.Get(k); !ok {
			b.Set(k, v)
		} else if w != "" {
			b.Set(k, w)
		}
	}
	for k, v := range q.All() {
		if _, ok := p.Get(k); !ok && v != "" {
			b.Set(k, v)
		}
	}
	return b.Pairs()
}

// Without returns p without the names.
func (p Pairs) Without(names ...string) Pairs {
	var b PairsBuilder
next:
	for k, v := range p.All() {
		for _, n := range names {
			if n == k {
				continue next
			}
		}
		b.Set(k, v)
	}
	return b.Pairs()
}

// MarshalJSON writes the pairs as an object, in order. Without it the encoded form would be written as
// a string, which JSON cannot hold: the length of a long value is not valid UTF-8.
func (p Pairs) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for k, v := range p.All() {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendJSON(append(b, '"'), k), '"', ':', '"')
		b = append(appendJSON(b, v), '"')
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Pairs) UnmarshalJSON(data []byte) error {
	var b PairsBuilder
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t == nil {
		return err
	} else if t != json.Delim('{') {
		return Errorf(Internal, "pairs are kept as an object, not as %v", t)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value string
		if err := d.Decode(&value); err != nil {
			return err
		}
		b.Set(name.(string), value)
	}
	*p = b.Pairs()
	return nil
}

// A PairsBuilder collects pairs.
type PairsBuilder struct {
	names []string
	buf   []byte
}

// Grow makes room for a number of pairs that take a number of bytes, lengths included.
func (b *PairsBuilder) Grow(pairs, bytes int) {
	b.names, b.buf = slices.Grow(b.names, pairs), slices.Grow(b.buf, bytes)
}

// Set adds a pair, or replaces the value of a name given before.
func (b *PairsBuilder) Set(name, value string) {
	for _, n := range b.names {
		if n == name {
			old := Pairs(b.buf)
			b.names, b.buf = nil, nil
			for k, v := range old.All() {
				if k == name {
					v = value
				}
				b.names = append(b.names, k)
				b.buf = appendString(appendString(b.buf, k), v)
			}
			return
		}
	}
	b.names = append(b.names, name)
	b.buf = appendString(appendString(b.buf, name), value)
}

// Pairs is what was collected.
func (b *PairsBuilder) Pairs() Pairs { return Pairs(b.buf) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutString(s string) (head, tail string, ok bool) {
	var n uint64
	var shift uint
	for i := 0; i < len(s) && i < 5; i++ {
		c := s[i]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			s = s[i+1:]
			if n > uint64(len(s)) {
				return "", "", false
			}
			return s[:n], s[n:], true
		}
		shift += 7
	}
	return "", "", false
}
