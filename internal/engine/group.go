package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"muster"
	"muster/internal/store"
)

func noGroup(name muster.GroupName) error {
	return muster.Errorf(muster.NotFound, "Thing group %s does not exist", name)
}

// CreateGroup makes a static thing group. The same request again is no error.
func (g *Engine) CreateGroup(ctx context.Context, group muster.Group, tags muster.Pairs) (result muster.Group, err error) {
	if err := checkTags(tags); err != nil {
		return group, err
	}
	err = g.update(ctx, store.Keys{Groups: []muster.GroupName{group.Name, group.Parent}}, func(tx store.Tx, now muster.Time) error {
		result, _, err = createGroup(tx, group, tags, now)
		return err
	})
	return result, err
}

func createGroup(tx store.Tx, group muster.Group, tags muster.Pairs, now muster.Time) (result muster.Group, made bool, err error) {
	if n := group.Attributes.Len(); n > muster.MaxGroupAttributes {
		return group, false, muster.Errorf(muster.Invalid, "thingGroupProperties.attributePayload.attributes has %d entries; at most %d are allowed", n, muster.MaxGroupAttributes)
	}
	if old, exists := tx.Group(group.Name); exists {
		if old.Parent == group.Parent && old.Description == group.Description && same(old.Attributes, group.Attributes) {
			return old, false, nil
		}
		return old, false, taken(muster.RefGroup, string(group.Name), "Thing group %s already exists with other properties", group.Name)
	}
	if group.Parent != "" {
		depth := 1
		for range lineage(tx, group.Parent) {
			depth++
		}
		if depth == 1 {
			return group, false, muster.Errorf(muster.Invalid, "parentGroupName names thing group %s, which does not exist", group.Parent)
		}
		if depth > muster.MaxGroupDepth {
			return group, false, muster.Errorf(muster.Invalid, "Thing group %s would be %d levels deep; at most %d are allowed", group.Name, depth, muster.MaxGroupDepth)
		}
		children, _, err := tx.Groups(group.Parent, store.Page{Limit: muster.MaxChildren})
		if err != nil {
			return group, false, err
		}
		if len(children) >= muster.MaxChildren {
			return group, false, muster.Errorf(muster.Invalid, "Thing group %s has %d child groups; at most %d are allowed", group.Parent, len(children), muster.MaxChildren)
		}
	}
	group.ID, group.Seq, group.Version, group.Created = uuid.NewString(), tx.NextSeq(), 1, now
	tx.Put(store.Group{Group: group})
	tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefGroup, Name: string(group.Name)}, Tags: tags})
	return group, true, nil
}

// DescribeGroup returns a group and its ancestors, root first.
func (g *Engine) DescribeGroup(ctx context.Context, name muster.GroupName) (group muster.Group, ancestors []muster.Group, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		var ok bool
		if group, ok = tx.Group(name); !ok {
			return noGroup(name)
		}
		for a := range lineage(tx, group.Parent) {
			ancestors = append(ancestors, a)
		}
		slices.Reverse(ancestors)
		return nil
	})
	return group, ancestors, err
}

// A GroupPatch is what UpdateThingGroup carries; what is nil stays.
type GroupPatch struct {
	Description *string
	Attributes  *muster.Pairs
	Merge       bool
	Expected    *int64
}

// UpdateGroup changes a group and returns its new version.
func (g *Engine) UpdateGroup(ctx context.Context, name muster.GroupName, p GroupPatch) (version int64, err error) {
	err = g.update(ctx, store.Keys{Groups: []muster.GroupName{name}}, func(tx store.Tx, now muster.Time) error {
		group, ok := tx.Group(name)
		if !ok {
			return noGroup(name)
		}
		if err := expect(p.Expected, group.Version, "thing group", string(name)); err != nil {
			return err
		}
		if p.Description != nil {
			group.Description = *p.Description
		}
		if p.Attributes != nil {
			base := muster.Pairs("")
			if p.Merge {
				base = group.Attributes
			}
			group.Attributes = base.Merge(*p.Attributes)
			if n := group.Attributes.Len(); n > muster.MaxGroupAttributes {
				return muster.Errorf(muster.Invalid, "thingGroupProperties.attributePayload.attributes has %d entries; at most %d are allowed", n, muster.MaxGroupAttributes)
			}
		}
		group.Version++
		version = group.Version
		tx.Put(store.Group{Group: group})
		return nil
	})
	return version, err
}

