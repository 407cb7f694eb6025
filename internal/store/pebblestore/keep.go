package pebblestore

import (
	"muster"
	"muster/internal/store/codec"
)

// NextNumber reads the disk only for a thing that had several executions of the job before.
func (t *tx) NextNumber(job muster.JobID, thing muster.ThingName) int64 {
	j := t.jobs[job]
	tid, ok := t.tidOf(thing)
	if j == nil || !ok {
		return 1
	}
	switch sets := t.setsOf(j); {
	case !sets.known(tid):
		return 1
	case !sets.isMulti(tid):
		return 2
	}
	v, ok := t.get(historyKey(tid, j.jid))
	if !ok {
		if t.err == nil {
			t.fail(t.s.broken("job %s has no history on thing %s, contrary to its sets", job, thing))
		}
		return 1
	}
	n, _, _ := cutNumber(v)
	return n + 1
}

// Keep writes one record for each change and the thing's queue once.
func (t *tx) Keep(thing muster.ThingName, notice muster.Notice, changes ...muster.Change) {
	if len(changes) == 0 {
		if notice != (muster.Notice{}) {
			tid := t.ensureTid(thing)
			t.s.entry.execution(tid, 0, &muster.Change{}, notice)
		}
		return
	}
	tid := t.ensureTid(thing)
	for i := range changes {
		var n muster.Notice
		if i == len(changes)-1 {
			n = notice // once for the act, when all of it is told
		}
		if !t.keep(tid, thing, &changes[i], n) {
			return
		}
	}
}

func (t *tx) keep(tid uint32, thing muster.ThingName, c *muster.Change, n muster.Notice) bool {
	e := c.Execution()
	j := t.jobs[e.Job]
	if j == nil {
		t.fail(muster.Errorf(muster.Internal, "the store was given an execution of job %s, which it does not have", e.Job))
		return false
	}
	from, to := c.Before.Status, c.After.Status
	if !t.plausible(tid, j, e, from, to) {
		return false
	}
	if !t.unseal(j) {
		return false
	}
	key := appendExecKey(t.scratch[:0], j.jid, tid, e.Number)
	var record []byte
	if to == muster.NoStatus {
		t.b.delete(key)
	} else {
		t.record = codec.AppendExecution(t.record[:0], e)
		record = t.record
		t.b.set(key, record)
		if from == muster.NoStatus {
			t.b.set(historyKey(tid, j.jid), appendNumber(nil, e.Number))
		}
	}
	t.scratch = key
	if pending(from) || pending(to) {
		if !pending(to) {
			record = nil
		}
		t.setQueue(tid, j.jid, e.Number, record)
		if pending(from) {
			t.pending--
		}
		if pending(to) {
			t.pending++
		}
	}
	t.move(tid, j, e.Number, c)
	t.touch(j)
	t.s.entry.execution(tid, j.jid, c, n)
	return true
}

func pending(s muster.Status) bool { return s == muster.Queued || s == muster.InProgress }

// plausible checks what the engine says was before against what is: a store that counts by what it
// is told must not be told wrong.
func (t *tx) plausible(tid uint32, j *jobState, e *muster.Execution, from, to muster.Status) bool {
	is := muster.NoStatus
	if p, ok := t.findPending(tid, j.jid, e.Number); ok {
		is = codec.StatusOf(p.record)
	}
	if pending(from) || from == muster.NoStatus {
		if is == from && e.Number > 0 && to < muster.NumStatus && (from != muster.NoStatus || to != muster.NoStatus) {
			return true
		}
	} else if is == muster.NoStatus && from < muster.NumStatus && t.setsOf(j).has(from, tid) {
		return true
	}
	t.fail(muster.Errorf(muster.Internal, "execution %d of job %s on thing %s was to change from %s to %s, but is %s",
		e.Number, e.Job, t.thingName(tid), from, to, is))
	return false
}

