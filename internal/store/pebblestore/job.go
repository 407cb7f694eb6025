package pebblestore

import (
	"bytes"
	"fmt"
	"iter"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

func (r *reader) Job(id muster.JobID) (*muster.Job, bool) {
	j := r.jobs[id]
	if j == nil {
		return nil, false
	}
	return j.job, true
}

func (r *reader) Document(id muster.JobID) (muster.Document, bool) {
	j := r.jobs[id]
	if j == nil {
		return muster.Document{}, false
	}
	key := key1(kDocument, j.jid)
	if r.b != nil {
		if v, exists, known := r.b.get(key); known || exists {
			if !exists {
				return muster.Document{}, false
			}
			return r.document(id, bytes.Clone(v))
		}
	}
	if d, ok := r.s.documents.get(j.jid); ok {
		return d, true
	}
	v, ok := r.get(key)
	if !ok {
		return muster.Document{}, false
	}
	d, ok := r.document(id, v)
	if ok {
		r.s.documents.put(j.jid, d, len(v))
	}
	return d, ok
}

func (r *reader) document(id muster.JobID, v []byte) (muster.Document, bool) {
	dec := codec.Decoder{B: v}
	d := muster.Document{Text: dec.Text(), Source: dec.Text()}
	if dec.Bad {
		r.fail(r.s.broken("the document of job %s does not decode", id))
		return muster.Document{}, false
	}
	return d, true
}

func (r *reader) Jobs(f store.JobFilter, p store.Page) ([]*muster.Job, string, error) {
	sel := ""
	if f.Selection != nil {
		sel = f.Selection.String()
	}
	list := fmt.Sprintf("jobs\x00%d\x00%s\x00%s\x00%s", f.Status, sel, f.Group, f.Namespace)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, err := idOf(place)
	if err != nil {
		return nil, "", err
	}
	set := r.allJobs
	if f.Group != "" {
		set = r.byGroup[f.Group]
	} else if f.Status != muster.NoJobStatus {
		set = r.byStatus[f.Status&7]
	}
	if set == nil {
		return nil, "", nil
	}
	limit := max(1, p.Limit)
	var out []*muster.Job
	for it := iterateAfter(set, from); it.HasNext(); {
		id := it.Next()
		j := r.byJID[^id].job
		if f.Status != muster.NoJobStatus && j.Status != f.Status ||
			f.Selection != nil && j.Selection != *f.Selection ||
			f.Namespace != "" && j.Namespace != f.Namespace {
			continue
		}
		if len(out) == limit {
			return out, store.PageToken(list, idPlace(from)), nil
		}
		from = id
		out = append(out, j)
	}
	return out, "", nil
}

func (r *reader) Targeting(g muster.GroupName) iter.Seq[*muster.Job] {
	return func(yield func(*muster.Job) bool) {
		set := r.byGroup[g]
		if set == nil {
			return
		}
		for _, id := range set.ToArray() { // the caller may change jobs meanwhile
			s := r.byJID[^id]
			if s != nil && s.job.Status == muster.JobInProgress && s.job.Selection == muster.Continuous && !yield(s.job) {
				return
			}
		}
	}
}

func (r *reader) JobCount(st muster.JobStatus) int { return int(r.byStatus[st&7].GetCardinality()) }

func (r *reader) Counts(id muster.JobID) muster.Counts {
	if j := r.jobs[id]; j != nil {
		return j.counts
	}
	return muster.Counts{}
}

func (r *reader) Tally(id muster.JobID) muster.Tally {
	if j := r.jobs[id]; j != nil {
		return j.tally
	}
	return muster.Tally{}
}

// setsOf are the sets of a job, read from disk if the job is sealed. They must not be changed.
func (r *reader) setsOf(j *jobState) *sets {
	if j.sets != nil {
		return j.sets
	}
	if s, ok := r.s.sealed.get(j.jid); ok {
		return s
	}
	v, ok := r.get(key1(kSealed, j.jid))
	if !ok {
		if r.err == nil {
			r.fail(r.s.broken("the sealed sets of job %s are missing", j.job.ID))
		}
		return newSets()
	}
	s, ok := decodeSets(v)
	if !ok {
		r.fail(r.s.broken("the sealed sets of job %s do not decode", j.job.ID))
		return newSets()
	}
	r.s.sealed.put(j.jid, s, len(v)+256)
	return s
}
