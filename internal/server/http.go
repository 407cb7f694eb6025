package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/awsapi/wire"
)

const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second // of a whole request; an import moves it on as it reads
	writeTimeout      = 2 * time.Minute  // from the request's header to the end of the answer
	idleTimeout       = 5 * time.Minute  // devices keep a connection between polls
	stallTimeout      = 2 * time.Minute  // of an import that sends nothing

	// maxSigned is the largest import whose body is part of its signature: all of it must be here
	// before the first line may be believed.
	maxSigned     = 64 << 20
	maxBackupBody = 64 << 10

	// unsignedPayload is what a signature says that leaves the body out.
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// handler serves Muster's own endpoints and gives everything else to the AWS face, whose paths no mux
// may clean. A listener of the data plane is for devices: it has no /_muster/.
func (s *Server) handler(plane wire.Plane) http.Handler {
	face := s.api.Handler(plane)
	own := http.NewServeMux()
	own.HandleFunc("GET /healthz", s.healthz)
	own.HandleFunc("GET /readyz", s.readyz)
	if plane != wire.Data {
		own.HandleFunc("GET /metrics", s.serveMetrics)
		own.HandleFunc("GET /_muster/events", s.serveEvents)
		s.routeWebhooks(own)
		own.HandleFunc("POST /_muster/import", s.serveImport)
		own.HandleFunc("POST /_muster/backup", s.serveBackup)
		own.HandleFunc("GET /_muster/clock", s.serveClock)
		own.HandleFunc("POST /_muster/clock", s.moveClock)
		own.HandleFunc("POST /_muster/dry-run", s.serveDryRun)
		own.HandleFunc("GET /_muster/jobs/{id}/explain", s.serveExplain)
		own.HandleFunc("GET /_muster/jobs/{id}/things/{name}/explain", s.serveExplainThing)
		own.HandleFunc("POST /_muster/jobs/{id}/hold", s.actOn(s.hold))
		own.HandleFunc("POST /_muster/jobs/{id}/resume", s.actOn(s.resume))
		own.HandleFunc("POST /_muster/jobs/{id}/retry-failed", s.actOn(s.retryFailed))
	}
	own.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "There is nothing at "+r.Method+" "+r.URL.Path)
	})
	// A web page that somebody looks at must not be able to use what is open on their loopback.
	foreign := http.NewCrossOriginProtection()

	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		began := s.now()
		w := &recorder{ResponseWriter: rw}
		defer func() { s.told(w, r, s.now().Sub(began)) }()
		path := r.URL.Path
		rememberTLS(r)
		switch mine := path == "/healthz" || path == "/readyz" || path == "/metrics" || strings.HasPrefix(path, "/_muster/"); {
		case foreign.Check(r) != nil:
			identify(w)
			refuse(w, http.StatusForbidden, "A web page of another origin may not do this")
		case mine:
			identify(w)
			s.guarded(own, w, r)
		case plane != wire.Control && asksForMQTT(r):
			identify(w)
			s.serveWebSocket(w, r)
		default:
			face.ServeHTTP(w, r)
		}
	})
}

func identify(w http.ResponseWriter) {
	w.Header()[awsapi.RequestIDHeader] = []string{awsapi.NewRequestID()}
}

// guarded answers 500 where net/http would only cut the connection.
func (s *Server) guarded(h http.Handler, w *recorder, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("request failed", "request", w.id(), "path", r.URL.Path, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
			if w.status == 0 {
				refuse(w, http.StatusInternalServerError, "Internal error")
			}
		}
	}()
	h.ServeHTTP(w, r)
}

// A recorder remembers the status of an answer for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) id() string { return w.Header().Get(awsapi.RequestIDHeader) }

// told logs a request. The query is left out: it may hold a signature.
func (s *Server) told(w *recorder, r *http.Request, took time.Duration) {
	level := slog.LevelDebug
	if w.status >= 500 {
		level = slog.LevelInfo
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	s.log.LogAttrs(r.Context(), level, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", w.status), slog.Duration("took", took), slog.String("request", w.id()))
}

// quietLog takes what net/http has to say: handshakes that failed and the like.
func quietLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain structures are given
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func refuse(w http.ResponseWriter, status int, sentence string) {
	reply(w, status, struct {
		Message string `json:"message"`
	}{sentence})
}

// refuseFor answers with what went wrong.
func (s *Server) refuseFor(w http.ResponseWriter, err error) {
	var auth *awsapi.AuthError
	var known *muster.Error
	switch {
	case errors.As(err, &auth):
		refuse(w, auth.Status, auth.Message)
	case errors.As(err, &known) && known.Kind != muster.Internal:
		status := map[muster.Kind]int{muster.AlreadyExists: http.StatusConflict, muster.InvalidTransition: http.StatusConflict,
			muster.NotFound: http.StatusNotFound, muster.Unavailable: http.StatusServiceUnavailable}[known.Kind]
		if status == 0 {
			status = http.StatusBadRequest
		}
		if status >= 500 {
			s.log.Error("request failed", "request", w.Header().Get(awsapi.RequestIDHeader), "error", err)
		}
		refuse(w, status, known.Message)
	default:
		s.log.Error("request failed", "request", w.Header().Get(awsapi.RequestIDHeader), "error", err)
		refuse(w, http.StatusInternalServerError, "Internal error")
	}
}

// admitted is the body of a request to an own endpoint that may change things. Its signature, if
// signatures are asked for, was found good.
func (s *Server) admitted(r *http.Request, limit int64) (io.Reader, error) {
	if !s.Authenticates() {
		return r.Body, nil
	}
	if r.Header.Get("X-Amz-Content-Sha256") == unsignedPayload {
		return r.Body, s.api.Authorize(r, nil, wire.Control, false)
	}
	// Who sent it is known only at its end, so somebody without a key is turned away before.
	if _, signed := awsapi.Scope(r); !signed {
		return nil, s.api.Authorize(r, nil, wire.Control, false)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "The body could not be read to its end")
	}
	if int64(len(body)) > limit {
		return nil, &awsapi.AuthError{Status: http.StatusRequestEntityTooLarge, Type: "InvalidRequestException",
			Message: fmt.Sprintf("A body that is part of the signature may have %d bytes; sign it as %s to send more", limit, unsignedPayload)}
	}
	return strings.NewReader(string(body)), s.api.Authorize(r, body, wire.Control, false)
}

// readable says whether a request may read at an own endpoint.
func (s *Server) readable(r *http.Request) error {
	return s.api.Authorize(r, nil, wire.Control, true)
}

// serveBackup writes a backup on the server's disk: {"dir":"/backups/monday"}.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	body, err := s.admitted(r, maxBackupBody)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	var in, out struct {
		Dir string `json:"dir"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxBackupBody)).Decode(&in); err != nil || in.Dir == "" {
		refuse(w, http.StatusBadRequest, `The body must be {"dir":"DIRECTORY"}; the server writes the backup there, on its own disk`)
		return
	}
	out.Dir, err = filepath.Abs(in.Dir)
	if err == nil {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // copying takes as long as it takes
		err = backup(r.Context(), s.store, out.Dir)
	}
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	s.log.Info("backup written", "dir", out.Dir, "request", w.Header().Get(awsapi.RequestIDHeader))
	reply(w, http.StatusOK, out)
}
