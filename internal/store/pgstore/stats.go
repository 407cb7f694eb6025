package pgstore

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"muster/internal/meter"
)

// counters are what the store counts as it goes.
type counters struct {
	meter.Commits
	deadlocks, statements, trips atomic.Uint64
}

// Stats say what this node has done with the database since it was opened. A sync is the round trip that writes a batch
// and commits it.
type Stats struct {
	meter.CommitStats
	Deadlocks  uint64 // transactions that were done again because they and others waited for each other
	Statements uint64 // given to the database by Updates and Views
	Trips      uint64 // how often it was asked and waited for
	Waiting    int    // Updates that wait for a connection
}

// Stats is cheap enough to be asked for every second.
func (s *Store) Stats() Stats {
	out := Stats{CommitStats: s.stats.Stats(), Deadlocks: s.stats.deadlocks.Load(), Statements: s.stats.statements.Load(), Trips: s.stats.trips.Load()}
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
