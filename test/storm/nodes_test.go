package storm

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"muster"
	"muster/internal/store/pgstore"
	"muster/internal/store/storetest"
	"muster/test/device"
	"muster/test/postgres"
	"muster/test/process"
)

var ofNodes = flag.Int("node-devices", 0, "how many devices are connected to the nodes (default 600; 120 under the race detector, 90 with -short)")

const (
	nodes = 3
	// nodeJobs are done by devices; one more is only told of.
	gradual, moving, doomed, untouched = "gradual", "moving", "doomed", "untouched"
)

// A crowd is devices over MQTT that are connected to any of several nodes, and go to another when one is gone.
type crowd struct {
	t      *testing.T
	ctx    context.Context
	acked  atomic.Int64
	failed atomic.Bool

	mu    sync.Mutex
	nodes [nodes]*process.Process // nil while it is down
	alive chan struct{}           // closed when one comes up
}

// TestNodes has devices work jobs over three nodes and one database, while nodes are killed and stopped and the database is restarted. In the end
// every execution has ended, once, as its device was told, and each device knows what is next for it.
func TestNodes(t *testing.T) {
	n := *ofNodes
	if n == 0 {
		switch n = 600; {
		case testing.Short():
			n = 90
		case process.UnderRace():
			n = 120
		}
	}
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	database := postgres.Start(t)
	url := database.Database(t)
	ctx, home := context.WithCancel(t.Context())
	c := &crowd{t: t, ctx: ctx, alive: make(chan struct{})}
	for i := range nodes {
		c.launch(i, url)
	}
	random := rand.New(rand.NewPCG(*seed, 2))
	members := make([]*member, n)
	var all sync.WaitGroup
	defer all.Wait()
	defer home()
	c.register(n)
	for i := range members {
		members[i] = &member{crowd: c, name: fmt.Sprintf("unit-%04d", i), work: map[string]*task{}, random: rand.New(rand.NewPCG(*seed, uint64(i)+100)), version: []byte{device.V311, device.V5}[i%2]}
		all.Go(members[i].live)
	}
	c.create(gradual, `"jobExecutionsRolloutConfig":{"maximumPerMinute":1000},"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"FAILED","numberOfRetries":2}]}`)
	c.create(moving, `"targetSelection":"CONTINUOUS"`, "movers")
	c.create(doomed, `"abortConfig":{"criteriaList":[{"action":"CANCEL","failureType":"FAILED","minNumberOfExecutedThings":20,"thresholdPercentage":50}]}`)
	settled, settle := context.WithCancel(ctx)
	var movers sync.WaitGroup
	movers.Go(func() { c.move(settled, n) })
	defer movers.Wait()
	defer settle()

	stops := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
	for round := range 8 {
		target := c.acked.Load() + 1 + random.Int64N(int64(n/2))
		c.eventually("devices report", func() bool { return c.acked.Load() >= target || c.quiet(url) })
		i := random.IntN(nodes)
		switch {
		case round%4 == 2:
			stop := stops[0]
			stops = stops[1:]
			database.Down(stop)
			if err := database.Up(); err != nil {
				t.Fatal(err)
			}
		case round == 4: // stopped for longer than the others wait, in the middle of whatever it is doing
			dead := c.count(url, `SELECT count(*) FROM node WHERE ended`)
			c.nodes[i].Freeze()
			c.eventually("a node that was stopped is taken for dead", func() bool { return c.count(url, `SELECT count(*) FROM node WHERE ended`) > dead })
			c.nodes[i].Thaw()
		default:
			c.kill(i)
			c.launch(i, url)
		}
	}
	settle()
	movers.Wait()
	c.eventually("all is done", func() bool { return c.quiet(url) })
	c.told(members, "", "that there is nothing to do")
	c.create(untouched, `"description":"devices are told, and leave it alone"`)
	c.kill(0) // its devices ask elsewhere
	c.told(members, untouched, "of the last job")
	c.launch(0, url)
	c.control("PUT", "/jobs/"+untouched+"/cancel?force=true", "{}")
	c.told(members, "", "that the last job is canceled")
	home()
	all.Wait()
	if !c.failed.Load() {
		c.verify(url, members)
	}
	for i := range nodes {
		c.nodes[i].Stop(t)
	}
	if out, err := exec.Command(binary, "check", url).CombinedOutput(); err != nil {
		t.Errorf("muster check: %v\n%s", err, out)
	}
	if strings.Contains(database.Log(), "deadlock detected") {
		t.Error("there were deadlocks")
	}
	t.Logf("%d devices, %d answers to updates", n, c.acked.Load())
}

func (c *crowd) launch(i int, url string) {
	p := process.Launch(c.t, "--store", url)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[i] = p
	close(c.alive)
	c.alive = make(chan struct{})
}

func (c *crowd) kill(i int) {
	c.mu.Lock()
	p := c.nodes[i]
	c.nodes[i] = nil
	c.mu.Unlock()
	p.Kill()
}

// door is a node that is up, as far as anybody knows.
func (c *crowd) door() *process.Process {
	for c.ctx.Err() == nil {
		c.mu.Lock()
		alive := c.alive
		var up []*process.Process
		for _, p := range c.nodes {
			if p != nil {
				up = append(up, p)
			}
		}
		c.mu.Unlock()
		if len(up) > 0 {
			return up[rand.IntN(len(up))]
		}
		select {
		case <-alive:
		case <-c.ctx.Done():
		}
	}
	return nil
}

