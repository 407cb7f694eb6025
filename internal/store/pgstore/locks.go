package pgstore

import (
	"maps"
	"slices"

	"muster"
	"muster/internal/store"
)

// locks are the rows that a transaction holds, or has to. They are taken in one order, the order of the fields
// and of names within one, so that no two transactions wait for each other: a function that turns out to write
// what comes before something it holds is run again, with all it needs held from the start.
//
// Shared locks are for rows that must not change meanwhile: the job that gets a new execution, the groups
// that a membership counts for, the type that a thing is given.
type locks struct {
	registry bool // templates, tags, types, and settings that are read and written
	types    map[muster.TypeName]bool
	groups   map[muster.GroupName]bool // true: to be changed, or to be the target of a new job
	jobs     map[muster.JobID]bool     // true: to be changed
	things   map[muster.ThingName]bool
	greatest muster.ThingName // of things
}

func newLocks() locks {
	return locks{types: map[muster.TypeName]bool{}, groups: map[muster.GroupName]bool{}, jobs: map[muster.JobID]bool{}, things: map[muster.ThingName]bool{}}
}

func (l *locks) empty() bool {
	return !l.registry && len(l.types)+len(l.groups)+len(l.jobs)+len(l.things) == 0
}

// add takes up what another has; the stronger of two locks on a row holds.
func (l *locks) add(o *locks) {
	l.registry = l.registry || o.registry
	maps.Copy(l.types, o.types)
	for name, change := range o.groups {
		l.groups[name] = l.groups[name] || change
	}
	for id, change := range o.jobs {
		l.jobs[id] = l.jobs[id] || change
	}
	maps.Copy(l.things, o.things)
}

func (l *locks) keys(on store.Keys) {
	for _, name := range on.Things {
		if name != "" {
			l.things[name] = true
		}
	}
	for _, id := range on.Jobs {
		l.jobs[id] = true
	}
	for _, name := range on.Groups {
		if name != "" {
			l.groups[name] = l.groups[name] || len(on.Things) == 0 // with things it is who is in them that changes
		}
	}
}

// A run is rows that follow on each other in the order of names and are to be held in the same way.
type run struct {
	names  []string
	change bool
}

func (r run) mode() string {
	if r.change {
		return "UPDATE"
	}
	return "SHARE"
}

// runs are the rows in the order of names, whichever way each is held: first one kind and then the other would be another order.
func runs[K ~string](m map[K]bool) (all []run) {
	for _, name := range sortedNames(m) {
		if change := m[K(name)]; len(all) == 0 || all[len(all)-1].change != change {
			all = append(all, run{change: change})
		}
		last := &all[len(all)-1]
		last.names = append(last.names, name)
	}
	return all
}

func sortedNames[K ~string, V any](m map[K]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}

func texts[S ~string](names []S) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return out
}
