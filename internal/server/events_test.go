package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/engine"
	"muster/internal/store/pebblestore"
)

// A frame is one server-sent event.
type frame struct {
	id, event, data string
	body            struct {
		EventID   string `json:"eventId"`
		EventType string `json:"eventType"`
		Operation string `json:"operation"`
		JobID     string `json:"jobId"`
		ThingARN  string `json:"thingArn"`
		ThingName string `json:"thingName"`
		Status    string `json:"status"`
	}
}

// A listener reads events. What only moves the reader on has no data.
type listener struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
	last  string // where to go on
}

func listen(t *testing.T, url, after string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %s %s", url, response.Status, text)
	}
	t.Cleanup(func() { response.Body.Close() })
	return &listener{t: t, lines: bufio.NewScanner(response.Body), close: func() { response.Body.Close() }, last: after}
}

// next is the next event with data; ok is false when the connection has ended.
func (l *listener) next() (f frame, ok bool) {
	l.t.Helper()
	for l.lines.Scan() {
		name, value, _ := strings.Cut(l.lines.Text(), ": ")
		switch name {
		case "id":
			f.id, l.last = value, value
		case "event":
			f.event = value
		case "data":
			f.data = value
			if err := json.Unmarshal([]byte(value), &f.body); err != nil {
				l.t.Fatal(err)
			}
		case "":
			if f.data != "" {
				return f, true
			}
			f = frame{}
		}
	}
	return f, false
}

// until reads up to the event of a job, with the operation.
func (l *listener) until(job, operation string) (all []frame) {
	l.t.Helper()
	for {
		f, ok := l.next()
		if !ok {
			l.t.Fatalf("the connection ended after %d events, before %s %s", len(all), job, operation)
		}
		all = append(all, f)
		if f.body.EventType == "JOB" && f.body.JobID == job && f.body.Operation == operation {
			return all
		}
	}
}

const (
	arns = "arn:aws:iot:us-east-1:123456789012:"
	safe = http.StatusOK
)

func (r *running) things(t *testing.T, n int, group string) {
	t.Helper()
	if group != "" {
		want(t, "POST", r.url+"/thing-groups/"+group, "{}", safe)
	}
	for i := range n {
		name := fmt.Sprintf("%s-%d", group, i)
		want(t, "POST", r.url+"/things/"+name, "{}", safe)
		if group != "" {
			want(t, "PUT", r.url+"/thing-groups/addThingToThingGroup", fmt.Sprintf(`{"thingGroupName":%q,"thingName":%q}`, group, name), safe)
		}
	}
}

func (r *running) job(t *testing.T, id, target string) {
	t.Helper()
	want(t, "PUT", r.url+"/jobs/"+id, fmt.Sprintf(`{"targets":[%q],"document":"{}"}`, arns+target), safe)
	if _, err := r.engine.Tick(t.Context()); err != nil { // so that its executions are there
		t.Fatal(err)
	}
}

func summary(frames []frame) (all []string) {
	for _, f := range frames {
		all = append(all, f.body.EventType+" "+f.body.JobID+f.body.ThingName+" "+f.body.Operation)
	}
	return all
}

