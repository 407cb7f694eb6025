package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const newYear = "manual:2026-01-01T00:00:00Z"

// stands requires that an answer says where the clock stands, and what is due; "" for nothing.
func stands(t *testing.T, answer, now, due string) {
	t.Helper()
	var is map[string]any
	if err := json.Unmarshal([]byte(answer), &is); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	next, _ := is["nextDue"].(string)
	if is["now"] != now || is["manual"] != true || next != due {
		t.Errorf("the clock says %s; want now %s due %q", answer, now, due)
	}
	if _, there := is["nextDue"]; there && due == "" {
		t.Errorf("nothing is due, yet nextDue is there: %s", answer)
	}
}

func TestManualClockMoves(t *testing.T) {
	s := start(t, Config{Clock: newYear})
	clock := s.url + "/_muster/clock"
	move := func(body string) string { return want(t, "POST", clock, body, 200) }
	stands(t, want(t, "GET", clock, "", 200), "2026-01-01T00:00:00Z", "")
	stands(t, move(`{"advance":"72h"}`), "2026-01-04T00:00:00Z", "")
	stands(t, move(`{"advance":"1ms"}`), "2026-01-04T00:00:00.001Z", "")
	stands(t, move(`{"advance":"0s"}`), "2026-01-04T00:00:00.001Z", "")
	stands(t, move(`{"set":"2026-02-01T12:00:00+02:00"}`), "2026-02-01T10:00:00Z", "")
	stands(t, move(`{"set":"2026-02-01T10:00:00Z"}`), "2026-02-01T10:00:00Z", "")
	stands(t, move(`{"next":true}`), "2026-02-01T10:00:00Z", "") // nothing is due: it stays

	// A job that starts in an hour is what is due next, and its execution is there when the move answers.
	want(t, "POST", s.url+"/things/lamp", "{}", 200)
	want(t, "PUT", s.url+"/jobs/fw", `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}","schedulingConfig":{"startTime":"2026-02-01 11:00"}}`, 200)
	move(`{"advance":"1s"}`)
	stands(t, want(t, "GET", clock, "", 200), "2026-02-01T10:00:01Z", "2026-02-01T11:00:00Z")
	move(`{"next":true}`)
	want(t, "GET", s.url+"/things/lamp/jobs", "", 200, `"queuedJobs":[{`, `"queuedAt":1769943600`)
	// A year on the way stops wherever something is due, and what happened is stamped with its time.
	move(`{"advance":"8760h"}`)
	want(t, "GET", s.url+"/things/lamp/jobs", "", 200, `"queuedAt":1769943600`)
}

func TestClockRefusals(t *testing.T) {
	s := start(t, Config{Clock: newYear})
	clock := s.url + "/_muster/clock"
	for name, c := range map[string]struct{ body, says string }{
		"nothing":             {``, `The body must be {\"advance\"`},
		"no JSON":             {`soon`, `The body must be`},
		"no object":           {`"72h"`, `The body must be`},
		"an empty object":     {`{}`, `The body must be`},
		"an unknown member":   {`{"forward":"72h"}`, `The body must be`},
		"advance and set":     {`{"advance":"1h","set":"2026-02-01T00:00:00Z"}`, `The body must be`},
		"advance and next":    {`{"advance":"1h","next":true}`, `The body must be`},
		"set and next":        {`{"set":"2026-02-01T00:00:00Z","next":true}`, `The body must be`},
		"next false":          {`{"next":false}`, `The body must be`},
		"a number":            {`{"advance":72}`, `The body must be`},
		"no duration":         {`{"advance":"three days"}`, `it must be a duration such as 90s or 72h`},
		"a duration of days":  {`{"advance":"3d"}`, `it must be a duration such as 90s or 72h`},
		"a negative duration": {`{"advance":"-1s"}`, `it must be a duration such as 90s or 72h`},
		"no time":             {`{"set":"tomorrow"}`, `it must be a time such as 2026-01-02T15:04:05Z`},
		"a time without zone": {`{"set":"2026-02-01T00:00:00"}`, `it must be a time such as 2026-01-02T15:04:05Z`},
		"a day":               {`{"set":"2026-02-01"}`, `it must be a time such as`},
		"the past":            {`{"set":"2025-12-31T23:59:59Z"}`, `The clock stands at 2026-01-01T00:00:00Z and cannot go back to 2025-12-31T23:59:59Z`},
	} {
		t.Run(name, func(t *testing.T) { want(t, "POST", clock, c.body, 400, c.says) })
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH"} {
		if status, answer := ask(t, method, clock, `{"advance":"1h"}`); status != 404 && status != 405 {
			t.Errorf("%s: %d %s", method, status, answer)
		}
	}
	if status, _ := ask(t, "POST", clock, `{"advance":"1h"}`, "Origin", "https://example.com", "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("a foreign page moved the clock: %d", status)
	}
	stands(t, want(t, "GET", clock, "", 200), "2026-01-01T00:00:00Z", "") // none of them moved it
}

