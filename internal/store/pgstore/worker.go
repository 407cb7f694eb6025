package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store"
)

const (
	// batchAtMost bounds how many Updates share a transaction.
	batchAtMost = 512
	// triesAtMost is how often a transaction is tried that others get in the way of.
	triesAtMost = 20
	// patience is how long an Update or a View is tried while the database does not answer.
	patience = 5 * time.Second
	// busyTime is how long one is tried that others get in the way of.
	busyTime = 3 * patience
	// transactionTime is the longest that one transaction may take, batchTime one of devices' acts, readTime a View.
	transactionTime = 30 * time.Second
	batchTime       = 10 * time.Second
	readTime        = 10 * time.Second
	// connectTime is how long a connection may take to be made.
	connectTime = 3 * time.Second
)

// A request is an Update that waits for its turn.
type request struct {
	ctx   context.Context
	on    store.Keys
	fn    func(store.Tx) error
	since time.Time
	err   error
	done  chan struct{}
}

// waiting is the queue of requests of one or several workers.
type waiting struct {
	mu     sync.Mutex
	queue  []*request
	closed bool
	wake   chan struct{}
}

func newWaiting() *waiting { return &waiting{wake: make(chan struct{}, 1)} }

func (w *waiting) add(r *request) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.queue = append(w.queue, r)
	w.mu.Unlock()
	w.signal()
	return true
}

func (w *waiting) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take waits for up to limit requests; none is the end.
func (w *waiting) take(limit int) []*request {
	for {
		w.mu.Lock()
		n := min(limit, len(w.queue))
		got := w.queue[:n:n]
		w.queue = w.queue[n:]
		rest, closed := len(w.queue) > 0, w.closed
		w.mu.Unlock()
		if rest || closed {
			w.signal() // for another worker
		}
		if n > 0 || closed {
			return got
		}
		<-w.wake
	}
}

func (w *waiting) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

// A worker runs transactions on a connection of its own, one after the other. Its entries of the feed are a stream
// without gaps, for nobody else writes under its number; when it does not know how a transaction ended it
// finds out, and takes a new number.
type worker struct {
	s       *Store
	shared  bool // many requests a transaction
	waiting *waiting
	done    *sync.WaitGroup

	conn  *pgx.Conn
	node  string // whose worker it was when it took its number
	id    int32
	batch int64 // the last transaction that has been committed
	feed  int64 // the last entry
	at    muster.Time
	took  time.Duration         // of the last round trip that wrote and committed
	jobs  map[muster.JobID]bool // to be held by the next transactions, for the last one turned out to need them
	hot   map[muster.JobID]*hotJob
	spare []*layer // empty ones, of transactions before
}

// layer is an empty one.
func (w *worker) layer() *layer {
	if n := len(w.spare); n > 0 {
		l := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return l
	}
	return newLayer()
}

// keep empties layers for the next transaction. Those that have become very large are dropped.
func (w *worker) keep(layers ...*layer) {
	for _, l := range layers {
		if l.small() {
			l.reset()
			w.spare = append(w.spare, l)
		}
	}
}

// A hotJob is one that queues spoke of lately: it is read along with the queues of the next ones, and not decoded again as
// long as it is the same.
type hotJob struct {
	data []byte
	row  jobRow
	idle int // transactions since a queue spoke of it
}

const (
	hotAtMost = 256
	hotFor    = 16 // transactions
)

// scanJob reads a row of the table of jobs.
func (w *worker) scanJob(got pgx.Rows) (jobRow, error) {
	id, ord, data, err := jobColumns(got)
	if err != nil {
		return jobRow{}, err
	}
	h := w.hot[id]
	if h != nil && h.row.ord == uint64(ord) && bytes.Equal(h.data, data) {
		return h.row, nil
	}
	j, err := decodeJob(data, ord)
	if h != nil && err == nil {
		h.data, h.row = data, j
	}
	return j, err
}

// heat has the jobs that queues speak of read with the next ones.
func (w *worker) heat(jobs map[muster.JobID]bool) {
	for id, h := range w.hot {
		if h.idle++; h.idle > hotFor {
			delete(w.hot, id)
		}
	}
	for id := range jobs {
		if h := w.hot[id]; h != nil {
			h.idle = 0
		} else if len(w.hot) < hotAtMost {
			w.hot[id] = &hotJob{}
		}
	}
}

func (w *worker) run() {
	defer w.done.Done()
	for {
		limit := 1
		if w.shared {
			limit = batchAtMost
			// Who has just been answered, and whose next act is already here, goes first: a transaction of a few
			// costs the database almost as much as one of many.
			runtime.Gosched()
		}
		got := w.waiting.take(limit)
		if len(got) == 0 {
			w.hangUp()
			return
		}
		w.serve(got)
	}
}

