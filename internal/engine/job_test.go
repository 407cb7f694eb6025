package engine

import (
	"errors"
	"testing"

	"muster"
	"muster/internal/store"
)

// countedStore is a store that says it has so many jobs.
type countedStore struct {
	store.Reader
	jobs map[muster.JobStatus]int
}

func (c countedStore) Job(muster.JobID) (*muster.Job, bool) { return nil, false }
func (c countedStore) JobCount(status muster.JobStatus) int { return c.jobs[status] }

// Unless told otherwise there are at most 100,000 active jobs, SCHEDULED ones among them; those that are over do not count.
func TestActiveJobs(t *testing.T) {
	g := &Engine{limits: Limits{}.filled()}
	over := map[muster.JobStatus]int{muster.JobScheduled: 60_000, muster.JobInProgress: 39_999, muster.JobCompleted: 1_000_000, muster.JobCanceled: 5, muster.JobDeleting: 5}
	if err := g.freeJob(countedStore{jobs: over}, "last"); err != nil {
		t.Error(err)
	}
	over[muster.JobInProgress]++
	var refused *muster.Error
	if err := g.freeJob(countedStore{jobs: over}, "more"); !errors.As(err, &refused) || refused.Kind != muster.LimitExceeded {
		t.Errorf("one more is refused with %v", err)
	}
}
