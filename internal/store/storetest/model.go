package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/internal/store"
)

// world is a store as one would write it who has all the time and memory there is: maps, and every
// list made anew when it is asked for. It ignores pages and gives everything at once.
type world struct {
	things    map[muster.ThingName]muster.Thing
	types     map[muster.TypeName]muster.ThingType
	groups    map[muster.GroupName]muster.Group
	members   map[[2]string]muster.Membership
	templates map[muster.TemplateID]muster.Template
	tags      map[muster.Ref]muster.Pairs
	jobs      map[muster.JobID]*muster.Job
	order     map[muster.JobID]int // when the job was made
	documents map[muster.JobID]muster.Document
	deadlines map[store.Deadline]string
	execs     map[execName]muster.Execution
	last      map[[2]string]int64 // number by job and thing
	settings  map[string]string
	seqs      []uint64 // that the store has given in the act that is played
	made      int
	facts     []muster.Fact
}

type execName struct {
	job    muster.JobID
	thing  muster.ThingName
	number int64
}

func newWorld() *world {
	return &world{map[muster.ThingName]muster.Thing{}, map[muster.TypeName]muster.ThingType{}, map[muster.GroupName]muster.Group{}, map[[2]string]muster.Membership{},
		map[muster.TemplateID]muster.Template{}, map[muster.Ref]muster.Pairs{}, map[muster.JobID]*muster.Job{}, map[muster.JobID]int{}, map[muster.JobID]muster.Document{},
		map[store.Deadline]string{}, map[execName]muster.Execution{}, map[[2]string]int64{}, map[string]string{}, nil, 0, nil}
}

func (w *world) clone() *world {
	return &world{maps.Clone(w.things), maps.Clone(w.types), maps.Clone(w.groups), maps.Clone(w.members), maps.Clone(w.templates), maps.Clone(w.tags), maps.Clone(w.jobs),
		maps.Clone(w.order), maps.Clone(w.documents), maps.Clone(w.deadlines), maps.Clone(w.execs), maps.Clone(w.last), maps.Clone(w.settings), nil, w.made, slices.Clone(w.facts)}
}

func (w *world) Thing(n muster.ThingName) (muster.Thing, bool) { t, ok := w.things[n]; return t, ok }

func (w *world) Things(f store.ThingFilter, _ store.Page) (out []muster.Thing, _ string, _ error) {
	for _, n := range sortedKeys(w.things) {
		t := w.things[n]
		v, has := t.Attributes.Get(f.Attribute)
		if (f.Type == "" || t.Type == f.Type) && (f.Attribute == "" || has && (v == f.Value || f.Prefix && strings.HasPrefix(v, f.Value))) {
			out = append(out, t)
		}
	}
	return out, "", nil
}

func (w *world) ThingType(n muster.TypeName) (muster.ThingType, bool) {
	t, ok := w.types[n]
	return t, ok
}
func (w *world) ThingTypes(store.Page) ([]muster.ThingType, string, error) {
	return values(w.types), "", nil
}
func (w *world) Group(n muster.GroupName) (muster.Group, bool) { g, ok := w.groups[n]; return g, ok }
func (w *world) Groups(parent muster.GroupName, _ store.Page) ([]muster.Group, string, error) {
	return slices.DeleteFunc(values(w.groups), func(g muster.Group) bool { return parent != "" && g.Parent != parent }), "", nil
}
func (w *world) Members(g muster.GroupName, _ store.Page) (out []muster.Membership, _ string, _ error) {
	for _, m := range w.members {
		if m.Group == g {
			out = append(out, m)
		}
	}
	return out, "", nil
}
func (w *world) GroupsOf(t muster.ThingName) (out []muster.Membership) {
	for _, m := range w.members {
		if m.Thing == t {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b muster.Membership) int { return cmp.Compare(a.Group, b.Group) })
	return out
}
func (w *world) Template(n muster.TemplateID) (muster.Template, bool) {
	t, ok := w.templates[n]
	return t, ok
}
func (w *world) Templates(store.Page) ([]muster.Template, string, error) {
	return values(w.templates), "", nil
}
func (w *world) Tags(r muster.Ref) muster.Pairs         { return w.tags[r] }
func (w *world) Job(n muster.JobID) (*muster.Job, bool) { j, ok := w.jobs[n]; return j, ok }
func (w *world) Document(n muster.JobID) (muster.Document, bool) {
	d, ok := w.documents[n]
	return d, ok
}
func (w *world) NextSeq() (seq uint64) {
	seq, w.seqs = w.seqs[0], w.seqs[1:]
	return seq
}
func (w *world) NextNumber(j muster.JobID, t muster.ThingName) int64 {
	return w.last[[2]string{string(j), string(t)}] + 1
}