func (w *worker) hangUp() {
	if w.conn == nil {
		return
	}
	drop(w.conn)
	w.conn = nil
}

// serve answers requests, sooner or later. One whose caller has given up before it began is dropped.
func (w *worker) serve(rs []*request) {
	begun := rs[:0:0]
	for _, r := range rs {
		if r.err = r.ctx.Err(); r.err != nil {
			close(r.done)
			continue
		}
		begun = append(begun, r)
	}
	if len(begun) == 0 {
		return
	}
	w.do(begun)
}

// do tries until the requests are done, or cannot be, or patience has run out.
func (w *worker) do(begun []*request) {
	start := w.s.now()
	w.s.stats.Waits.Took(start.Sub(begun[0].since))
	need := newLocks()
	for _, r := range begun {
		need.keys(r.on)
	}
	tries := 0
	for {
		err := w.transaction(begun, &need)
		var again *needMore
		switch {
		case err == nil:
			w.s.committed(len(begun), w.s.now().Sub(start), w.took)
			w.answer(begun)
			return
		case errors.As(err, &again):
			tries++
			if tries > triesAtMost || w.s.now().Sub(start) > busyTime {
				w.fail(begun, muster.Errorf(muster.Unavailable, "Too much changes at the same time; try again"))
				return
			}
		case errors.Is(err, errFenced):
			w.s.rejoin(w.node)
			if tries++; tries > triesAtMost {
				w.fail(begun, muster.Errorf(muster.Unavailable, "Other nodes take this one for dead; try again"))
				return
			}
		case errors.Is(err, errUnknown):
			w.s.broken(err)
			w.fail(begun, &muster.Error{Kind: muster.Unavailable, Message: "The database was lost before it answered; try again", Cause: err})
			return
		case inTheWay(err):
			tries++
			if sqlState(err) == "40P01" {
				w.s.stats.deadlocks.Add(1)
			}
			if tries > triesAtMost || w.s.now().Sub(start) > busyTime {
				w.fail(begun, &muster.Error{Kind: muster.Unavailable, Message: "The database is busy; try again", Cause: err})
				return
			}
		case !lost(err):
			if len(begun) > 1 { // not all of them are at fault
				for i := range begun {
					w.do(begun[i : i+1])
				}
				return
			}
			refused, ok := errors.AsType[*muster.Error](err)
			if !ok {
				refused = &muster.Error{Kind: muster.Internal, Message: "the database refused a statement", Cause: err}
			}
			w.s.log.Error("an update cannot be written", "error", err)
			w.fail(begun, refused)
			return
		default:
			w.s.broken(err)
			if w.s.now().Sub(start) > patience || w.s.stopping.Load() {
				w.fail(begun, &muster.Error{Kind: muster.Unavailable, Message: "The database does not answer; try again", Cause: err})
				return
			}
			rest := time.NewTimer(100 * time.Millisecond)
			select {
			case <-rest.C:
			case <-w.s.closing:
			}
			rest.Stop()
		}
	}
}

func (w *worker) fail(rs []*request, err error) {
	if w.s.opts.OnBatch != nil {
		w.s.opts.OnBatch(store.Batch{Updates: len(rs), Took: w.s.now().Sub(rs[0].since), Err: err})
	}
	for _, r := range rs {
		r.err = err
	}
	w.answer(rs)
}

func (w *worker) answer(rs []*request) {
	for _, r := range rs {
		if errors.Is(r.err, errAlone) {
			r.err = nil
			if w.s.single.add(r) {
				continue
			}
			r.err = errClosed
		}
		close(r.done)
	}
}

var (
	errClosed = muster.Errorf(muster.Unavailable, "The store is closed")
	errFenced = errors.New("this node was taken for dead")
	errAlone  = errors.New("it needs a transaction of its own")
	// errUnknown is of a commit whose outcome could not be found out. Its requests must not be run again.
	errUnknown = errors.New("the connection was lost during a commit")
)

// needMore says that functions wrote what the transaction did not hold: it has to be done again.
type needMore struct{}

func (*needMore) Error() string { return "more has to be held" }

// inTheWay reports whether a transaction failed because of another one, so that it may be done again: a
// deadlock, a serialization failure, a lock that did not come in time, or a row that somebody else has made.
func inTheWay(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01", "55P03", "23505":
		return true
	}
	return false
}

