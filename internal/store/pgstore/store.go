// Package pgstore keeps rows in PostgreSQL, or in an engine that speaks like it, for as many nodes as there are.
//
// A node has a few connections that write. What devices do is gathered: the things of a batch are locked and read in
// one round trip, the functions run in memory, and all they wrote goes back, with the entry of the feed and the commit, in
// another. What needs lists runs alone on a connection beside those. Which rows an Update holds is found out by
// what it writes: when that is more than it was begun with, it is run again with all of it held.
//
// DESIGN.md in the directory above tells the rest.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"muster"
	"muster/internal/store"
)

// Options say where a store is. Zero values are good defaults.
type Options struct {
	URL string // postgres://…
	// Writers is how many connections gather what devices do. Default 2.
	Writers int
	// Others is how many more there are for what needs a transaction of its own. Default 3.
	Others int
	// Readers bounds the connections that only read. Default 8.
	Readers int
	// Patience is how long a node may be silent before another takes its work. Default 6 s.
	Patience time.Duration
	// FeedKept is how long the feed is kept. Default 1 h.
	FeedKept time.Duration
	// Manual says that this node's clock is moved by hand: it wants to be the only one.
	Manual bool
	// Aside says that this process only looks or loads: it does no background work.
	Aside  bool
	Logger *slog.Logger
	// OnBatch is told of every transaction that wrote something, once it is durable or has failed. nil: nobody is told. It
	// must be quick, and may be called by several at a time.
	OnBatch func(store.Batch)
}

// Store is a store.Store.
type Store struct {
	opts   Options
	log    *slog.Logger
	config *pgx.ConnConfig
	pool   *pgxpool.Pool
	now    func() time.Time // of this node's own affairs

	shared  []*waiting // of what devices do, by thing
	single  *waiting
	sharing sync.WaitGroup // workers that gather
	alone   sync.WaitGroup // the others
	seed    maphash.Seed
	under   atomic.Int64 // devices' acts that are under way

	life     context.Context // ends when nothing may go on any more
	end      context.CancelFunc
	closing  chan struct{}
	stopping atomic.Bool
	chores   sync.WaitGroup
	close    sync.Once

	leases leases
	feeds  feeds
	stats  counters

	mu     sync.Mutex
	failed error          // why the database does not answer
	self   string         // this node
	known  string         // the name under which it has entered the table of nodes
	own    map[int32]bool // numbers of its writers
	lost   chan struct{}  // told when the node was taken for dead
}

// Open opens the store, or makes it in an empty database.
func Open(o Options) (_ *Store, err error) {
	if o.Writers == 0 {
		o.Writers = 2
	}
	if o.Others == 0 {
		o.Others = 3
	}
	if o.Readers == 0 {
		o.Readers = 8
	}
	if o.Patience == 0 {
		o.Patience = 6 * time.Second
	}
	if o.FeedKept == 0 {
		o.FeedKept = time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	pc, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "The address of the database cannot be read: %v", err)
	}
	s := &Store{opts: o, log: o.Logger, now: time.Now, single: newWaiting(), seed: maphash.MakeSeed(), closing: make(chan struct{}),
		self: uuid.NewString(), own: map[int32]bool{}, lost: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	s.feeds.init()
	s.stats.Begin()
	params := pc.ConnConfig.RuntimeParams
	// A node that is stopped in the middle of a transaction must not hold up the others.
	params["idle_in_transaction_session_timeout"] = milliseconds(max(o.Patience, time.Second))
	params["lock_timeout"] = milliseconds(patience)
	params["statement_timeout"] = milliseconds(2 * transactionTime)
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = connectTime
	}
	pc.ConnConfig.ConnectTimeout = min(max(pc.ConnConfig.ConnectTimeout, time.Second), patience)
	pc.ConnConfig.DialFunc = dial
	s.config = pc.ConnConfig.Copy()
	pc.MaxConns = int32(o.Readers)
	pc.MinConns = 0
	pc.PingTimeout = connectTime
	pc.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		s.sign(c)
		return nil
	}
	if s.pool, err = pgxpool.NewWithConfig(s.life, pc); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.pool.Close()
			s.end()
		}
	}()
	// A database that is there, but busy, full or starting, is waited for; one that is not there is said at once.
	for begun := s.now(); ; {
		err = s.join()
		if err == nil {
			break
		}
		if state := sqlState(err); state == "" || !inTheWay(err) && !lost(err) || s.now().Sub(begun) > busyTime {
			return nil, err
		}
		rest := time.NewTimer(100 * time.Millisecond)
		<-rest.C
	}
	for range o.Writers {
		w := newWaiting()
		s.shared = append(s.shared, w)
		s.start(&worker{s: s, shared: true, waiting: w, done: &s.sharing, jobs: map[muster.JobID]bool{}, hot: map[muster.JobID]*hotJob{}})
	}
	for range o.Others {
		s.start(&worker{s: s, waiting: s.single, done: &s.alone, jobs: map[muster.JobID]bool{}, hot: map[muster.JobID]*hotJob{}})
	}
	s.chores.Go(s.beat)
	s.chores.Go(s.listen)
	s.chores.Go(s.announce)
	s.chores.Go(s.trim)
	return s, nil
}

