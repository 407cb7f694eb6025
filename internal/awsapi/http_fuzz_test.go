package awsapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever comes is answered: with JSON or nothing, and never as a fault of the server.
func FuzzHTTP(f *testing.F) {
	files, _ := filepath.Glob("testdata/control/*.txt")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			words := strings.SplitN(strings.TrimPrefix(strings.TrimSpace(line), "device "), " ", 3)
			if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "#") || len(words) < 2 || !strings.HasPrefix(words[1], "/") {
				continue
			}
			body := ""
			if len(words) == 3 {
				body = words[2]
			}
			f.Add(words[0], words[1], body, false)
		}
	}
	for _, target := range []string{"/things/a%3Ab/jobs/%24next?executionNumber=1", "/things/lamp/jobs?nextToken=AAAA", "/topics/%24aws%2Fthings", "/things?maxResults=1&nextToken=emlB"} {
		f.Add("GET", target, "", true)
	}
	f.Add("POST", "/things/lamp/jobs/fw", `{"status":"IN_PROGRESS","expectedVersion":"1","statusDetails":{"a":1}}`, true)

	o := newOperator(f, Config{})
	o.must("POST", "/things/lamp", "", nil)
	o.must("PUT", "/jobs/fw", `{"targets":["`+accountARN+`thing/lamp"],"document":"{}"}`, nil)
	o.tick()
	f.Fuzz(func(t *testing.T, method, target, body string, data bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http refuses it
		}
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = method, u, target
		w := httptest.NewRecorder()
		map[bool]http.Handler{false: o.control, true: o.device}[data].ServeHTTP(w, r)
		answer := w.Body.Bytes()
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Errorf("%s %q: %d %s", method, target, w.Code, answer)
		}
		if len(answer) > 0 && !json.Valid(answer) {
			t.Errorf("%s %q: %d is answered with %q", method, target, w.Code, answer)
		}
		if typ := w.Header().Get("X-Amzn-Errortype"); (w.Code == 200) != (typ == "") {
			t.Errorf("%s %q: %d with the error %q", method, target, w.Code, typ)
		}
	})
}
