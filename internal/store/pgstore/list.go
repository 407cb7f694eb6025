package pgstore

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store"
)

// Lists come from the database, so what an Update has written so far is written there first; a function that
// shares its transaction with others is given one of its own before.
func (r *reader) listing() bool {
	if r.err == nil && r.update != nil {
		r.update.flushForList()
	}
	return r.err == nil
}

// scanBound is how many rows a page of a filtered list may look at.
const scanBound = 2000

// byName is a page of a list that goes by name.
func byName[T any](r *reader, list string, p store.Page, scan func(pgx.Rows) (T, error), name func(T) string, sql string, args ...any) ([]T, string, error) {
	place, err := store.PagePlace(list, p.After)
	if err != nil || !r.listing() {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	out := rows(r, scan, sql, append(args, string(place), place != nil, limit+1)...)
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	return out, store.PageToken(list, []byte(name(out[limit-1]))), nil
}

func (r *reader) ThingTypes(p store.Page) ([]muster.ThingType, string, error) {
	return byName(r, "types", p, fromJSON[muster.ThingType], func(t muster.ThingType) string { return string(t.Name) },
		`SELECT data FROM thing_type WHERE name > $1 OR NOT $2 ORDER BY name LIMIT $3`)
}

func (r *reader) Templates(p store.Page) ([]muster.Template, string, error) {
	return byName(r, "templates", p, fromJSON[muster.Template], func(t muster.Template) string { return string(t.ID) },
		`SELECT data FROM template WHERE id > $1 OR NOT $2 ORDER BY id LIMIT $3`)
}

func (r *reader) Groups(parent muster.GroupName, p store.Page) ([]muster.Group, string, error) {
	name := func(g muster.Group) string { return string(g.Name) }
	if parent == "" {
		return byName(r, "groups\x00", p, fromJSON[muster.Group], name,
			`SELECT data FROM thing_group WHERE name > $1 OR NOT $2 ORDER BY name LIMIT $3`)
	}
	return byName(r, "groups\x00"+string(parent), p, fromJSON[muster.Group], name,
		`SELECT data FROM thing_group WHERE parent = $1 AND (name > $2 OR NOT $3) ORDER BY name LIMIT $4`, string(parent))
}

// Members lists by the name of the thing. Those of a page are asked about together.
func (r *reader) Members(name muster.GroupName, p store.Page) ([]muster.Membership, string, error) {
	out, next, err := byName(r, "members\x00"+string(name), p, scanMember, func(m muster.Membership) string { return string(m.Thing) },
		`SELECT grp, thing, seq FROM member WHERE grp = $1 AND (thing > $2 OR NOT $3) ORDER BY thing LIMIT $4`, string(name))
	if r.update != nil && len(out) > 1 {
		names := make([]muster.ThingName, len(out))
		for i := range out {
			names[i] = out[i].Thing
		}
		r.update.expect(names)
	}
	return out, next, err
}

func (r *reader) Settings(prefix string, p store.Page) ([]store.Setting, string, error) {
	list := "settings\x00" + prefix
	place, err := store.PagePlace(list, p.After)
	if err != nil || !r.listing() {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	from := []byte(prefix)
	if place != nil {
		from = append(place, 0)
	}
	out := rows(r, func(got pgx.Rows) (x store.Setting, err error) {
		var name, value []byte
		err = got.Scan(&name, &value)
		return store.Setting{Name: string(name), Value: string(value)}, err
	}, `SELECT name, value FROM setting WHERE name >= $1 AND ($2::bytea IS NULL OR name < $2) ORDER BY name LIMIT $3`, from, prefixEnd(prefix), limit+1)
	if len(out) <= limit {
		return out, "", nil
	}
	out = out[:limit]
	return out, store.PageToken(list, []byte(out[limit-1].Name)), nil
}

func ordPlace(ord uint64) []byte { return binary.BigEndian.AppendUint64(nil, ord) }

func ordOf(place []byte) (int64, error) {
	switch len(place) {
	case 0:
		return 0, nil
	case 8:
		return int64(binary.BigEndian.Uint64(place)), nil
	}
	return 0, store.ErrToken()
}

// Things lists in the order of registration.
func (r *reader) Things(f store.ThingFilter, p store.Page) (out []muster.Thing, next string, err error) {
	list := fmt.Sprintf("things\x00%s\x00%s\x00%s\x00%t", f.Type, f.Attribute, f.Value, f.Prefix)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, err := ordOf(place)
	if err != nil || !r.listing() {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	look := limit
	if f.Attribute != "" {
		look = max(limit, scanBound)
	}
	type placed struct {
		muster.Thing
		ord uint64
	}
	scan := func(got pgx.Rows) (t placed, err error) {
		var name string
		var ord int64
		var data []byte
		if err := got.Scan(&name, &ord, &data); err != nil {
			return t, err
		}
		t.ord = uint64(ord)
		t.Thing, err = decodeThing(data, muster.ThingName(name))
		return t, err
	}
	var found []placed
	if f.Type != "" {
		found = rows(r, scan, `SELECT name, ord, data FROM thing WHERE type = $1 AND ord > $2 AND data IS NOT NULL ORDER BY ord LIMIT $3`, string(f.Type), from, look+1)
	} else {
		found = rows(r, scan, `SELECT name, ord, data FROM thing WHERE ord > $1 AND data IS NOT NULL ORDER BY ord LIMIT $2`, from, look+1)
	}
	for i := range found {
		if len(out) == limit || i == look {
			return out, store.PageToken(list, ordPlace(uint64(from))), nil
		}
		from = int64(found[i].ord)
		if f.Attribute != "" {
			have, ok := found[i].Attributes.Get(f.Attribute)
			if !ok || have != f.Value && !(f.Prefix && strings.HasPrefix(have, f.Value)) {
				continue
			}
		}
		out = append(out, found[i].Thing)
	}
	return out, "", nil
}

func (r *reader) Jobs(f store.JobFilter, p store.Page) ([]*muster.Job, string, error) {
	sel := ""
	if f.Selection != nil {
		sel = f.Selection.String()
	}
	list := fmt.Sprintf("jobs\x00%d\x00%s\x00%s\x00%s", f.Status, sel, f.Group, f.Namespace)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	from, err := ordOf(place)
	if err != nil || !r.listing() {
		return nil, "", err
	}
	if place == nil {
		from = 1<<63 - 1
	}
	limit := max(1, p.Limit)
	args := []any{from, limit + 1}
	where := ""
	add := func(condition string, v any) {
		args = append(args, v)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if f.Status != muster.NoJobStatus {
		add("j.status = $%d", int16(f.Status))
	}
	if f.Selection != nil {
		add("j.selection = $%d", int16(*f.Selection))
	}
	if f.Namespace != "" {
		add("j.namespace = $%d", f.Namespace)
	}
	tables := "job j"
	if f.Group != "" {
		tables = "job_target t JOIN job j ON j.id = t.job"
		add("t.grp = $%d", string(f.Group))
	}
	found := rows(r, scanJob, `SELECT j.id, j.ord, j.data FROM `+tables+` WHERE j.ord < $1`+where+` ORDER BY j.ord DESC LIMIT $2`, args...)
	next := ""
	if len(found) > limit {
		found = found[:limit]
		next = store.PageToken(list, ordPlace(found[limit-1].ord))
	}
	out := make([]*muster.Job, len(found))
	for i := range found {
		out[i] = found[i].Job
	}
	return out, next, nil
}

func (r *reader) Targeting(g muster.GroupName) iter.Seq[*muster.Job] {
	return func(yield func(*muster.Job) bool) {
		if !r.listing() {
			return
		}
		for _, j := range rows(r, scanJob, `SELECT j.id, j.ord, j.data FROM job_target t JOIN job j ON j.id = t.job WHERE t.grp = $1 AND j.status = $2 AND j.selection = $3 ORDER BY t.ord DESC`,
			string(g), int16(muster.JobInProgress), int16(muster.Continuous)) {
			if !yield(j.Job) {
				return
			}
		}
	}
}

func (r *reader) JobCount(st muster.JobStatus) int {
	if !r.listing() {
		return 0
	}
	if n := rows(r, one[int64], `SELECT count(*) FROM job WHERE status = $1`, int16(st)); len(n) > 0 {
		return int(n[0])
	}
	return 0
}

// execPlace is the place of an execution in a list: what the list goes by, and the number.
func execPlace(by string, number int64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(number)), by...)
}

func splitExecPlace(place []byte) (by string, number int64, err error) {
	if place == nil {
		return "", 0, nil
	}
	if len(place) < 8 {
		return "", 0, store.ErrToken()
	}
	return string(place[8:]), int64(binary.BigEndian.Uint64(place)), nil
}

// ExecutionsOfJob goes by thing and number.
func (r *reader) ExecutionsOfJob(job muster.JobID, st muster.Status, p store.Page) ([]muster.Execution, string, error) {
	j, ok := r.job(job)
	list := fmt.Sprintf("executions of job\x00%s\x00%d\x00%d", job, j.ord, st)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	thing, number, err := splitExecPlace(place)
	if err != nil || !ok || !r.listing() {
		return nil, "", err
	}
	limit := max(1, p.Limit)
	var out []muster.Execution
	const page = `(SELECT thing, job, number, data FROM execution WHERE job = $1 AND status = %s AND (thing, number) > ($2, $3) ORDER BY thing, number LIMIT $4)`
	if st != muster.NoStatus {
		out = rows(r, scanExecution, fmt.Sprintf(page, "$5"), string(job), thing, number, limit+1, int16(st))
	} else {
		var parts []string
		for s := muster.Queued; s < muster.NumStatus; s++ {
			parts = append(parts, fmt.Sprintf(page, fmt.Sprint(int(s))))
		}
		out = rows(r, scanExecution, strings.Join(parts, " UNION ALL ")+" ORDER BY thing, number LIMIT $4", string(job), thing, number, limit+1)
	}
	next := ""
	if len(out) > limit {
		out = out[:limit]
		next = store.PageToken(list, execPlace(string(out[limit-1].Thing), out[limit-1].Number))
	}
	if r.update != nil && len(out) > 1 {
		names := make([]muster.ThingName, len(out))
		for i := range out {
			names[i] = out[i].Thing
		}
		r.update.expect(names)
	}
	return out, next, nil
}

// ExecutionsOfThing lists by job, newest first, and the attempts at a job newest first too.
func (r *reader) ExecutionsOfThing(thing muster.ThingName, job muster.JobID, st muster.Status, p store.Page) ([]muster.Execution, string, error) {
	list := fmt.Sprintf("executions of thing\x00%s\x00%s\x00%d", thing, job, st)
	place, err := store.PagePlace(list, p.After)
	if err != nil {
		return nil, "", err
	}
	by, number, err := splitExecPlace(place)
	if err != nil {
		return nil, "", err
	}
	ord := int64(1<<63 - 1)
	if place != nil {
		if ord, err = ordOf([]byte(by)); err != nil {
			return nil, "", err
		}
	}
	if !r.listing() {
		return nil, "", nil
	}
	type placed struct {
		muster.Execution
		ord uint64
	}
	limit := max(1, p.Limit)
	out := rows(r, func(got pgx.Rows) (x placed, err error) {
		var thing, job string
		var ord int64
		var data []byte
		if err := got.Scan(&thing, &job, &x.Number, &data, &ord); err != nil {
			return x, err
		}
		x.ord = uint64(ord)
		x.Execution, err = decodeExecution(thing, job, x.Number, data)
		return x, err
	}, `SELECT e.thing, e.job, e.number, e.data, j.ord FROM execution e JOIN job j ON j.id = e.job
		WHERE e.thing = $1 AND ($2 = '' OR e.job = $2) AND ($3 = 0 OR e.status = $3) AND (j.ord, e.number) < ($4, $5)
		ORDER BY j.ord DESC, e.number DESC LIMIT $6`, string(thing), string(job), int16(st), ord, number, limit+1)
	next := ""
	if len(out) > limit {
		out = out[:limit]
		next = store.PageToken(list, execPlace(string(ordPlace(out[limit-1].ord)), out[limit-1].Number))
	}
	es := make([]muster.Execution, len(out))
	for i := range out {
		es[i] = out[i].Execution
	}
	return es, next, nil
}

// Due gives the deadlines of the parts of the background work that this node does. In an Update what they are about
// is held from then on.
func (r *reader) Due(t muster.Time, limit int) []store.Deadline {
	if !r.listing() {
		return nil
	}
	parts := r.s.leases.owned()
	if r.update != nil {
		limit = min(limit, dueAtOnce)
		parts = r.update.holdLeases(parts)
	}
	out := rows(r, func(got pgx.Rows) (d store.Deadline, err error) {
		var due int64
		var kind int16
		var cursor []byte
		err = got.Scan(&due, &kind, &d.Subject, &cursor)
		d.Due, d.Kind, d.Cursor = muster.Time(due), store.DeadlineKind(kind), string(cursor)
		return d, err
	}, `SELECT d.due, d.kind, d.subject, d.cursor FROM unnest($1::smallint[]) p(part)
		CROSS JOIN LATERAL (SELECT * FROM deadline WHERE part = p.part AND due <= $2 ORDER BY due, kind, subject LIMIT $3) d
		ORDER BY d.due, d.kind, d.subject LIMIT $3`, parts, int64(t), limit)
	if r.update != nil && len(out) > 0 {
		r.update.holdDue(out)
	}
	return out
}

// dueAtOnce bounds what one transaction of the background work holds.
const dueAtOnce = 256

func (r *reader) NextDue() muster.Time {
	if !r.listing() {
		return 0
	}
	got := rows(r, one[int64], `SELECT coalesce(min(d.due), 0) FROM unnest($1::smallint[]) p(part)
		CROSS JOIN LATERAL (SELECT due FROM deadline WHERE part = p.part ORDER BY due LIMIT 1) d`, r.s.leases.owned())
	if len(got) == 0 {
		return 0
	}
	return muster.Time(got[0])
}
