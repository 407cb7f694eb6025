package pebblestore

import (
	"bytes"
	"encoding/json"

	"github.com/RoaringBitmap/roaring/v2"

	"muster"
	"muster/internal/store"
)

// tx is one Update: a reader that also writes, into the batch and into the state in place. Every
// change of the state leaves a way back, so that a function that fails leaves nothing.
type tx struct {
	reader
	undo   []undo
	before meta // the counters when the function began
	length int  // of the batch then
	count  uint32
	told   int // bytes of the entry then
	ntold  uint64
	toldAt muster.Time

	scratch []byte
	record  []byte
}

// An undo takes one change back. Those of Keep are plain values, for they are many.
type undo struct {
	do    func()
	tid   uint32
	old   uint32 // handle of the queue before; freed when the Update succeeds
	new   uint32
	job   *jobState
	from  muster.Status // NoStatus: none
	to    muster.Status
	was   muster.Status // superseded
	stale bool
	sets  setChanges
}

// setChanges says which sets a change of an execution has changed.
type setChanges uint8

const (
	leftFrom setChanges = 1 << iota
	joinedTo
	leftSpent   // the set of NoStatus
	joinedSpent //
	joinedMulti
)

func (t *tx) begin() {
	t.err = nil
	t.name = ""
	t.undo = t.undo[:0]
	t.before = t.meta
	t.length, t.count = len(t.b.repr), t.b.count
	t.told, t.ntold, t.toldAt = len(t.s.entry.facts), t.s.entry.n, t.s.entry.at
}

// commit frees what only a way back needed.
func (t *tx) commit() {
	for i := range t.undo {
		if u := &t.undo[i]; u.do == nil && u.job == nil {
			t.slab.free(u.old)
		}
		t.undo[i] = undo{}
	}
	t.undo = t.undo[:0]
}

// rollback takes back what the function did.
func (t *tx) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		switch u := &t.undo[i]; {
		case u.do != nil:
			u.do()
		case u.job != nil:
			t.unmove(u)
		default:
			t.slab.free(u.new)
			t.queues[u.tid] = u.old
		}
		t.undo[i] = undo{}
	}
	t.undo = t.undo[:0]
	t.meta = t.before
	t.b.cut(t.length, t.count)
	t.s.entry.cut(t.told, t.ntold, t.toldAt)
}

func (t *tx) back(do func()) { t.undo = append(t.undo, undo{do: do}) }

func (t *tx) NextSeq() uint64 {
	t.seq++
	return t.seq
}

func (t *tx) Put(row store.Row) {
	switch r := row.(type) {
	case store.Thing:
		t.putThing(r.Thing)
	case store.ThingType:
		t.putType(r.ThingType)
	case store.Group:
		t.putGroup(r.Group)
	case store.Member:
		t.putMember(r.Membership)
	case store.Template:
		old, had := t.templates[r.ID]
		t.b.set(keyText(kTemplate, string(r.ID)), t.json(r.Template))
		t.templates[r.ID] = r.Template
		t.tmplNames.add(r.ID)
		t.back(func() { restore(t.templates, &t.tmplNames, r.ID, old, had) })
	case store.Job:
		t.putJob(r.Job)
	case store.Document:
		t.putDocument(r)
	case store.Tags:
		if r.Tags == "" {
			t.b.delete(tagsKey(r.Of))
		} else {
			t.b.set(tagsKey(r.Of), []byte(r.Tags))
		}
	case store.Setting:
		if r.Value == "" {
			t.b.delete(keyText(kSetting, r.Name))
		} else {
			t.b.set(keyText(kSetting, r.Name), []byte(r.Value))
		}
	case store.Message:
		t.rowFact(muster.FactMessage, r.Topic, []byte{'0' + r.QoS}, []byte(r.Payload))
	case store.Deadline:
		cursor := r.Cursor
		t.b.set(deadlineKey(r), []byte(cursor))
		r.Cursor = ""
		_, old, had := t.deadlines.ReplaceOrInsert(r, cursor)
		t.back(func() {
			if had {
				t.deadlines.ReplaceOrInsert(r, old)
			} else {
				t.deadlines.Delete(r)
			}
		})
	default:
		t.fail(muster.Errorf(muster.Internal, "the store was given a row of unknown kind %T", row))
	}
}

