package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestReady(t *testing.T) {
	answer := ""
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			fmt.Fprint(w, answer)
		}
	}))
	defer there.Close()
	for _, c := range []struct {
		says        string
		code        int
		out, errors string
	}{
		{`{"ready":true}`, 0, "ready\n", ""},
		{`{"ready":false,"reason":"The disk is full"}`, exitProblems, "", "The disk is full\n"},
		{`<html>`, exitFailed, "", "muster: " + there.URL + " is no muster server: it answered 200 OK\n"},
	} {
		answer = c.says
		if code, out, errors := said("", "ready", "--endpoint", there.URL); code != c.code || out != c.out || errors != c.errors {
			t.Errorf("%s: %d %q %q", c.says, code, out, errors)
		}
	}
}
