package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkRequests is what a request of a device, or one that makes or lists jobs, costs beside net/http.
func BenchmarkRequests(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	h := s.handler(0)
	const signed = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=0"
	ask := func(method, path, body string, header ...string) func() {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		r.Header.Set("Content-Type", "application/json")
		text := strings.NewReader(body)
		r.Body, r.ContentLength = io.NopCloser(text), int64(len(body))
		w := &nobody{header: http.Header{}}
		return func() {
			text.Reset(body)
			clear(w.header)
			h.ServeHTTP(w, r)
			if w.status != http.StatusOK {
				b.Fatalf("%s %s: status %d", method, path, w.status)
			}
		}
	}
	for _, name := range []string{"one", "two"} {
		ask("POST", "/things/"+name, "{}", "Authorization", signed)()
		ask("PUT", "/jobs/job-of-"+name, `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/`+name+`"],"document":"{\"operation\":\"install\",\"url\":\"https://updates.example.com/pump.bin\"}"}`)()
	}
	if _, err := s.engine.Tick(b.Context()); err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func(){
		"Update": ask("POST", "/things/one/jobs/job-of-one", `{"status":"IN_PROGRESS","includeJobExecutionState":true,"statusDetails":{"step":"install","progress":"42",`+
			`"firmware":"2.14.0-rc3","slot":"B","battery":"87","trace":"0123456789abcdef0123"}}`),
		"Describe": ask("GET", "/things/two/jobs/job-of-two", ""),
		"Pending":  ask("GET", "/things/two/jobs", ""),
		"ListJobs": ask("GET", "/jobs", "", "Authorization", signed),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}

// nobody reads the answer.
type nobody struct {
	header http.Header
	status int
}

func (w *nobody) Header() http.Header         { return w.header }
func (w *nobody) WriteHeader(status int)      { w.status = status }
func (w *nobody) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkCreateJob makes durable jobs for 200 things, 16 callers at a time.
func BenchmarkCreateJob(b *testing.B) {
	s, err := New(Config{Store: "pebble:" + b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	h := s.handler(0)
	ask := func(method, path, body string) {
		w := &nobody{header: http.Header{}}
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=0")
		if h.ServeHTTP(w, r); w.status != http.StatusOK {
			b.Errorf("%s %s: status %d", method, path, w.status)
		}
	}
	for i := range 200 {
		ask("POST", fmt.Sprintf("/things/thing-%d", i), "{}")
	}
	made := atomic.Int64{}
	b.ReportAllocs()
	b.SetParallelism(16 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			n := made.Add(1)
			ask("PUT", fmt.Sprintf("/jobs/job-%d", n), fmt.Sprintf(`{"targets":["arn:aws:iot:us-east-1:123456789012:thing/thing-%d"],`+
				`"document":"{\"operation\":\"install\"}","targetSelection":"SNAPSHOT"}`, n%200))
		}
	})
}
