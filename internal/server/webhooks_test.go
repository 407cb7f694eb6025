package server

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/webhook"
)

// A receiver is what a webhook points to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	refuse func(event frame, attempt int) bool
	taken  []frame
	tries  int
	bad    []string
	came   chan struct{}
}

const hookSecret = "0123456789abcdef"

func newReceiver(t *testing.T, refuse func(event frame, attempt int) bool) *receiver {
	r := &receiver{refuse: refuse, came: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tries++
		// This is what a receiver does that verifies.
		stamp, _, _ := strings.Cut(strings.TrimPrefix(q.Header.Get("Muster-Signature"), "t="), ",")
		seconds, _ := strconv.ParseInt(stamp, 10, 64)
		if at := time.Unix(seconds, 0); time.Since(at) > time.Minute || webhook.Sign(hookSecret, at, body) != q.Header.Get("Muster-Signature") {
			r.bad = append(r.bad, q.Header.Get("Muster-Signature"))
		}
		var f frame
		f.data = string(body)
		if err == nil {
			err = json.Unmarshal(body, &f.body)
		}
		if err != nil || f.body.EventID != q.Header.Get("Muster-Event-Id") || !strings.HasPrefix(q.Header.Get("Muster-Topic"), "$aws/events/") {
			r.bad = append(r.bad, f.data)
		}
		attempt, _ := strconv.Atoi(q.Header.Get("Muster-Attempt"))
		if r.refuse(f, attempt) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.taken = append(r.taken, f)
		select {
		case r.came <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// until waits until what was taken is enough.
func (r *receiver) until(t *testing.T, enough func([]frame) bool) []frame {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		taken := slices.Clone(r.taken)
		r.mu.Unlock()
		if enough(taken) {
			return taken
		}
		select {
		case <-r.came:
		case <-late:
			t.Fatalf("only %d events came: %v", len(taken), summary(taken))
		}
	}
}

func (r *running) hook(t *testing.T, id, url, more string) {
	t.Helper()
	want(t, "POST", r.url+"/_muster/webhooks", fmt.Sprintf(`{"id":%q,"url":%q,"secret":%q%s}`, id, url, hookSecret, more), http.StatusCreated, `"secret":"`+hookSecret)
}

// impatient is a server that tries again at once.
func impatient(t *testing.T, c Config) *running {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.webhooks.Pause = func(int) time.Duration { return time.Millisecond }
	return serve(t, s, nil)
}

// A receiver that fails half of the time sees everything, signed, and what is of one job in order.
func TestWebhookOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	to := newReceiver(t, func(frame, int) bool { return random.IntN(2) == 0 })
	r := impatient(t, Config{})
	r.things(t, 10, "pumps")
	r.hook(t, "all", to.URL, `,"attempts":100`)
	whole := listen(t, r.url+"/_muster/events", "")
	for _, id := range []string{"a", "b", "c"} {
		r.job(t, id, "thinggroup/pumps")
	}
	for i := range 10 {
		thing := fmt.Sprintf("pumps-%d", i)
		for range 3 {
			answer := want(t, "PUT", r.url+"/things/"+thing+"/jobs/$next", "{}", safe)
			var next struct{ Execution struct{ JobID string } }
			if err := json.Unmarshal([]byte(answer), &next); err != nil {
				t.Fatal(err)
			}
			want(t, "POST", r.url+"/things/"+thing+"/jobs/"+next.Execution.JobID, `{"status":"SUCCEEDED"}`, safe)
		}
	}
	told := map[string][]string{}
	n := 0
	for completed := 0; completed < 3; n++ {
		f, ok := whole.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		told[f.body.JobID] = append(told[f.body.JobID], f.body.EventID)
		if f.body.EventType == "JOB" && f.body.Operation == "completed" {
			completed++
		}
	}
	taken := to.until(t, func(all []frame) bool { return len(all) >= n })
	got := map[string][]string{}
	for _, f := range taken {
		got[f.body.JobID] = append(got[f.body.JobID], f.body.EventID)
	}
	for id := range told {
		if !slices.Equal(got[id], told[id]) {
			t.Errorf("job %s: %d events taken, %d told, or not in order", id, len(got[id]), len(told[id]))
		}
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if len(to.bad) > 0 || to.tries < n*3/2 {
		t.Errorf("%d attempts for %d events; bad: %v", to.tries, n, to.bad)
	}
}

// What a receiver will not take does not hold up other jobs, becomes a dead letter, can be tried again and dropped, and outlives
// the process; so does the hook, which goes on where it was.
func TestWebhookDeadLetters(t *testing.T) {
	refuse := "bad"
	to := newReceiver(t, func(f frame, _ int) bool { return f.body.JobID == refuse })
	dir := "pebble:" + t.TempDir() + "/store"
	r := impatient(t, Config{Store: dir})
	r.things(t, 1, "pumps")
	r.hook(t, "jobs", to.URL, `,"attempts":3,"filter":{"types":["JOB"]}`)
	r.job(t, "bad", "thing/pumps-0")
	r.job(t, "good", "thing/pumps-0")
	to.until(t, func(all []frame) bool { return len(all) == 1 && all[0].body.JobID == "good" })
	url := r.url + "/_muster/webhooks/jobs"
	var state webhook.State
	for deadline := time.Now().Add(20 * time.Second); state.Dead != 1 && time.Now().Before(deadline); {
		if err := json.Unmarshal([]byte(want(t, "GET", url, "", safe, `"deliversHere":true`)), &state); err != nil {
			t.Fatal(err)
		}
	}
	if state.Secret != "" || state.Dead != 1 {
		t.Errorf("%+v", state)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	r = impatient(t, Config{Store: dir})
	url = r.url + "/_muster/webhooks/jobs"
	r.job(t, "later", "thing/pumps-0")
	to.until(t, func(all []frame) bool { return len(all) >= 2 && all[len(all)-1].body.JobID == "later" })
	want(t, "GET", url+"/dead", "", safe, `"jobId":"bad"`, `"attempts":3`, "503 Service Unavailable", `"operation":"created"`)
	want(t, "POST", url+"/dead/retry", "", safe, `{"delivered":0,"refused":"the receiver answered 503`)
	to.mu.Lock()
	refuse = ""
	to.mu.Unlock()
	want(t, "POST", url+"/dead/retry", "", safe, `{"delivered":1}`)
	want(t, "GET", url+"/dead", "", safe, `{"deadLetters":[]}`)
	to.mu.Lock()
	refuse = "worse"
	to.mu.Unlock()
	r.job(t, "worse", "thing/pumps-0")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if _, dead := ask(t, "GET", url+"/dead", ""); strings.Contains(dead, "worse") {
			break
		}
	}
	want(t, "DELETE", url+"/dead", "", safe, `{"dropped":1}`)
	want(t, "DELETE", url+"/dead/none", "", http.StatusNotFound)
	want(t, "DELETE", url, "", safe)
	want(t, "GET", url, "", http.StatusNotFound, `There is no webhook`)
	want(t, "GET", r.url+"/_muster/webhooks", "", safe, `{"webhooks":[]}`)
	if left, err := r.engine.Settings(t.Context(), "webhook/"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A paused hook gets, when it goes on, what happened meanwhile.
func TestWebhookPause(t *testing.T) {
	to := newReceiver(t, func(frame, int) bool { return false })
	r := impatient(t, Config{})
	r.hook(t, "one", to.URL, "")
	want(t, "PATCH", r.url+"/_muster/webhooks/one", `{"paused":true}`, safe, `"paused":true`)
	for deadline := time.Now().Add(20 * time.Second); r.webhooks.Stats().Hooks > 0 && time.Now().Before(deadline); {
		r.webhooks.Stats()
	}
	want(t, "POST", r.url+"/things/lamp", "{}", safe)
	to.mu.Lock()
	if to.tries > 0 {
		t.Error("a paused webhook was told")
	}
	to.mu.Unlock()
	want(t, "PATCH", r.url+"/_muster/webhooks/one", `{"paused":false}`, safe)
	to.until(t, func(all []frame) bool { return len(all) == 1 && all[0].body.ThingName == "lamp" })
}

func TestWebhooksRefused(t *testing.T) {
	r := start(t, Config{})
	for body, sentence := range map[string]string{
		`{}`:                                           "url is missing",
		`{"url":"ftp://x/y"}`:                          "must be an http or https URL",
		`{"url":"http://me:secret@x/"}`:                "must not hold a user name",
		`{"url":"http://x/","secret":"x"}`:             "secret has 1 bytes",
		`{"url":"http://x/","attempts":1000}`:          "attempts is 1000",
		`{"url":"http://x/","id":"a/b"}`:               `id \"a/b\" must be`,
		`{"url":"http://x/","filters":{}}`:             `unknown field`,
		`{"url":"http://x/","filter":{"types":["X"]}}`: `type \"X\" is not one of`,
		`{"url":"http://x/"} {}`:                       "more behind",
	} {
		want(t, "POST", r.url+"/_muster/webhooks", body, http.StatusBadRequest, sentence)
	}
	r.hook(t, "one", "http://127.0.0.1:1/", "")
	want(t, "POST", r.url+"/_muster/webhooks", `{"url":"http://x/","id":"one"}`, http.StatusConflict, "exists already")
	want(t, "PATCH", r.url+"/_muster/webhooks/none", `{}`, http.StatusNotFound)
}

// Of several processes one delivers. Who takes over goes on where the other was.
func TestWebhookHandedOver(t *testing.T) {
	to := newReceiver(t, func(frame, int) bool { return false })
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var mine atomic.Bool
	s.webhooks.Owns = func(string) bool { return mine.Load() }
	r := serve(t, s, nil)
	r.hook(t, "one", to.URL, "")
	want(t, "POST", r.url+"/things/lamp", "{}", safe)
	want(t, "GET", r.url+"/_muster/webhooks/one", "", safe, `"deliversHere":false`)
	to.mu.Lock()
	if to.tries > 0 {
		t.Error("a webhook was told by who does not own it")
	}
	to.mu.Unlock()
	mine.Store(true)
	to.until(t, func(all []frame) bool { return len(all) == 1 && all[0].body.ThingName == "lamp" })
}
