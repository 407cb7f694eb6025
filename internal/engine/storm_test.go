package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
	"muster/internal/store/pgstore"
	"muster/test/postgres"
)

// go test ./internal/engine -run Storm -seeds 100000 -seed 1
var (
	stormSeeds = flag.Int("seeds", 0, "how many storms; 0: 1000, or 40 with the race detector, or with -short")
	stormSeed  = flag.Uint64("seed", 1, "of the first storm")
)

const (
	stormActs      = 140
	stormRetention = 50 * time.Hour
)

// TestStorm lets random fleets do random things to random jobs, and holds what the engine makes of it
// against a world that is too simple to be wrong in the same way.
func TestStorm(t *testing.T) {
	seeds := *stormSeeds
	if seeds == 0 {
		if seeds = 1000; raceDetector || testing.Short() {
			seeds = 40
		}
	}
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(seeds) && failed.Load() < 3; n = next.Add(1) {
				seed := *stormSeed + uint64(n) - 1
				if acts, problems := storm(seed, &disk{vfs.NewCrashableMem()}); len(problems) > 0 {
					failed.Add(1)
					t.Errorf("-run Storm -seeds 1 -seed %d\n%s\n%s", seed, strings.Join(acts, "\n"), strings.Join(problems, "\n"))
				}
			}
		})
	}
	workers.Wait()
}

// TestStormInPostgres is the same over PostgreSQL, where a store that crashes leaves its connections to the server.
func TestStormInPostgres(t *testing.T) {
	seeds := *stormSeeds
	if seeds == 0 {
		if seeds = 20; raceDetector || testing.Short() {
			seeds = 1
		}
	}
	for n := range seeds {
		seed := *stormSeed + uint64(n)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if acts, problems := storm(seed, &cluster{t, postgres.URL(t)}); len(problems) > 0 {
				t.Errorf("-run StormInPostgres -seeds 1 -seed %d\n%s\n%s", seed, strings.Join(acts, "\n"), strings.Join(problems, "\n"))
			}
		})
	}
}

// cluster is a database.
type cluster struct {
	t   *testing.T
	url string
}

func (c *cluster) open() (store.Store, error) {
	s, err := pgstore.Open(pgstore.Options{URL: c.url, Manual: true, Patience: 300 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *cluster) crash(s store.Store, _ *rand.Rand) { s.(*pgstore.Store).Abandon() }

// A weather is one storm as it goes.
type weather struct {
	*world
	random *rand.Rand
	ground ground
	store  *spy
	manual *ManualClock
	engine *Engine
	fed    muster.Place
	acts   []string
	// restless counts what happened since the world stood still last.
	restless int
	made     int // things and jobs, for their names
	ids      []muster.JobID
}

// A ground is where a storm keeps its store: open gives it as it was, crash ends it without a word.
type ground interface {
	open() (store.Store, error)
	crash(store.Store, *rand.Rand)
}

// disk is an embedded store on a disk that can lose what was not synced.
type disk struct{ fs *vfs.MemFS }

func (d *disk) open() (store.Store, error) {
	return pebblestore.Open(pebblestore.Options{Dir: "store", FS: d.fs})
}

func (d *disk) crash(s store.Store, random *rand.Rand) {
	crashed := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: rand.New(rand.NewPCG(random.Uint64(), 0))})
	s.Close()
	d.fs = crashed
}

// A spy looks at what each commit told before anything else can happen, and has jobs settled that are settled behind
// the feed.
type spy struct {
	store.Store
	look     func()
	settle   func() error
	settling bool
}

func (s *spy) Update(ctx context.Context, on store.Keys, fn func(store.Tx) error) error {
	err := s.Store.Update(ctx, on, fn)
	s.look()
	if err == nil && !s.settling {
		s.settling = true
		err = s.settle()
		s.settling = false
	}
	return err
}

func storm(seed uint64, where ground) (acts, problems []string) {
	h := &weather{random: rand.New(rand.NewPCG(seed, 7)), ground: where}
	at := start + muster.Time(h.random.IntN(100_000_000))
	h.world = newWorld(func() muster.Time { return h.manual.Now() })
	h.open(at)
	h.populate()
	h.still(true)
	for i := range stormActs {
		if len(h.problems) > 0 {
			break
		}
		h.step()
		// Mostly the engine's own work is done before anything else happens, sometimes part of it, sometimes none.
		switch n := h.random.IntN(10); {
		case len(h.problems) > 0:
		case n < 7:
			h.note("tick")
			h.check(h.engine.Tick(context.Background()))
			h.still(i%20 == 0)
		case n < 9:
			h.slice()
		}
	}
	if len(h.problems) == 0 {
		h.note("tick")
		h.check(h.engine.Tick(context.Background()))
		h.still(true)
	}
	h.store.Close()
	return h.acts, h.problems
}

