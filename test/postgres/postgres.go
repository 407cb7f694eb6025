// Package postgres runs real PostgreSQL clusters for tests: on loopback, in a temporary directory, gone when the
// tests are. Debian's package postgresql has the programs.
package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"muster/test/process"
)

// Patience bounds every wait for a cluster.
const Patience = 30 * time.Second

// A Cluster is one PostgreSQL server with its data.
type Cluster struct {
	dir     string
	port    int
	mu      sync.Mutex
	process *exec.Cmd
	given   []string // settings, as arguments
	ended   chan struct{}
	log     process.Transcript
}

// bin is where the programs are, empty if they are not installed.
func bin() string {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

var (
	shared    *Cluster
	sharedErr error
	once      sync.Once
	databases atomic.Int64
)

// Main is TestMain for packages that use a shared cluster: it ends it.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for who has more to do.
func Run(m *testing.M) int {
	code := m.Run()
	if shared != nil {
		shared.Remove()
	}
	return code
}

// URL is the address of a new, empty database in a cluster that all tests of the package share. A machine without
// PostgreSQL skips the test; where MUSTER_REQUIRE_CLIENTS is set it fails it.
func URL(t testing.TB) string {
	t.Helper()
	Need(t)
	once.Do(func() { shared, sharedErr = New() })
	if sharedErr != nil {
		t.Fatal(sharedErr)
	}
	return shared.Database(t)
}

// Need skips the test on a machine without PostgreSQL, or fails it where MUSTER_REQUIRE_CLIENTS is set.
func Need(t testing.TB) {
	t.Helper()
	if Installed() {
		return
	}
	if os.Getenv("MUSTER_REQUIRE_CLIENTS") != "" {
		t.Fatal("PostgreSQL is not installed (apt-get install postgresql)")
	}
	t.Skip("PostgreSQL is not installed (apt-get install postgresql)")
}

// Start runs a cluster for one test, which may stop, kill and start it as it likes.
func Start(t testing.TB) *Cluster {
	t.Helper()
	Need(t)
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Remove)
	return c
}

// Installed reports whether there is a PostgreSQL to run.
func Installed() bool { return bin() != "" }

// New makes a cluster with some settings ("name=value") and starts it.
func New(settings ...string) (*Cluster, error) {
	if !Installed() {
		return nil, fmt.Errorf("PostgreSQL is not installed (apt-get install postgresql)")
	}
	dir, err := os.MkdirTemp("", "muster-postgres-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	for _, s := range settings {
		c.given = append(c.given, "-c", s)
	}
	if who := other(); who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := c.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "muster", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	return c, c.Up()
}

// other is who runs the server when the tests run as root, which PostgreSQL refuses to.
func other() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin(), name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: other(), Setpgid: true}
	return cmd
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Up starts the server and returns once it answers.
func (c *Cluster) Up() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	args := append([]string{"-D", filepath.Join(c.dir, "data"), "-p", strconv.Itoa(c.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=" + c.dir, "-c", "max_connections=200", "-c", "shared_buffers=128MB"}, c.given...)
	cmd := c.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	c.process, c.ended = cmd, ended
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.Address("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ended:
			return fmt.Errorf("postgres ended before it answered:\n%s", c.log.String())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// Address is the URL of a database of the cluster.
func (c *Cluster) Address(database string) string {
	return fmt.Sprintf("postgres://muster@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// Port is where the server listens.
func (c *Cluster) Port() int { return c.port }

// Database makes a new, empty database and returns its address.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(databases.Add(1), 10)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.Address("postgres"))
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
		_ = conn.Close(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.Address(name)
}

// Signal sends the server a signal: SIGINT stops it at once, SIGTERM waits for its clients to go.
func (c *Cluster) Signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.process.Process.Signal(s)
}

// Down ends the server and waits until it has: with SIGINT in good order, with SIGQUIT without a checkpoint, as a
// crash would.
func (c *Cluster) Down(s syscall.Signal) {
	c.Signal(s)
	<-c.ended
}

// Remove ends the server and takes its data away.
func (c *Cluster) Remove() {
	if c.process != nil {
		c.Down(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(c.dir)
}

// Log is what the server said.
func (c *Cluster) Log() string { return strings.TrimSpace(c.log.String()) }
