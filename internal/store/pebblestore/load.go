package pebblestore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"

	"muster"
	"muster/internal/store/codec"
)

// load builds the state from what is on disk. Names, memberships and executions lie in different
// ranges and fill different parts of the state, so they are read at the same time.
func (s *Store) load() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	if err := s.checkLoaded(); err != nil {
		return err
	}
	if err := s.each(kMeta, func(_, v []byte) bool { return s.meta.decode(v) }); err != nil {
		return err
	}
	if err := s.loadRows(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() { errs[0] = s.loadNames() })
	wg.Go(func() { errs[1] = s.loadExecutions() })
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.loadMembers(); err != nil { // shares the slab with the queues
		return err
	}
	return s.loadFeed()
}

// each reads all keys of a kind.
func (s *Store) each(kind byte, fn func(k, v []byte) bool) error {
	return s.eachIn([]byte{kind}, []byte{kind + 1}, fn)
}

func (s *Store) eachIn(lower, upper []byte, fn func(k, v []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if !fn(it.Key(), it.Value()) {
			err = fmt.Errorf("the store in %s is damaged: the row of key %x does not decode", s.opts.Dir, it.Key())
			break
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// loadRows reads the small kinds.
func (s *Store) loadRows() error {
	err := s.each(kJob, func(k, v []byte) bool {
		jid, ok := split1(k)
		j := &jobState{jid: jid, job: new(muster.Job)}
		if !ok || json.Unmarshal(v, j.job) != nil {
			return false
		}
		s.jobs[j.job.ID], s.byJID[jid] = j, j
		s.listJob(jid, j.job)
		return true
	})
	err = errors.Join(err, s.each(kCounts, func(k, v []byte) bool {
		jid, ok := split1(k)
		c, tally, good := decodeCounts(v)
		if j := s.byJID[jid]; j != nil {
			j.counts, j.tally = c, tally
		}
		return ok && good
	}))
	err = errors.Join(err, s.each(kSealed, func(k, v []byte) bool {
		jid, ok := split1(k)
		if j := s.byJID[jid]; j != nil {
			j.sealed = true
		}
		return ok
	}))
	for _, j := range s.jobs {
		if !j.sealed {
			j.sets = newSets()
		}
	}
	err = errors.Join(err, s.each(kSpent, func(k, v []byte) bool {
		jid, tid, ok := split2(k)
		if j := s.byJID[jid]; j != nil && j.sets != nil {
			if len(v) == 0 {
				j.sets.add(muster.NoStatus, tid)
			}
			j.sets.addMulti(tid)
		}
		return ok
	}))
	err = errors.Join(err, s.each(kDead, func(k, v []byte) bool {
		jid, ok := split1(k)
		d := codec.Decoder{B: v}
		feed := d.Uvarint()
		s.dead[jid] = deadJob{muster.JobID(d.B), feed}
		return ok && !d.Bad
	}))
	err = errors.Join(err, s.each(kGarbage, func(k, v []byte) bool {
		jid, ok := split1(k)
		b := roaring.New()
		s.garbage[jid] = b
		return ok && b.UnmarshalBinary(v) == nil
	}))
	err = errors.Join(err, s.each(kGroup, func(k, v []byte) bool {
		gid, ok := split1(k)
		g := &groupState{gid: gid, members: roaring.New()}
		if !ok || json.Unmarshal(v, &g.row) != nil {
			return false
		}
		s.groups[g.row.Name], s.byGID[gid] = g, g
		s.groupNames = append(s.groupNames, g.row.Name)
		if p := g.row.Parent; p != "" {
			if s.children[p] == nil {
				s.children[p] = new(sorted[muster.GroupName])
			}
			*s.children[p] = append(*s.children[p], g.row.Name)
		}
		return true
	}))
	slices.Sort(s.groupNames)
	for _, c := range s.children {
		slices.Sort(*c)
	}
	err = errors.Join(err, s.each(kType, func(_, v []byte) bool {
		var t muster.ThingType
		ok := json.Unmarshal(v, &t) == nil
		s.typeRows[t.Name] = t
		s.typeNames = append(s.typeNames, t.Name)
		return ok
	}))
	slices.Sort(s.typeNames)
	err = errors.Join(err, s.each(kTemplate, func(_, v []byte) bool {
		var t muster.Template
		ok := json.Unmarshal(v, &t) == nil
		s.templates[t.ID] = t
		s.tmplNames = append(s.tmplNames, t.ID)
		return ok
	}))
	slices.Sort(s.tmplNames)
	return errors.Join(err, s.each(kDeadline, func(k, v []byte) bool {
		if len(k) < 10 {
			return false
		}
		s.deadlines.ReplaceOrInsert(splitDeadline(k), string(v))
		return true
	}))
}

func (s *Store) loadNames() error {
	var registered []uint32
	byType := map[muster.TypeName][]uint32{}
	err := s.each(kName, func(k, v []byte) bool {
		tid, ok := split1(k)
		d := codec.Decoder{B: v}
		state, feed := d.Byte(), d.Uvarint()
		name := d.Bytes(d.Uvarint())
		if !ok || d.Bad || len(name) == 0 || len(name) > 255 {
			return false
		}
		s.names.addBytes(tid, name)
		if state == nameDropped {
			s.dropped = append(s.dropped, droppedName{tid, feed})
			return true
		}
		s.names.index(tid)
		if state == nameRegistered {
			registered = append(registered, tid)
			if len(d.B) > 0 {
				t := muster.TypeName(d.B)
				byType[t] = append(byType[t], tid)
			}
		}
		return true
	})
	s.registered.AddMany(registered)
	for t, tids := range byType {
		s.types[t] = roaring.BitmapOf(tids...)
	}
	return err
}

// loadExecutions fills the queues and the sets of jobs that are not sealed.
func (s *Store) loadExecutions() error {
	jids := make([]uint32, 0, len(s.byJID))
	for jid, j := range s.byJID {
		if !j.sealed {
			jids = append(jids, jid)
		}
	}
	slices.Sort(jids)
	for len(jids) > 0 {
		// Neighbours are read in one go.
		n := 1
		for n < len(jids) && jids[n] == jids[n-1]+1 {
			n++
		}
		if err := s.loadJobs(jids[0], jids[n-1]); err != nil {
			return err
		}
		jids = jids[n:]
	}
	return nil
}

func (s *Store) loadJobs(first, last uint32) error {
	var j *jobState
	var by [muster.NumStatus][]uint32
	flush := func() {
		for st := range by {
			if len(by[st]) > 0 {
				if j.sets.by[st] == nil {
					j.sets.by[st] = roaring.New()
				}
				j.sets.by[st].AddMany(by[st])
				by[st] = by[st][:0]
			}
		}
	}
	var buf []byte
	err := s.eachIn(key1(kExec, first), after(key1(kExec, last)), func(k, v []byte) bool {
		jid, tid, number, ok := splitExecKey(k)
		st := codec.StatusOf(v)
		if !ok || st == muster.NoStatus || st >= muster.NumStatus {
			return false
		}
		if j == nil || j.jid != jid {
			if j != nil {
				flush()
			}
			if j = s.byJID[jid]; j == nil {
				return true // Check tells of it
			}
		}
		if by[st] = append(by[st], tid); len(by[st]) == 1<<16 {
			flush()
		}
		if number != 1 {
			j.sets.addMulti(tid)
		}
		if pending(st) {
			s.pending++
			var have []byte
			old := at(s.queues, tid)
			if old != 0 {
				have = s.slab.get(old)
			}
			buf = withRecord(buf[:0], have, jid, number, v)
			h := s.slab.put(buf)
			s.slab.free(old)
			setAt(&s.queues, tid, h)
		}
		return true
	})
	if j != nil {
		flush()
	}
	return err
}

func (s *Store) loadMembers() error {
	var buf []byte
	sets := map[uint32][]uint32{}
	err := s.each(kMember, func(k, v []byte) bool {
		tid, gid, ok := split2(k)
		seq, n := binary.Uvarint(v)
		if !ok || n <= 0 {
			return false
		}
		var have []byte
		old := at(s.groupsOf, tid)
		if old != 0 {
			have = s.slab.get(old)
		}
		buf = withMember(buf[:0], have, gid, seq, false)
		h := s.slab.put(buf)
		s.slab.free(old)
		setAt(&s.groupsOf, tid, h)
		sets[gid] = append(sets[gid], tid)
		return true
	})
	for gid, tids := range sets {
		if g := s.byGID[gid]; g != nil {
			g.members.AddMany(tids)
		}
	}
	return err
}

// loadFeed finds the oldest entry, and the newest ones for readers that go on where they were.
func (s *Store) loadFeed() error {
	s.feedFirst = s.feed + 1
	s.feedGone = s.facts
	err := s.first(kFeed, func(k, v []byte) {
		_, total, n, _ := decodeHead(v)
		s.feedFirst, s.feedGone = binary.BigEndian.Uint64(k[1:]), total-n
	})
	return err
}

// first reads the first key of a kind.
func (s *Store) first(kind byte, fn func(k, v []byte)) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	if it.First() {
		fn(it.Key(), it.Value())
	}
	return errors.Join(it.Error(), it.Close())
}