func (t *tx) Delete(row store.Row) {
	switch r := row.(type) {
	case store.Thing:
		t.deleteThing(r.Name)
	case store.ThingType:
		old, had := t.typeRows[r.Name]
		if !had {
			return
		}
		t.b.delete(keyText(kType, string(r.Name)))
		delete(t.typeRows, r.Name)
		t.typeNames.remove(r.Name)
		t.back(func() { restore(t.typeRows, &t.typeNames, r.Name, old, true) })
		t.rowFact(muster.FactThingType, string(r.Name), t.json(old), nil)
	case store.Group:
		t.deleteGroup(r.Name)
	case store.Member:
		t.deleteMember(r.Membership.Group, r.Membership.Thing)
	case store.Template:
		old, had := t.templates[r.ID]
		if !had {
			return
		}
		t.b.delete(keyText(kTemplate, string(r.ID)))
		delete(t.templates, r.ID)
		t.tmplNames.remove(r.ID)
		t.back(func() { restore(t.templates, &t.tmplNames, r.ID, old, true) })
	case store.Job:
		t.deleteJob(r.ID)
	case store.Document:
		if j := t.jobs[r.Job]; j != nil {
			t.s.documents.remove(j.jid)
			t.b.delete(key1(kDocument, j.jid))
		}
	case store.Tags:
		t.b.delete(tagsKey(r.Of))
	case store.Setting:
		t.b.delete(keyText(kSetting, r.Name))
	case store.Deadline:
		t.b.delete(deadlineKey(r))
		r.Cursor = ""
		if _, old, had := t.deadlines.Delete(r); had {
			t.back(func() { t.deadlines.ReplaceOrInsert(r, old) })
		}
	default:
		t.fail(muster.Errorf(muster.Internal, "the store was given a row of unknown kind %T", row))
	}
}

// restore puts an entry of a named map back as it was.
func restore[K ~string, V any](m map[K]V, names *sorted[K], k K, old V, had bool) {
	if had {
		m[k] = old
		names.add(k)
	} else {
		delete(m, k)
		names.remove(k)
	}
}

func (t *tx) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.fail(&muster.Error{Kind: muster.Internal, Message: "a row cannot be written", Cause: err})
	}
	return b
}

func (t *tx) putType(y muster.ThingType) {
	old, had := t.typeRows[y.Name]
	v := t.json(y)
	t.b.set(keyText(kType, string(y.Name)), v)
	t.typeRows[y.Name] = y
	t.typeNames.add(y.Name)
	t.back(func() { restore(t.typeRows, &t.typeNames, y.Name, old, had) })
	var was []byte
	if had {
		was = t.json(old)
	}
	t.rowFact(muster.FactThingType, string(y.Name), was, v)
}

// ensureTid is the tid of a name, a new one if the store never heard of it.
func (t *tx) ensureTid(name muster.ThingName) uint32 {
	if tid, ok := t.tidOf(name); ok {
		return tid
	}
	if len(name) == 0 || len(name) > 255 {
		panic(muster.Errorf(muster.Internal, "a thing cannot have a name of %d bytes", len(name)))
	}
	t.meta.tid++
	tid := t.meta.tid
	t.names.add(tid, string(name))
	t.names.index(tid)
	setAt(&t.queues, tid, 0)
	t.back(func() { t.names.unindex(tid); t.names.drop(tid) })
	t.b.set(key1(kName, tid), encodeName(nameGone, 0, name, ""))
	return tid
}

func (t *tx) putThing(th muster.Thing) {
	var before []byte
	var typ muster.TypeName
	old, had := t.Thing(th.Name)
	if had {
		before, typ = t.json(old), old.Type
	}
	tid := t.ensureTid(th.Name)
	if !had || typ != th.Type {
		t.b.set(key1(kName, tid), encodeName(nameRegistered, 0, th.Name, th.Type))
	}
	t.b.set(key1(kThing, tid), encodeThing(&th))
	t.registered.Add(tid)
	t.setType(tid, typ, th.Type)
	t.back(func() {
		t.setType(tid, th.Type, typ)
		if !had {
			t.registered.Remove(tid)
		}
	})
	t.rowFact(muster.FactThing, string(th.Name), before, t.json(th))
}

func (t *tx) deleteThing(name muster.ThingName) {
	old, had := t.Thing(name)
	if !had {
		return
	}
	tid, _ := t.tidOf(name)
	t.b.delete(key1(kThing, tid))
	t.registered.Remove(tid)
	t.setType(tid, old.Type, "")
	t.back(func() {
		t.registered.Add(tid)
		t.setType(tid, "", old.Type)
	})
	t.rowFact(muster.FactThing, string(name), t.json(old), nil)
	t.b.set(key1(kName, tid), encodeName(nameGone, 0, name, ""))
	t.maybeDrop(tid)
}

