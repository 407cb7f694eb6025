package broker

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// index finds the subscriptions that match a topic.
//
// Every filter, with or without wildcards, is a key of one map. A topic is looked up once as it is and once
// for every shape of wildcard filter that somebody uses: the shape says which levels to replace by "+" and
// where to cut for "#", which makes the one filter of that shape that matches. A fleet uses a handful of
// shapes however many devices it has, so a subscription costs a map entry and no tree, and a publish a few
// look-ups. With topics of at most 8 levels there are at most some hundred shapes, whoever tries.
type index struct {
	seed   maphash.Seed
	shards [64]shard
	mu     sync.Mutex // guards count and changes of shapes
	count  map[shape]int
	shapes atomic.Pointer[[]shape]
	size   atomic.Int64
}

type shard struct {
	mu     sync.RWMutex
	leaves map[string]leaf
}

// leaf is who subscribes a filter: mostly one client, so that is what costs least.
type leaf struct {
	one  *subscription
	many *crowd
}

// crowd is the subscribers of a filter that has several, or groups.
type crowd struct {
	list   []*subscription
	groups []*group
}

// shape is what a wildcard filter has besides words.
type shape struct {
	plus   uint32 // the levels that are "+"
	levels uint8  // levels before "#", or of the whole filter
	rest   bool   // ends in "#"
}

// subscription is one filter of one session. The session's mutex guards what a new SUBSCRIBE may change.
type subscription struct {
	s      *session
	filter string // without $share/group/
	group  *group // nil unless shared
	at     int32  // its place in the crowd or group
	id     uint32
	opts   options
}

// name is the filter as the client gave it.
func (u *subscription) name() string {
	if u.group == nil {
		return u.filter
	}
	return sharePrefix + u.group.name + "/" + u.filter
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed(), count: map[shape]int{}}
	x.shapes.Store(new([]shape))
	for i := range x.shards {
		x.shards[i].leaves = map[string]leaf{}
	}
	return x
}

func (x *index) shardOf(filter string) *shard {
	return &x.shards[maphash.String(x.seed, filter)%uint64(len(x.shards))]
}

// shapeOf returns the shape of a filter, and whether it has wildcards at all.
func shapeOf(filter string) (shape, bool) {
	var s shape
	for {
		level, rest, more := strings.Cut(filter, "/")
		switch level {
		case "#":
			s.rest = true
			return s, true
		case "+":
			s.plus |= 1 << s.levels
		}
		s.levels++
		if !more {
			return s, s.plus != 0
		}
		filter = rest
	}
}

// add adds u, whose session has no other subscription of that filter and group.
func (x *index) add(u *subscription, groupName string) {
	x.size.Add(1)
	s, wild := shapeOf(u.filter)
	if wild {
		x.mu.Lock()
		x.count[s]++
		if x.count[s] == 1 {
			x.publishShapes()
		}
		x.mu.Unlock()
	}
	h := x.shardOf(u.filter)
	h.mu.Lock()
	defer h.mu.Unlock()
	l, found := h.leaves[u.filter]
	switch {
	case groupName != "":
		if l.many == nil {
			l.many = &crowd{}
			if l.one != nil {
				l.many.add(l.one)
				l.one = nil
			}
		}
		l.many.join(u, groupName)
	case !found:
		l.one = u
	default:
		if l.many == nil {
			l.many = &crowd{}
			l.many.add(l.one)
			l.one = nil
		}
		l.many.add(u)
	}
	h.leaves[u.filter] = l
}

func (x *index) remove(u *subscription) {
	x.size.Add(-1)
	h := x.shardOf(u.filter)
	h.mu.Lock()
	l := h.leaves[u.filter]
	switch {
	case l.many == nil:
		delete(h.leaves, u.filter)
	default:
		if u.group != nil {
			l.many.leave(u)
		} else {
			l.many.remove(u)
		}
		if len(l.many.list)+len(l.many.groups) == 0 {
			delete(h.leaves, u.filter)
		}
	}
	h.mu.Unlock()
	if s, wild := shapeOf(u.filter); wild {
		x.mu.Lock()
		if x.count[s]--; x.count[s] == 0 {
			delete(x.count, s)
			x.publishShapes()
		}
		x.mu.Unlock()
	}
}

func (x *index) publishShapes() {
	shapes := make([]shape, 0, len(x.count))
	for s := range x.count {
		shapes = append(shapes, s)
	}
	x.shapes.Store(&shapes)
}

func (c *crowd) add(u *subscription) {
	u.at = int32(len(c.list))
	c.list = append(c.list, u)
}

func (c *crowd) remove(u *subscription) {
	c.list = removeAt(c.list, u)
}

// removeAt takes u out of list, putting the last one in its place.
func removeAt(list []*subscription, u *subscription) []*subscription {
	last := list[len(list)-1]
	list[u.at], last.at = last, u.at
	list[len(list)-1] = nil
	list = list[:len(list)-1]
	if cap(list) > 64 && len(list) < cap(list)/4 {
		list = slices.Clone(list)
	}
	return list
}

// walk calls visit with each leaf that matches topic, with the leaf's shard locked for reading, until visit
// returns false.
func (x *index) walk(topic string, visit func(leaf) bool) {
	if topic == "" {
		return
	}
	h := x.shardOf(topic)
	h.mu.RLock()
	l, found := h.leaves[topic]
	more := !found || visit(l)
	h.mu.RUnlock()
	shapes := *x.shapes.Load()
	if !more || len(shapes) == 0 {
		return
	}
	var ends [maxLevels]int // where each level ends
	levels := 0
	for i := 0; i < len(topic) && levels < maxLevels-1; i++ {
		if topic[i] == '/' {
			ends[levels] = i
			levels++
		}
	}
	ends[levels] = len(topic)
	levels++
	var room [320]byte
	for _, s := range shapes {
		if int(s.levels) != levels && (!s.rest || int(s.levels) > levels) {
			continue
		}
		if topic[0] == '$' && (s.plus&1 != 0 || s.levels == 0) {
			continue // [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
		}
		key := room[:0]
		start := 0
		for i := range int(s.levels) {
			if i > 0 {
				key = append(key, '/')
			}
			if s.plus&(1<<i) != 0 {
				key = append(key, '+')
			} else {
				key = append(key, topic[start:ends[i]]...)
			}
			start = ends[i] + 1
		}
		if s.rest {
			if s.levels > 0 {
				key = append(key, '/')
			}
			key = append(key, '#')
		}
		h := &x.shards[maphash.Bytes(x.seed, key)%uint64(len(x.shards))]
		h.mu.RLock()
		l, found := h.leaves[string(key)]
		more := !found || visit(l)
		h.mu.RUnlock()
		if !more {
			return
		}
	}
}

// has reports whether any subscription matches topic.
func (x *index) has(topic string) bool {
	found := false
	x.walk(topic, func(leaf) bool {
		found = true
		return false
	})
	return found
}

// match appends to list the subscriptions that get a message on topic: each ordinary one, and one of each
// group. several says that a session may be there more than once.
func (x *index) match(list []*subscription, topic string, qos byte) (_ []*subscription, several bool) {
	leaves := 0
	x.walk(topic, func(l leaf) bool {
		leaves++
		if l.many == nil {
			list = append(list, l.one)
			return true
		}
		list = append(list, l.many.list...)
		for _, g := range l.many.groups {
			if u := g.pick(qos, nil); u != nil {
				list = append(list, u)
			}
			leaves++
		}
		return true
	})
	return list, leaves > 1
}
