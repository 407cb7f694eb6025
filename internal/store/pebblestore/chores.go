package pebblestore

import (
	"sort"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

const (
	sealFrom    = 256 // executions: a smaller job is as well read one by one
	garbageStep = 512 // things whose history is removed in one batch
)

// sealable reports whether a job is over and large enough that its sets should not have to be built
// anew at every start.
func (s *Store) sealable(j *jobState) bool {
	if j.sealed || j.job.Rolling || j.job.Sweeping || j.job.Status.Active() || j.counts.Pending() != 0 {
		return false
	}
	n := int64(0)
	for _, c := range j.counts {
		n += c
	}
	return n >= sealFrom
}

// chores does one slice of what nobody waits for, and reports whether there was any.
func (s *Store) chores() bool {
	chore := s.chore()
	if chore == nil {
		return false
	}
	c := &commit{done: make(chan struct{})}
	s.mu.Lock()
	s.beginBatch()
	if err := s.run(chore); err != nil {
		s.untidy = true
		s.log.Error("the store could not tidy up and leaves it", "error", err)
	}
	s.apply(c)
	s.mu.Unlock()
	wrote := c.batch != nil
	s.syncing <- c
	return wrote
}

func (s *Store) chore() func(store.Tx) error {
	if s.untidy || s.Health() != nil {
		return nil
	}
	for jid := range s.toSeal {
		delete(s.toSeal, jid)
		if j := s.byJID[jid]; j != nil && s.sealable(j) {
			return func(store.Tx) error { return s.tx.seal(j) }
		}
	}
	for jid := range s.garbage {
		return func(store.Tx) error { return s.tx.collect(jid) }
	}
	if kept, bound := s.facts-s.feedGone, uint64(s.opts.FeedEntries); kept > bound+bound/8+1 {
		return func(store.Tx) error { return s.tx.trimFeed() }
	}
	return nil
}

// seal writes the sets of a job that is over as one key and lets them go from RAM.
func (t *tx) seal(j *jobState) error {
	v := j.sets.encode()
	t.b.set(key1(kSealed, j.jid), v)
	was := j.sets
	j.sealed, j.sets = true, nil
	t.back(func() { j.sealed, j.sets = false, was })
	return nil
}

// collect removes what some things remember of a job that is gone.
func (t *tx) collect(jid uint32) error {
	things := t.garbage[jid]
	left := things.Clone()
	it := things.Iterator()
	for n := 0; n < garbageStep && it.HasNext(); n++ {
		tid := it.Next()
		t.b.delete(historyKey(tid, jid))
		left.Remove(tid)
		t.maybeDrop(tid)
	}
	t.setGarbage(jid, left)
	t.back(func() { t.garbage[jid] = things })
	return t.err
}

// trimFeed removes the oldest entries so that the bound's number of facts remains, and the names that
// only they needed.
func (t *tx) trimFeed() error {
	keep := t.facts - uint64(t.s.opts.FeedEntries)
	// The entries tell how many facts came before them, so the first one to keep is found by halves.
	n := t.feedFirst + uint64(sort.Search(int(t.feed-t.feedFirst), func(i int) bool {
		return t.factsBefore(t.feedFirst+uint64(i)+1) > keep
	}))
	if t.err != nil || n == t.feedFirst {
		return t.err
	}
	t.b.deleteRange(feedKey(t.feedFirst), feedKey(n))
	first, gone, dropped := t.feedFirst, t.feedGone, t.dropped
	t.feedFirst, t.feedGone = n, t.factsBefore(n)
	var dead []uint32
	for jid, d := range t.dead {
		if d.feed < n && t.garbage[jid] == nil {
			dead = append(dead, jid)
			t.b.delete(key1(kDead, jid))
		}
	}
	old := map[uint32]deadJob{}
	for _, jid := range dead {
		old[jid] = t.dead[jid]
		delete(t.dead, jid)
	}
	var names []uint32
	t.dropped = nil
	for _, d := range dropped {
		if d.feed < n {
			t.b.delete(key1(kName, d.tid))
			names = append(names, d.tid)
		} else {
			t.dropped = append(t.dropped, d)
		}
	}
	t.back(func() {
		t.feedFirst, t.feedGone, t.dropped = first, gone, dropped
		for jid, d := range old {
			t.dead[jid] = d
		}
	})
	if t.err == nil {
		for _, tid := range names {
			t.names.drop(tid)
		}
	}
	return t.err
}

// factsBefore is the number of facts in all entries before one.
func (t *tx) factsBefore(seq uint64) uint64 {
	v, ok := t.get(feedKey(seq))
	if !ok {
		if t.err == nil {
			t.fail(t.s.broken("entry %d of the feed is missing", seq))
		}
		return 0
	}
	_, total, n, _ := decodeHead(v)
	return total - n
}

func (m *meta) encode() []byte {
	b := appendUvarint(nil, m.seq)
	b = appendUvarint(b, uint64(m.tid))
	b = appendUvarint(b, uint64(m.jid))
	b = appendUvarint(b, uint64(m.gid))
	b = appendUvarint(b, m.feed)
	b = appendUvarint(b, m.facts)
	return appendUvarint(b, uint64(m.feedAt))
}

func (m *meta) decode(v []byte) bool {
	d := codec.Decoder{B: v}
	m.seq = d.Uvarint()
	m.tid = uint32(d.Uvarint())
	m.jid = uint32(d.Uvarint())
	m.gid = uint32(d.Uvarint())
	m.feed = d.Uvarint()
	m.facts = d.Uvarint()
	m.feedAt = muster.Time(d.Uvarint())
	return !d.Bad
}