func values[K ~string, V any](m map[K]V) (out []V) {
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

func (w *world) Jobs(f store.JobFilter, _ store.Page) (out []*muster.Job, _ string, _ error) {
	for _, j := range w.jobs {
		if (f.Status == 0 || j.Status == f.Status) && (f.Selection == nil || j.Selection == *f.Selection) &&
			(f.Group == "" || slices.Contains(j.Targets, muster.Target{Group: f.Group})) && (f.Namespace == "" || j.Namespace == f.Namespace) {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *muster.Job) int { return w.order[b.ID] - w.order[a.ID] })
	return out, "", nil
}

func (w *world) Targeting(g muster.GroupName) iter.Seq[*muster.Job] {
	c := muster.Continuous
	js, _, _ := w.Jobs(store.JobFilter{Status: muster.JobInProgress, Selection: &c, Group: g}, store.Page{})
	return slices.Values(js)
}

func (w *world) JobCount(st muster.JobStatus) int {
	js, _, _ := w.Jobs(store.JobFilter{Status: st}, store.Page{})
	return len(js)
}

func (w *world) Counts(j muster.JobID) (c muster.Counts) {
	for k, e := range w.execs {
		if k.job == j {
			c[e.Status]++
		}
	}
	return c
}

// Tally is made anew from the latest attempts.
func (w *world) Tally(j muster.JobID) (t muster.Tally) {
	latest := map[muster.ThingName]muster.Execution{}
	for k, e := range w.execs {
		if k.job == j && e.Number > latest[k.thing].Number {
			latest[k.thing] = e
		}
	}
	for _, e := range latest {
		t[e.Status]++
	}
	return t
}

func (w *world) Exact() bool { return true }

func (w *world) Setting(name string) string { return w.settings[name] }

func (w *world) Settings(prefix string, _ store.Page) (out []store.Setting, _ string, _ error) {
	for _, n := range sortedKeys(w.settings) {
		if strings.HasPrefix(n, prefix) {
			out = append(out, store.Setting{Name: n, Value: w.settings[n]})
		}
	}
	return out, "", nil
}

func (w *world) Queue(t muster.ThingName) (muster.Queue, bool) {
	q := muster.Queue{Thing: t}
	for k, e := range w.execs {
		if k.thing == t && !e.Status.Terminal() {
			q.Executions = append(q.Executions, e)
		}
	}
	slices.SortFunc(q.Executions, func(a, b muster.Execution) int {
		if muster.Before(a, b) {
			return -1
		}
		return 1
	})
	_, ok := w.things[t]
	return q, ok || len(q.Executions) > 0
}

func (w *world) Execution(j muster.JobID, t muster.ThingName, n int64) (muster.Execution, bool) {
	if n == 0 {
		for k := range w.execs {
			if k.job == j && k.thing == t {
				n = max(n, k.number)
			}
		}
	}
	e, ok := w.execs[execName{j, t, n}]
	return e, ok
}

func (w *world) ExecutionsOfJob(j muster.JobID, st muster.Status, _ store.Page) (out []muster.Execution, _ string, _ error) {
	for k, e := range w.execs {
		if k.job == j && (st == muster.NoStatus || st == e.Status) {
			out = append(out, e)
		}
	}
	return out, "", nil
}

func (w *world) ExecutionsOfThing(t muster.ThingName, j muster.JobID, st muster.Status, _ store.Page) (out []muster.Execution, _ string, _ error) {
	for k, e := range w.execs {
		if k.thing == t && (j == "" || k.job == j) && (st == muster.NoStatus || st == e.Status) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b muster.Execution) int { return w.order[b.Job] - w.order[a.Job] })
	return out, "", nil
}

