package pgstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store/codec"
)

// querier is a connection within a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// A reader finds rows: in its layers, the newest first, then in the database. What it has read it keeps in the
// lowest layer, for a transaction sees no more of it than it did.
type reader struct {
	s      *Store
	ctx    context.Context
	q      querier
	layers []*layer // from what was read to what the present function has written
	err    error    // what a read came upon; the surrounding View or Update returns it

	// herd are the things of which one was asked for lately: when something of one of them has to be read, it
	// is read of all of them at once. jobs are those that their queues speak of.
	herd map[muster.ThingName]bool
	jobs map[muster.JobID]bool

	update *tx // nil in a view
}

func (r *reader) fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
	}
}

func (r *reader) Exact() bool { return false }

func (r *reader) base() *layer { return r.layers[0] }

// find looks a row up in the layers.
func find[K comparable, V any](r *reader, of func(*layer) table[K, V], key K) (v V, ok, known bool) {
	for i := len(r.layers) - 1; i >= 0; i-- {
		if k, found := of(r.layers[i])[key]; found {
			return k.row, k.ok, true
		}
	}
	return v, false, false
}

// rows runs a query and collects what scan makes of its rows.
func rows[T any](r *reader, scan func(pgx.Rows) (T, error), sql string, args ...any) (out []T) {
	if r.err != nil {
		return nil
	}
	got, err := r.q.Query(r.ctx, sql, args...)
	if err != nil {
		r.fail(err)
		return nil
	}
	defer got.Close()
	for got.Next() {
		v, err := scan(got)
		if err != nil {
			r.fail(err)
			return nil
		}
		out = append(out, v)
	}
	r.fail(got.Err())
	return out
}

func one[T any](got pgx.Rows) (v T, err error) { return v, got.Scan(&v) }

// fromJSON reads a row that was kept as JSON.
func fromJSON[T any](got pgx.Rows) (v T, err error) {
	var text []byte
	if err := got.Scan(&text); err != nil {
		return v, err
	}
	return v, json.Unmarshal(text, &v)
}

// row finds one row by its name: in the layers, else by a query that gives one value or none.
func row[K comparable, V any](r *reader, of func(*layer) table[K, V], key K, scan func(pgx.Rows) (V, error), sql string, args ...any) (v V, ok bool) {
	if v, ok, known := find(r, of, key); known {
		return v, ok
	}
	got := rows(r, scan, sql, args...)
	if r.err != nil {
		return v, false
	}
	if len(got) > 0 {
		v, ok = got[0], true
	}
	of(r.base())[key] = known[V]{v, ok}
	return v, ok
}

// together are a thing and those of its herd of which something is not known.
func (r *reader) together(name muster.ThingName, known func(muster.ThingName) bool) []string {
	if !r.herd[name] {
		return []string{string(name)}
	}
	names := make([]string, 0, len(r.herd))
	for n := range r.herd {
		if !known(n) {
			names = append(names, string(n))
		}
	}
	slices.Sort(names)
	return names
}

func (r *reader) knowsThing(name muster.ThingName) bool {
	_, _, known := find(r, func(l *layer) table[muster.ThingName, muster.Thing] { return l.things }, name)
	return known
}

// needThing sees to it that a thing's row and queue are known.
func (r *reader) needThing(name muster.ThingName) {
	if r.err != nil || r.knowsThing(name) {
		return
	}
	names := r.together(name, r.knowsThing)
	b := &pgx.Batch{}
	b.Queue(selectThings, names)
	b.Queue(selectPending, names)
	results := r.q.SendBatch(r.ctx, b)
	got, err := results.Query()
	r.takeThings(got, err, names)
	got, err = results.Query()
	r.takePending(got, err, names)
	r.fail(results.Close())
}

const (
	selectThings  = `SELECT name, ord, data FROM thing WHERE name = ANY($1::text[])`
	lockThings    = selectThings + ` ORDER BY name FOR UPDATE`
	selectPending = `SELECT thing, job, number, data FROM execution WHERE thing = ANY($1::text[]) AND status <= 2`
	selectJobs    = `SELECT id, ord, data FROM job WHERE id = ANY($1::text[])`
	jobsPending   = `SELECT id, ord, data FROM job WHERE id IN (SELECT DISTINCT job FROM execution WHERE thing = ANY($1::text[]) AND status <= 2)`
)

