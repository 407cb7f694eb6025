package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/engine"
	"muster/internal/store/storetest"
	"muster/test/postgres"
)

// Faults of the database and of the network, under the reports of a small fleet over two nodes. Each device knows the
// version of its execution that was acknowledged; a report that failed may have been kept, which it finds out before
// the next. Any other answer than success or Unavailable is wrong.

const (
	fleetThings  = 64
	fleetCallers = 16
	faultJob     = "job"
	// faultPatience is of the nodes; the machine may be slow.
	faultPatience = 2 * time.Second
	// longest is how long a device may wait for an answer, whatever happens.
	longest = busyTime + 5*time.Second
)

type fleet struct {
	t        *testing.T
	engines  []*engine.Engine
	versions []int64 // acknowledged; each thing has one caller
	acked    atomic.Int64
	refused  atomic.Int64
	slowest  atomic.Int64

	stop    context.CancelFunc
	ctx     context.Context
	callers sync.WaitGroup
	running sync.WaitGroup
}

func thingOf(i int) muster.ThingName { return muster.ThingName(fmt.Sprintf("thing-%03d", i)) }

// newFleet registers things over the first node and has a job rolled out to them.
func newFleet(t *testing.T, stores ...*Store) *fleet {
	f := &fleet{t: t, versions: make([]int64, fleetThings)}
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	f.ctx = ctx
	for _, s := range stores {
		g := engine.New(s, engine.Options{Clock: new(engine.SystemClock), Log: s.log})
		f.engines = append(f.engines, g)
		f.running.Go(func() { g.Run(ctx) })
	}
	t.Cleanup(f.end)
	g := f.engines[0]
	if _, err := g.CreateGroup(ctx, muster.Group{Name: "all"}, ""); err != nil {
		t.Fatal(err)
	}
	var rows []engine.ImportRow
	for i := range fleetThings {
		rows = append(rows, engine.ImportRow{Thing: &muster.Thing{Name: thingOf(i)}, Groups: []muster.GroupName{"all"}})
		f.versions[i] = muster.FirstVersion
	}
	if _, err := g.Import(ctx, rows); err != nil {
		t.Fatal(err)
	}
	document := "{}"
	if _, err := g.CreateJob(ctx, engine.NewJob{ID: faultJob, Document: &document, Targets: []muster.Target{{Group: "all"}}}); err != nil {
		t.Fatal(err)
	}
	f.eventually("the job is rolled out", func() bool {
		v, err := g.DescribeJob(ctx, faultJob)
		return err == nil && v.Counts[muster.Queued] == fleetThings
	})
	for c := range fleetCallers {
		f.callers.Go(func() { f.report(c) })
	}
	f.goesOn("at first")
	return f
}

// report reports for every thing of a caller in turn.
func (f *fleet) report(caller int) {
	for i := caller; f.ctx.Err() == nil; i += fleetCallers {
		i %= fleetThings
		details := muster.MakePairs("n", fmt.Sprint(f.versions[i]+1))
		expected := f.versions[i]
		start := time.Now()
		got, err := f.engines[rand.IntN(len(f.engines))].Report(context.Background(), thingOf(i), faultJob,
			muster.Report{Status: muster.InProgress, Details: &details, ExpectedVersion: &expected})
		f.note(time.Since(start))
		switch {
		case err == nil && got.Version == expected+1 && got.Details == details:
			f.versions[i]++
			f.acked.Add(1)
		case isUnavailable(err):
			f.refused.Add(1)
			if !f.findOut(i) {
				return
			}
		default:
			f.t.Errorf("%s reported in version %d: %+v, %v", thingOf(i), expected, got, err)
			f.stop()
		}
	}
}

// findOut asks until it is answered which version an execution has.
func (f *fleet) findOut(i int) bool {
	for {
		start := time.Now()
		e, err := f.engines[rand.IntN(len(f.engines))].DescribeExecution(context.Background(), thingOf(i), faultJob, 0)
		f.note(time.Since(start))
		switch {
		case err == nil && (e.Version == f.versions[i] || e.Version == f.versions[i]+1):
			f.versions[i] = e.Version
			return true
		case err == nil || !isUnavailable(err):
			f.t.Errorf("%s is in version %d, %v; %d was acknowledged", thingOf(i), e.Version, err, f.versions[i])
			f.stop()
			return false
		}
		runtime.Gosched()
	}
}

func (f *fleet) note(d time.Duration) {
	for now := f.slowest.Load(); int64(d) > now && !f.slowest.CompareAndSwap(now, int64(d)); now = f.slowest.Load() {
	}
}

func isUnavailable(err error) bool {
	e, ok := errors.AsType[*muster.Error](err)
	return ok && e.Kind == muster.Unavailable
}

func (f *fleet) eventually(what string, ok func() bool) {
	f.t.Helper()
	if !within(time.Minute, func() bool { return ok() || f.t.Failed() }) || f.t.Failed() {
		f.t.Fatalf("%s: not in time", what)
	}
}

// within looks again and again whether something is so.
func within(d time.Duration, ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(d)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			return false
		}
	}
	return true
}

// goesOn waits for reports that are acknowledged from now on.
func (f *fleet) goesOn(when string) {
	f.t.Helper()
	from := f.acked.Load()
	f.eventually("reports are acknowledged "+when, func() bool { return f.acked.Load() > from+fleetThings })
}

