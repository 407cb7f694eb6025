package pgstore

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// parts is into how many the background work is divided among the nodes.
const parts = 16

// partOf says to which part of the background work something belongs: that of an execution by its thing, all other
// by the job.
func partOf(kind store.DeadlineKind, subject string) int16 {
	if kind == store.Timer {
		subject, _, _ = strings.Cut(subject, "/")
	}
	return partOfName(subject)
}

func partOfName(name string) int16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int16(h.Sum32() % parts)
}

// flush writes to the database what the function has written so far. Only a function that has its transaction
// for itself may: others could not take it back.
func (t *tx) flush() {
	l := t.top()
	if t.err != nil || !l.written() {
		return
	}
	b := &pgx.Batch{}
	t.statements(l, b, false)
	if b.Len() > 0 {
		t.flushed = true
		t.fail(t.q.SendBatch(t.ctx, b).Close())
	}
	base := t.base()
	for id, s := range l.sums {
		if sum := base.sums[id]; sum != nil { // else it is read from the database, which has them by now
			sum.add(s)
		}
	}
	clear(l.sums)
	base.over(l)
	clear(base.deadlines)
	base.gone = nil
	facts, told, at := l.facts, l.told, l.at
	l.reset()
	l.facts, l.told, l.at = facts, told, at
}

// flushForList is flush before the database is asked for a list.
func (t *tx) flushForList() {
	if t.shared {
		panic(alone{})
	}
	t.flush()
}

// statements queues what writes a layer, one statement a table. With the end of the transaction comes the entry of
// the feed.
func (t *tx) statements(l *layer, b *pgx.Batch, end bool) {
	t.jobStatements(l, b)
	t.thingStatements(l, b)
	t.executionStatements(l, b)
	t.rowStatements(l, b)
	if end && l.told > 0 {
		t.w.at = max(t.w.at, l.at)
		at := l.at
		if at == 0 {
			at = t.w.at
		}
		b.Queue(`INSERT INTO feed (writer, seq, moment, at, kept, facts) VALUES ($1, $2, $3, $4, $5, $6)`,
			t.w.id, t.w.feed+1, int64(t.moment), int64(at), t.s.now().UnixMilli(), l.facts)
	}
}

func (t *tx) text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.fail(&muster.Error{Kind: muster.Internal, Message: "a row cannot be written", Cause: err})
	}
	return string(b)
}

func (t *tx) jobStatements(l *layer, b *pgx.Batch) {
	if len(l.gone) > 0 {
		ids := texts(l.gone)
		for _, statement := range []string{`DELETE FROM job WHERE id = ANY($1::text[])`, `DELETE FROM job_target WHERE job = ANY($1::text[])`,
			`DELETE FROM document WHERE job = ANY($1::text[])`, `DELETE FROM sums WHERE job = ANY($1::text[])`,
			`DELETE FROM execution WHERE job = ANY($1::text[])`, `DELETE FROM spent WHERE job = ANY($1::text[])`} {
			b.Queue(statement, ids)
		}
	}
	for id, k := range l.jobs {
		if !k.ok {
			continue // gone has it
		}
		j, old := k.row, t.base().jobs[id]
		statement := `UPDATE job SET ord = $2, status = $3, selection = $4, namespace = $5, data = $6 WHERE id = $1`
		if !old.ok {
			// No conflict is taken care of: if another node has made the job meanwhile all is done again.
			statement = `INSERT INTO job (id, ord, status, selection, namespace, data) VALUES ($1, $2, $3, $4, $5, $6)`
		}
		b.Queue(statement, string(id), int64(j.ord), int16(j.Status), int16(j.Selection), j.Namespace, t.text(j.Job))
		if !old.ok || !slices.Equal(old.row.Targets, j.Targets) {
			b.Queue(`DELETE FROM job_target WHERE job = $1`, string(id))
			var groups []string
			for _, target := range j.Targets {
				if target.Group != "" {
					groups = append(groups, string(target.Group))
				}
			}
			if len(groups) > 0 {
				b.Queue(`INSERT INTO job_target (grp, ord, job) SELECT DISTINCT g, $2::bigint, $3::text FROM unnest($1::text[]) g`, groups, int64(j.ord), string(id))
			}
		}
	}
	for id, k := range l.documents {
		if k.ok {
			b.Queue(`INSERT INTO document (job, body, source) VALUES ($1, $2, $3) ON CONFLICT (job) DO UPDATE SET body = excluded.body, source = excluded.source`,
				string(id), k.row.Text, k.row.Source)
		} else {
			b.Queue(`DELETE FROM document WHERE job = $1`, string(id))
		}
	}
}

