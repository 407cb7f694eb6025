package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cockroachdb/crlib/crtime"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"

	"muster"
	"muster/internal/store"
)

const (
	batchBytes = 4 << 20
	batchTime  = 2 * time.Millisecond // a view waits no longer than this for the writer
	// chores are done when nothing waits, but at least after that many batches.
	choresEvery = 64
)

// A request is an Update that waits for its turn.
type request struct {
	ctx  context.Context
	fn   func(store.Tx) error
	err  error
	done chan struct{}
}

var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

// waiting is the queue of requests.
type waiting struct {
	mu     sync.Mutex
	queue  []*request
	closed bool
	since  crtime.Mono // when the first of the queue came
	wake   chan struct{}
}

func (w *waiting) add(r *request) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	first := len(w.queue) == 0
	if first {
		w.since = crtime.NowMono()
	}
	w.queue = append(w.queue, r)
	w.mu.Unlock()
	if first {
		w.signal()
	}
	return true
}

func (w *waiting) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take is all that waits, since when, and in exchange for an empty slice.
func (w *waiting) take(empty []*request) (queue []*request, since crtime.Mono, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue, w.queue = w.queue, empty
	return queue, w.since, w.closed
}

func (w *waiting) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

// Update waits for the writer to run fn and for the batch with it to be durable.
func (s *Store) Update(ctx context.Context, _ store.Keys, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := requests.Get().(*request)
	r.ctx, r.fn, r.err = ctx, fn, nil
	if !s.waiting.add(r) {
		return errClosed
	}
	// Also when ctx ends: fn may be running, and it writes what is its caller's. The writer drops a
	// request that it has not begun by then.
	<-r.done
	err := r.err
	r.ctx, r.fn, r.err = nil, nil, nil
	requests.Put(r)
	return err
}

// write is the writer.
func (s *Store) write() {
	var queue, spare, rest []*request
	over := false
	defer func() {
		if over {
			close(s.syncing)
			s.done.Done()
			return
		}
		// A function has ended this goroutine, as the testing package's Fatal does. What was half
		// done in memory cannot be trusted any more.
		s.fail(errors.New("a function that was given to Update has ended the writer's goroutine"))
		s.syncing <- &commit{done: make(chan struct{}), requests: rest}
		go s.write()
	}()
	for {
		// Callers that were just answered come back with more; let them, for a larger batch costs hardly
		// more than a small one.
		runtime.Gosched()
		got, since, closed := s.waiting.take(spare[:0])
		spare = queue[:0]
		queue = got
		if len(queue) == 0 {
			if s.chores() {
				continue
			}
			if closed {
				over = true
				return
			}
			<-s.waiting.wake
			continue
		}
		s.stats.Waits.Took(since.Elapsed())
		for rest = queue; len(rest) > 0; {
			c := &commit{done: make(chan struct{})}
			n := s.turn(c, rest)
			c.requests = append(c.requests, rest[:n]...)
			rest = rest[n:]
			s.syncing <- c
			if s.turns++; s.turns%choresEvery == 0 {
				s.chores()
			}
		}
		clear(queue)
	}
}

// turn runs the requests as one batch, as many as fit, applies it and returns their number.
func (s *Store) turn(c *commit, rs []*request) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Health(); err != nil {
		for _, r := range rs {
			r.err = err
		}
		return len(rs)
	}
	s.beginBatch()
	start := crtime.NowMono()
	for _, r := range rs {
		if n > 0 && (len(s.batch.repr) > batchBytes || start.Elapsed() > batchTime) {
			break
		}
		n++
		if r.err = r.ctx.Err(); r.err == nil {
			r.err = s.run(r.fn)
		}
	}
	s.apply(c)
	c.began, c.updates = start, n
	s.stats.Sizes.Observe(int64(n))
	return n
}

func (s *Store) beginBatch() {
	var repr []byte
	select {
	case repr = <-s.reprs:
	default:
	}
	s.batch.reset(repr)
	s.entry = entry{facts: s.entry.facts[:0]}
}

