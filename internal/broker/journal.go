package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// journal gathers changes and writes them to the store, one batch at a time: while one is written the next
// gathers. Of several changes to one key in a batch the last counts, and a message that is acknowledged
// before its batch is written never reaches the store. With no store nothing is kept and nothing waits.
type journal struct {
	store SessionStore
	log   *slog.Logger

	mu     sync.Mutex
	next   *batch
	closed bool
	wake   chan struct{} // holds one token: there is something to write
	stop   chan struct{}
	done   chan struct{}
}

// lazily is how long a change that nobody waits for may gather company. Losing it costs a repeated message.
const lazily = 200 * time.Millisecond

// retryAfter is the pause after a failed write.
const retryAfter = time.Second

type batch struct {
	changes map[string]entry
	urgent  bool
	done    chan struct{} // closed once written, or failed
	err     error
}

type entry struct {
	value []byte
	fresh bool     // the store has no such key unless this batch brings it
	owner *session // of a message: is told once it is written
	seq   uint64
}

func newJournal(store SessionStore, log *slog.Logger) *journal {
	if store == nil {
		return nil
	}
	j := &journal{store: store, log: log, next: newBatch(), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{})}
	go j.run()
	return j
}

// failed is a batch that has come to nothing.
func failed(err error) *batch {
	b := &batch{done: make(chan struct{}), err: err}
	close(b.done)
	return b
}

func newBatch() *batch {
	return &batch{changes: map[string]entry{}, done: make(chan struct{})}
}

// put keeps value under key. wait says that the caller will wait for the batch, which put returns.
func (j *journal) put(key string, e entry, wait bool) *batch {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return failed(ErrClosed)
	}
	b := j.next
	if _, found := b.changes[key]; found {
		e.fresh = false
	}
	b.changes[key] = e
	j.kick(b, wait)
	return b
}

// drop removes a key, some time soon.
func (j *journal) drop(key string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	b := j.next
	if e, found := b.changes[key]; found && e.fresh {
		delete(b.changes, key)
		return
	}
	b.changes[key] = entry{}
	j.kick(b, false)
}

// kick wakes the writer, at once for an urgent change and for the first one of a batch. j.mu is held.
func (j *journal) kick(b *batch, urgent bool) {
	if urgent && !b.urgent || len(b.changes) == 1 || len(b.changes) == 4096 {
		b.urgent = b.urgent || urgent || len(b.changes) == 4096
		j.poke()
	}
}

// wait returns once b is durable, or could not be made so.
func (b *batch) wait() error {
	if b == nil {
		return nil
	}
	<-b.done
	return b.err
}

func (j *journal) run() {
	defer close(j.done)
	for {
		select {
		case <-j.wake:
		case <-j.stop:
			j.write()
			return
		}
		j.mu.Lock()
		urgent := j.next.urgent
		j.mu.Unlock()
		if !urgent {
			j.pause(lazily, j.wake)
		}
		if !j.write() {
			j.pause(retryAfter, nil)
			j.poke()
		}
	}
}

// pause waits for d, or for cut, or for the end.
func (j *journal) pause(d time.Duration, cut <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cut:
	case <-j.stop:
	}
}

func (j *journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// write writes the batch that has gathered, and reports whether that went well.
func (j *journal) write() bool {
	j.mu.Lock()
	b := j.next
	j.next = newBatch()
	j.mu.Unlock()
	if len(b.changes) > 0 {
		changes := make([]Change, 0, len(b.changes))
		for k, e := range b.changes {
			changes = append(changes, Change{[]byte(k), e.value})
		}
		b.err = j.store.Write(context.Background(), changes)
	}
	if b.err != nil {
		j.log.Error("sessions not stored, will try again", "changes", len(b.changes), "error", b.err)
		j.mu.Lock()
		for k, e := range b.changes {
			if _, newer := j.next.changes[k]; !newer {
				e.fresh = false
				j.next.changes[k] = e
			}
		}
		j.mu.Unlock()
	}
	close(b.done)
	if b.err == nil {
		for _, e := range b.changes {
			if e.owner != nil {
				e.owner.stored(e.seq)
			}
		}
	}
	return b.err == nil
}

// close writes what is left and stops. What is put later is refused.
func (j *journal) close() {
	if j == nil {
		return
	}
	j.mu.Lock()
	closed := j.closed
	j.closed = true
	j.mu.Unlock()
	if !closed {
		close(j.stop)
	}
	<-j.done
}
