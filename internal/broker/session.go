package broker

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// session is what the broker knows of a client id: subscriptions, and QoS 1 messages waiting or
// unacknowledged. It lasts as long as its connection and then for its expiry interval.
// [MQTT-4.1.0-1] [MQTT3-4.1.0-1] [MQTT3-4.1.0-2]
//
// Its mutex also guards what its connection has to write. Locks are taken in the order Broker.mu,
// session.mu, then those of index, journal and rates.
type session struct {
	b      *Broker
	id     string
	number uint64 // one for each session of this process
	online atomic.Bool
	full   atomic.Bool // the connection takes no more QoS 1 at the moment

	mu       sync.Mutex
	client   *Client // nil while away
	identity any     // of its last connection; nil if that was before a restart
	dead     bool
	cold     bool   // what is in the store has not been looked at yet
	expiry   uint32 // seconds after the connection; 0: ends with it
	subs     []*subscription
	waiting  []element
	flying   []element // sent on this connection, not acknowledged, in the order sent
	bytes    int       // of both
	seq      uint64    // of the last element that was stored
	sent     uint64    // elements up to this one may have been sent in an earlier life
	lastID   uint16
	will     *will       // waits for its delay, or goes with the stored session
	willing  *time.Timer // ends the will's delay
	ending   *time.Timer // ends the session
	since    time.Time   // away since
}

// element is one QoS 1 message of a session.
type element struct {
	m      *Message // nil: in the store only
	ids    []uint32
	via    *group // the shared subscription it came by
	seq    uint64 // its key in the store; 0: not stored
	size   int32
	id     uint16 // packet identifier; 0 before it is first sent
	retain bool
	dup    bool // was sent before the broker restarted
	kept   bool // is in the store
	answer bool // was given by Reply
}

// stores reports whether the session is kept in the store.
func (s *session) stores() bool { return s.b.journal != nil && s.expiry > 0 }

// deliver hands the session a message that matched its subscriptions subs. The batch, if any, is to be waited
// for before the message may be called accepted. from is the session that published it.
func (s *session) deliver(m *Message, subs []*subscription, from *session) *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil
	}
	var (
		qos    byte
		asPub  bool
		any    bool
		ids    []uint32
		shared *group
	)
	for _, u := range subs {
		if u.opts.noLocal() && from == s {
			continue // [MQTT-3.8.3-3]
		}
		any = true
		qos = max(qos, u.opts.qos()) // [MQTT-3.3.4-2] [MQTT3-3.3.5-1]: the highest of those that overlap
		asPub = asPub || u.opts.asPub()
		if u.id != 0 {
			ids = append(ids, u.id)
		}
		if u.group != nil {
			shared = u.group
		}
	}
	if !any {
		return nil
	}
	// RETAIN only as published [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT3-3.3.1-9]; QoS as published and as granted [MQTT-3.8.4-8]
	// [MQTT-4.8.2-3] [MQTT3-3.8.4-6].
	return s.give(m, min(qos, m.QoS), m.Retain && asPub, ids, shared, s.client == nil || from != s)
}

// give sends m now, or lets it wait. QoS 0 is for those who are there and have room. [MQTT-4.3.1-1] [MQTT3-4.3.1-1]
// mu is held.
func (s *session) give(m *Message, qos byte, retain bool, ids []uint32, via *group, wake bool) *batch {
	if qos == 0 {
		if c := s.client; c != nil {
			o := outgoing{m: m, topic: m.Topic, ids: ids, retain: retain}
			switch {
			case c.pending() > s.b.limits.Buffer:
				c.lag()
			case !c.rates.room(len(m.Payload), s.b.now()) || !c.emit(&o):
				s.b.dropped.Add(1)
			case wake:
				c.wake()
			}
		}
		return nil
	}
	m.own()
	e := element{m: m, ids: ids, via: via, size: int32(m.weight()), retain: retain}
	var kept *batch
	if s.stores() {
		if err := s.load(false); err != nil {
			return failed(err)
		}
		s.seq++
		e.seq = s.seq
		kept = s.b.journal.put(messageKey(s.id, e.seq), entry{
			value: encodeElement(&e, s.client != nil), fresh: true, owner: s, seq: e.seq,
		}, true)
	}
	if !s.push(e) {
		return nil
	}
	s.pump()
	if c := s.client; c != nil && wake {
		c.wake()
	}
	return kept
}

// push lets e wait. When the session is full the oldest that waits gives way; when all that it holds is under
// way, e does, and push returns false.
func (s *session) push(e element) bool {
	l := &s.b.limits
	for len(s.waiting)+len(s.flying) >= l.Queue || s.bytes+int(e.size) > l.QueueBytes ||
		s.b.held.Load()+int64(e.size) > int64(l.Held) {
		if s.client != nil {
			s.client.lag()
		} else {
			s.b.dropped.Add(1) // of who is away the last ones are kept: nobody need look into that
		}
		if len(s.waiting) == 0 {
			s.forget(&e)
			return false
		}
		s.drop()
	}
	s.bytes += int(e.size)
	s.b.held.Add(int64(e.size))
	s.waiting = append(s.waiting, e)
	return true
}

