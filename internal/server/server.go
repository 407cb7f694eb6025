// Package server makes one process of the rooms: it opens the store, starts the engine's loop, puts the
// AWS face and Muster's own endpoints behind listeners, and takes all of it down again in order. It
// reads no flags and no environment: a Config says everything.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"muster/internal/awsapi"
	"muster/internal/engine"
	"muster/internal/metrics"
	"muster/internal/store"
	"muster/internal/trace"
	"muster/internal/webhook"
)

// Config says what to serve, and where. The zero value serves both planes over a store in memory, on a
// free port of loopback.
type Config struct {
	// HTTP, Control and Data are addresses of plain HTTP: HTTP serves both planes, the others one each.
	// HTTPS serves both planes over TLS, HTTPSData the data plane alone. MQTT and MQTTS are those of MQTT; it is also
	// spoken over WebSocket at /mqtt of HTTP, and over TLS on the ports of HTTPS by who asks for it by ALPN.
	// Empty ones are not listened on; if all are, HTTP takes a free port.
	//
	// An address is HOST:PORT, :PORT or PORT; port 0 is any free one. Without a host it means loopback as
	// long as the listener does not authenticate, and every interface otherwise.
	HTTP, Control, Data, HTTPS, HTTPSData, MQTT, MQTTS string
	// Broker is somebody else's MQTT broker to attach to. With it there is no broker inside: MQTT and MQTTS must be
	// empty, and MQTT is spoken on no other listener either.
	Broker          *Broker
	TLSCert, TLSKey string // PEM files; new ones are taken up while the server runs
	// Insecure allows listening beyond loopback although nothing authenticates.
	Insecure bool

	// Store is "memory" (also if empty), "pebble:DIR", or "postgres://…": a database that several servers may share.
	Store string

	Account string // default 123456789012
	Region  string // default us-east-1
	// Credentials is a file of access keys. With it every request must be signed with one of them.
	Credentials string
	// ClientCA is a PEM file, or a directory of them, of the authorities that sign the certificates of devices.
	// With it a client of MQTTS must show one, one of HTTPSData too unless it signs, and one of HTTPS may; who has
	// shown one acts for its thing alone. Empty: certificates are not looked at.
	ClientCA string
	// ClientThing says how a certificate names its thing: cn (also if empty) by its common name, uri:PREFIX by the rest
	// of a SAN URI, file:FILE by a file {"things":{"FINGERPRINT or common name":"thing"}}.
	ClientThing string
	// ClientDeny is a file of certificates that are not taken any more, SHA-256 fingerprints or PEM. Empty: none.
	// It and the other files of certificates are read again when they change.
	ClientDeny string
	REST       string // auto (default), always or never: when the documented REST form is spoken
	Endpoint   string // what DescribeEndpoint answers; empty: the Host of the request

	DocumentsDir string // documents that a documentSource may name by path; empty: none
	S3           *S3    // where documents in S3 are and URLs are signed for; nil: S3 is not used

	// Throttle limits requests per second; zero is no limit.
	Throttle Throttle
	// Connects limits new connections of MQTT and of TLS per second, all together; those beyond wait.
	// Zero: no limit, but handshakes of TLS take turns, so that no more are under way than the CPUs can do; negative: not even
	// that. Publishes limits messages per second of one MQTT connection, both ways. Zero is no limit.
	Connects, Publishes float64
	// Retention is how long jobs that are over are kept. Default 730 days.
	Retention time.Duration
	// Limits are quotas of AWS's that may be others here.
	Limits Limits
	// Clock is "real" (also if empty), or "manual" or "manual:RFC3339": the engine's clock then stands still
	// until POST /_muster/clock moves it. It starts at the given moment or at the present one, or where the store
	// has it, whichever is later.
	Clock string

	// Metrics is an address where /metrics and the health endpoints are served to anybody who reaches it, beside /metrics of the
	// control plane, which asks for the signatures that the control plane asks for. With a port alone it is loopback. Empty: none.
	Metrics string
	// Pprof is an address for Go's profiles, which must be of loopback. Empty: none.
	Pprof string
	// OTLP is the endpoint of a collector of traces, such as http://localhost:4318. Empty: nothing is traced.
	OTLP string
	// Version is that of the program, to show.
	Version string

	// Grace is how long requests may go on when the server is told to stop. Default 10 s.
	Grace time.Duration
	Log   *slog.Logger
}

