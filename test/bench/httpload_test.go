package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func testLoad(s *httptest.Server, conns int) HTTPLoad {
	return HTTPLoad{Conns: conns, For: 30 * time.Millisecond, Dial: dialTCP(s.Listener.Addr().String())}
}

// TestHTTPLoadIsAClosedLoop has the server hand out versions, as a store does,
// and each connection ask with the version it was told.
func TestHTTPLoadIsAClosedLoop(t *testing.T) {
	const conns = 3
	var mu sync.Mutex
	versions := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(versions[r.URL.Path]) != string(body) {
			http.Error(w, "conflict", http.StatusConflict)
			return
		}
		versions[r.URL.Path]++
		fmt.Fprint(w, versions[r.URL.Path])
	}))
	defer s.Close()
	told := [conns]string{"0", "0", "0"}
	load := testLoad(s, conns)
	load.Warm, load.PID = 5*time.Millisecond, os.Getpid()
	load.Request = func(i int) []byte {
		return httpRequest(nil, "POST", fmt.Sprintf("/thing/%d", i%conns), "x", []byte(told[i%conns]))
	}
	load.Check = func(i, status int, body []byte) error {
		if status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		told[i%conns] = string(body)
		return nil
	}
	sample, err := load.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sample[Operations] < conns || sample[PerSecond] <= 0 || sample[P99] < sample[P50] {
		t.Errorf("sample %v", sample)
	}
	if _, ok := sample[CPUPerOp]; !ok {
		t.Error("no CPU per request of a server whose process is known")
	}
	for c := range conns {
		if got := fmt.Sprint(versions[fmt.Sprintf("/thing/%d", c)]); got != told[c] {
			t.Errorf("connection %d was told %s, the server counts %s", c, told[c], got)
		}
	}
}

func TestHTTPLoadReadsLargeAnswers(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-length", fmt.Sprint(len(large)))
		io.WriteString(w, large)
	}))
	defer s.Close()
	load := testLoad(s, 2)
	load.Request = func(int) []byte { return httpRequest(nil, "GET", "/", "x", nil) }
	load.Check = func(_, status int, body []byte) error {
		if status != 200 || string(body) != large {
			return fmt.Errorf("status %d, %d bytes", status, len(body))
		}
		return nil
	}
	if _, err := load.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHTTPLoadStopsAtTheFirstError(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer s.Close()
	load := testLoad(s, 4)
	load.For = time.Hour
	wrong := errors.New("wrong version")
	load.Request = func(int) []byte { return httpRequest(nil, "GET", "/", "x", nil) }
	load.Check = func(i, _ int, _ []byte) error {
		if i%4 == 2 {
			return wrong
		}
		return nil
	}
	if _, err := load.Run(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("got %v, want %v", err, wrong)
	}
}

func TestHTTPLoadLeavesAHangingServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer s.Close()
	load := testLoad(s, 2)
	load.Request = func(int) []byte { return httpRequest(nil, "GET", "/", "x", nil) }
	if _, err := load.Run(ctx); err == nil {
		t.Error("a load that was cancelled reports success")
	}
}

func TestExchangeOfAnswersInPieces(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []string
		status int
		body   string
		err    string
	}{
		{"whole", []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"}, 200, "hi", ""},
		{"split in the head", []string{"HTTP/1.1 409 Confl", "ict\r\ncontent-length:2\r", "\n\r\nhi"}, 409, "hi", ""},
		{"split in the body", []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nh", "i", " there"[:2]}, 200, "hi t", ""},
		{"no content", []string{"HTTP/1.1 204 No Content\r\n\r\n"}, 204, "", ""},
		{"unknown length", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}, 0, "", "without Content-Length"},
		{"bad length", []string{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"}, 0, "", "not a length"},
		{"too long", []string{"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"}, 0, "", "answer of"},
		{"not HTTP", []string{"SSH-2.0-OpenSSH\r\n\r\n"}, 0, "", "not an HTTP/1.1 answer"},
		{"two answers", []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP"}, 0, "", "after the answer"},
		{"cut short", []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi"}, 0, "", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			go func() {
				defer server.Close()
				server.Read(make([]byte, 64))
				for _, p := range c.pieces {
					io.WriteString(server, p)
				}
			}()
			conn := &httpConn{Conn: client, buf: make([]byte, 16)}
			status, body, err := conn.exchange([]byte("GET"))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || status != c.status || string(body) != c.body {
				t.Errorf("%d %q %v", status, body, err)
			}
		})
	}
}

func TestEmptyHandlerMeter(t *testing.T) {
	if len(cannedAnswer) < 185 || len(cannedAnswer) > 195 {
		t.Errorf("the canned answer has %d bytes, want about 190", len(cannedAnswer))
	}
	b := testBench(t)
	request := string(b.updateRequests(2)(1))
	_, body, _ := strings.Cut(request, "\r\n\r\n")
	if len(body) != 201 || !strings.HasPrefix(request, "POST /things/thing-0000001/jobs/") {
		t.Errorf("request with a body of %d bytes: %s", len(body), request)
	}
	s, err := b.httpEmpty(4, nil).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s[PerSecond] <= 0 {
		t.Errorf("sample %v", s)
	}
}
