package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/broker"
	"muster/internal/store"
)

// An mqtt is the door of devices: the broker, who may do what at it, and what it tells of the feed.
type mqtt struct {
	broker     *broker.Broker
	api        *awsapi.API
	sessions   *sessions
	hosts      *hosts      // nil: this is the only node
	mail       *mail       // to other nodes; nil: there are none
	identities *identities // nil: no certificates are looked at
	registered func(context.Context, muster.ThingName) (bool, error)
	now        func() time.Time

	ctx     context.Context // of requests; ends when they are cut
	cut     context.CancelFunc
	version atomic.Int64 // of the last presence event

	mu      sync.Mutex
	devices map[*broker.Client]struct{} // that are connected with a certificate
}

// A peer is who is at the other end of a connection.
type peer struct {
	thing    muster.ThingName // empty: may act for every thing
	own      string           // what begins all topics of the thing
	print    fingerprint
	key      string // the access key that has signed, if one has
	readOnly bool
	session  string // names the connection in events
}

// A link says how a connection came, for who may be at its end.
type link struct {
	anonymous bool // a client need not say who it is
	peer      *peer
}

// A messenger is where devices are spoken to by MQTT: the broker inside, or somebody else's.
type messenger interface {
	run(context.Context) // until its context ends
	// publish is what follow's reader of the feed publishes with; it returns once that outlives the process.
	publish(context.Context, []awsapi.Publication) error
	publishOne(context.Context, awsapi.Publication) error
	listening(topic string) bool
	follow(ctx context.Context, fn func(context.Context)) // lets fn read the feed while that is this node's work
	health() error                                        // why devices are not reached; nil: they are
	shutdown(context.Context) error
	close()
}

const (
	thingsTopics = "$aws/things/"
	eventsTopics = "$aws/events"
	serviceTopic = "$aws/"
)

// pacer lets in so many in a second, and no more than a tenth of it at once.
func pacer(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
}

// admission is how fast new connections come in, of all listeners together, and how many handshakes of TLS may be
// under way; nil: no limit.
func (c *Config) admission() (arrivals *rate.Limiter, t turns) {
	if c.Connects > 0 {
		arrivals = pacer(c.Connects)
	}
	if c.Connects >= 0 {
		t = make(turns, turnsPerCPU*runtime.GOMAXPROCS(0))
	}
	return arrivals, t
}

func (s *Server) newMQTT(c Config) (*mqtt, error) {
	m := &mqtt{api: s.api, identities: s.identities, now: s.now, sessions: newSessions(s.store, s.now), devices: map[*broker.Client]struct{}{}}
	m.registered = func(ctx context.Context, name muster.ThingName) (bool, error) {
		_, err := s.engine.DescribeThing(ctx, name)
		if known, ok := errors.AsType[*muster.Error](err); ok && known.Kind == muster.NotFound {
			return false, nil
		}
		return err == nil, err
	}
	m.ctx, m.cut = context.WithCancel(context.Background())
	shared, several := s.store.(store.Shared)
	var published func(*broker.Message)
	if several {
		m.hosts, m.mail = newHosts(shared, s.now, s.engine, s.log), newMail(shared, s.log)
		published = m.mail.published
		m.hosts.told, m.hosts.rewind = toldSetting, s.api.Rewind
	}
	var err error
	m.broker, err = broker.New(broker.Options{
		Shared: several,
		Limits: broker.Limits{PublishRate: c.Publishes, ConnectTimeout: finishTimeout}, Sessions: m.sessions, Log: s.log, Now: s.now,
		Hooks: broker.Hooks{
			Connect: m.connect, Publish: m.mayPublish, Subscribe: m.maySubscribe, Deliver: m.mayGet,
			Intercept: m.intercept, InterceptPrefix: thingsTopics, Connected: m.connected, Disconnected: m.disconnected,
			Subscribed:   func(c *broker.Client, filters []string) { m.tellSubscriptions(c, filters, true) },
			Unsubscribed: func(c *broker.Client, filters []string) { m.tellSubscriptions(c, filters, false) },
			Published:    published,
		},
	})
	if several && err == nil {
		m.hosts.broker = m.broker
	}
	return m, err
}

// serveConn serves a connection that somebody has accepted.
func (m *mqtt) serveConn(conn net.Conn, l link) {
	info := broker.ConnInfo{Value: &l}
	if t, ok := conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		info.TLS = &state
	}
	m.broker.ServeConn(conn, info)
}

