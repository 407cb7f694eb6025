package storm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/test/device"
	"muster/test/process"
)

var (
	devices = flag.Int("devices", 0, "how many devices are connected (default 2000; 300 under the race detector, 200 with -short)")
	kills   = flag.Int("kills", 5, "how many times the server of the devices is killed")
)

// jobsOfSoak are how many jobs the devices get, one after each start of the server.
const jobsOfSoak = 3

// A swarm is devices over MQTT, all of them connected, each with a session that lasts.
type swarm struct {
	t      *testing.T
	ctx    context.Context // ends when the devices may go home
	fleet  *fleet          // for the control plane
	acked  atomic.Int64    // answers to updates, all devices together
	failed atomic.Bool

	mu sync.Mutex
	at string        // where MQTT is spoken; empty while the server is down
	up chan struct{} // closed when it is up
}

// A pump is one device: it starts what is next, reports some steps, ends it, and asks again. It knows of each of its
// executions what the server has acknowledged.
type pump struct {
	*swarm
	name   string
	random *rand.Rand
	conn   *device.Conn
	poked  bool // a job is next that was not asked for yet
	token  int
	work   map[string]*work // by job
}

// work is what a device knows of one execution.
type work struct {
	version  int64  // acknowledged, or learned
	maybe    bool   // one more request was sent whose answer was not seen
	verdict  string // the status that was sent to end it
	ended    bool   // it is acknowledged, or learned, that it has ended
	accepted int    // answers that said so
}

// TestDevicesThroughCrashes lets 2,000 devices work jobs over connections that break, and a server that is killed. In
// the end every execution has ended, once, as its device said; and the store is in order.
func TestDevicesThroughCrashes(t *testing.T) {
	n := *devices
	if n == 0 {
		switch n = 2000; {
		case testing.Short():
			n = 200
		case process.UnderRace():
			n = 300
		}
	}
	dir := filepath.Join(t.TempDir(), "store")
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, home := context.WithCancel(t.Context())
	defer home()
	s := &swarm{t: t, ctx: ctx, up: make(chan struct{}),
		fleet: &fleet{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: process.Patience}}}
	random := rand.New(rand.NewPCG(*seed, 1))
	pumps := make([]*pump, n)
	var all sync.WaitGroup
	for i := range pumps {
		pumps[i] = &pump{swarm: s, name: fmt.Sprintf("pump-%04d", i), work: map[string]*work{}, random: rand.New(rand.NewPCG(*seed, uint64(i)+10))}
		version := []byte{device.V311, device.V5}[i%2]
		all.Go(func() { pumps[i].live(version) })
	}
	defer all.Wait()
	defer home()

	var p *process.Process
	for round := range *kills + 1 {
		p = process.Launch(t, "--store", "pebble:"+dir)
		s.fleet.url = p.URL
		if round == 0 {
			s.register(pumps)
		}
		s.open(p.Addrs["mqtt"])
		if round < jobsOfSoak {
			body := `{"document":"{\"operation\":\"update\"}","targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/pumps"]}`
			if status, answer, err := s.fleet.ask("PUT", fmt.Sprintf("/jobs/job-%d", round), body); err != nil || status != 200 {
				t.Fatal(status, answer, err)
			}
		}
		if round == *kills {
			break
		}
		// Some of the work is done, at another point each time, in the middle of a rollout or of what follows.
		target := s.acked.Load() + 1 + random.Int64N(int64(n))
		s.eventually("devices report", func() bool { return s.acked.Load() >= target || round >= jobsOfSoak && s.completed() })
		s.close()
		p.Kill()
		if out, err := exec.Command(binary, "check", dir).CombinedOutput(); err != nil {
			t.Fatalf("kill %d: muster check: %v\n%s", round, err, out)
		}
	}
	s.eventually("all jobs are completed", s.completed)
	home()
	all.Wait()
	if !s.failed.Load() {
		s.verify(pumps)
	}
	p.Stop(t)
	if out, err := exec.Command(binary, "check", dir).CombinedOutput(); err != nil {
		t.Errorf("muster check: %v\n%s", err, out)
	}
	t.Logf("%d devices, %d jobs, %d kills, %d answers to updates", n, jobsOfSoak, *kills, s.acked.Load())
}

// eventually waits until ok, as long as such a fleet may take.
func (s *swarm) eventually(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(12 * process.Patience)
	for !ok() {
		select {
		case <-tick.C:
			if s.failed.Load() {
				s.t.FailNow()
			}
		case <-late:
			s.t.Fatalf("this did not come true: %s", what)
		}
	}
}

func (s *swarm) register(pumps []*pump) {
	var lines bytes.Buffer
	fmt.Fprintln(&lines, `{"thingGroup":{"thingGroupName":"pumps"}}`)
	for _, p := range pumps {
		fmt.Fprintf(&lines, `{"thing":{"thingName":%q,"thingGroupNames":["pumps"]}}`+"\n", p.name)
	}
	if status, body, err := s.fleet.ask("POST", "/_muster/import", lines.String()); err != nil || status != 200 {
		s.t.Fatal(status, body, err)
	}
}

