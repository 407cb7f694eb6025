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
// reads the body and answers with bytes that were ready, of the size that the
// answer has which it is compared with.

// cannedAnswer is an UpdateJobExecution answer with state and details, 190
// bytes; it is what is answered when nobody says otherwise.
const cannedAnswer = `{"executionState":{"status":"IN_PROGRESS","statusDetails":{"step":"install","progress":"42",` +
	`"firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"0123456789abcdef0123"},"versionNumber":2}}`

type httpEmpty struct {
	server   *http.Server
	listener net.Listener
	failed   chan error
}

func openHTTPEmptyService(_ context.Context, settings Settings) (service, hello, error) {
	answer := settings.Answer
	if answer == "" {
		answer = cannedAnswer
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, hello{}, err
	}
	s := &httpEmpty{&http.Server{Handler: serveEmpty(answer)}, l, make(chan error, 1)}
	go func() { s.failed <- s.server.Serve(l) }()
	return s, hello{Addr: l.Addr().String()}, nil
}

func serveEmpty(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Into one buffer, as a handler that wants the body would read it.
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(answer)))
		io.WriteString(w, answer)
	}
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
// sent; nil sends an update of 201 bytes.
func (b *Bench) httpEmpty(conns int, request func(i int) []byte) *Meter {
	if request == nil {
		request = b.updateRequests(conns)
	}
	return b.httpEmptyLike("httpempty", conns, request, func() string { return cannedAnswer })
}

// httpEmptyLike is Y3 that reads what a row's server reads and answers what it
// answers. The answer is asked for once the row is prepared; the key names the
// process, one for each answer.
func (b *Bench) httpEmptyLike(key string, conns int, request func(i int) []byte, answer func() string) *Meter {
	open := func(ctx context.Context) (*Child, error) {
		if c := b.children[key]; c != nil {
			return c, nil
		}
		return b.adopt(ctx, key, "httpempty", Settings{Answer: answer()})
	}
	return &Meter{
		Name: fmt.Sprintf("Y3 empty handler, %d connections", conns),
		Prepare: func(ctx context.Context) error {
			_, err := open(ctx)
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, err := open(ctx)
			if err != nil {
				return nil, err
			}
			want := len(answer())
			load := b.httpLoad(c.Addr, c.PID(), conns)
			load.Request = request
			load.Check = func(_, status int, body []byte) error {
				if status != http.StatusOK || len(body) != want {
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
