package broker

import (
	"context"
	"strings"
	"sync"
)

// retained keeps the last retained message of each topic, whoever's session ends [MQTT3-3.1.2-7], in a tree by level: a filter with wildcards is
// followed only where there is something.
type retained struct {
	b     *Broker
	mu    sync.RWMutex
	root  branch
	count int
	bytes int
}

type branch struct {
	m    *Message
	next map[string]*branch
}

// keep makes m the retained message of its topic, or removes that if m is empty. ok is false when there is no room
// for it. [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT3-3.3.1-5] [MQTT3-3.3.1-7] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11]
func (t *retained) keep(m *Message) (kept *batch, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := retainedKey(m.Topic)
	if len(m.Payload) == 0 {
		if t.cut(m.Topic) {
			// Waited for, since a message that comes back from the dead is worse than one that is repeated.
			return t.b.journal.put(key, entry{}, true), true
		}
		return nil, true
	}
	m.own()
	l := &t.b.limits
	var old int
	at := t.find(m.Topic)
	if at != nil && at.m != nil {
		old = at.m.weight()
	} else if t.count >= l.Retained {
		return nil, false
	}
	if t.bytes-old+m.weight() > l.RetainedBytes {
		return nil, false
	}
	t.set(m)
	if t.b.journal != nil {
		kept = t.b.journal.put(key, entry{value: encodeMessage(&outgoing{m: m, topic: m.Topic, qos: m.QoS, retain: true, id: 1}, 0)}, true)
	}
	return kept, true
}

func (t *retained) find(topic string) *branch {
	at := &t.root
	for level := range strings.SplitSeq(topic, "/") {
		if at = at.next[level]; at == nil {
			return nil
		}
	}
	return at
}

func (t *retained) set(m *Message) {
	at := &t.root
	for level := range strings.SplitSeq(m.Topic, "/") {
		next := at.next[level]
		if next == nil {
			next = &branch{}
			if at.next == nil {
				at.next = map[string]*branch{}
			}
			at.next[strings.Clone(level)] = next
		}
		at = next
	}
	if at.m == nil {
		t.count++
	} else {
		t.bytes -= at.m.weight()
	}
	at.m = m
	t.bytes += m.weight()
}

// cut removes the message of topic and the branches that it alone held.
func (t *retained) cut(topic string) bool {
	path := []*branch{&t.root}
	levels := strings.Split(topic, "/")
	for _, level := range levels {
		next := path[len(path)-1].next[level]
		if next == nil {
			return false
		}
		path = append(path, next)
	}
	leaf := path[len(path)-1]
	if leaf.m == nil {
		return false
	}
	t.count--
	t.bytes -= leaf.m.weight()
	leaf.m = nil
	for i := len(levels) - 1; i >= 0 && path[i+1].m == nil && len(path[i+1].next) == 0; i-- {
		delete(path[i].next, levels[i])
	}
	return true
}

// match returns the retained messages that filter matches.
func (t *retained) match(filter string) []*Message {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.count == 0 {
		return nil
	}
	return t.root.match(nil, filter, true)
}

func (n *branch) match(found []*Message, filter string, first bool) []*Message {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return n.all(found, first)
	case "+":
		for name, next := range n.next {
			if first && strings.HasPrefix(name, "$") {
				continue // [MQTT-4.7.2-1]
			}
			found = next.end(found, rest, more)
		}
	default:
		if next := n.next[level]; next != nil {
			found = next.end(found, rest, more)
		}
	}
	return found
}

// end goes on with the rest of a filter, or takes what is here when there is none.
func (n *branch) end(found []*Message, rest string, more bool) []*Message {
	if more {
		return n.match(found, rest, false)
	}
	if n.m != nil {
		found = append(found, n.m)
	}
	return found
}

func (n *branch) all(found []*Message, first bool) []*Message {
	if n.m != nil {
		found = append(found, n.m)
	}
	for name, next := range n.next {
		if first && strings.HasPrefix(name, "$") {
			continue // [MQTT-4.7.2-1]
		}
		found = next.all(found, false)
	}
	return found
}

// sendRetained sends c what is retained below a filter it has subscribed.
func (c *Client) sendRetained(w wanted, subID uint32) {
	b, s := c.b, c.s
	var ids []uint32
	if subID != 0 {
		ids = []uint32{subID}
	}
	now := b.now()
	for _, m := range b.retained.match(w.filter) {
		if m.expired(now) {
			b.retained.expire(m) // [MQTT-3.3.2-5]
			continue
		}
		s.mu.Lock()
		if s.client != c || c.closing {
			s.mu.Unlock()
			return
		}
		s.give(m, min(m.QoS, w.opts.qos()), true, ids, nil, false) // with RETAIN [MQTT3-3.3.1-8]
		much := c.pending() > b.limits.Buffer/2
		s.mu.Unlock()
		if much && !c.flush() {
			return
		}
	}
}

// expire removes a message that has had its time, unless another has taken its place.
func (t *retained) expire(m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.find(m.Topic); at != nil && at.m == m {
		t.cut(m.Topic)
		t.b.journal.drop(retainedKey(m.Topic))
	}
}

// restore reads what an earlier broker kept.
func (t *retained) restore(ctx context.Context, store SessionStore) error {
	now := t.b.now()
	return store.Scan(ctx, []byte("r"), func(key, value []byte) error {
		m, _, _, err := decodeMessage(value)
		if err != nil {
			return err
		}
		if m.expired(now) {
			t.b.journal.drop(string(key))
			return nil
		}
		t.set(m)
		return nil
	})
}
