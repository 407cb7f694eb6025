package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Y2, naive Pebble: the layout that anyone would write first, driven well. A
// record per execution, an index by (job, status, thing), an index of what is
// pending for each thing, and counters by (job, status) written once per
// batch. One goroutine batches, a second waits for the disk.

const naiveJob = "job-000001"

const (
	queued byte = iota
	inProgress
	succeeded
	statuses
)

// record is an execution as the naive layout keeps it.
type record struct {
	status                       byte
	version                      int64
	queuedAt, startedAt, updated int64
	number                       int64
	details                      []byte
}

const recordHead = 1 + 5*8

func (r record) append(dst []byte) []byte {
	dst = append(dst, r.status)
	for _, v := range [...]int64{r.version, r.queuedAt, r.startedAt, r.updated, r.number} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v))
	}
	return append(dst, r.details...)
}

// parseRecord reads what append wrote. Details are left out: every update
// replaces them.
func parseRecord(b []byte) (record, error) {
	if len(b) < recordHead {
		return record{}, fmt.Errorf("record of %d bytes", len(b))
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[1+8*i:])) }
	return record{status: b[0], version: at(0), queuedAt: at(1), startedAt: at(2), updated: at(3), number: at(4)}, nil
}

func recordKey(dst, thing []byte) []byte {
	dst = append(dst, "r"+naiveJob+"\x00"...)
	return append(dst, thing...)
}

func statusKey(dst, thing []byte, status byte) []byte {
	dst = append(dst, "s"+naiveJob+"\x00"...)
	return append(append(dst, status), thing...)
}

// pendingKey sorts a thing's work as it is handed out: in progress first, then
// by when it was queued.
func pendingKey(dst, thing []byte, status byte, queuedAt int64) []byte {
	rank := byte(1)
	if status == inProgress {
		rank = 0
	}
	dst = append(append(append(dst, 'p'), thing...), 0, rank)
	return append(binary.BigEndian.AppendUint64(dst, uint64(queuedAt)), naiveJob...)
}

func counterKey(status byte) []byte { return append([]byte("c"+naiveJob), 0, status) }

// puts is a batch that remembers its first error.
type puts struct {
	*pebble.Batch
	err error
}

func (p *puts) set(key, value []byte) {
	if err := p.Set(key, value, nil); p.err == nil {
		p.err = err
	}
}

func (p *puts) delete(key []byte) {
	if err := p.Delete(key, nil); p.err == nil {
		p.err = err
	}
}

// naive is the store. Only the writer goroutine touches counts, key and value
// once updates have begun.
type naive struct {
	db         *pebble.DB
	counts     [statuses]int64
	key, value []byte
	applied    atomic.Int64 // updates since it was opened

	queue   chan *updateCall
	syncing chan pendingSync
	done    chan struct{}
}

type pendingSync struct {
	batch *pebble.Batch
	calls []*updateCall
}

func openNaive(dir string) (*naive, error) {
	cache := pebble.NewCache(128 << 20)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache:                       cache,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		Logger:                      silent{},
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	n := &naive{
		db:    db,
		queue: make(chan *updateCall, maxBatch), syncing: make(chan pendingSync, 4), done: make(chan struct{}),
	}
	for status := range statuses {
		v, closer, err := db.Get(counterKey(status))
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			db.Close()
			return nil, err
		}
		n.counts[status] = int64(binary.BigEndian.Uint64(v))
		closer.Close()
	}
	go n.write()
	go n.answer()
	return n, nil
}

// write is the one writer: it takes whatever waits, decides, applies, and
// passes the batch on to be synced while it prepares the next.
func (n *naive) write() {
	defer close(n.syncing)
	for first := range n.queue {
		calls := drain(n.queue, append(make([]*updateCall, 0, 64), first), maxBatch)
		b := &puts{Batch: n.db.NewIndexedBatch()}
		now := time.Now().UnixMilli()
		for _, c := range calls {
			if c.err = n.apply(b, c, now); c.err == nil {
				n.applied.Add(1)
			}
		}
		n.keepCounts(b)
		if b.err == nil {
			b.err = n.db.ApplyNoSyncWait(b.Batch, pebble.Sync)
		}
		if b.err != nil {
			fail(calls, b.err)
			continue
		}
		n.syncing <- pendingSync{b.Batch, calls}
	}
}