func (w *world) Due(t muster.Time, limit int) (out []store.Deadline) {
	for d, cursor := range w.deadlines {
		if d.Due <= t {
			d.Cursor = cursor
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b store.Deadline) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
	})
	return out[:min(limit, len(out))]
}

func (w *world) NextDue() muster.Time {
	if d := w.Due(1<<60, 1); len(d) > 0 {
		return d[0].Due
	}
	return 0
}

func (w *world) tell(f muster.Fact, before, after any, was, is bool) {
	if was {
		b, _ := json.Marshal(before)
		f.Before = string(b)
	}
	if is {
		b, _ := json.Marshal(after)
		f.After = string(b)
	}
	w.facts = append(w.facts, f)
}

func (w *world) Put(row store.Row) {
	switch r := row.(type) {
	case store.Thing:
		old, had := w.things[r.Name]
		w.things[r.Name] = r.Thing
		w.tell(muster.Fact{Kind: muster.FactThing, Name: string(r.Name)}, old, r.Thing, had, true)
	case store.ThingType:
		old, had := w.types[r.Name]
		w.types[r.Name] = r.ThingType
		w.tell(muster.Fact{Kind: muster.FactThingType, Name: string(r.Name)}, old, r.ThingType, had, true)
	case store.Group:
		old, had := w.groups[r.Name]
		w.groups[r.Name] = r.Group
		w.tell(muster.Fact{Kind: muster.FactGroup, Name: string(r.Name)}, old, r.Group, had, true)
	case store.Member:
		k := [2]string{string(r.Membership.Group), string(r.Thing)}
		old, had := w.members[k]
		w.members[k] = r.Membership
		w.tell(muster.Fact{Kind: muster.FactMembership, Group: r.Membership.Group, Thing: r.Thing}, old, r.Membership, had, true)
	case store.Template:
		w.templates[r.ID] = r.Template
	case store.Job:
		old, had := w.jobs[r.ID]
		if !had {
			w.made++
			w.order[r.ID] = w.made
		}
		w.jobs[r.ID] = r.Job
		w.tell(muster.Fact{Kind: muster.FactJob, Name: string(r.ID)}, old, r.Job, had, true)
	case store.Document:
		w.documents[r.Job] = r.Document
	case store.Tags:
		if delete(w.tags, r.Of); r.Tags != "" {
			w.tags[r.Of] = r.Tags
		}
	case store.Setting:
		if delete(w.settings, r.Name); r.Value != "" {
			w.settings[r.Name] = r.Value
		}
	case store.Deadline:
		cursor := r.Cursor
		r.Cursor = ""
		w.deadlines[r] = cursor
	}
}

func (w *world) Delete(row store.Row) {
	switch r := row.(type) {
	case store.Thing:
		if old, had := w.things[r.Name]; had {
			delete(w.things, r.Name)
			w.tell(muster.Fact{Kind: muster.FactThing, Name: string(r.Name)}, old, nil, true, false)
		}
	case store.ThingType:
		if old, had := w.types[r.Name]; had {
			delete(w.types, r.Name)
			w.tell(muster.Fact{Kind: muster.FactThingType, Name: string(r.Name)}, old, nil, true, false)
		}
	case store.Group:
		if old, had := w.groups[r.Name]; had {
			delete(w.groups, r.Name)
			w.tell(muster.Fact{Kind: muster.FactGroup, Name: string(r.Name)}, old, nil, true, false)
		}
	case store.Member:
		k := [2]string{string(r.Membership.Group), string(r.Thing)}
		if old, had := w.members[k]; had {
			delete(w.members, k)
			w.tell(muster.Fact{Kind: muster.FactMembership, Group: r.Membership.Group, Thing: r.Thing}, old, nil, true, false)
		}
	case store.Template:
		delete(w.templates, r.ID)
	case store.Job:
		if old, had := w.jobs[r.ID]; had {
			delete(w.jobs, r.ID)
			delete(w.documents, r.ID)
			maps.DeleteFunc(w.execs, func(k execName, _ muster.Execution) bool { return k.job == r.ID })
			maps.DeleteFunc(w.last, func(k [2]string, _ int64) bool { return k[0] == string(r.ID) })
			w.tell(muster.Fact{Kind: muster.FactJob, Name: string(r.ID)}, old, nil, true, false)
		}
	case store.Tags:
		delete(w.tags, r.Of)
	case store.Setting:
		delete(w.settings, r.Name)
	case store.Deadline:
		r.Cursor = ""
		delete(w.deadlines, r)
	}
}

