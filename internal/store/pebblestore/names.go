package pebblestore

import (
	"hash/maphash"
	"unsafe"
)

// names gives every thing a number, its tid, and finds either by the other. Names lie end to end in
// large chunks and the index holds tids only: about 20 bytes for a thing besides its name, and
// nothing for the garbage collector to follow.
type names struct {
	seed   maphash.Seed
	shards [64]shard
	refs   []nameRef // by tid
	chunks [][]byte
	free   int // bytes of names that are gone
	total  int
}

// A nameRef says where a name lies: the chunk in the upper half, the offset and one more in the
// lower. 0: no name.
type nameRef uint64

// A shard is one part of the index: an open hash table of tids and one more.
type shard struct {
	slots []uint32
	n     int // used slots, those of names that were taken out included
}

const (
	nameChunk = 64 << 10
	takenOut  = ^uint32(0)
)

func newNames() *names { return &names{seed: maphash.MakeSeed()} }

// name is the name of a tid, "" if it has none.
func (t *names) name(tid uint32) string {
	if int(tid) >= len(t.refs) || t.refs[tid] == 0 {
		return ""
	}
	r := t.refs[tid]
	b := t.chunks[r>>32][uint32(r)-1:]
	// The bytes of a name are never changed once written: compact copies them.
	return unsafe.String(&b[1], int(b[0]))
}

// find is the tid that was indexed under a name.
func (t *names) find(name string) (uint32, bool) {
	h := maphash.String(t.seed, name)
	s := &t.shards[h>>58]
	if len(s.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(s.slots) - 1)
	for i := uint32(h) & mask; ; i = (i + 1) & mask {
		switch v := s.slots[i]; {
		case v == 0:
			return 0, false
		case v != takenOut && t.name(v-1) == name:
			return v - 1, true
		}
	}
}

// add gives a tid its name, without indexing it.
func (t *names) add(tid uint32, name string) { t.addBytes(tid, []byte(name)) }

func (t *names) addBytes(tid uint32, name []byte) {
	for int(tid) >= len(t.refs) {
		t.refs = append(t.refs, 0)
	}
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+1+len(name) > cap(t.chunks[last]) {
		t.chunks = append(t.chunks, make([]byte, 0, nameChunk))
		last++
	}
	c := t.chunks[last]
	t.refs[tid] = nameRef(last)<<32 | nameRef(len(c)+1)
	c = append(c, byte(len(name)))
	t.chunks[last] = append(c, name...)
	t.total += 1 + len(name)
}

// index makes a tid found under its name.
func (t *names) index(tid uint32) {
	h := maphash.String(t.seed, t.name(tid))
	s := &t.shards[h>>58]
	if (s.n+1)*4 > len(s.slots)*3 {
		t.grow(s)
	}
	s.put(uint32(h), tid+1)
}

func (s *shard) put(h, v uint32) {
	mask := uint32(len(s.slots) - 1)
	i := h & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = v
	s.n++
}

func (t *names) grow(s *shard) {
	live := 0
	for _, v := range s.slots {
		if v != 0 && v != takenOut {
			live++
		}
	}
	size := 8
	for size < live*2+2 {
		size *= 2
	}
	old := s.slots
	s.slots, s.n = make([]uint32, size), 0
	for _, v := range old {
		if v != 0 && v != takenOut {
			s.put(uint32(maphash.String(t.seed, t.name(v-1))), v)
		}
	}
}

// unindex makes a tid not found any more. It keeps its name.
func (t *names) unindex(tid uint32) {
	h := maphash.String(t.seed, t.name(tid))
	s := &t.shards[h>>58]
	mask := uint32(len(s.slots) - 1)
	for i := uint32(h) & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == tid+1 {
			s.slots[i] = takenOut
			return
		}
	}
}

// drop forgets the name of a tid that is not indexed.
func (t *names) drop(tid uint32) {
	t.free += 1 + len(t.name(tid))
	t.refs[tid] = 0
	if t.free > 1<<20 && t.free > t.total/2 {
		t.compact()
	}
}

// compact moves the names that are left together. Strings handed out keep the old chunks alive.
func (t *names) compact() {
	old := *t
	t.chunks, t.free, t.total = nil, 0, 0
	for tid, r := range t.refs {
		if r != 0 {
			t.add(uint32(tid), old.name(uint32(tid)))
		}
	}
}
