package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"
)

// Whatever is measured lives in a process of its own: one's heap must not set
// the pace of another's garbage collector, a server's CPU must be told from
// its load's, and an unclean stop needs something that can be killed. The
// program runs itself again with childFlag, and the two talk JSON over pipes.

// childFlag is kept out of the flag set, so that -help does not show it.
const childFlag = "-child="

// Settings is what a service is opened with.
type Settings struct {
	Dir    string // its own directory, kept between two lives of a service
	Things int

	Answer   string `json:",omitempty"` // what the empty handler answers; which MQTT echo it is
	Certs    string `json:",omitempty"` // directory of certificates; with it the echo speaks TLS
	Database string `json:",omitempty"` // address of a database, for what keeps its data in PostgreSQL
	Nodes    int    `json:",omitempty"` // how many share it
	Frugal   bool   `json:",omitempty"` // open the store with as little cache as it can do with
	Profiles string `json:",omitempty"` // directory for CPU profiles of every call; "" takes none
}

// Request is one call to a service; its fields mean what Op says.
type Request struct {
	Op      string
	Callers int
	Seconds float64
	Job     string `json:",omitempty"`
	Group   string `json:",omitempty"`
	Status  string `json:",omitempty"`
}

// hello is a service's first word; it says that the service is ready.
type hello struct {
	Addr   string            `json:",omitempty"` // where it listens, if it does
	Addrs  map[string]string `json:",omitempty"` // all of that, by name, where there are several
	Sample Sample            `json:",omitempty"` // what opening it cost, if it tells
	Error  *string           `json:",omitempty"`
}

type reply struct {
	Sample Sample  `json:",omitempty"`
	Error  *string `json:",omitempty"`
}

// service is the side of a child that does the work.
type service interface {
	Call(context.Context, Request) (Sample, error)
	Close() error
}

// services are the things a child can be. Add a line to measure something else
// in a process of its own.
var services = map[string]func(context.Context, Settings) (service, hello, error){
	"rawlog":    openRawlogService,
	"naive":     openNaiveService,
	"httpempty": openHTTPEmptyService,
	"engine":    openEngineService,
	"batched":   openBatchedService,
	"nodes":     openNodesService,
	"server":    openServerService,
	"mqttecho":  openEchoService,
}

// childMain runs a service if the arguments ask for one, and reports whether
// they did. It ends when its standard input does, so a child never outlives
// the program that started it.
func childMain(args []string) bool {
	if len(args) < 3 || !strings.HasPrefix(args[1], childFlag) {
		return false
	}
	name := strings.TrimPrefix(args[1], childFlag)
	if err := serveChild(name, args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		os.Exit(1)
	}
	return true
}

func serveChild(name, settings string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	answers := json.NewEncoder(out)
	svc, first, err := openService(ctx, name, settings)
	if err != nil {
		return answers.Encode(hello{Error: text(err)}) // the parent tells the user
	}
	if err := answers.Encode(first); err != nil {
		return errors.Join(err, svc.Close())
	}
	calls := json.NewDecoder(in)
	for {
		var req Request
		if err := calls.Decode(&req); err != nil {
			return svc.Close()
		}
		stop := profile(name, settings, req)
		sample, err := svc.Call(ctx, req)
		stop()
		if err := answers.Encode(reply{sample, text(err)}); err != nil {
			return errors.Join(err, svc.Close())
		}
	}
}

func openService(ctx context.Context, name, settings string) (service, hello, error) {
	open, ok := services[name]
	if !ok {
		return nil, hello{}, errors.New("no such service")
	}
	var s Settings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return nil, hello{}, err
	}
	return open(ctx, s)
}

// profile takes a CPU profile of one call if the settings ask for it. The file
// of an earlier round is written over: one round is as good as another.
func profile(service, settings string, req Request) (stop func()) {
	var s Settings
	if json.Unmarshal([]byte(settings), &s) != nil || s.Profiles == "" {
		return func() {}
	}
	name := service + "-" + req.Op
	if req.Callers > 0 {
		name += fmt.Sprintf("-%d", req.Callers)
	}
	f, err := os.Create(filepath.Join(s.Profiles, name+".pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: no profile of %s: %v\n", name, err)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}
}

func text(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	return &s
}

// Child is a running service, seen from the program that measures it.
type Child struct {
	Addr   string            // where it listens, if it does
	Addrs  map[string]string // all of that, where there are several
	Opened Sample            // what opening it cost, if it tells
	Ready  time.Duration     // from starting the process to its first word

	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	calls   *json.Encoder
	answers *json.Decoder
}

// startChild starts the named service and waits until it is ready. The child
// is killed if ctx ends.
func startChild(ctx context.Context, name string, s Settings) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, childFlag+name, string(settings))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Child{name: name, cmd: cmd, in: in, calls: json.NewEncoder(in), answers: json.NewDecoder(bufio.NewReader(out))}
	var first hello
	if err := c.answers.Decode(&first); err != nil {
		c.Kill()
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	if first.Error != nil {
		c.Kill()
		return nil, fmt.Errorf("%s did not start: %s", name, *first.Error)
	}
	c.Ready, c.Addr, c.Addrs, c.Opened = time.Since(start), first.Addr, first.Addrs, first.Sample
	return c, nil
}

// PID is the child's process, for processCPU.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Call sends one request and waits for its answer. Calls to one child do not overlap.
func (c *Child) Call(req Request) (Sample, error) {
	if err := c.calls.Encode(req); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	var rep reply
	if err := c.answers.Decode(&rep); err != nil {
		return nil, fmt.Errorf("%s went away: %w", c.name, err)
	}
	if rep.Error != nil {
		return nil, errors.New(*rep.Error)
	}
	return rep.Sample, nil
}

// Kill stops the child as a power failure of the process would: SIGKILL. It
// returns once the process is gone.
func (c *Child) Kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait() // says "killed", which is what was asked
}

// Close lets the child stop in order.
func (c *Child) Close() error {
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}