// connect finds out who a client is, and whether its client id may be its own.
func (m *mqtt) connect(ctx context.Context, r *broker.ConnectRequest) (any, error) {
	l, ok := r.Conn.Value.(*link)
	if !ok {
		l = &link{anonymous: true} // accepted by the broker itself, which it does where MQTT is plain
	}
	p := l.peer
	thing, print, known, err := m.identities.of(r.TLS)
	switch {
	case err != nil:
		return nil, &broker.Refusal{Code: broker.NotAuthorized, Reason: err.Error()}
	case known:
		p = &peer{thing: thing, own: thingsTopics + string(thing) + "/", print: print}
	case p != nil:
	case !l.anonymous:
		return nil, &broker.Refusal{Code: broker.NotAuthorized, Reason: "a client certificate is needed here"}
	default:
		p = &peer{}
	}
	p.session = uuid.NewString()
	if id := r.ClientID; id != "" {
		if p.thing != "" && id != string(p.thing) {
			// Nobody may sit on the name under which another device will come.
			others, err := m.registered(ctx, muster.ThingName(id))
			switch {
			case err != nil:
				return nil, &broker.Refusal{Code: broker.ServerUnavailable}
			case others:
				return nil, &broker.Refusal{Code: broker.ClientIDNotValid, Reason: "this client id is the name of another thing"}
			}
		}
		if !m.sessions.claim(id, p.thing) {
			return nil, &broker.Refusal{Code: broker.ClientIDNotValid, Reason: "this client id is another's"}
		}
		if m.hosts != nil {
			switch mine, err := m.hosts.claim(ctx, id, p.thing); {
			case err != nil:
				return nil, &broker.Refusal{Code: broker.ServerUnavailable}
			case !mine:
				return nil, &broker.Refusal{Code: broker.ClientIDNotValid, Reason: "this client id is another's"}
			}
		}
	}
	return p, nil
}

// mayPublish: a device publishes to what is its own, and like anybody to what is not the service's.
func (m *mqtt) mayPublish(c *broker.Client, topic string) bool {
	p := c.Identity.(*peer)
	switch {
	case p.readOnly:
		return strings.HasPrefix(topic, thingsTopics) && strings.HasSuffix(topic, "/get") && strings.Contains(topic, "/jobs/")
	case !strings.HasPrefix(topic, "$"):
		return true
	case p.thing != "":
		return strings.HasPrefix(topic, p.own)
	}
	return strings.HasPrefix(topic, serviceTopic) && topic != eventsTopics && !strings.HasPrefix(topic, eventsTopics+"/")
}

// maySubscribe: a filter of a device that begins with $ must name the device itself. No wildcard that
// comes first matches a topic that begins with $. [MQTT-4.7.2-1]
func (m *mqtt) maySubscribe(c *broker.Client, filter string) bool { return m.mayGet(c, filter) }

// mayGet asks once more when a message is sent: a session may be older than what its client may do now.
func (m *mqtt) mayGet(c *broker.Client, topic string) bool {
	p := c.Identity.(*peer)
	return p.thing == "" || !strings.HasPrefix(topic, "$") || strings.HasPrefix(topic, p.own)
}

// intercept serves requests to jobs. They are nobody else's business.
func (m *mqtt) intercept(c *broker.Client, in *broker.Message) bool {
	answer, mine := m.api.MQTT(m.ctx, c.Identity.(*peer).thing, in.Topic, in.Payload)
	if mine {
		c.Reply(&broker.Message{Topic: answer.Topic, Payload: answer.Payload, CorrelationData: slices.Clone(in.CorrelationData)})
	}
	return mine
}

// publish hands on what the feed tells, or what came by HTTPS.
func (m *mqtt) publish(ctx context.Context, all []awsapi.Publication) error {
	messages := make([]*broker.Message, len(all))
	for i, p := range all {
		messages[i] = message(p, m.now)
	}
	return m.broker.Publish(ctx, messages...)
}

func (m *mqtt) listening(topic string) bool { return m.broker.HasSubscriber(topic) }

// run does nothing: connections are served as they come.
func (m *mqtt) run(context.Context) {}

// follow lets fn read the feed: each node tells its own connections.
func (m *mqtt) follow(ctx context.Context, fn func(context.Context)) { fn(ctx) }

// health is nil: who is inside is there.
func (m *mqtt) health() error { return nil }

// close ends what is left, at once.
func (m *mqtt) close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	m.cut()
	_ = m.broker.Shutdown(now) // Run has done it in peace
}

// message is a publication as the broker takes it.
func message(p awsapi.Publication, now func() time.Time) *broker.Message {
	out := &broker.Message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain}
	if x := p.Properties; x != nil {
		out.UTF8, out.ContentType, out.ResponseTopic, out.CorrelationData = x.UTF8, x.ContentType, x.ResponseTopic, x.CorrelationData
		if x.Expiry > 0 {
			out.Expires = now().Add(x.Expiry)
		}
		for _, u := range x.User {
			out.User = append(out.User, broker.User{Key: u.Name, Value: u.Value})
		}
	}
	return out
}

// publishOne is what POST /topics/{topic} does.
func (m *mqtt) publishOne(ctx context.Context, p awsapi.Publication) error {
	err := m.publish(ctx, []awsapi.Publication{p})
	if m.mail != nil {
		m.mail.tell(p)
	}
	if err != nil && ctx.Err() == nil {
		return &muster.Error{Kind: muster.Unavailable, Message: "The message could not be kept for those who are away", Cause: err}
	}
	return err
}

// identify says which thing a request's client has shown the certificate of.
func (s *Server) identify(r *http.Request) (muster.ThingName, bool, error) {
	thing, _, known, err := s.identities.of(r.TLS)
	if err != nil {
		err = &awsapi.AuthError{Status: http.StatusBadRequest, Type: "CertificateValidationException", Message: err.Error()}
	}
	return thing, known, err
}

