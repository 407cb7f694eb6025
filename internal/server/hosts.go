package server

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/broker"
	"muster/internal/engine"
	"muster/internal/store"
)

// hosts say which of several nodes a client id is at, its client connected or away: one at a time. That is a setting
// of the store, hostPrefix and the client id, with the node, the thing and a name for this one coming. A node that wants
// a client of another asks by a setting under leavePrefix, which the other removes when it has let go. Clients of a
// node that is dead are taken over by those who have its share of the background work; what devices were to be
// told meanwhile is told again from where that node had come.
type hosts struct {
	store   store.Shared
	now     func() time.Time
	engine  *engine.Engine
	log     *slog.Logger
	broker  *broker.Broker // set once it is made
	rewind  func(muster.Place)
	told    func(node string) string // names the setting of how far a node has told the feed
	arrived chan struct{}            // a claim waits

	mu      sync.Mutex
	claims  []*hosting
	present map[string]*hosting // those that this node has claimed last, by client id
	done    []*hosting          // are to be given back
	owed    debts
	ended   map[string]bool // nodes that were dead at the last look, and had no clients; run's own
}

// debts are what this node has taken on and not done yet: sessions to be read from the store, and nodes whose place in the
// feed is to be gone back to, since those sessions were theirs.
type debts struct {
	sessions, nodes map[string]bool
}

const (
	hostPrefix  = "mqtt/host/"
	leavePrefix = "mqtt/leave/"
	// letGoWithin is how long another node may take to let go of a client.
	letGoWithin = 10 * time.Second
	// lookAtLeast is how often a node looks for what it is to let go of, or to take over, though nothing has told it to.
	lookAtLeast = 2 * time.Second
	// tidyEvery is how many of these looks pass until everything is looked through.
	tidyEvery    = 30
	comingUp     = time.Minute // how long a client that was let in may take to be there
	lookAtMost   = 10 * time.Millisecond
	claimsAtOnce = 256
)

// A hosting is one coming of a client to this node.
type hosting struct {
	id      string
	thing   muster.ThingName
	name    string // of this coming
	from    string // the node that has to let go first
	stored  bool   // there is a session in the store
	refused bool   // the client id is another thing's
	revoked bool   // another node has claimed it since; this and the next two under hosts.mu
	up      bool   // its connection has been there
	at      time.Time
	err     error
	done    chan struct{}
}

func newHosts(s store.Shared, now func() time.Time, e *engine.Engine, log *slog.Logger) *hosts {
	return &hosts{store: s, now: now, engine: e, log: log, arrived: make(chan struct{}, 1), present: map[string]*hosting{},
		owed: debts{map[string]bool{}, map[string]bool{}}}
}

// hostValue is a host's setting; no node or thing has a NUL in its name.
func hostValue(node string, h *hosting) string {
	return node + "\x00" + string(h.thing) + "\x00" + h.name
}

func parseHost(value string) (node string, thing muster.ThingName, name string) {
	node, rest, _ := strings.Cut(value, "\x00")
	t, name, _ := strings.Cut(rest, "\x00")
	return node, muster.ThingName(t), name
}

