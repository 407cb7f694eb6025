package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/internal/server"
)

// The real program: `muster serve`, built as it is released.

// buildMuster builds the program once.
func (b *Bench) buildMuster(ctx context.Context) (string, error) {
	if b.binary != "" {
		return b.binary, nil
	}
	path := filepath.Join(b.Dir, "muster")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "muster/cmd/muster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building muster: %w\n%s", err, out)
	}
	b.binary = path
	return path, nil
}

// A musterProcess is one running server.
type musterProcess struct {
	addr  string            // of HTTP
	addrs map[string]string // of all listeners, by name
	pid   int
	ready time.Duration // from starting the process to an answer that it is ready
	stop  func()        // kills it
	// profile takes a CPU profile for some time; it is not there in the real program.
	profile func(of string, seconds float64)
}

// serveMuster runs the program over the store in dir until stop, at the latest
// until the end.
func (b *Bench) serveMuster(ctx context.Context, dir string, flags ...string) (*musterProcess, error) {
	binary, err := b.buildMuster(ctx)
	if err != nil {
		return nil, err
	}
	addrFile := dir + ".addr"
	if err := os.RemoveAll(addrFile); err != nil {
		return nil, err
	}
	flags = append([]string{"serve", "--http", "127.0.0.1:0", "--addr-file", addrFile, "--store", "pebble:" + dir, "--log-level", "warn"}, flags...)
	cmd := exec.CommandContext(ctx, binary, flags...)
	cmd.Env = append(withoutMuster(os.Environ()), "MUSTER_MQTT=127.0.0.1:0") // never the well-known port
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	p := &musterProcess{pid: cmd.Process.Pid, stop: func() {
		cmd.Process.Kill()
		<-ended
	}, profile: func(string, float64) {}}
	b.onClose(p.stop)
	if p.addrs, err = awaitReady(addrFile, ended); err != nil {
		p.stop()
		return nil, err
	}
	p.addr = p.addrs["http"]
	p.ready = time.Since(start)
	return p, nil
}

func withoutMuster(env []string) (kept []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "MUSTER_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// awaitReady waits until a server has told its addresses and says that it is ready.
func awaitReady(addrFile string, ended <-chan struct{}) (map[string]string, error) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	late := time.After(time.Minute)
	for {
		select {
		case <-ended:
			return nil, fmt.Errorf("muster ended before it was ready")
		case <-late:
			return nil, fmt.Errorf("muster was not ready within a minute")
		case <-look.C:
		}
		var at map[string]string
		text, err := os.ReadFile(addrFile)
		if err != nil || json.Unmarshal(text, &at) != nil || at["http"] == "" {
			continue
		}
		answer, err := http.Get("http://" + at["http"] + "/readyz")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return at, nil
		}
	}
}

// serverService is the same server within this program, which can take CPU
// profiles. It stands in for the real one when they are asked for.
type serverService struct {
	cancel context.CancelFunc
	ended  chan error
}

func openServerService(ctx context.Context, s Settings) (service, hello, error) {
	srv, err := server.New(server.Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "pebble:" + s.Dir})
	if err != nil {
		return nil, hello{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &serverService{cancel, make(chan error, 1)}
	go func() { e.ended <- srv.Run(ctx) }()
	return e, hello{Addr: srv.Addrs()["http"], Addrs: srv.Addrs()}, nil
}

// Call is profiled like every call; this one only waits, named by what others ask meanwhile.
func (s *serverService) Call(_ context.Context, req Request) (Sample, error) {
	time.Sleep(time.Duration(req.Seconds * float64(time.Second)))
	return nil, nil
}

func (s *serverService) Close() error {
	s.cancel()
	return <-s.ended
}

// serveProfiled is serveMuster with serverService.
func (b *Bench) serveProfiled(ctx context.Context, dir string) (*musterProcess, error) {
	c, err := b.adopt(ctx, dir, "server", Settings{Dir: dir})
	if err != nil {
		return nil, err
	}
	return &musterProcess{addr: c.Addr, addrs: c.Addrs, pid: c.PID(), ready: c.Ready, stop: c.Kill, profile: func(of string, seconds float64) {
		if _, err := c.Call(Request{Op: of, Seconds: seconds}); err != nil {
			fmt.Fprintln(os.Stderr, "bench: no profile:", err)
		}
	}}, nil
}

// P18.

const (
	idleMiB   = "idle_mib"
	binaryMB  = "binary_mb"
	startedMS = "started_ms"
)

// startEmpty measures starting the program with an empty store, and what it
// then needs to do nothing.
func (b *Bench) startEmpty() *Meter {
	return &Meter{
		Name: "muster serve, empty",
		Prepare: func(ctx context.Context) error {
			_, err := b.buildMuster(ctx)
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			dir, err := os.MkdirTemp(b.Dir, "empty-")
			if err != nil {
				return nil, err
			}
			p, err := b.serveMuster(ctx, filepath.Join(dir, "data"))
			if err != nil {
				return nil, err
			}
			defer p.stop()
			time.Sleep(time.Duration(b.Seconds * float64(time.Second)))
			kb, err := residentKB(p.pid)
			if err != nil {
				return nil, err
			}
			info, err := os.Stat(b.binary)
			if err != nil {
				return nil, err
			}
			return Sample{startedMS: p.ready.Seconds() * 1000, idleMiB: kb / 1024, binaryMB: float64(info.Size()) / 1e6}, nil
		},
	}
}

// residentKB is the memory that a process has in RAM.
func residentKB(pid int) (float64, error) {
	kb, err := strconv.ParseFloat(strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS"), " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	return kb, nil
}

// ask makes one request of a server and returns the answer's body.
func (p *musterProcess) ask(ctx context.Context, request []byte) ([]byte, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	conn := &httpConn{Conn: c, buf: make([]byte, 4096)}
	defer conn.Close()
	status, body, err := conn.exchange(request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	return body, err
}
