package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
	"muster/internal/store/pebblestore"
)

// controlClock moves only when told.
type controlClock struct{ now muster.Time }

func (c *controlClock) Now() muster.Time { return c.now }

// An operator talks to a control plane over an engine of its own, and plays its devices.
type operator struct {
	t               testing.TB
	clock           *controlClock
	engine          *engine.Engine
	control, device http.Handler
}

func newOperator(t testing.TB, c Config) *operator {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	clock := &controlClock{muster.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	e := engine.New(s, engine.Options{Clock: clock, Documents: library{}})
	api := New(e, c)
	return &operator{t: t, clock: clock, engine: e, control: api.Handler(wire.Control), device: api.Handler(wire.Data)}
}

// library has every document whose source names it.
type library struct{}

func (library) Fetch(_ context.Context, source string) (string, error) {
	if name, ok := strings.CutPrefix(source, "https://s3.us-east-1.amazonaws.com/docs/"); ok {
		return `{"from":"` + name + `"}`, nil
	}
	return "", muster.Errorf(muster.Invalid, "documentSource is %s, which could not be read", source)
}

// ask sends a request and returns the status, the error type if any, and the body.
func (o *operator) ask(h http.Handler, method, target, body string) (status int, typ, answer string) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "iot.test:8080"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body.String()
}

// must asks for something that has to succeed, and reads the answer into out if that is not nil.
func (o *operator) must(method, target, body string, out any) {
	o.t.Helper()
	status, typ, answer := o.ask(o.control, method, target, body)
	if status != 200 {
		o.t.Fatalf("%s %s: %d %s %s", method, target, status, typ, answer)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(answer), out); err != nil {
			o.t.Fatalf("%s %s: %v in %s", method, target, err, answer)
		}
	}
}

func (o *operator) tick() {
	o.t.Helper()
	if _, err := o.engine.Tick(context.Background()); err != nil {
		o.t.Fatal(err)
	}
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// act does one line of a conversation: METHOD TARGET [BODY] to the control plane, the same after
// "device" to the data plane, "tick" for the background work, "advance DURATION" for the clock.
func (o *operator) act(line string) (told string) {
	verb, rest, _ := strings.Cut(line, " ")
	h := o.control
	switch verb {
	case "tick":
		o.tick()
		return ""
	case "advance":
		d, err := time.ParseDuration(rest)
		if err != nil {
			o.t.Fatal(err)
		}
		o.clock.now = o.clock.now.Add(d)
		o.tick()
		return ""
	case "device":
		h = o.device
		verb, rest, _ = strings.Cut(rest, " ")
	}
	target, body, _ := strings.Cut(rest, " ")
	status, typ, answer := o.ask(h, verb, target, body)
	told = fmt.Sprintf("  %d", status)
	for _, part := range []string{typ, uuids.ReplaceAllString(answer, "UUID")} {
		if part != "" {
			told += " " + part
		}
	}
	return told + "\n"
}

// The conversations in testdata/control: each line that is not indented is a comment or an act, the
// indented line below it is the answer.
func TestControlConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/control/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no conversations", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := newOperator(t, Config{})
			var got bytes.Buffer
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimRight(line, "\n"); strings.HasPrefix(line, "  ") {
					continue
				}
				fmt.Fprintln(&got, line)
				if line != "" && line[0] != '#' {
					got.WriteString(o.act(line))
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(text), "\n")
			for i, line := range strings.Split(got.String(), "\n") {
				if i >= len(want) || line != want[i] {
					old := "(end)"
					if i < len(want) {
						old = want[i]
					}
					t.Fatalf("%s line %d is\n%s\nwant\n%s\n(go test . -update rewrites it: review the difference)", file, i+1, line, old)
				}
			}
		})
	}
}