// claim makes this node the host of a client, and returns when the node that was it has let go and the session is here.
// It is refused when the client id is another thing's.
func (h *hosts) claim(ctx context.Context, id string, thing muster.ThingName) (ok bool, err error) {
	c := &hosting{id: id, thing: thing, name: uuid.NewString(), done: make(chan struct{}), at: h.now()}
	h.mu.Lock()
	h.claims = append(h.claims, c)
	h.mu.Unlock()
	h.arrive()
	select {
	case <-c.done:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if c.err != nil || c.refused {
		return false, c.err
	}
	if c.from != "" {
		if err := h.waitFor(ctx, c); err != nil {
			return false, err
		}
	}
	if c.stored {
		err := h.broker.Take(ctx, id)
		if err == nil && c.from != "" {
			err = h.goBack(ctx, c.from)
		}
		if err != nil {
			h.owe(id, c.from)
			return false, err
		}
	}
	return true, nil
}

// goBack makes this node tell the feed again from where another one had come: what that one had not told yet, this one may
// have passed by.
func (h *hosts) goBack(ctx context.Context, node string) error {
	place, err := h.engine.Setting(ctx, h.told(node))
	if err == nil {
		h.rewind(muster.Place(place))
	}
	return err
}

// owe notes that a session is still to be brought here.
func (h *hosts) owe(session, from string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owed.sessions[session] = true
	if from != "" {
		h.owed.nodes[from] = true
	}
}

// settle brings what is owed: all sessions before the feed is told again.
func (h *hosts) settle(ctx context.Context) error {
	h.mu.Lock()
	sessions, nodes := slices.Collect(maps.Keys(h.owed.sessions)), slices.Collect(maps.Keys(h.owed.nodes))
	h.mu.Unlock()
	for _, id := range sessions {
		h.mu.Lock()
		c := h.present[id]
		still := c != nil && !c.revoked
		h.mu.Unlock()
		if still {
			if err := h.broker.Take(ctx, id); err != nil {
				return err
			}
		}
		h.mu.Lock()
		delete(h.owed.sessions, id)
		h.mu.Unlock()
	}
	for _, node := range nodes {
		if err := h.goBack(ctx, node); err != nil {
			return err
		}
		h.mu.Lock()
		delete(h.owed.nodes, node)
		h.mu.Unlock()
	}
	return nil
}

func (h *hosts) arrive() {
	select {
	case h.arrived <- struct{}{}:
	default:
	}
}

// waitFor returns when the node that had the client has let go, or is dead.
func (h *hosts) waitFor(ctx context.Context, c *hosting) error {
	ctx, cancel := context.WithTimeout(ctx, letGoWithin)
	defer cancel()
	changed, stop := h.engine.Changes()
	defer stop()
	for {
		asked, err := h.engine.Setting(ctx, leavePrefix+c.from+"/"+c.id)
		if err != nil {
			return err
		}
		if asked == "" || !h.store.Alive(ctx, c.from) {
			return nil
		}
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
		again.Stop()
	}
}

// run writes claims, lets go of what others have claimed, and takes over from those who died, until ctx ends.
func (h *hosts) run(ctx context.Context) {
	changed, stop := h.engine.Changes()
	defer stop()
	look := time.NewTicker(lookAtLeast)
	defer look.Stop()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		h.write(last)
	}()
	var share uint64
	looks := 0
	for {
		owns, now := h.store.Share()
		if now != share || looks >= tidyEvery {
			h.tidy()
			if err := h.takeOver(ctx, owns); err != nil && ctx.Err() == nil {
				h.log.Warn("sessions of other nodes are not taken over yet", "error", err)
			} else {
				share, looks = now, 0
			}
		}
		if err := h.settle(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("sessions that were other nodes' are not here yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-h.store.Lost():
			h.broker.Abandon()
			continue
		case <-h.arrived:
			h.write(ctx)
			continue
		case <-changed:
		case <-look.C:
			looks++
		}
		if err := h.letGo(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("clients that are connected elsewhere are not sent away yet", "error", err)
		}
		pause := time.NewTimer(lookAtMost)
		select {
		case <-ctx.Done():
		case <-pause.C:
		case <-h.arrived:
			h.arrive()
		}
		pause.Stop()
	}
}

// write makes the claims that wait, and gives back what is over, in one Update.
func (h *hosts) write(ctx context.Context) {
	h.mu.Lock()
	n := min(len(h.claims), claimsAtOnce)
	claims, over := h.claims[:n:n], h.done
	h.claims, h.done = h.claims[n:], nil
	if len(h.claims) > 0 {
		h.arrive()
	}
	h.mu.Unlock()
	if len(claims)+len(over) == 0 {
		return
	}
	me := h.store.Node()
	err := h.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		for _, c := range over {
			if _, _, name := parseHost(tx.Setting(hostPrefix + c.id)); name == c.name {
				tx.Put(store.Setting{Name: hostPrefix + c.id})
			}
		}
		for _, c := range claims {
			c.from, c.stored, c.refused = "", tx.Setting(sessionPrefix+string(sessionKey)+c.id) != "", false
			value := tx.Setting(hostPrefix + c.id)
			node, owner, _ := parseHost(value)
			// Its own name is a thing's by right, whoever came under it before.
			if c.thing != "" && c.id != string(c.thing) && value != "" && owner != c.thing {
				c.refused = true
				continue
			}
			tx.Put(store.Setting{Name: hostPrefix + c.id, Value: hostValue(me, c)})
			if node != "" && node != me {
				c.from = node
				tx.Put(store.Setting{Name: leavePrefix + node + "/" + c.id, Value: me})
			}
		}
		return nil
	})
	h.mu.Lock()
	for _, c := range claims {
		if c.err = err; err == nil && !c.refused {
			h.present[c.id] = c
		}
	}
	h.mu.Unlock()
	for _, c := range claims {
		close(c.done)
	}
}

// up is told when a client's connection is up. One that another node has claimed meanwhile is sent away.
func (h *hosts) up(id string) {
	h.mu.Lock()
	c := h.present[id]
	revoked := c != nil && c.revoked
	if c != nil {
		c.up = true
	}
	h.mu.Unlock()
	if revoked {
		go h.release(id) // not on the connection's own goroutine: it waits for the journal
	}
}

func (h *hosts) release(id string) {
	if err := h.broker.Release(id); err != nil {
		h.log.Warn("a session was not let go of in good order", "client", id, "error", err)
	}
}

