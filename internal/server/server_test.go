package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"muster/internal/store"
	"muster/internal/store/pebblestore"
)

// A running server is one that Run serves.
type running struct {
	*Server
	url  string
	stop func() error // ends it and returns what Run returned
}

func start(t *testing.T, c Config) *running {
	t.Helper()
	s, err := New(c)
	return serve(t, s, err)
}

func startOver(t *testing.T, c Config, s store.Store) *running {
	t.Helper()
	server, err := newServer(c, func(*slog.Logger, func(store.Batch)) (store.Store, error) { return s, nil })
	return serve(t, server, err)
}

func serve(t *testing.T, s *Server, err error) *running {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{Server: s, url: "http://" + s.Addrs()["http"]}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ask sends a request and returns what came back.
func ask(t *testing.T, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("%s %s: the answer has no request id", method, url)
	}
	return response.StatusCode, string(text)
}

func want(t *testing.T, method, url, body string, status int, contains ...string) string {
	t.Helper()
	got, answer := ask(t, method, url, body)
	if got != status {
		t.Errorf("%s %s: %d %s, want %d", method, url, got, answer, status)
	}
	for _, text := range contains {
		if !strings.Contains(answer, text) {
			t.Errorf("%s %s answers %s; it should have %s", method, url, answer, text)
		}
	}
	return answer
}

// A notebook is a log that can be read while it is written.
type notebook struct {
	mu   sync.Mutex
	text bytes.Buffer
	told chan string // every line
}

func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	n.text.Write(p)
	n.mu.Unlock()
	if n.told != nil {
		n.told <- string(p)
	}
	return len(p), nil
}

func (n *notebook) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func TestZeroConfigServesBothPlanesOnLoopback(t *testing.T) {
	s := start(t, Config{})
	if !s.LoopbackOnly() || s.Authenticates() {
		t.Error("the zero Config should listen on loopback without authentication")
	}
	want(t, "GET", s.url+"/healthz", "", 200, "ok")
	want(t, "GET", s.url+"/readyz", "", 200, `{"ready":true}`)
	want(t, "POST", s.url+"/things/lamp", "{}", 200, "arn:aws:iot:us-east-1:123456789012:thing/lamp")
	want(t, "GET", s.url+"/things/lamp/jobs", "", 200)
	want(t, "POST", s.url+"/_muster/nothing", "", 404, "nothing")
	want(t, "GET", s.url+"/no/such/path", "", 404)
}

func TestPinnedListeners(t *testing.T) {
	s := start(t, Config{HTTP: "127.0.0.1:0", Control: "0", Data: ":0"})
	control, data := "http://"+s.Addrs()["control"], "http://"+s.Addrs()["data"]
	want(t, "POST", control+"/things/lamp", "{}", 200)
	want(t, "POST", data+"/things/other", "{}", 404)
	want(t, "GET", data+"/things/lamp/jobs", "", 200, "{")
	want(t, "POST", data+"/_muster/import", "", 404)
	want(t, "POST", control+"/_muster/import", "", 200)
	for _, url := range []string{control, data} {
		want(t, "GET", url+"/healthz", "", 200)
	}
}

func TestWebPagesOfOthersAreRefused(t *testing.T) {
	s := start(t, Config{})
	for _, path := range []string{"/things/lamp", "/_muster/import"} {
		if status, answer := ask(t, "POST", s.url+path, "", "Origin", "https://example.com", "Sec-Fetch-Site", "cross-site"); status != 403 {
			t.Errorf("POST %s of a foreign page: %d %s", path, status, answer)
		}
	}
}

func TestRequestsAreLogged(t *testing.T) {
	log := new(notebook)
	s := start(t, Config{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	want(t, "GET", s.url+"/things/lamp?secret=1", "", 404)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"method=GET path=/things/lamp status=404 took=", "request="} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log has no %q:\n%s", text, log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("the log has a query")
	}
}

// ill is a store that has failed.
type ill struct {
	store.Store
	err atomic.Pointer[error]
}

