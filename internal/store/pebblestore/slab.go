package pebblestore

import "encoding/binary"

// A slab keeps a million small byte strings without a million pointers, so that the garbage
// collector has nothing to follow and a string costs hardly more than its bytes. Strings are kept in
// slots of a few sizes, slots in chunks; a chunk whose slots are all free is given back.
//
// A handle names a slot: the size class in the top five bits, the number of the slot below. 0 is no
// string.
type slab struct {
	classes [len(slotSizes)]class
	big     [][]byte // strings larger than any slot, by number
	bigFree []uint32
	used    int64 // bytes of chunks and big strings
}

var slotSizes = [...]int{8, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 4096, 8192}

const (
	bigClass   = 31
	slotBits   = 27
	slotMask   = 1<<slotBits - 1
	chunkBytes = 64 << 10
	noSlot     = ^uint32(0)
)

var classOf = func() (t [8192 + 1]uint8) {
	c := 0
	for n := range t {
		for slotSizes[c] < n {
			c++
		}
		t[n] = uint8(c)
	}
	return t
}()

type class struct {
	chunks []chunk
	open   []uint32 // chunks with a free slot; the last one is used first
	gone   []uint32 // numbers of chunks given back
}

type chunk struct {
	buf    []byte
	free   uint32 // first free slot; a free slot begins with the next one
	fresh  uint32 // slots from here on were never used
	live   uint32
	isOpen bool
}

// put keeps head and tail as one string.
func (s *slab) put(v []byte) uint32 {
	var l [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(l[:], uint64(len(v)))
	size := n + len(v)
	if size >= len(classOf) {
		return s.putBig(v)
	}
	c := classOf[size]
	h, slot := s.alloc(c)
	copy(slot[copy(slot, l[:n]):], v)
	return h
}

// get is the string of a handle. It is valid until the handle is freed.
func (s *slab) get(h uint32) []byte {
	c := h >> slotBits
	if c == bigClass {
		return s.big[h&slotMask]
	}
	slot := s.slot(uint8(c), h&slotMask-1)
	if n := slot[0]; n < 0x80 {
		return slot[1 : 1+int(n)]
	}
	n, w := binary.Uvarint(slot)
	return slot[w : w+int(n)]
}

func (s *slab) slot(c uint8, i uint32) []byte {
	size := slotSizes[c]
	per := uint32(chunkBytes / size)
	at := int(i%per) * size
	return s.classes[c].chunks[i/per].buf[at : at+size : at+size]
}

func (s *slab) alloc(c uint8) (uint32, []byte) {
	cl := &s.classes[c]
	size := slotSizes[c]
	per := uint32(chunkBytes / size)
	if len(cl.open) == 0 {
		n := uint32(len(cl.chunks))
		if k := len(cl.gone); k > 0 {
			n = cl.gone[k-1]
			cl.gone = cl.gone[:k-1]
		} else {
			cl.chunks = append(cl.chunks, chunk{})
		}
		cl.chunks[n] = chunk{buf: make([]byte, int(per)*size), free: noSlot, isOpen: true}
		cl.open = append(cl.open, n)
		s.used += int64(int(per) * size)
	}
	n := cl.open[len(cl.open)-1]
	ch := &cl.chunks[n]
	var i uint32
	if ch.free != noSlot {
		i = ch.free
		ch.free = binary.LittleEndian.Uint32(ch.buf[int(i)*size:])
	} else {
		i = ch.fresh
		ch.fresh++
	}
	ch.live++
	if ch.live == per {
		ch.isOpen = false
		cl.open = cl.open[:len(cl.open)-1]
	}
	at := int(i) * size
	return uint32(c)<<slotBits | (n*per + i + 1), ch.buf[at : at+size]
}

func (s *slab) free(h uint32) {
	if h == 0 {
		return
	}
	c := h >> slotBits
	if c == bigClass {
		i := h & slotMask
		s.used -= int64(cap(s.big[i]))
		s.big[i] = nil
		s.bigFree = append(s.bigFree, i)
		return
	}
	cl := &s.classes[c]
	size := slotSizes[c]
	per := uint32(chunkBytes / size)
	n, i := (h&slotMask-1)/per, (h&slotMask-1)%per
	ch := &cl.chunks[n]
	binary.LittleEndian.PutUint32(ch.buf[int(i)*size:], ch.free)
	ch.free = i
	ch.live--
	if !ch.isOpen {
		ch.isOpen = true
		cl.open = append(cl.open, n)
	}
	// One empty chunk is kept, or a class at the edge of a chunk would allocate at every change.
	if ch.live == 0 && len(cl.open) > 1 {
		s.used -= int64(len(ch.buf))
		*ch = chunk{}
		for k, o := range cl.open {
			if o == n {
				cl.open = append(cl.open[:k], cl.open[k+1:]...)
				break
			}
		}
		cl.gone = append(cl.gone, n)
	}
}

func (s *slab) putBig(v []byte) uint32 {
	b := append(make([]byte, 0, len(v)), v...)
	s.used += int64(cap(b))
	if k := len(s.bigFree); k > 0 {
		i := s.bigFree[k-1]
		s.bigFree = s.bigFree[:k-1]
		s.big[i] = b
		return bigClass<<slotBits | i
	}
	s.big = append(s.big, b)
	return bigClass<<slotBits | uint32(len(s.big)-1)
}

// clone is a copy that changes of s do not reach.
func (s *slab) clone() slab {
	c := *s
	for k := range c.classes {
		c.classes[k].chunks = append([]chunk(nil), c.classes[k].chunks...)
		for i := range c.classes[k].chunks {
			c.classes[k].chunks[i].buf = append([]byte(nil), c.classes[k].chunks[i].buf...)
		}
	}
	c.big = append([][]byte(nil), c.big...) // big strings are never changed in place
	return c
}
