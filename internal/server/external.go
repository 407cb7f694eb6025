package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/broker"
)

// Broker is an MQTT broker that somebody else runs, and how to be its client. Who its other clients are and what they
// may do is for that broker to know: whoever may publish a request is served.
type Broker struct {
	// URLs are mqtt, mqtts, ws or wss://HOST[:PORT][/PATH], tried in turn. The ports are 1883, 8883, 80 and 443 if none is
	// given, the path of WebSocket is /mqtt.
	URLs []string
	// Username and Password are what the broker asks for; the password may be in a file, whose last line break is not part of it.
	Username, Password, PasswordFile string
	// CA is a PEM file of the authorities that the broker's certificate may be of (empty: the system's), Cert and
	// Key are those of a client certificate. All files are read for each connection.
	CA, Cert, Key string
	// ClientID names this node, and must be its own. Default muster.
	ClientID string
	// Share says whether requests are subscribed as $share/Group/…, so that several nodes share them: auto (also if
	// empty) finds out whether the broker delivers them so; on; off. Group is muster if empty.
	Share, Group string
	// Version is 5, 3.1.1 or auto (also if empty): 5 where the broker speaks it.
	Version string
	// InFlight is how many requests are taken at a time. Default 256.
	InFlight int
}

// An external speaks to devices by somebody else's broker.
type external struct {
	remote  *broker.Remote
	api     *awsapi.API
	now     func() time.Time
	log     *slog.Logger
	owns    func(work) bool
	refused atomic.Int64 // when the log was last told of a refused message, in real Unix seconds
}

// answerLife is how long a broker may keep an answer for a device that is away: one that asks again gets another.
const answerLife = time.Minute

func (s *Server) newExternal(b Broker) (*external, error) {
	e := &external{api: s.api, now: s.now, log: s.log, owns: s.owns}
	o := broker.RemoteOptions{ClientID: b.ClientID, Filters: s.api.RequestFilters(), Group: b.Group, Probe: "$aws/muster/probe",
		Serve: e.serve, Order: awsapi.ThingOf, Mine: func() bool { return s.owns(brokerRequests) }, InFlight: b.InFlight, Log: s.log, Now: s.now}
	if o.ClientID == "" {
		o.ClientID = "muster"
	}
	if o.Group == "" {
		o.Group = "muster"
	}
	switch b.Share {
	case "", "auto":
	case "on":
		o.Sharing = broker.ShareOn
	case "off":
		o.Sharing = broker.ShareOff
	default:
		return nil, fmt.Errorf("the broker's subscriptions are shared auto, on or off, not %q", b.Share)
	}
	switch b.Version {
	case "", "auto":
	case "5":
		o.Version = broker.V5
	case "3.1.1":
		o.Version = broker.V311
	default:
		return nil, fmt.Errorf("the version of MQTT is auto, 5 or 3.1.1, not %q", b.Version)
	}
	switch {
	case strings.ContainsAny(o.Group, "/+#\x00"):
		return nil, fmt.Errorf("the group %q of shared subscriptions must have none of /, + and #", o.Group)
	case (b.Cert == "") != (b.Key == ""):
		return nil, errors.New("a client certificate for the broker needs its key, and the key its certificate")
	case b.Password != "" && b.PasswordFile != "":
		return nil, errors.New("the broker's password is given twice, as it is and as a file")
	}
	d := &dialer{b: b}
	for _, text := range b.URLs {
		t, err := parseBroker(text)
		if err != nil {
			return nil, err
		}
		d.to = append(d.to, t)
		if (t.scheme == "mqtt" || t.scheme == "ws") && (b.Password != "" || b.PasswordFile != "") && !isLoopback(t.host) {
			s.log.Warn("the broker's password is sent without TLS", "broker", text)
		}
	}
	if len(d.to) == 0 {
		return nil, errors.New("there is no address of a broker")
	}
	// A mistake in a file is told at once.
	if _, err := d.config(d.to[0]); err != nil {
		return nil, err
	}
	if _, _, err := d.login(); err != nil {
		return nil, err
	}
	o.Dial, o.Login = d.dial, d.login
	e.remote = broker.NewRemote(o)
	return e, nil
}

// serve answers a request. The broker routes the answer like any message: who subscribes gets it.
func (e *external) serve(ctx context.Context, in *broker.Message) *broker.Message {
	answer, mine := e.api.MQTT(ctx, "", in.Topic, in.Payload)
	if !mine {
		return nil
	}
	return &broker.Message{Topic: answer.Topic, Payload: answer.Payload, QoS: 1, CorrelationData: in.CorrelationData, Expires: e.now().Add(answerLife)}
}

func (e *external) run(ctx context.Context) { e.remote.Run(ctx) }

func (e *external) shutdown(ctx context.Context) error { return e.remote.Shutdown(ctx) }

func (e *external) close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = e.remote.Shutdown(now)
}

// listening is whether anybody would get a message: who subscribes is not told by the broker.
func (*external) listening(string) bool { return true }

// follow lets fn read the feed while that is this node's work: subscribers of one broker must not be told by each node.
func (e *external) follow(ctx context.Context, fn func(context.Context)) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		if e.owns(brokerNotices) {
			mine, stop := context.WithCancel(ctx)
			var done sync.WaitGroup
			done.Go(func() { fn(mine) })
			for ctx.Err() == nil && e.owns(brokerNotices) {
				select {
				case <-ctx.Done():
				case <-look.C:
				}
			}
			stop()
			done.Wait()
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}