// completed says whether every job is.
func (s *swarm) completed() bool {
	for i := range jobsOfSoak {
		if _, answer, _ := s.fleet.ask("GET", fmt.Sprintf("/jobs/job-%d", i), ""); !strings.Contains(answer, `"status":"COMPLETED"`) {
			return false
		}
	}
	return true
}

// open tells the devices that the server is up, close that it is about to go.
func (s *swarm) open(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
	close(s.up)
}

func (s *swarm) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.up = "", make(chan struct{})
}

// door waits until the server is up, and returns where.
func (s *swarm) door() string {
	for s.ctx.Err() == nil {
		s.mu.Lock()
		at, up := s.at, s.up
		s.mu.Unlock()
		if at != "" {
			return at
		}
		select {
		case <-up:
		case <-s.ctx.Done():
		}
	}
	return ""
}

// errLeft says that a device ended its connection itself.
var errLeft = errors.New("left")

// A wrong is something that must not happen, whatever breaks.
type wrong struct{ what string }

func (w wrong) Error() string { return w.what }

// live connects again and again until the swarm goes home.
func (p *pump) live(version byte) {
	for {
		at := p.door()
		if at == "" {
			return
		}
		err := p.connect(at, version)
		var bad wrong
		if errors.As(err, &bad) {
			p.failed.Store(true)
			p.t.Errorf("%s: %s", p.name, bad.what)
			return
		}
	}
}

