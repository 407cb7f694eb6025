// Package broker is an MQTT 3.1.1 and 5 server for QoS 0 and 1, and knows nothing of what it carries: who a
// client is, what it may do, and which messages are requests to answer is decided by hooks.
//
// One goroutine serves a connection; others come and go only for sockets that are slow. Everything a client can
// make the broker hold is bounded by Limits. DESIGN.md tells how it works and which clauses do not apply.
//
// Remote is the other side: a client of a broker that somebody else runs.
//
// A normative statement is named where it is obeyed: [MQTT-4.7.2-1] is one of MQTT 5, [MQTT3-4.7.2-1] one of MQTT 3.1.1.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what a broker is made of. All fields may be zero.
type Options struct {
	Limits   Limits
	Hooks    Hooks
	Sessions SessionStore // nil: sessions and retained messages end with the process
	// Shared says that other brokers keep sessions in the store too: of them those are read that Take names.
	Shared bool
	Log    *slog.Logger     // nil: none
	Now    func() time.Time // real time; nil: time.Now
}

// Hooks are asked and told. Each may be nil. They run on the goroutine of the client they are about, which handles
// nothing else meanwhile, except for Deliver.
type Hooks struct {
	// Connect decides who a client is. The identity is kept with the Client. An error refuses the connection, with
	// the code of a *Refusal or as not authorized.
	Connect func(ctx context.Context, r *ConnectRequest) (identity any, err error)

	// Publish and Subscribe say whether a client may. Filters with wildcards are given as they are, shared ones
	// without $share/group/. Publish is also asked, at CONNECT, about the topic of a will.
	Publish   func(c *Client, topic string) bool
	Subscribe func(c *Client, filter string) bool

	// Deliver says whether a client may get a message, as it is sent. It must return at once and call nothing of
	// the broker's. It is not asked about answers.
	Deliver func(c *Client, topic string) bool

	// Intercept may take a publish away from routing; it has been authorised. What it answers with c.Reply before it
	// returns leaves in one write with the PUBACK. m and its payload belong to the hook until it returns; the topic may
	// be kept. It may block: the client's next packets wait. A will passes here too, when c is gone but for ID and Identity.
	// Only topics that begin with InterceptPrefix are offered.
	Intercept       func(c *Client, m *Message) (handled bool)
	InterceptPrefix string

	// Subscribed is told of the filters that a client has been granted, Unsubscribed of those that it has given up, in the
	// client's words: shared ones with $share/group/.
	Subscribed   func(c *Client, filters []string)
	Unsubscribed func(c *Client, filters []string)

	// Published is told of every message of a client that was routed; nil: nobody wants to know. It must not block, and m
	// belongs to the broker.
	Published func(m *Message)

	// Connected is called before anything is read from the client, Disconnected when it has gone.
	Connected    func(c *Client)
	Disconnected func(c *Client, how Ended)
}

// ErrClosed is returned by what is asked of a broker that has been shut down.
var ErrClosed = errors.New("broker: closed")

// A Broker serves connections. Its methods may be called from any goroutine.
type Broker struct {
	limits   Limits
	hooks    Hooks
	log      *slog.Logger
	now      func() time.Time
	index    *index
	journal  *journal
	retained *retained
	arrivals arrivals
	dropped  atomic.Int64
	slow     atomic.Int64
	stopped  atomic.Bool
	held     atomic.Int64 // bytes of queued messages in memory
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup // connections

	mu        sync.Mutex
	sessions  map[string]*session
	clients   map[*Client]struct{}
	listeners map[net.Listener]struct{}
	number    uint64
	closing   bool
}

// New makes a broker and reads back what its store holds.
func New(o Options) (*Broker, error) {
	b := &Broker{
		limits: o.Limits.withDefaults(), hooks: o.Hooks, log: o.Log, now: o.Now, index: newIndex(),
		sessions: map[string]*session{}, clients: map[*Client]struct{}{}, listeners: map[net.Listener]struct{}{},
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	b.arrivals.rate = b.limits.ConnectRate
	b.retained = &retained{b: b}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.journal = newJournal(o.Sessions, b.log)
	if o.Sessions != nil {
		restore := b.restore
		if o.Shared {
			restore = func(store SessionStore) error { return b.retained.restore(b.ctx, store) }
		}
		if err := restore(o.Sessions); err != nil {
			b.journal.close()
			return nil, err
		}
	}
	return b, nil
}

// restore reads sessions and retained messages. Waiting messages stay in the store until they are needed.
func (b *Broker) restore(store SessionStore) error {
	if err := b.retained.restore(b.ctx, store); err != nil {
		return err
	}
	now := b.now()
	var all []*session
	err := store.Scan(b.ctx, []byte("s"), func(key, value []byte) error {
		b.number++
		s := &session{b: b, id: string(key[1:]), number: b.number, cold: true}
		all = append(all, s)
		return s.restore(value, now)
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range all {
		b.sessions[s.id] = s
	}
	for _, s := range all {
		s.mu.Lock()
		s.schedule()
		s.mu.Unlock()
	}
	return nil
}

// Serve accepts connections until the listener or the broker is closed.
func (b *Broker) Serve(l net.Listener) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		l.Close()
		return ErrClosed
	}
	b.listeners[l] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.listeners, l)
		b.mu.Unlock()
	}()
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			go b.ServeConn(conn, ConnInfo{})
			continue
		}
		if b.ctx.Err() != nil {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, most likely: others will leave.
		b.log.Warn("accept", "error", err)
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return ErrClosed
		}
		pause = min(2*pause, time.Second)
	}
}