// setQueue puts an execution's record into the thing's queue, or takes it out.
func (t *tx) setQueue(tid, jid uint32, number int64, record []byte) {
	old := at(t.queues, tid)
	var have []byte
	if old != 0 {
		have = t.slab.get(old)
	}
	t.s.queueBuf = withRecord(t.s.queueBuf[:0], have, jid, number, record)
	var h uint32
	if len(t.s.queueBuf) > 0 {
		h = t.slab.put(t.s.queueBuf)
	}
	setAt(&t.queues, tid, h)
	t.undo = append(t.undo, undo{tid: tid, old: old, new: h})
}

// move keeps the job's sets and counters for an execution that went from a status to another.
func (t *tx) move(tid uint32, j *jobState, number int64, c *muster.Change) {
	from, to := c.Before.Status, c.After.Status
	u := undo{tid: tid, job: j, from: from, to: to, was: c.Superseded, stale: c.Stale}
	j.tally.Add(*c)
	s := j.sets
	if number != 1 && s.addMulti(tid) {
		u.sets |= joinedMulti
	}
	if from != to {
		if from != muster.NoStatus {
			j.counts[from]--
			if !s.isMulti(tid) || !t.another(tid, j, number, from) {
				if s.remove(from, tid) {
					u.sets |= leftFrom
				}
			}
		}
		if to != muster.NoStatus {
			j.counts[to]++
			if s.add(to, tid) {
				u.sets |= joinedTo
			}
			if from == muster.NoStatus && s.remove(muster.NoStatus, tid) {
				u.sets |= leftSpent
				t.b.delete(key2(kSpent, j.jid, tid))
			}
		} else if !s.known(tid) && s.add(muster.NoStatus, tid) {
			u.sets |= joinedSpent
			if s.addMulti(tid) { // its next number is on disk
				u.sets |= joinedMulti
			}
			t.b.set(key2(kSpent, j.jid, tid), nil)
		} else if number != 1 {
			// Number 1 may be all that is left, and is not all that there was.
			t.b.set(key2(kSpent, j.jid, tid), []byte{1})
		}
	}
	t.undo = append(t.undo, u)
}

// another reports whether a thing with several attempts has another one with the status.
func (t *tx) another(tid uint32, j *jobState, number int64, st muster.Status) bool {
	if pending(st) {
		return t.pendingWith(tid, j.jid, st, number)
	}
	for _, e := range t.attempts(j, tid, st, nil) {
		if e.Number != number {
			return true
		}
	}
	return false
}

func (t *tx) unmove(u *undo) {
	j, s := u.job, u.job.sets
	j.tally.Take(u.from, u.to, u.was, u.stale)
	if u.from != u.to {
		if u.from != muster.NoStatus {
			j.counts[u.from]++
		}
		if u.to != muster.NoStatus {
			j.counts[u.to]--
		}
	}
	if pending(u.from) {
		t.pending++
	}
	if pending(u.to) {
		t.pending--
	}
	if u.sets&joinedSpent != 0 {
		s.remove(muster.NoStatus, u.tid)
	}
	if u.sets&leftSpent != 0 {
		s.add(muster.NoStatus, u.tid)
	}
	if u.sets&joinedTo != 0 {
		s.remove(u.to, u.tid)
	}
	if u.sets&leftFrom != 0 {
		s.add(u.from, u.tid)
	}
	if u.sets&joinedMulti != 0 {
		s.multi.Remove(u.tid)
	}
}

// touch sees to it that the job's counters are written with the batch, once.
func (t *tx) touch(j *jobState) {
	if !j.dirty {
		j.dirty = true
		t.s.touched = append(t.s.touched, j)
	}
}

// unseal makes the sets of a job ready for change.
func (t *tx) unseal(j *jobState) bool {
	if !j.sealed {
		return true
	}
	if j.sets == nil {
		s := t.setsOf(j)
		if t.err != nil {
			return false
		}
		t.s.sealed.remove(j.jid)
		j.sets = s
	}
	j.sealed = false
	t.b.delete(key1(kSealed, j.jid))
	t.back(func() { j.sealed = true })
	return true
}