// A reader that is cut again and again, also between events of one commit, gets what one gets that is not.
func TestEventsGoOnAfterACut(t *testing.T) {
	r := start(t, Config{})
	r.things(t, 40, "pumps")
	whole := listen(t, r.url+"/_muster/events", "")
	cut := listen(t, r.url+"/_muster/events", "")
	r.job(t, "fw", "thinggroup/pumps")
	for i := range 40 {
		thing := fmt.Sprintf("pumps-%d", i)
		want(t, "PUT", r.url+"/things/"+thing+"/jobs/$next", "{}", safe)
		want(t, "POST", r.url+"/things/"+thing+"/jobs/fw", `{"status":"SUCCEEDED"}`, safe)
	}
	all := whole.until("fw", "completed")

	var pieces []frame
	for done := false; !done; {
		for range 1 + len(pieces)%7 {
			f, ok := cut.next()
			if !ok {
				t.Fatal("the connection ended")
			}
			pieces = append(pieces, f)
			if done = f.body.Operation == "completed"; done {
				break
			}
		}
		cut.close()
		cut = listen(t, r.url+"/_muster/events", cut.last)
	}
	if got, want := summary(pieces), summary(all); !slices.Equal(got, want) {
		t.Errorf("cut:\n%s\nwhole:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	seen := map[string]bool{}
	for _, f := range pieces {
		if seen[f.body.EventID] {
			t.Error("twice:", f.data)
		}
		seen[f.body.EventID] = true
	}
	count := map[string]int{}
	for _, s := range summary(all) {
		count[s]++
	}
	for what, n := range map[string]int{"JOB fw created": 1, "JOB fw completed": 1, "JOB_EXECUTION fw queued": 40, "JOB_EXECUTION fw in_progress": 40, "JOB_EXECUTION fw succeeded": 40} {
		if count[what] != n {
			t.Errorf("%s came %d times, not %d: %v", what, count[what], n, count)
		}
	}
	// Behind the last there is nothing.
	r.job(t, "last", "thinggroup/pumps")
	if f, _ := cut.next(); f.body.JobID != "last" {
		t.Errorf("after the last event comes %s", f.data)
	}
}

func TestEventFilters(t *testing.T) {
	r := start(t, Config{})
	r.things(t, 2, "pumps")
	r.things(t, 1, "lamps")
	readers := map[string]*listener{}
	for _, query := range []string{"job=fw", "thing=pumps-1", "group=pumps", "group=lamps&type=JOB_EXECUTION", "job=fw&thing=lamps-0", "type=THING_EVENT"} {
		readers[query] = listen(t, r.url+"/_muster/events?"+query, "")
	}
	r.job(t, "fw", "thinggroup/pumps")
	want(t, "PUT", r.url+"/things/pumps-0/jobs/$next", "{}", safe)
	want(t, "PUT", r.url+"/things/pumps-1/jobs/$next", "{}", safe)
	r.job(t, "both", "thinggroup/lamps")
	want(t, "PUT", r.url+"/things/lamps-0/jobs/$next", "{}", safe)
	want(t, "POST", r.url+"/things/new", "{}", safe)
	want(t, "PUT", r.url+"/jobs/fw/cancel?force=true", "{}", safe)
	want(t, "DELETE", r.url+"/things/new", "", safe)
	for query, end := range map[string]struct {
		n    int // how many to read
		want string
	}{
		"job=fw":                         {6, "JOB fw created|JOB_EXECUTION fw queued|JOB_EXECUTION fw queued|JOB_EXECUTION fw in_progress|JOB_EXECUTION fw in_progress|JOB fw cancellation_in_progress"},
		"thing=pumps-1":                  {2, "JOB_EXECUTION fw queued|JOB_EXECUTION fw in_progress"},
		"group=pumps":                    {5, "JOB fw created|JOB_EXECUTION fw queued|JOB_EXECUTION fw queued|JOB_EXECUTION fw in_progress|JOB_EXECUTION fw in_progress"},
		"group=lamps&type=JOB_EXECUTION": {2, "JOB_EXECUTION both queued|JOB_EXECUTION both in_progress"},
		"type=THING_EVENT":               {2, "THING_EVENT new CREATED|THING_EVENT new DELETED"},
	} {
		var got []frame
		for range end.n {
			f, _ := readers[query].next()
			got = append(got, f)
		}
		if have := strings.Join(summary(got), "|"); have != end.want {
			t.Errorf("%s: %s\nwant %s", query, have, end.want)
		}
	}
	for query, sentence := range map[string]string{"jobs=fw": `no filter \"jobs\"`, "type=JOBS": `type \"JOBS\" is not one of`, "after=nowhere": "is not the id of an event", "thing=": "is empty"} {
		want(t, "GET", r.url+"/_muster/events?"+query, "", http.StatusBadRequest, sentence)
	}
}

// A reader that comes back after the feed has forgotten is told so, and goes on with what there is.
func TestEventsForgotten(t *testing.T) {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true, FeedEntries: 10})
	if err != nil {
		t.Fatal(err)
	}
	r := startOver(t, Config{}, s)
	l := listen(t, r.url+"/_muster/events", "")
	want(t, "POST", r.url+"/things/first", "{}", safe)
	if f, _ := l.next(); f.body.ThingName != "first" {
		t.Fatal(f.data)
	}
	l.close()
	// The feed is trimmed as a chore, in pieces; go on until a reader from the old place finds a gap.
	for i := range 5000 {
		if err := r.engine.UpdateThing(t.Context(), "first", change(i)); err != nil {
			t.Fatal(err)
		}
		if i%500 != 499 {
			continue
		}
		entries, err := r.engine.Feed(t.Context(), muster.Place(strings.Split(l.last, "~")[0]), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > 0 && entries[0].Missed {
			break
		}
	}
	l = listen(t, r.url+"/_muster/events", l.last)
	f, _ := l.next()
	if f.event != "gap" || !strings.Contains(f.data, "events are missing here") {
		t.Errorf("event %q %s", f.event, f.data)
	}
	if f, _ := l.next(); f.event != "" || f.body.EventType != "THING_EVENT" {
		t.Errorf("event %q %s", f.event, f.data)
	}
}

// A reader that does not read is cut, and holds up nobody.
func TestReaderThatDoesNotRead(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.streams.patience = 20 * time.Millisecond
	r := serve(t, s, nil)
	conn, err := net.Dial("tcp", s.Addrs()["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET /_muster/events HTTP/1.1\r\nHost: muster\r\n\r\n")
	reading := listen(t, r.url+"/_muster/events?type=JOB", "")
	want(t, "POST", r.url+"/things/lamp", "{}", safe)
	for i := 0; ; i++ {
		if err := r.engine.UpdateThing(t.Context(), "lamp", change(i)); err != nil {
			t.Fatal(err)
		}
		if _, cut := s.streams.stats(); cut > 0 {
			break
		}
		if i > 500_000 {
			t.Fatal("nobody was cut")
		}
	}
	r.job(t, "fw", "thing/lamp")
	reading.until("fw", "created")
}

// Readers do not keep the server from stopping; others are told to come later when there are too many.
func TestReadersLeave(t *testing.T) {
	r := start(t, Config{})
	l := listen(t, r.url+"/_muster/events", "")
	r.streams.open.Add(maxStreams - 1)
	want(t, "GET", r.url+"/_muster/events", "", http.StatusServiceUnavailable, "no more may")
	r.streams.open.Add(1 - maxStreams)
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.next(); ok || time.Since(began) > 5*time.Second {
		t.Error("the reader was kept")
	}
}

// A quiet reader hears a heartbeat, and is moved on although nothing it wants has happened.
func TestHeartbeat(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.streams.beat = 10 * time.Millisecond
	r := serve(t, s, nil)
	l := listen(t, r.url+"/_muster/events?job=none", "")
	for l.lines.Scan() && l.lines.Text() != ": still here" {
	}
	want(t, "POST", r.url+"/things/lamp", "{}", safe)
	for l.lines.Scan() {
		if id, ok := strings.CutPrefix(l.lines.Text(), "id: "); ok {
			if end, err := r.api.StreamEnd(t.Context()); err != nil || id != end {
				t.Errorf("moved on to %s, not %s: %v", id, end, err)
			}
			return
		}
	}
	t.Error("never moved on")
}

// change makes the attributes of a thing others than before.
func change(i int) engine.ThingPatch {
	attributes := muster.MakePairs("n", fmt.Sprint(i))
	return engine.ThingPatch{Attributes: &attributes}
}