// takeThings keeps what a query for things has found, and that there are no others of the names.
func (r *reader) takeThings(got pgx.Rows, err error, names []string) {
	if err != nil {
		r.fail(err)
		return
	}
	defer got.Close()
	base := r.base()
	for _, n := range names {
		base.things[muster.ThingName(n)] = known[muster.Thing]{}
	}
	for got.Next() {
		var name string
		var ord int64
		var data []byte
		if err := got.Scan(&name, &ord, &data); err != nil {
			r.fail(err)
			return
		}
		if r.update != nil {
			r.update.present[muster.ThingName(name)] = true
		}
		if data == nil {
			continue // it is not registered; something is left of it
		}
		t, err := decodeThing(data, muster.ThingName(name))
		r.fail(err)
		base.things[t.Name] = known[muster.Thing]{t, true}
	}
	r.fail(got.Err())
}

// takePending keeps the queues of things.
func (r *reader) takePending(got pgx.Rows, err error, names []string) {
	if err != nil {
		r.fail(err)
		return
	}
	defer got.Close()
	queues := make(map[muster.ThingName][]muster.Execution, len(names))
	var job muster.JobID // mostly they are of the same
	for got.Next() {
		e, err := scanPending(got, names, job)
		if err != nil {
			r.fail(err)
			return
		}
		job = e.Job
		queues[e.Thing] = append(queues[e.Thing], e)
		r.jobs[e.Job] = true
	}
	r.fail(got.Err())
	base := r.base()
	for _, n := range names {
		q := queues[muster.ThingName(n)]
		slices.SortFunc(q, func(a, b muster.Execution) int {
			if muster.Before(a, b) {
				return -1
			}
			return 1
		})
		base.queues[muster.ThingName(n)] = known[[]muster.Execution]{q, true}
	}
}

func (r *reader) takeJobs(got pgx.Rows, err error) {
	if err != nil {
		r.fail(err)
		return
	}
	defer got.Close()
	for got.Next() {
		j, err := r.scanJob(got)
		if err != nil {
			r.fail(err)
			return
		}
		r.base().jobs[j.ID] = known[jobRow]{j, true}
	}
	r.fail(got.Err())
}

func scanExecution(got pgx.Rows) (e muster.Execution, err error) {
	var thing, job string
	var data []byte
	if err := got.Scan(&thing, &job, &e.Number, &data); err != nil {
		return e, err
	}
	return decodeExecution(thing, job, e.Number, data)
}

// scanPending reads what scanExecution does, of one of the things of names, which are sorted. Names are not copied, and
// columns not looked at one by one: there are many such rows.
func scanPending(got pgx.Rows, names []string, job muster.JobID) (e muster.Execution, err error) {
	raw, fields := got.RawValues(), got.FieldDescriptions()
	i, ok := slices.BinarySearchFunc(names, raw[0], func(name string, raw []byte) int {
		switch {
		case name < string(raw):
			return -1
		case name == string(raw):
			return 0
		}
		return 1
	})
	if !ok || fields[2].Format != pgx.BinaryFormatCode || fields[3].Format != pgx.BinaryFormatCode {
		return scanExecution(got)
	}
	if string(job) != string(raw[1]) {
		job = muster.JobID(raw[1])
	}
	return decodeExecution(names[i], string(job), int64(binary.BigEndian.Uint64(raw[2])), raw[3])
}

func decodeExecution(thing, job string, number int64, data []byte) (muster.Execution, error) {
	e := muster.Execution{Thing: muster.ThingName(thing), Job: muster.JobID(job), Number: number}
	if !codec.DecodeExecution(data, &e) {
		return e, muster.Errorf(muster.Internal, "execution %d of job %s on thing %s does not decode", number, job, thing)
	}
	return e, nil
}

