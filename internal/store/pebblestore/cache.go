package pebblestore

import (
	"container/list"
	"sync"
)

// A cache keeps what was read from disk lately, by a job's number, up to a number of bytes.
type cache[V any] struct {
	mu    sync.Mutex
	bound int
	size  int
	by    map[uint32]*list.Element
	order list.List // latest use first
}

type cached[V any] struct {
	id   uint32
	v    V
	size int
}

func newCache[V any](bound int) *cache[V] {
	return &cache[V]{bound: bound, by: map[uint32]*list.Element{}}
}

func (c *cache[V]) get(id uint32) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[id]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cached[V]).v, true
}

func (c *cache[V]) put(id uint32, v V, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(id)
	c.by[id] = c.order.PushFront(cached[V]{id, v, size})
	for c.size += size; c.size > c.bound && c.order.Len() > 1; {
		c.removeLocked(c.order.Back().Value.(cached[V]).id)
	}
}

func (c *cache[V]) remove(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(id)
}

func (c *cache[V]) removeLocked(id uint32) {
	if e, ok := c.by[id]; ok {
		c.size -= e.Value.(cached[V]).size
		c.order.Remove(e)
		delete(c.by, id)
	}
}
