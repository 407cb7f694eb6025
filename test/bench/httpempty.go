package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Y3, the empty handler: what net/http costs when nobody does anything. It
// reads the body and answers with bytes that were ready, of the size that an
// update's answer has.

// cannedAnswer is an UpdateJobExecution answer with state and details, 190 bytes.
const cannedAnswer = `{"executionState":{"status":"IN_PROGRESS","statusDetails":{"step":"install","progress":"42",` +
	`"firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"0123456789abcdef0123"},"versionNumber":2}}`

type httpEmpty struct {
	server   *http.Server
	listener net.Listener
	failed   chan error
}

func openHTTPEmptyService(context.Context, Settings) (service, hello, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, hello{}, err
	}
	s := &httpEmpty{&http.Server{Handler: http.HandlerFunc(serveEmpty)}, l, make(chan error, 1)}
	go func() { s.failed <- s.server.Serve(l) }()
	return s, hello{Addr: l.Addr().String()}, nil
}

func serveEmpty(w http.ResponseWriter, r *http.Request) {
	// Into one buffer, as a handler that wants the body would read it.
	if _, err := io.ReadAll(r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(cannedAnswer)))
	io.WriteString(w, cannedAnswer)
}

func (s *httpEmpty) Call(_ context.Context, req Request) (Sample, error) {
	return nil, fmt.Errorf("httpempty cannot %q", req.Op)
}

func (s *httpEmpty) Close() error {
	err := s.server.Close()
	if served := <-s.failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// httpEmpty measures Y3 with a number of connections. Request says what is
// sent; nil sends an update of 201 bytes. Rows pass their own, so that Y3 reads
// what they read.
func (b *Bench) httpEmpty(conns int, request func(i int) []byte) *Meter {
	if request == nil {
		request = b.updateRequests(conns)
	}
	return &Meter{
		Name: fmt.Sprintf("Y3 empty handler, %d connections", conns),
		Run: func(ctx context.Context) (Sample, error) {
			c, _, err := b.child(ctx, "httpempty", "httpempty")
			if err != nil {
				return nil, err
			}
			load := b.httpLoad(c.Addr, c.PID(), conns)
			load.Request = request
			load.Check = func(_, status int, body []byte) error {
				if status != http.StatusOK || len(body) != len(cannedAnswer) {
					return fmt.Errorf("status %d with %d bytes", status, len(body))
				}
				return nil
			}
			return load.Run(ctx)
		},
	}
}

// httpLoad is a load for b.Seconds, warmed; Request is left to the caller.
func (b *Bench) httpLoad(addr string, pid, conns int) HTTPLoad {
	d := time.Duration(b.Seconds * float64(time.Second))
	return HTTPLoad{Conns: conns, For: d, Warm: d / 5, Dial: dialTCP(addr), PID: pid}
}

// updateRequests are UpdateJobExecution requests: 201 bytes of body, a thing
// per connection.
func (b *Bench) updateRequests(conns int) func(i int) []byte {
	body := []byte(`{"status":"IN_PROGRESS","expectedVersion":1,"statusDetails":{"step":"install","progress":"42",` +
		`"firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"0123456789abcdef0123456789abcdef0123456789abc"}}`)
	ready := make([][]byte, conns)
	for c := range ready {
		path := "/things/" + string(appendThing(nil, c)) + "/jobs/" + naiveJob
		ready[c] = httpRequest(nil, http.MethodPost, path, "localhost", body)
	}
	return func(i int) []byte { return ready[i%conns] }
}