func scanJob(got pgx.Rows) (j jobRow, err error) {
	_, ord, data, err := jobColumns(got)
	if err != nil {
		return j, err
	}
	return decodeJob(data, ord)
}

// jobColumns reads a row of the table of jobs without decoding it.
func jobColumns(got pgx.Rows) (id muster.JobID, ord int64, data []byte, err error) {
	var name string
	err = got.Scan(&name, &ord, &data)
	return muster.JobID(name), ord, data, err
}

func (r *reader) scanJob(got pgx.Rows) (jobRow, error) {
	if r.update != nil {
		return r.update.w.scanJob(got)
	}
	return scanJob(got)
}

func decodeJob(data []byte, ord int64) (jobRow, error) {
	j := jobRow{&muster.Job{}, uint64(ord)}
	return j, json.Unmarshal(data, j.Job)
}

func (r *reader) Thing(name muster.ThingName) (muster.Thing, bool) {
	r.needThing(name)
	t, ok, _ := find(r, func(l *layer) table[muster.ThingName, muster.Thing] { return l.things }, name)
	return t, ok
}

func (r *reader) pending(name muster.ThingName) []muster.Execution {
	r.needThing(name)
	q, _, _ := find(r, func(l *layer) table[muster.ThingName, []muster.Execution] { return l.queues }, name)
	return q
}

func (r *reader) Queue(name muster.ThingName) (muster.Queue, bool) {
	_, registered := r.Thing(name)
	q := muster.Queue{Thing: name, Executions: r.pending(name)}
	return q, registered || len(q.Executions) > 0
}

func (r *reader) Execution(job muster.JobID, thing muster.ThingName, number int64) (e muster.Execution, ok bool) {
	if number == 0 {
		if number = r.endsOf(job, thing).latest; number == 0 {
			return e, false
		}
	}
	key := execKey{thing, job, number}
	if e, ok, known := find(r, func(l *layer) table[execKey, muster.Execution] { return l.execs }, key); known {
		return e, ok
	}
	if _, _, known := find(r, func(l *layer) table[muster.ThingName, []muster.Execution] { return l.queues }, thing); known {
		q := muster.Queue{Executions: r.pending(thing)}
		if i := q.Find(job, number); i >= 0 {
			return q.Executions[i], true
		}
	}
	return row(r, func(l *layer) table[execKey, muster.Execution] { return l.execs }, key, scanExecution,
		`SELECT thing, job, number, data FROM execution WHERE thing = $1 AND job = $2 AND number = $3`, string(thing), string(job), number)
}

// endsOf are the numbers of the latest execution of a thing at a job, and of the last there was.
func (r *reader) endsOf(job muster.JobID, thing muster.ThingName) ends {
	of := func(l *layer) table[jobThing, ends] { return l.ends }
	if e, _, known := find(r, of, jobThing{job, thing}); known {
		return e
	}
	if r.err != nil {
		return ends{}
	}
	names := r.together(thing, func(n muster.ThingName) bool {
		_, _, known := find(r, of, jobThing{job, n})
		return known
	})
	// Of the latest execution the row comes along: who asks for its number asks for it next.
	b := &pgx.Batch{}
	b.Queue(`SELECT DISTINCT ON (thing) thing, job, number, data FROM execution WHERE job = $1 AND thing = ANY($2::text[]) ORDER BY thing, number DESC`, string(job), names)
	b.Queue(`SELECT thing, number FROM spent WHERE job = $1 AND thing = ANY($2::text[])`, string(job), names)
	results := r.q.SendBatch(r.ctx, b)
	defer func() { r.fail(results.Close()) }()
	base := r.base()
	for _, n := range names {
		base.ends[jobThing{job, muster.ThingName(n)}] = known[ends]{ok: true}
	}
	got, err := results.Query()
	if err != nil {
		r.fail(err)
		return ends{}
	}
	for got.Next() {
		e, err := scanExecution(got)
		if err != nil {
			r.fail(err)
			break
		}
		base.ends[jobThing{job, e.Thing}] = known[ends]{ends{e.Number, e.Number}, true}
		key := execKey{e.Thing, job, e.Number}
		if _, _, have := find(r, func(l *layer) table[execKey, muster.Execution] { return l.execs }, key); !have {
			base.execs[key] = known[muster.Execution]{e, true}
		}
	}
	got.Close()
	r.fail(got.Err())
	if got, err = results.Query(); err != nil {
		r.fail(err)
		return ends{}
	}
	for got.Next() {
		var name string
		var number int64
		if err := got.Scan(&name, &number); err != nil {
			r.fail(err)
			break
		}
		key := jobThing{job, muster.ThingName(name)}
		e := base.ends[key].row
		e.issued = max(e.issued, number)
		base.ends[key] = known[ends]{e, true}
	}
	got.Close()
	r.fail(got.Err())
	return base.ends[jobThing{job, thing}].row
}

