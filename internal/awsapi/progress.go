package awsapi

import (
	"context"
	"sync"

	"muster"
)

// progress is how far the feed has been told, for those who wait for it.
type progress struct {
	mu    sync.Mutex
	place muster.Place
	told  map[uint32]uint64 // the last entry of each writer
	moved chan struct{}     // closed when telling moves on; nil while nobody waits
}

func (p *progress) reach(place muster.Place, entries []muster.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == nil {
		p.told = map[uint32]uint64{}
	}
	p.place = place
	for i := range entries {
		p.told[entries[i].Writer] = entries[i].Seq
	}
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// look returns how far it has come.
func (p *progress) look() muster.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place
}

// behind returns nil when all of what is listed has been told, else what is closed when telling moves on.
func (p *progress) behind(end map[uint32]uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	for writer, seq := range end {
		if p.told[writer] < seq {
			if p.moved == nil {
				p.moved = make(chan struct{})
			}
			return p.moved
		}
	}
	return nil
}

// Told waits until Follow has published all that the feed has now. Without a Follow that runs it waits for
// as long as ctx allows.
func (a *API) Told(ctx context.Context) error {
	// The end is read once: a server that is never quiet must not keep its callers waiting.
	end := map[uint32]uint64{}
	for from := a.told.look(); ; {
		entries, err := a.engine.Feed(ctx, from, batchEntries)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			end[entries[i].Writer] = entries[i].Seq
		}
		from = entries[len(entries)-1].Place
	}
	for {
		moved := a.told.behind(end)
		if moved == nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
