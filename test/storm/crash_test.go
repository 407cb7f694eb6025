// Package storm treats the real binary badly: it is killed with SIGKILL at random moments under load, and
// what it acknowledged has to be there when it comes back.
package storm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"muster/test/process"
)

var (
	rounds = flag.Int("rounds", 50, "how many times the server is killed")
	seed   = flag.Uint64("seed", 1, "of the random choices")
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	workers        = 16
	thingsOfWorker = 25
)

// known is what a worker knows of one execution: what was acknowledged, and what may have happened besides,
// because an answer never came.
type known struct {
	version int64 // acknowledged
	maybe   bool  // one more request was sent whose answer was not seen
	ended   bool
	job     string
}

// A fleet is the devices and what they know. Each worker acts for its own things, so that every version is known.
type fleet struct {
	url    string
	client *http.Client
	acked  atomic.Int64
	jobs   []string
}

func TestKilledUnderLoad(t *testing.T) {
	n := *rounds
	if testing.Short() {
		n = min(n, 5)
	}
	dir := filepath.Join(t.TempDir(), "store")
	random := rand.New(rand.NewPCG(*seed, 0))
	t.Logf("seed %d", *seed)
	f := &fleet{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}, Timeout: process.Patience}}
	state := make([]map[string]*known, workers)
	for w := range state {
		state[w] = map[string]*known{}
	}
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}

	for round := range n {
		p := process.Launch(t, "--store", "pebble:"+dir)
		f.url = p.URL
		if round == 0 {
			f.populate(t)
		}
		f.verify(t, round, state)
		if round%10 == 0 {
			f.newJob(t, round, state)
		}
		if t.Failed() {
			return
		}
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for w := range workers {
			wg.Add(1)
			choices := rand.New(rand.NewPCG(*seed, uint64(round*workers+w+1)))
			go func() {
				defer wg.Done()
				f.work(t, choices, state[w], stop)
			}()
		}
		// The load itself measures how long it lives: a random number of acknowledgements.
		target := f.acked.Load() + 50 + random.Int64N(700)
		process.Eventually(t, "the server acknowledges under load", func() bool { return f.acked.Load() >= target })
		p.Kill()
		close(stop)
		wg.Wait()
		if out, err := exec.Command(binary, "check", dir).CombinedOutput(); err != nil {
			t.Fatalf("round %d: muster check: %v\n%s", round, err, out)
		}
	}
	t.Logf("%d acknowledged changes, %d kills", f.acked.Load(), n)
}

func thing(worker, i int) string { return fmt.Sprintf("pump-%02d-%02d", worker, i) }

func (f *fleet) populate(t *testing.T) {
	var lines bytes.Buffer
	fmt.Fprintln(&lines, `{"thingGroup":{"thingGroupName":"pumps"}}`)
	for w := range workers {
		for i := range thingsOfWorker {
			fmt.Fprintf(&lines, `{"thing":{"thingName":%q,"thingGroupNames":["pumps"]}}`+"\n", thing(w, i))
		}
	}
	if status, body, err := f.ask("POST", "/_muster/import", lines.String()); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
}

// newJob gives every thing something to do.
func (f *fleet) newJob(t *testing.T, round int, state []map[string]*known) {
	id := fmt.Sprintf("job-%d", round)
	f.jobs = append(f.jobs, id)
	body := `{"document":"{}","targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/pumps"]}`
	if status, answer, err := f.ask("PUT", "/jobs/"+id, body); err != nil || status != 200 {
		t.Fatal(status, answer, err)
	}
	process.Eventually(t, "the rollout of "+id, func() bool {
		_, answer, _ := f.ask("GET", "/jobs/"+id, "")
		var v struct {
			Job struct {
				Details map[string]any `json:"jobProcessDetails"`
			} `json:"job"`
		}
		json.Unmarshal([]byte(answer), &v)
		queued, _ := v.Job.Details["numberOfQueuedThings"].(float64)
		return int(queued) == workers*thingsOfWorker
	})
	for w := range state {
		for i := range thingsOfWorker {
			state[w][thing(w, i)+"/"+id] = &known{version: 1, job: id}
		}
	}
}

// work reports for one worker's executions until the server is gone.
func (f *fleet) work(t *testing.T, random *rand.Rand, mine map[string]*known, stop <-chan struct{}) {
	paths := make([]string, 0, len(mine))
	for path := range mine {
		paths = append(paths, path)
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		path := paths[random.IntN(len(paths))]
		k := mine[path]
		if k.ended || k.maybe {
			continue
		}
		status := "IN_PROGRESS"
		if random.IntN(200) == 0 {
			status = "SUCCEEDED"
		}
		name, job := filepath.Split(path)
		body := fmt.Sprintf(`{"status":%q,"expectedVersion":%d,"statusDetails":{"v":"%d"}}`, status, k.version, k.version+1)
		code, answer, err := f.ask("POST", "/things/"+name+"jobs/"+job, body)
		switch {
		case err != nil || code == 503:
			k.maybe = true // the server died with it: it may or may not be there
			return
		case code != 200:
			t.Errorf("%s at version %d: %d %s", path, k.version, code, answer)
			return
		}
		k.version++
		k.ended = status == "SUCCEEDED"
		f.acked.Add(1)
	}
}

// verify compares everything the workers know with what the server says.
func (f *fleet) verify(t *testing.T, round int, state []map[string]*known) {
	for _, mine := range state {
		for path, k := range mine {
			name, job := filepath.Split(path)
			status, answer, err := f.ask("GET", "/control/"+name+"jobs/"+job, "")
			if err != nil || status != 200 {
				t.Errorf("round %d: %s: %d %s %v", round, path, status, answer, err)
				return
			}
			var v struct {
				Execution struct {
					Status  string `json:"status"`
					Version int64  `json:"versionNumber"`
					Details struct {
						Map map[string]string `json:"detailsMap"`
					} `json:"statusDetails"`
				} `json:"execution"`
			}
			if err := json.Unmarshal([]byte(answer), &v); err != nil {
				t.Fatal(err)
			}
			got := v.Execution
			if got.Version != k.version && !(k.maybe && got.Version == k.version+1) {
				t.Errorf("round %d: %s is at version %d; %d was acknowledged", round, path, got.Version, k.version)
			}
			if got.Version > 1 && got.Details.Map["v"] != fmt.Sprint(got.Version) {
				t.Errorf("round %d: %s at version %d has the details of %s", round, path, got.Version, got.Details.Map["v"])
			}
			k.version, k.maybe, k.ended = got.Version, false, got.Status == "SUCCEEDED"
		}
	}
}

// ask makes one request. A path that begins with /control is asked of the control plane, where both planes have it.
func (f *fleet) ask(method, path, body string) (status int, answer string, err error) {
	host := ""
	if rest, ok := bytes.CutPrefix([]byte(path), []byte("/control")); ok {
		path, host = "/things"+string(rest), "iot.us-east-1.amazonaws.com"
	}
	r, err := http.NewRequest(method, f.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", err
	}
	r.Host = host
	res, err := f.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