// publish hands on what the feed tells. What the broker refuses for good must not hold up the rest.
func (e *external) publish(ctx context.Context, all []awsapi.Publication) error {
	messages := make([]*broker.Message, len(all))
	for i, p := range all {
		messages[i] = message(p, e.now)
	}
	err := e.remote.Publish(ctx, messages...)
	each := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		each = joined.Unwrap()
	}
	for _, one := range each {
		var refused *broker.Refusal
		switch {
		case one == nil:
		case !errors.As(one, &refused) || passing(refused.Code):
			return err
		default:
			now := e.now().Unix()
			if last := e.refused.Load(); now-last >= 10 && e.refused.CompareAndSwap(last, now) {
				e.log.Error("the broker refuses notices or events, and nobody is told", "error", one)
			}
		}
	}
	return nil
}

// passing says whether what a broker refuses now it may take later.
func passing(c broker.Code) bool {
	return c == broker.QuotaExceeded || c == broker.ServerBusy || c == broker.ServerUnavailable || c == broker.MessageRateTooHigh
}

// publishPatience is how long a publish by HTTPS waits for the broker.
const publishPatience = 5 * time.Second

func (e *external) publishOne(ctx context.Context, p awsapi.Publication) error {
	patient, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	err := e.remote.Publish(patient, message(p, e.now))
	var refused *broker.Refusal
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.As(err, &refused) && !passing(refused.Code):
		return &awsapi.AuthError{Status: http.StatusForbidden, Type: "ForbiddenException", Message: "The MQTT broker refuses this message: " + refused.Error()}
	}
	return &muster.Error{Kind: muster.Unavailable, Message: "The MQTT broker does not take the message now", Cause: err}
}

// health says why requests do not come. Anybody may read it, so addresses are left out.
func (e *external) health() error {
	err := e.remote.Health()
	if err == nil {
		return nil
	}
	sentence := "Not attached to the MQTT broker"
	var refused *broker.Refusal
	var cause syscall.Errno
	switch {
	case errors.As(err, &refused):
		sentence += ": " + refused.Error()
	case errors.As(err, &cause):
		sentence += ": " + cause.Error()
	case errors.Is(err, broker.ErrNotShared):
		sentence += ": " + broker.ErrNotShared.Error()
	}
	return &muster.Error{Kind: muster.Unavailable, Message: sentence, Cause: err}
}

// A target is where a broker is.
type target struct {
	scheme, host string
	address      string // HOST:PORT
	url          string // of WebSocket
}

// parseBroker reads the address of a broker.
func parseBroker(text string) (t target, err error) {
	ports := map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || ports[u.Scheme] == "":
		return t, fmt.Errorf("%q is not the address of a broker: write mqtts://HOST:PORT, mqtt://, wss:// or ws://", text)
	case u.User != nil:
		return t, errors.New("the address of the broker has a user in it; give it apart (--mqtt-username, --mqtt-password-file)")
	case (u.Scheme == "mqtt" || u.Scheme == "mqtts") && strings.Trim(u.Path, "/") != "":
		return t, fmt.Errorf("%q has a path, which only WebSocket has (wss:// or ws://)", text)
	}
	port := u.Port()
	if port == "" {
		port = ports[u.Scheme]
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = mqttPath
	}
	return target{u.Scheme, u.Hostname(), net.JoinHostPort(u.Hostname(), port), u.String()}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A dialer reaches a broker at one of its addresses.
type dialer struct {
	b  Broker
	to []target
}

func (d *dialer) login() (string, []byte, error) {
	switch {
	case d.b.PasswordFile != "":
		text, err := os.ReadFile(d.b.PasswordFile)
		if err != nil {
			return "", nil, fmt.Errorf("the broker's password cannot be read: %w", err)
		}
		return d.b.Username, []byte(strings.TrimRight(string(text), "\r\n")), nil
	case d.b.Password != "":
		return d.b.Username, []byte(d.b.Password), nil
	}
	return d.b.Username, nil, nil
}

func (d *dialer) config(t target) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.host}
	if d.b.CA != "" {
		text, err := os.ReadFile(d.b.CA)
		if err != nil {
			return nil, fmt.Errorf("the authorities of the broker's certificate cannot be read: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("there is no certificate in %s: it must be a PEM file of the authorities of the broker's certificate", d.b.CA)
		}
	}
	if d.b.Cert != "" {
		pair, err := tls.LoadX509KeyPair(d.b.Cert, d.b.Key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for the broker cannot be used: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// dial begins at another address with each attempt: one that takes connections may still not be of use.
func (d *dialer) dial(ctx context.Context, attempt int) (net.Conn, error) {
	var errs []error
	for i := range d.to {
		conn, err := d.reach(ctx, d.to[(attempt+i)%len(d.to)])
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (d *dialer) reach(ctx context.Context, t target) (net.Conn, error) {
	config, err := d.config(t)
	if err != nil {
		return nil, err
	}
	switch t.scheme {
	case "mqtt":
		return new(net.Dialer).DialContext(ctx, "tcp", t.address)
	case "mqtts":
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", t.address)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}}
	conn, _, err := websocket.Dial(ctx, t.url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: client})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1) // a message of WebSocket may hold many packets
	if !slices.Contains([]string{"", "mqtt"}, conn.Subprotocol()) {
		conn.CloseNow()
		return nil, fmt.Errorf("%s speaks %s, not mqtt", t.url, conn.Subprotocol())
	}
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}
