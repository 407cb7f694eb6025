package pgstore

import (
	"muster"
	"muster/internal/store"
)

// A table is what is known of the rows of one kind, by name. A row that is known not to be is there, with ok false.
type table[K comparable, V any] map[K]known[V]

type known[V any] struct {
	row V
	ok  bool
}

type (
	execKey struct {
		thing  muster.ThingName
		job    muster.JobID
		number int64
	}
	jobThing struct {
		job   muster.JobID
		thing muster.ThingName
	}
	memberKey struct {
		group muster.GroupName
		thing muster.ThingName
	}
	// ends are the number of the latest execution of a thing at a job, 0 if there is none, and of the last there
	// ever was.
	ends struct{ latest, issued int64 }
	// sums are what a transaction has changed of a job's counters.
	sums struct {
		counts muster.Counts
		tally  muster.Tally
	}
	deadlineKey struct {
		due     muster.Time
		kind    store.DeadlineKind
		subject string
	}
	jobRow struct {
		*muster.Job
		ord uint64
	}
)

// A layer holds rows: those that were read, those that earlier functions of a batch wrote, or those that the
// present one has written. A function that fails loses its layer and leaves nothing.
type layer struct {
	things    table[muster.ThingName, muster.Thing]
	queues    table[muster.ThingName, []muster.Execution]
	groupsOf  table[muster.ThingName, []muster.Membership]
	members   table[memberKey, muster.Membership]
	execs     table[execKey, muster.Execution]
	ends      table[jobThing, ends]
	spent     table[jobThing, int64]
	jobs      table[muster.JobID, jobRow]
	documents table[muster.JobID, muster.Document]
	types     table[muster.TypeName, muster.ThingType]
	groups    table[muster.GroupName, muster.Group]
	templates table[muster.TemplateID, muster.Template]
	tags      table[muster.Ref, muster.Pairs]
	settings  table[string, string]
	deadlines table[deadlineKey, string]
	sums      map[muster.JobID]*sums
	gone      []muster.JobID // jobs that were deleted, with all that belongs to them

	facts []byte
	told  int
	at    muster.Time
}

func newLayer() *layer {
	return &layer{things: table[muster.ThingName, muster.Thing]{}, queues: table[muster.ThingName, []muster.Execution]{}, groupsOf: table[muster.ThingName, []muster.Membership]{},
		members: table[memberKey, muster.Membership]{}, execs: table[execKey, muster.Execution]{}, ends: table[jobThing, ends]{}, spent: table[jobThing, int64]{},
		jobs: table[muster.JobID, jobRow]{}, documents: table[muster.JobID, muster.Document]{}, types: table[muster.TypeName, muster.ThingType]{},
		groups: table[muster.GroupName, muster.Group]{}, templates: table[muster.TemplateID, muster.Template]{}, tags: table[muster.Ref, muster.Pairs]{},
		settings: table[string, string]{}, deadlines: table[deadlineKey, string]{}, sums: map[muster.JobID]*sums{}}
}

// small reports whether a layer is no larger than those of devices' acts, so that emptying it costs little.
func (l *layer) small() bool {
	const most = 4 * batchAtMost
	return max(len(l.things), len(l.queues), len(l.groupsOf), len(l.members), len(l.execs), len(l.ends), len(l.spent), len(l.jobs), len(l.deadlines), len(l.settings)) <= most && cap(l.facts) <= most<<10
}

// reset empties a layer for the next function.
func (l *layer) reset() {
	facts := l.facts[:0]
	clear(l.things)
	clear(l.queues)
	clear(l.groupsOf)
	clear(l.members)
	clear(l.execs)
	clear(l.ends)
	clear(l.spent)
	clear(l.jobs)
	clear(l.documents)
	clear(l.types)
	clear(l.groups)
	clear(l.templates)
	clear(l.tags)
	clear(l.settings)
	clear(l.deadlines)
	clear(l.sums)
	l.gone, l.facts, l.told, l.at = nil, facts, 0, 0
}

// over lays the rows of another layer over this one's.
func (l *layer) over(o *layer) {
	lay(l.things, o.things)
	lay(l.queues, o.queues)
	lay(l.groupsOf, o.groupsOf)
	lay(l.members, o.members)
	lay(l.execs, o.execs)
	lay(l.ends, o.ends)
	lay(l.spent, o.spent)
	lay(l.jobs, o.jobs)
	lay(l.documents, o.documents)
	lay(l.types, o.types)
	lay(l.groups, o.groups)
	lay(l.templates, o.templates)
	lay(l.tags, o.tags)
	lay(l.settings, o.settings)
	lay(l.deadlines, o.deadlines)
	for id, s := range o.sums {
		l.sum(id).add(s)
	}
	l.gone = append(l.gone, o.gone...)
}

// tell takes up what another layer has to tell.
func (l *layer) tell(o *layer) {
	l.facts = append(l.facts, o.facts...)
	l.told += o.told
	l.at = max(l.at, o.at)
}

func lay[K comparable, V any](under, over table[K, V]) {
	for k, v := range over {
		under[k] = v
	}
}

func (s *sums) add(o *sums) {
	for i := range s.counts {
		s.counts[i] += o.counts[i]
		s.tally[i] += o.tally[i]
	}
}

func (l *layer) sum(id muster.JobID) *sums {
	s := l.sums[id]
	if s == nil {
		s = &sums{}
		l.sums[id] = s
	}
	return s
}

// written reports whether the layer has anything that has to be stored. What was only read is in another.
func (l *layer) written() bool {
	return l.told > 0 || len(l.things)+len(l.members)+len(l.execs)+len(l.spent)+len(l.jobs)+len(l.documents)+len(l.types)+len(l.groups)+
		len(l.templates)+len(l.tags)+len(l.settings)+len(l.deadlines)+len(l.sums)+len(l.gone) > 0
}
