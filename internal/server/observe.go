package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"muster/internal/awsapi"
	"muster/internal/metrics"
	"muster/internal/store/pebblestore"
	"muster/internal/store/pgstore"
	"muster/internal/trace"
)

// An observer counts requests, and traces them if there is anybody to tell.
type observer struct {
	requests *metrics.Requests
	tracer   *trace.Tracer // nil: nobody
	now      func() time.Time
}

// Begin notes when a request came.
func (o *observer) Begin(ctx context.Context, h http.Header) (context.Context, time.Time) {
	at := o.now()
	if o.tracer != nil {
		ctx = o.tracer.Begin(ctx, h, at)
	}
	return ctx, at
}

// End counts it.
func (o *observer) End(ctx context.Context, began time.Time, r *awsapi.Request) {
	at := o.now()
	o.requests.Count(r, at.Sub(began))
	if o.tracer != nil {
		o.tracer.End(ctx, r, at)
	}
}

// newMetrics is what /metrics answers.
func (s *Server) newMetrics() http.Handler {
	from := metrics.Sources{Requests: s.observer.requests, API: s.api, Engine: s.engine, Webhooks: s.webhooks,
		Health: s.store.Health, Streams: s.streams.stats, Now: s.now, Version: s.config.Version}
	switch counts := s.store.(type) {
	case interface{ Stats() pebblestore.Stats }:
		from.Store = counts.Stats
	case interface{ Stats() pgstore.Stats }:
		from.Database = counts.Stats
	}
	if s.mqtt != nil {
		from.Broker = s.mqtt.broker.Stats
	}
	return metrics.Handler(from)
}

// serveMetrics is /metrics where the service is: who may read the service's own endpoints may read it.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if err := s.readable(r); err != nil {
		s.refuseFor(w, err)
		return
	}
	s.metrics.ServeHTTP(w, r)
}

// A side is a listener for who looks after the server: nothing of the service is there.
type side struct {
	name      string
	listeners []net.Listener
	server    *http.Server
}

// listenAside opens the listeners of metrics and of profiles.
func (s *Server) listenAside() error {
	for _, want := range []struct{ name, address string }{{"metrics", s.config.Metrics}, {"pprof", s.config.Pprof}} {
		if want.address == "" {
			continue
		}
		// Numbers say nothing of anybody and change nothing, so whoever names an interface may have them read from there. Profiles
		// hold what memory does.
		at, err := place(want.address, false, false)
		if _, open := errors.AsType[*exposed](err); open && want.name == "metrics" {
			at, err = place(want.address, false, true)
		} else if open {
			err = fmt.Errorf("%s can be reached from other machines, and a profile shows what is in memory: listen on loopback, for instance on 127.0.0.1:6060", want.address)
		}
		var listeners []net.Listener
		if err == nil {
			listeners, err = bind(at)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", want.name, err)
		}
		s.sides = append(s.sides, &side{name: want.name, listeners: listeners})
	}
	return nil
}

// serveAside serves them until stop is called.
func (s *Server) serveAside(failed chan<- error) (stop func()) {
	for _, d := range s.sides {
		mux := http.NewServeMux()
		d.server = &http.Server{Handler: mux, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10, ErrorLog: quietLog(s.log)}
		switch d.name {
		case "metrics":
			d.server.WriteTimeout = writeTimeout
			mux.Handle("GET /metrics", s.metrics)
			mux.HandleFunc("GET /healthz", s.healthz)
			mux.HandleFunc("GET /readyz", s.readyz)
		case "pprof":
			mux.HandleFunc("GET /debug/pprof/", pprof.Index)
			mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
			mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
			mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
			mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		}
		for _, l := range d.listeners {
			go func() {
				if err := d.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !s.stopping.Load() {
					failed <- fmt.Errorf("%s %s: %w", d.name, l.Addr(), err)
				}
			}()
		}
	}
	return func() {
		for _, d := range s.sides {
			_ = d.server.Close() // who looks can look again
		}
	}
}
