package engine

import (
	"context"
	"time"

	"muster"
	"muster/internal/store"
)

const (
	// slice bounds how many executions one transaction of the loop touches: about 2 ms of the writer's
	// time, so that device calls never wait long behind a rollout or a sweep.
	slice = 512
	// busySlice is the slice while somebody asks for something: it is small beside what a device waits
	// for anyway, which is the sync of its own batch.
	busySlice = 192
	// expireCost is what the end of an execution costs, counted in executions that are made.
	expireCost = 2
	// retentionRetry is how long a job that is due for deletion waits when enough are being deleted.
	retentionRetry = time.Minute
	// retryAfter is how long the loop rests after the store refused.
	retryAfter = time.Second
)

// Run does what falls due until ctx ends. With a manual clock that is what is due at the moment the
// clock stands at; Advance does the rest.
func (g *Engine) Run(ctx context.Context) {
	_, manual := g.clock.(*ManualClock)
	// The limits may be others than those of the run before.
	err := g.moment(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		g.reconsider(tx, now)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		g.log.Error("whether jobs that wait may begin was not looked at", "error", err)
	}
	var grown <-chan struct{} // nil where nothing is settled behind the feed
	if !g.store.Exact() {
		changed, stop := g.Changes()
		defer stop()
		grown = changed
	}
	for ctx.Err() == nil {
		next, err := g.Tick(ctx)
		var wait <-chan time.Time
		switch {
		case err != nil && ctx.Err() == nil:
			g.log.Error("background work failed; it will be tried again", "error", err)
			wait = time.After(retryAfter)
		case !manual:
			// A deadline of a device's or another process's making is noticed within a minute even if nobody tells.
			rest := time.Minute
			if !g.store.Exact() {
				rest = sharedRest
			}
			if next != 0 {
				rest = min(rest, next.Sub(g.clock.Now()))
			}
			wait = time.After(rest)
		}
		g.idle(ctx, wait, grown)
	}
}

// idle waits until there may be something to do: because somebody says so, because it is time, or because the feed
// tells of what makes a job ripe to be settled.
func (g *Engine) idle(ctx context.Context, wait <-chan time.Time, grown <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			return
		case <-wait:
			return
		case <-grown:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settlePause):
		}
		g.ticking.Lock()
		work, err := g.settle(ctx)
		g.ticking.Unlock()
		if work || err != nil {
			return
		}
	}
}

// Tick does all that is due now, slice by slice, and returns when the next thing falls due, 0 for never.
func (g *Engine) Tick(ctx context.Context) (next muster.Time, err error) {
	g.ticking.Lock()
	defer g.ticking.Unlock()
	return g.tick(ctx)
}

func (g *Engine) tick(ctx context.Context) (next muster.Time, err error) {
	worked := 0
	if g.watch != nil {
		ended := g.watch(ctx)
		defer func() { ended(Tick{Deadlines: worked, Err: err}) }()
	}
	defer func() {
		switch {
		case err != nil && ctx.Err() == nil:
			g.counted.failures.Add(1)
		case worked > 0:
			g.counted.ticks.Add(1)
		}
	}()
	var due []store.Deadline
	var at muster.Time
	for ctx.Err() == nil {
		if _, err := g.settle(ctx); err != nil {
			return next, err
		}
		done, size := 0, slice
		if asked := g.asked.Load(); asked != g.heard {
			g.heard, size = asked, busySlice
		}
		size = min(size, g.most)
		err := g.moment(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
			budget := size
			due, at = tx.Due(now, size), now
			done = 0
			for _, d := range due {
				if budget <= 0 {
					break
				}
				spent, err := g.work(tx, d, now, budget)
				if err != nil {
					return err
				}
				budget -= spent + 1
				done++
			}
			next = tx.NextDue()
			return nil
		})
		if err != nil {
			return next, err
		}
		g.counted.note(due[:done], len(due)-done, at)
		if done == 0 {
			return next, nil
		}
		worked += done
	}
	return next, ctx.Err()
}

// work does a slice of what a deadline asks for. The deadline is replaced by where the work goes on,
// or gone when it is done.
func (g *Engine) work(tx store.Tx, d store.Deadline, now muster.Time, budget int) (spent int, err error) {
	switch d.Kind {
	case store.Rollout:
		return g.rollout(tx, d, now, budget)
	case store.Sweep:
		return sweep(tx, d, now, budget)
	case store.Delete:
		return remove(tx, d, now, budget)
	case store.Timer:
		expire(tx, d, now)
		return expireCost - 1, nil
	case store.Count:
		return countTargets(tx, d, now, budget)
	case store.Bake:
		baked(tx, d, now)
		return 0, nil
	case store.Room:
		makeRoom(tx, d, now)
		return 0, nil
	case store.Schedule:
		g.schedule(tx, d, now)
		return 0, nil
	case store.Shown:
		return tellShown(tx, d, now, budget)
	case store.Turn:
		return g.turns(tx, d, now, budget)
	case store.Retention:
		g.retain(tx, d, now)
		return 0, nil
	}
	g.log.Error("a deadline of unknown kind is dropped", "kind", d.Kind, "subject", d.Subject)
	tx.Delete(d)
	return 0, nil
}