func TestRealClockIsNotMoved(t *testing.T) {
	for _, kind := range []string{"", "real"} {
		s := start(t, Config{Clock: kind})
		clock := s.url + "/_muster/clock"
		answer := want(t, "GET", clock, "", 200, `"manual":false`)
		var is struct{ Now time.Time }
		if err := json.Unmarshal([]byte(answer), &is); err != nil || time.Since(is.Now).Abs() > time.Minute {
			t.Errorf("the real clock says %s, %v", answer, err)
		}
		for _, body := range []string{`{"advance":"1h"}`, `{"set":"2100-01-01T00:00:00Z"}`, `{"next":true}`} {
			want(t, "POST", clock, body, 400, "The clock is the real one; start the server with --clock=manual to move it")
		}
	}
}

func TestClocksThatAreNone(t *testing.T) {
	for kind, says := range map[string]string{
		"sundial":           `real, manual or manual:TIME, not "sundial"`,
		"manual:":           "cannot start at",
		"manual:noon":       "give a time such as 2026-01-02T15:04:05Z",
		"manual:2026-01-01": "give a time such as",
	} {
		if s, err := New(Config{Clock: kind}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", kind, err)
			if s != nil {
				s.Close()
			}
		}
	}
}

// The listener of the data plane is for devices: none of them moves the clock.
func TestClockIsNotForDevices(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", Data: "127.0.0.1:0", Clock: newYear})
	data := "http://" + s.Addrs()["data"] + "/_muster/clock"
	want(t, "GET", data, "", 404)
	want(t, "POST", data, `{"advance":"1h"}`, 404)
}

// A manual clock is kept in the store: a restart neither sets it back nor makes it go, and what was due
// meanwhile is not forgotten.
func TestManualClockOverRestarts(t *testing.T) {
	c := Config{Store: "pebble:" + filepath.Join(t.TempDir(), "store"), Clock: newYear}
	s := start(t, c)
	want(t, "POST", s.url+"/things/lamp", "{}", 200)
	want(t, "PUT", s.url+"/jobs/fw", `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}","timeoutConfig":{"inProgressTimeoutInMinutes":60}}`, 200)
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"72h"}`, 200)
	want(t, "PUT", s.url+"/things/lamp/jobs/$next", "{}", 200, `"IN_PROGRESS"`)
	again := func(kind, now string) {
		t.Helper()
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		c.Clock = kind
		s = start(t, c)
		stands(t, want(t, "GET", s.url+"/_muster/clock", "", 200), now, "2026-01-04T01:00:00Z")
	}
	again(newYear, "2026-01-04T00:00:00Z")
	again("manual:2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z")      // the store has it later
	again("manual:2026-01-04T00:30:00Z", "2026-01-04T00:30:00Z")      // the configuration does
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"30m"}`, 200) // the timer survived
	want(t, "GET", s.url+"/things/lamp/jobs/fw", "", 410)
}

// What the clock says needs a signature where everything does.
func TestClockNeedsAKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Clock: newYear, Credentials: file})
	for _, method := range []string{"GET", "POST"} {
		if status, answer := ask(t, method, s.url+"/_muster/clock", `{"advance":"1h"}`); status != 403 && status != 401 {
			t.Errorf("%s: %d %s", method, status, answer)
		}
	}
}

// Time that passes while the store is unwell has not passed: what could not be kept is not answered, nor seen.
func TestClockStandsWhileTheStoreIsUnwell(t *testing.T) {
	kept := memory(t)
	s := startOver(t, Config{Clock: newYear, Log: slog.New(slog.DiscardHandler)}, kept)
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "POST", s.url+"/_muster/clock", `{"advance":"1h"}`, 503)
	if now := stamp(s.engine.Now()); now != "2026-01-01T00:00:00Z" {
		t.Errorf("the clock moved to %s", now)
	}
	if _, err := s.engine.NextDue(context.Background()); err == nil {
		t.Error("a closed store knows what is due")
	}
}
