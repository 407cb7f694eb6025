package pgstore

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"muster/internal/meter"
)

// counters are what the store counts as it goes.
type counters struct {
	batches, updates, deadlocks, statements, trips atomic.Uint64

	sizes   meter.Histogram // Updates of a batch
	commits meter.Histogram // what writing and committing one took
	waits   meter.Histogram // what the first Update of a batch waited for a connection
}

func (c *counters) begin() {
	c.sizes.Over(meter.Sizes)
	c.commits.Over(meter.Latency)
	c.waits.Over(meter.Latency)
}

// Stats say what this node has done with the database since it was opened.
type Stats struct {
	Batches    uint64 // transactions that were committed
	Updates    uint64 // in them; Updates/Batches is how many share a commit
	Deadlocks  uint64 // transactions that were done again because they and others waited for each other
	Statements uint64 // given to the database by Updates and Views
	Trips      uint64 // how often it was asked and waited for
	Waiting    int    // Updates that wait for a connection

	BatchSizes meter.Snapshot // Updates per batch
	Commits    meter.Snapshot // what writing and committing each batch took, in nanoseconds
	Waits      meter.Snapshot // what the first Update of each batch waited for a connection, in nanoseconds
}

// Stats is cheap enough to be asked for every second.
func (s *Store) Stats() Stats {
	out := Stats{
		Batches: s.stats.batches.Load(), Updates: s.stats.updates.Load(), Deadlocks: s.stats.deadlocks.Load(),
		Statements: s.stats.statements.Load(), Trips: s.stats.trips.Load(),
		BatchSizes: s.stats.sizes.Snapshot(), Commits: s.stats.commits.Snapshot(), Waits: s.stats.waits.Snapshot(),
	}
	for _, w := range append([]*waiting{s.single}, s.shared...) {
		w.mu.Lock()
		out.Waiting += len(w.queue)
		w.mu.Unlock()
	}
	return out
}

// counting is a connection whose use is counted.
type counting struct {
	querier
	*counters
}

func (c counting) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.statements.Add(1)
	c.trips.Add(1)
	return c.querier.Query(ctx, sql, args...)
}

func (c counting) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	c.statements.Add(uint64(b.Len()))
	c.trips.Add(1)
	return c.querier.SendBatch(ctx, b)
}