// maybeDrop forgets a thing that is not registered, if nothing is left of it. While the feed may
// still speak of it, its number keeps the name.
func (t *tx) maybeDrop(tid uint32) {
	if t.registered.Contains(tid) || at(t.queues, tid) != 0 || at(t.state.groupsOf, tid) != 0 {
		return
	}
	left := false
	prefix := key1(kHistory, tid)
	t.scan(prefix, after(prefix), func(_, _ []byte) bool {
		left = true
		return false
	})
	if left || t.err != nil {
		return
	}
	feed := t.feed + 1 // this batch may speak of it
	t.b.set(key1(kName, tid), encodeName(nameDropped, feed, t.thingName(tid), ""))
	t.name = ""
	t.names.unindex(tid)
	t.dropped = append(t.dropped, droppedName{tid, feed})
	t.back(func() {
		t.dropped = t.dropped[:len(t.dropped)-1]
		t.names.index(tid)
	})
}

func (t *tx) putGroup(g muster.Group) {
	s := t.groups[g.Name]
	v := t.json(g)
	if s == nil {
		t.gid++
		s = &groupState{gid: t.gid, row: g, members: roaring.New()}
		t.groups[g.Name], t.byGID[s.gid] = s, s
		t.listGroup(g)
		t.back(func() {
			t.unlistGroup(g)
			delete(t.groups, g.Name)
			delete(t.byGID, s.gid)
		})
		t.rowFact(muster.FactGroup, string(g.Name), nil, v)
	} else {
		old := s.row
		t.unlistGroup(old)
		s.row = g
		t.listGroup(g)
		t.back(func() {
			t.unlistGroup(g)
			s.row = old
			t.listGroup(old)
		})
		t.rowFact(muster.FactGroup, string(g.Name), t.json(old), v)
	}
	t.b.set(key1(kGroup, s.gid), v)
}

func (t *tx) deleteGroup(name muster.GroupName) {
	s := t.groups[name]
	if s == nil {
		return
	}
	for _, tid := range s.members.ToArray() { // the engine removes members before; these it did not know of
		t.setMember(tid, s, 0, true)
	}
	t.b.delete(key1(kGroup, s.gid))
	t.unlistGroup(s.row)
	delete(t.groups, name)
	delete(t.byGID, s.gid)
	t.back(func() {
		t.groups[name], t.byGID[s.gid] = s, s
		t.listGroup(s.row)
	})
	t.rowFact(muster.FactGroup, string(name), t.json(s.row), nil)
}

func (t *tx) putMember(m muster.Membership) {
	g := t.groups[m.Group]
	if g == nil {
		t.fail(muster.Errorf(muster.Internal, "the store was given a member of group %s, which it does not have", m.Group))
		return
	}
	tid := t.ensureTid(m.Thing)
	var was []byte
	if seq, ok := t.member(tid, g.gid); ok {
		was = t.json(muster.Membership{Group: m.Group, Thing: m.Thing, Seq: seq})
	}
	t.setMember(tid, g, m.Seq, false)
	t.memberFact(m.Group, m.Thing, was, t.json(m))
}

func (t *tx) deleteMember(group muster.GroupName, thing muster.ThingName) {
	g := t.groups[group]
	tid, ok := t.tidOf(thing)
	if g == nil || !ok {
		return
	}
	seq, ok := t.member(tid, g.gid)
	if !ok {
		return
	}
	t.setMember(tid, g, 0, true)
	t.memberFact(group, thing, t.json(muster.Membership{Group: group, Thing: thing, Seq: seq}), nil)
	t.maybeDrop(tid)
}

// setMember changes one membership, on disk, in the thing's list and in the group's set.
func (t *tx) setMember(tid uint32, g *groupState, seq uint64, drop bool) {
	old := at(t.state.groupsOf, tid)
	var have []byte
	if old != 0 {
		have = bytes.Clone(t.slab.get(old))
	}
	was := g.members.Contains(tid)
	t.scratch = withMember(t.scratch[:0], have, g.gid, seq, drop)
	t.slab.free(old)
	t.storeGroups(tid, t.scratch)
	if drop {
		t.b.delete(key2(kMember, tid, g.gid))
		g.members.Remove(tid)
	} else {
		t.b.set(key2(kMember, tid, g.gid), appendUvarint(nil, seq))
		g.members.Add(tid)
	}
	t.back(func() {
		t.slab.free(at(t.state.groupsOf, tid))
		t.storeGroups(tid, have)
		if was {
			g.members.Add(tid)
		} else {
			g.members.Remove(tid)
		}
	})
}

func (s *state) storeGroups(tid uint32, v []byte) {
	var h uint32
	if len(v) > 0 {
		h = s.slab.put(v)
	}
	setAt(&s.groupsOf, tid, h)
}
