// Package engine does what is asked (one method per operation) and what time brings (the loop). Each
// act is a short story: load, decide by the rules of package muster, keep. It knows no JSON, topic,
// HTTP status, key or SQL.
package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/internal/meter"
	"muster/internal/store"
)

// A Clock tells the engine's time. It never goes back.
type Clock interface{ Now() muster.Time }

// Documents fetches a job document from where documentSource points.
type Documents interface {
	Fetch(ctx context.Context, source string) (text string, err error)
}

// Options are what an Engine needs beside its store.
type Options struct {
	Clock     Clock
	Documents Documents // nil: documentSource is refused
	Log       *slog.Logger
	// Retention is how long jobs that are over are kept; 0: 730 days.
	Retention time.Duration
	Limits    Limits
	// Ticking is called when a round of the loop begins; what it returns, when the round has ended. nil: nobody watches.
	Ticking func(context.Context) func(Tick)
}

// DefaultRetention is how long AWS keeps jobs and executions without activity.
const DefaultRetention = 730 * 24 * time.Hour

// An Engine is the jobs service without its doors.
type Engine struct {
	store store.Store
	clock Clock
	docs  Documents
	log   *slog.Logger

	wake      chan struct{} // something may be due
	retention time.Duration
	limits    Limits
	ticking   sync.Mutex    // one round of work at a time: the moves of a manual clock are in order
	asked     atomic.Uint64 // updates that somebody asked for, and how many of them the loop had seen
	heard     uint64        // at its last slice, under ticking
	most      int           // that a slice may be; tests make it small
	settler   settler       // under ticking
	changes   changes
	watch     func(context.Context) func(Tick)
	counted   counters
}

// New makes an engine over a store. Run starts its loop.
func New(s store.Store, o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	g := &Engine{retention: o.Retention, limits: o.Limits.filled(), store: s, clock: o.Clock, docs: o.Documents, log: o.Log, wake: make(chan struct{}, 1), watch: o.Ticking, most: slice}
	g.counted.lateness.Over(meter.Lateness)
	return g
}

// update is what somebody asks for, at one moment.
func (g *Engine) update(ctx context.Context, on store.Keys, fn func(tx store.Tx, now muster.Time) error) error {
	g.asked.Add(1)
	return g.moment(ctx, on, fn)
}

// moment is store.Update with one moment for everything fn does.
func (g *Engine) moment(ctx context.Context, on store.Keys, fn func(tx store.Tx, now muster.Time) error) error {
	return g.store.Update(ctx, on, func(tx store.Tx) error { return fn(tx, g.clock.Now()) })
}

// rouse makes the loop look for work.
func (g *Engine) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Now is the engine's time.
func (g *Engine) Now() muster.Time { return g.clock.Now() }

// Page and the filters are the store's, so that doors need not know the store.
type (
	Page        = store.Page
	ThingFilter = store.ThingFilter
	JobFilter   = store.JobFilter
)