func (w *world) Keep(t muster.ThingName, n muster.Notice, changes ...muster.Change) {
	for i, c := range changes {
		e := c.Execution()
		k := execName{e.Job, t, e.Number}
		if c.After.Status == muster.NoStatus {
			delete(w.execs, k)
		} else {
			w.execs[k] = c.After
		}
		if c.Before.Status == muster.NoStatus {
			w.last[[2]string{string(e.Job), string(t)}] = e.Number
		}
		f := muster.Fact{Kind: muster.FactExecution, Thing: t, Job: e.Job, Number: e.Number, From: c.Before.Status, To: c.After.Status, Version: e.Version, Forced: e.ForceCanceled}
		if i == len(changes)-1 {
			f.Notice = n
		}
		if c.After.Status == muster.NoStatus {
			f.Details = e.Details
		}
		w.facts = append(w.facts, f)
	}
}

// model runs random acts on the store and on the world and compares all that can be read.
func model(h *harness) {
	acts := 400
	if testing.Short() {
		acts = 100
	}
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld()
	for i := range acts {
		actSeed := rng.Uint64()
		var given []uint64
		err := h.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
			given = nil
			return act(&counting{tx, &given}, actSeed, h)
		})
		next := w.clone()
		next.seqs = given
		want := act(next, actSeed, nil)
		if (err == nil) != (want == nil) {
			h.Fatalf("seed %d, act %d: got error %v, want %v", seed, i, err, want)
		}
		if want == nil {
			w = next
		}
		if i%8 == 0 || i == acts-1 {
			sameDigest(h, fmt.Sprintf("seed %d, act %d", seed, i), Digest(h, h.Store), digest(h, w, 1<<30))
		}
		if i%50 == 49 {
			h.again()
			h.check()
			sameDigest(h, fmt.Sprintf("seed %d, act %d, reopened", seed, i), Digest(h, h.Store), digest(h, w, 1<<30))
		}
	}
	got := facts(h)
	for i := range max(len(got), len(w.facts)) {
		if i >= len(got) || i >= len(w.facts) || got[i] != w.facts[i] {
			h.Fatalf("of %d facts, want %d, number %d differs: got %+v, want %+v", len(got), len(w.facts), i, got[min(i, len(got)-1)], w.facts[min(i, len(w.facts)-1)])
		}
	}
}

// counting notes the sequence numbers that a store gives: which they are is its own affair.
type counting struct {
	store.Tx
	given *[]uint64
}

func (c *counting) NextSeq() uint64 {
	seq := c.Tx.NextSeq()
	*c.given = append(*c.given, seq)
	return seq
}

