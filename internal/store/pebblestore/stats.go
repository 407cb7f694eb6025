package pebblestore

import (
	"sync/atomic"

	"muster/internal/meter"
)

// counters are what the store counts as it goes.
type counters struct {
	meter.Commits
	walBytes atomic.Uint64
}

// Stats say what the store has done since it was opened, and what it holds.
type Stats struct {
	meter.CommitStats
	WALBytes  uint64 // given to the log
	Flushed   uint64 // bytes written to tables from memory
	Compacted uint64 // bytes written to tables from tables
	DiskBytes uint64 // the directory's size
	Live      int64  // pending executions
	Things    uint64
	Jobs      int
	Feed      uint64 // the newest entry
	Waiting   int    // Updates that wait for the writer
}

// Stats is cheap enough to be asked for every second.
func (s *Store) Stats() Stats {
	out := Stats{
		CommitStats: s.stats.Stats(),
		WALBytes:    s.stats.walBytes.Load(),
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
