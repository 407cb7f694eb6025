package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// RemoteOptions say how to attach to a broker that somebody else runs.
type RemoteOptions struct {
	// Dial opens what MQTT is spoken over. attempt counts how often it was tried to attach, so that each may begin elsewhere.
	Dial func(ctx context.Context, attempt int) (net.Conn, error)
	// Login is asked for each connection; nil: neither. An empty user name and a nil password are not sent.
	Login    func() (username string, password []byte, err error)
	ClientID string
	Version  byte // V5 or V311; 0: V5, and V311 where that is not spoken

	// Filters are those of requests. They are subscribed with QoS 1.
	Filters []string
	// Sharing says whether they are subscribed as $share/Group/…, so that several clients share the work.
	Sharing Sharing
	Group   string
	// Mine says whether this client may serve what is not shared, and is asked every second: of several only one may.
	// nil: it may.
	Mine func() bool
	// Probe is a topic below which nobody else publishes: what is sent there has to come back before requests are
	// believed to come.
	Probe string

	// Serve answers a request; nil: there is nothing to say. Requests of the same Order are served one at a time, as they
	// came. The payload may be kept.
	Serve func(ctx context.Context, in *Message) (answer *Message)
	Order func(topic string) string

	InFlight      int           // requests that are held at a time: 256
	KeepAlive     time.Duration // 30 s
	SessionExpiry time.Duration // how long the broker keeps requests while this client is away, if they are not shared: 5 min
	Patience      time.Duration // for each answer of the broker: 10 s

	Log *slog.Logger     // nil: none
	Now func() time.Time // real time; nil: time.Now
}

// Sharing says how requests are subscribed.
type Sharing byte

// ShareAuto shares where the broker delivers what is shared.
const (
	ShareAuto Sharing = iota
	ShareOn
	ShareOff
)

// A Remote is a client of somebody else's broker: it serves the requests that come there, and publishes.
//
// A request of QoS 1 is acknowledged once its answer has been sent ahead on the same connection, so a crash in
// between makes it come again and loses nothing. One that comes again within a session of this process is not
// served twice. What is published with QoS 1 is sent until the broker has taken it, over as many connections as that needs.
type Remote struct {
	o        RemoteOptions
	log      *slog.Logger
	ctx      context.Context // of requests
	cut      context.CancelFunc
	serving  sync.WaitGroup
	stopping chan struct{} // closed by Shutdown
	stopOnce sync.Once
	attempt  int // of Run's goroutine

	mu      sync.Mutex
	why     error       // it is not attached; nil: it is
	conn    *remoteConn // nil: none that can be published to
	leaving bool        // Shutdown has begun
	waiting []*parcel   // not sent, or to be sent again
	number  uint64      // of the last parcel
	answers int         // parcels that are answers
	lanes   map[string]*lane
	held    int                 // requests in lanes
	eased   chan struct{}       // signals that held has become smaller, to the one reader
	idle    chan struct{}       // closed when nothing is held or under way; nil: nobody asks
	before  map[uint16]*inquiry // of the last connection, not acknowledged
	told    time.Time           // when what was dropped has last been logged
	dropped int                 // since then
}

// A parcel is a message on its way to the broker.
type parcel struct {
	m       *Message
	number  uint64
	id      uint16   // 0: not sent yet
	request *inquiry // that it answers
	taken   func(*Refusal)
}

// An inquiry is a request that came, until it is acknowledged.
type inquiry struct {
	in   *Message
	id   uint16 // 0: QoS 0
	conn *remoteConn
	done bool // the answer is sent, if there is one
}

// A lane is requests of the same order, the first of which is being served.
type lane struct {
	queue []*inquiry
	after []*parcel // what was published meanwhile about the same
}

// NewRemote makes a Remote. Run attaches it.
func NewRemote(o RemoteOptions) *Remote {
	number := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	span := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	number(&o.InFlight, 256)
	o.InFlight = min(o.InFlight, math.MaxUint16)
	span(&o.KeepAlive, 30*time.Second)
	span(&o.SessionExpiry, 5*time.Minute)
	span(&o.Patience, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Login == nil {
		o.Login = func() (string, []byte, error) { return "", nil, nil }
	}
	if o.Mine == nil {
		o.Mine = func() bool { return true }
	}
	if o.Order == nil {
		o.Order = func(topic string) string { return topic }
	}
	r := &Remote{o: o, log: o.Log, stopping: make(chan struct{}), why: errors.New("not attached yet"),
		lanes: map[string]*lane{}, eased: make(chan struct{}, 1)}
	r.ctx, r.cut = context.WithCancel(context.Background())
	return r
}

// Health is nil while requests are served, and says why they are not otherwise.
func (r *Remote) Health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

const (
	firstRest = 200 * time.Millisecond // between two attempts to attach
	longRest  = 15 * time.Second
	settled   = 30 * time.Second // a connection that lasted so long was a good one
)

// Run attaches, again whenever the connection is lost, until ctx ends or Shutdown is called.
func (r *Remote) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	rest, said := firstRest, ""
	for {
		began := r.o.Now()
		attached, err := r.once(ctx)
		if r.goes() || ctx.Err() != nil {
			return
		}
		if attached {
			said = ""
			if r.o.Now().Sub(began) > settled {
				rest = firstRest
			}
		}
		if text := err.Error(); text != said { // one that stays is told once
			r.log.Warn("not attached to the MQTT broker; it is tried again and again", "error", err)
			said = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest/2 + mathrand.N(rest/2)): // many clients must not come at once
		}
		rest = min(2*rest, longRest)
		r.attempt++
	}
}

