package sdk_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"muster/test/process"
)

// What deploy/ has for Prometheus and Grafana, with a real Prometheus: it scrapes a running server, loads and evaluates the
// rules, and has every metric that rules and dashboard speak of.
func TestPrometheus(t *testing.T) {
	prometheus, promtool := need(t, "prometheus"), need(t, "promtool")
	const rules, dashboard = "../../deploy/prometheus/muster.rules.yml", "../../deploy/grafana/muster.json"
	for _, args := range [][]string{{"check", "rules", rules}, {"check", "config", "../../deploy/prometheus/prometheus.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Fatalf("promtool %v: %v\n%s", args, err, out)
		}
	}

	server := process.Launch(t, "--store", "memory", "--metrics", "127.0.0.1:0")
	defer server.Stop(t)
	for _, act := range [][3]string{ // something to count
		{"POST", "/things/lamp", "{}"},
		{"PUT", "/jobs/fw", `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}"}`},
		{"GET", "/things/lamp/jobs", ""},
	} {
		request(t, act[0], server.URL+act[1], act[2], nil)
	}
	process.Eventually(t, "the job is finished", func() bool {
		var next struct{ Execution struct{ JobID string } }
		request(t, "PUT", server.URL+"/things/lamp/jobs/$next", "{}", &next)
		if next.Execution.JobID != "" {
			request(t, "POST", server.URL+"/things/lamp/jobs/fw", `{"status":"SUCCEEDED"}`, nil)
		}
		return next.Execution.JobID != ""
	})

	at := startPrometheus(t, prometheus, server.Addrs["metrics"], rules)
	var targets struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	process.Eventually(t, "the server is scraped", func() bool {
		ask(t, at+"/api/v1/targets", &targets)
		return len(targets.ActiveTargets) == 1 && targets.ActiveTargets[0].Health == "up"
	})

	// Every rule was evaluated, and without a fault.
	var groups struct {
		Groups []struct {
			Name  string
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	process.Eventually(t, "all rules are evaluated", func() bool {
		ask(t, at+"/api/v1/rules", &groups)
		n := 0
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				if n++; r.Health == "unknown" {
					return false
				}
			}
		}
		return n > 0
	})
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" || r.State == "firing" {
				t.Errorf("%s %s: %s, %s %s", g.Name, r.Name, r.Health, r.State, r.LastError)
			}
		}
	}

	// Every name in rules and dashboard is one that was scraped or recorded.
	var names []string
	process.Eventually(t, "what the rules record is there", func() bool {
		ask(t, at+"/api/v1/label/__name__/values", &names)
		return slices.Contains(names, "muster:requests:rate5m")
	})
	spoken := regexp.MustCompile(`\b(muster|process|go)_[a-z0-9_]+|\bmuster:[a-z0-9_:]+`)
	for _, file := range []string{rules, dashboard} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := spoken.FindAllString(string(text), -1)
		if len(found) < 10 {
			t.Errorf("%s speaks of %d metrics only", file, len(found))
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(found))) {
			if strings.HasPrefix(name, "muster:") {
				continue // recorded by a rule, whose health is looked at above
			}
			if !slices.Contains(names, name) && !slices.Contains(names, name+"_bucket") {
				t.Errorf("%s speaks of %s, which there is not", file, name)
			}
		}
	}

	// Every question of the dashboard is one that Prometheus understands.
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(dashboard)
	if err == nil {
		err = json.Unmarshal(text, &board)
	}
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			asked++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$job", "muster").Replace(target.Expr)
			var result struct{ ResultType string }
			ask(t, at+"/api/v1/query?query="+url.QueryEscape(expr), &result)
			if result.ResultType != "vector" {
				t.Errorf("%s: %s is %q", p.Title, expr, result.ResultType)
			}
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard asks %d questions only", asked)
	}
}

// startPrometheus runs Prometheus over one target and a file of rules, and returns where it is once it answers.
func startPrometheus(t *testing.T, path, target, rules string) string {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [%q]\n"+
		"scrape_configs:\n- {job_name: muster, static_configs: [{targets: [%q]}]}\n", rules, target)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// Prometheus does not say which port it got, so one is found for it.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	cmd := exec.Command(path, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", at)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("what Prometheus said:\n%s", said.String())
		}
	})
	process.Eventually(t, "Prometheus is ready", func() bool {
		response, err := http.Get("http://" + at + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return "http://" + at
}

// ask reads the data of an answer of Prometheus.
func ask(t *testing.T, at string, into any) {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	request(t, "GET", at, "", &answer)
	if answer.Status != "success" {
		t.Fatalf("%s: %s", at, answer.Error)
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
}

// request sends a request that must succeed.
func request(t *testing.T, method, at, body string, into any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s %v", method, at, response.Status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s %s: %v", method, at, err)
		}
	}
}