func (n *naive) answer() {
	defer close(n.done)
	for p := range n.syncing {
		err := p.batch.SyncWait()
		if err != nil {
			fail(p.calls, err)
			continue
		}
		for _, c := range p.calls {
			c.done <- struct{}{}
		}
		p.batch.Close()
	}
}

func fail(calls []*updateCall, err error) {
	for _, c := range calls {
		c.err = err
		c.done <- struct{}{}
	}
}

// apply moves an execution one step: QUEUED, IN_PROGRESS, SUCCEEDED and back,
// so that both indexes change as they would in a real rollout.
func (n *naive) apply(b *puts, c *updateCall, now int64) error {
	n.key = recordKey(n.key[:0], c.thing)
	v, closer, err := b.Get(n.key)
	if err != nil {
		return fmt.Errorf("%s: %w", c.thing, err)
	}
	r, err := parseRecord(v)
	closer.Close()
	if err != nil {
		return err
	}
	if c.expected != 0 && c.expected != r.version {
		return fmt.Errorf("expected version %d of %s, found %d", c.expected, c.thing, r.version)
	}
	before := r
	r.version++
	r.updated, r.details = now, c.details
	r.status = (r.status + 1) % statuses
	switch r.status {
	case queued:
		r.queuedAt, r.startedAt = now, 0
	case inProgress:
		r.startedAt = now
	}
	n.value = r.append(n.value[:0])
	b.set(n.key, n.value)
	n.key = statusKey(n.key[:0], c.thing, before.status)
	b.delete(n.key)
	n.key = statusKey(n.key[:0], c.thing, r.status)
	b.set(n.key, nil)
	if before.status != succeeded {
		n.key = pendingKey(n.key[:0], c.thing, before.status, before.queuedAt)
		b.delete(n.key)
	}
	if r.status != succeeded {
		n.key = pendingKey(n.key[:0], c.thing, r.status, r.queuedAt)
		b.set(n.key, nil)
	}
	n.counts[before.status]--
	n.counts[r.status]++
	c.version = r.version
	return nil
}

func (n *naive) keepCounts(b *puts) {
	for status, count := range n.counts {
		b.set(counterKey(byte(status)), binary.BigEndian.AppendUint64(nil, uint64(count)))
	}
}

// load queues an execution for each of things and returns once all are
// durable. It must run before the first update.
func (n *naive) load(ctx context.Context, things int) error {
	const perBatch = 10_000
	now := time.Now().UnixMilli()
	var thing []byte
	for next := 0; next < things; {
		b := &puts{Batch: n.db.NewBatchWithSize(2 << 20)}
		for end := min(next+perBatch, things); next < end; next++ {
			thing = appendThing(thing[:0], next)
			n.value = record{status: queued, version: 1, queuedAt: now, updated: now, number: 1}.append(n.value[:0])
			n.key = recordKey(n.key[:0], thing)
			b.set(n.key, n.value)
			n.key = statusKey(n.key[:0], thing, queued)
			b.set(n.key, nil)
			n.key = pendingKey(n.key[:0], thing, queued, now)
			b.set(n.key, nil)
			n.counts[queued]++
		}
		n.keepCounts(b)
		if b.err == nil {
			b.err = b.Commit(pebble.Sync)
		}
		if b.err != nil {
			return b.err
		}
		b.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Close syncs what was asked for; like Pebble itself it leaves memtables to be
// replayed from the log.
func (n *naive) Close() error {
	close(n.queue)
	<-n.done
	return n.db.Close()
}

// silent keeps Pebble's chatter out of the table; what is fatal still stops the process.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
