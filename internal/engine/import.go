package engine

import (
	"context"
	"iter"
	"slices"

	"muster"
	"muster/internal/store"
)

// An ImportRow is one line of a bulk import: exactly one of Type, Group, Thing and Member is set.
type ImportRow struct {
	Type   *muster.ThingType
	Group  *muster.Group
	Thing  *muster.Thing
	Groups []muster.GroupName // with Thing: the groups it joins
	Member *muster.Membership
}

// An ImportResult is what became of a row. A row that was not refused and neither made nor joined
// anything was there before and said the same.
type ImportResult struct {
	Made    bool  // the thing, type or group is new
	Joined  int   // memberships that are new
	Refused error // nothing of the row was taken
}

// ImportSlice is how many rows an import should hand over at a time.
const ImportSlice = 1000

// Import takes rows in order, in one transaction, as the operations for one of them would, and says
// what became of each. A row that is refused leaves the others as they are.
func (g *Engine) Import(ctx context.Context, rows []ImportRow) (results []ImportResult, err error) {
	results = make([]ImportResult, len(rows))
	err = g.update(ctx, importKeys(rows), func(tx store.Tx, now muster.Time) error {
		importRows(tx, rows, results, now)
		return nil
	})
	return results, err
}

func importKeys(rows []ImportRow) (on store.Keys) {
	for _, r := range rows {
		switch {
		case r.Group != nil:
			on.Groups = append(on.Groups, r.Group.Name, r.Group.Parent)
		case r.Thing != nil:
			on.Things = append(on.Things, r.Thing.Name)
			on.Groups = append(on.Groups, r.Groups...)
		case r.Member != nil:
			on.Things = append(on.Things, r.Member.Thing)
			on.Groups = append(on.Groups, r.Member.Group)
		}
	}
	return on
}

func importRows(tx store.Tx, rows []ImportRow, results []ImportResult, now muster.Time) {
	count := &joins{Tx: tx}
	for i, r := range rows {
		var is ImportResult
		count.n = 0
		switch {
		case r.Type != nil:
			_, is.Made, is.Refused = createThingType(tx, *r.Type, "", now)
		case r.Group != nil:
			_, is.Made, is.Refused = createGroup(tx, *r.Group, "", now)
		case r.Thing != nil:
			var t muster.Thing
			if t, is.Made, is.Refused = createThing(tx, *r.Thing); is.Refused != nil || len(r.Groups) == 0 {
				break
			}
			is.Refused = updateGroups(count, t.Name, r.Groups, nil, now)
			if is.Refused != nil && is.Made {
				// A line is taken as a whole or not at all.
				tx.Delete(store.Thing{Thing: t})
				is.Made = false
			}
		case r.Member != nil:
			is.Refused = updateGroups(count, r.Member.Thing, []muster.GroupName{r.Member.Group}, nil, now)
		}
		is.Joined = count.n
		results[i] = is
	}
}

// joins counts the memberships that are made in a transaction.
type joins struct {
	store.Tx
	n int
}

func (c *joins) Put(r store.Row) {
	if _, ok := r.(store.Member); ok {
		c.n++
	}
	c.Tx.Put(r)
}

// A Rehearsal tells what importing rows would come to and changes nothing. It remembers the rows it
// was shown, so that later ones find what earlier ones would have made; that takes memory for all of them.
type Rehearsal struct {
	engine   *Engine
	types    map[muster.TypeName]muster.ThingType
	groups   map[muster.GroupName]muster.Group
	children map[muster.GroupName][]muster.Group
	things   map[muster.ThingName]muster.Thing
	members  map[muster.ThingName][]muster.Membership
	seq      uint64
}

// Rehearse begins a rehearsal of an import.
func (g *Engine) Rehearse() *Rehearsal {
	return &Rehearsal{
		engine:   g,
		types:    map[muster.TypeName]muster.ThingType{},
		groups:   map[muster.GroupName]muster.Group{},
		children: map[muster.GroupName][]muster.Group{},
		things:   map[muster.ThingName]muster.Thing{},
		members:  map[muster.ThingName][]muster.Membership{},
	}
}

// Import is Engine.Import on the store as it is and what was rehearsed before.
func (r *Rehearsal) Import(ctx context.Context, rows []ImportRow) (results []ImportResult, err error) {
	results = make([]ImportResult, len(rows))
	err = r.engine.store.View(ctx, func(tx store.Reader) error {
		importRows(stage{Reader: tx, Rehearsal: r}, rows, results, r.engine.clock.Now())
		return nil
	})
	return results, err
}

// A stage is a transaction that lasts as long as the rehearsal. Registry rows are all it knows of:
// no job is looked at, so no queue changes.
type stage struct {
	store.Reader
	*Rehearsal
}

func (s stage) Thing(name muster.ThingName) (muster.Thing, bool) {
	if t, ok := s.things[name]; ok {
		return t, true
	}
	return s.Reader.Thing(name)
}

func (s stage) ThingType(name muster.TypeName) (muster.ThingType, bool) {
	if t, ok := s.types[name]; ok {
		return t, true
	}
	return s.Reader.ThingType(name)
}

func (s stage) Group(name muster.GroupName) (muster.Group, bool) {
	if group, ok := s.groups[name]; ok {
		return group, true
	}
	return s.Reader.Group(name)
}

func (s stage) Groups(parent muster.GroupName, p store.Page) ([]muster.Group, string, error) {
	groups, next, err := s.Reader.Groups(parent, p)
	return slices.Concat(groups, s.children[parent]), next, err
}

func (s stage) GroupsOf(name muster.ThingName) []muster.Membership {
	return slices.Concat(s.Reader.GroupsOf(name), s.members[name])
}

func (s stage) Targeting(muster.GroupName) iter.Seq[*muster.Job] {
	return func(func(*muster.Job) bool) {}
}

func (s stage) NextSeq() uint64 {
	s.seq++
	return s.seq
}

func (s stage) NextNumber(muster.JobID, muster.ThingName) int64 { return 1 }

func (s stage) Put(row store.Row) {
	switch row := row.(type) {
	case store.Thing:
		s.things[row.Name] = row.Thing
	case store.ThingType:
		s.types[row.Name] = row.ThingType
	case store.Group:
		s.groups[row.Name] = row.Group
		if row.Parent != "" {
			s.children[row.Parent] = append(s.children[row.Parent], row.Group)
		}
	case store.Member:
		s.members[row.Thing] = append(s.members[row.Thing], row.Membership)
	}
}

func (s stage) Delete(row store.Row) {
	if t, ok := row.(store.Thing); ok {
		delete(s.things, t.Name)
	}
}

func (s stage) Keep(muster.ThingName, muster.Notice, ...muster.Change) {}
