package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// checker compares what is on disk with itself and with what is in RAM, both as they were at one
// moment, so that the store can go on meanwhile.
type checker struct {
	ctx     context.Context
	s       *Store
	disk    *pebble.Snapshot
	problem func(string)
	err     error
	rows    int

	// RAM at that moment.
	meta       meta
	feedFirst  uint64
	ram        *state // queues and memberships only
	registered *roaring.Bitmap
	jobs       map[uint32]*checkedJob
	garbage    map[uint32]*roaring.Bitmap
	groups     map[uint32]*roaring.Bitmap
	deadlines  map[store.Deadline]string
	pending    int64

	named *roaring.Bitmap // tids that have a name
	over  map[[2]uint32]int64
}

// checkedJob is a job with what a recount finds.
type checkedJob struct {
	id       muster.JobID
	counts   muster.Counts // in RAM
	sets     *sets         // in RAM, nil if sealed
	recount  muster.Counts
	tally    muster.Tally // in RAM
	latest   muster.Tally // recounted
	deleting bool
	thing    uint32 // that was recounted last, and the status of its latest attempt so far
	status   muster.Status
	found    *sets
	history  *roaring.Bitmap
}

// Check reads everything once.
func (s *Store) Check(ctx context.Context, problem func(string)) error {
	c := &checker{ctx: ctx, s: s, problem: problem, named: roaring.New(), over: map[[2]uint32]int64{}}
	if err := c.freeze(); err != nil {
		return err
	}
	for _, step := range []func(){c.names, c.things, c.executions, c.history, c.job, c.queue, c.members, c.feed, c.deadline} {
		if step(); c.err != nil {
			break
		}
	}
	return errors.Join(c.err, c.disk.Close())
}

// freeze copies what RAM holds and takes a snapshot of the disk at the same moment.
func (c *checker) freeze() error {
	s := c.s
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.open(); err != nil {
		return err
	}
	c.meta, c.feedFirst, c.pending = s.meta, s.feedFirst, s.pending
	c.ram = &state{slab: s.slab.clone(), queues: slices.Clone(s.queues), groupsOf: slices.Clone(s.groupsOf)}
	c.registered = s.registered.Clone()
	c.jobs = map[uint32]*checkedJob{}
	for jid, j := range s.byJID {
		k := &checkedJob{id: j.job.ID, deleting: j.job.Status == muster.JobDeleting, counts: j.counts, tally: j.tally, found: newSets(), history: roaring.New()}
		if j.sets != nil {
			k.sets = j.sets.clone()
		}
		c.jobs[jid] = k
	}
	c.garbage = map[uint32]*roaring.Bitmap{}
	for jid, b := range s.garbage {
		c.garbage[jid] = b.Clone()
	}
	c.groups = map[uint32]*roaring.Bitmap{}
	for gid, g := range s.byGID {
		c.groups[gid] = g.members.Clone()
	}
	c.deadlines = map[store.Deadline]string{}
	for _, d := range (&reader{state: s.state, s: s}).Due(1<<62, 1<<30) {
		cursor := d.Cursor
		d.Cursor = ""
		c.deadlines[d] = cursor
	}
	c.disk = s.db.NewSnapshot()
	return nil
}

func (s *sets) clone() *sets {
	c := newSets()
	for i, b := range s.by {
		if b != nil {
			c.by[i] = b.Clone()
		}
	}
	if s.multi != nil {
		c.multi = s.multi.Clone()
	}
	return c
}

func (c *checker) tell(format string, args ...any) { c.problem(fmt.Sprintf(format, args...)) }

// each reads all rows of a kind.
func (c *checker) each(kind byte, fn func(k, v []byte)) {
	if c.err != nil {
		return
	}
	it, err := c.disk.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		c.err = err
		return
	}
	for it.First(); it.Valid(); it.Next() {
		if c.rows++; c.rows%4096 == 0 && c.ctx.Err() != nil {
			c.err = c.ctx.Err()
			break
		}
		fn(it.Key(), it.Value())
	}
	c.err = errors.Join(c.err, it.Error(), it.Close())
}

// thing names a thing in a problem.
func (c *checker) thing(tid uint32) string {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	if n := c.s.names.name(tid); n != "" {
		return n
	}
	return fmt.Sprintf("number %d", tid)
}

func (c *checker) names() {
	registered := roaring.New()
	c.each(kName, func(k, v []byte) {
		tid, good := split1(k)
		state, _, name, _, ok := decodeName(v)
		if !good || !ok {
			c.tell("The name row of key %x does not decode.", k)
			return
		}
		c.named.Add(tid)
		if tid > c.meta.tid {
			c.tell("Thing %s has number %d, which was not given out yet.", name, tid)
		}
		if state == nameRegistered {
			registered.Add(tid)
		}
	})
	if c.err == nil && !registered.Equals(c.registered) {
		c.tell("%d things are registered on disk, %d in memory, and they are not the same.", registered.GetCardinality(), c.registered.GetCardinality())
	}
}