// DeleteGroup deletes a group without child groups. Its things leave it first, some at a time, so that
// nobody waits behind a group of a million. A group that does not exist is no error.
func (g *Engine) DeleteGroup(ctx context.Context, name muster.GroupName, expected *int64) error {
	for {
		left := false
		err := g.update(ctx, store.Keys{Groups: []muster.GroupName{name}}, func(tx store.Tx, now muster.Time) error {
			left = false
			group, ok := tx.Group(name)
			if !ok {
				return nil
			}
			if err := expect(expected, group.Version, "thing group", string(name)); err != nil {
				return err
			}
			children, _, err := tx.Groups(name, store.Page{Limit: 1})
			if err != nil {
				return err
			}
			if len(children) > 0 {
				return muster.Errorf(muster.Invalid, "Thing group %s has child groups, %s among them; delete them first", name, children[0].Name)
			}
			members, next, err := tx.Members(name, store.Page{Limit: slice})
			if err != nil {
				return err
			}
			for _, m := range members {
				changeGroups(tx, m.Thing, nil, []muster.Membership{m}, now)
			}
			if left = next != ""; left {
				return nil
			}
			tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefGroup, Name: string(name)}})
			tx.Delete(store.Group{Group: group})
			return nil
		})
		if err != nil || !left {
			return err
		}
	}
}

// A GroupFilter chooses groups by name prefix and parent.
type GroupFilter struct {
	Parent    muster.GroupName
	Recursive bool // with Parent: everything below it, not only its children
	Prefix    string
}

// ListGroups lists groups by name.
func (g *Engine) ListGroups(ctx context.Context, f GroupFilter, p Page) (groups []muster.Group, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		parent := f.Parent
		if parent != "" {
			if _, ok := tx.Group(parent); !ok {
				return noGroup(parent)
			}
			if f.Recursive {
				parent = "" // walk all, keep those below
			}
		}
		fits := func(group muster.Group) bool {
			return strings.HasPrefix(string(group.Name), f.Prefix) && (f.Parent == "" || !f.Recursive || below(tx, group, f.Parent))
		}
		filtered := f.Prefix != "" || f.Parent != "" && f.Recursive
		groups, next = nil, p.After
		// Bounded: a page may be short when little of what it looked at matches.
		for range 20 {
			limit := p.Limit - len(groups)
			if filtered {
				limit = max(limit, groupsLooked)
			}
			page, token, err := tx.Groups(parent, store.Page{After: next, Limit: limit})
			if err != nil {
				return err
			}
			for i, group := range page {
				if f.Prefix != "" && !strings.HasPrefix(string(group.Name), f.Prefix) && string(group.Name) > f.Prefix {
					next = "" // they are in order of their names: none begins so any more
					return nil
				}
				if !fits(group) {
					continue
				}
				if groups = append(groups, group); len(groups) == p.Limit && i+1 < len(page) {
					if !strings.HasPrefix(string(page[i+1].Name), f.Prefix) {
						next = ""
						return nil
					}
					// The list goes on behind this one, and only a page that ends here says where that is.
					_, next, err = tx.Groups(parent, store.Page{After: next, Limit: i + 1})
					return err
				}
			}
			if next = token; next == "" || len(groups) == p.Limit {
				break
			}
		}
		return nil
	})
	return groups, next, err
}

// groupsLooked is how many groups are looked at together for those that a filter chooses.
const groupsLooked = 500

func below(tx store.Reader, group muster.Group, ancestor muster.GroupName) bool {
	for a := range lineage(tx, group.Parent) {
		if a.Name == ancestor {
			return true
		}
	}
	return false
}

func groupByID(tx store.Reader, id string) (name muster.GroupName, ok bool) {
	for after := ""; ; {
		groups, next, err := tx.Groups("", store.Page{After: after, Limit: 1000})
		for _, group := range groups {
			if group.ID == id {
				return group.Name, true
			}
		}
		if after = next; err != nil || next == "" {
			return "", false
		}
	}
}