// lost reports whether the database, rather than a statement, is at fault.
func lost(err error) bool {
	switch state := sqlState(err); {
	case state == "":
		_, told := errors.AsType[*muster.Error](err)
		return !told
	case slices.Contains(faults, state[:2]), state == "25P03", state == "25006":
		return true
	}
	return false
}

// faults are the classes of errors of a server that is at fault: of connections, resources, operators, the system, and itself.
var faults = []string{"08", "53", "57", "58", "XX"}

// transaction runs the functions of requests in one transaction and commits it. What it finds it has to hold it
// adds to need.
func (w *worker) transaction(rs []*request, need *locks) error {
	w.took = 0
	most := transactionTime
	if w.shared {
		most = batchTime
	}
	ctx, cancel := context.WithTimeout(w.s.life, most)
	defer cancel()
	if err := w.open(ctx); err != nil {
		return err
	}
	for id := range w.jobs {
		if _, known := need.jobs[id]; !known {
			need.jobs[id] = false
		}
	}
	t := &tx{w: w, shared: w.shared, missing: newLocks(), present: map[muster.ThingName]bool{}, settingsRead: map[string]bool{}}
	defer func() { w.keep(t.layers...) }()
	t.reader = reader{s: w.s, ctx: ctx, q: counting{w.conn, &w.s.stats}, layers: []*layer{w.layer()}, herd: map[muster.ThingName]bool{}, jobs: map[muster.JobID]bool{}, update: t}
	if err := t.begin(need); err != nil {
		return w.undo(ctx, err)
	}
	if t.shared {
		t.layers = append(t.layers, w.layer()) // of the functions before
	}
	for _, r := range rs {
		r.err = t.run(r.fn)
		if t.err != nil {
			break
		}
	}
	if !t.missing.empty() && (t.err == nil || sqlState(t.err) == "") {
		need.add(&t.missing)
		if w.shared {
			clear(w.jobs)
			for id := range t.missing.jobs {
				w.jobs[id] = true
			}
		}
		return w.undo(ctx, &needMore{})
	}
	if t.err != nil {
		return w.undo(ctx, t.err)
	}
	l := t.top()
	if !w.shared && rs[0].err != nil || !l.written() && !t.flushed {
		return w.undo(ctx, nil)
	}
	b := &pgx.Batch{}
	t.statements(l, b, true)
	b.Queue("COMMIT")
	if t.err != nil {
		return w.undo(ctx, t.err)
	}
	written := w.s.now()
	err := t.q.SendBatch(ctx, b).Close()
	w.took = w.s.now().Sub(written)
	if err != nil {
		if sqlState(err) != "" && !lost(err) {
			return w.undo(ctx, err)
		}
		switch committed, known := w.outcome(ctx); {
		case !known:
			return errors.Join(errUnknown, err)
		case !committed:
			return err
		}
		// It was committed, though nobody said so.
		w.batch++
		return nil
	}
	w.batch++
	if l.told > 0 {
		w.feed++
	}
	return nil
}

// undo ends a transaction that failed; a connection that cannot even do that is given up.
func (w *worker) undo(ctx context.Context, cause error) error {
	if w.conn == nil {
		return cause
	}
	refused := cause != nil && sqlState(cause) != "" && lost(cause) // another connection may find a server that is well
	if _, err := w.conn.Exec(ctx, "ROLLBACK"); err != nil || refused || w.conn.IsClosed() {
		w.hangUp()
		w.id = 0
		if cause == nil {
			return err
		}
	}
	return cause
}

// open sees to it that the worker has a connection and a number.
func (w *worker) open(ctx context.Context) error {
	node := w.s.node()
	if w.conn != nil && w.node == node && w.id != 0 && !w.conn.IsClosed() {
		return nil
	}
	if w.conn == nil || w.conn.IsClosed() {
		conn, err := w.s.connect(ctx)
		if err != nil {
			return err
		}
		w.conn = conn
	}
	w.node = node
	var id int32
	enlist := func() error {
		return w.conn.QueryRow(ctx, `INSERT INTO writer (id, node) SELECT nextval('writer_ids'), id FROM node WHERE id = $1 AND NOT ended FOR SHARE RETURNING id`, node).Scan(&id)
	}
	err := enlist()
	if errors.Is(err, pgx.ErrNoRows) {
		if err = w.s.enter(ctx, w.conn, node); err == nil {
			err = enlist()
		}
		if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, errFenced) {
			return errFenced
		}
	}
	if err != nil {
		w.hangUp()
		return err
	}
	w.id, w.batch, w.feed = id, 0, 0
	w.s.mine(id)
	return nil
}