func (s *ill) Health() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func memory(t *testing.T) store.Store {
	t.Helper()
	s, err := pebblestore.Open(pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadyzFollowsTheStore(t *testing.T) {
	log := new(notebook)
	kept := &ill{Store: memory(t)}
	s := startOver(t, Config{Log: slog.New(slog.NewTextHandler(log, nil))}, kept)
	want(t, "GET", s.url+"/readyz", "", 200)
	full := error(errors.Join(errors.New("sync"), syscall.ENOSPC))
	kept.err.Store(&full)
	want(t, "GET", s.url+"/readyz", "", 503, `"ready":false`, "no space left on device")
	want(t, "GET", s.url+"/readyz", "", 503)
	want(t, "GET", s.url+"/healthz", "", 200)
	kept.err.Store(nil)
	want(t, "GET", s.url+"/readyz", "", 200)
	if n := strings.Count(log.String(), "nothing is acknowledged any more"); n != 1 {
		t.Errorf("the failure was logged %d times:\n%s", n, log)
	}
}

func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	disk := vfs.NewMem()
	faulty := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpCreate:
			if full.Load() {
				return syscall.ENOSPC
			}
		}
		return nil
	}))
	kept, err := pebblestore.Open(pebblestore.Options{Dir: "data", FS: faulty})
	if err != nil {
		t.Fatal(err)
	}
	log := new(notebook)
	s := startOver(t, Config{Log: slog.New(slog.NewTextHandler(log, nil))}, kept)
	want(t, "POST", s.url+"/things/before", "{}", 200)
	full.Store(true)
	want(t, "POST", s.url+"/things/after", "{}", 503)
	want(t, "GET", s.url+"/readyz", "", 503, "no space left on device")
	want(t, "POST", s.url+"/_muster/import", `{"thing":{"thingName":"bulk"}}`, 503)
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log says nothing:\n%s", log)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}

	again, err := pebblestore.Open(pebblestore.Options{Dir: "data", FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	s = startOver(t, Config{}, again)
	want(t, "GET", s.url+"/things/before", "", 200)
	want(t, "GET", s.url+"/things/after", "", 404)
	want(t, "GET", s.url+"/things/bulk", "", 404)
}

// Whoever was let in is answered, although the server was told to stop.
func TestStopLetsRequestsFinish(t *testing.T) {
	log := &notebook{told: make(chan string, 100)}
	s := start(t, Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/_muster/import", body)
	if err != nil {
		t.Fatal(err)
	}
	// With it the body is read from the pipe only once the handler asks for it.
	req.Header.Set("Expect", "100-continue")
	done := make(chan string, 1)
	go func() {
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- err.Error()
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		done <- string(text)
	}()
	io.WriteString(write, `{"thing":{"thingName":"one"}}`+"\n")
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for line := range log.told {
		if strings.Contains(line, "stopping") {
			break
		}
	}
	io.WriteString(write, `{"thing":{"thingName":"two"}}`+"\n")
	write.Close()
	if got := <-done; !strings.Contains(got, `"things":2`) {
		t.Errorf("the import answered %s", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Whoever never ends does not keep the server from ending.
func TestStopCutsWhatDoesNotEnd(t *testing.T) {
	s := start(t, Config{Grace: time.Millisecond})
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/_muster/import", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Expect", "100-continue")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if response, err := http.DefaultClient.Do(req); err == nil {
			response.Body.Close()
		}
	}()
	io.WriteString(write, `{"thing":{"thingName":"one"}}`+"\n")
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	// The client notices a closed connection only when it has something to send.
	write.Close()
	<-done
}

func TestConfigIsChecked(t *testing.T) {
	for says, c := range map[string]Config{
		"twelve digits":     {Account: "12345678901x"},
		"not a region":      {Region: "Mars"},
		"auto, always":      {REST: "sometimes"},
		"credentials file":  {Credentials: filepath.Join(t.TempDir(), "none")},
		"cannot be opened":  {Store: "pebble:/dev/null/data"},
		"port must be a nu": {HTTP: "here"},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSecondServerOnTheSameDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, Config{Store: "pebble:" + dir})
	if _, err := New(Config{Store: "pebble:" + dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("the second server says %v", err)
	}
	want(t, "GET", s.url+"/readyz", "", 200)
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Store: "pebble:" + filepath.Join(dir, "data")})
	want(t, "POST", s.url+"/things/lamp", "{}", 200)
	copied := filepath.Join(dir, "new", "copy")
	ask, err := json.Marshal(map[string]string{"dir": copied})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "POST", s.url+"/_muster/backup", string(ask), 200, "copy")
	want(t, "POST", s.url+"/_muster/backup", string(ask), 409, "exists already")
	want(t, "POST", s.url+"/_muster/backup", "{}", 400, "dir")
	want(t, "POST", s.url+"/things/later", "{}", 200)

	problems := func(problem string) { t.Error(problem) }
	if err := Check(t.Context(), copied, slog.New(slog.DiscardHandler), problems); err != nil {
		t.Error(err)
	}
	restored := start(t, Config{Store: "pebble:" + copied})
	want(t, "GET", restored.url+"/things/lamp", "", 200)
	want(t, "GET", restored.url+"/things/later", "", 404)
}

func TestCheckMakesNoStore(t *testing.T) {
	dir := t.TempDir()
	for _, address := range []string{dir, "pebble:" + dir, filepath.Join(dir, "none"), "memory", "postgres://x"} {
		if err := Check(t.Context(), address, slog.New(slog.DiscardHandler), func(string) {}); err == nil {
			t.Errorf("%s was checked", address)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("checking left %v, %v", files, err)
	}
}

func TestStoreAddresses(t *testing.T) {
	for address, says := range map[string]string{
		"postgres://127.0.0.1:1/muster": "does not answer",
		"muster-data":                   "not the address of a store",
		"pebble:":                       "not the address of a store",
	} {
		if _, err := New(Config{Store: address}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
