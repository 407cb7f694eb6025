package engine

import "sync"

// changes hand each growth of the feed on to whoever follows it. The store's channel delivers to one receiver only.
type changes struct {
	mu      sync.Mutex
	readers map[chan struct{}]struct{}
	quit    chan struct{} // ends who hands on; nil while there are no readers
	gone    chan struct{} // closed when it has ended
}

// Changes returns a channel of the caller's own, which delivers after the feed has grown: at least once after the last
// time, many may share one delivery. stop gives it back; the caller must call it once.
func (g *Engine) Changes() (changed <-chan struct{}, stop func()) {
	c := &g.changes
	own := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers == nil {
		c.readers = map[chan struct{}]struct{}{}
	}
	c.readers[own] = struct{}{}
	if c.quit == nil {
		c.quit, c.gone = make(chan struct{}), make(chan struct{})
		go c.handOn(g.store.Changed(), c.quit, c.gone)
	}
	return own, func() { c.leave(own) }
}

func (c *changes) leave(own chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, own)
	if len(c.readers) == 0 && c.quit != nil {
		close(c.quit)
		gone := c.gone
		c.quit, c.gone = nil, nil
		c.mu.Unlock()
		<-gone // there is never more than one
		c.mu.Lock()
	}
}

func (c *changes) handOn(changed <-chan struct{}, quit, gone chan struct{}) {
	defer close(gone)
	for {
		select {
		case <-quit:
			return
		case <-changed:
		}
		c.mu.Lock()
		for own := range c.readers {
			select {
			case own <- struct{}{}:
			default: // it has not taken the last one yet
			}
		}
		c.mu.Unlock()
	}
}
