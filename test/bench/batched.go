package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Y5, batched statement: what PostgreSQL can do at best with a table of executions. Two connections write; a thing
// always goes to the same one, and each gathers what waits, locks and reads it in one round trip, and writes it all, with
// counters of its own and the commit, in another.

const (
	batchedWriters = 2
	// Of each batch: one to begin and one to lock and read, and back; two to write and one to commit, and back.
	batchedStatements, batchedTrips = 5, 2
)

// The layout is the naive one in columns, with the indexes that Muster's has.
var batchedSchema = []string{
	`CREATE TABLE execution (
		thing text COLLATE "C" NOT NULL,
		job text COLLATE "C" NOT NULL,
		number bigint NOT NULL,
		status smallint NOT NULL,
		version bigint NOT NULL,
		queued bigint NOT NULL,
		started bigint NOT NULL,
		updated bigint NOT NULL,
		details bytea,
		PRIMARY KEY (thing, job, number)
	) WITH (fillfactor = 80)`,
	`CREATE INDEX execution_job ON execution (job, status, thing, number)`,
	`CREATE INDEX execution_pending ON execution (thing) WHERE status < 2`,
	`CREATE TABLE sums (job text COLLATE "C" NOT NULL, writer integer NOT NULL, status smallint NOT NULL, n bigint NOT NULL,
		PRIMARY KEY (job, writer, status)) WITH (fillfactor = 70)`,
}

const (
	batchedLock = `SELECT thing, number, status, version, queued, started FROM execution WHERE thing = ANY($1::text[]) AND job = $2 ORDER BY thing FOR UPDATE`
	batchedSet  = `UPDATE execution e SET status = n.status, version = n.version, queued = n.queued, started = n.started, updated = $7, details = n.details
		FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[]) n(thing, status, version, queued, started, details)
		WHERE e.thing = n.thing AND e.job = $8 AND e.number = 1`
	batchedAdd = `INSERT INTO sums AS s (job, writer, status, n) SELECT $1, $2, * FROM unnest($3::smallint[], $4::bigint[])
		ON CONFLICT (job, writer, status) DO UPDATE SET n = s.n + excluded.n`
)

// batched is the store.
type batched struct {
	look    *pgx.Conn
	seed    maphash.Seed
	writers []*batchedWriter
}

type batchedWriter struct {
	id      int
	conn    *pgx.Conn
	queue   chan *updateCall
	done    chan struct{}
	batches atomic.Int64
}

func openBatched(ctx context.Context, address string) (*batched, error) {
	look, err := pgx.Connect(ctx, address)
	if err != nil {
		return nil, err
	}
	s := &batched{look: look, seed: maphash.MakeSeed()}
	for id := range batchedWriters {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		w := &batchedWriter{id: id, conn: conn, queue: make(chan *updateCall, maxBatch), done: make(chan struct{})}
		s.writers = append(s.writers, w)
		go w.write(ctx)
	}
	return s, nil
}

// Close ends the writers once they have done what waits.
func (s *batched) Close() error {
	for _, w := range s.writers {
		close(w.queue)
		<-w.done
	}
	return s.look.Close(context.Background())
}

func (w *batchedWriter) write(ctx context.Context) {
	defer close(w.done)
	var err error // ends all that comes after it
	for first := range w.queue {
		calls := drain(w.queue, append(make([]*updateCall, 0, 64), first), maxBatch)
		if err == nil {
			err = w.apply(ctx, calls)
		}
		if err != nil {
			fail(calls, err)
			continue
		}
		w.batches.Add(1)
		for _, c := range calls {
			c.done <- struct{}{}
		}
	}
	w.conn.Close(ctx)
}