// forget takes e out of the store.
func (s *session) forget(e *element) {
	if e.seq != 0 {
		s.b.journal.drop(messageKey(s.id, e.seq))
	}
}

// drop forgets the oldest that waits.
func (s *session) drop() {
	e := s.waiting[0]
	s.shift()
	s.bytes -= int(e.size)
	s.release(&e)
	s.forget(&e)
}

// release lets go of e's message in memory.
func (s *session) release(e *element) {
	if e.m != nil {
		s.b.held.Add(-int64(e.size))
		e.m = nil
	}
}

func (s *session) shift() {
	s.waiting[0] = element{}
	if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
}

// pump sends what waits, oldest first, as far as the client's receive maximum and the socket allow.
// In the order published, whatever the topic [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]. mu is held.
func (s *session) pump() {
	c := s.client
	if c == nil || !c.ready || c.closing {
		return
	}
	now := time.Time{}
	for len(s.waiting) > 0 && len(s.flying) < c.window && c.pending() <= s.b.limits.Buffer {
		// No more than the receive maximum [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2], and nothing else is held up by
		// that [MQTT-3.3.4-10] [MQTT-4.9.0-3].
		e := s.waiting[0]
		if e.m == nil {
			if s.load(true) != nil || len(s.waiting) == 0 || s.waiting[0].m == nil {
				break // the store cannot be read
			}
			continue
		}
		if now.IsZero() && !e.m.Expires.IsZero() {
			now = s.b.now()
		}
		if e.m.expired(now) {
			s.drop() // [MQTT-3.3.2-5]
			continue
		}
		o := outgoing{m: e.m, topic: e.m.Topic, ids: e.ids, qos: 1, retain: e.retain, id: e.id, answer: e.answer}
		o.dup = e.dup || e.id != 0 // [MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT3-3.3.1-1] [MQTT3-3.3.1-3]
		if e.id == 0 {
			// [MQTT-2.2.1-4]; kept when sent again [MQTT3-2.3.1-4] [MQTT-4.4.0-1]
			o.id = s.freeID()
		}
		if !c.emit(&o) {
			s.drop() // [MQTT-3.1.2-25]: too large for this client, so as if it had been sent
			s.b.dropped.Add(1)
			continue
		}
		e.id = o.id
		s.flying = append(s.flying, e) // [MQTT-4.3.2-2] [MQTT3-4.3.2-1]: unacknowledged until PUBACK [MQTT-4.3.2-3]
		s.shift()
	}
	if full := len(s.waiting) > 0; full != s.full.Load() {
		s.full.Store(full)
	}
}

// freeID returns a packet identifier that is not in use. [MQTT-4.3.2-1]
func (s *session) freeID() uint16 {
next:
	for {
		if s.lastID++; s.lastID == 0 {
			s.lastID = 1
		}
		for i := range s.flying {
			if s.flying[i].id == s.lastID {
				continue next
			}
		}
		for i := range s.waiting {
			if s.waiting[i].id == s.lastID {
				continue next
			}
			if s.waiting[i].id == 0 {
				break
			}
		}
		return s.lastID
	}
}

// acked ends the flight of a message, whatever the reason code: one that was refused is not sent again.
// [MQTT-4.4.0-2] [MQTT-4.8.2-6]
func (s *session) acked(c *Client, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c {
		return
	}
	for i := range s.flying {
		if s.flying[i].id != id {
			continue
		}
		s.bytes -= int(s.flying[i].size)
		s.release(&s.flying[i])
		s.forget(&s.flying[i])
		copy(s.flying[i:], s.flying[i+1:])
		s.flying[len(s.flying)-1] = element{}
		if s.flying = s.flying[:len(s.flying)-1]; len(s.flying) == 0 && cap(s.flying) > 4 {
			s.flying = nil
		}
		if len(s.waiting) > 0 {
			s.pump()
		}
		return
	}
}

// land puts what was under way back before what waits. Only the first of them have a packet identifier.
func (s *session) land() {
	if len(s.flying) == 0 {
		return
	}
	for i := range s.flying {
		s.sent = max(s.sent, s.flying[i].seq)
	}
	s.waiting = append(s.flying, s.waiting...)
	s.flying = nil
}

// stored learns that an element is in the store. A client that is away needs no copy in memory.
func (s *session) stored(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range [2][]element{s.waiting, s.flying} {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].seq == seq {
				list[i].kept = true
				if s.client == nil {
					s.release(&list[i])
				}
				return
			}
		}
	}
}

// cool lets go of the copies in memory of what is in the store.
func (s *session) cool() {
	for i := range s.waiting {
		if s.waiting[i].kept {
			s.release(&s.waiting[i])
		}
	}
}

