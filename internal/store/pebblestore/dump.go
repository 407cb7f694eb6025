package pebblestore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// Dump reads a snapshot of what is on disk, so the store may be in use.
func (s *Store) Dump(ctx context.Context, fn func(store.Row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	err, last := s.open(), s.last
	s.mu.RUnlock()
	if err == nil {
		err = s.Health()
	}
	if err != nil {
		return err
	}
	if last != nil {
		<-last.done
	}
	snapshot := s.db.NewSnapshot()
	d := &dumper{ctx: ctx, s: s, snapshot: snapshot, give: fn}
	for _, kind := range []func(){d.sequence, d.settings, d.types, d.groups, d.things, d.members, d.templates, d.jobs, d.documents, d.tags, d.executions, d.spent, d.deadlines} {
		kind()
	}
	return errors.Join(d.err, snapshot.Close())
}

// A dumper gives the rows of a snapshot. What it reads of names it keeps, for other rows have numbers for them.
type dumper struct {
	ctx      context.Context
	s        *Store
	snapshot *pebble.Snapshot
	give     func(store.Row) error
	err      error

	names  []string // by tid
	groupN map[uint32]muster.GroupName
	jobN   map[uint32]muster.JobID
}

// each reads all keys of a kind, until one is bad or not taken.
func (d *dumper) each(kind byte, fn func(k, v []byte) (row store.Row, ok bool)) {
	if d.err != nil {
		return
	}
	it, err := d.snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		d.err = err
		return
	}
	for it.First(); it.Valid() && d.err == nil; it.Next() {
		if d.err = d.ctx.Err(); d.err != nil {
			break
		}
		switch row, ok := fn(it.Key(), it.Value()); {
		case !ok:
			d.err = d.s.broken("the row of key %x does not decode", it.Key())
		case row != nil:
			d.err = d.give(row)
		}
	}
	d.err = errors.Join(d.err, it.Error(), it.Close())
}

func (d *dumper) name(tid uint32) muster.ThingName {
	if int(tid) < len(d.names) && d.names[tid] != "" {
		return muster.ThingName(d.names[tid])
	}
	if d.err == nil {
		d.err = d.s.broken("a row speaks of thing number %d, which has no name", tid)
	}
	return ""
}

func (d *dumper) sequence() {
	d.each(kMeta, func(_, v []byte) (store.Row, bool) {
		var m meta
		ok := m.decode(v)
		return store.Seq(m.seq), ok
	})
}

func (d *dumper) settings() {
	d.each(kSetting, func(k, v []byte) (store.Row, bool) {
		return store.Setting{Name: string(k[1:]), Value: string(v)}, true
	})
}

func (d *dumper) types() {
	d.each(kType, func(_, v []byte) (store.Row, bool) {
		var t muster.ThingType
		ok := json.Unmarshal(v, &t) == nil
		return store.ThingType{ThingType: t}, ok
	})
}

// groups come by gid: a parent was there before its children.
func (d *dumper) groups() {
	d.groupN = map[uint32]muster.GroupName{}
	d.each(kGroup, func(k, v []byte) (store.Row, bool) {
		var g muster.Group
		gid, ok := split1(k)
		ok = json.Unmarshal(v, &g) == nil && ok
		d.groupN[gid] = g.Name
		return store.Group{Group: g}, ok
	})
}

// things come by tid, the order of their list.
func (d *dumper) things() {
	d.each(kName, func(k, v []byte) (store.Row, bool) {
		tid, ok := split1(k)
		_, _, name, _, good := decodeName(v)
		d.names = append(d.names, make([]string, max(0, int(tid)+1-len(d.names)))...)
		d.names[tid] = string(name)
		return nil, ok && good
	})
	d.each(kThing, func(k, v []byte) (store.Row, bool) {
		tid, ok := split1(k)
		t, good := decodeThing(v, d.name(tid))
		return store.Thing{Thing: t}, ok && good
	})
}

func (d *dumper) members() {
	d.each(kMember, func(k, v []byte) (store.Row, bool) {
		tid, gid, ok := split2(k)
		seq, n := binary.Uvarint(v)
		group, known := d.groupN[gid]
		return store.Member{Membership: muster.Membership{Group: group, Thing: d.name(tid), Seq: seq}}, ok && n > 0 && known
	})
}

func (d *dumper) templates() {
	d.each(kTemplate, func(_, v []byte) (store.Row, bool) {
		var t muster.Template
		ok := json.Unmarshal(v, &t) == nil
		return store.Template{Template: t}, ok
	})
}

// jobs come by jid, the order of their list.
func (d *dumper) jobs() {
	d.jobN = map[uint32]muster.JobID{}
	d.each(kJob, func(k, v []byte) (store.Row, bool) {
		jid, ok := split1(k)
		j := new(muster.Job)
		ok = json.Unmarshal(v, j) == nil && ok
		d.jobN[jid] = j.ID
		return store.Job{Job: j}, ok
	})
}

func (d *dumper) documents() {
	d.each(kDocument, func(k, v []byte) (store.Row, bool) {
		jid, ok := split1(k)
		job, known := d.jobN[jid]
		dec := codec.Decoder{B: v}
		doc := muster.Document{Text: dec.Text(), Source: dec.Text()}
		return store.Document{Job: job, Document: doc}, ok && known && !dec.Bad
	})
}

func (d *dumper) tags() {
	d.each(kTags, func(k, v []byte) (store.Row, bool) {
		kind, name, ok := strings.Cut(string(k[1:]), "\x00")
		p := muster.Pairs(v)
		return store.Tags{Of: muster.Ref{Kind: muster.RefKind(kind), Name: name}, Tags: p}, ok && p.Valid()
	})
}

// executions lie by job, thing and number.
func (d *dumper) executions() {
	d.each(kExec, func(k, v []byte) (store.Row, bool) {
		jid, tid, number, ok := splitExecKey(k)
		job, known := d.jobN[jid]
		if !ok || !known {
			return nil, false
		}
		e := muster.Execution{Job: job, Thing: d.name(tid), Number: number}
		ok = codec.DecodeExecution(v, &e)
		return store.Execution{Execution: e}, ok
	})
}

// spent looks at things of which the job has deleted some execution: whether it was the last.
func (d *dumper) spent() {
	if d.err != nil {
		return
	}
	it, err := d.snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{kExec}, UpperBound: []byte{kExec + 1}})
	if err != nil {
		d.err = err
		return
	}
	d.each(kSpent, func(k, _ []byte) (store.Row, bool) {
		jid, tid, ok := split2(k)
		job, known := d.jobN[jid]
		if !ok || !known {
			return nil, false
		}
		v, closer, err := d.snapshot.Get(historyKey(tid, jid))
		if err != nil {
			d.err = err
			return nil, true
		}
		last, _, ok := cutNumber(v)
		if d.err = closer.Close(); !ok {
			return nil, false
		}
		if it.SeekLT(after(key2(kExec, jid, tid))) {
			if j, t, number, _ := splitExecKey(it.Key()); j == jid && t == tid && number >= last {
				return nil, true
			}
		}
		return store.Spent{Job: job, Thing: d.name(tid), Number: last}, true
	})
	d.err = errors.Join(d.err, it.Error(), it.Close())
}

func (d *dumper) deadlines() {
	d.each(kDeadline, func(k, v []byte) (store.Row, bool) {
		if len(k) < 10 {
			return nil, false
		}
		due := splitDeadline(k)
		due.Cursor = string(v)
		return due, true
	})
}
