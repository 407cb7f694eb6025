package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
	"muster/internal/store/pebblestore"
)

// A site is a server without sockets: devices speak MQTT and HTTP to it, an operator HTTP, and what it
// publishes is a tape.
type site struct {
	t               testing.TB
	clock           *handClock
	breaker         *breaker
	engine          *engine.Engine
	config          Config
	api             *API
	control, device http.Handler
	follower        *follower
	identity        muster.ThingName
	deaf            bool // nobody listens
	asked           []string
	tape            []Publication
}

func newSite(t testing.TB) *site {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f := &site{t: t, clock: &handClock{muster.At(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))}, breaker: &breaker{Store: s}}
	f.engine = engine.New(f.breaker, engine.Options{Clock: f.clock})
	f.config.Publish = func(_ context.Context, p Publication) error {
		f.tape = append(f.tape, p)
		return nil
	}
	f.config.Delivery = stamps{}
	f.open()
	f.follower = &follower{API: f.api, publish: func(_ context.Context, all []Publication) error {
		f.tape = append(f.tape, all...)
		return nil
	}, listening: func(topic string) bool {
		f.asked = append(f.asked, topic)
		return !f.deaf
	}}
	return f
}

// open makes the face anew, as a changed configuration needs it. The follower keeps its own.
func (f *site) open() {
	f.api = New(f.engine, f.config)
	f.control, f.device = f.api.Handler(wire.Control), f.api.Handler(wire.Data)
	if f.follower != nil {
		f.follower.API = f.api
	}
}

// stamps fill every placeholder with who gets the document.
type stamps struct{}

func (stamps) Fill(_ context.Context, job *muster.Job, e muster.Execution, text string) string {
	return muster.Replace(text, func(muster.Placeholder) (string, bool) {
		return fmt.Sprintf("for %s by %s#%d", e.Thing, job.ID, e.Number), true
	})
}

// drain reads the feed to its end and returns what was published since the last time.
func (f *site) drain() (told string) {
	f.t.Helper()
	for more := true; more; {
		var err error
		if more, err = f.follower.step(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
	var b strings.Builder
	for _, p := range f.tape {
		fmt.Fprintf(&b, "~ %s", p.Topic)
		if p.QoS != 1 || p.Retain || p.Properties != nil {
			fmt.Fprintf(&b, " qos=%d retain=%t %+v", p.QoS, p.Retain, p.Properties)
		}
		fmt.Fprintf(&b, " %s\n", uuids.ReplaceAllString(string(p.Payload), "UUID"))
	}
	f.tape = nil
	return b.String()
}

// act does what a line beginning with ! says: METHOD TARGET [BODY] to the control plane, the same after
// "device" to the data plane, or a change of the world.
func (f *site) act(line string) (told string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "tick", "advance":
		if verb == "advance" {
			d, err := time.ParseDuration(rest)
			if err != nil {
				f.t.Fatal(err)
			}
			f.clock.now = f.clock.now.Add(d)
		}
		if _, err := f.engine.Tick(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	case "fault":
		f.breaker.fault = map[string]error{"none": nil, "unavailable": muster.Errorf(muster.Unavailable, "no space left on device"),
			"unknown": errors.New("a secret of the machine")}[rest]
	case "as":
		f.identity = muster.ThingName(strings.TrimPrefix(rest, "anybody"))
	case "deaf":
		f.deaf = rest == "yes"
	case "throttle":
		f.config.Throttle = Throttle{DataReads: 1, DataWrites: 1}
		f.open()
	case "things":
		for _, name := range strings.Fields(rest) {
			if _, err := f.engine.CreateThing(f.t.Context(), muster.Thing{Name: muster.ThingName(name)}); err != nil {
				f.t.Fatal(err)
			}
		}
	default:
		h := f.control
		if verb == "device" {
			h = f.device
			verb, rest, _ = strings.Cut(rest, " ")
		}
		target, body, _ := strings.Cut(rest, " ")
		r := httptest.NewRequest(verb, target, strings.NewReader(body))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			f.t.Fatalf("%s: %d %s", line, w.Code, w.Body)
		}
	}
	return f.drain()
}

// ask publishes what a line beginning with > says: TOPIC [PAYLOAD], the payload quoted as in Go after >>.
func (f *site) ask(line string) (told string) {
	text, quoted := strings.CutPrefix(line, ">")
	topic, payload, _ := strings.Cut(strings.TrimPrefix(text, " "), " ")
	if quoted {
		var err error
		if payload, err = strconv.Unquote(payload); err != nil {
			f.t.Fatal(err)
		}
	}
	answer, mine := f.api.MQTT(f.t.Context(), f.identity, topic, []byte(payload))
	if !mine {
		return "< not ours\n" + f.drain()
	}
	short, ok := strings.CutPrefix(answer.Topic, topic)
	if !ok || answer.QoS != 0 || answer.Retain {
		f.t.Errorf("%s is answered by %+v", topic, answer)
	}
	return fmt.Sprintf("< %s %s\n%s", short, answer.Payload, f.drain())
}

// The conversations in testdata/*.mqtt: a line that begins with > is published by a device, one that begins
// with ! is an act. Below stand the answer, after <, and what was published because of it, after ~.
func TestMQTTConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.mqtt")
	if err != nil || len(files) == 0 {
		t.Fatal("no conversations", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".mqtt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := newSite(t)
			var b strings.Builder
			for line := range strings.Lines(string(text)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "<") || strings.HasPrefix(line, "~") {
					continue
				}
				fmt.Fprintln(&b, line)
				if act, ok := strings.CutPrefix(line, "! "); ok {
					b.WriteString(f.act(act))
				} else if ask, ok := strings.CutPrefix(line, ">"); ok {
					b.WriteString(f.ask(ask))
				}
			}
			got := b.String()
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(text), "\n")
			for i, line := range strings.Split(got, "\n") {
				if i >= len(want) || line != want[i] {
					t.Fatalf("line %d is\n%s\nwant\n%s\n(go test . -update rewrites it: review the difference)", i+1, line, append(want, "(end)")[min(i, len(want))])
				}
			}
		})
	}
}
