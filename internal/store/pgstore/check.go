package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"muster"
)

// Check compares what is kept with itself, as it is at one moment; nodes may go on meanwhile.
func (s *Store) Check(ctx context.Context, problem func(string)) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// A recount takes as long as it takes.
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
		return err
	}
	c := &checker{ctx: ctx, tx: tx, problem: func(format string, args ...any) { problem(fmt.Sprintf(format, args...)) }}
	for _, check := range []func(){c.counters, c.records, c.orphans, c.feed} {
		check()
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

type checker struct {
	ctx     context.Context
	tx      pgx.Tx
	problem func(string, ...any)
	err     error
}

// each calls fn for the rows of a query.
func (c *checker) each(sql string, fn func(pgx.Rows) error) {
	if c.err != nil {
		return
	}
	got, err := c.tx.Query(c.ctx, sql)
	if err != nil {
		c.err = err
		return
	}
	defer got.Close()
	for got.Next() {
		if err := fn(got); err != nil {
			c.err = err
			return
		}
	}
	c.err = got.Err()
}

// counters compares the counters of jobs with a recount.
func (c *checker) counters() {
	counted, kept := map[string]*sums{}, map[string]*sums{}
	of := func(m map[string]*sums, job string) *sums {
		if m[job] == nil {
			m[job] = &sums{}
		}
		return m[job]
	}
	c.each(`SELECT job, status, count(*) FROM execution GROUP BY job, status`, func(got pgx.Rows) error {
		var job string
		var status int16
		var n int64
		err := got.Scan(&job, &status, &n)
		if status > 0 && status < int16(muster.NumStatus) {
			of(counted, job).counts[status] = n
		} else {
			c.problem("job %s has %d executions of the unknown status %d", job, n, status)
		}
		return err
	})
	c.each(`SELECT job, status, count(*) FROM (SELECT DISTINCT ON (thing, job) job, status FROM execution ORDER BY thing, job, number DESC) e GROUP BY job, status`, func(got pgx.Rows) error {
		var job string
		var status int16
		var n int64
		err := got.Scan(&job, &status, &n)
		if status > 0 && status < int16(muster.NumStatus) {
			of(counted, job).tally[status] = n
		}
		return err
	})
	c.each(`SELECT job, sum(c1)::bigint, sum(c2)::bigint, sum(c3)::bigint, sum(c4)::bigint, sum(c5)::bigint, sum(c6)::bigint, sum(c7)::bigint, sum(c8)::bigint,
		sum(t1)::bigint, sum(t2)::bigint, sum(t3)::bigint, sum(t4)::bigint, sum(t5)::bigint, sum(t6)::bigint, sum(t7)::bigint, sum(t8)::bigint FROM sums GROUP BY job`, func(got pgx.Rows) error {
		var job string
		var s sums
		to := []any{&job}
		for i := 1; i < int(muster.NumStatus); i++ {
			to = append(to, &s.counts[i])
		}
		for i := 1; i < int(muster.NumStatus); i++ {
			to = append(to, &s.tally[i])
		}
		err := got.Scan(to...)
		*of(kept, job) = s
		return err
	})
	for job := range counted {
		of(kept, job)
	}
	for job, k := range kept {
		n := of(counted, job)
		for st := muster.Queued; st < muster.NumStatus; st++ {
			if k.counts[st] != n.counts[st] {
				c.problem("job %s counts %d %s executions, but there are %d", job, k.counts[st], st, n.counts[st])
			}
			if k.tally[st] != n.tally[st] {
				c.problem("job %s counts %d things whose latest attempt is %s, but there are %d", job, k.tally[st], st, n.tally[st])
			}
		}
	}
}

// records reads every execution that is not over, job and thing.
func (c *checker) records() {
	c.each(`SELECT thing, job, number, data, status FROM execution`, func(got pgx.Rows) error {
		var thing, job string
		var number int64
		var data []byte
		var status int16
		if err := got.Scan(&thing, &job, &number, &data, &status); err != nil {
			return err
		}
		e, err := decodeExecution(thing, job, number, data)
		switch {
		case err != nil:
			c.problem("%v", err)
		case int16(e.Status) != status:
			c.problem("execution %d of job %s on thing %s is %s, but listed as %s", number, job, thing, e.Status, muster.Status(status))
		case !e.Details.Valid():
			c.problem("the details of execution %d of job %s on thing %s do not decode", number, job, thing)
		}
		return nil
	})
	c.each(`SELECT id, ord, data, status, selection FROM job`, func(got pgx.Rows) error {
		var id string
		var ord int64
		var data []byte
		var status, selection int16
		if err := got.Scan(&id, &ord, &data, &status, &selection); err != nil {
			return err
		}
		j, err := decodeJob(data, ord)
		switch {
		case err != nil:
			c.problem("the row of job %s does not decode: %v", id, err)
		case string(j.ID) != id || int16(j.Status) != status || int16(j.Selection) != selection:
			c.problem("job %s is %s, but listed as %s", id, j.Status, muster.JobStatus(status))
		}
		return nil
	})
	c.each(`SELECT name, data FROM thing WHERE data IS NOT NULL`, func(got pgx.Rows) error {
		var name string
		var data []byte
		if err := got.Scan(&name, &data); err != nil {
			return err
		}
		if _, err := decodeThing(data, muster.ThingName(name)); err != nil {
			c.problem("%v", err)
		}
		return nil
	})
}

// orphans looks for rows that speak of others that are not there.
func (c *checker) orphans() {
	for _, q := range []struct{ sql, says string }{
		{`SELECT e.job || '/' || e.thing FROM execution e WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = e.job)`, "execution %s is of a job that does not exist"},
		{`SELECT e.job || '/' || e.thing FROM execution e WHERE NOT EXISTS (SELECT 1 FROM thing WHERE name = e.thing)`, "execution %s is of a thing that has no row"},
		{`SELECT s.job FROM sums s WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = s.job)`, "there are counters of job %s, which does not exist"},
		{`SELECT d.job FROM document d WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = d.job)`, "there is a document of job %s, which does not exist"},
		{`SELECT t.job FROM job_target t WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = t.job AND ord = t.ord)`, "there are targets of job %s, which does not exist"},
		{`SELECT m.grp || '/' || m.thing FROM member m WHERE NOT EXISTS (SELECT 1 FROM thing_group WHERE name = m.grp)`, "membership %s is of a group that does not exist"},
	} {
		c.each(q.sql, func(got pgx.Rows) error {
			what, err := one[string](got)
			c.problem(q.says, what)
			return err
		})
	}
}

// feed looks for entries that are missing, and reads all.
func (c *checker) feed() {
	last, first := map[int32]int64{}, map[int32]int64{}
	c.each(`SELECT writer, seq, facts FROM feed ORDER BY writer, seq`, func(got pgx.Rows) error {
		var writer int32
		var seq int64
		var facts []byte
		if err := got.Scan(&writer, &seq, &facts); err != nil {
			return err
		}
		if before, ok := last[writer]; ok && seq != before+1 {
			c.problem("entry %d:%d of the feed follows entry %d", writer, seq, before)
		}
		if _, ok := first[writer]; !ok {
			first[writer] = seq
		}
		last[writer] = seq
		if _, ok := decodeFacts(facts); !ok {
			c.problem("entry %d:%d of the feed does not decode", writer, seq)
		}
		return nil
	})
	c.each(`SELECT id, trimmed FROM writer`, func(got pgx.Rows) error {
		var id int32
		var trimmed int64
		err := got.Scan(&id, &trimmed)
		if n, ok := first[id]; ok && n != trimmed+1 {
			c.problem("the feed of writer %d begins with entry %d, but it was trimmed up to %d", id, n, trimmed)
		}
		return err
	})
}
