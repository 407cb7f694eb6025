package pgstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"muster"
)

// A node is one process of many. It is in the table of nodes, where it counts up a number while it lives. Whether
// another one lives is found out by watching its number: one that has not moved for as long as patience says, by
// the watcher's own measure of time, is taken for dead. Then its writers are fenced, which waits for whatever they have
// under way and makes all that comes later fail; after that nothing of it can be written any more, and its part of the
// background work is divided anew. A node that was taken for dead and is not enters again under another name.

// leases are the parts of the background work that this node does.
type leases struct {
	mu      sync.Mutex
	parts   []int16
	nodes   string // that live
	version uint64 // changes with the parts and with the nodes: what a node had goes to others with its end
}

func (l *leases) owned() []int16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts
}

func (l *leases) set(parts []int16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version == 0 || !slices.Equal(l.parts, parts) {
		l.parts = parts
		l.version++
	}
}

func (l *leases) seen(nodes []string) {
	slices.Sort(nodes)
	all := strings.Join(nodes, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes != all {
		l.nodes = all
		l.version++
	}
}

// Share is what this node has leases for.
func (s *Store) Share() (owns func(name string) bool, version uint64) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	parts := s.leases.parts
	return func(name string) bool { return slices.Contains(parts, partOfName(name)) }, s.leases.version
}

// Exact reports that sums read in an Update are those of what is committed: others may be changing them.
func (s *Store) Exact() bool { return false }

// Node is this process's name among those that share the store.
func (s *Store) Node() string { return s.node() }

func (s *Store) node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self
}

func (s *Store) mine(writer int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own[writer] = true
}

// enter puts this node into the table, once under each name: one that was there and is not has been taken for dead.
func (s *Store) enter(ctx context.Context, conn *pgx.Conn, me string) error {
	s.mu.Lock()
	been := s.known == me
	s.mu.Unlock()
	if been {
		return errFenced
	}
	if _, err := conn.Exec(ctx, `INSERT INTO node (id, manual, aside) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, me, s.opts.Manual, s.opts.Aside); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.self == me {
		s.known = me
	}
	return nil
}

// rejoin takes another name after this node was taken for dead. It enters under it where there is a connection to do it on.
func (s *Store) rejoin(as string) {
	s.mu.Lock()
	if s.self != as { // done already
		s.mu.Unlock()
		return
	}
	s.self = uuid.NewString()
	s.mu.Unlock()
	s.log.Warn("another node has taken this one for dead; it goes on under another name", "node", s.node())
	s.leases.set(nil)
	select {
	case s.lost <- struct{}{}:
	default:
	}
}

// Lonely goes by what was seen at the last beat.
func (s *Store) Lonely() bool {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	return !strings.Contains(s.leases.nodes, " ")
}

// Alive asks the table of nodes.
func (s *Store) Alive(ctx context.Context, node string) bool {
	var ended bool
	err := s.pool.QueryRow(ctx, `SELECT ended FROM node WHERE id = $1`, node).Scan(&ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	return err != nil || !ended
}

// Lost delivers when this node was taken for dead: what it held by being alive is others' now.
func (s *Store) Lost() <-chan struct{} { return s.lost }

// leave marks this node as ended, for good.
func (s *Store) leave(ctx context.Context, conn *pgx.Conn) error { return bury(ctx, conn, s.node()) }

// bury fences the writers of a node and gives its leases back.
func bury(ctx context.Context, conn *pgx.Conn, node string) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{`UPDATE node SET ended = true WHERE id = $1`, `UPDATE writer SET fenced = true WHERE node = $1 AND NOT fenced`,
		`SELECT 1 FROM lease WHERE node = $1 ORDER BY part FOR UPDATE`, `UPDATE lease SET node = '' WHERE node = $1`} {
		if _, err := tx.Exec(ctx, statement, node); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// sighting is what another node's number was when it was last seen to move, and when that was.
type sighting struct {
	beat  int64
	moved time.Time
}

// beat counts up this node's number, watches those of others, and sees to it that the work is divided.
func (s *Store) beat() {
	seen := map[string]sighting{}
	ticker := time.NewTicker(s.opts.Patience / 6)
	defer ticker.Stop()
	var conn *pgx.Conn
	var as string // whose name it has
	defer func() {
		if conn != nil {
			drop(conn)
		}
	}()
	looked := s.now()
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		if conn != nil && as != s.node() {
			drop(conn)
			conn = nil
		}
		if now := s.now(); now.Sub(looked) > s.opts.Patience/2 { // who was stopped, or slow, does not know who has beaten meanwhile
			clear(seen)
		}
		looked = s.now()
		ctx, cancel := context.WithTimeout(s.life, s.opts.Patience)
		err := func() (err error) {
			if conn == nil || conn.IsClosed() {
				as = s.node()
				if conn, err = s.connect(ctx); err != nil {
					conn = nil
					return err
				}
			}
			if err := s.watch(ctx, conn, seen); err != nil {
				return err
			}
			return s.claim(ctx, conn)
		}()
		cancel()
		if err != nil && !s.stopping.Load() {
			s.log.Warn("the other nodes cannot be seen", "error", err)
			if conn != nil {
				drop(conn)
				conn = nil
			}
			clear(seen) // who could not be watched may have lived
			if lost(err) {
				s.broken(err)
			}
		} else if err == nil {
			s.well()
		}
	}
}

// watch moves this node's number on and buries those that have stood still for too long.
func (s *Store) watch(ctx context.Context, conn *pgx.Conn, seen map[string]sighting) error {
	me := s.node()
	tag, err := conn.Exec(ctx, `UPDATE node SET beat = beat + 1 WHERE id = $1 AND NOT ended`, me)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		switch err := s.enter(ctx, conn, me); {
		case errors.Is(err, errFenced):
			s.rejoin(me)
			if err := s.enter(ctx, conn, s.node()); err != nil && !errors.Is(err, errFenced) {
				return err
			}
		case err != nil:
			return err
		}
		return nil
	}
	// One that has no connection at all is dead sooner, where connections can be seen.
	got, err := conn.Query(ctx, `SELECT n.id, n.beat, EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.application_name = $1 || n.id)
		OR NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.application_name = $1 || $2::text) FROM node n WHERE NOT n.ended`, signature, me)
	if err != nil {
		return err
	}
	now := s.now()
	alive := map[string]bool{}
	var silent []string
	for got.Next() {
		var id string
		var beat int64
		var here bool
		if err := got.Scan(&id, &beat, &here); err != nil {
			return err
		}
		alive[id] = true
		last, known := seen[id]
		if !known || last.beat != beat {
			seen[id] = sighting{beat, now}
		} else if still := now.Sub(last.moved); id != me && (still > s.opts.Patience || still > s.opts.Patience/3 && !here) {
			silent = append(silent, id)
		}
	}
	if err := got.Err(); err != nil {
		return err
	}
	for id := range seen {
		if !alive[id] {
			delete(seen, id)
		}
	}
	s.leases.seen(slices.Collect(maps.Keys(alive)))
	for _, id := range silent {
		s.log.Warn("a node has been silent for too long; its work is taken over", "node", id)
		// What it has under way ends now; where it cannot be ended, it does when the server finds it idle.
		_, _ = conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 || $2::text`, signature, id)
		if err := bury(ctx, conn, id); err != nil {
			return err
		}
	}
	return nil
}

