package pebblestore

import (
	"cmp"
	"slices"

	"github.com/RaduBerinde/btreemap"
	"github.com/RoaringBitmap/roaring/v2"

	"muster"
	"muster/internal/store"
)

// state is what is kept in RAM: everything that a device's act reads, and the indexes of the rest.
// The writer changes it in place under Store.mu and takes back what a failed function changed; views
// read it under the read lock.
type state struct {
	names      *names
	registered *roaring.Bitmap // tids of things that are registered
	types      map[muster.TypeName]*roaring.Bitmap
	slab       slab
	queues     []uint32 // by tid: handle of the thing's pending executions
	groupsOf   []uint32 // by tid: handle of the groups it is directly in
	pending    int64    // pending executions of all things

	jobs     map[muster.JobID]*jobState
	byJID    map[uint32]*jobState
	allJobs  *roaring.Bitmap                      // ^jid, so that they list newest first
	byStatus [8]*roaring.Bitmap                   // ^jid by job status
	byGroup  map[muster.GroupName]*roaring.Bitmap // ^jid of the jobs that name the group
	dead     map[uint32]deadJob                   // jobs that are gone but of which the feed may speak
	garbage  map[uint32]*roaring.Bitmap           // by jid of a deleted job: things with history of it
	dropped  []droppedName                        // things that are gone but of which the feed may speak

	groups     map[muster.GroupName]*groupState
	byGID      map[uint32]*groupState
	groupNames sorted[muster.GroupName]
	children   map[muster.GroupName]*sorted[muster.GroupName]

	typeRows  map[muster.TypeName]muster.ThingType
	typeNames sorted[muster.TypeName]
	templates map[muster.TemplateID]muster.Template
	tmplNames sorted[muster.TemplateID]

	deadlines *btreemap.BTreeMap[store.Deadline, string] // Cursor apart, which is the value

	meta
	feedFirst uint64 // the oldest entry kept
	feedGone  uint64 // facts in entries that are not kept any more
}

// meta are the counters that outlive what they counted. They are one key.
type meta struct {
	seq    uint64 // NextSeq
	tid    uint32
	jid    uint32
	gid    uint32
	feed   uint64 // the newest entry
	facts  uint64 // facts in all entries ever
	feedAt muster.Time
}

type groupState struct {
	gid     uint32
	row     muster.Group
	members *roaring.Bitmap
}

// A deadJob is a job that is gone; the feed spoke of it up to an entry.
type deadJob struct {
	id   muster.JobID
	feed uint64
}

// A droppedName is a thing of which nothing is left but its name; the feed spoke of it up to an entry.
type droppedName struct {
	tid  uint32
	feed uint64
}

func newState() *state {
	s := &state{
		names:      newNames(),
		registered: roaring.New(),
		allJobs:    roaring.New(),
		types:      map[muster.TypeName]*roaring.Bitmap{},
		jobs:       map[muster.JobID]*jobState{},
		byJID:      map[uint32]*jobState{},
		byGroup:    map[muster.GroupName]*roaring.Bitmap{},
		dead:       map[uint32]deadJob{},
		garbage:    map[uint32]*roaring.Bitmap{},
		groups:     map[muster.GroupName]*groupState{},
		byGID:      map[uint32]*groupState{},
		children:   map[muster.GroupName]*sorted[muster.GroupName]{},
		typeRows:   map[muster.TypeName]muster.ThingType{},
		templates:  map[muster.TemplateID]muster.Template{},
		deadlines:  btreemap.New[store.Deadline, string](32, compareDeadlines),
	}
	for i := range s.byStatus {
		s.byStatus[i] = roaring.New()
	}
	return s
}

func compareDeadlines(a, b store.Deadline) int {
	if c := cmp.Compare(a.Due, b.Due); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return cmp.Compare(a.Subject, b.Subject)
}

// at is the element of a slice by tid; growing is setAt's.
func at(s []uint32, tid uint32) uint32 {
	if int(tid) >= len(s) {
		return 0
	}
	return s[tid]
}

func setAt(s *[]uint32, tid uint32, h uint32) {
	for int(tid) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[tid] = h
}

// jobID is the id of a job by its number, also of one that is gone while the feed may speak of it.
func (s *state) jobID(jid uint32) muster.JobID {
	if j := s.byJID[jid]; j != nil {
		return j.job.ID
	}
	return s.dead[jid].id
}

// listJob and unlistJob keep the indexes of jobs.
func (s *state) listJob(jid uint32, j *muster.Job) {
	s.allJobs.Add(^jid)
	s.byStatus[j.Status&7].Add(^jid)
	for _, t := range j.Targets {
		if t.Group != "" {
			b := s.byGroup[t.Group]
			if b == nil {
				b = roaring.New()
				s.byGroup[t.Group] = b
			}
			b.Add(^jid)
		}
	}
}

func (s *state) unlistJob(jid uint32, j *muster.Job) {
	s.allJobs.Remove(^jid)
	s.byStatus[j.Status&7].Remove(^jid)
	for _, t := range j.Targets {
		if b := s.byGroup[t.Group]; t.Group != "" && b != nil {
			if b.Remove(^jid); b.IsEmpty() {
				delete(s.byGroup, t.Group)
			}
		}
	}
}

// setType keeps the index of things by type.
func (s *state) setType(tid uint32, from, to muster.TypeName) {
	if from == to {
		return
	}
	if b := s.types[from]; from != "" && b != nil {
		if b.Remove(tid); b.IsEmpty() {
			delete(s.types, from)
		}
	}
	if to != "" {
		b := s.types[to]
		if b == nil {
			b = roaring.New()
			s.types[to] = b
		}
		b.Add(tid)
	}
}

func (s *state) listGroup(g muster.Group) {
	s.groupNames.add(g.Name)
	if g.Parent != "" {
		c := s.children[g.Parent]
		if c == nil {
			c = new(sorted[muster.GroupName])
			s.children[g.Parent] = c
		}
		c.add(g.Name)
	}
}

func (s *state) unlistGroup(g muster.Group) {
	s.groupNames.remove(g.Name)
	if c := s.children[g.Parent]; g.Parent != "" && c != nil {
		if c.remove(g.Name); len(*c) == 0 {
			delete(s.children, g.Parent)
		}
	}
}

// sorted is a list of names in order, each once.
type sorted[T ~string] []T

func (l *sorted[T]) add(v T) {
	if i, ok := slices.BinarySearch(*l, v); !ok {
		*l = slices.Insert(*l, i, v)
	}
}

func (l *sorted[T]) remove(v T) {
	if i, ok := slices.BinarySearch(*l, v); ok {
		*l = slices.Delete(*l, i, i+1)
	}
}

// after is the part of the list behind v.
func (l sorted[T]) after(v T) []T {
	i, ok := slices.BinarySearch(l, v)
	if ok {
		i++
	}
	return l[i:]
}
