package meter

import "time"

// Commits count the commits of a store that has several updates share one. Call Begin first; they must not be copied.
type Commits struct {
	Sizes Histogram // updates of a commit
	Syncs Histogram // what waiting for one to be durable took
	Waits Histogram // what the first update of one waited until its turn came
}

// Begin sets the bounds.
func (c *Commits) Begin() {
	c.Sizes.Over(Sizes)
	c.Syncs.Over(Latency)
	c.Waits.Over(Latency)
}

// CommitStats are what Commits have counted.
type CommitStats struct {
	Batches  uint64
	Updates  uint64        // Updates/Batches is how many share a sync
	SyncTime time.Duration // waited for syncs, in all

	BatchSizes, Syncs, Waits Snapshot // in pieces, nanoseconds, nanoseconds
}

// Stats reads them.
func (c *Commits) Stats() CommitStats {
	s := CommitStats{BatchSizes: c.Sizes.Snapshot(), Syncs: c.Syncs.Snapshot(), Waits: c.Waits.Snapshot()}
	s.Batches, s.Updates, s.SyncTime = s.BatchSizes.Count, uint64(s.BatchSizes.Sum), time.Duration(s.Syncs.Sum)
	return s
}