func (c *checker) things() {
	found := roaring.New()
	c.each(kThing, func(k, v []byte) {
		tid, ok := split1(k)
		if _, good := decodeThing(v, ""); !ok || !good {
			c.tell("The row of thing %s does not decode.", c.thing(tid))
		}
		found.Add(tid)
	})
	if c.err == nil && !found.Equals(c.registered) {
		c.tell("%d things are registered, but %d have a row, and they are not the same.", c.registered.GetCardinality(), found.GetCardinality())
	}
}

func (c *checker) executions() {
	c.each(kExec, func(k, v []byte) {
		jid, tid, number, ok := splitExecKey(k)
		var e muster.Execution
		if !ok || !codec.DecodeExecution(v, &e) || !e.Details.Valid() {
			c.tell("The execution of key %x does not decode.", k)
			return
		}
		j := c.jobs[jid]
		if j == nil {
			c.tell("Execution %d on thing %s is of job number %d, which does not exist.", number, c.thing(tid), jid)
			return
		}
		if !c.named.Contains(tid) {
			c.tell("Execution %d of job %s is on a thing that has no name, number %d.", number, j.id, tid)
		}
		j.recount[e.Status]++
		if j.thing == tid && j.status != muster.NoStatus {
			j.latest[j.status]-- // the attempts of a thing come one after the other
		}
		j.latest[e.Status]++
		j.thing, j.status = tid, e.Status
		j.found.add(e.Status, tid)
		if number != 1 {
			j.found.addMulti(tid)
			c.over[[2]uint32{jid, tid}] = max(number, c.over[[2]uint32{jid, tid}])
		}
		if !pending(e.Status) {
			return
		}
		c.pending--
		if p, ok := c.ram.findPending(tid, jid, number); !ok {
			c.tell("Execution %d of job %s on thing %s is %s, but is missing from the thing's queue.", number, j.id, c.thing(tid), e.Status)
		} else if !bytes.Equal(p.record, v) {
			c.tell("Execution %d of job %s on thing %s is in the thing's queue with other content.", number, j.id, c.thing(tid))
		}
	})
	if c.err == nil && c.pending != 0 {
		c.tell("The number of pending executions is off by %d.", c.pending)
	}
}

func (c *checker) history() {
	c.each(kHistory, func(k, v []byte) {
		tid, njid, ok := split2(k)
		number, rest, good := cutNumber(v)
		if !ok || !good || len(rest) > 0 {
			c.tell("The history of key %x does not decode.", k)
			return
		}
		j := c.jobs[^njid]
		if j == nil {
			if g := c.garbage[^njid]; g == nil || !g.Contains(tid) {
				c.tell("Thing %s has history of job number %d, which does not exist.", c.thing(tid), ^njid)
			}
			return
		}
		j.history.Add(tid)
		if number > 1 {
			j.found.addMulti(tid)
		}
		if last := c.over[[2]uint32{^njid, tid}]; number < max(1, last) {
			c.tell("Thing %s had at most %d executions of job %s by its history, but has number %d.", c.thing(tid), number, j.id, last)
		}
	})
}

// job compares counters and sets with the recount.
func (c *checker) job() {
	stored, tallies := map[uint32]muster.Counts{}, map[uint32]muster.Tally{}
	c.each(kCounts, func(k, v []byte) {
		jid, ok := split1(k)
		n, tally, good := decodeCounts(v)
		if !ok || !good {
			c.tell("The counters of key %x do not decode.", k)
		} else if c.jobs[jid] == nil {
			c.tell("There are counters of job number %d, which does not exist.", jid)
		}
		stored[jid], tallies[jid] = n, tally
	})
	sealed := map[uint32]*sets{}
	c.each(kSealed, func(k, v []byte) {
		jid, ok := split1(k)
		s, good := decodeSets(v)
		if !ok || !good {
			c.tell("The sealed sets of key %x do not decode.", k)
			return
		}
		sealed[jid] = s
	})
	for jid, j := range c.jobs {
		if stored[jid] != j.recount {
			c.tell("The stored counters of job %s are %v, but its executions count %v.", j.id, stored[jid], j.recount)
		}
		// Of a job that is being deleted nobody asks, and the engine does not say which attempt is the latest.
		if !j.deleting && (tallies[jid] != j.latest || j.tally != j.latest) {
			c.tell("The things of job %s by their latest attempt are stored as %v and kept as %v, but its executions count %v.", j.id, tallies[jid], j.tally, j.latest)
		}
		if j.counts != j.recount {
			c.tell("The counters of job %s in memory are %v, but its executions count %v.", j.id, j.counts, j.recount)
		}
		all := j.found.all()
		if missing := roaring.AndNot(all, j.history); !missing.IsEmpty() {
			c.tell("Job %s has executions on %d things that have no history of it, thing %s the first.", j.id, missing.GetCardinality(), c.thing(missing.Minimum()))
		}
		if spent := roaring.AndNot(j.history, all); !spent.IsEmpty() {
			j.found.by[muster.NoStatus] = spent
		}
		have, where := j.sets, "in memory"
		if have == nil {
			have, where = sealed[jid], "on disk"
		}
		if have == nil {
			c.tell("The sets of job %s are missing.", j.id)
			continue
		}
		if !have.equal(j.found) {
			c.tell("The sets of job %s %s differ from its executions.", j.id, where)
		}
		if j.found.multi != nil && (have.multi == nil || !roaring.AndNot(j.found.multi, have.multi).IsEmpty()) {
			c.tell("Job %s has things with several attempts that its sets %s do not know of.", j.id, where)
		}
	}
}