// granted returns the QoS and subscription identifiers with which the session subscribes a topic.
func (s *session) granted(topic string) (qos byte, ids []uint32, any bool) {
	for _, u := range s.subs {
		if u.group == nil && Match(u.filter, topic) {
			any = true
			qos = max(qos, u.opts.qos())
			if u.id != 0 {
				ids = append(ids, u.id)
			}
		}
	}
	return qos, ids, any
}

// end removes all there is of the session. It returns what others in its shared subscriptions should get.
// b.mu and s.mu are held. [MQTT-4.1.0-2]
func (s *session) end() (orphans []element) {
	s.dead = true
	s.client = nil
	s.online.Store(false)
	if s.b.sessions[s.id] == s {
		delete(s.b.sessions, s.id)
	}
	for _, u := range s.subs {
		s.b.index.remove(u)
	}
	s.subs = nil
	s.land()
	if s.b.journal != nil {
		s.load(false)
		if slices.ContainsFunc(s.waiting, func(e element) bool { return e.via != nil }) {
			s.load(true)
		}
	}
	for i := range s.waiting {
		e := &s.waiting[i]
		if e.via != nil && e.m != nil {
			orphans = append(orphans, *e)
		}
		s.release(e)
		s.forget(e)
	}
	s.waiting, s.bytes = nil, 0
	// After its messages: a crash in between must not leave them to the next session of this id.
	s.b.journal.drop(sessionKey(s.id))
	for _, t := range []*time.Timer{s.ending, s.willing} {
		if t != nil {
			t.Stop()
		}
	}
	return orphans
}

// adopt finds new receivers for what a dead session owed to its groups. MQTT 5, 4.8.2: it should, for QoS 1
func (b *Broker) adopt(from *session, orphans []element) {
	for i := range orphans {
		e := &orphans[i]
		if e.m.expired(b.now()) {
			continue
		}
		if u := b.index.pickFrom(e.via, from); u != nil {
			u.s.deliver(e.m, []*subscription{u}, nil)
		}
	}
}

// leave is called when c's connection has ended. It returns a will to publish now.
func (b *Broker) leave(c *Client) {
	s := c.s
	b.mu.Lock()
	s.mu.Lock()
	if s.client != c {
		s.mu.Unlock()
		b.mu.Unlock()
		return
	}
	w, orphans := s.away(c)
	s.mu.Unlock()
	b.mu.Unlock()
	b.adopt(s, orphans)
	b.publishWill(c, w)
}

// away takes the connection off the session, which ends or begins to wait. b.mu and s.mu are held.
func (s *session) away(c *Client) (now *will, orphans []element) {
	b := s.b
	s.client = nil
	s.online.Store(false)
	s.full.Store(false)
	s.land()
	s.since = b.now()
	w := c.will
	s.will = nil
	if s.expiry == 0 {
		return w, s.end() // the will goes with its session [MQTT-3.1.2-8]
	}
	if w != nil && w.delay > 0 {
		s.will, w = w, nil
	}
	s.schedule()
	s.cool()
	if s.stores() { // [MQTT-3.1.2-23] [MQTT3-3.1.2-5]
		b.journal.put(sessionKey(s.id), entry{value: s.record()}, false)
	}
	return w, nil
}

// schedule sets the timers of a session whose client is away.
func (s *session) schedule() {
	b, since, gone := s.b, s.since, s.b.now().Sub(s.since)
	if s.expiry != never {
		s.ending = time.AfterFunc(max(0, time.Duration(s.expiry)*time.Second-gone), func() { b.expire(s, since, false) })
	}
	if s.will != nil && s.will.delay < s.expiry { // else it goes with the session
		s.willing = time.AfterFunc(max(0, time.Duration(s.will.delay)*time.Second-gone), func() { b.expire(s, since, true) })
	}
}

// expire is what the timers of a session whose client left at since call: for its will only, or for its end.
func (b *Broker) expire(s *session, since time.Time, willOnly bool) {
	b.mu.Lock()
	s.mu.Lock()
	if s.dead || s.client != nil || !s.since.Equal(since) || b.closing {
		s.mu.Unlock()
		b.mu.Unlock()
		return
	}
	w, gone := s.will, absent(s)
	s.will = nil
	var orphans []element
	if !willOnly {
		orphans = s.end()
	} else if s.stores() {
		b.journal.put(sessionKey(s.id), entry{value: s.record()}, false)
	}
	s.mu.Unlock()
	b.mu.Unlock()
	b.adopt(s, orphans)
	b.publishWill(gone, w)
}

// absent stands for a client that has gone, where one is asked for. b.mu is held.
func absent(s *session) *Client {
	c := &Client{s: s, closing: true}
	if s != nil {
		c.b, c.ID, c.Identity = s.b, s.id, s.identity
	}
	return c
}

// window is how many QoS 1 messages may be under way to a client with this receive maximum.
func (l *Limits) window(receiveMax uint16) int {
	if receiveMax == 0 {
		receiveMax = math.MaxUint16
	}
	return min(int(receiveMax), l.Unacknowledged)
}