func (c *crowd) eventually(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(12 * process.Patience)
	for !ok() {
		select {
		case <-tick.C:
			if c.failed.Load() {
				c.t.FailNow()
			}
		case <-late:
			c.t.Fatalf("this did not come true: %s", what)
		}
	}
}

// ask makes a request of the control plane, of any node, until it is answered.
func (c *crowd) ask(method, path, body string) (status int, answer string) {
	for c.ctx.Err() == nil {
		p := c.door()
		if p == nil {
			break
		}
		f := &fleet{url: p.URL, client: &http.Client{Timeout: process.Patience / 4}}
		status, answer, err := f.ask(method, path, body)
		f.client.CloseIdleConnections()
		if err == nil && status != 503 && status != 429 {
			return status, answer
		}
	}
	return 0, ""
}

// control is ask for a request that succeeds, perhaps at the second time, for the answer to the first may have been lost.
func (c *crowd) control(method, path, body string) {
	status, answer := c.ask(method, path, body)
	if done := status == 200 || status == 409 || strings.Contains(answer, "InvalidStateTransition"); !done && c.ctx.Err() == nil {
		c.failed.Store(true)
		c.t.Errorf("%s %s: %d %s", method, path, status, answer)
	}
}

func (c *crowd) register(n int) {
	var lines strings.Builder
	fmt.Fprintln(&lines, `{"thingGroup":{"thingGroupName":"units"}}`+"\n"+`{"thingGroup":{"thingGroupName":"movers"}}`)
	for i := range n {
		fmt.Fprintf(&lines, `{"thing":{"thingName":"unit-%04d","thingGroupNames":["units"]}}`+"\n", i)
	}
	if status, body := c.ask("POST", "/_muster/import", lines.String()); status != 200 {
		c.t.Fatal(status, body)
	}
}

func (c *crowd) create(id, settings string, group ...string) {
	c.control("PUT", "/jobs/"+id, fmt.Sprintf(`{"document":"{}","targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/%s"],%s}`, append(group, "units")[0], settings))
}

// move takes things into the group of the continuous job and out of it.
func (c *crowd) move(ctx context.Context, n int) {
	random := rand.New(rand.NewPCG(*seed, 3))
	for ctx.Err() == nil {
		what := []string{"addThingToThingGroup", "addThingToThingGroup", "removeThingFromThingGroup"}[random.IntN(3)]
		c.control("PUT", "/thing-groups/"+what, fmt.Sprintf(`{"thingGroupName":"movers","thingName":"unit-%04d"}`, random.IntN(n)))
	}
}

// count asks the database itself; -1 while it is away.
func (c *crowd) count(url, sql string, args ...any) (n int) {
	ctx, cancel := context.WithTimeout(c.ctx, process.Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return -1
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return -1
	}
	return n
}

// quiet says whether the jobs are over, as far as they ever are, and who is to have an execution has one that has ended.
func (c *crowd) quiet(url string) bool {
	for id, status := range map[string]string{gradual: "COMPLETED", doomed: "CANCELED"} {
		if _, answer := c.ask("GET", "/jobs/"+id, ""); !strings.Contains(answer, `"status":"`+status+`"`) {
			return false
		}
	}
	return c.count(url, `SELECT (SELECT count(*) FROM execution WHERE status <= 2)
		+ (SELECT count(*) FROM member m WHERE grp = 'movers' AND NOT EXISTS (SELECT 1 FROM execution e WHERE e.thing = m.thing AND e.job = $1))`, moving) == 0
}

// told waits until the last that every device was told is that a job is next, and holds it against what is kept.
func (c *crowd) told(members []*member, job, what string) {
	c.t.Helper()
	silent := map[string]string{}
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%d devices were not told %s: %v", len(silent), what, silent)
		}
	}()
	c.eventually("devices are told "+what, func() bool {
		clear(silent)
		for _, m := range members {
			if last := m.next.Load(); last == nil || *last != job {
				silent[m.name] = "nothing"
				if last != nil {
					silent[m.name] = *last
				}
			}
		}
		return len(silent) == 0
	})
}

// verify holds the executions and the feed against what devices know.
func (c *crowd) verify(url string, members []*member) {
	s, err := pgstore.Open(pgstore.Options{URL: url, Aside: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	ends := map[string]int{} // how often each execution came to its end
	final := map[string]muster.Status{}
	for _, e := range storetest.Entries(c.t, s, "", 512) {
		for _, f := range e.Facts {
			if f.Kind != muster.FactExecution {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", f.Thing, f.Job, f.Number)
			final[key] = f.To
			if f.To.Terminal() && f.From != f.To {
				ends[key]++
			}
		}
	}
	for key, status := range final {
		if !status.Terminal() || ends[key] != 1 {
			c.t.Errorf("%s is %s, and has ended %d times", key, status, ends[key])
		}
	}
	for _, m := range members {
		for key, w := range m.work {
			status := final[m.name+"/"+key].String()
			if w.ended && status != w.verdict {
				c.t.Errorf("%s of %s is %s; its device was told of %s", key, m.name, status, w.verdict)
			}
		}
	}
	c.t.Logf("%d executions", len(final))
}
