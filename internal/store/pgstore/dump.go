package pgstore

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store"
)

// Dump reads in one transaction, each table once, in the order of its rows; nodes may go on meanwhile.
func (s *Store) Dump(ctx context.Context, fn func(store.Row) error) error {
	return s.aside(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		d := &dumper{checker{ctx: ctx, tx: tx}, fn}
		for _, table := range []func(){d.sequence, d.settings, d.types, d.groups, d.things, d.members, d.templates, d.jobs, d.documents, d.tags, d.executions, d.spent, d.deadlines} {
			table()
		}
		return d.err
	})
}

// A foreign error is not the database's.
type foreign struct{ error }

// aside runs fn in a transaction of a connection of its own, for as long as it takes.
func (s *Store) aside(ctx context.Context, o pgx.TxOptions, fn func(pgx.Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.stopping.Load() {
		return errClosed
	}
	conn, err := s.connect(ctx)
	if err != nil {
		_, err = s.unreadable(ctx, err)
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tx, err := conn.BeginTx(ctx, o)
	if err == nil {
		_, err = tx.Exec(ctx, "SET LOCAL statement_timeout = 0")
	}
	if err == nil {
		_, err = tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	}
	if err == nil {
		err = fn(tx)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err == nil {
		s.well()
		return nil
	}
	if ours, ok := errors.AsType[foreign](err); ok {
		return ours.error
	}
	_, err = s.unreadable(ctx, err)
	return err
}

// A dumper reads as a checker does, and gives rows.
type dumper struct {
	checker
	give func(store.Row) error
}

// rows gives what a query finds.
func (d *dumper) rows(sql string, scan func(pgx.Rows) (store.Row, error)) {
	d.each(sql, func(got pgx.Rows) error {
		row, err := scan(got)
		if err != nil {
			return err
		}
		return d.take(row)
	})
}

func (d *dumper) take(row store.Row) error {
	if err := d.give(row); err != nil {
		return foreign{err}
	}
	return nil
}

// sequence is the end of the newest moment.
func (d *dumper) sequence() {
	d.rows(`SELECT last_value FROM moment`, func(got pgx.Rows) (store.Row, error) {
		moment, err := one[int64](got)
		return store.Seq(moment*spanOfMoment + spanOfMoment - 1), err
	})
}

func (d *dumper) settings() {
	d.rows(`SELECT name, value FROM setting ORDER BY name`, func(got pgx.Rows) (store.Row, error) {
		var name, value []byte
		err := got.Scan(&name, &value)
		return store.Setting{Name: string(name), Value: string(value)}, err
	})
}

func (d *dumper) types() {
	d.rows(`SELECT data FROM thing_type ORDER BY name`, func(got pgx.Rows) (store.Row, error) {
		t, err := fromJSON[muster.ThingType](got)
		return store.ThingType{ThingType: t}, err
	})
}

// groups come as they were made: a parent before its children.
func (d *dumper) groups() {
	var all []muster.Group
	d.each(`SELECT data FROM thing_group`, func(got pgx.Rows) error {
		g, err := fromJSON[muster.Group](got)
		all = append(all, g)
		return err
	})
	slices.SortFunc(all, func(a, b muster.Group) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, g := range all {
		if d.err == nil {
			d.err = d.take(store.Group{Group: g})
		}
	}
}

func (d *dumper) things() {
	d.rows(`SELECT name, data FROM thing WHERE data IS NOT NULL ORDER BY ord, name`, func(got pgx.Rows) (store.Row, error) {
		var name string
		var data []byte
		if err := got.Scan(&name, &data); err != nil {
			return nil, err
		}
		t, err := decodeThing(data, muster.ThingName(name))
		return store.Thing{Thing: t}, err
	})
}

func (d *dumper) members() {
	d.rows(`SELECT grp, thing, seq FROM member ORDER BY grp, thing`, func(got pgx.Rows) (store.Row, error) {
		var m muster.Membership
		var seq int64
		err := got.Scan(&m.Group, &m.Thing, &seq)
		m.Seq = uint64(seq)
		return store.Member{Membership: m}, err
	})
}

func (d *dumper) templates() {
	d.rows(`SELECT data FROM template ORDER BY id`, func(got pgx.Rows) (store.Row, error) {
		t, err := fromJSON[muster.Template](got)
		return store.Template{Template: t}, err
	})
}

func (d *dumper) jobs() {
	d.rows(`SELECT id, ord, data FROM job ORDER BY ord`, func(got pgx.Rows) (store.Row, error) {
		j, err := scanJob(got)
		return store.Job{Job: j.Job}, err
	})
}

func (d *dumper) documents() {
	d.rows(`SELECT d.job, d.body, d.source FROM document d JOIN job j ON j.id = d.job ORDER BY j.ord`, func(got pgx.Rows) (store.Row, error) {
		var doc store.Document
		err := got.Scan(&doc.Job, &doc.Text, &doc.Source)
		return doc, err
	})
}

func (d *dumper) tags() {
	d.rows(`SELECT kind, name, data FROM tags ORDER BY kind, name`, func(got pgx.Rows) (store.Row, error) {
		var t store.Tags
		var data []byte
		err := got.Scan(&t.Of.Kind, &t.Of.Name, &data)
		t.Tags = muster.Pairs(data)
		return t, err
	})
}

func (d *dumper) executions() {
	d.rows(`SELECT e.thing, e.job, e.number, e.data FROM execution e JOIN job j ON j.id = e.job ORDER BY j.ord, e.thing, e.number`, func(got pgx.Rows) (store.Row, error) {
		e, err := scanExecution(got)
		return store.Execution{Execution: e}, err
	})
}

// spent leaves out what newer executions have overtaken.
func (d *dumper) spent() {
	d.rows(`SELECT s.job, s.thing, s.number FROM spent s JOIN job j ON j.id = s.job
		WHERE NOT EXISTS (SELECT 1 FROM execution e WHERE e.thing = s.thing AND e.job = s.job AND e.number >= s.number) ORDER BY j.ord, s.thing`, func(got pgx.Rows) (store.Row, error) {
		var s store.Spent
		err := got.Scan(&s.Job, &s.Thing, &s.Number)
		return s, err
	})
}

func (d *dumper) deadlines() {
	d.rows(`SELECT due, kind, subject, cursor FROM deadline ORDER BY due, kind, subject`, func(got pgx.Rows) (store.Row, error) {
		var due int64
		var kind int16
		var cursor []byte
		var subject string
		err := got.Scan(&due, &kind, &subject, &cursor)
		return store.Deadline{Due: muster.Time(due), Kind: store.DeadlineKind(kind), Subject: subject, Cursor: string(cursor)}, err
	})
}
