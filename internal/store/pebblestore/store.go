// Package pebblestore keeps rows in Pebble, a log-structured store in one directory, and everything
// that a device's act reads in RAM as well. One goroutine writes: it takes the functions that wait,
// runs them one after the other on the state in RAM and writes what they did as one batch; while that
// is being synced it takes the next. It is for one process; a second one is refused.
//
// DESIGN.md in the directory above tells how the keys lie and why.
package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/crlib/crtime"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
)

// Options say where a store is and how large it may grow. Zero values are good defaults.
type Options struct {
	Dir         string // made if it does not exist
	Memory      bool   // keep everything in RAM: Dir means nothing, and Close forgets
	FS          vfs.FS // instead of the operating system's, for tests
	Logger      *slog.Logger
	FeedEntries int // facts that the feed keeps at least; default 1,000,000
	CacheBytes  int // blocks of the disk's that are kept in RAM; default 64 MiB
	// OnBatch is told of every batch that wrote something, once it is durable or has failed. nil: nobody is told. It
	// must return at once: the next batch waits.
	OnBatch  func(store.Batch)
	memTable uint64 // tests make it small
}

// Store is a store.Store.
type Store struct {
	opts Options
	log  *slog.Logger
	fs   *guard
	slow io.Closer // ends the watch over a slow disk
	db   *pebble.DB

	mu     sync.RWMutex // the writer holds it while it changes the state
	*state              // under mu
	last   *commit      // the newest batch applied, under mu
	shut   bool         // under mu
	recent recent       // under mu

	// The writer's own.
	tx       *tx
	entry    entry
	batch    batch
	touched  []*jobState
	queueBuf []byte
	toSeal   map[uint32]bool
	untidy   bool // a chore failed; none is tried again
	turns    int
	written  meta // as it is on disk

	documents *cache[muster.Document]
	sealed    *cache[*sets]

	waiting waiting
	syncing chan *commit // unbuffered: one batch is synced, one waits; more would only be smaller
	reprs   chan []byte  // buffers of batches that are synced
	done    sync.WaitGroup

	durableFeed atomic.Uint64
	changed     chan struct{}
	failure     atomic.Pointer[muster.Error]
	closeOnce   sync.Once
	closeErr    error
	stats       counters
}

var _ store.Store = (*Store)(nil)

// A commit is a batch that was applied and waits to be durable.
type commit struct {
	batch    *pebble.Batch // nil if nothing was written
	repr     []byte
	requests []*request
	updates  int
	began    crtime.Mono
	feed     uint64 // the newest entry with this batch
	done     chan struct{}
	err      error // before done is closed
}

// Changed delivers after commits.
// Exact: there is one writer.
func (s *Store) Exact() bool { return true }

// Share: a directory is one process's.
func (s *Store) Share() (owns func(string) bool, version uint64) {
	return func(string) bool { return true }, 1
}

// Changed delivers after commits.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Health is why the store cannot promise durability, nil while it can.
func (s *Store) Health() error {
	if f := s.failure.Load(); f != nil {
		return f
	}
	return nil
}

// fail marks the store as failed, once, and freezes what is on disk as it is. It never works again:
// what RAM holds may not be what a restart would find.
func (s *Store) fail(err error) {
	f := &muster.Error{Kind: muster.Unavailable, Message: "The store has failed and accepts no changes until it is restarted", Cause: err}
	if s.failure.CompareAndSwap(nil, f) {
		s.log.Error("the store has failed; it accepts no changes until it is restarted", "dir", s.opts.Dir, "error", err)
	}
}

// unreadable is what a read tells that pebble could not answer.
func (s *Store) unreadable(err error) error {
	s.log.Error("the store cannot be read", "error", err)
	return &muster.Error{Kind: muster.Unavailable, Message: "The store cannot be read", Cause: err}
}

// broken is what a read tells that came upon something that cannot be.
func (s *Store) broken(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	s.log.Error("the store is inconsistent", "problem", err)
	return &muster.Error{Kind: muster.Unavailable, Message: "The store is inconsistent", Cause: err}
}

var errClosed = &muster.Error{Kind: muster.Unavailable, Message: "The store is closed"}

// open is nil while the store is. The caller holds mu.
func (s *Store) open() error {
	if s.shut {
		return errClosed
	}
	return nil
}

// View runs fn under the read lock, and then waits until the batch that was applied last is durable.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	last, err := s.view(fn)
	if last != nil {
		select {
		case <-last.done:
			if last.err != nil {
				return last.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (s *Store) view(fn func(store.Reader) error) (*commit, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.open(); err != nil {
		return nil, err
	}
	r := &reader{state: s.state, s: s}
	err := fn(r)
	if r.err != nil {
		err = r.err
	}
	return s.last, err
}

// Close waits for what was begun, and writes what is in memory to tables so that the next Open has no
// log to replay.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.waiting.close()
		s.done.Wait()
		s.mu.Lock()
		s.shut = true
		s.mu.Unlock()
		s.closeErr = s.closeDB()
	})
	return s.closeErr
}

func (s *Store) closeDB() (err error) {
	defer func() {
		// Pebble panics where it cannot go on; there is nothing left to lose.
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("closing the store: %v", p))
		}
		s.fs.release()
		err = errors.Join(err, s.slow.Close())
	}()
	if failure := s.Health(); failure != nil {
		s.fs.release()
		if err := s.db.Close(); err != nil {
			s.log.Error("closing a failed store", "error", err)
		}
		return nil
	}
	if !s.opts.Memory {
		err = s.db.Flush()
	}
	return errors.Join(err, s.db.Close(), s.Health())
}