// run runs one function and takes back what it did if it fails.
func (s *Store) run(fn func(store.Tx) error) (err error) {
	t := s.tx
	t.begin()
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(*muster.Error); ok {
				err = e
			} else {
				err = &muster.Error{Kind: muster.Internal, Message: "an update panicked", Cause: fmt.Errorf("%v", p)}
			}
			s.log.Error("an update panicked", "panic", p, "stack", string(debug.Stack()))
		}
		if err != nil {
			t.rollback()
		} else {
			t.commit()
		}
	}()
	if err := fn(t); t.err == nil {
		return err
	}
	return t.err
}

// apply completes the batch and gives it to pebble. The state in RAM has it already.
func (s *Store) apply(c *commit) {
	if s.batch.count == 0 && s.entry.n == 0 && s.meta == s.written {
		c.feed = s.meta.feed
		for _, j := range s.touched { // by functions that failed
			j.dirty = false
		}
		s.touched = s.touched[:0]
		return
	}
	s.finish()
	c.feed = s.meta.feed
	s.last = c
	c.repr = s.batch.repr
	batchrepr.SetCount(c.repr, s.batch.count)
	s.stats.walBytes.Add(uint64(len(c.repr)))
	defer func() {
		if p := recover(); p != nil {
			s.fail(fmt.Errorf("pebble: %v", p))
			c.batch = nil
		}
	}()
	b := s.db.NewBatch()
	err := b.SetRepr(c.repr)
	if err == nil {
		err = s.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	if err != nil {
		s.fail(err)
	} else if s.failure.Load() == nil {
		c.batch = b
	}
}

// finish adds to the batch what is written once for all of it: the counters of jobs, the entry of the
// feed and the counters of ids.
func (s *Store) finish() {
	b := &s.batch
	for _, j := range s.touched {
		j.dirty = false
		if s.byJID[j.jid] == j {
			b.set(key1(kCounts, j.jid), appendCounts(nil, &j.counts, &j.tally))
			if s.sealable(j) {
				s.toSeal[j.jid] = true
			}
		}
	}
	s.touched = s.touched[:0]
	if s.entry.n > 0 {
		s.meta.feed++
		s.meta.facts += s.entry.n
		if s.entry.at != 0 {
			s.meta.feedAt = s.entry.at
		}
		v := appendUvarint(s.queueBuf[:0], s.meta.facts)
		v = appendUvarint(v, s.entry.n)
		v = appendUvarint(v, uint64(s.meta.feedAt))
		v = append(v, s.entry.facts...)
		b.set(feedKey(s.meta.feed), v)
		s.recent.put(s.meta.feed, v)
		s.queueBuf = v
	}
	if s.meta != s.written {
		s.written = s.meta
		b.set([]byte{kMeta}, s.meta.encode())
	}
}

// sync is the goroutine that waits for the disk and answers.
func (s *Store) sync() {
	defer s.done.Done()
	for c := range s.syncing {
		var took time.Duration
		if c.batch != nil {
			start := crtime.NowMono()
			if err := c.batch.SyncWait(); err != nil {
				s.fail(err)
			}
			took = start.Elapsed()
			s.stats.Syncs.Took(took)
		}
		c.err = s.Health()
		if c.err == nil && c.feed > s.durableFeed.Load() {
			s.durableFeed.Store(c.feed)
		}
		close(c.done)
		for _, r := range c.requests {
			if c.err != nil && !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded) {
				r.err = c.err
			}
			r.done <- struct{}{}
		}
		if c.batch == nil {
			continue
		}
		if s.opts.OnBatch != nil {
			s.opts.OnBatch(store.Batch{Updates: c.updates, Bytes: len(c.repr), Took: c.began.Elapsed(), Sync: took, Err: c.err})
		}
		if cap(c.repr) <= batchBytes {
			select {
			case s.reprs <- c.repr:
			default:
			}
		}
		c.batch, c.repr, c.requests = nil, nil, nil
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}
