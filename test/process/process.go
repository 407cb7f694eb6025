// Package process builds and runs the real muster binary for tests that know nothing of what is inside it.
// MUSTER_BIN names a binary to test in place of one built from this tree.
package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait: for the server to listen, to stop, and for a rollout to arrive.
const Patience = 10 * time.Second

// scratch is where the binary is built.
var scratch string

// Main is TestMain for packages that run servers: it removes what was built for them.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "muster-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Binary builds the server once, on first use. It is not done in TestMain, because `go test` notes which files a test
// looks at only while tests run, and by that decides whether a cached result still holds.
var Binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("MUSTER_BIN"); path != "" {
		return filepath.Abs(path)
	}
	if err := lookAtSources("../.."); err != nil {
		return "", err
	}
	path := filepath.Join(scratch, "muster")
	args := []string{"build", "-o", path}
	if UnderRace() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "muster/cmd/muster")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building muster: %w\n%s", err, out)
	}
	return path, nil
})

// lookAtSources lists every source directory. This package imports nothing of the server, so without it
// a changed server would be answered with the old "ok (cached)".
func lookAtSources(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case !d.IsDir() || path == root:
			return nil
		case name == "node_modules" || name == "bin" || strings.HasPrefix(name, "."):
			return filepath.SkipDir
		}
		return nil
	})
}

// UnderRace says whether this test was built with -race; the server then is too.
func UnderRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// A Process is one running server.
type Process struct {
	URL   string
	Addrs map[string]string // of all listeners, by name
	cmd   *exec.Cmd
	log   *Transcript
	ended chan struct{} // closed when the process is gone
	err   error         // how it ended; read after ended
}

// Start runs a server for the length of the test and returns its endpoint. Without a --store among the flags
// it keeps everything in memory.
func Start(t testing.TB, flags ...string) string {
	t.Helper()
	if !strings.Contains(strings.Join(flags, " "), "--store") {
		flags = append(flags, "--store", "memory")
	}
	p := Launch(t, flags...)
	t.Cleanup(func() { p.Stop(t) })
	return p.URL
}

// Launch runs a server and returns once it listens. It is killed at the end of the test if the caller has not ended it.
func Launch(t testing.TB, flags ...string) *Process {
	t.Helper()
	path, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	addresses := filepath.Join(dir, "addresses.json")
	p := &Process{log: new(Transcript), ended: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{"serve", "--http", "127.0.0.1:0", "--addr-file", addresses}, flags...)...)
	p.cmd.Dir = dir
	// Tests run side by side, so nobody may take the well-known MQTT port.
	p.cmd.Env = append(Without(os.Environ(), "MUSTER_"), "MUSTER_MQTT=127.0.0.1:0")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Kill() // nothing to do if it was stopped, as it should be; a test that failed half way leaves it running
		if t.Failed() {
			t.Logf("what the server said:\n%s", p.log)
		}
	})

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(Patience)
	for {
		select {
		case <-tick.C:
			var at map[string]string
			if text, err := os.ReadFile(addresses); err == nil && json.Unmarshal(text, &at) == nil && at["http"] != "" {
				p.URL, p.Addrs = "http://"+at["http"], at
				return p
			}
		case <-p.ended:
			t.Fatalf("muster ended before it listened: %v\n%s", p.err, p.log)
		case <-late:
			t.Fatalf("muster did not listen within %v\n%s", Patience, p.log)
		}
	}
}

// Stop asks the server to go and requires that it does so in time and content.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			t.Errorf("muster ended badly: %v\n%s", p.err, p.log)
		}
	case <-time.After(Patience):
		p.Kill()
		t.Errorf("muster did not stop within %v of SIGTERM\n%s", Patience, p.log)
	}
}

// Kill is kill -9: the server gets no chance to tidy up.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Freeze stops the server where it is, Thaw lets it go on, as if nothing had been.
func (p *Process) Freeze() { p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Process) Thaw()   { p.cmd.Process.Signal(syscall.SIGCONT) }

// A Transcript is what a process wrote, readable while it still writes.
type Transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *Transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *Transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// Eventually waits until ok, asking again and again. Rollout, cancel and delete are asynchronous by contract.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("within %v this did not come true: %s", Patience, what)
		}
	}
}

// Without leaves out the variables whose names begin with one of the prefixes.
func Without(env []string, prefixes ...string) []string {
	var kept []string
next:
	for _, v := range env {
		for _, p := range prefixes {
			if strings.HasPrefix(v, p) {
				continue next
			}
		}
		kept = append(kept, v)
	}
	return kept
}
