package pgstore

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"muster"
)

// Each writer has a stream of its own, and a writer writes one transaction after the other: of a stream an entry is
// seen only when all before it are. Numbers that several writers shared would become visible out of order,
// and a reader that goes by the greatest it has seen would step over the late ones. So a place in the feed is how far
// each stream has been read.

// feeds are what wakes those who read the feed.
type feeds struct {
	changed chan struct{}
	tell    chan struct{} // other nodes are to be woken
}

func (f *feeds) init() {
	f.changed, f.tell = make(chan struct{}, 1), make(chan struct{}, 1)
}

func (f *feeds) grown() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Changed delivers after commits, of this node and of others.
func (s *Store) Changed() <-chan struct{} { return s.feeds.changed }

// channel is what nodes wake each other by. It carries nothing that matters: who misses a call looks by itself.
const channel = "muster"

const (
	// callEvery bounds how often a node calls the others.
	callEvery = 5 * time.Millisecond
	// lookEvery is how often a node looks at the feed though nobody has called.
	lookEvery = time.Second
)

// announce calls the other nodes after commits, on a connection beside those that commit: a call within a
// transaction would make commits wait for each other.
func (s *Store) announce() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-s.feeds.tell:
		}
		ctx, cancel := context.WithTimeout(s.life, patience)
		_, err := s.pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, s.node())
		cancel()
		if err != nil && !s.stopping.Load() {
			s.log.Debug("the other nodes were not called", "error", err)
		}
		pause.Reset(callEvery)
		select {
		case <-s.closing:
			return
		case <-pause.C:
		}
	}
}

// listen waits for calls. Without a connection that can, it looks by itself.
func (s *Store) listen() {
	for !s.stopping.Load() {
		err := s.listenOnce()
		if s.stopping.Load() {
			return
		}
		s.log.Debug("no calls of other nodes are heard for now", "error", err)
		rest := time.NewTimer(lookEvery)
		select {
		case <-s.closing:
		case <-rest.C:
		}
		rest.Stop()
		s.feeds.grown()
	}
}

func (s *Store) listenOnce() error {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer drop(conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		wait, done := context.WithTimeout(ctx, lookEvery)
		n, err := conn.WaitForNotification(wait)
		done()
		switch {
		case err == nil && n.Payload == s.node():
			continue // it was woken when it committed
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		s.feeds.grown()
	}
}

// cursor is a place, taken apart: how far each stream has been read.
type cursor map[int32]int64

func parsePlace(p muster.Place) (cursor, error) {
	c := cursor{}
	if p == "" {
		return c, nil
	}
	for part := range strings.SplitSeq(string(p), ",") {
		w, n, ok := strings.Cut(part, ":")
		writer, err1 := strconv.ParseInt(w, 10, 32)
		seq, err2 := strconv.ParseInt(n, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			return nil, muster.Errorf(muster.Invalid, "%q is not a place in the feed of this store", p)
		}
		c[int32(writer)] = seq
	}
	return c, nil
}

func (c cursor) place() muster.Place {
	writers := make([]int32, 0, len(c))
	for w := range c {
		writers = append(writers, w)
	}
	slices.Sort(writers)
	var b []byte
	for i, w := range writers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(b, int64(w), 10), ':')
		b = strconv.AppendInt(b, c[w], 10)
	}
	return muster.Place(b)
}

// Earliest is the place before which two readers have both read everything.
func (s *Store) Earliest(a, b muster.Place) (muster.Place, error) {
	x, err := parsePlace(a)
	if err != nil {
		return "", err
	}
	y, err := parsePlace(b)
	if err != nil {
		return "", err
	}
	for w, n := range x {
		x[w] = min(n, y[w])
	}
	return x.place(), nil
}