// connect is one connection, from its beginning to its end.
func (p *pump) connect(at string, version byte) error {
	raw, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	conn := device.New(raw, version)
	if old := p.conn; old != nil {
		defer old.Reset() // it is taken over, if it is still there
	}
	p.conn = conn
	conn.SetDeadline(time.Now().Add(12 * process.Patience))
	stop := context.AfterFunc(p.ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = p.serve()
	switch {
	case errors.Is(err, errLeft) && p.random.IntN(3) == 0:
		conn.Goodbye()
	case errors.Is(err, errLeft) && p.random.IntN(2) == 0:
		return err // the next connection takes over from this one
	default:
		conn.Reset()
	}
	p.conn = nil
	return err
}

// serve works until the connection ends.
func (p *pump) serve() error {
	if _, err := p.conn.Hello(p.name, true); err != nil {
		return err
	}
	filters := []string{p.topic("notify-next")}
	if p.name[len(p.name)-1]&2 == 0 { // half of them get their answers with QoS 1, also those that they did not wait for
		filters = []string{p.topic("#")}
	}
	if err := p.conn.Subscribe(p.heard, filters...); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	for {
		p.poked = false
		answer, err := p.ask("start-next", "")
		if err != nil {
			return err
		}
		if answer.Execution == nil {
			if err := p.wait(); err != nil {
				return err
			}
			continue
		}
		if err := p.do(answer); err != nil {
			return err
		}
	}
}

func (p *pump) topic(rest string) string { return "$aws/things/" + p.name + "/jobs/" + rest }

// heard takes a message that nobody waits for.
func (p *pump) heard(m device.Packet) error {
	if bytes.HasSuffix(m.Topic, []byte("/notify-next")) {
		p.poked = true
	}
	return p.conn.Ack(m)
}

// wait waits until a job is next, or the device has had enough.
func (p *pump) wait() error {
	if p.random.IntN(20) == 0 {
		return errLeft
	}
	for !p.poked {
		m, err := p.conn.Next()
		if err != nil {
			return err
		}
		if m.Kind == device.Message {
			if err := p.heard(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// An answer is what an operation answers, accepted or rejected.
type answer struct {
	ClientToken string
	Code        string
	Message     string
	Execution   *struct {
		JobID         string
		Status        string
		VersionNumber int64
	}
}

// ask makes a request and waits for its answer. Now and then the connection is gone instead.
func (p *pump) ask(what, members string) (a answer, err error) {
	for {
		p.token++
		token := fmt.Sprint(p.name, "-", p.token)
		if p.random.IntN(60) == 0 {
			return a, errLeft // before
		}
		topic := p.topic(what)
		if _, err := p.conn.Publish(topic, fmt.Appendf(nil, `{"clientToken":%q%s}`, token, members)); err != nil {
			return a, err
		}
		if p.random.IntN(60) == 0 {
			return a, errLeft // without waiting
		}
		for a.ClientToken != token {
			m, err := p.conn.Next()
			if err != nil {
				return a, err
			}
			if m.Kind != device.Message {
				continue
			}
			if rest, ok := bytes.CutPrefix(m.Topic, []byte(topic)); ok && len(rest) > 0 {
				a = answer{}
				if err := json.Unmarshal(m.Payload, &a); err != nil {
					return a, wrong{fmt.Sprintf("%s: %v: %s", m.Topic, err, m.Payload)}
				}
			}
			if err := p.heard(m); err != nil {
				return a, err
			}
		}
		if a.Code != "RequestThrottled" {
			return a, nil
		}
	}
}

// settle finds out about ends that were sent and not answered.
func (p *pump) settle() error {
	for job, w := range p.work {
		if w.ended || w.verdict == "" {
			continue
		}
		a, err := p.ask(job+"/get", `,"includeJobDocument":false`)
		switch {
		case err != nil:
			return err
		case a.Code == "TerminalStateReached":
			w.ended, w.version, w.maybe = true, w.version+1, false
		case a.Code != "":
			return wrong{fmt.Sprintf("%s: %s %s", job, a.Code, a.Message)}
		}
	}
	return nil
}

// do takes an execution from where it stands to its end.
func (p *pump) do(a answer) error {
	job := a.Execution.JobID
	w := p.work[job]
	if w == nil {
		w = &work{version: 2} // it is started by being asked for
		p.work[job] = w
	}
	got := a.Execution.VersionNumber
	switch {
	case w.ended:
		return wrong{job + " has ended, and is to be done again"}
	case a.Execution.Status != "IN_PROGRESS" || got != w.version && !(w.maybe && got == w.version+1):
		return wrong{fmt.Sprintf("%s is %s at version %d; %d was acknowledged", job, a.Execution.Status, got, w.version)}
	}
	w.version, w.maybe, w.verdict = got, false, ""
	for range p.random.IntN(3) {
		if err := p.report(job, w, "IN_PROGRESS"); err != nil {
			return err
		}
	}
	w.verdict = []string{"SUCCEEDED", "SUCCEEDED", "FAILED", "REJECTED"}[p.random.IntN(4)]
	if err := p.report(job, w, w.verdict); err != nil {
		return err
	}
	w.ended = true
	w.accepted++
	return nil
}

// report updates an execution. Without an answer nobody knows whether it did.
func (p *pump) report(job string, w *work, status string) error {
	w.maybe = true
	a, err := p.ask(job+"/update", fmt.Sprintf(`,"status":%q,"expectedVersion":%d,"statusDetails":{"v":"%d"}`, status, w.version, w.version+1))
	if err != nil {
		return err
	}
	if a.Code != "" {
		return wrong{fmt.Sprintf("%s at version %d to %s: %s %s", job, w.version, status, a.Code, a.Message)}
	}
	w.version, w.maybe = w.version+1, false
	p.acked.Add(1)
	return nil
}

// verify compares what the control plane lists with what the devices know: each has one execution of each job, which
// ended once, as its device said, after as many changes as it made.
func (s *swarm) verify(pumps []*pump) {
	things := map[string]*pump{}
	for _, p := range pumps {
		things[p.name] = p
	}
	for i := range jobsOfSoak {
		job := fmt.Sprintf("job-%d", i)
		seen := map[string]bool{}
		for token := ""; ; {
			_, text, err := s.fleet.ask("GET", "/jobs/"+job+"/things?maxResults=250"+token, "")
			var page struct {
				ExecutionSummaries []struct {
					ThingArn            string
					JobExecutionSummary struct {
						Status          string
						ExecutionNumber int
					}
				}
				NextToken string
			}
			if err == nil {
				err = json.Unmarshal([]byte(text), &page)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			for _, e := range page.ExecutionSummaries {
				_, name, _ := strings.Cut(e.ThingArn, ":thing/")
				p, sum := things[name], e.JobExecutionSummary
				if p == nil || seen[name] || sum.ExecutionNumber != 1 {
					s.t.Fatalf("%s of %s is there a second time: %+v", job, name, sum)
				}
				seen[name] = true
				w := p.work[job]
				if w == nil || w.verdict != sum.Status || w.accepted > 1 {
					s.t.Errorf("%s of %s has ended as %s; its device knows %+v", job, name, sum.Status, w)
				}
			}
			if page.NextToken == "" {
				break
			}
			token = "&nextToken=" + page.NextToken
		}
		if len(seen) != len(pumps) {
			s.t.Errorf("%s has %d executions, not %d", job, len(seen), len(pumps))
		}
		s.versions(job, pumps)
	}
}

// versions looks at a tenth of the executions one by one.
func (s *swarm) versions(job string, pumps []*pump) {
	for i := 0; i < len(pumps); i += 10 {
		p := pumps[i]
		status, text, err := s.fleet.ask("GET", "/control/"+p.name+"/jobs/"+job, "")
		var v struct {
			Execution struct {
				VersionNumber int64
				StatusDetails struct{ DetailsMap map[string]string }
			}
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), &v)
		}
		if err != nil || status != 200 {
			s.t.Fatal(status, text, err)
		}
		w, got := p.work[job], v.Execution.VersionNumber
		known := []int64{w.version}
		if !w.ended { // the answer to its last word was not seen, and nobody asked
			known = append(known, w.version+1)
		}
		if !slices.Contains(known, got) || v.Execution.StatusDetails.DetailsMap["v"] != fmt.Sprint(got) {
			s.t.Errorf("%s of %s: %s; its device knows %+v", job, p.name, text, w)
		}
	}
}
