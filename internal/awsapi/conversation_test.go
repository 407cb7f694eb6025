package awsapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/internal/engine"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
)

var rewrite = flag.Bool("update", false, "rewrite the conversations in testdata")

// handClock moves only when a conversation says so.
type handClock struct{ now muster.Time }

func (c *handClock) Now() muster.Time { return c.now }

// A breaker is a store that can be told to fail.
type breaker struct {
	store.Store
	fault error
}

func (b *breaker) Update(ctx context.Context, on store.Keys, fn func(store.Tx) error) error {
	if b.fault != nil {
		return b.fault
	}
	return b.Store.Update(ctx, on, fn)
}

// A conversation is a text: lines that begin with > are a request, lines that begin with < the answer that
// came, and lines that begin with ! change the world: "! tick", "! advance 5m", "! fault unavailable".
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) == 0 {
		t.Fatal("no conversations", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := converse(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("the conversation went another way:\n%s", got)
			}
		})
	}
}

func converse(t *testing.T, text string) string {
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	clock := &handClock{muster.At(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))}
	b := &breaker{Store: s}
	e := engine.New(b, engine.Options{Clock: clock})
	for _, name := range []muster.ThingName{"pump1", "a:b", "jobs"} {
		if _, err := e.CreateThing(t.Context(), muster.Thing{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	config := Config{}
	handler := New(e, config).Handler(0)
	var out strings.Builder
	var request []string
	flush := func() {
		if len(request) == 0 {
			return
		}
		fmt.Fprint(&out, speak(t, handler, request, clock.now.Time()))
		request = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "<"):
			continue
		case strings.HasPrefix(line, ">"):
			request = append(request, strings.TrimPrefix(strings.TrimPrefix(line, ">"), " "))
		default:
			flush()
		}
		fmt.Fprintln(&out, line)
		if act, ok := strings.CutPrefix(line, "! "); ok {
			switch words := strings.Fields(act); words[0] {
			case "tick":
				if _, err := e.Tick(t.Context()); err != nil {
					t.Fatal(err)
				}
			case "advance":
				d, _ := time.ParseDuration(words[1])
				clock.now = clock.now.Add(d)
			case "fault":
				b.fault = map[string]error{"none": nil, "unavailable": muster.Errorf(muster.Unavailable, "The store cannot promise durability: no space left on device"),
					"unknown": errors.New("a secret of the machine")}[words[1]]
			case "rest":
				config.REST = RESTMode(words[1])
				handler = New(e, config).Handler(0)
			case "sigv4":
				config.Auth, config.Throttle = NewSigV4(SigV4Options{Keys: loadKeys(t, conversationKeys), Region: "us-east-1", Now: func() time.Time { return clock.now.Time() }}), Throttle{}
				handler = New(e, config).Handler(0)
			case "throttle":
				config.Throttle = Throttle{DataReads: 1, DataWrites: 1, Control: 1}
				handler = New(e, config).Handler(0)
			default:
				t.Fatalf("no such act: %s", act)
			}
		}
	}
	flush()
	return out.String()
}

// conversationKeys are the keys of "! sigv4".
const conversationKeys = `{"keys":[{"accessKeyId":"AKIDBOTH","secretAccessKey":"s"},{"accessKeyId":"AKIDDATA","secretAccessKey":"s","planes":["data"]},
{"accessKeyId":"AKIDREADER","secretAccessKey":"s","readOnly":true}]}`

// speak sends one request as a client wrote it, and returns the answer as lines. A header "Sign: KEY SERVICE [SECRET]"
// stands for the signature of that moment.
func speak(t *testing.T, h http.Handler, lines []string, now time.Time) string {
	head, body := lines, ""
	for i, line := range lines {
		if line == "" {
			head, body = lines[:i], strings.Join(lines[i+1:], "\n")
			break
		}
	}
	raw := head[0] + " HTTP/1.1\r\n"
	host := "localhost:8080"
	for _, line := range head[1:] {
		switch name, value, _ := strings.Cut(line, ": "); {
		case strings.EqualFold(name, "Host"):
			host = value
			continue
		case name == "Sign":
			method, target, _ := strings.Cut(head[0], " ")
			words := append(strings.Fields(value), "s")
			signed, _ := signing{method: method, target: target, body: body, key: words[0], service: words[1], secret: words[2], at: now}.request(t)
			for _, name := range []string{"Authorization", "X-Amz-Date"} {
				raw += name + ": " + signed.Header.Get(name) + "\r\n"
			}
			host = signed.Host
			continue
		}
		raw += line + "\r\n"
	}
	raw += fmt.Sprintf("Host: %s\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var out bytes.Buffer
	fmt.Fprintf(&out, "< %d\n", w.Code)
	if w.Header().Get("x-amzn-RequestId") == "" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", w.Header())
	}
	if typ := w.Header().Get("x-amzn-ErrorType"); typ != "" {
		fmt.Fprintf(&out, "< x-amzn-ErrorType: %s\n", typ)
	}
	if w.Body.Len() > 0 {
		fmt.Fprintf(&out, "< %s\n", w.Body.String())
	}
	return out.String()
}