// judge ends the connections of devices that would not be let in any more.
func (m *mqtt) judge() {
	m.mu.Lock()
	all := make([]*broker.Client, 0, len(m.devices))
	for c := range m.devices {
		all = append(all, c)
	}
	m.mu.Unlock()
	for _, c := range all {
		if m.denied(c) {
			c.Close(broker.NotAuthorized, "this certificate is denied")
		}
	}
}

func (m *mqtt) denied(c *broker.Client) bool {
	p := c.Identity.(*peer)
	return p.thing != "" && m.identities.roster.Load().denied[p.print]
}

func (m *mqtt) connected(c *broker.Client) {
	p := c.Identity.(*peer)
	m.sessions.up(c.ID, p.thing)
	if m.hosts != nil {
		m.hosts.up(c.ID)
	}
	if p.thing != "" {
		m.mu.Lock()
		m.devices[c] = struct{}{}
		m.mu.Unlock()
		if m.denied(c) { // since it was let in
			c.Close(broker.NotAuthorized, "this certificate is denied")
		}
	}
	m.tellPresence(c, "connected", nil)
}

func (m *mqtt) disconnected(c *broker.Client, how broker.Ended) {
	m.sessions.down(c.ID)
	if m.hosts != nil {
		m.hosts.down(c.ID)
	}
	m.mu.Lock()
	delete(m.devices, c)
	m.mu.Unlock()
	d := awsapi.Departure{ByClient: how.ByClient, Reason: "CONNECTION_LOST"}
	switch {
	case how.ByClient:
		d.Reason = "CLIENT_INITIATED_DISCONNECT"
	case how.ByServer && how.Code == broker.SessionTakenOver:
		d.Reason = "DUPLICATE_CLIENTID"
	case how.ByServer && how.Code == broker.KeepAliveTimeout:
		d.Reason = "MQTT_KEEP_ALIVE_TIMEOUT"
	case how.ByServer && how.Code == broker.NotAuthorized:
		d.Reason = "AUTH_ERROR"
	case how.ByServer && how.Code == broker.MessageRateTooHigh:
		d.Reason = "THROTTLED"
	case how.ByServer && (how.Code == broker.MalformedPacket || how.Code == broker.ProtocolError):
		d.Reason = "CLIENT_ERROR"
	case how.ByServer:
		d.Reason = "SERVER_INITIATED_DISCONNECT"
	}
	m.tellPresence(c, "disconnected", &d)
}

// presencePatience bounds how long a client waits for its coming or going to be told.
const presencePatience = 5 * time.Second

func (m *mqtt) tellPresence(c *broker.Client, what string, d *awsapi.Departure) {
	if !m.heard(eventsTopics + "/presence/" + what + "/" + c.ID) {
		return
	}
	about := m.presence(c)
	about.Version = m.nextVersion(about.At)
	event, ok := about.Connected()
	if d != nil {
		event, ok = about.Disconnected(*d)
	}
	m.tell(event, ok)
}

// heard reports whether anybody may listen to a topic, at this node or at another.
func (m *mqtt) heard(topic string) bool {
	return m.broker.HasSubscriber(topic) || m.mail != nil && !m.mail.store.Lonely()
}

func (m *mqtt) tellSubscriptions(c *broker.Client, filters []string, up bool) {
	what := map[bool]string{true: "subscribed", false: "unsubscribed"}[up]
	if m.heard(eventsTopics + "/subscriptions/" + what + "/" + c.ID) {
		event, ok := m.presence(c).Subscribed(filters, up)
		m.tell(event, ok)
	}
}

// presence is what events say of a client.
func (m *mqtt) presence(c *broker.Client) awsapi.Presence {
	p := c.Identity.(*peer)
	about := awsapi.Presence{ClientID: c.ID, At: m.now().UnixMilli(), Session: p.session, Principal: "anonymous"}
	switch {
	case p.thing != "":
		about.Principal = p.print.String()
	case p.key != "":
		about.Principal = p.key
	}
	if host, _, err := net.SplitHostPort(c.Remote.String()); err == nil {
		about.IP = host
	}
	return about
}

// tell publishes an event of the door's own.
func (m *mqtt) tell(event awsapi.Publication, ok bool) {
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, presencePatience)
	defer cancel()
	if m.mail != nil {
		m.mail.tell(event)
	}
	_ = m.publish(ctx, []awsapi.Publication{event}) // the log has it if the store failed; nobody waits for this one
}

// nextVersion numbers presence events. It goes on rising after a restart, for it begins with the time.
func (m *mqtt) nextVersion(at int64) int64 {
	for {
		last := m.version.Load()
		if next := max(last+1, at); m.version.CompareAndSwap(last, next) {
			return next
		}
	}
}

// shutdown says goodbye to the clients, for as long as ctx allows.
func (m *mqtt) shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, m.cut)
	defer stop()
	return m.broker.Shutdown(ctx)
}