// Feed reads behind a place. Entries of one query are in the order of their moments, which is that of commits
// wherever two transactions had to do with the same row: what a stream has beyond its limit may come between, so
// nothing is returned that is behind it.
func (s *Store) Feed(ctx context.Context, after muster.Place, limit int) ([]muster.Entry, error) {
	at, err := parsePlace(after)
	if err != nil || limit < 1 {
		return nil, err
	}
	writers, seqs := make([]int32, 0, len(at)), make([]int64, 0, len(at))
	for w, n := range at {
		writers, seqs = append(writers, w), append(seqs, n)
	}
	type placed struct {
		muster.Entry
		moment int64
	}
	var all []placed
	count := map[uint32]int{}
	last := map[uint32]int64{}
	missed := map[uint32]bool{}
	over := cursor{} // streams of which what was not read is gone, and nothing else is left
	err = s.look(ctx, func(ctx context.Context) error {
		got, err := s.pool.Query(ctx, selectFeed, writers, seqs, limit)
		if err != nil {
			return err
		}
		defer got.Close()
		all = all[:0]
		clear(count)
		clear(last)
		clear(missed)
		clear(over)
		for got.Next() {
			var writer int32
			var seq, entryMoment, when *int64
			var trimmed int64
			var facts []byte
			if err := got.Scan(&writer, &seq, &entryMoment, &when, &facts, &trimmed); err != nil {
				return err
			}
			if seq == nil {
				over[writer] = trimmed
				continue
			}
			seqNo, moment := *seq, *entryMoment
			e := placed{muster.Entry{Writer: uint32(writer), Seq: uint64(seqNo), At: muster.Time(*when)}, moment}
			var ok bool
			if e.Facts, ok = decodeFacts(facts); !ok {
				return muster.Errorf(muster.Internal, "entry %d:%d of the feed does not decode", writer, seqNo)
			}
			if after != "" && trimmed > at[writer] && !missed[e.Writer] {
				e.Missed, missed[e.Writer] = true, true
			}
			all = append(all, e)
			count[e.Writer]++
			last[e.Writer] = max(last[e.Writer], moment)
		}
		return got.Err()
	})
	if err != nil {
		return nil, err
	}
	bound := int64(math.MaxInt64)
	for w, n := range count {
		if n >= limit {
			bound = min(bound, last[w])
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		switch {
		case a.moment != b.moment:
			return int(min(max(a.moment-b.moment, -1), 1))
		case a.Writer != b.Writer:
			return int(a.Writer) - int(b.Writer)
		}
		return int(a.Seq) - int(b.Seq)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := false
	for w, trimmed := range over {
		lost = lost || after != ""
		at[w] = trimmed
	}
	var out []muster.Entry
	for i := range all {
		e := &all[i]
		if e.moment > bound || len(out) == limit {
			break
		}
		at[int32(e.Writer)] = int64(e.Seq)
		e.Place, e.Here = at.place(), s.own[int32(e.Writer)]
		e.Missed, lost = e.Missed || lost, false
		out = append(out, e.Entry)
	}
	return out, nil
}

// selectFeed gives the entries of all streams behind a place, and of streams of which nothing but what was missed is
// left a row without an entry.
const selectFeed = `SELECT w.id, f.seq, f.moment, f.at, f.facts, w.trimmed
	FROM writer w LEFT JOIN unnest($1::integer[], $2::bigint[]) c(writer, seq) ON c.writer = w.id
	LEFT JOIN LATERAL (SELECT * FROM feed WHERE writer = w.id AND seq > coalesce(c.seq, 0) ORDER BY seq LIMIT $3) f ON true
	WHERE f.seq IS NOT NULL OR w.trimmed > coalesce(c.seq, 0)`

// FeedEnd is how far all streams go.
func (s *Store) FeedEnd(ctx context.Context) (muster.Place, error) {
	at := cursor{}
	err := s.look(ctx, func(ctx context.Context) error {
		got, err := s.pool.Query(ctx, `SELECT w.id, coalesce(f.seq, w.trimmed) FROM writer w
			LEFT JOIN LATERAL (SELECT seq FROM feed WHERE writer = w.id ORDER BY seq DESC LIMIT 1) f ON true WHERE f.seq IS NOT NULL OR w.trimmed > 0`)
		if err != nil {
			return err
		}
		defer got.Close()
		clear(at)
		for got.Next() {
			var writer int32
			var seq int64
			if err := got.Scan(&writer, &seq); err != nil {
				return err
			}
			at[writer] = seq
		}
		return got.Err()
	})
	if err != nil {
		return "", err
	}
	return at.place(), nil
}

const trimEvery = time.Minute

// trim forgets what the feed has kept for long enough, and brings the counters of writers that are no more
// together. The node that does the first part of the background work does it.
func (s *Store) trim() {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		if !slices.Contains(s.leases.owned(), 0) {
			continue
		}
		ctx, cancel := context.WithTimeout(s.life, transactionTime)
		err := s.tidy(ctx)
		cancel()
		if err != nil && !s.stopping.Load() {
			s.log.Warn("the feed could not be trimmed; it will be tried again", "error", err)
		}
	}
}

// writersKept is how many rounds of this, one a minute, a stream that is over is remembered, so that who has not read to
// its end is told so. A writer that is fenced has no use for the number of its batch any more; it counts the rounds.
const writersKept = "-1440"

func (s *Store) tidy(ctx context.Context) error {
	if err := s.gather(ctx); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		before := s.now().Add(-s.opts.FeedKept).UnixMilli()
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{`UPDATE writer w SET trimmed = greatest(w.trimmed, f.seq) FROM (SELECT writer, max(seq) seq FROM feed WHERE kept < $1 GROUP BY writer) f WHERE f.writer = w.id`, []any{before}},
			{`DELETE FROM feed f USING writer w WHERE w.id = f.writer AND f.seq <= w.trimmed`, nil},
			{`UPDATE writer w SET batch = least(w.batch, 0) - 1 WHERE w.fenced AND NOT EXISTS (SELECT 1 FROM feed WHERE writer = w.id)`, nil},
			{`DELETE FROM writer w WHERE w.fenced AND w.batch < ` + writersKept + ` AND NOT EXISTS (SELECT 1 FROM feed WHERE writer = w.id) AND NOT EXISTS (SELECT 1 FROM sums WHERE writer = w.id)`, nil},
			{`DELETE FROM node n WHERE n.ended AND NOT EXISTS (SELECT 1 FROM writer WHERE node = n.id)`, nil},
		} {
			if _, err := tx.Exec(ctx, step.sql, step.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// gatheredAtOnce is of how many jobs counters are brought together in one transaction.
const gatheredAtOnce = 64

// gather adds the counters of writers that are no more to those of writer 0, which is nobody's. A job is held meanwhile, so that it is
// not deleted; a reader sees all of it or nothing.
func (s *Store) gather(ctx context.Context) error {
	for more := true; more; {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			got, err := tx.Query(ctx, `SELECT id FROM job WHERE id IN (SELECT s.job FROM sums s JOIN writer w ON w.id = s.writer WHERE w.fenced LIMIT $1) ORDER BY id FOR SHARE`, gatheredAtOnce)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(got, pgx.RowTo[string])
			more = len(ids) > 0
			if err != nil || !more {
				return err
			}
			_, err = tx.Exec(ctx, gatherSums, ids)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var gatherSums = func() string {
	var columns, totals, adds []string
	for _, name := range sumColumns {
		columns = append(columns, name)
		totals = append(totals, "sum("+name+")")
		adds = append(adds, name+" = s."+name+" + excluded."+name)
	}
	list := strings.Join(columns, ", ")
	return `WITH gone AS (DELETE FROM sums USING writer w WHERE w.id = sums.writer AND w.fenced AND sums.job = ANY($1::text[]) RETURNING sums.*)
		INSERT INTO sums AS s (job, writer, ` + list + `) SELECT job, 0, ` + strings.Join(totals, ", ") + ` FROM gone GROUP BY job ORDER BY job
		ON CONFLICT (job, writer) DO UPDATE SET ` + strings.Join(adds, ", ")
}()
