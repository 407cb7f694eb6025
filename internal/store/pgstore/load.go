package pgstore

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// copiedAtOnce bounds how many rows one COPY takes, for some are followed by rows of other tables.
const copiedAtOnce = 50_000

// Load copies into the tables in one transaction: after an error the store is empty as before.
func (s *Store) Load(ctx context.Context, next func() (store.Row, bool, error)) error {
	return s.aside(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		l := &loader{ctx: ctx, tx: tx, next: next}
		if err := l.begin(); err != nil {
			return err
		}
		for l.pull(); l.row != nil && l.err == nil; {
			if err := l.table(); err != nil && l.err == nil {
				l.err = err
			}
		}
		if l.err != nil {
			return l.err
		}
		return l.end()
	})
}

// A loader takes rows, those of one table after the other.
type loader struct {
	ctx  context.Context
	tx   pgx.Tx
	next func() (store.Row, bool, error)
	err  error

	row     store.Row // the next one; nil: there are no more
	ord     int64     // of the last thing or job
	seq     uint64
	targets [][]any // of the jobs copied last
}

func (l *loader) pull() {
	row, ok, err := l.next()
	if err != nil {
		l.err = foreign{err}
	}
	if l.row = row; !ok || err != nil {
		l.row = nil
	}
}

// begin makes sure that the store is empty.
func (l *loader) begin() error {
	if _, err := l.tx.Exec(l.ctx, `SELECT 1 FROM registry WHERE id = 0 FOR UPDATE`); err != nil {
		return err
	}
	for _, kind := range []struct{ table, what string }{
		{"thing WHERE data IS NOT NULL", "things"}, {"thing_type", "thing types"}, {"thing_group", "thing groups"}, {"template", "job templates"},
		{"job", "jobs"}, {"deadline", "deadlines"}, {"tags", "tags"},
	} {
		var there bool
		if err := l.tx.QueryRow(l.ctx, `SELECT EXISTS (SELECT 1 FROM `+kind.table+`)`).Scan(&there); err != nil {
			return err
		}
		if there {
			return foreign{store.NotEmpty(kind.what)}
		}
	}
	// Names are left of things that are not registered, numbers of jobs that are gone.
	for _, table := range []string{"setting", "thing", "spent", "sums"} {
		if _, err := l.tx.Exec(l.ctx, `DELETE FROM `+table); err != nil {
			return err
		}
	}
	return nil
}

// table copies rows as long as they are of the same table.
func (l *loader) table() error {
	switch l.row.(type) {
	case store.Seq:
		l.seq = max(l.seq, uint64(l.row.(store.Seq)))
		l.pull()
		return nil
	case store.Setting:
		return copyRows(l, "setting", []string{"name", "value"}, func(r store.Setting) ([]any, error) { return []any{[]byte(r.Name), []byte(r.Value)}, nil })
	case store.ThingType:
		return copyRows(l, "thing_type", []string{"name", "data"}, func(r store.ThingType) ([]any, error) {
			data, err := written(r.ThingType)
			return []any{string(r.Name), data}, err
		})
	case store.Group:
		return copyRows(l, "thing_group", []string{"name", "parent", "data"}, func(r store.Group) ([]any, error) {
			data, err := written(r.Group)
			return []any{string(r.Name), string(r.Parent), data}, err
		})
	case store.Thing:
		return copyRows(l, "thing", []string{"name", "ord", "type", "data"}, func(r store.Thing) ([]any, error) {
			l.ord++
			return []any{string(r.Name), l.ord, string(r.Type), encodeThing(&r.Thing)}, nil
		})
	case store.Member:
		return copyRows(l, "member", []string{"grp", "thing", "seq"}, func(r store.Member) ([]any, error) {
			return []any{string(r.Membership.Group), string(r.Membership.Thing), int64(r.Seq)}, nil
		})
	case store.Template:
		return copyRows(l, "template", []string{"id", "data"}, func(r store.Template) ([]any, error) {
			data, err := written(r.Template)
			return []any{string(r.ID), data}, err
		})
	case store.Job:
		return l.jobs()
	case store.Document:
		return copyRows(l, "document", []string{"job", "body", "source"}, func(r store.Document) ([]any, error) {
			return []any{string(r.Job), r.Text, r.Source}, nil
		})
	case store.Tags:
		return copyRows(l, "tags", []string{"kind", "name", "data"}, func(r store.Tags) ([]any, error) {
			return []any{string(r.Of.Kind), r.Of.Name, []byte(r.Tags)}, nil
		})
	case store.Execution:
		return copyRows(l, "execution", []string{"thing", "job", "number", "status", "data"}, func(r store.Execution) ([]any, error) {
			return []any{string(r.Thing), string(r.Job), r.Number, int16(r.Status), codec.AppendExecution(nil, &r.Execution)}, nil
		})
	case store.Spent:
		return copyRows(l, "spent", []string{"job", "thing", "number"}, func(r store.Spent) ([]any, error) {
			return []any{string(r.Job), string(r.Thing), r.Number}, nil
		})
	case store.Deadline:
		return copyRows(l, "deadline", []string{"part", "due", "kind", "subject", "cursor"}, func(r store.Deadline) ([]any, error) {
			return []any{partOf(r.Kind, r.Subject), int64(r.Due), int16(r.Kind), r.Subject, []byte(r.Cursor)}, nil
		})
	}
	return muster.Errorf(muster.Internal, "the store was given a row of unknown kind %T", l.row)
}

