package engine

import (
	"container/heap"
	"strconv"

	"muster"
	"muster/internal/store"
)

// A model is a store of one job in memory, for rehearsing what time and devices would make of it. The
// engine's own functions work on it as on any transaction, so that a rehearsal cannot follow other
// rules than the service does. It keeps of each thing the latest execution alone: those before it are
// over, and nothing looks at them again.
type model struct {
	store.Tx // nil: what a rehearsal of one job never asks for is not there

	job     *muster.Job
	targets map[muster.GroupName][]muster.Membership // of each target that is a group, with the groups below it
	index   map[muster.ThingName]int
	latest  []muster.Execution // NoStatus: none yet
	groups  [][]muster.Membership
	counts  muster.Counts
	tally   muster.Tally
	seq     uint64

	cursors map[store.Deadline]string // by all fields but Cursor
	order   deadlines                 // what is not in cursors any more is passed over

	kept   func(muster.Change)
	turned func(was, is *muster.Job)
}

var _ store.Tx = (*model)(nil)

func newModel() *model {
	return &model{targets: map[muster.GroupName][]muster.Membership{}, index: map[muster.ThingName]int{}, cursors: map[store.Deadline]string{}}
}

// Exact: nobody else works on a rehearsal.
func (m *model) Exact() bool { return true }

// add registers a thing as a member of a target; group "" is a target of its own.
func (m *model) add(group muster.GroupName, of muster.Membership) {
	i, known := m.index[of.Thing]
	if !known {
		i = len(m.latest)
		m.index[of.Thing] = i
		m.latest = append(m.latest, muster.Execution{})
		m.groups = append(m.groups, nil)
	}
	m.seq = max(m.seq, of.Seq)
	if group != "" {
		of.Group = group
		m.targets[group] = append(m.targets[group], of)
		m.groups[i] = append(m.groups[i], of)
	}
}

// again is the same things without the job.
func (m *model) again() *model {
	fresh := newModel()
	fresh.targets, fresh.index, fresh.groups, fresh.seq = m.targets, m.index, m.groups, m.seq
	fresh.latest = make([]muster.Execution, len(m.latest))
	return fresh
}

func (m *model) Thing(name muster.ThingName) (muster.Thing, bool) {
	_, ok := m.index[name]
	return muster.Thing{Name: name}, ok
}

// Group finds the targets. What lies below them counts as theirs, so that none has children.
func (m *model) Group(name muster.GroupName) (muster.Group, bool) {
	_, ok := m.targets[name]
	return muster.Group{Name: name}, ok
}

func (m *model) Groups(muster.GroupName, store.Page) ([]muster.Group, string, error) {
	return nil, "", nil
}

func (m *model) Members(name muster.GroupName, p store.Page) ([]muster.Membership, string, error) {
	all := m.targets[name]
	from, _ := strconv.Atoi(p.After)
	to := min(len(all), from+p.Limit)
	if to == len(all) {
		return all[from:to], "", nil
	}
	return all[from:to], strconv.Itoa(to), nil
}

func (m *model) GroupsOf(name muster.ThingName) []muster.Membership {
	if i, ok := m.index[name]; ok {
		return m.groups[i]
	}
	return nil
}

func (m *model) Job(id muster.JobID) (*muster.Job, bool) {
	return m.job, m.job != nil && m.job.ID == id
}

func (m *model) Counts(muster.JobID) muster.Counts { return m.counts }
func (m *model) Tally(muster.JobID) muster.Tally   { return m.tally }

func (m *model) Queue(name muster.ThingName) (q muster.Queue, ok bool) {
	i, ok := m.index[name]
	q.Thing = name
	if ok && (m.latest[i].Status == muster.Queued || m.latest[i].Status == muster.InProgress) {
		q.Executions = m.latest[i : i+1 : i+1]
	}
	return q, ok
}

func (m *model) Execution(_ muster.JobID, name muster.ThingName, number int64) (e muster.Execution, ok bool) {
	if i, known := m.index[name]; known {
		e = m.latest[i]
	}
	return e, e.Status != muster.NoStatus && (number == 0 || number == e.Number)
}

func (m *model) ExecutionsOfJob(_ muster.JobID, status muster.Status, p store.Page) (rows []muster.Execution, next string, err error) {
	i, _ := strconv.Atoi(p.After)
	for ; i < len(m.latest) && len(rows) < p.Limit; i++ {
		if s := m.latest[i].Status; s != muster.NoStatus && (status == muster.NoStatus || s == status) {
			rows = append(rows, m.latest[i])
		}
	}
	if i < len(m.latest) {
		next = strconv.Itoa(i)
	}
	return rows, next, nil
}

func (m *model) NextSeq() uint64 {
	m.seq++
	return m.seq
}

func (m *model) NextNumber(_ muster.JobID, name muster.ThingName) int64 {
	return m.latest[m.index[name]].Number + 1
}

func (m *model) Put(row store.Row) {
	switch r := row.(type) {
	case store.Job:
		was, is := m.job, *r.Job
		m.job = &is
		if m.turned != nil {
			m.turned(was, m.job)
		}
	case store.Deadline:
		if r.Kind == store.Retention {
			return // of no interest: it is over by then
		}
		cursor := r.Cursor
		r.Cursor = ""
		if _, known := m.cursors[r]; !known {
			heap.Push(&m.order, r)
		}
		m.cursors[r] = cursor
	}
}

func (m *model) Delete(row store.Row) {
	if d, ok := row.(store.Deadline); ok {
		d.Cursor = ""
		delete(m.cursors, d)
	}
}

func (m *model) Keep(name muster.ThingName, _ muster.Notice, changes ...muster.Change) {
	for _, c := range changes {
		m.counts.Add(c)
		m.tally.Add(c)
		if c.After.Status != muster.NoStatus {
			m.latest[m.index[name]] = c.After
		}
		if m.kept != nil {
			m.kept(c)
		}
	}
}

// Due returns at most the first deadline: that is how a rehearsal works them off.
func (m *model) Due(t muster.Time, _ int) []store.Deadline {
	if next := m.NextDue(); next == 0 || next > t {
		return nil
	}
	d := m.order[0]
	d.Cursor = m.cursors[d]
	return []store.Deadline{d}
}

func (m *model) NextDue() muster.Time {
	for len(m.order) > 0 {
		if _, ok := m.cursors[m.order[0]]; ok {
			return m.order[0].Due
		}
		heap.Pop(&m.order)
	}
	return 0
}

// deadlines are a heap, in the order of the store: by time, kind and subject.
type deadlines []store.Deadline

func (d deadlines) Len() int { return len(d) }
func (d deadlines) Less(i, k int) bool {
	switch {
	case d[i].Due != d[k].Due:
		return d[i].Due < d[k].Due
	case d[i].Kind != d[k].Kind:
		return d[i].Kind < d[k].Kind
	}
	return d[i].Subject < d[k].Subject
}
func (d deadlines) Swap(i, k int) { d[i], d[k] = d[k], d[i] }
func (d *deadlines) Push(x any)   { *d = append(*d, x.(store.Deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}
