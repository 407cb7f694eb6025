package awsapi

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/awsapi/wire"
)

const (
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" // of AWS's documentation
	token  = "the/token+=="
	keys   = `{"keys":[
		{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"` + secret + `"},
		{"accessKeyId":"AKIDTOKEN","secretAccessKey":"` + secret + `","sessionToken":"` + token + `"}]}`
)

func loadKeys(t testing.TB, text string) *Credentials {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCredentials(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verifier(t testing.TB, now time.Time) *SigV4 {
	return NewSigV4(SigV4Options{Keys: loadKeys(t, keys), Region: "us-east-1", Now: func() time.Time { return now }})
}

func TestLoadCredentials(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"not JSON":       {`{`, "unexpected EOF"},
		"no object":      {`[]`, "cannot unmarshal array"},
		"no keys":        {`{}`, "keys is missing"},
		"something more": {`{"keys":[]} {}`, "there is something behind the JSON object"},
		"unknown member": {`{"keys":[{"accessKeyId":"A","secret":"x"}]}`, `unknown field "secret"`},
		"no id":          {`{"keys":[{"secretAccessKey":"x"}]}`, `keys[0].accessKeyId is ""; it must be letters`},
		"id with slash":  {`{"keys":[{"accessKeyId":"A/B","secretAccessKey":"x"}]}`, `keys[0].accessKeyId is "A/B"`},
		"twice":          {`{"keys":[{"accessKeyId":"A","secretAccessKey":"x"},{"accessKeyId":"A","secretAccessKey":"y"}]}`, "keys[1].accessKeyId A is there twice"},
		"no secret":      {`{"keys":[{"accessKeyId":"A","secretAccessKey":" "}]}`, "keys[0].secretAccessKey of A is empty"},
		"unknown plane":  {`{"keys":[{"accessKeyId":"A","secretAccessKey":"x","planes":["all"]}]}`, `keys[0].planes has "all"; a plane is control or data`},
		"no plane":       {`{"keys":[{"accessKeyId":"A","secretAccessKey":"x","planes":[]}]}`, "keys[0].planes is empty"},
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadCredentials(path, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if _, err := LoadCredentials(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("no file, and no error")
	}
}

func TestIdentityAllows(t *testing.T) {
	c := loadKeys(t, `{"keys":[{"accessKeyId":"ALL","secretAccessKey":"x"},
		{"accessKeyId":"DEVICE","secretAccessKey":"x","planes":["data"]},
		{"accessKeyId":"VIEWER","secretAccessKey":"x","planes":["control"],"readOnly":true}]}`)
	var got []string
	for _, id := range []string{"ALL", "DEVICE", "VIEWER"} {
		key, _ := c.Lookup(id)
		who := Identity{AccessKeyID: id, Planes: key.Planes, ReadOnly: key.ReadOnly}
		for _, plane := range []wire.Plane{wire.Control, wire.Data, 0} {
			for _, readOnly := range []bool{true, false} {
				err := who.Allows(plane, readOnly)
				got = append(got, fmt.Sprint(id, " ", plane, " ", readOnly, " ", err))
			}
		}
	}
	const planeless = " AccessDeniedException: The access key %s is not authorized for the %s plane"
	want := []string{
		"ALL control true <nil>", "ALL control false <nil>", "ALL data true <nil>", "ALL data false <nil>",
		"ALL unknown true" + fmt.Sprintf(planeless, "ALL", "unknown"), "ALL unknown false" + fmt.Sprintf(planeless, "ALL", "unknown"),
		"DEVICE control true" + fmt.Sprintf(planeless, "DEVICE", "control"), "DEVICE control false" + fmt.Sprintf(planeless, "DEVICE", "control"),
		"DEVICE data true <nil>", "DEVICE data false <nil>",
		"DEVICE unknown true" + fmt.Sprintf(planeless, "DEVICE", "unknown"), "DEVICE unknown false" + fmt.Sprintf(planeless, "DEVICE", "unknown"),
		"VIEWER control true <nil>",
		"VIEWER control false AccessDeniedException: The access key VIEWER is not authorized to change anything: it is read-only",
		"VIEWER data true" + fmt.Sprintf(planeless, "VIEWER", "data"), "VIEWER data false" + fmt.Sprintf(planeless, "VIEWER", "data"),
		"VIEWER unknown true" + fmt.Sprintf(planeless, "VIEWER", "unknown"), "VIEWER unknown false" + fmt.Sprintf(planeless, "VIEWER", "unknown"),
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

// A key that changes its secret, or goes, is refused from the next Reload on, while others use it.
func TestReload(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(keys)
	c, err := LoadCredentials(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := verifier(t, noon)
	s.o.Keys = c
	r, body := signing{}.request(t)
	allowed := func() bool {
		_, err := s.Verify(r, body)
		return err == nil
	}
	reload := func(wantChanged, wantError bool) {
		t.Helper()
		changed, err := c.Reload()
		if changed != wantChanged || (err != nil) != wantError {
			t.Errorf("changed %v, %v", changed, err)
		}
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 50 {
				allowed()
			}
		})
	}
	reload(false, false)
	write(keys[:40])
	reload(false, true)
	reload(false, true)
	if n := strings.Count(log.String(), "not reloaded"); n != 1 || !allowed() {
		t.Errorf("a broken file was logged %d times: %s", n, log.String())
	}
	write(strings.ReplaceAll(keys, secret, strings.ToLower(secret)))
	reload(true, false)
	if allowed() {
		t.Error("the old secret is still good")
	}
	write(keys)
	reload(true, false)
	if !allowed() {
		t.Error("the secret that came back is not good")
	}
	write(`{"keys":[]}`)
	reload(true, false)
	if allowed() {
		t.Error("the key that went is still good")
	}
	wait.Wait()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	reload(false, true)
}

func TestCredentialsWarn(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(keys), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCredentials(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "can be read by other users") {
		t.Errorf("log: %s", log.String())
	}
	log.Reset()
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCredentials(path, slog.New(slog.NewTextHandler(&log, nil))); err != nil || log.Len() > 0 {
		t.Errorf("a file that is given to a group: %v %s", err, log.String())
	}
	key, _ := c.Lookup("AKIDTOKEN")
	if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Contains(text, secret) || strings.Contains(text, token) {
		t.Errorf("printed: %s", text)
	}
}

func TestScopeUnreadable(t *testing.T) {
	for _, auth := range []string{"", "Bearer x", "AWS4-HMAC-SHA256 Credential=A/1/us-east-1/iot/aws4_request", "AWS4-HMAC-SHA256 Credential=A/1/x:y/iot/aws4_request, SignedHeaders=h, Signature=1"} {
		r, _ := readRequest(t, "GET /jobs?X-Amz-Credential=a HTTP/1.1\r\nHost: h\r\nAuthorization: "+auth+"\r\n\r\n")
		if scope, signed := Scope(r); signed || scope != (CredentialScope{}) {
			t.Errorf("%q: %+v, %v", auth, scope, signed)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20261124/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
	f.Add("AWS4-HMAC-SHA256 Credential=A/20261124/us-east-1/iot/aws4_request,SignedHeaders=host;;host,Signature==,")
	f.Add("AWS4-HMAC-SHA256 ,,=,")
	f.Add("Basic eDp5")
	s := verifier(f, noon)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAuthorization(text)
		if err == nil && (a.scope.AccessKeyID == "" || a.scope.Region == "" || a.scope.Service == "" || a.signature == "" || len(a.signed) == 0) {
			t.Errorf("%q: %+v", text, a)
		}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Header: http.Header{"Authorization": {text}, "X-Amz-Date": {"20261124T120000Z"}}, Host: "h"}
		var refused *AuthError
		if _, err := s.Verify(r, nil); !errors.As(err, &refused) {
			t.Errorf("%q: %v", text, err)
		}
		r.Header.Del("Authorization")
		r.URL.RawQuery = text
		if _, err := s.Verify(r, nil); !errors.As(err, &refused) {
			t.Errorf("query %q: %v", text, err)
		}
		Scope(r)
	})
}

func BenchmarkVerify(b *testing.B) {
	s := verifier(b, noon)
	r, body := signing{method: "POST", target: "/things/a%3Ab/jobs/fw", service: "iot-jobs-data", body: `{"status":"SUCCEEDED"}`}.request(b)
	for b.Loop() {
		if _, err := s.Verify(r, body); err != nil {
			b.Fatal(err)
		}
	}
}
