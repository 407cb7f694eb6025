package engine

import (
	"context"
	"time"

	"muster"
	"muster/internal/store"
)

// Where several write to a store at a time, none of them knows the sums of a job while its own Update runs. There a
// job is aborted or completed behind the feed: what tells that executions have ended makes whoever has the
// job's background work look at its committed sums. Who takes that work over looks at all jobs once, so nothing
// has to be remembered of how far anybody had come.

// A settler is how far the feed has been read for that.
type settler struct {
	begun bool
	share uint64
	place muster.Place
}

const (
	settleEntries = 64 // read from the feed at a time
	settleJobs    = 64 // looked at at one moment
	// settlePause lets the ends of many executions be looked at together.
	settlePause = 10 * time.Millisecond
	// sharedRest is how long the loop rests at most where others set deadlines too.
	sharedRest = 5 * time.Second
)

// settle settles the jobs that the feed gives reason to, and reports whether the loop has to look for work: because a
// job was settled, or because another process has changed one. ticking is held.
func (g *Engine) settle(ctx context.Context) (work bool, err error) {
	owns, share := g.store.Share()
	s := &g.settler
	if g.store.Exact() {
		if s.begun {
			return false, nil
		}
		// What comes from a store where this is done behind the feed may have jobs that were still to be settled.
		if err := g.settleAll(ctx, owns); err != nil {
			return false, err
		}
		s.begun = true
		return false, nil
	}
	if !s.begun || s.share != share {
		end, err := g.store.FeedEnd(ctx)
		if err != nil {
			return false, err
		}
		if err := g.settleAll(ctx, owns); err != nil {
			return false, err
		}
		*s = settler{begun: true, share: share, place: end}
		work = true
	}
	for {
		entries, err := g.store.Feed(ctx, s.place, settleEntries)
		if err != nil || len(entries) == 0 {
			return work, err
		}
		var ids []muster.JobID
		seen := map[muster.JobID]bool{}
		for i := range entries {
			e := &entries[i]
			for k := range e.Facts {
				f := &e.Facts[k]
				switch {
				case f.Kind == muster.FactJob && !e.Here:
					work = true
				case f.Kind == muster.FactExecution && f.From != muster.NoStatus && f.From != f.To && (f.To == muster.NoStatus || f.To.Terminal()) && !seen[f.Job] && owns(string(f.Job)):
					seen[f.Job] = true
					ids = append(ids, f.Job)
				}
			}
		}
		settled, err := g.settleThese(ctx, ids)
		if err != nil {
			return work, err
		}
		work = work || settled
		s.place = entries[len(entries)-1].Place
	}
}

// settleAll looks at all active jobs.
func (g *Engine) settleAll(ctx context.Context, owns func(string) bool) error {
	for _, st := range []muster.JobStatus{muster.JobInProgress, muster.JobScheduled} {
		for p := (Page{Limit: settleJobs}); ; {
			var ids []muster.JobID
			next := ""
			err := g.store.View(ctx, func(tx store.Reader) error {
				ids = ids[:0]
				jobs, after, err := tx.Jobs(JobFilter{Status: st}, p)
				for _, job := range jobs {
					if owns(string(job.ID)) {
						ids = append(ids, job.ID)
					}
				}
				next = after
				return err
			})
			if err != nil {
				return err
			}
			if _, err := g.settleThese(ctx, ids); err != nil {
				return err
			}
			if p.After = next; next == "" {
				break
			}
		}
	}
	return nil
}

// settleThese settles those of the jobs whose sums say that they are to be.
func (g *Engine) settleThese(ctx context.Context, ids []muster.JobID) (settled bool, err error) {
	for len(ids) > 0 {
		n := min(len(ids), settleJobs)
		var ripe []muster.JobID
		err := g.store.View(ctx, func(tx store.Reader) error {
			ripe = ripe[:0]
			for _, id := range ids[:n] {
				if job, ok := tx.Job(id); ok && settles(tx, job) {
					ripe = append(ripe, id)
				}
			}
			return nil
		})
		if err != nil {
			return settled, err
		}
		for _, id := range ripe {
			err := g.moment(ctx, store.Keys{Jobs: []muster.JobID{id}}, func(tx store.Tx, now muster.Time) error {
				settleJob(tx, id, now)
				return nil
			})
			if err != nil {
				return settled, err
			}
			settled = true
		}
		ids = ids[n:]
	}
	return settled, nil
}

// settles reports whether settleJob has anything to do for a job.
func settles(tx store.Reader, job *muster.Job) bool {
	if !job.Status.Active() {
		return false
	}
	if len(job.Settings.Abort) > 0 && job.EndReached == 0 {
		if _, met := job.Abort(tx.Tally(job.ID)); met {
			return true
		}
	}
	return job.Parked != "" && job.Extras != nil && job.Extras.MaxInFlight > 0 || job.Finished(tx.Counts(job.ID))
}