func (s *Store) start(w *worker) {
	w.done.Add(1)
	go w.run()
}

// join brings the database to this program's format and makes this node known.
func (s *Store) join() error {
	ctx, cancel := context.WithTimeout(s.life, time.Minute)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return &muster.Error{Kind: muster.Unavailable, Message: "The database does not answer", Cause: err}
	}
	defer drop(conn)
	if err := migrate(ctx, conn); err != nil {
		return err
	}
	if err := s.enter(ctx, conn, s.node()); err != nil && !errors.Is(err, errFenced) { // it is in already at a second try
		return err
	}
	// A node with a clock that is moved by hand waits for the one before it to be found dead, if it is.
	seen := map[string]sighting{}
	for begun := s.now(); ; {
		err := s.claim(ctx, conn)
		if !errors.Is(err, errManual) {
			return err
		}
		if s.now().Sub(begun) > 2*s.opts.Patience {
			return errors.Join(err, s.leave(ctx, conn))
		}
		rest := time.NewTimer(s.opts.Patience / 6)
		<-rest.C
		if err := s.watch(ctx, conn, seen); err != nil {
			return err
		}
	}
}

func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	config := s.config.Copy()
	s.sign(config)
	return pgx.ConnectConfig(ctx, config)
}

// sign puts the name of this node on a connection.
func (s *Store) sign(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = signature + s.node() }

const signature = "muster/"

// drop closes a connection, whatever state it is in.
func drop(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// aFew devices' acts at a time share one worker: divided they would be smaller transactions, which cost as much.
const aFew = 32

// Update gives fn to the worker for its first thing, or, if it is about other rows, to one that runs it alone.
func (s *Store) Update(ctx context.Context, on store.Keys, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{ctx: ctx, on: on, fn: fn, since: s.now(), done: make(chan struct{})}
	to := s.single
	if len(on.Things) > 0 && len(on.Jobs)+len(on.Groups) == 0 && len(on.Things) <= batchAtMost {
		to = s.shared[0]
		if s.under.Add(1) > aFew {
			to = s.shared[maphash.String(s.seed, string(on.Things[0]))%uint64(len(s.shared))]
		}
		defer s.under.Add(-1)
	}
	if !to.add(r) {
		return errClosed
	}
	<-r.done // also when ctx ends: fn may be running
	return r.err
}

// View runs fn on a snapshot of what is committed.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.look(ctx, func(ctx context.Context) error { return s.view(ctx, fn) })
}

// look tries a read until the database answers or patience has run out.
func (s *Store) look(ctx context.Context, read func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := s.now()
	for {
		if s.stopping.Load() {
			return errClosed
		}
		bounded, cancel := context.WithTimeout(ctx, readTime)
		again, err := s.unreadable(ctx, read(bounded))
		cancel()
		if !again || s.now().Sub(start) > patience || s.stopping.Load() || ctx.Err() != nil {
			return err
		}
		rest := time.NewTimer(50 * time.Millisecond)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
	}
}

