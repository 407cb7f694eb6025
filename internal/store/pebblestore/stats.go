package pebblestore

import (
	"sync/atomic"
	"time"

	"muster/internal/meter"
)

// counters are what the store counts as it goes.
type counters struct {
	batches, updates, walBytes, syncTime atomic.Uint64

	sizes meter.Histogram // Updates of a batch
	syncs meter.Histogram // what a sync took
	waits meter.Histogram // what the first Update of a batch waited for the writer
}

func (c *counters) begin() {
	c.sizes.Over(meter.Sizes)
	c.syncs.Over(meter.Latency)
	c.waits.Over(meter.Latency)
}

// Stats say what the store has done since it was opened, and what it holds.
type Stats struct {
	Batches   uint64
	Updates   uint64        // Updates/Batches is how many share a sync
	SyncTime  time.Duration // waited for syncs, in all
	WALBytes  uint64        // given to the log
	Flushed   uint64        // bytes written to tables from memory
	Compacted uint64        // bytes written to tables from tables
	DiskBytes uint64        // the directory's size
	Live      int64         // pending executions
	Things    uint64
	Jobs      int
	Feed      uint64 // the newest entry
	Waiting   int    // Updates that wait for the writer

	BatchSizes meter.Snapshot // Updates per batch
	Syncs      meter.Snapshot // what each sync took, in nanoseconds
	Waits      meter.Snapshot // what the first Update of each batch waited for the writer, in nanoseconds
}

// Stats is cheap enough to be asked for every second.
func (s *Store) Stats() Stats {
	out := Stats{
		Batches:  s.stats.batches.Load(),
		Updates:  s.stats.updates.Load(),
		SyncTime: time.Duration(s.stats.syncTime.Load()),
		WALBytes: s.stats.walBytes.Load(),

		BatchSizes: s.stats.sizes.Snapshot(),
		Syncs:      s.stats.syncs.Snapshot(),
		Waits:      s.stats.waits.Snapshot(),
	}
	s.waiting.mu.Lock()
	out.Waiting = len(s.waiting.queue)
	s.waiting.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.shut {
		return out
	}
	out.Live, out.Things, out.Jobs, out.Feed = s.pending, s.registered.GetCardinality(), len(s.jobs), s.feed
	m := s.db.Metrics()
	for i := range m.Levels {
		out.Flushed += m.Levels[i].TableBytesFlushed
		out.Compacted += m.Levels[i].TableBytesCompacted
	}
	out.DiskBytes = m.DiskSpaceUsage()
	return out
}