func (r *reader) GroupsOf(name muster.ThingName) []muster.Membership {
	of := func(l *layer) table[muster.ThingName, []muster.Membership] { return l.groupsOf }
	if ms, _, known := find(r, of, name); known {
		return slices.Clone(ms)
	}
	names := r.together(name, func(n muster.ThingName) bool { _, _, known := find(r, of, n); return known })
	base := r.base()
	for _, n := range names {
		base.groupsOf[muster.ThingName(n)] = known[[]muster.Membership]{nil, true}
	}
	for _, m := range rows(r, scanMember, `SELECT grp, thing, seq FROM member WHERE thing = ANY($1::text[]) ORDER BY thing, grp`, names) {
		base.groupsOf[m.Thing] = known[[]muster.Membership]{append(base.groupsOf[m.Thing].row, m), true}
	}
	return slices.Clone(base.groupsOf[name].row)
}

func scanMember(got pgx.Rows) (m muster.Membership, err error) {
	var group, thing string
	var seq int64
	err = got.Scan(&group, &thing, &seq)
	return muster.Membership{Group: muster.GroupName(group), Thing: muster.ThingName(thing), Seq: uint64(seq)}, err
}

func (r *reader) ThingType(name muster.TypeName) (muster.ThingType, bool) {
	return row(r, func(l *layer) table[muster.TypeName, muster.ThingType] { return l.types }, name, fromJSON[muster.ThingType],
		`SELECT data FROM thing_type WHERE name = $1`, string(name))
}

func (r *reader) Group(name muster.GroupName) (muster.Group, bool) {
	return row(r, func(l *layer) table[muster.GroupName, muster.Group] { return l.groups }, name, fromJSON[muster.Group],
		`SELECT data FROM thing_group WHERE name = $1`, string(name))
}

func (r *reader) Template(id muster.TemplateID) (muster.Template, bool) {
	return row(r, func(l *layer) table[muster.TemplateID, muster.Template] { return l.templates }, id, fromJSON[muster.Template],
		`SELECT data FROM template WHERE id = $1`, string(id))
}

func (r *reader) Tags(of muster.Ref) muster.Pairs {
	p, _ := row(r, func(l *layer) table[muster.Ref, muster.Pairs] { return l.tags }, of, func(got pgx.Rows) (muster.Pairs, error) {
		b, err := one[[]byte](got)
		return muster.Pairs(b), err
	}, `SELECT data FROM tags WHERE kind = $1 AND name = $2`, string(of.Kind), of.Name)
	return p
}

func (r *reader) Setting(name string) string {
	if r.update != nil {
		r.update.settingsRead[name] = true
	}
	v, _ := row(r, func(l *layer) table[string, string] { return l.settings }, name, func(got pgx.Rows) (string, error) {
		b, err := one[[]byte](got)
		return string(b), err
	}, `SELECT value FROM setting WHERE name = $1`, []byte(name))
	return v
}