// Group finds a group.
func (g *Engine) Group(ctx context.Context, name muster.GroupName) (group muster.Group, err error) {
	group, _, err = g.DescribeGroup(ctx, name)
	return group, err
}

// AddToGroup puts a thing into a group; a thing that is in it already stays.
func (g *Engine) AddToGroup(ctx context.Context, group muster.GroupName, name muster.ThingName) error {
	return g.UpdateGroupsOfThing(ctx, name, []muster.GroupName{group}, nil)
}

// RemoveFromGroup takes a thing out of a group; a thing that is not in it is no error.
func (g *Engine) RemoveFromGroup(ctx context.Context, group muster.GroupName, name muster.ThingName) error {
	return g.UpdateGroupsOfThing(ctx, name, nil, []muster.GroupName{group})
}

// UpdateGroupsOfThing takes a thing out of some groups and puts it into others, at one moment: a thing
// that moves within a job's target keeps its execution.
func (g *Engine) UpdateGroupsOfThing(ctx context.Context, name muster.ThingName, add, removed []muster.GroupName) error {
	err := g.update(ctx, store.Keys{Things: []muster.ThingName{name}, Groups: slices.Concat(add, removed)}, func(tx store.Tx, now muster.Time) error {
		return updateGroups(tx, name, add, removed, now)
	})
	return err
}

func updateGroups(tx store.Tx, name muster.ThingName, add, removed []muster.GroupName, now muster.Time) error {
	if _, ok := tx.Thing(name); !ok {
		return noThing(name)
	}
	for _, group := range slices.Concat(add, removed) {
		if _, ok := tx.Group(group); !ok {
			return noGroup(group)
		}
	}
	now0 := tx.GroupsOf(name)
	var leave []muster.Membership
	stay := make([]muster.Membership, 0, len(now0)+len(add))
	for _, m := range now0 {
		if slices.Contains(removed, m.Group) && !slices.Contains(add, m.Group) {
			leave = append(leave, m)
		} else {
			stay = append(stay, m)
		}
	}
	var join []muster.Membership
	for _, group := range add {
		if slices.ContainsFunc(stay, func(m muster.Membership) bool { return m.Group == group }) {
			continue
		}
		for _, m := range stay {
			if root(tx, m.Group) == root(tx, group) {
				return muster.Errorf(muster.Invalid, "Thing %s is in thing group %s, which is in the same hierarchy as %s; a thing can be in one group of a hierarchy", name, m.Group, group)
			}
		}
		m := muster.Membership{Group: group, Thing: name, Seq: tx.NextSeq()}
		stay, join = append(stay, m), append(join, m)
	}
	if len(join) > 0 && len(stay) > muster.MaxGroupsOfThing {
		return muster.Errorf(muster.Invalid, "Thing %s would be in %d thing groups; at most %d are allowed", name, len(stay), muster.MaxGroupsOfThing)
	}
	changeGroups(tx, name, join, leave, now)
	return nil
}

func root(tx store.Reader, name muster.GroupName) (top muster.GroupName) {
	for group := range lineage(tx, name) {
		top = group.Name
	}
	return top
}

// changeGroups stores joins and leaves of one thing and brings the CONTINUOUS jobs they concern in line.
func changeGroups(tx store.Tx, name muster.ThingName, join, leave []muster.Membership, now muster.Time) {
	concerned := map[muster.JobID]*muster.Job{}
	var order []muster.JobID
	for _, m := range slices.Concat(leave, join) {
		for group := range lineage(tx, m.Group) {
			for job := range tx.Targeting(group.Name) {
				if concerned[job.ID] == nil {
					concerned[job.ID] = job
					order = append(order, job.ID)
				}
			}
		}
	}
	was := map[muster.JobID]bool{}
	for _, id := range order {
		_, was[id] = targeted(tx, concerned[id], name)
	}
	for _, m := range leave {
		tx.Delete(store.Member{Membership: m})
	}
	for _, m := range join {
		tx.Put(store.Member{Membership: m})
	}
	// Oldest job first, so that a thing that joins finds its work in the order it was made.
	slices.SortFunc(order, func(a, b muster.JobID) int {
		if concerned[a].Seq < concerned[b].Seq {
			return -1
		}
		return 1
	})
	for _, id := range order {
		if _, is := targeted(tx, concerned[id], name); is && was[id] {
			// It was a target all along: what it has done is not of an earlier membership, and where it
			// stays the rollout comes by. Only where it is new the rollout may have been already.
			if _, has := tx.Execution(id, name, 0); has || len(join) == 0 {
				continue
			}
		}
		reconcile(tx, concerned[id], name, now)
	}
}