// S3 is a store of objects that speaks S3.
type S3 struct {
	Endpoint                                   string // empty: AWS
	Region                                     string
	AccessKeyID, SecretAccessKey, SessionToken string
}

// Throttle is in requests per second of the whole account.
type Throttle = awsapi.Throttle

// Limits are quotas of AWS's that may be others here; zeros are AWS's, but for concurrent jobs: any number.
type Limits = engine.Limits

// A Server is one running muster. New makes it listen, Run serves.
type Server struct {
	config      Config
	log         *slog.Logger
	now         func() time.Time // real time: of signatures, socket deadlines and durations in the log
	store       store.Store
	engine      *engine.Engine
	api         *awsapi.API
	credentials *awsapi.Credentials
	sigv4       *awsapi.SigV4 // nil: nothing is signed
	identities  *identities   // nil: certificates of clients are not looked at
	keyPair     keyPair
	mqtt        *mqtt     // nil: the broker is somebody else's
	messenger   messenger // mqtt, or that
	doors       []*door
	arrivals    *rate.Limiter // of new connections; nil: no limit
	turns       turns         // of handshakes of TLS
	sides       []*side
	observer    *observer
	metrics     http.Handler
	streams     *streams
	webhooks    *webhook.Service

	gatesMu     sync.Mutex
	gates       []*gate
	gatesClosed bool

	stopping  atomic.Bool
	unwell    atomic.Bool // the store's failure has been logged
	closeOnce sync.Once
	closeErr  error
}

// New opens the store and the listeners. Requests wait until Run.
func New(c Config) (*Server, error) {
	return newServer(c, func(log *slog.Logger, onBatch func(store.Batch)) (store.Store, error) {
		return openStore(cmp.Or(c.Store, "memory"), storeOptions{manual: strings.HasPrefix(c.Clock, "manual"), log: log, onBatch: onBatch})
	})
}

// opens opens a store, which tells of its commits if asked to.
type opens func(log *slog.Logger, onBatch func(store.Batch)) (store.Store, error)