func (r *Remote) goes() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaving
}

// once attaches, and returns when that has ended.
func (r *Remote) once(ctx context.Context) (attached bool, err error) {
	defer func() {
		r.mu.Lock()
		r.why = err
		r.mu.Unlock()
	}()
	shared, version, err := r.probe(ctx)
	if err != nil {
		return false, err
	}
	// With a session that outlives the connection, what is shared would wait for this client while others could serve it.
	var expiry time.Duration
	if !shared {
		expiry = r.o.SessionExpiry
	}
	c, w, err := r.dial(ctx, r.o.ClientID, version, expiry)
	if err != nil {
		return false, err
	}
	c.shared = shared
	stop := context.AfterFunc(ctx, func() { c.end(ctx.Err()) })
	defer stop()
	r.resume(c, w)
	defer r.suspend(c)
	c.start()
	err = r.stay(ctx, c, w.session)
	c.end(err)
	<-c.gone
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why == nil, c.err
}

var versions = map[byte]string{V311: "3.1.1", V5: "5"}

// mineEvery is how often it is asked whether what is not shared is this client's.
const mineEvery = time.Second

// stay subscribes requests, as long as they are this client's, until the connection ends.
func (r *Remote) stay(ctx context.Context, c *remoteConn, kept bool) error {
	if kept { // perhaps in the other form
		if err := c.ask(ctx, tUnsubscribe, r.filters(!c.shared)); err != nil {
			return err
		}
	}
	ask := time.NewTicker(mineEvery)
	defer ask.Stop()
	for first, was := true, kept; ; first = false {
		mine := c.shared || r.o.Mine()
		var err error
		switch {
		case mine && (first || !was):
			err = c.ask(ctx, tSubscribe, r.filters(c.shared))
		case !mine && was:
			err = c.ask(ctx, tUnsubscribe, r.filters(c.shared))
		}
		if err != nil {
			return err
		}
		if was = mine; first {
			r.mu.Lock()
			r.why = nil
			r.mu.Unlock()
			r.log.Info("attached to the MQTT broker", "remote", c.net.RemoteAddr().String(), "version", versions[c.version], "shared", c.shared, "session", kept)
		}
		select {
		case <-ask.C:
		case <-c.closing:
			return c.err
		}
	}
}

func (r *Remote) filters(shared bool) (all []string) {
	for _, f := range r.o.Filters {
		if shared {
			f = sharePrefix + r.o.Group + "/" + f
		}
		all = append(all, f)
	}
	return all
}

// resume makes c the connection that is published to. What the broker has not taken is sent again, under its
// identifiers if it still has the session.
func (r *Remote) resume(c *remoteConn, w welcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.session {
		r.before = nil
		for _, p := range r.waiting {
			p.id = 0
		}
	}
	for _, p := range r.waiting {
		if p.id != 0 {
			c.used[p.id] = p
		}
	}
	r.conn = c
	c.pump()
}

// suspend takes back what c has not been able to deliver.
func (r *Remote) suspend(c *remoteConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = nil
	again := make([]*parcel, 0, len(c.flying))
	for _, p := range c.flying {
		again = append(again, p)
	}
	slices.SortFunc(again, func(a, b *parcel) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	r.waiting = append(again, r.waiting...)
	r.before = map[uint16]*inquiry{}
	for _, q := range c.pending {
		if q.in != nil { // it was one to be served
			r.before[q.id] = q
		}
	}
	r.settle()
}

// Publish hands messages to the broker in their order, and returns once it has taken those of QoS 1, however
// often the connection is lost meanwhile, or when ctx ends: then what has not been sent yet never is. What the broker refuses is an error that holds a *Refusal.
// Messages of QoS 0 go to the connection that there is; without one the error is ErrDetached.
func (r *Remote) Publish(ctx context.Context, all ...*Message) error {
	var (
		mu   sync.Mutex
		errs []error
		left = len(all)
		end  = make(chan struct{})
	)
	if left == 0 {
		return nil
	}
	r.mu.Lock()
	if r.conn == nil && slices.ContainsFunc(all, func(m *Message) bool { return m.QoS == 0 }) {
		r.mu.Unlock()
		return ErrDetached
	}
	mine := make([]*parcel, 0, len(all))
	for _, m := range all {
		p := &parcel{m: m, taken: func(refused *Refusal) {
			mu.Lock()
			defer mu.Unlock()
			if refused != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.Topic, refused))
			}
			if left--; left == 0 {
				close(end)
			}
		}}
		mine = append(mine, p)
		if l := r.lanes[r.o.Order(m.Topic)]; l != nil {
			l.after = append(l.after, p) // the answer to a request is sent before what came of it
			continue
		}
		r.send(p)
	}
	r.mu.Unlock()
	select {
	case <-end:
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(errs...)
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting = slices.DeleteFunc(r.waiting, func(p *parcel) bool { return p.id == 0 && slices.Contains(mine, p) })
		r.settle()
		return ctx.Err()
	}
}