// apply moves each execution one step, as the naive layout's does: QUEUED, IN_PROGRESS, SUCCEEDED and back.
func (w *batchedWriter) apply(ctx context.Context, calls []*updateCall) error {
	byThing := make(map[string]*updateCall, len(calls))
	things := make([]string, 0, len(calls))
	for _, c := range calls {
		name := string(c.thing)
		byThing[name] = c
		things = append(things, name)
	}
	slices.Sort(things)
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue(batchedLock, things, naiveJob)
	results := w.conn.SendBatch(ctx, b)
	if _, err := results.Exec(); err != nil {
		return errors.Join(err, results.Close())
	}
	found, err := results.Query()
	if err != nil {
		return errors.Join(err, results.Close())
	}
	n := len(things)
	names, states, versions := make([]string, 0, n), make([]int16, 0, n), make([]int64, 0, n)
	queuedAt, startedAt, details := make([]int64, 0, n), make([]int64, 0, n), make([][]byte, 0, n)
	now := time.Now().UnixMilli()
	var sums [statuses]int64
	for found.Next() {
		var name string
		var number int64
		var status int16
		var r record
		if err := found.Scan(&name, &number, &status, &r.version, &r.queuedAt, &r.startedAt); err != nil {
			return errors.Join(err, results.Close())
		}
		c := byThing[name]
		if c.expected != 0 && c.expected != r.version {
			return errors.Join(fmt.Errorf("expected version %d of %s, found %d", c.expected, name, r.version), results.Close())
		}
		sums[status]--
		status = (status + 1) % int16(statuses)
		sums[status]++
		switch byte(status) {
		case queued:
			r.queuedAt, r.startedAt = now, 0
		case inProgress:
			r.startedAt = now
		}
		c.version = r.version + 1
		names, states, versions = append(names, name), append(states, status), append(versions, c.version)
		queuedAt, startedAt, details = append(queuedAt, r.queuedAt), append(startedAt, r.startedAt), append(details, c.details)
	}
	if err := errors.Join(found.Err(), results.Close()); err != nil {
		return err
	}
	if len(names) != n {
		return fmt.Errorf("of %d executions %d are there", n, len(names))
	}
	b = &pgx.Batch{}
	b.Queue(batchedSet, names, states, versions, queuedAt, startedAt, details, now, naiveJob)
	b.Queue(batchedAdd, naiveJob, w.id, []int16{int16(queued), int16(inProgress), int16(succeeded)}, sums[:])
	b.Queue("COMMIT")
	return w.conn.SendBatch(ctx, b).Close()
}

// load makes the tables, and queues an execution for each of things.
func (s *batched) load(ctx context.Context, things int) error {
	for _, statement := range batchedSchema {
		if _, err := s.look.Exec(ctx, statement); err != nil {
			return err
		}
	}
	now := time.Now().UnixMilli()
	_, err := s.look.CopyFrom(ctx, pgx.Identifier{"execution"}, []string{"thing", "job", "number", "status", "version", "queued", "started", "updated"},
		pgx.CopyFromSlice(things, func(i int) ([]any, error) {
			return []any{string(appendThing(nil, i)), naiveJob, int64(1), int16(queued), int64(1), now, int64(0), now}, nil
		}))
	if err != nil {
		return err
	}
	if _, err := s.look.Exec(ctx, batchedAdd, naiveJob, 0, []int16{int16(queued)}, []int64{int64(things)}); err != nil {
		return err
	}
	_, err = s.look.Exec(ctx, "VACUUM ANALYZE")
	return err
}

// recount compares the counters with the rows.
func (s *batched) recount(ctx context.Context) error {
	var wrong int
	err := s.look.QueryRow(ctx, `SELECT count(*) FROM (SELECT status, count(*) n FROM execution GROUP BY status) e
		FULL JOIN (SELECT status, sum(n) n FROM sums GROUP BY status) s USING (status) WHERE coalesce(e.n, 0) <> coalesce(s.n, 0)`).Scan(&wrong)
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%d counters are not what the rows say", wrong)
	}
	return err
}

// batchedService is Y5 as a child process.
type batchedService struct {
	*batched
	things int
	fleet  *fleet
}

func openBatchedService(ctx context.Context, s Settings) (service, hello, error) {
	b, err := openBatched(ctx, s.Database)
	if err != nil {
		return nil, hello{}, err
	}
	return &batchedService{batched: b, things: s.Things, fleet: newFleet(s.Things)}, hello{}, nil
}

func (s *batchedService) Call(ctx context.Context, req Request) (Sample, error) {
	switch req.Op {
	case "load":
		return nil, s.load(ctx, s.things)
	case "update":
		return s.measureUpdates(ctx, req)
	}
	return nil, fmt.Errorf("the batched statement cannot %q", req.Op)
}

func (s *batchedService) measureUpdates(ctx context.Context, req Request) (Sample, error) {
	calls := newCalls(req.Callers)
	var to []doUpdate
	for _, w := range s.writers {
		to = append(to, ask(w.queue, calls))
	}
	do := func(caller, thing int, expected int64, details []byte) (int64, error) {
		return to[maphash.Comparable(s.seed, thing)%uint64(len(to))](caller, thing, expected, details)
	}
	sample, err := measureDatabase(ctx, s.look, s.fleet, req, do, func() (all asked) {
		for _, w := range s.writers {
			all.batches += uint64(w.batches.Load())
		}
		all.statements, all.trips = batchedStatements*all.batches, batchedTrips*all.batches
		return all
	})
	if err == nil {
		err = s.recount(ctx)
	}
	return sample, err
}