func newServer(c Config, open opens) (_ *Server, err error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Account, c.Region, c.REST = cmp.Or(c.Account, "123456789012"), cmp.Or(c.Region, "us-east-1"), cmp.Or(c.REST, string(awsapi.RESTAuto))
	switch {
	case len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "":
		return nil, fmt.Errorf("the account %q is not twelve digits", c.Account)
	case strings.Trim(c.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return nil, fmt.Errorf("%q is not a region, such as us-east-1", c.Region)
	case c.REST != string(awsapi.RESTAuto) && c.REST != string(awsapi.RESTAlways) && c.REST != string(awsapi.RESTNever):
		return nil, fmt.Errorf("the REST form is spoken auto, always or never, not %q", c.REST)
	}
	c.Grace = cmp.Or(c.Grace, 10*time.Second)
	if c.Broker != nil && (c.MQTT != "" || c.MQTTS != "") {
		return nil, errors.New("MQTT is spoken by the broker that this server attaches to; it cannot listen for it too")
	}
	if c.HTTP == "" && c.Control == "" && c.Data == "" && c.HTTPS == "" && c.HTTPSData == "" && c.MQTT == "" && c.MQTTS == "" {
		c.HTTP = "127.0.0.1:0"
	}
	s := &Server{config: c, log: c.Log, now: time.Now, streams: newStreams()}
	s.observer = &observer{requests: metrics.NewRequests(), now: s.now}
	s.arrivals, s.turns = c.admission()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	var onBatch func(store.Batch)
	var ticking func(context.Context) func(engine.Tick)
	if c.OTLP != "" {
		tracer, err := trace.New(context.Background(), c.OTLP, c.Version, s.now, c.Log)
		if err != nil {
			return nil, err
		}
		s.observer.tracer, onBatch, ticking = tracer, tracer.Batch, tracer.Tick
	}

	face := awsapi.Config{Observer: s.observer, Throttle: c.Throttle, Account: c.Account, Region: c.Region, REST: awsapi.RESTMode(c.REST), Endpoint: c.Endpoint, Log: c.Log}
	if c.Credentials != "" {
		if s.credentials, err = awsapi.LoadCredentials(c.Credentials, c.Log); err != nil {
			return nil, err
		}
		s.sigv4 = awsapi.NewSigV4(awsapi.SigV4Options{Keys: s.credentials, Region: c.Region, Now: s.now})
		face.Auth = s.sigv4
	}
	if c.ClientCA != "" {
		if s.identities, err = newIdentities(c.ClientCA, c.ClientDeny, c.ClientThing, c.Log); err != nil {
			return nil, err
		}
		face.Device = s.identify
	}
	face.Publish = func(ctx context.Context, p awsapi.Publication) error { return s.messenger.publishOne(ctx, p) }
	var objects *awsapi.S3
	if c.S3 != nil {
		objects, err = awsapi.NewS3(awsapi.S3Options{Endpoint: c.S3.Endpoint, Region: cmp.Or(c.S3.Region, c.Region),
			AccessKeyID: c.S3.AccessKeyID, SecretAccessKey: c.S3.SecretAccessKey, SessionToken: c.S3.SessionToken})
		if err != nil {
			return nil, err
		}
		face.Delivery = awsapi.NewDelivery(objects, c.Log)
	}
	if c.hasTLS() {
		if err := s.loadCertificate(); err != nil {
			return nil, err
		}
	}

	// Addresses before the store: a mistake in a flag is told without waiting for a log to be replayed.
	if err := s.listen(); err != nil {
		return nil, err
	}
	if err := s.listenAside(); err != nil {
		return nil, err
	}
	if s.store, err = open(c.Log, onBatch); err != nil {
		return nil, err
	}
	documents := awsapi.NewSources(awsapi.SourcesOptions{Dir: c.DocumentsDir, S3: objects})
	clock, err := s.clock()
	if err != nil {
		return nil, err
	}
	s.engine = engine.New(s.store, engine.Options{Clock: clock, Documents: documents, Log: c.Log, Retention: c.Retention, Limits: c.Limits, Ticking: ticking})
	if shared, several := s.store.(store.Shared); several && c.Broker == nil { // at somebody else's broker one node tells for all
		face.Cursor = func() string { return toldSetting(shared.Node()) }
	}
	s.api = awsapi.New(s.engine, face)
	if c.Broker != nil {
		e, err := s.newExternal(*c.Broker)
		if err != nil {
			return nil, err
		}
		s.messenger = e
	} else {
		if s.mqtt, err = s.newMQTT(c); err != nil {
			return nil, fmt.Errorf("the sessions of MQTT cannot be read: %w", err)
		}
		s.messenger = s.mqtt
	}
	s.webhooks = webhook.New(webhook.Options{Engine: s.engine, API: s.api, Log: c.Log, Now: s.now, Owns: func(hook string) bool { return s.owns(webhookOf(hook)) }, Agent: "muster/" + cmp.Or(c.Version, "devel")})
	s.metrics = s.newMetrics()
	for _, d := range s.doors {
		if d.http {
			d.server = s.httpServer(d)
		}
	}
	return s, nil
}

// Run serves until ctx ends or a listener fails. Then it takes no new requests, lets those that it has
// finish for a while, stops the loop and closes the store.
func (s *Server) Run(ctx context.Context) error {
	loop, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	requests, cutRequests := context.WithCancel(loop)
	defer stopLoop()
	defer cutRequests()

	var background sync.WaitGroup
	background.Go(func() { s.engine.Run(loop) })
	if s.mqtt != nil && s.mqtt.hosts != nil {
		background.Go(func() { s.mqtt.hosts.run(loop) })
		background.Go(func() { s.mqtt.mail.run(loop) })
	}
	background.Go(func() { s.watch(loop) })
	background.Go(func() { s.messenger.run(loop) })
	background.Go(func() { s.webhooks.Run(requests) })
	telling, stopTelling := context.WithCancel(loop)
	defer stopTelling()
	var teller sync.WaitGroup
	teller.Go(func() {
		s.messenger.follow(telling, func(ctx context.Context) { s.api.Follow(ctx, s.messenger.publish, s.messenger.listening) })
	})

	failed := make(chan error, 16)
	stopAside := s.serveAside(failed)
	defer stopAside()
	var doors sync.WaitGroup
	for _, d := range s.doors {
		if d.http {
			d.server.BaseContext = func(net.Listener) context.Context { return requests }
		}
		for _, l := range d.listeners {
			doors.Go(func() {
				if err := s.serve(d, l); !s.stopping.Load() {
					failed <- fmt.Errorf("%s %s: %w", d.name, l.Addr(), err)
				}
			})
		}
	}

	var err error
	select {
	case <-ctx.Done():
		s.log.Info("stopping: requests that were begun may finish", "within", s.config.Grace.String())
	case err = <-failed:
		s.log.Error("a listener failed; stopping", "error", err)
	}
	s.stopping.Store(true)
	s.shutdown(loop, cutRequests, func() {
		stopTelling()
		teller.Wait()
	})
	doors.Wait()
	cutRequests() // of webhooks
	stopLoop()
	background.Wait()
	if closed := s.Close(); err == nil {
		err = closed
	}
	s.log.Info("stopped")
	return err
}

// shutdown lets requests finish, for as long as the grace allows; then it cuts them. Devices are told what
// became of the last requests before they are sent away.
func (s *Server) shutdown(ctx context.Context, cut, stopTelling func()) {
	grace, cancel := context.WithTimeout(ctx, s.config.Grace)
	defer cancel()
	s.streams.end()
	var each sync.WaitGroup
	for _, d := range s.doors {
		if !d.http {
			continue
		}
		each.Go(func() {
			if err := d.server.Shutdown(grace); err != nil {
				s.log.Warn("requests were cut short", "listener", d.name, "error", err)
				cut()
				d.server.Close()
			}
		})
	}
	each.Wait()
	s.closeGates()
	last, stop := context.WithTimeout(grace, lastNotices)
	defer stop()
	_ = s.api.Told(last) // what is not told now is told after the next start
	stopTelling()
	if err := s.messenger.shutdown(grace); err != nil {
		s.log.Warn("MQTT connections were cut short", "error", err)
	}
}

// lastSpans is how long the collector of traces may take for the last ones.
const lastSpans = 2 * time.Second

// lastNotices is how long devices may take to be told the last things.
const lastNotices = time.Second

// Close releases what New took. Run does it when it ends.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		for _, d := range s.doors {
			for _, l := range d.listeners {
				// Run's servers have closed theirs already; a second time is an error without meaning.
				_ = l.Close()
			}
		}
		for _, d := range s.sides {
			for _, l := range d.listeners {
				_ = l.Close()
			}
		}
		if s.messenger != nil {
			s.messenger.close()
		}
		if s.store != nil {
			s.closeErr = s.store.Close()
		}
		if s.observer.tracer != nil {
			last, cancel := context.WithTimeout(context.Background(), lastSpans)
			defer cancel()
			_ = s.observer.tracer.Close(last) // it has logged what it could not send
		}
	})
	return s.closeErr
}

// Reload reads the credentials and the files of certificates again. What cannot be read stays as it was.
func (s *Server) Reload() error {
	var errs []error
	if s.credentials != nil {
		_, err := s.credentials.Reload()
		errs = append(errs, err)
	}
	if s.config.hasTLS() {
		errs = append(errs, s.loadCertificate())
	}
	if s.identities != nil {
		changed, err := s.identities.reload()
		if changed && s.mqtt != nil {
			s.mqtt.judge()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
