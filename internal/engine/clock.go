package engine

import (
	"context"
	"strconv"
	"sync"
	"time"

	"muster"
	"muster/internal/store"
)

// SystemClock is the real time, held back from going back.
type SystemClock struct {
	mu   sync.Mutex
	last muster.Time
}

// Now is the present moment, never before one it returned earlier.
func (c *SystemClock) Now() muster.Time {
	now := muster.At(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, now)
	return c.last
}

// A ManualClock stands still until it is moved. Its time is kept in the store, and never goes back.
type ManualClock struct {
	mu  sync.Mutex
	now muster.Time
}

// clockSetting is where the store keeps a manual clock's time.
const clockSetting = "clock"

// NewManualClock takes up the clock where the store has it, or starts it at a moment, whichever is later.
func NewManualClock(ctx context.Context, s store.Store, at muster.Time) (*ManualClock, error) {
	c := &ManualClock{now: at}
	err := s.View(ctx, func(tx store.Reader) error {
		if kept, err := strconv.ParseInt(tx.Setting(clockSetting), 10, 64); err == nil {
			c.now = max(c.now, muster.Time(kept))
		}
		return nil
	})
	return c, err
}

// Now is where the clock stands.
func (c *ManualClock) Now() muster.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ManualClock) set(t muster.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = max(c.now, t)
}

// NextDue is when something falls due next, 0 for never.
func (g *Engine) NextDue(ctx context.Context) (next muster.Time, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		next = tx.NextDue()
		return nil
	})
	return next, err
}

// Advance moves a manual clock to a moment, stopping at every moment at which something falls due on
// the way, and returns when everything that fell due is done: what happens then is stamped with the time
// it was due, not with the end of the jump.
func (g *Engine) Advance(ctx context.Context, to muster.Time) error {
	clock, ok := g.clock.(*ManualClock)
	if !ok {
		return muster.Errorf(muster.Invalid, "The clock is the real one; start the server with --clock=manual to move it")
	}
	g.ticking.Lock()
	defer g.ticking.Unlock()
	if now := clock.Now(); to < now {
		return muster.Errorf(muster.Invalid, "The clock stands at %s and cannot go back to %s", now.Time().Format(time.RFC3339Nano), to.Time().Format(time.RFC3339Nano))
	}
	for {
		next, err := g.tick(ctx)
		if err != nil {
			return err
		}
		if next == 0 || next > to {
			break
		}
		if err := g.moveClock(ctx, clock, next); err != nil {
			return err
		}
	}
	if err := g.moveClock(ctx, clock, to); err != nil {
		return err
	}
	_, err := g.tick(ctx)
	return err
}

// moveClock keeps the time before it lets anybody see it: a restart must not take it back.
func (g *Engine) moveClock(ctx context.Context, clock *ManualClock, to muster.Time) error {
	err := g.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		tx.Put(store.Setting{Name: clockSetting, Value: strconv.FormatInt(int64(to), 10)})
		return nil
	})
	if err == nil {
		clock.set(to)
	}
	return err
}

// Manual reports whether the clock has to be moved.
func (g *Engine) Manual() bool {
	_, ok := g.clock.(*ManualClock)
	return ok
}