// ErrDetached says that there is no connection to the broker.
var ErrDetached = errors.New("broker: not attached to the external broker")

// send puts a parcel on its way.
func (r *Remote) send(p *parcel) {
	r.number++
	p.number = r.number
	r.waiting = append(r.waiting, p)
	if r.conn != nil {
		r.conn.pump()
	}
}

// accept takes a request that came on c. It waits while too many are held, which MQTT 5 does not let happen to QoS 1.
func (r *Remote) accept(c *remoteConn, q *inquiry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.before[q.id]; q.id != 0 && old != nil {
		delete(r.before, q.id)
		if same(old.in, q.in) {
			// The broker repeats what this process has begun. The answer is on its way if there is one already.
			old.conn = c
			c.pending = append(c.pending, old)
			c.release()
			return
		}
	}
	for r.held >= r.o.InFlight {
		if q.id == 0 {
			r.drop("requests of QoS 0 are dropped: too many are held")
			return
		}
		r.mu.Unlock()
		select {
		case <-r.eased:
		case <-c.closing:
		}
		r.mu.Lock()
		if c.ended() {
			return // it comes again
		}
	}
	if q.id != 0 {
		c.pending = append(c.pending, q)
	}
	r.held++
	key := r.o.Order(q.in.Topic)
	if l := r.lanes[key]; l != nil {
		l.queue = append(l.queue, q)
		return
	}
	l := &lane{queue: []*inquiry{q}}
	r.lanes[key] = l
	r.serving.Go(func() { r.drive(key, l) })
}

// drive serves a lane until it is empty.
func (r *Remote) drive(key string, l *lane) {
	for {
		r.mu.Lock()
		q := l.queue[0]
		r.mu.Unlock()
		answer := r.o.Serve(r.ctx, q.in)

		r.mu.Lock()
		r.answered(q, answer)
		for _, p := range l.after {
			r.send(p)
		}
		l.after = nil
		r.held--
		select {
		case r.eased <- struct{}{}:
		default:
		}
		if l.queue = l.queue[1:]; len(l.queue) == 0 {
			delete(r.lanes, key)
			r.settle()
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// answered sends the answer to a request, which is acknowledged behind it.
func (r *Remote) answered(q *inquiry, answer *Message) {
	switch {
	case answer == nil:
	case r.answers >= 4*r.o.InFlight:
		// Nobody takes them, for long. Devices ask again.
		r.drop("answers are dropped: the broker does not take them")
	default:
		r.answers++
		r.send(&parcel{m: answer, request: q, taken: func(refused *Refusal) {
			if refused != nil {
				r.drop("answers are refused by the broker: " + refused.Error())
			}
		}})
		return
	}
	q.done = true
	q.conn.release()
}

// dropEvery is how often the log tells of what was dropped.
const dropEvery = 10 * time.Second

func (r *Remote) drop(what string) {
	r.dropped++
	if now := r.o.Now(); now.Sub(r.told) >= dropEvery {
		r.log.Warn(what, "since", r.dropped)
		r.told, r.dropped = now, 0
	}
}

// settle tells who waits for it that nothing is under way.
func (r *Remote) settle() {
	if r.idle == nil || r.held > 0 {
		return
	}
	if r.conn == nil || len(r.waiting) == 0 && len(r.conn.flying) == 0 {
		close(r.idle)
		r.idle = nil
	}
}

// Shutdown takes no more requests, waits until those it has are answered and what is published is taken, for as
// long as ctx allows, and says goodbye. Requests that come meanwhile stay with the broker.
func (r *Remote) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	c := r.conn
	r.leaving = true
	if c != nil && !c.shared {
		c.deaf = true
	}
	r.mu.Unlock()
	if c != nil && c.shared {
		_ = c.ask(ctx, tUnsubscribe, r.filters(true)) // others get them from now on
	}
	idle := make(chan struct{})
	r.mu.Lock()
	r.idle = idle
	r.settle()
	r.mu.Unlock()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if c != nil {
		c.goodbye()
	}
	r.stopOnce.Do(func() { close(r.stopping) })
	r.cut()
	r.serving.Wait()
	return err
}

func same(a, b *Message) bool {
	return a.Topic == b.Topic && string(a.Payload) == string(b.Payload)
}

// random is text that nobody else has.
func random() string { return rand.Text()[:16] }