// outcome finds out whether the transaction that was on its way when the connection was lost has been committed. The
// old number is made useless first, which waits for a transaction that is still going on, unless it can be ended.
func (w *worker) outcome(ctx context.Context) (committed, known bool) {
	id, batch, process := w.id, w.batch+1, w.conn.PgConn().PID()
	w.hangUp()
	w.id = 0
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		conn, err := w.s.connect(ctx)
		if err == nil {
			_, _ = conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name LIKE $2 || '%'`, int32(process), signature)
			var last int64
			err = conn.QueryRow(ctx, `UPDATE writer SET fenced = true WHERE id = $1 RETURNING batch`, id).Scan(&last)
			if err == nil {
				w.conn = conn
				return last >= batch, true
			}
			drop(conn)
		}
		w.s.broken(err)
		rest := time.NewTimer(100 * time.Millisecond)
		select {
		case <-rest.C:
		case <-w.s.closing:
			return false, false
		case <-ctx.Done():
			return false, false
		}
		rest.Stop()
	}
}

// begin starts the transaction, takes the locks in their order, and reads what devices' acts need, in one round trip.
func (t *tx) begin(need *locks) error {
	t.held = newLocks()
	t.held.add(need)
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue(`UPDATE writer SET batch = $2 WHERE id = $1 AND NOT fenced`, t.w.id, t.w.batch+1)
	if need.registry {
		b.Queue(`SELECT 1 FROM registry WHERE id = 0 FOR UPDATE`)
	}
	if len(need.types) > 0 {
		b.Queue(`SELECT 1 FROM thing_type WHERE name = ANY($1::text[]) ORDER BY name FOR SHARE`, sortedNames(need.types))
	}
	groups, jobs := runs(need.groups), runs(need.jobs)
	for _, r := range groups {
		b.Queue(`SELECT 1 FROM thing_group WHERE name = ANY($1::text[]) ORDER BY name FOR `+r.mode(), r.names)
	}
	for _, r := range jobs {
		b.Queue(selectJobs+` ORDER BY id FOR `+r.mode(), r.names)
	}
	var things []string
	if len(need.things) > 0 {
		things = sortedNames(need.things)
		b.Queue(lockThings, things)
	}
	b.Queue(nextMoment)
	var hot []string
	if things != nil {
		b.Queue(selectPending, things)
		if hot = sortedNames(t.w.hot); len(hot) > 0 {
			b.Queue(selectJobs, hot)
		}
	}
	results := t.q.SendBatch(t.ctx, b)
	err := t.begun(results, need, len(groups), jobs, things, len(hot) > 0)
	if cerr := results.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = t.err
	}
	return err
}

// begun takes the answers of begin, in their order.
func (t *tx) begun(results pgx.BatchResults, need *locks, groups int, jobs []run, things []string, hot bool) error {
	if _, err := results.Exec(); err != nil {
		return err
	}
	tag, err := results.Exec()
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return errFenced
	}
	rest := groups
	if need.registry {
		rest++
	}
	if len(need.types) > 0 {
		rest++
	}
	for range rest {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	for _, r := range jobs {
		for _, id := range r.names {
			t.base().jobs[muster.JobID(id)] = known[jobRow]{}
		}
		got, err := results.Query()
		t.takeJobs(got, err)
	}
	if things != nil {
		for _, name := range things {
			t.herd[muster.ThingName(name)] = true
		}
		t.held.greatest = muster.ThingName(things[len(things)-1])
		got, err := results.Query()
		t.takeThings(got, err, things)
	}
	t.takeMoment(results)
	if things != nil {
		got, err := results.Query()
		t.takePending(got, err, things)
		if hot {
			got, err = results.Query()
			t.takeJobs(got, err)
		}
		t.w.heat(t.jobs)
	}
	return t.err
}

// run runs one function in a layer of its own.
func (t *tx) run(fn func(store.Tx) error) (err error) {
	mine := t.w.layer()
	t.layers = append(t.layers, mine)
	clear(t.settingsRead)
	before := t.missing
	t.missing = newLocks()
	defer func() {
		if p := recover(); p != nil {
			switch p := p.(type) {
			case alone:
				err = errAlone
			case *muster.Error:
				err = p
			default:
				err = &muster.Error{Kind: muster.Internal, Message: "an update panicked", Cause: fmt.Errorf("%v", p)}
				t.s.log.Error("an update panicked", "panic", p, "stack", string(debug.Stack()))
			}
		}
		if !errors.Is(err, errAlone) {
			before.add(&t.missing)
		}
		t.missing = before
		if refused, ok := errors.AsType[*muster.Error](t.err); ok { // what the function wrote cannot be kept
			err, t.err = refused, nil
		}
		if !t.shared {
			return // the transaction ends with it
		}
		t.layers = t.layers[:len(t.layers)-1]
		if err == nil && t.err == nil {
			t.top().over(mine)
			t.top().tell(mine)
		}
		t.w.keep(mine)
	}()
	err = fn(t)
	return err
}

// expect says that a function goes on with these things, so that they are held and read together.
func (t *tx) expect(names []muster.ThingName) {
	if t.err != nil {
		return
	}
	clear(t.herd)
	take := true
	var fresh []string
	for _, n := range names {
		t.herd[n] = true
		if t.held.things[n] {
			continue
		}
		if n <= t.held.greatest || t.knowsThing(n) {
			take = false // it would be out of order, or what is known of it may be old
		}
		fresh = append(fresh, string(n))
	}
	if !take || len(fresh) == 0 {
		return
	}
	t.hold(fresh)
}

// hold takes things in the middle of a transaction; they come after all that it holds.
func (t *tx) hold(names []string) {
	set := map[muster.ThingName]bool{}
	for _, n := range names {
		set[muster.ThingName(n)] = true
	}
	names = sortedNames(set)
	b := &pgx.Batch{}
	b.Queue(lockThings, names)
	b.Queue(nextMoment)
	b.Queue(selectPending, names)
	b.Queue(jobsPending, names)
	results := t.q.SendBatch(t.ctx, b)
	got, err := results.Query()
	t.takeThings(got, err, names)
	t.takeMoment(results)
	got, err = results.Query()
	t.takePending(got, err, names)
	if got, err = results.Query(); err != nil {
		t.fail(err)
	} else {
		t.takeNewJobs(got)
	}
	t.fail(results.Close())
	for _, n := range names {
		t.held.things[muster.ThingName(n)] = true
	}
	t.held.greatest = muster.ThingName(names[len(names)-1])
}

const nextMoment = `SELECT nextval('moment')`

func (t *tx) takeMoment(results pgx.BatchResults) {
	var moment int64
	t.fail(results.QueryRow().Scan(&moment))
	t.moment = uint64(moment)
	t.seq = t.moment * spanOfMoment
}

// takeNewJobs keeps jobs that were not known; those that are may be held, and changed.
func (t *tx) takeNewJobs(got pgx.Rows) {
	defer got.Close()
	for got.Next() {
		j, err := t.scanJob(got)
		if err != nil {
			t.fail(err)
			return
		}
		if _, have := t.base().jobs[j.ID]; !have {
			t.base().jobs[j.ID] = known[jobRow]{j, true}
		}
	}
	t.fail(got.Err())
}

// holdLeases holds this node's parts of the background work and returns those that are still its own.
func (t *tx) holdLeases(owned []int16) []int16 {
	if t.leases == nil {
		t.leases = rows(&t.reader, one[int16], `SELECT part FROM lease WHERE part = ANY($1::smallint[]) AND node = $2 ORDER BY part FOR SHARE`, owned, t.w.node)
		if t.leases == nil {
			t.leases = []int16{}
		}
	}
	return t.leases
}

// holdDue holds what deadlines are about: jobs, which come before things, then the things of timers.
func (t *tx) holdDue(due []store.Deadline) {
	if len(t.held.things) > 0 {
		return // too late to do it in order; what is written without being held begins anew
	}
	jobs := map[muster.JobID]bool{}
	var things []muster.ThingName
	for _, d := range due {
		if d.Kind == store.Timer {
			if thing, _, _, ok := store.ParseTimerSubject(d.Subject); ok {
				things = append(things, thing)
			}
		} else if _, held := t.held.jobs[muster.JobID(d.Subject)]; !held {
			jobs[muster.JobID(d.Subject)] = true
		}
	}
	if ids := sortedNames(jobs); len(ids) > 0 {
		for have := range t.held.jobs {
			if ids[0] < string(have) { // out of order: again, with all of them from the start
				for _, id := range ids {
					t.needJob(muster.JobID(id), true)
				}
				return
			}
		}
		for _, id := range ids {
			t.base().jobs[muster.JobID(id)] = known[jobRow]{}
			t.held.jobs[muster.JobID(id)] = true
		}
		for _, j := range rows(&t.reader, t.scanJob, selectJobs+` ORDER BY id FOR UPDATE`, ids) {
			t.base().jobs[j.ID] = known[jobRow]{j, true}
		}
	}
	if len(things) > 0 {
		t.expect(things)
	}
}