// jobs copies jobs, and then the groups that are their targets.
func (l *loader) jobs() error {
	l.targets = l.targets[:0]
	err := copyRows(l, "job", []string{"id", "ord", "status", "selection", "namespace", "data"}, func(r store.Job) ([]any, error) {
		l.ord++
		named := map[muster.GroupName]bool{}
		for _, t := range r.Targets {
			if t.Group != "" && !named[t.Group] {
				named[t.Group] = true
				l.targets = append(l.targets, []any{string(t.Group), l.ord, string(r.ID)})
			}
		}
		data, err := written(r.Job)
		return []any{string(r.ID), l.ord, int16(r.Status), int16(r.Selection), r.Namespace, data}, err
	})
	if err != nil || len(l.targets) == 0 {
		return err
	}
	_, err = l.tx.CopyFrom(l.ctx, pgx.Identifier{"job_target"}, []string{"grp", "ord", "job"}, pgx.CopyFromRows(l.targets))
	return err
}

// copyRows copies the next row and those like it.
func copyRows[R store.Row](l *loader, table string, columns []string, values func(R) ([]any, error)) error {
	n := 0
	_, err := l.tx.CopyFrom(l.ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		r, ok := l.row.(R)
		if !ok || l.err != nil || n == copiedAtOnce {
			return nil, nil
		}
		n++
		v, err := values(r)
		if err == nil {
			l.pull()
		}
		return v, err
	}))
	if sqlState(err) == "23505" {
		return foreign{muster.Errorf(muster.Invalid, "Two rows of the table %s have the same name: %v", table, err)}
	}
	return err
}

// end makes what is not a row: names of things that are not registered but have executions, counters, and
// sequence numbers that begin behind all there are.
func (l *loader) end() error {
	for _, statement := range []string{
		`INSERT INTO thing (name, ord, type) SELECT DISTINCT e.thing, 0, '' FROM execution e WHERE NOT EXISTS (SELECT 1 FROM thing t WHERE t.name = e.thing)`,
		recount,
	} {
		if _, err := l.tx.Exec(l.ctx, statement); err != nil {
			return err
		}
	}
	var moment int64
	if err := l.tx.QueryRow(l.ctx, nextMoment).Scan(&moment); err != nil {
		return err
	}
	if need := int64(max(l.seq, uint64(l.ord))/spanOfMoment) + 1; need > moment {
		_, err := l.tx.Exec(l.ctx, `SELECT setval('moment', $1)`, need)
		return err
	}
	return nil
}

// recount makes the counters of all jobs. They are of no writer's.
const recount = `INSERT INTO sums (job, writer, c1, c2, c3, c4, c5, c6, c7, c8, t1, t2, t3, t4, t5, t6, t7, t8)
	SELECT job, 0,
		count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2), count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
		count(*) FILTER (WHERE status = 5), count(*) FILTER (WHERE status = 6), count(*) FILTER (WHERE status = 7), count(*) FILTER (WHERE status = 8),
		count(*) FILTER (WHERE latest AND status = 1), count(*) FILTER (WHERE latest AND status = 2), count(*) FILTER (WHERE latest AND status = 3), count(*) FILTER (WHERE latest AND status = 4),
		count(*) FILTER (WHERE latest AND status = 5), count(*) FILTER (WHERE latest AND status = 6), count(*) FILTER (WHERE latest AND status = 7), count(*) FILTER (WHERE latest AND status = 8)
	FROM (SELECT job, status, number = max(number) OVER (PARTITION BY thing, job) AS latest FROM execution) e GROUP BY job`

func written(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