func (h *weather) note(format string, args ...any) {
	h.acts = append(h.acts, h.manual.Now().Time().Format("Jan 2 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (h *weather) check(_ muster.Time, err error) {
	if err != nil {
		h.problem("tick: %v", err)
	}
}

// still checks the world while nothing is due.
func (h *weather) still(whole bool) {
	if len(h.problems) == 0 {
		h.heard(h.restless <= 1)
		h.restless = 0
		h.balance(h.store.Store, whole)
	}
}

func (h *weather) open(at muster.Time) {
	s, err := h.ground.open()
	if err != nil {
		panic(err)
	}
	h.store = &spy{Store: s, look: h.look}
	h.store.settle = func() error {
		_, err := h.engine.settle(context.Background()) // within the loop's own round, or while there is none
		h.settled()
		return err
	}
	if h.manual, err = NewManualClock(context.Background(), s, at); err != nil {
		panic(err)
	}
	// More than there ever are: they are counted, and none waits.
	h.engine = New(h.store, Options{Clock: h.manual, Retention: stormRetention, Limits: Limits{ConcurrentJobs: 1000}})
}

// look takes up what the feed has.
func (h *weather) look() {
	entries, err := h.store.Feed(context.Background(), h.fed, 100)
	if err != nil {
		h.problem("feed: %v", err)
	}
	for _, e := range entries {
		if e.Missed {
			h.problem("the feed jumps from %s to %d", h.fed, e.Seq)
		}
		h.fed = e.Place
		h.observe(e)
		if h.store.Exact() {
			h.settled()
		}
	}
}

// slice does a little of what is due: other things happen in the middle of the work.
func (h *weather) slice() {
	h.note("a slice of work")
	h.restless++
	budget := 1 + h.random.IntN(3) // not in the function, which may run more than once
	err := h.engine.update(context.Background(), store.Keys{}, func(tx store.Tx, now muster.Time) error {
		for _, d := range tx.Due(now, 1) {
			if _, err := h.engine.work(tx, d, now, budget); err != nil {
				return err
			}
		}
		return nil
	})
	h.check(0, err)
}

// do makes an act and compares how it went with how it should have gone. expect is the change that it makes
// if it succeeds.
func (h *weather) do(want muster.Kind, expect *expectation, act func(context.Context) error) {
	if want == accepted {
		h.expect = expect
	}
	err := act(context.Background())
	got := accepted
	var known *muster.Error
	if errors.As(err, &known) {
		got = known.Kind
	} else if err != nil {
		h.problem("failed: %v", err)
	}
	if got != want {
		h.problem("answered %s (%v), should be %s", kindName(got), err, kindName(want))
	}
	if h.expect != nil {
		h.problem("nothing came of %+v", *h.expect)
	}
	h.expect, h.act = nil, ""
}

// accepted is the kind of no error.
const accepted = muster.Kind(200)

func kindName(k muster.Kind) string {
	if k == accepted {
		return "yes"
	}
	return k.String()
}

func (h *weather) step() {
	h.restless++
	type choice struct {
		weight int
		act    func()
	}
	choices := []choice{{14, h.report}, {10, h.startNext}, {3, h.looks}, {8, h.createJob}, {3, h.cancelJob}, {2, h.deleteJob}, {3, h.updateJob}, {2, h.associate},
		{4, h.cancelExecution}, {3, h.deleteExecution}, {8, h.regroup}, {1, h.deleteThing}, {2, h.createThing}, {1, h.deleteGroup}, {1, h.createGroup},
		{18, h.advance}, {5, h.jump}, {2, h.restart}}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := h.random.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			c.act()
			return
		}
	}
}

func (h *weather) chance(percent int) bool { return h.random.IntN(100) < percent }

func pick[T any](h *weather, all []T) (none T) {
	if len(all) == 0 {
		return none
	}
	return all[h.random.IntN(len(all))]
}

// sorted keys: the same seed must make the same storm.
func (h *weather) thing() muster.ThingName {
	if h.chance(2) {
		return "nobody"
	}
	var all []muster.ThingName
	for n := range h.things {
		all = append(all, n)
	}
	slices.Sort(all)
	return pick(h, all)
}

func (h *weather) group() muster.GroupName {
	if h.chance(2) {
		return "nowhere"
	}
	return pick(h, groupNames)
}

func (h *weather) job() muster.JobID {
	if h.chance(2) {
		return "nothing"
	}
	// The younger ones are where something happens.
	return pick(h, h.ids[max(0, len(h.ids)-6):])
}

// advance moves the clock, stopping wherever something is due.
func (h *weather) advance() {
	to := h.manual.Now()
	switch n := h.random.IntN(100); {
	case n < 35:
		if next, err := h.engine.NextDue(context.Background()); err == nil && next != 0 && next < to.Add(48*time.Hour) {
			to = max(to, next)
		}
	default:
		to = to.Add(h.span(n))
	}
	h.note("advance %s", to.Sub(h.manual.Now()))
	if err := h.engine.Advance(context.Background(), to); err != nil {
		h.problem("advance: %v", err)
	}
	h.still(false)
}

func (h *weather) span(n int) time.Duration {
	switch {
	case n < 60:
		return time.Duration(h.random.IntN(90_000)) * time.Millisecond
	case n < 80:
		return time.Duration(h.random.IntN(30)) * time.Minute
	case n < 97:
		return time.Duration(h.random.IntN(600)) * time.Minute
	}
	return time.Duration(h.random.IntN(60)) * time.Hour
}

// jump leaves the clock somewhere else without a stop: a machine that was asleep.
func (h *weather) jump() {
	d := h.span(h.random.IntN(100))
	h.note("jump %s", d)
	h.manual.set(h.manual.Now().Add(d))
	h.jumpedTo = h.manual.Now()
}

// restart ends the server, sometimes without a word, and starts it again.
func (h *weather) restart() {
	now := h.manual.Now()
	if h.chance(50) {
		h.note("crash")
		h.ground.crash(h.store.Store, h.random)
	} else {
		h.note("restart")
		if err := h.store.Close(); err != nil {
			h.problem("close: %v", err)
		}
	}
	h.open(now)
}
