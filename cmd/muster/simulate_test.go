package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/server"
)

// open is a server in this process whose clock is the real one.
func openServer(t *testing.T) (url, mqtt string) {
	t.Helper()
	s := serveHere(t, server.Config{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Grace: time.Second})
	return "http://" + s.Addrs()["http"], "mqtt://" + s.Addrs()["mqtt"]
}

func TestSimulate(t *testing.T) {
	url, mqtt := openServer(t)
	quick := []string{"simulate", "--endpoint", url, "--mqtt", mqtt, "-n", "30", "--arrive", "at-once", "--think", "0s..20ms", "--down", "0s..20ms",
		"--outcomes", "succeed=6,fail=2,crash=1,duplicate=1,stale=1", "--register", "--retries", "1"}
	code, out, errs := said("", append(quick, "--job", "one")...)
	if code != 0 || !strings.Contains(out, "30 of 30 things are as seeded") || !strings.Contains(out, "everything adds up") || !strings.Contains(errs, "made job one") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	// Over HTTP, from AWS's own calls, as JSON; the same seed gives the same.
	code, out, errs = said("", append(quick, "--job", "two", "--http", "--poll", "50ms", "--json", "-q", "--mqtt5")...)
	var r struct {
		Jobs []struct {
			JobID          string `json:"jobId"`
			Seeded, Listed map[string]int64
			AsSeeded       int
		}
		WrongCount int
	}
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || errs != "" || len(r.Jobs) != 1 || r.Jobs[0].AsSeeded != 30 || r.Jobs[0].Listed["SUCCEEDED"] != r.Jobs[0].Seeded["SUCCEEDED"] {
		t.Errorf("%d %v %s%s", code, err, out, errs)
	}
	// A job that has been is held against another seed: it does not add up.
	if code, out, errs := said("", append(quick, "--job", "one", "--seed", "2", "--for", "100ms", "--remove")...); code != 0 && code != exitNotOver || !strings.Contains(out, "that ended before") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	send(t, "POST", url+"/things/sim-000001", "{}") // it was removed, or this would be refused
}

func TestSimulateRefuses(t *testing.T) {
	names := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(names, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, says := range map[string]string{
		"-n 0":                            "--devices is 0",
		"-n 100001":                       "--devices is 100001",
		"--outcomes win=1":                `"win" is no outcome`,
		"--agents mqtt":                   `"mqtt" is no agent style`,
		"--http --agents notify --for 1s": "only MQTT brings",
		"--cert a.pem":                    "--cert and --key belong together",
		"--mqtt localhost":                "write mqtt://HOST:PORT",
		"--things " + names:               "has 0 names",
		"--job x --for 1s":                "connection refused",
	} {
		if code, _, errs := said("", append([]string{"simulate", "--endpoint", "http://127.0.0.1:1"}, strings.Fields(args)...)...); code != exitFailed || !strings.Contains(errs, says) {
			t.Errorf("%s: %d %s", args, code, errs)
		}
	}
}