// act does some random things. With a harness it now and then looks at all it can see meanwhile.
func act(tx store.Tx, seed uint64, h *harness) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	pick := func(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, rng.IntN(n)) }
	for range 1 + rng.IntN(12) {
		name, id := muster.ThingName(pick("t", 10)), muster.JobID(pick("j", 6))
		now := muster.Time(1000 + rng.IntN(50))
		j, hasJob := tx.Job(id)
		latest, has := tx.Execution(id, name, 0)
		switch rng.IntN(16) {
		case 0, 1:
			t := thing(string(name))
			t.Version = int64(rng.IntN(9))
			t.Type = muster.TypeName(pick("y", 3))
			tx.Put(store.Thing{Thing: t})
		case 2:
			tx.Delete(store.Thing{Thing: muster.Thing{Name: name}})
		case 3:
			g := group(tx, pick("g", 5), "")
			if old, ok := tx.Group(g.Name); ok {
				g.Parent = old.Parent
			} else if p := muster.GroupName(pick("g", 5)); p != g.Name {
				g.Parent = p
			}
			tx.Put(store.Group{Group: g})
		case 4:
			g := muster.GroupName(pick("g", 5))
			if members, _, _ := tx.Members(g, store.Page{Limit: 1}); len(members) == 0 {
				tx.Delete(store.Group{Group: muster.Group{Name: g}})
			}
		case 5, 6:
			m := muster.Membership{Group: muster.GroupName(pick("g", 5)), Thing: name, Seq: tx.NextSeq()}
			if _, ok := tx.Group(m.Group); ok && rng.IntN(3) > 0 {
				tx.Put(store.Member{Membership: m})
			} else {
				tx.Delete(store.Member{Membership: m})
			}
		case 7:
			n := job(tx, string(id), muster.Target{Group: muster.GroupName(pick("g", 5))}, muster.Target{Group: "g0"})
			n.Status = muster.JobStatus(1 + rng.IntN(5))
			n.Selection = muster.Selection(rng.IntN(2))
			tx.Put(store.Job{Job: n})
			tx.Put(store.Document{Job: id, Document: muster.Document{Text: pick("{}", 100)}})
		case 8:
			if rng.IntN(4) == 0 {
				tx.Delete(store.Job{Job: &muster.Job{ID: id}})
			}
		case 9:
			d := store.Deadline{Due: now, Kind: store.DeadlineKind(1 + rng.IntN(3)), Subject: string(id), Cursor: pick("c", 100)}
			if rng.IntN(2) == 0 {
				tx.Put(d)
			} else {
				tx.Delete(d)
			}
			tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: string(id)}, Tags: muster.MakePairs("a", pick("", 3))})
			tx.Put(store.ThingType{ThingType: muster.ThingType{Name: muster.TypeName(pick("y", 3)), Description: pick("", 100)}})
			tx.Put(store.Setting{Name: pick("s", 3), Value: pick("", 100)})
			tx.Delete(store.Setting{Name: pick("s", 3)})
		case 10, 11, 12: // an execution comes or goes on
			switch {
			case !hasJob:
			case !has || latest.Status.Terminal():
				queue(tx, string(id), string(name), now)
			default:
				become(tx, latest, muster.Status(int(muster.InProgress)+rng.IntN(7)), now, "a", pick("", 1000))
			}
		case 13: // one fails and is tried again
			if has && !latest.Status.Terminal() {
				failed := latest
				failed.Status, failed.Version = muster.Failed, latest.Version+1
				retry := muster.NewExecution(id, name, tx.NextNumber(id, name), latest.Attempt+1, tx.NextSeq(), now)
				tx.Keep(name, muster.Notice{List: true, Next: rng.IntN(2) == 0}, muster.Change{Before: latest, After: failed}, muster.Change{After: retry, Superseded: muster.Failed})
			}
		case 14: // one is deleted, any of its number
			if e, ok := tx.Execution(id, name, 1+rng.Int64N(4)); ok {
				tx.Keep(name, muster.Notice{}, deleting(tx, e))
			}
		case 15:
			if hasJob && rng.IntN(3) == 0 {
				for i := range 10 {
					n := fmt.Sprintf("t%d", i)
					if e, ok := tx.Execution(j.ID, muster.ThingName(n), 0); !ok || e.Status.Terminal() {
						queue(tx, string(j.ID), n, now)
					}
				}
			}
		}
		if rng.IntN(60) == 0 && h != nil {
			digest(h, tx, 2)
		}
	}
	if rng.IntN(8) == 0 {
		return errors.New("changed my mind")
	}
	return nil
}