// ServeConn serves one connection that has been accepted elsewhere, over WebSocket for example, and returns when it
// has ended. A Read of conn that has timed out is its last.
func (b *Broker) ServeConn(conn net.Conn, info ConnInfo) {
	c := &Client{b: b, conn: conn, Remote: remote(conn), buf: make([]byte, smallBuffer)}
	b.mu.Lock()
	if b.closing || len(b.clients) >= b.limits.Connections {
		b.mu.Unlock()
		conn.Close()
		return
	}
	b.clients[c] = struct{}{}
	b.running.Add(1)
	b.mu.Unlock()
	c.serve(info)
}

// forget is called when a connection has ended.
func (b *Broker) forget(c *Client) {
	b.mu.Lock()
	delete(b.clients, c)
	b.mu.Unlock()
	b.running.Done()
}

// Publish sends messages of the service's own to whoever subscribes them, connected or away, in their order. It
// returns once all that has to outlive the process is durable: only then may what caused them be forgotten.
// After an error some may have been sent; sending them again is right.
func (b *Broker) Publish(ctx context.Context, ms ...*Message) error {
	if b.stopped.Load() {
		return ErrClosed
	}
	var last []*batch
	for _, m := range ms {
		for _, k := range b.route(m, nil).batches {
			if len(last) == 0 || last[len(last)-1] != k {
				last = append(last, k)
			}
		}
	}
	for _, k := range last {
		select {
		case <-k.done:
			if k.err != nil {
				return k.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// HasSubscriber reports whether anybody, connected or away, would get a message on topic. It costs a few look-ups.
func (b *Broker) HasSubscriber(topic string) bool { return topic != "" && b.index.has(topic) }

// Stats are numbers to show.
type Stats struct {
	Connections, Sessions, Subscriptions, Retained int
	Held                                           int64 // bytes of queued messages in memory
	Dropped                                        int64 // messages not delivered for want of room or right, since the start
	Slow                                           int64 // connections ended because their clients did not read, since the start
}

// Stats returns how much there is.
func (b *Broker) Stats() Stats {
	s := Stats{Subscriptions: int(b.index.size.Load()), Held: b.held.Load(), Dropped: b.dropped.Load(), Slow: b.slow.Load()}
	b.mu.Lock()
	s.Connections, s.Sessions = len(b.clients), len(b.sessions)
	b.mu.Unlock()
	b.retained.mu.RLock()
	s.Retained = b.retained.count
	b.retained.mu.RUnlock()
	return s
}

// Shutdown closes the listeners, tells clients to go, publishes their wills to sessions that last, and makes all that is
// kept durable. When ctx ends first, connections are cut.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.closing = true
	b.cancel()
	for l := range b.listeners {
		l.Close()
	}
	var pending, open []*Client
	for c := range b.clients {
		open = append(open, c)
	}
	for _, s := range b.sessions {
		s.mu.Lock()
		if s.client != nil {
			pending = append(pending, s.client)
		}
		s.mu.Unlock()
	}
	b.mu.Unlock()
	for _, c := range pending {
		c.Close(ServerShuttingDown, "")
	}
	told := map[*Client]bool{}
	for _, c := range pending {
		told[c] = true
	}
	for _, c := range open {
		if !told[c] {
			c.conn.Close()
		}
	}
	gone := make(chan struct{})
	go func() {
		b.running.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
		for _, c := range open {
			c.conn.Close()
		}
	}
	b.mu.Lock()
	for _, s := range b.sessions {
		s.mu.Lock()
		for _, t := range []*time.Timer{s.ending, s.willing} {
			if t != nil {
				t.Stop()
			}
		}
		s.mu.Unlock()
	}
	b.mu.Unlock()
	b.stopped.Store(true)
	b.journal.close()
	return err
}