func (t *tx) thingStatements(l *layer, b *pgx.Batch) {
	var names, changed []string
	var types, changedTypes []string
	var ords, changedOrds []int64
	var data, changedData [][]byte
	var gone []string
	// In the order of names: two transactions that make the same things must not wait for each other in turn.
	for _, text := range sortedNames(l.things) {
		name := muster.ThingName(text)
		k := l.things[name]
		switch {
		case !k.ok:
			gone = append(gone, string(name))
		case t.present[name]:
			changed, changedTypes, changedData = append(changed, string(name)), append(changedTypes, string(k.row.Type)), append(changedData, encodeThing(&k.row))
			changedOrds = append(changedOrds, int64(t.NextSeq())) // for one that was gone and comes again
		default:
			names, types, ords, data = append(names, string(name)), append(types, string(k.row.Type)), append(ords, int64(t.NextSeq())), append(data, encodeThing(&k.row))
			t.present[name] = true
		}
	}
	// A thing that is not registered has a row to hold when something of it is kept.
	for _, text := range sortedNames(l.queues) {
		name := muster.ThingName(text)
		if _, registered := l.things[name]; !registered && !t.present[name] {
			names, types, ords, data = append(names, string(name)), append(types, ""), append(ords, 0), append(data, nil)
			t.present[name] = true
		}
	}
	if len(names) > 0 {
		// No conflict is taken care of: if another node has made the thing meanwhile all is done again.
		b.Queue(`INSERT INTO thing (name, type, ord, data) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])`, names, types, ords, data)
	}
	if len(changed) > 0 {
		b.Queue(`UPDATE thing t SET type = n.type, data = n.data, ord = CASE WHEN t.data IS NULL THEN n.ord ELSE t.ord END
			FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) n(name, type, data, ord) WHERE t.name = n.name`, changed, changedTypes, changedData, changedOrds)
	}
	if len(gone) > 0 {
		b.Queue(`UPDATE thing SET type = '', data = NULL WHERE name = ANY($1::text[])`, gone)
	}
	var groups, members, leftGroups, left []string
	var seqs []int64
	for key, k := range l.members {
		if k.ok {
			groups, members, seqs = append(groups, string(key.group)), append(members, string(key.thing)), append(seqs, int64(k.row.Seq))
		} else {
			leftGroups, left = append(leftGroups, string(key.group)), append(left, string(key.thing))
		}
	}
	if len(groups) > 0 {
		b.Queue(`INSERT INTO member (grp, thing, seq) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) ON CONFLICT (grp, thing) DO UPDATE SET seq = excluded.seq`,
			groups, members, seqs)
	}
	if len(left) > 0 {
		b.Queue(`DELETE FROM member m USING unnest($1::text[], $2::text[]) n(grp, thing) WHERE m.grp = n.grp AND m.thing = n.thing`, leftGroups, left)
	}
	for name, k := range l.groups {
		if k.ok {
			statement := `UPDATE thing_group SET parent = $2, data = $3 WHERE name = $1`
			if !t.base().groups[name].ok {
				statement = `INSERT INTO thing_group (name, parent, data) VALUES ($1, $2, $3)`
			}
			b.Queue(statement, string(name), string(k.row.Parent), t.text(k.row))
		} else {
			b.Queue(`DELETE FROM thing_group WHERE name = $1`, string(name))
			b.Queue(`DELETE FROM member WHERE grp = $1`, string(name))
		}
	}
}

