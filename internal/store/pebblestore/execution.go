package pebblestore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/RaduBerinde/btreemap"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

func (r *reader) Queue(name muster.ThingName) (muster.Queue, bool) {
	tid, ok := r.tidOf(name)
	if !ok {
		return muster.Queue{Thing: name}, false
	}
	q := muster.Queue{Thing: name, Executions: r.queue(tid, name)}
	return q, len(q.Executions) > 0 || r.registered.Contains(tid)
}

func (r *reader) Execution(job muster.JobID, thing muster.ThingName, number int64) (muster.Execution, bool) {
	j := r.jobs[job]
	tid, ok := r.tidOf(thing)
	if j == nil || !ok {
		return muster.Execution{}, false
	}
	e := muster.Execution{Job: job, Thing: thing}
	if p, ok := r.findPending(tid, j.jid, number); ok && (number != 0 || j.sets != nil && !j.sets.isMulti(tid)) {
		e.Number = p.number
		codec.DecodeExecution(p.record, &e)
		return e, true
	}
	if j.sets != nil {
		switch {
		case !j.sets.known(tid):
			return muster.Execution{}, false
		case number == 0 && !j.sets.isMulti(tid):
			number = 1
		}
	}
	if number == 0 {
		found := r.attempts(j, tid, muster.NoStatus, nil)
		if len(found) == 0 {
			return muster.Execution{}, false
		}
		return found[len(found)-1], true
	}
	v, ok := r.get(execKey(j.jid, tid, number))
	if !ok {
		return muster.Execution{}, false
	}
	e.Number = number
	return e, r.decode(v, &e)
}

func (r *reader) decode(v []byte, e *muster.Execution) bool {
	if !codec.DecodeExecution(v, e) {
		r.fail(r.s.broken("execution %d of job %s on thing %s does not decode", e.Number, e.Job, e.Thing))
		return false
	}
	return true
}

// attempts appends a thing's executions of a job, those with a status only if one is given, by number.
func (r *reader) attempts(j *jobState, tid uint32, st muster.Status, out []muster.Execution) []muster.Execution {
	prefix := key2(kExec, j.jid, tid)
	r.scan(prefix, after(prefix), func(k, v []byte) bool {
		if st == muster.NoStatus || codec.StatusOf(v) == st {
			_, _, n, _ := splitExecKey(k)
			e := muster.Execution{Job: j.job.ID, Thing: r.thingName(tid), Number: n}
			if !r.decode(v, &e) {
				return false
			}
			out = append(out, e)
		}
		return true
	})
	return out
}

// execPlace is the place of an execution in its job's list, which goes by tid and number.
func execPlace(tid uint32, number int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, tid), uint64(number))
}

func splitExecPlace(place []byte) (tid uint32, number int64, err error) {
	if place == nil {
		return 0, 0, nil
	}
	if len(place) != 12 {
		return 0, 0, store.ErrToken()
	}
	return binary.BigEndian.Uint32(place), int64(binary.BigEndian.Uint64(place[4:])), nil
}

