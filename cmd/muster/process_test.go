package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"muster/test/process"
)

func TestMain(m *testing.M) {
	// Settings of whoever runs the tests are not the tests'.
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "MUSTER_") && name != "MUSTER_BIN" {
			os.Unsetenv(name)
		}
	}
	os.Setenv("MUSTER_MQTT", "127.0.0.1:0") // nobody may take the well-known port from others who test
	process.Main(m)
}

// A daemon is a running server whose signals and words are tested.
type daemon struct {
	cmd      *exec.Cmd
	url      string
	out, err bytes.Buffer  // good once it has ended
	ended    chan struct{} // closed when the process is gone
	how      error
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, args...)
}

// serve runs a server over a directory and returns once it listens.
func serve(t *testing.T, dir string, flags ...string) *daemon {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addrs.json")
	p := &daemon{ended: make(chan struct{})}
	p.cmd = command(t, append([]string{"serve", "--http", "0", "--addr-file", file, "--store", "pebble:" + dir}, flags...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.how = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("the server said:\n%s%s", &p.out, &p.err)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(process.Patience)
	for {
		select {
		case <-tick.C:
			var addrs map[string]string
			if text, err := os.ReadFile(file); err == nil {
				if err := json.Unmarshal(text, &addrs); err != nil {
					t.Fatalf("the address file is not whole: %q", text)
				}
				p.url = "http://" + addrs["http"]
				return p
			}
		case <-p.ended:
			t.Fatalf("the server ended: %v\n%s", p.how, &p.err)
		case <-late:
			t.Fatal("the server does not listen")
		}
	}
}

func (p *daemon) signal(t *testing.T, s os.Signal) {
	t.Helper()
	p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(process.Patience):
		t.Fatalf("the server does not end on %v", s)
	}
}

// ask sends a request; status 0 is no answer.
func ask(method, url, body string) (status int, answer string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

func want(t *testing.T, method, url, body string, status int) {
	t.Helper()
	if got, answer := ask(method, url, body); got != status {
		t.Fatalf("%s %s: %d %s", method, url, got, answer)
	}
}

func TestSecondProcessOnTheSameDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := serve(t, dir)
	out, err := command(t, "serve", "--http", "0", "--store", "pebble:"+dir).CombinedOutput()
	if code, ok := errors.AsType[*exec.ExitError](err); !ok || code.ExitCode() != exitFailed {
		t.Errorf("the second process ended with %v", err)
	}
	if want := "muster: The store in " + dir + " is in use by another process\n"; string(out) != want {
		t.Errorf("it says %q, want %q", out, want)
	}
	want(t, "GET", p.url+"/readyz", "", 200)
}

func TestSIGTERM(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := serve(t, dir)
	want(t, "POST", p.url+"/things/lamp", "{}", 200)
	p.signal(t, syscall.SIGTERM)
	if p.how != nil {
		t.Errorf("it ended with %v", p.how)
	}
	for _, text := range []string{"listen  " + p.url, "data    " + dir, "only this machine can connect", "--endpoint-url " + p.url} {
		if !strings.Contains(p.out.String(), text) {
			t.Errorf("it does not greet with %q", text)
		}
	}
	for _, text := range []string{"stopping", "stopped"} {
		if !strings.Contains(p.err.String(), text) {
			t.Errorf("the log has no %q", text)
		}
	}
	if out, err := command(t, "check", dir).CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	again := serve(t, dir)
	want(t, "GET", again.url+"/things/lamp", "", 200)
}

// What was acknowledged is there after kill -9, under load and three times over.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var acknowledged sync.Map
	for round := range 3 {
		p := serve(t, dir)
		var made atomic.Int64
		enough := make(chan struct{})
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := 0; ; i++ {
					url := fmt.Sprintf("/things/r%d-w%d-%d", round, w, i)
					if status, _ := ask("POST", p.url+url, "{}"); status != 200 {
						return // it is gone
					}
					acknowledged.Store(url, true)
					if made.Add(1) == 200 {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(process.Patience):
			t.Fatal("the server is too slow to be killed")
		}
		p.signal(t, syscall.SIGKILL)
		writers.Wait()
	}
	p := serve(t, dir)
	n := 0
	acknowledged.Range(func(url, _ any) bool {
		n++
		want(t, "GET", p.url+url.(string), "", 200)
		return true
	})
	if n < 600 {
		t.Errorf("only %d things were acknowledged", n)
	}
}

func TestSIGHUPReadsCredentialsAgain(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.json")
	write := func(id string) {
		text := `{"keys":[{"accessKeyId":"` + id + `","secretAccessKey":"secret"}]}`
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("OLD")
	p := serve(t, filepath.Join(t.TempDir(), "data"), "--auth", "sigv4", "--credentials", keys)
	url := strings.Replace(p.url, "[::]", "127.0.0.1", 1)
	lines := filepath.Join(t.TempDir(), "things.jsonl")
	if err := os.WriteFile(lines, []byte(`{"thing":{"thingName":"lamp"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(id string) error {
		return command(t, "import", lines, "--endpoint", url, "--access-key-id", id, "--secret-access-key", "secret").Run()
	}
	if err := as("OLD"); err != nil {
		t.Errorf("the key is not good: %v", err)
	}
	if as("NEW") == nil {
		t.Error("a key that is not there is good")
	}
	write("NEW")
	p.cmd.Process.Signal(syscall.SIGHUP)
	process.Eventually(t, "the new key is good", func() bool { return as("NEW") == nil })
	if as("OLD") == nil {
		t.Error("the old key is still good")
	}
}