func (t *tx) executionStatements(l *layer, b *pgx.Batch) {
	var e, gone struct {
		things, jobs []string
		numbers      []int64
		statuses     []int16
		data         [][]byte
	}
	n := len(l.execs)
	e.things, e.jobs, e.numbers, e.statuses, e.data = make([]string, 0, n), make([]string, 0, n), make([]int64, 0, n), make([]int16, 0, n), make([][]byte, 0, n)
	record := make([]byte, 0, 64*n) // of all, end to end
	for key, k := range l.execs {
		if !k.ok {
			gone.things, gone.jobs, gone.numbers = append(gone.things, string(key.thing)), append(gone.jobs, string(key.job)), append(gone.numbers, key.number)
			continue
		}
		start := len(record)
		record = codec.AppendExecution(record, &k.row)
		e.things, e.jobs, e.numbers = append(e.things, string(key.thing)), append(e.jobs, string(key.job)), append(e.numbers, key.number)
		e.statuses, e.data = append(e.statuses, int16(k.row.Status)), append(e.data, record[start:len(record):len(record)])
	}
	if len(e.things) > 0 {
		b.Queue(`INSERT INTO execution (thing, job, number, status, data) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::bytea[])
			ON CONFLICT (thing, job, number) DO UPDATE SET status = excluded.status, data = excluded.data`, e.things, e.jobs, e.numbers, e.statuses, e.data)
	}
	if len(gone.things) > 0 {
		b.Queue(`DELETE FROM execution e USING unnest($1::text[], $2::text[], $3::bigint[]) n(thing, job, number)
			WHERE e.thing = n.thing AND e.job = n.job AND e.number = n.number`, gone.things, gone.jobs, gone.numbers)
	}
	for key, k := range l.spent {
		b.Queue(`INSERT INTO spent (job, thing, number) VALUES ($1, $2, $3) ON CONFLICT (job, thing) DO UPDATE SET number = excluded.number`,
			string(key.job), string(key.thing), k.row)
	}
	for id, s := range l.sums {
		if *s == (sums{}) {
			continue
		}
		args := []any{string(id), t.w.id}
		for i := 1; i < int(muster.NumStatus); i++ {
			args = append(args, s.counts[i])
		}
		for i := 1; i < int(muster.NumStatus); i++ {
			args = append(args, s.tally[i])
		}
		b.Queue(addSums, args...)
	}
	var puts, drops struct {
		parts, kinds []int16
		dues         []int64
		subjects     []string
		cursors      [][]byte
	}
	// Deadlines are nobody's to hold, so here too the order matters.
	keys := make([]deadlineKey, 0, len(l.deadlines))
	for key := range l.deadlines {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b deadlineKey) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.kind, b.kind), cmp.Compare(a.subject, b.subject))
	})
	for _, key := range keys {
		k := l.deadlines[key]
		to := &drops
		if k.ok {
			to = &puts
			to.cursors = append(to.cursors, []byte(k.row))
		}
		to.parts, to.kinds = append(to.parts, partOf(key.kind, key.subject)), append(to.kinds, int16(key.kind))
		to.dues, to.subjects = append(to.dues, int64(key.due)), append(to.subjects, key.subject)
	}
	if len(drops.parts) > 0 {
		b.Queue(`DELETE FROM deadline d USING unnest($1::smallint[], $2::bigint[], $3::smallint[], $4::text[]) n(part, due, kind, subject)
			WHERE d.part = n.part AND d.due = n.due AND d.kind = n.kind AND d.subject = n.subject`, drops.parts, drops.dues, drops.kinds, drops.subjects)
	}
	if len(puts.parts) > 0 {
		b.Queue(`INSERT INTO deadline (part, due, kind, subject, cursor) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::smallint[], $4::text[], $5::bytea[])
			ON CONFLICT (part, due, kind, subject) DO UPDATE SET cursor = excluded.cursor`, puts.parts, puts.dues, puts.kinds, puts.subjects, puts.cursors)
	}
}

// sumColumns are the counters of a job: its executions by status, then its things by that of their latest attempt.
var sumColumns = []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8"}

// addSums adds to the row of a job that is this writer's own: no two writers ever wait for each other at it.
var addSums = func() string {
	var values, adds []string
	for i, name := range sumColumns {
		adds = append(adds, name+" = s."+name+" + excluded."+name)
		values = append(values, "$"+strconv.Itoa(i+3))
	}
	return `INSERT INTO sums AS s (job, writer, ` + strings.Join(sumColumns, ", ") + `) VALUES ($1, $2, ` + strings.Join(values, ", ") + `)
		ON CONFLICT (job, writer) DO UPDATE SET ` + strings.Join(adds, ", ")
}()

func (t *tx) rowStatements(l *layer, b *pgx.Batch) {
	for name, k := range l.types {
		if k.ok {
			b.Queue(`INSERT INTO thing_type (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = excluded.data`, string(name), t.text(k.row))
		} else {
			b.Queue(`DELETE FROM thing_type WHERE name = $1`, string(name))
		}
	}
	for id, k := range l.templates {
		if k.ok {
			b.Queue(`INSERT INTO template (id, data) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET data = excluded.data`, string(id), t.text(k.row))
		} else {
			b.Queue(`DELETE FROM template WHERE id = $1`, string(id))
		}
	}
	for of, k := range l.tags {
		if k.ok {
			b.Queue(`INSERT INTO tags (kind, name, data) VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO UPDATE SET data = excluded.data`, string(of.Kind), of.Name, []byte(k.row))
		} else {
			b.Queue(`DELETE FROM tags WHERE kind = $1 AND name = $2`, string(of.Kind), of.Name)
		}
	}
	var names, values, gone [][]byte
	for _, name := range sortedNames(l.settings) {
		if k := l.settings[name]; k.ok {
			names, values = append(names, []byte(name)), append(values, []byte(k.row))
		} else {
			gone = append(gone, []byte(name))
		}
	}
	if len(names) > 0 {
		b.Queue(`INSERT INTO setting (name, value) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, names, values)
	}
	if len(gone) > 0 {
		b.Queue(`DELETE FROM setting WHERE name = ANY($1::bytea[])`, gone)
	}
}
