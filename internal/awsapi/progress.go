package awsapi

import (
	"context"
	"sync"
)

// progress is how far the feed has been told, for those who wait for it.
type progress struct {
	mu    sync.Mutex
	told  uint64
	moved chan struct{} // closed when told moves on; nil while nobody waits
}

func (p *progress) reach(told uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = told
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// look returns how far it has come, and what is closed when it comes further.
func (p *progress) look() (told uint64, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.told, p.moved
}

// Told waits until Follow has published all that the feed has now. Without a Follow that runs it waits for
// as long as ctx allows.
func (a *API) Told(ctx context.Context) error {
	var end uint64
	for {
		told, moved := a.told.look()
		switch {
		case end == 0:
			// The end is read once: a server that is never quiet must not keep its callers waiting.
			for from := told; ; from = end {
				entries, err := a.engine.Feed(ctx, from, batchEntries)
				if err != nil {
					return err
				}
				if len(entries) == 0 {
					break
				}
				end = entries[len(entries)-1].Seq
			}
			if end == 0 {
				return nil
			}
		case told >= end:
			return nil
		default:
			select {
			case <-moved:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
