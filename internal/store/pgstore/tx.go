package pgstore

import (
	"encoding/json"
	"slices"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// A tx is one transaction of the database while functions run in it. What they write stays in layers until all have
// run, or until a function that has the transaction for itself asks for a list.
type tx struct {
	reader
	w      *worker
	shared bool // other functions run in the same transaction

	held    locks
	missing locks                     // what functions wrote without holding it
	present map[muster.ThingName]bool // things that have a row, registered or not

	settingsRead map[string]bool
	leases       []int16 // of the background work, held for the rest of the transaction

	// moment numbers the transaction, and begins the sequence numbers that it gives. It is taken when the locks are
	// held, again when more of them are: of two transactions that hold the same row the later has the larger.
	moment  uint64
	seq     uint64 // the last sequence number given
	flushed bool   // something is written already
}

// spanOfMoment is how many sequence numbers belong to one moment.
const spanOfMoment = 1 << 16

// alone is what a function is ended with that needs a transaction of its own.
type alone struct{}

func (t *tx) top() *layer { return t.layers[len(t.layers)-1] }

func (t *tx) NextSeq() uint64 {
	if t.seq%spanOfMoment == spanOfMoment-1 {
		got := rows(&t.reader, one[int64], nextMoment)
		if len(got) == 0 {
			return t.seq
		}
		t.seq = uint64(got[0]) * spanOfMoment
	}
	t.seq++
	return t.seq
}

func (t *tx) NextNumber(job muster.JobID, thing muster.ThingName) int64 {
	if _, ok := t.job(job); !ok {
		return 1
	}
	return t.endsOf(job, thing).issued + 1
}

func (t *tx) needRegistry() {
	if !t.held.registry {
		t.missing.registry = true
	}
}

func (t *tx) needThingLock(name muster.ThingName) {
	if !t.held.things[name] {
		t.missing.things[name] = true
	}
}

func (t *tx) needJob(id muster.JobID, change bool) {
	if have, ok := t.held.jobs[id]; !ok || change && !have {
		t.missing.jobs[id] = t.missing.jobs[id] || change
	}
}

func (t *tx) needGroup(name muster.GroupName, change bool) {
	if have, ok := t.held.groups[name]; !ok || change && !have {
		t.missing.groups[name] = t.missing.groups[name] || change
	}
}

// needLineage is for a membership, which counts for a group and all above it.
func (t *tx) needLineage(name muster.GroupName) {
	for name != "" {
		t.needGroup(name, false)
		g, ok := t.Group(name)
		if !ok {
			return
		}
		name = g.Parent
	}
}

func (t *tx) Put(row store.Row) {
	l := t.top()
	switch r := row.(type) {
	case store.Thing:
		t.needThingLock(r.Name)
		if r.Type != "" && !t.held.types[r.Type] {
			t.missing.types[r.Type] = true
		}
		old, had := t.Thing(r.Name)
		l.things[r.Name] = known[muster.Thing]{r.Thing, true}
		t.rowFact(muster.FactThing, string(r.Name), "", "", text(t, old, had), text(t, r.Thing, true))
	case store.ThingType:
		t.needRegistry()
		old, had := t.ThingType(r.Name)
		l.types[r.Name] = known[muster.ThingType]{r.ThingType, true}
		t.rowFact(muster.FactThingType, string(r.Name), "", "", text(t, old, had), text(t, r.ThingType, true))
	case store.Group:
		t.needGroup(r.Name, true)
		if r.Parent != "" {
			t.needGroup(r.Parent, false)
		}
		old, had := t.Group(r.Name)
		l.groups[r.Name] = known[muster.Group]{r.Group, true}
		t.rowFact(muster.FactGroup, string(r.Name), "", "", text(t, old, had), text(t, r.Group, true))
	case store.Member:
		t.putMember(r.Membership, true)
	case store.Template:
		t.needRegistry()
		l.templates[r.ID] = known[muster.Template]{r.Template, true}
	case store.Job:
		t.putJob(r.Job)
	case store.Document:
		t.needJob(r.Job, false)
		l.documents[r.Job] = known[muster.Document]{r.Document, true}
	case store.Tags:
		t.needRegistry()
		l.tags[r.Of] = known[muster.Pairs]{r.Tags, r.Tags != ""}
	case store.Setting:
		t.putSetting(r.Name, r.Value)
	case store.Message:
		t.rowFact(muster.FactMessage, r.Topic, "", "", string('0'+r.QoS), r.Payload)
	case store.Deadline:
		l.deadlines[deadlineKey{r.Due, r.Kind, r.Subject}] = known[string]{r.Cursor, true}
	default:
		t.fail(muster.Errorf(muster.Internal, "the store was given a row of unknown kind %T", row))
	}
}

func (t *tx) Delete(row store.Row) {
	l := t.top()
	switch r := row.(type) {
	case store.Thing:
		t.needThingLock(r.Name)
		if old, had := t.Thing(r.Name); had {
			l.things[r.Name] = known[muster.Thing]{}
			t.rowFact(muster.FactThing, string(r.Name), "", "", text(t, old, true), "")
		}
	case store.ThingType:
		t.needRegistry()
		if !t.held.types[r.Name] {
			t.missing.types[r.Name] = true
		}
		if old, had := t.ThingType(r.Name); had {
			l.types[r.Name] = known[muster.ThingType]{}
			t.rowFact(muster.FactThingType, string(r.Name), "", "", text(t, old, true), "")
		}
	case store.Group:
		t.needGroup(r.Name, true)
		if old, had := t.Group(r.Name); had {
			l.groups[r.Name] = known[muster.Group]{}
			t.rowFact(muster.FactGroup, string(r.Name), "", "", text(t, old, true), "")
		}
	case store.Member:
		t.putMember(r.Membership, false)
	case store.Template:
		t.needRegistry()
		l.templates[r.ID] = known[muster.Template]{}
	case store.Job:
		t.deleteJob(r.ID)
	case store.Document:
		l.documents[r.Job] = known[muster.Document]{}
	case store.Tags:
		t.needRegistry()
		l.tags[r.Of] = known[muster.Pairs]{}
	case store.Setting:
		t.putSetting(r.Name, "")
	case store.Deadline:
		l.deadlines[deadlineKey{r.Due, r.Kind, r.Subject}] = known[string]{}
	default:
		t.fail(muster.Errorf(muster.Internal, "the store was given a row of unknown kind %T", row))
	}
}

// putSetting holds the registry for a setting that the function has read: what it writes may depend on it.
func (t *tx) putSetting(name, value string) {
	if t.settingsRead[name] {
		t.needRegistry()
	}
	t.top().settings[name] = known[string]{value, value != ""}
}

func (t *tx) putMember(m muster.Membership, put bool) {
	t.needThingLock(m.Thing)
	t.needLineage(m.Group)
	ms := t.GroupsOf(m.Thing)
	i := slices.IndexFunc(ms, func(o muster.Membership) bool { return o.Group == m.Group })
	var old muster.Membership
	had := i >= 0
	if had {
		old = ms[i]
		ms = slices.Delete(ms, i, i+1)
	}
	if !put && !had {
		return
	}
	if put {
		if _, ok := t.Group(m.Group); !ok {
			t.fail(muster.Errorf(muster.Internal, "the store was given a member of group %s, which it does not have", m.Group))
			return
		}
		ms = append(ms, m)
		slices.SortFunc(ms, func(a, b muster.Membership) int {
			if a.Group < b.Group {
				return -1
			}
			return 1
		})
	}
	l := t.top()
	l.groupsOf[m.Thing] = known[[]muster.Membership]{ms, true}
	l.members[memberKey{m.Group, m.Thing}] = known[muster.Membership]{m, put}
	t.rowFact(muster.FactMembership, "", m.Thing, m.Group, text(t, old, had), text(t, m, put))
}

func (t *tx) putJob(row *muster.Job) {
	job := *row // the caller keeps its own
	t.needJob(job.ID, true)
	old, had := t.job(job.ID)
	ord := old.ord
	if !had {
		ord = t.NextSeq()
	}
	if !had || !slices.Equal(old.Targets, job.Targets) {
		for _, target := range job.Targets {
			if target.Group != "" && !(had && slices.Contains(old.Targets, target)) {
				t.needGroup(target.Group, true)
			}
		}
	}
	l := t.top()
	l.jobs[job.ID] = known[jobRow]{jobRow{&job, ord}, true}
	l.at = max(l.at, job.Updated)
	t.rowFact(muster.FactJob, string(job.ID), "", "", text(t, old.Job, had), text(t, &job, true))
}

// deleteJob has a transaction for itself: what goes with the job is found by the database.
func (t *tx) deleteJob(id muster.JobID) {
	old, had := t.job(id)
	if !had || !t.listing() {
		return
	}
	t.needJob(id, true)
	l := t.top()
	l.jobs[id] = known[jobRow]{}
	l.gone = append(l.gone, id)
	t.rowFact(muster.FactJob, string(id), "", "", text(t, old.Job, true), "")
	t.flush()
	// Whatever was known of the job and of queues is read anew.
	base := t.base()
	clear(base.queues)
	clear(base.things)
	clear(base.execs)
	clear(base.ends)
	delete(base.documents, id)
	delete(base.sums, id)
}

func (t *tx) Keep(thing muster.ThingName, notice muster.Notice, changes ...muster.Change) {
	l := t.top()
	if len(changes) == 0 {
		if notice != (muster.Notice{}) {
			t.needThingLock(thing)
			l.execution(thing, "", &muster.Change{}, notice)
		}
		return
	}
	t.needThingLock(thing)
	q := muster.Queue{Thing: thing, Executions: t.pending(thing)}
	for i := range changes {
		c := &changes[i]
		e := c.Execution()
		from, to := c.Before.Status, c.After.Status
		if _, ok := t.job(e.Job); !ok {
			t.fail(muster.Errorf(muster.Internal, "the store was given an execution of job %s, which it does not have", e.Job))
			return
		}
		if now, is := t.Execution(e.Job, thing, e.Number); is != (from != muster.NoStatus) || is && now.Status != from {
			if len(t.missing.things) == 0 || t.err != nil {
				t.fail(muster.Errorf(muster.Internal, "execution %d of job %s on thing %s was to change from %s to %s, but is %s", e.Number, e.Job, thing, from, to, now.Status))
				return
			}
		}
		key, ends := execKey{thing, e.Job, e.Number}, jobThing{e.Job, thing}
		switch {
		case from == muster.NoStatus:
			t.needJob(e.Job, false)
			now := t.endsOf(e.Job, thing)
			now.latest, now.issued = max(now.latest, e.Number), max(now.issued, e.Number)
			l.ends[ends] = known[endsRow]{now, true}
			l.execs[key] = known[muster.Execution]{c.After, true}
		case to == muster.NoStatus:
			now := t.endsOf(e.Job, thing)
			l.execs[key] = known[muster.Execution]{}
			if now.latest == e.Number {
				l.spent[ends] = known[int64]{now.issued, true}
				now.latest = t.before(e.Job, thing, e.Number)
				l.ends[ends] = known[endsRow]{now, true}
			}
		default:
			l.execs[key] = known[muster.Execution]{c.After, true}
		}
		s := l.sum(e.Job)
		s.counts.Add(*c)
		s.tally.Add(*c)
		var n muster.Notice
		if i == len(changes)-1 {
			n = notice // once for the act, when all of it is told
		}
		l.execution(thing, e.Job, c, n)
	}
	l.queues[thing] = known[[]muster.Execution]{q.With(changes...).Executions, true}
}

type endsRow = ends

// before is the number of the latest execution below one, 0 if there is none.
func (t *tx) before(job muster.JobID, thing muster.ThingName, number int64) (latest int64) {
	if !t.listing() { // what is written by now counts
		return 0
	}
	got := rows(&t.reader, one[int64], `SELECT coalesce(max(number), 0) FROM execution WHERE thing = $1 AND job = $2 AND number < $3`, string(thing), string(job), number)
	if len(got) > 0 {
		latest = got[0]
	}
	return latest
}

// text is a row as the feed tells it.
func text[V any](t *tx, row V, is bool) string {
	if !is {
		return ""
	}
	b, err := json.Marshal(row)
	if err != nil {
		t.fail(&muster.Error{Kind: muster.Internal, Message: "a row cannot be written", Cause: err})
	}
	return string(b)
}

// execution tells of a change.
func (l *layer) execution(thing muster.ThingName, job muster.JobID, c *muster.Change, n muster.Notice) {
	l.facts = codec.AppendFact(l.facts, c, n, func(b []byte) []byte {
		return codec.AppendText(codec.AppendText(b, thing), job)
	})
	l.told++
	l.at = max(l.at, c.Execution().UpdatedAt)
}

func (t *tx) rowFact(kind muster.FactKind, name string, thing muster.ThingName, group muster.GroupName, before, after string) {
	l := t.top()
	l.facts = codec.AppendRowFact(l.facts, &muster.Fact{Kind: kind, Name: name, Thing: thing, Group: group, Before: before, After: after})
	l.told++
}

func decodeFacts(v []byte) (facts []muster.Fact, ok bool) {
	for d := (codec.Decoder{B: v}); ; {
		if len(d.B) == 0 || d.Bad {
			return facts, !d.Bad
		}
		facts = append(facts, d.Fact(func(d *codec.Decoder, f *muster.Fact) {
			f.Thing = muster.ThingName(d.Text())
			f.Job = muster.JobID(d.Text())
		}))
	}
}