// queue checks the order of the queues; that their content is right is known from the executions.
func (c *checker) queue() {
	inQueues := int64(0)
	for tid, h := range c.ram.queues {
		if h == 0 {
			continue
		}
		var last order
		for q, first := c.ram.slab.get(h), true; len(q) > 0; first = false {
			p, rest, ok := cutPending(q)
			if !ok {
				c.tell("The queue of thing %s does not decode.", c.thing(uint32(tid)))
				break
			}
			if o := recordOrder(p.record); !first && o.before(last) {
				c.tell("The queue of thing %s is out of order.", c.thing(uint32(tid)))
				break
			} else {
				last = o
			}
			inQueues++
			q = rest
		}
	}
	total := int64(0)
	for _, j := range c.jobs {
		total += j.recount.Pending()
	}
	if inQueues != total {
		c.tell("The queues hold %d executions, but %d are pending.", inQueues, total)
	}
}

func (c *checker) members() {
	found := map[uint32]*roaring.Bitmap{}
	n := 0
	c.each(kMember, func(k, v []byte) {
		tid, gid, ok := split2(k)
		seq, w := binary.Uvarint(v)
		if !ok || w <= 0 {
			c.tell("The membership of key %x does not decode.", k)
			return
		}
		n++
		if c.groups[gid] == nil {
			c.tell("Thing %s is a member of group number %d, which does not exist.", c.thing(tid), gid)
			return
		}
		if found[gid] == nil {
			found[gid] = roaring.New()
		}
		found[gid].Add(tid)
		if !c.named.Contains(tid) {
			c.tell("Group number %d has a member that has no name, number %d.", gid, tid)
		}
		if have, ok := c.ram.member(tid, gid); !ok || have != seq {
			c.tell("Thing %s does not know of its membership in group number %d.", c.thing(tid), gid)
		}
	})
	for gid, want := range c.groups {
		if found[gid] == nil {
			found[gid] = roaring.New()
		}
		if !want.Equals(found[gid]) {
			c.tell("Group number %d has %d members on disk, %d in memory, and they are not the same.", gid, found[gid].GetCardinality(), want.GetCardinality())
		}
	}
	known := 0
	for _, h := range c.ram.groupsOf {
		if h != 0 {
			for d := (codec.Decoder{B: c.ram.slab.get(h)}); len(d.B) > 0 && !d.Bad; known++ {
				d.Uvarint()
				d.Uvarint()
			}
		}
	}
	if known != n {
		c.tell("Things know of %d memberships, but there are %d.", known, n)
	}
}

func (c *checker) feed() {
	next, before := c.feedFirst, uint64(0)
	r := &reader{state: newState(), s: c.s}
	c.each(kFeed, func(k, v []byte) {
		seq := binary.BigEndian.Uint64(k[1:])
		if seq != next {
			c.tell("The feed has entry %d where entry %d was expected.", seq, next)
		}
		d, total, n, _ := decodeHead(v)
		if before != 0 && before+n != total {
			c.tell("Entry %d of the feed counts %d facts after %d, and has %d.", seq, total, before, n)
		}
		before = total
		for len(d.B) > 0 && !d.Bad {
			d.Fact(r.factNames)
			n--
		}
		if d.Bad || n != 0 {
			c.tell("Entry %d of the feed does not decode.", seq)
		}
		next = seq + 1
	})
	if c.err == nil && next != c.meta.feed+1 {
		c.tell("The feed ends before entry %d, but entry %d was written.", next, c.meta.feed)
	}
}

func (c *checker) deadline() {
	n := 0
	c.each(kDeadline, func(k, v []byte) {
		n++
		if len(k) < 10 {
			c.tell("The deadline of key %x does not decode.", k)
			return
		}
		d := splitDeadline(k)
		if cursor, ok := c.deadlines[d]; !ok || cursor != string(v) {
			c.tell("The deadline of %s at %d differs in memory.", d.Subject, d.Due)
		}
	})
	if c.err == nil && n != len(c.deadlines) {
		c.tell("There are %d deadlines on disk, %d in memory.", n, len(c.deadlines))
	}
}
