package engine

import (
	"context"
	"slices"

	"muster"
	"muster/internal/store"
)

// Feed returns up to limit entries behind a place, those of one thing in commit order. One that follows on
// entries that are gone says so.
func (g *Engine) Feed(ctx context.Context, after muster.Place, limit int) ([]muster.Entry, error) {
	return g.store.Feed(ctx, after, limit)
}

// FeedEnd is the place behind the newest entry.
func (g *Engine) FeedEnd(ctx context.Context) (muster.Place, error) { return g.store.FeedEnd(ctx) }

// Earliest is the place behind which two readers have all still to read, in a store that several processes read.
func (g *Engine) Earliest(a, b muster.Place) (muster.Place, error) {
	shared, ok := g.store.(store.Shared)
	if !ok {
		return "", muster.Errorf(muster.Internal, "the store has one reader")
	}
	return shared.Earliest(a, b)
}

// A Glance looks at rows as they are at one moment, for readers of the feed: a fact says what changed,
// and a glance what there is to tell of it. It is good only within the Look that made it.
type Glance struct {
	tx  store.Reader
	Now muster.Time
}

// Look lets fn glance. It must be short, for writers may wait for it, and may run more than once.
func (g *Engine) Look(ctx context.Context, fn func(Glance)) error {
	return g.store.View(ctx, func(tx store.Reader) error {
		fn(Glance{tx, g.clock.Now()})
		return nil
	})
}

// Setting is a setting's value.
func (l Glance) Setting(name string) string { return l.tx.Setting(name) }

// Thing finds a registered thing.
func (l Glance) Thing(name muster.ThingName) (muster.Thing, bool) { return l.tx.Thing(name) }

// Group finds a group.
func (l Glance) Group(name muster.GroupName) (muster.Group, bool) { return l.tx.Group(name) }

// Lineage is a group and its ancestors, root first; empty if there is no such group.
func (l Glance) Lineage(name muster.GroupName) (groups []muster.Group) {
	for group := range lineage(l.tx, name) {
		groups = append(groups, group)
	}
	slices.Reverse(groups)
	return groups
}

// Job finds a job, which the caller must not change.
func (l Glance) Job(id muster.JobID) (*muster.Job, bool) { return l.tx.Job(id) }

// Counts are a job's executions by status.
func (l Glance) Counts(id muster.JobID) muster.Counts { return l.tx.Counts(id) }

// Document is the document of a job.
func (l Glance) Document(id muster.JobID) (muster.Document, bool) { return l.tx.Document(id) }

// Execution finds an execution as it is stored.
func (l Glance) Execution(thing muster.ThingName, job muster.JobID, number int64) (muster.Execution, bool) {
	return l.tx.Execution(job, thing, number)
}

// Shown is what a device is shown of its executions; a thing that is gone has none.
func (l Glance) Shown(name muster.ThingName, namespace string) []muster.Execution {
	q, _ := l.tx.Queue(name)
	return shown(l.tx, q, namespace)
}

// shown are the first executions of a queue that the device is offered, in queue order: ten, and five
// more of jobs that are in their maintenance window (events-and-limits.md §2).
func shown(tx store.Reader, q muster.Queue, namespace string) (result []muster.Execution) {
	show := offeredIn(tx, namespace)
	for _, e := range q.Executions {
		switch {
		case len(result) == muster.PendingShownWindow:
			return result
		case !show(e):
		case len(result) < muster.PendingShown:
			result = append(result, e)
		default:
			if job, ok := tx.Job(e.Job); ok && job.Windowed() {
				result = append(result, e)
			}
		}
	}
	return result
}

// offeredIn is offered for the topics of a namespace: what it says of jobs without one, it says there of
// the jobs of that namespace.
func offeredIn(tx store.Reader, namespace string) func(muster.Execution) bool {
	if namespace == "" {
		return offered(tx)
	}
	return func(e muster.Execution) bool {
		job, ok := tx.Job(e.Job)
		if !ok || job.Namespace != namespace {
			return false
		}
		plain := *job
		plain.Namespace = ""
		return plain.Offers(e)
	}
}
