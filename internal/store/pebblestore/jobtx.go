package pebblestore

import (
	"encoding/binary"

	"github.com/RoaringBitmap/roaring/v2"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

func (t *tx) putJob(row *muster.Job) {
	job := *row // the caller keeps its own
	v := t.json(&job)
	t.s.entry.at = max(t.s.entry.at, job.Updated)
	j := t.jobs[job.ID]
	if j == nil {
		t.jid++
		j = &jobState{jid: t.jid, job: &job, sets: newSets()}
		t.jobs[job.ID], t.byJID[j.jid] = j, j
		t.listJob(j.jid, &job)
		t.back(func() {
			t.unlistJob(j.jid, &job)
			delete(t.jobs, job.ID)
			delete(t.byJID, j.jid)
		})
		t.rowFact(muster.FactJob, string(job.ID), nil, v)
	} else {
		old := j.job
		t.unlistJob(j.jid, old)
		j.job = &job
		t.listJob(j.jid, &job)
		t.back(func() {
			t.unlistJob(j.jid, &job)
			j.job = old
			t.listJob(j.jid, old)
		})
		t.rowFact(muster.FactJob, string(job.ID), t.json(old), v)
	}
	t.b.set(key1(kJob, j.jid), v)
	if t.s.sealable(j) {
		t.s.toSeal[j.jid] = true
	}
}

func (t *tx) putDocument(d store.Document) {
	j := t.jobs[d.Job]
	if j == nil {
		t.fail(muster.Errorf(muster.Internal, "the store was given the document of job %s, which it does not have", d.Job))
		return
	}
	t.s.documents.remove(j.jid)
	t.b.set(key1(kDocument, j.jid), codec.AppendText(codec.AppendText(nil, d.Text), d.Source))
}

// deleteJob removes all of a job's keys at once. What its things remember of it is removed in
// slices later: nobody reads the history of a job that is gone.
func (t *tx) deleteJob(id muster.JobID) {
	j := t.jobs[id]
	if j == nil {
		return
	}
	sets := t.setsOf(j)
	if t.err != nil {
		return
	}
	for _, st := range []muster.Status{muster.Queued, muster.InProgress} {
		if sets.by[st] == nil {
			continue
		}
		for _, tid := range sets.by[st].ToArray() {
			for p, ok := t.findPending(tid, j.jid, 0); ok; p, ok = t.findPending(tid, j.jid, 0) {
				t.setQueue(tid, j.jid, p.number, nil)
				t.pending--
				t.back(func() { t.pending++ })
			}
		}
	}
	for _, kind := range []byte{kJob, kDocument, kCounts, kSealed} {
		t.b.delete(key1(kind, j.jid))
	}
	for _, kind := range []byte{kExec, kSpent} {
		prefix := key1(kind, j.jid)
		t.b.deleteRange(prefix, after(prefix))
	}
	t.s.documents.remove(j.jid)
	t.s.sealed.remove(j.jid)
	feed := t.feed + 1
	t.b.set(key1(kDead, j.jid), append(binary.AppendUvarint(nil, feed), id...))
	t.unlistJob(j.jid, j.job)
	delete(t.jobs, id)
	delete(t.byJID, j.jid)
	t.dead[j.jid] = deadJob{id, feed}
	things := sets.all()
	if !things.IsEmpty() {
		t.setGarbage(j.jid, things)
	}
	t.back(func() {
		delete(t.garbage, j.jid)
		delete(t.dead, j.jid)
		t.jobs[id], t.byJID[j.jid] = j, j
		t.listJob(j.jid, j.job)
	})
	t.rowFact(muster.FactJob, string(id), t.json(j.job), nil)
}

func (t *tx) setGarbage(jid uint32, things *roaring.Bitmap) {
	if things.IsEmpty() {
		t.b.delete(key1(kGarbage, jid))
		delete(t.garbage, jid)
		return
	}
	things.RunOptimize()
	v, err := things.ToBytes()
	if err != nil {
		panic(err) // a buffer does not fail
	}
	t.b.set(key1(kGarbage, jid), v)
	t.garbage[jid] = things
}