func (r *reader) job(id muster.JobID) (jobRow, bool) {
	of := func(l *layer) table[muster.JobID, jobRow] { return l.jobs }
	if j, ok, known := find(r, of, id); known {
		return j, ok
	}
	ids := []string{string(id)}
	if r.jobs[id] {
		ids = ids[:0]
		for other := range r.jobs {
			if _, _, known := find(r, of, other); !known {
				ids = append(ids, string(other))
			}
		}
	}
	base := r.base()
	for _, other := range ids {
		base.jobs[muster.JobID(other)] = known[jobRow]{}
	}
	for _, j := range rows(r, r.scanJob, selectJobs, ids) {
		base.jobs[j.ID] = known[jobRow]{j, true}
	}
	k := base.jobs[id]
	return k.row, k.ok
}

func (r *reader) Job(id muster.JobID) (*muster.Job, bool) {
	j, ok := r.job(id)
	return j.Job, ok
}

func (r *reader) Document(id muster.JobID) (muster.Document, bool) {
	return row(r, func(l *layer) table[muster.JobID, muster.Document] { return l.documents }, id, func(got pgx.Rows) (d muster.Document, err error) {
		return d, got.Scan(&d.Text, &d.Source)
	}, `SELECT body, source FROM document WHERE job = $1`, string(id))
}

const sumsOf = `SELECT coalesce(sum(c1),0)::bigint, coalesce(sum(c2),0)::bigint, coalesce(sum(c3),0)::bigint, coalesce(sum(c4),0)::bigint,
	coalesce(sum(c5),0)::bigint, coalesce(sum(c6),0)::bigint, coalesce(sum(c7),0)::bigint, coalesce(sum(c8),0)::bigint,
	coalesce(sum(t1),0)::bigint, coalesce(sum(t2),0)::bigint, coalesce(sum(t3),0)::bigint, coalesce(sum(t4),0)::bigint,
	coalesce(sum(t5),0)::bigint, coalesce(sum(t6),0)::bigint, coalesce(sum(t7),0)::bigint, coalesce(sum(t8),0)::bigint
	FROM sums WHERE job = $1`

func scanSums(got pgx.Rows) (s sums, err error) {
	to := make([]any, 0, 16)
	for i := 1; i < int(muster.NumStatus); i++ {
		to = append(to, &s.counts[i])
	}
	for i := 1; i < int(muster.NumStatus); i++ {
		to = append(to, &s.tally[i])
	}
	return s, got.Scan(to...)
}

// sums are a job's counters: those that are committed, and what this transaction has changed.
func (r *reader) sums(id muster.JobID) (s sums) {
	if _, ok := r.job(id); !ok {
		return s
	}
	for i, l := range r.layers {
		var d *sums
		if d = l.sums[id]; d == nil && i == 0 {
			// Read once; what a flush has written is added to it.
			d = &sums{}
			if got := rows(r, scanSums, sumsOf, string(id)); len(got) > 0 {
				*d = got[0]
			}
			l.sums[id] = d
		}
		if d != nil {
			s.add(d)
		}
	}
	return s
}

func (r *reader) Counts(id muster.JobID) muster.Counts { return r.sums(id).counts }
func (r *reader) Tally(id muster.JobID) muster.Tally   { return r.sums(id).tally }

func encodeThing(t *muster.Thing) []byte {
	b := codec.AppendText(nil, t.ID)
	b = binary.AppendUvarint(b, uint64(t.Version))
	b = codec.AppendText(b, t.Type)
	b = codec.AppendText(b, t.BillingGroup)
	return append(b, t.Attributes...)
}

func decodeThing(v []byte, name muster.ThingName) (t muster.Thing, err error) {
	d := codec.Decoder{B: v}
	t.Name = name
	t.ID = d.Text()
	t.Version = int64(d.Uvarint())
	t.Type = muster.TypeName(d.Text())
	t.BillingGroup = d.Text()
	t.Attributes = muster.Pairs(d.B)
	if d.Bad || !t.Attributes.Valid() {
		return t, muster.Errorf(muster.Internal, "the row of thing %s does not decode", name)
	}
	return t, nil
}

// prefixEnd is the least string that is greater than all that begin with a prefix, nil if there is none.
func prefixEnd(prefix string) []byte {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return nil
	}
	b[len(b)-1]++
	return b
}