// GroupsOf lists the groups that a thing is directly in.
func (g *Engine) GroupsOf(ctx context.Context, name muster.ThingName) (groups []muster.Group, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		if _, ok := tx.Thing(name); !ok {
			return noThing(name)
		}
		for _, m := range tx.GroupsOf(name) {
			if group, ok := tx.Group(m.Group); ok {
				groups = append(groups, group)
			}
		}
		return nil
	})
	return groups, err
}

// ThingsInGroup lists a group's things; recursive, also those of the groups below it. A thing that
// moves while the list is read may be missed or seen twice; every other one is seen once.
func (g *Engine) ThingsInGroup(ctx context.Context, name muster.GroupName, recursive bool, p Page) (things []muster.ThingName, next string, err error) {
	at := treePage{Walk: tree{{Group: name}}}
	if p.After != "" {
		at = readTreePage(muster.Pairs(p.After))
		if len(at.Walk) == 0 || at.Walk[0].Group != name {
			return nil, "", muster.Errorf(muster.Invalid, "nextToken is not one that this list returned")
		}
	}
	err = g.store.View(ctx, func(tx store.Reader) error {
		if _, ok := tx.Group(name); !ok {
			return noGroup(name)
		}
		things, next = nil, ""
		// Bounded: a page of empty groups may be short.
		for here, groups := at, 0; len(here.Walk) > 0; groups++ {
			if len(things) >= p.Limit || groups >= 1000 {
				var b muster.PairsBuilder
				here.write(&b)
				next = string(b.Pairs())
				return nil
			}
			members, token, err := tx.Members(here.Walk.at(), store.Page{After: here.Member, Limit: p.Limit - len(things)})
			if err != nil {
				return err
			}
			for _, m := range members {
				things = append(things, m.Thing)
			}
			if here.Member = token; token != "" {
				continue
			}
			if !recursive {
				break
			}
			if here.Walk, err = here.Walk.step(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return things, next, err
}

// A treePage is where a list of the things below a group goes on.
type treePage struct {
	Walk   tree
	Member string // the page of the members of the group it is at
}

// write puts the place among the pairs of a cursor. No group has a slash in its name.
func (p treePage) write(b *muster.PairsBuilder) {
	b.Set("/member", p.Member)
	for _, level := range p.Walk {
		b.Set(string(level.Group), level.Next)
	}
}

// readTreePage is the way back; of what it did not write it makes an empty walk.
func readTreePage(pairs muster.Pairs) (p treePage) {
	for name, value := range pairs.All() {
		switch {
		case name == "/member":
			p.Member = value
		case !strings.HasPrefix(name, "/"):
			p.Walk = append(p.Walk, treeLevel{muster.GroupName(name), value})
		}
	}
	return p
}

// A tree is a walk over a group and everything below it, parents before children, siblings by name. It
// is the path from the root to where the walk is, so that it can be kept and taken up again whatever
// became of the groups meanwhile.
type tree []treeLevel

type treeLevel struct {
	Group muster.GroupName
	Next  string // the page of its siblings after it
}

// at is the group that the walk is at.
func (w tree) at() muster.GroupName { return w[len(w)-1].Group }

// step goes on to the next group; an empty walk is over.
func (w tree) step(tx store.Reader) (tree, error) {
	w = slices.Clone(w)
	// Down to the first child, if there is one; else along the siblings, of the nearest ancestor that has one.
	parent, page := w.at(), ""
	for {
		children, next, err := tx.Groups(parent, store.Page{After: page, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(children) > 0 {
			return append(w, treeLevel{children[0].Name, next}), nil
		}
		for {
			last := w[len(w)-1]
			if w = w[:len(w)-1]; len(w) == 0 {
				return nil, nil
			}
			if last.Next != "" {
				parent, page = w.at(), last.Next
				break
			}
		}
	}
}