// refusal is what a View's function has returned: nothing of the database's.
type refusal struct{ error }

func (s *Store) view(ctx context.Context, fn func(store.Reader) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes one whose transaction has not ended
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.Exec(ctx, "COMMIT")
	}()
	r := &reader{s: s, ctx: ctx, q: counting{conn, &s.stats}, layers: []*layer{newLayer()}, herd: map[muster.ThingName]bool{}, jobs: map[muster.JobID]bool{}}
	err = fn(r)
	if r.err != nil {
		return r.err
	}
	if err != nil {
		return refusal{err}
	}
	return nil
}

// unreadable says of an error of a read what its caller is told, and whether it may go better.
func (s *Store) unreadable(ctx context.Context, err error) (again bool, _ error) {
	if err == nil {
		return false, nil // which does not say that it takes writes
	}
	if r, ok := errors.AsType[refusal](err); ok {
		return false, r.error
	}
	if _, ok := errors.AsType[*muster.Error](err); ok {
		return false, err
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if inTheWay(err) {
		return true, &muster.Error{Kind: muster.Unavailable, Message: "The database is busy; try again", Cause: err}
	}
	if !lost(err) {
		return false, &muster.Error{Kind: muster.Internal, Message: "the database refused a query", Cause: err}
	}
	s.broken(err)
	return true, &muster.Error{Kind: muster.Unavailable, Message: "The database does not answer; try again", Cause: err}
}

// broken notes that the database does not answer, well that it does.
func (s *Store) broken(err error) {
	s.mu.Lock()
	first := s.failed == nil
	s.failed = err
	s.mu.Unlock()
	if first && !s.stopping.Load() {
		s.log.Error("the database does not answer", "error", err)
	}
}

func (s *Store) well() {
	s.mu.Lock()
	was := s.failed != nil
	s.failed = nil
	s.mu.Unlock()
	if was {
		s.log.Info("the database answers again")
	}
}

func (s *Store) committed(updates int, took, commit time.Duration) {
	s.well()
	if commit == 0 {
		return // nothing was to be written
	}
	s.stats.Sizes.Observe(int64(updates))
	s.stats.Syncs.Took(commit)
	if s.opts.OnBatch != nil {
		s.opts.OnBatch(store.Batch{Updates: updates, Took: took, Sync: commit})
	}
	s.feeds.grown()
	select {
	case s.feeds.tell <- struct{}{}:
	default:
	}
}

// Health is nil while the database answers.
func (s *Store) Health() error {
	if s.stopping.Load() {
		return errClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return &muster.Error{Kind: muster.Unavailable, Message: "The database does not answer", Cause: s.failed}
	}
	return nil
}

// Abandon ends the store as a crash of its process would: what waits is not answered well, and nobody is told.
func (s *Store) Abandon() {
	s.close.Do(func() {
		s.stopping.Store(true)
		s.end()
		for _, w := range s.shared {
			w.close()
		}
		s.sharing.Wait()
		s.single.close()
		s.alone.Wait()
		close(s.closing)
		s.chores.Wait()
		s.pool.Close()
	})
}

// Close answers what waits and makes this node's end known, so that others need not wait to take its work.
func (s *Store) Close() (err error) {
	s.close.Do(func() {
		s.stopping.Store(true)
		for _, w := range s.shared {
			w.close()
		}
		s.sharing.Wait() // until then they hand on to the others
		s.single.close()
		s.alone.Wait()
		close(s.closing)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if conn, cerr := s.connect(ctx); cerr == nil {
			err = s.leave(ctx, conn)
			drop(conn)
		} else {
			err = fmt.Errorf("this node's end could not be made known: %w", cerr)
		}
		s.end()
		s.chores.Wait()
		s.pool.Close()
	})
	return err
}

// Backup is not for a store that others keep.
func (s *Store) Backup(context.Context, string) error {
	return muster.Errorf(muster.Invalid, "A store in PostgreSQL is backed up with its own tools, or by muster export")
}