func (r *reader) ExecutionsOfJob(job muster.JobID, st muster.Status, p store.Page) ([]muster.Execution, string, error) {
	j := r.jobs[job]
	var jid uint32
	if j != nil {
		jid = j.jid
	}
	list := fmt.Sprintf("executions of job\x00%d\x00%d", jid, st)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	tid, number, err := splitExecPlace(place)
	if err != nil || j == nil {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	out := make([]muster.Execution, 0, min(limit+1, 1024))
	if st == muster.NoStatus {
		out = r.allOfJob(j, tid, number, limit+1, out)
	} else {
		out = r.withStatus(j, st, tid, number, limit+1, out)
	}
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	last := &out[limit-1]
	tid, _ = r.tidOf(last.Thing)
	return out, store.PageToken(list, execPlace(tid, last.Number)), nil
}

// allOfJob reads executions behind a place as they lie on disk.
func (r *reader) allOfJob(j *jobState, tid uint32, number int64, limit int, out []muster.Execution) []muster.Execution {
	lower := execKey(j.jid, tid, number)
	r.scan(append(lower, 0), after(key1(kExec, j.jid)), func(k, v []byte) bool {
		_, tid, n, _ := splitExecKey(k)
		e := muster.Execution{Job: j.job.ID, Thing: r.thingName(tid), Number: n}
		if !r.decode(v, &e) {
			return false
		}
		out = append(out, e)
		return len(out) < limit
	})
	return out
}

// withStatus finds by the set of the status which executions behind a place to read.
func (r *reader) withStatus(j *jobState, st muster.Status, tid uint32, number int64, limit int, out []muster.Execution) []muster.Execution {
	sets := r.setsOf(j)
	if st >= muster.NumStatus || sets.by[st] == nil {
		return out
	}
	lower := key1(kExec, j.jid)
	var cur *cursor
	key := make([]byte, 0, 16)
	it := sets.by[st].Iterator()
	it.AdvanceIfNeeded(tid)
	for it.HasNext() && len(out) < limit && r.err == nil {
		t := it.Next()
		if sets.isMulti(t) {
			for _, e := range r.attempts(j, t, st, nil) {
				if (t != tid || e.Number > number) && len(out) < limit {
					out = append(out, e)
				}
			}
			continue
		}
		if t == tid && number >= 1 {
			continue
		}
		e := muster.Execution{Job: j.job.ID, Thing: r.thingName(t), Number: 1}
		var v []byte
		ok := false
		if !st.Terminal() {
			p, found := r.findPending(t, j.jid, 1)
			v, ok = p.record, found
		} else {
			if cur == nil {
				cur = r.cursor(lower, after(lower))
				defer cur.close()
			}
			key = appendExecKey(key[:0], j.jid, t, 1)
			v, ok = cur.get(key)
		}
		if !ok {
			if r.err == nil {
				r.fail(r.s.broken("job %s has no %s execution on thing %s, contrary to its sets", j.job.ID, st, e.Thing))
			}
			break
		}
		if !r.decode(v, &e) {
			break
		}
		out = append(out, e)
	}
	return out
}

// ExecutionsOfThing lists by job, newest first, and the attempts at a job newest first too.
func (r *reader) ExecutionsOfThing(thing muster.ThingName, job muster.JobID, st muster.Status, p store.Page) ([]muster.Execution, string, error) {
	tid, known := r.tidOf(thing)
	list := fmt.Sprintf("executions of thing\x00%d\x00%s\x00%d", tid, job, st)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, number, err := splitExecPlace(place) // from is ^jid here
	if err != nil || !known {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	var out []muster.Execution
	ofJob := func(j *jobState) bool {
		found := r.attempts(j, tid, st, nil)
		slices.Reverse(found)
		for _, e := range found {
			if place == nil || ^j.jid != from || e.Number < number {
				out = append(out, e)
			}
		}
		return len(out) <= limit && r.err == nil
	}
	if job != "" {
		if j := r.jobs[job]; j != nil && (place == nil || ^j.jid >= from) {
			ofJob(j)
		}
	} else {
		lower := key2(kHistory, tid, from)
		r.scan(lower, after(key1(kHistory, tid)), func(k, _ []byte) bool {
			_, njid, _ := split2(k)
			if j := r.byJID[^njid]; j != nil { // history of a job that is gone waits to be removed
				return ofJob(j)
			}
			return true
		})
	}
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	last := &out[limit-1]
	return out, store.PageToken(list, execPlace(^r.jobs[last.Job].jid, last.Number)), nil
}

func (r *reader) Due(t muster.Time, limit int) []store.Deadline {
	var out []store.Deadline
	for d, cursor := range r.deadlines.Ascend(btreemap.Min[store.Deadline](), btreemap.Max[store.Deadline]()) {
		if d.Due > t || len(out) >= limit {
			break
		}
		d.Cursor = cursor
		out = append(out, d)
	}
	return out
}

func (r *reader) NextDue() muster.Time {
	d, _, ok := r.deadlines.Min()
	if !ok {
		return 0
	}
	return d.Due
}
