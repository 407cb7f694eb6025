package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/engine"
	"muster/internal/store/pgstore"
)

// P15 and P16: P1's reports where the store is PostgreSQL, through one engine or through several beside each other.

const (
	batchSize       = "batch"         // updates that share a transaction
	walPerOp        = "wal_op"        // bytes that PostgreSQL wrote ahead, all of them
	statementsPerOp = "statements_op" // given to the database
	tripsPerOp      = "trips_op"      // round trips to the database
	deadlocked      = "deadlocks"     // transactions that were done again because of one
)

// asked is what was asked of a database since a service was opened.
type asked struct{ batches, statements, trips uint64 }

// nodesService is some nodes in one process. Each is an engine over a store of its own, with its loop running.
type nodesService struct {
	settings Settings
	look     *pgx.Conn
	stores   []*pgstore.Store
	engines  []*engineService // what they do that is not about the embedded store
	fleet    *fleet
	stop     context.CancelFunc
}

func openNodesService(ctx context.Context, s Settings) (service, hello, error) {
	look, err := pgx.Connect(ctx, s.Database)
	if err != nil {
		return nil, hello{}, err
	}
	n := &nodesService{settings: s, look: look, fleet: newFleet(s.Things)}
	ctx, n.stop = context.WithCancel(ctx)
	for range s.Nodes {
		store, err := pgstore.Open(pgstore.Options{URL: s.Database})
		if err != nil {
			return nil, hello{}, errors.Join(err, n.Close())
		}
		g := engine.New(store, engine.Options{Clock: new(engine.SystemClock)})
		n.stores, n.engines = append(n.stores, store), append(n.engines, &engineService{settings: s, Engine: g, fleet: n.fleet})
		go g.Run(ctx)
	}
	// Where nobody has reported yet, every version is known.
	if v, err := n.engines[0].DescribeJob(ctx, naiveJob); err == nil && v.Counts[muster.Queued] == int64(s.Things) {
		for i := range n.fleet.versions {
			n.fleet.versions[i] = muster.FirstVersion
		}
	}
	return n, hello{}, nil
}

func (n *nodesService) Close() (err error) {
	n.stop()
	for _, s := range n.stores {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, n.look.Close(context.Background()))
}

func (n *nodesService) Call(ctx context.Context, req Request) (Sample, error) {
	switch req.Op {
	case "load":
		return nil, n.load(ctx)
	case "update":
		return n.measureUpdates(ctx, req)
	}
	return nil, fmt.Errorf("nodes cannot %q", req.Op)
}

// load registers the things and has a job rolled out to all of them.
func (n *nodesService) load(ctx context.Context) error {
	first := n.engines[0]
	if _, err := first.importThings(ctx); err != nil {
		return err
	}
	if _, err := first.CreateJob(ctx, jobFor(naiveJob, allGroup)); err != nil {
		return err
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for begun := time.Now(); ; <-look.C {
		err := first.expect(ctx, naiveJob, muster.Counts{muster.Queued: int64(n.settings.Things)})
		if err == nil {
			break
		}
		if time.Since(begun) > 2*time.Minute {
			return err
		}
	}
	_, err := n.look.Exec(ctx, "VACUUM ANALYZE")
	return err
}

// measureUpdates has every device report to one node, as one that is connected does.
func (n *nodesService) measureUpdates(ctx context.Context, req Request) (Sample, error) {
	var to []doUpdate
	for _, e := range n.engines {
		to = append(to, e.report(ctx))
	}
	do := func(caller, thing int, expected int64, details []byte) (int64, error) {
		return to[caller%len(to)](caller, thing, expected, details)
	}
	sample, err := measureDatabase(ctx, n.look, n.fleet, req, do, func() (all asked) {
		for _, s := range n.stores {
			stats := s.Stats()
			all.batches += stats.Batches
			all.statements += stats.Statements
			all.trips += stats.Trips
		}
		return all
	})
	if err != nil {
		return nil, err
	}
	for _, s := range n.stores {
		sample[deadlocked] += float64(s.Stats().Deadlocks)
	}
	if sample[deadlocked] > 0 {
		return nil, fmt.Errorf("%v transactions waited for each other", sample[deadlocked])
	}
	want, reports := n.fleet.told()
	for _, e := range n.engines {
		reports -= e.reports.Load()
	}
	if reports != 0 {
		return nil, fmt.Errorf("versions went up by %d more than there were reports", reports)
	}
	return sample, n.engines[0].expect(ctx, naiveJob, want)
}

// measureDatabase lets the fleet update, after a fifth of the time that is not measured, and counts what it costs the
// database.
func measureDatabase(ctx context.Context, look *pgx.Conn, f *fleet, req Request, do doUpdate, count func() asked) (Sample, error) {
	d := time.Duration(req.Seconds * float64(time.Second))
	if _, err := f.lap(ctx, req.Callers, forTime(d/5), do); err != nil {
		return nil, err
	}
	wal, err := writtenAhead(ctx, look)
	if err != nil {
		return nil, err
	}
	before := count()
	sample, err := f.lap(ctx, req.Callers, forTime(d), do)
	if err != nil {
		return nil, err
	}
	now := count()
	after, err := writtenAhead(ctx, look)
	if err != nil {
		return nil, err
	}
	updates := max(1, sample[Operations])
	sample[batchSize] = updates / max(1, float64(now.batches-before.batches))
	sample[statementsPerOp] = float64(now.statements-before.statements) / updates
	sample[tripsPerOp] = float64(now.trips-before.trips) / updates
	sample[walPerOp] = float64(after-wal) / updates
	return sample, nil
}

func writtenAhead(ctx context.Context, look *pgx.Conn) (bytes int64, err error) {
	err = look.QueryRow(ctx, `SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&bytes)
	return bytes, err
}
