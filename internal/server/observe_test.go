package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestMetrics(t *testing.T) {
	r := start(t, Config{Metrics: "127.0.0.1:0", Version: "v9"})
	r.things(t, 1, "pumps")
	l := listen(t, r.url+"/_muster/events", "")
	r.job(t, "fw", "thing/pumps-0")
	want(t, "PUT", r.url+"/things/pumps-0/jobs/$next", "{}", safe)
	want(t, "POST", r.url+"/things/pumps-0/jobs/fw", `{"status":"SUCCEEDED"}`, safe)
	want(t, "POST", r.url+"/things/pumps-0/jobs/fw", `{"status":"IN_PROGRESS"}`, http.StatusConflict)
	want(t, "GET", r.url+"/things/none/jobs", "", http.StatusNotFound)
	l.until("fw", "completed")
	if err := r.api.Told(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		`muster_requests_total{door="http",operation="UpdateJobExecution",plane="data",result="ok"} 1`,
		`muster_requests_total{door="http",operation="UpdateJobExecution",plane="data",result="conflict"} 1`,
		`muster_request_duration_seconds_count{door="http",operation="CreateJob",plane="control"} 1`,
		`muster_execution_transitions_total{from="none",to="QUEUED"} 1`,
		`muster_execution_transitions_total{from="IN_PROGRESS",to="SUCCEEDED"} 1`,
		`muster_jobs{status="COMPLETED"} 1`, `muster_jobs{status="IN_PROGRESS"} 0`,
		`muster_event_streams 1`, `muster_store_up 1`, `muster_build_info{go_version="go`, `version="v9"} 1`,
		`muster_deadlines_total{kind="rollout"}`, `muster_store_batch_size_bucket{le="1"}`, `muster_store_sync_duration_seconds_count`,
		`muster_mqtt_connections 0`, `muster_feed_lag_seconds 0`, `muster_webhooks 0`, `process_resident_memory_bytes`, `go_goroutines`,
	}
	want(t, "GET", r.url+"/metrics", "", safe, lines...)
	aside := "http://" + r.Addrs()["metrics"]
	response, err := http.Get(aside + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	response.Body.Close()
	for _, line := range lines {
		if !strings.Contains(string(text), line) {
			t.Errorf("%s/metrics has no %s", aside, line)
		}
	}
	for _, name := range []string{"pumps", "fw"} {
		if strings.Contains(string(text), name) {
			t.Errorf("metrics name %s, of which there may be millions", name)
		}
	}
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 200, "/things/pumps-0/jobs": 404, "/_muster/clock": 404} {
		response, err := http.Get(aside + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%s%s: %s", aside, path, response.Status)
		}
	}
}

// Where requests must be signed, metrics and events are not for everybody; the listener of metrics is. Devices have neither.
func TestWhoMayWatch(t *testing.T) {
	r := start(t, Config{HTTP: "127.0.0.1:0", Data: "127.0.0.1:0", Metrics: "127.0.0.1:0", Credentials: credentialsFile(t)})
	for _, path := range []string{"/metrics", "/_muster/events", "/_muster/webhooks"} {
		want(t, "GET", r.url+path, "", http.StatusForbidden)
		want(t, "GET", "http://"+r.Addrs()["data"]+path, "", http.StatusNotFound)
	}
	want(t, "POST", r.url+"/_muster/webhooks", `{"url":"http://x/"}`, http.StatusForbidden)
	response, err := http.Get("http://" + r.Addrs()["metrics"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != safe {
		t.Error(response.Status)
	}
}

func TestProfiles(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		if s, err := New(Config{Pprof: address}); err == nil || !strings.Contains(err.Error(), "listen on loopback") {
			t.Errorf("%s: %v", address, err)
			if err == nil {
				s.Close()
			}
		}
	}
	r := start(t, Config{Pprof: ":0", HTTP: ":0"})
	response, err := http.Get("http://" + r.Addrs()["pprof"] + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if !strings.Contains(string(text), "goroutine profile") {
		t.Errorf("%s %s", response.Status, text)
	}
	want(t, "GET", r.url+"/debug/pprof/", "", http.StatusNotFound)
}

// A span for each request, below the caller's; for commits of the store; for rounds of the loop.
func TestTraces(t *testing.T) {
	spans := make(chan *traces.Span, 1000)
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var in collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &in)
		}
		if err != nil || q.URL.Path != "/v1/traces" {
			t.Errorf("%s %v", q.URL, err)
		}
		for _, r := range in.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					spans <- span
				}
			}
		}
	}))
	defer to.Close()
	r := start(t, Config{OTLP: to.URL, Version: "v9"})
	r.things(t, 1, "pumps")
	r.job(t, "fw", "thing/pumps-0")
	request, err := http.NewRequest("GET", r.url+"/things/pumps-0/jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("traceparent", "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if err := r.stop(); err != nil { // the last ones are sent
		t.Fatal(err)
	}
	close(spans)
	count := map[string]int{}
	for s := range spans {
		count[s.Name]++
		if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took < 0 || took > time.Minute {
			t.Errorf("%s took %v", s.Name, took)
		}
		if s.Name == "GetPendingJobExecutions" && (string(s.TraceId) != "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10" || string(s.ParentSpanId) != "\x01\x02\x03\x04\x05\x06\x07\x08") {
			t.Errorf("not below the caller's: %x %x", s.TraceId, s.ParentSpanId)
		}
	}
	if count["CreateThing"] != 1 || count["CreateJob"] != 1 || count["GetPendingJobExecutions"] != 1 || count["store commit"] < 3 || count["loop tick"] < 1 {
		t.Errorf("%v", count)
	}
	if _, err := New(Config{OTLP: "localhost:4317"}); err == nil || !strings.Contains(err.Error(), "is not an OTLP endpoint") {
		t.Error(err)
	}
}