// refuses waits for devices to be told to try again.
func (f *fleet) refuses(when string) {
	f.t.Helper()
	from := f.refused.Load()
	f.eventually("reports are refused "+when, func() bool { return f.refused.Load() > from })
}

func (f *fleet) end() {
	f.stop()
	f.callers.Wait()
	f.running.Wait()
}

// verify ends the load and compares what devices know with what is kept.
func (f *fleet) verify(url string) {
	f.t.Helper()
	f.end()
	s := open(f.t, Options{URL: url, Aside: true})
	g := engine.New(s, engine.Options{Clock: new(engine.SystemClock)})
	for i, want := range f.versions {
		e, err := g.DescribeExecution(context.Background(), thingOf(i), faultJob, 0)
		if err != nil || e.Version != want || want > muster.FirstVersion && e.Details != muster.MakePairs("n", fmt.Sprint(want)) {
			f.t.Errorf("%s is in version %d with %q, %v; %d was acknowledged", thingOf(i), e.Version, e.Details, err, want)
		}
	}
	if err := s.Check(context.Background(), func(problem string) { f.t.Error(problem) }); err != nil {
		f.t.Error(err)
	}
	// Every update is told of once: the versions of each thing in the feed go up by one.
	told := map[muster.ThingName]int64{}
	for _, e := range storetest.Entries(f.t, s, "", 256) {
		for _, fact := range e.Facts {
			if fact.Kind != muster.FactExecution {
				continue
			}
			if fact.Version != told[fact.Thing]+1 {
				f.t.Errorf("the feed tells of version %d of %s after version %d", fact.Version, fact.Thing, told[fact.Thing])
			}
			told[fact.Thing] = fact.Version
		}
	}
	for i, want := range f.versions {
		if got := told[thingOf(i)]; got != want {
			f.t.Errorf("the feed tells of %s up to version %d; it is in version %d", thingOf(i), got, want)
		}
	}
	if d := time.Duration(f.slowest.Load()); d > longest {
		f.t.Errorf("a device waited %v for an answer", d)
	}
	f.t.Logf("%d reports acknowledged, %d refused, the longest took %v", f.acked.Load(), f.refused.Load(), time.Duration(f.slowest.Load()))
}

func faultNode(t *testing.T, url, name string) *Store {
	return open(t, Options{URL: url, Patience: faultPatience, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", name)})
}

// admin runs statements beside the load.
func admin(t *testing.T, url string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), postgres.Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer drop(conn)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

const endNodes = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'muster/%'`

func TestDatabaseFails(t *testing.T) {
	c := postgres.Start(t)
	root := c.Database(t)
	// The nodes are no superusers, so that limits hold for them.
	admin(t, root, `CREATE ROLE node LOGIN`, `GRANT ALL ON SCHEMA public TO node`)
	u, err := url.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("node")
	address := u.String()
	f := newFleet(t, faultNode(t, address, "a"), faultNode(t, address, "b"))

	for _, stop := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		c.Down(stop)
		if stop == syscall.SIGQUIT {
			f.refuses("while the database is away")
		}
		f.eventually("the database comes up", func() bool { return c.Up() == nil }) // what was killed lets go of its memory later
		f.goesOn("after " + stop.String())
	}

	c.Signal(syscall.SIGTERM) // it waits for its clients, and takes no new ones
	f.goesOn("while the database waits for its clients")
	c.Down(syscall.SIGINT)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	f.goesOn("after SIGTERM")

	admin(t, root, `ALTER ROLE node CONNECTION LIMIT 0`, endNodes)
	f.refuses("without connections")
	admin(t, root, `ALTER ROLE node CONNECTION LIMIT 3`)
	admin(t, root, `ALTER ROLE node CONNECTION LIMIT -1`)
	f.goesOn("with connections again")

	admin(t, root, `ALTER ROLE node SET default_transaction_read_only = on`, endNodes)
	f.refuses("while the database refuses to write")
	admin(t, root, `ALTER ROLE node RESET default_transaction_read_only`)
	f.goesOn("when it writes again")

	for range 5 {
		admin(t, root, endNodes)
		f.goesOn("after connections were ended")
	}
	f.verify(root)
	if log := c.Log(); strings.Contains(log, "deadlock") {
		t.Error("there were deadlocks")
	}
}

// A store that is closed while the database is away ends soon, and leaves nothing running.
func TestCloseWithoutDatabase(t *testing.T) {
	c := postgres.Start(t)
	before := runtime.NumGoroutine()
	s, err := Open(Options{URL: c.Database(t), Patience: faultPatience})
	if err != nil {
		t.Fatal(err)
	}
	c.Down(syscall.SIGQUIT)
	failed := make(chan error, 1)
	go func() { failed <- putThing(s, "thing") }()
	start := time.Now()
	if err := s.Close(); err == nil {
		t.Error("nobody could be told of its end, and it did not say so")
	}
	if took := time.Since(start); took > 2*patience {
		t.Errorf("it took %v", took)
	}
	if err := <-failed; !isUnavailable(err) {
		t.Errorf("an Update meanwhile: %v", err)
	}
	if !within(10*time.Second, func() bool { return runtime.NumGoroutine() <= before }) {
		stack := make([]byte, 1<<16)
		t.Fatalf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), before, stack[:runtime.Stack(stack, true)])
	}
}
