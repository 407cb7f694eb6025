package broker

import (
	"context"
	"time"
)

// Where several brokers keep their sessions in one store, each session is of one of them at a time. Who that is others
// decide: they have a broker take a session before its client is let in, and release one that another broker is to
// have.

// Take reads a session back from the store, if it is there and not in memory already.
func (b *Broker) Take(ctx context.Context, id string) error {
	if b.journal == nil || b.Holds(id) {
		return nil
	}
	now := b.now()
	var found *session
	err := b.journal.store.Scan(ctx, []byte(sessionKey(id)), func(key, value []byte) error {
		if string(key) != sessionKey(id) {
			return nil // of a client whose id begins like this one
		}
		b.mu.Lock()
		b.number++
		s := &session{b: b, id: id, number: b.number, cold: true}
		b.mu.Unlock()
		found = s
		return s.restore(value, now)
	})
	if err != nil {
		if found != nil {
			found.evict()
		}
		return err
	}
	if found == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing || b.sessions[id] != nil {
		found.evict()
		return nil
	}
	b.sessions[id] = found
	found.mu.Lock()
	found.schedule()
	found.mu.Unlock()
	return nil
}

// Holds reports whether a session is in memory, its client connected or away.
func (b *Broker) Holds(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[id] != nil
}

// Held are the ids of all sessions in memory.
func (b *Broker) Held() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, 0, len(b.sessions))
	for id := range b.sessions {
		ids = append(ids, id)
	}
	return ids
}

// Release sends a client away because it is connected elsewhere, and lets go of its session: what lasts of it is in the
// store when Release returns, and this broker does not touch it any more.
func (b *Broker) Release(id string) error {
	b.mu.Lock()
	s := b.sessions[id]
	if s == nil {
		b.mu.Unlock()
		return nil
	}
	s.mu.Lock()
	gone := absent(s)
	var last *will
	var orphans []element
	if displaced := s.client; displaced != nil {
		displaced.shut(SessionTakenOver, "another connection has this client id")
		last, orphans = s.away(displaced)
		gone = displaced
	}
	if !s.dead {
		s.quit()
	}
	s.mu.Unlock()
	b.mu.Unlock()
	b.adopt(s, orphans)
	b.publishWill(gone, last)
	return b.journal.flush()
}

// Abandon drops all sessions as if the process had ended: clients are sent away, and nothing more is written of them.
// They are others' by now.
func (b *Broker) Abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.journal.discard()
	for _, s := range b.sessions {
		s.mu.Lock()
		if c := s.client; c != nil {
			c.shut(ServerUnavailable, "this server has lost its place; connect again")
			c.will = nil
			s.client = nil
			s.online.Store(false)
			s.land()
		}
		s.quit()
		s.mu.Unlock()
	}
}

// quit takes a session out of memory and leaves what is stored. b.mu and s.mu are held.
func (s *session) quit() {
	s.dead = true
	if s.b.sessions[s.id] == s {
		delete(s.b.sessions, s.id)
	}
	s.evict()
	for i := range s.waiting {
		s.release(&s.waiting[i])
	}
	s.waiting, s.bytes = nil, 0
	for _, t := range []*time.Timer{s.ending, s.willing} {
		if t != nil {
			t.Stop()
		}
	}
}

// evict takes a session's subscriptions out of the index.
func (s *session) evict() {
	for _, u := range s.subs {
		s.b.index.remove(u)
	}
	s.subs = nil
}

// flush returns when all that was given to the journal before is written.
func (j *journal) flush() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	b := j.next
	b.urgent = true
	j.poke()
	j.mu.Unlock()
	return b.wait()
}

// discard forgets what is not written yet.
func (j *journal) discard() {
	if j == nil {
		return
	}
	j.mu.Lock()
	b := j.next
	j.next = newBatch()
	j.mu.Unlock()
	b.err = ErrClosed
	close(b.done)
}