// down is told when a connection has ended. A client of which nothing is left here is at no node any more.
func (h *hosts) down(id string) {
	if h.broker.Holds(id) {
		return
	}
	h.mu.Lock()
	c := h.present[id]
	if c != nil && c.up { // else another connection of this client is on its way
		h.giveBack(c)
	}
	h.mu.Unlock()
}

// giveBack makes a client nobody's. mu is held.
func (h *hosts) giveBack(c *hosting) {
	delete(h.present, c.id)
	if !c.revoked {
		h.done = append(h.done, c)
		h.arrive()
	}
}

// tidy gives back clients whose sessions have ended while they were away, and those that never came.
func (h *hosts) tidy() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, c := range h.present {
		if !h.broker.Holds(id) && (c.up || h.now().Sub(c.at) > comingUp) {
			h.giveBack(c)
		}
	}
}

// letGo lets go of the clients that other nodes have asked for.
func (h *hosts) letGo(ctx context.Context) error {
	prefix := leavePrefix + h.store.Node() + "/"
	var asked []store.Setting
	err := h.store.View(ctx, func(tx store.Reader) (err error) {
		asked, _, err = tx.Settings(prefix, store.Page{Limit: scanPage})
		return err
	})
	if err != nil || len(asked) == 0 {
		return err
	}
	var each sync.WaitGroup
	for _, a := range asked {
		id := strings.TrimPrefix(a.Name, prefix)
		h.mu.Lock()
		if c := h.present[id]; c != nil {
			c.revoked = true
		}
		h.mu.Unlock()
		each.Go(func() { h.release(id) })
	}
	each.Wait()
	return h.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		for _, a := range asked {
			tx.Delete(store.Setting{Name: a.Name})
		}
		return nil
	})
}

// takeOver takes the clients of nodes that are dead, as far as their names are of this node's share, and goes back in the
// feed to where those nodes had come. Of clients without a session nothing is left but a setting.
func (h *hosts) takeOver(ctx context.Context, owns func(string) bool) error {
	me := h.store.Node()
	dead, named := map[string]bool{}, map[string]bool{}
	alive := map[string]bool{me: true}
	type left struct {
		id, value string
	}
	var all []left
	for page := (store.Page{Limit: scanPage}); ; {
		var rows []store.Setting
		err := h.store.View(ctx, func(tx store.Reader) (err error) {
			rows, page.After, err = tx.Settings(hostPrefix, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			node, _, _ := parseHost(row.Value)
			id := strings.TrimPrefix(row.Name, hostPrefix)
			named[node] = true
			if alive[node] || !owns(id) {
				continue
			}
			if !dead[node] && h.store.Alive(ctx, node) {
				alive[node] = true
				continue
			}
			dead[node] = true
			all = append(all, left{id, row.Value})
		}
		if page.After == "" {
			break
		}
	}
	taken := 0
	for rest := all; len(rest) > 0; {
		n := min(len(rest), claimsAtOnce)
		var mine []*hosting
		var from []string
		err := h.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
			mine, from = mine[:0], from[:0]
			for _, l := range rest[:n] {
				if tx.Setting(hostPrefix+l.id) != l.value {
					continue // it has come to another node meanwhile
				}
				node, thing, _ := parseHost(l.value)
				tx.Put(store.Setting{Name: leavePrefix + node + "/" + l.id})
				if tx.Setting(sessionPrefix+string(sessionKey)+l.id) == "" {
					tx.Put(store.Setting{Name: hostPrefix + l.id})
					continue
				}
				c := &hosting{id: l.id, thing: thing, name: uuid.NewString(), up: true}
				tx.Put(store.Setting{Name: hostPrefix + l.id, Value: hostValue(me, c)})
				mine, from = append(mine, c), append(from, node)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, c := range mine {
			h.mu.Lock()
			h.present[c.id] = c
			h.mu.Unlock()
			h.owe(c.id, from[i])
		}
		taken += len(mine)
		rest = rest[n:]
	}
	if taken > 0 {
		h.log.Info("sessions of nodes that ended are taken over", "sessions", taken, "nodes", len(dead))
	}
	return h.forget(ctx, named)
}

// forget removes how far nodes have told the feed that are dead, and were at the last look too, and have no clients any more.
func (h *hosts) forget(ctx context.Context, named map[string]bool) error {
	told, err := h.engine.Settings(ctx, h.told(""))
	if err != nil {
		return err
	}
	before := h.ended
	h.ended = map[string]bool{}
	for node := range told {
		if named[node] || h.store.Alive(ctx, node) {
			continue
		}
		h.ended[node] = true
		if before[node] {
			if err := h.engine.SetSetting(ctx, h.told(node), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// toldSetting names the setting of how far a node has told the feed.
func toldSetting(node string) string { return awsapi.ToldPrefix + "/" + node }