// claim takes this node's share of the background work: what nobody has, and from those who have too much by
// letting go of what is too much of its own.
func (s *Store) claim(ctx context.Context, conn *pgx.Conn) error {
	if s.opts.Aside {
		return nil
	}
	me := s.node()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var nodes, manual int
	if err := tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE manual) FROM node WHERE NOT ended AND NOT aside`).Scan(&nodes, &manual); err != nil {
		return err
	}
	if manual > 0 && nodes > 1 && len(s.leases.owned()) == 0 {
		return errManual
	}
	got, err := tx.Query(ctx, `SELECT l.part, CASE WHEN n.id IS NULL THEN '' ELSE l.node END FROM lease l LEFT JOIN node n ON n.id = l.node AND NOT n.ended ORDER BY l.part FOR UPDATE OF l`)
	if err != nil {
		return err
	}
	var mine, free []int16
	for got.Next() {
		var part int16
		var node string
		if err := got.Scan(&part, &node); err != nil {
			return err
		}
		switch node {
		case me:
			mine = append(mine, part)
		case "":
			free = append(free, part)
		}
	}
	if err := got.Err(); err != nil {
		return err
	}
	share := (parts + nodes - 1) / max(1, nodes)
	take := free[:min(len(free), max(0, share-len(mine)))]
	var drop []int16
	if len(mine) > share {
		drop = mine[share:]
	}
	if len(take)+len(drop) == 0 {
		s.leases.set(mine)
		return nil
	}
	if _, err := tx.Exec(ctx, `UPDATE lease SET node = $2 WHERE part = ANY($1::smallint[])`, take, me); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE lease SET node = '' WHERE part = ANY($1::smallint[])`, drop); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	now := append(slices.Clone(mine[:len(mine)-len(drop)]), take...)
	slices.Sort(now)
	s.leases.set(now)
	return nil
}

var errManual = muster.Errorf(muster.Invalid, "A clock that is moved by hand is for one node alone; another node uses this database")
