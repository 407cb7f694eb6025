package awsapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
	"muster/internal/engine"
)

var _ engine.Documents = (*Sources)(nil)

const document = `{"operation":"update"}`

// refusedAs checks that an error is one of the domain that says what is wanted.
func refusedAs(t *testing.T, what string, err error, want string) {
	t.Helper()
	var known *muster.Error
	if !errors.As(err, &known) || known.Kind != muster.Invalid || !strings.Contains(known.Message, want) {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestFetchFile(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "store")
	for path, text := range map[string]string{
		"secret.json": document, "store/fw.json": document, "store/a b/c.json": document,
		"store/most.json":    strings.Repeat("x", muster.MaxDocumentBytes),
		"store/too-big.json": strings.Repeat("x", muster.MaxDocumentBytes+1),
	} {
		path = filepath.Join(top, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink("../secret.json", filepath.Join(dir, "out.json")),
		os.Symlink(filepath.Join(top, "secret.json"), filepath.Join(dir, "absolute.json")),
		os.Symlink("..", filepath.Join(dir, "up")),
		os.Symlink("fw.json", filepath.Join(dir, "in.json")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s := NewSources(SourcesOptions{Dir: dir})
	for _, source := range []string{"fw.json", "file:///fw.json", "file://localhost/fw.json", "a b/c.json", "file:///a%20b/c.json", "a b/../fw.json", "in.json", "./fw.json"} {
		if text, err := s.Fetch(t.Context(), source); err != nil || text != document {
			t.Errorf("%s: %q, %v", source, text, err)
		}
	}
	if text, err := s.Fetch(t.Context(), "most.json"); err != nil || len(text) != muster.MaxDocumentBytes {
		t.Errorf("most.json: %d bytes, %v", len(text), err)
	}
	for source, want := range map[string]string{
		"too-big.json":                   "documentSource too-big.json has more than the 32768 bytes",
		"../secret.json":                 "is not a path below the document store",
		"a b/../../secret.json":          "is not a path below the document store",
		"file:///../secret.json":         "is not a path below the document store",
		"file:///%2e%2e/secret.json":     "is not a path below the document store",
		"file:////etc/passwd":            "is not a path below the document store",
		"/etc/passwd":                    "is not a path below the document store",
		"":                               "is not a path below the document store",
		"up/secret.json":                 "is no file of the document store",
		"out.json":                       "is no file of the document store",
		"absolute.json":                  "is no file of the document store",
		"pipe":                           "is no file of the document store",
		"none.json":                      "is no file of the document store",
		".":                              "is no file of the document store",
		"file://host/fw.json":            "names the host host",
		"fw\x00.json":                    "is no file of the document store",
		"ftp://me:password@host/fw.json": "documentSource ftp://me:xxxxx@host/fw.json cannot be read; it must be an http, https, s3 or file URL",
		"http://%zz":                     "is not a URL",
		"s3://bucket/key":                "is in S3, and this server has no S3 credentials",
	} {
		text, err := s.Fetch(t.Context(), source)
		refusedAs(t, source, err, want)
		if text != "" {
			t.Errorf("%s: refused, and still returned %q", source, text)
		}
	}
	_, err := NewSources(SourcesOptions{}).Fetch(t.Context(), "fw.json")
	refusedAs(t, "no directory", err, "this server has no document store")
	_, err = NewSources(SourcesOptions{Dir: filepath.Join(top, "none")}).Fetch(t.Context(), "fw.json")
	refusedAs(t, "directory gone", err, "the document store cannot be opened")
}

func TestFetchHTTP(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	send := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	mux.HandleFunc("/fw.json", send(document))
	mux.HandleFunc("/big", send(strings.Repeat("x", muster.MaxDocumentBytes+1)))
	mux.Handle("/once", http.RedirectHandler("/fw.json", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.Handle("/metadata", http.RedirectHandler("http://169.254.169.254/latest", http.StatusFound))
	mux.Handle("/file", http.RedirectHandler("file:///etc/passwd", http.StatusFound))
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
	})
	s := NewSources(SourcesOptions{})
	for _, path := range []string{"/fw.json", "/once"} {
		if text, err := s.Fetch(t.Context(), server.URL+path); err != nil || text != document {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for path, want := range map[string]string{
		"/none":     "documentSource " + server.URL + "/none was answered with status 404 Not Found",
		"/big":      "has more than the 32768 bytes",
		"/loop":     "more than 5 redirects",
		"/metadata": "169.254.169.254:80 is a link-local address",
		"/file":     "could not be read",
		"/cut":      "could not be read: unexpected EOF",
	} {
		_, err := s.Fetch(t.Context(), server.URL+path)
		refusedAs(t, path, err, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Fetch(ctx, server.URL+"/hang")
	refusedAs(t, "/hang", err, "was not answered in time")
	_, err = s.Fetch(t.Context(), strings.Replace(server.URL, "http://", "http://me:password@", 1)+"/none")
	refusedAs(t, "password", err, "me:xxxxx@")
}

// bucket is a little of S3: one bucket, path style, signatures looked at for their key and region.
func bucket(t *testing.T, region string) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if scope, ok := Scope(r); !ok || scope.AccessKeyID != "AKIDEXAMPLE" || scope.Region != region || scope.Service != "s3" {
			t.Errorf("%s is signed as %+v", r.URL, scope)
		}
		object := r.URL.Path
		if v := r.URL.Query().Get("versionId"); v != "" {
			object += "@" + v
		}
		switch object {
		case "/bucket/fw.json", "/bucket/a b/c.json", "/bucket/fw.json@v1":
			_, _ = w.Write([]byte(document))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte("<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"))
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestFetchS3(t *testing.T) {
	server := bucket(t, "us-east-1")
	s := NewSources(SourcesOptions{S3: newS3(t, server.URL)})
	for _, source := range []string{
		"https://s3.eu-west-1.amazonaws.com/bucket/fw.json",
		"https://bucket.s3.eu-west-1.amazonaws.com/fw.json",
		"https://s3.amazonaws.com/bucket/fw.json",
		"https://bucket.s3.amazonaws.com/a%20b/c.json",
		"https://s3-us-west-2.amazonaws.com/bucket/fw.json",
		"https://bucket.s3.cn-north-1.amazonaws.com.cn/fw.json?versionId=v1",
		"https://s3.us-gov-west-1.amazonaws.com/bucket/fw.json",
		server.URL + "/bucket/fw.json",
		"s3://bucket/fw.json",
		"s3://bucket/fw.json?versionId=v1",
	} {
		if text, err := s.Fetch(t.Context(), source); err != nil || text != document {
			t.Errorf("%s: %q, %v", source, text, err)
		}
	}
	_, err := s.Fetch(t.Context(), "s3://bucket/none")
	refusedAs(t, "no such key", err, "documentSource s3://bucket/none was answered by S3 with NoSuchKey: The specified key does not exist.")
	server.Close()
	_, err = s.Fetch(t.Context(), "s3://bucket/fw.json")
	refusedAs(t, "server gone", err, "documentSource s3://bucket/fw.json could not be read")
}

// Without keys, and for URLs that bring a signature along, S3 is a web server like any other.
func TestFetchS3Plain(t *testing.T) {
	asked := ""
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return httptest.NewRecorder().Result(), nil
	})}
	const url = "https://bucket.s3.eu-west-1.amazonaws.com/fw.json"
	for _, c := range []struct {
		s3  *S3
		url string
	}{{nil, url}, {newS3(t, ""), url + "?X-Amz-Signature=00"}, {newS3(t, ""), "https://example.com/s3.amazonaws.com/b/k"}} {
		if _, err := NewSources(SourcesOptions{S3: c.s3, Client: client}).Fetch(t.Context(), c.url); err != nil || asked != c.url {
			t.Errorf("asked for %s, %v, want %s", asked, err, c.url)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNewS3(t *testing.T) {
	for _, o := range []S3Options{{}, {AccessKeyID: "A"}, {AccessKeyID: "A", SecretAccessKey: "s", Endpoint: "minio:9000"}, {AccessKeyID: "A", SecretAccessKey: "s", Endpoint: "ftp://x"}} {
		if _, err := NewS3(o); err == nil {
			t.Errorf("%+v is good", o)
		}
	}
}
