package sdk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muster/test/process"
)

// A key is one entry of the server's credentials file.
type key struct {
	ID       string   `json:"accessKeyId"`
	Secret   string   `json:"secretAccessKey"`
	Planes   []string `json:"planes,omitempty"`
	ReadOnly bool     `json:"readOnly,omitempty"`
}

var (
	admin    = key{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	device   = key{ID: "AKIAI44QH8DHBEXAMPLE", Secret: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY", Planes: []string{"data"}}
	reader   = key{ID: "AKIAREADERONLYEXAMPLE", Secret: "dGhpcyBvbmUgbWF5IG9ubHkgbG9va0VYQU1QTEVLRVk", ReadOnly: true}
	stranger = key{ID: "AKIANOBODYKNOWSEXAMPLE", Secret: "bm9ib2R5IGtub3dzIHRoaXMga2V5RVhBTVBMRUtFWQ"}
	impostor = key{ID: admin.ID, Secret: stranger.Secret}
)

// signed gives the flags of a server that wants signatures and keeps its state on disk: as in production.
func signed(t *testing.T) []string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": []key{admin, device, reader}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--auth", "sigv4", "--credentials", file, "--store", "pebble:" + filepath.Join(t.TempDir(), "data")}
}

// inBothModes runs a journey against a laptop's server (open, in memory) and a production one (signed, on disk).
func inBothModes(t *testing.T, journey func(t *testing.T, url string)) {
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		journey(t, process.Start(t))
	})
	t.Run("signed", func(t *testing.T) {
		t.Parallel()
		journey(t, process.Start(t, signed(t)...))
	})
}

// clientEnv is the environment of a client process: the given key, no settings of the person who runs the tests,
// no proxy, no retries that would hide an error.
func clientEnv(t *testing.T, k key) []string {
	t.Helper()
	home := t.TempDir()
	env := process.Without(os.Environ(), "AWS_", "http_proxy=", "HTTP_PROXY=", "all_proxy=", "ALL_PROXY=", "HOME=")
	return append(env,
		"AWS_ACCESS_KEY_ID="+k.ID,
		"AWS_SECRET_ACCESS_KEY="+k.Secret,
		"AWS_DEFAULT_REGION=us-east-1",
		"AWS_REGION=us-east-1",
		"AWS_CONFIG_FILE="+filepath.Join(home, "config"),
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"),
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_MAX_ATTEMPTS=1",
		"AWS_PAGER=",
		"HOME="+home,
		"PYTHONUSERBASE="+filepath.Join(os.Getenv("HOME"), ".local"), // clients installed with pip --user
		"PYTHONDONTWRITEBYTECODE=1",
	)
}

// seekers find each client and say what is missing; need tells how to get it.
var seekers = map[string]struct {
	find    func() (string, error)
	install string
}{
	"aws":           {func() (string, error) { return exec.LookPath("aws") }, "apt-get install awscli, or pip install awscli"},
	"curl":          {func() (string, error) { return exec.LookPath("curl") }, "apt-get install curl"},
	"mosquitto_sub": {func() (string, error) { return exec.LookPath("mosquitto_sub") }, "apt-get install mosquitto-clients"},
	"mosquitto":     {findMosquitto, "apt-get install mosquitto"},
	"mosquitto_pub": {func() (string, error) { return exec.LookPath("mosquitto_pub") }, "apt-get install mosquitto-clients"},
	"mosquitto_rr":  {func() (string, error) { return exec.LookPath("mosquitto_rr") }, "apt-get install mosquitto-clients"},
	"device SDK":    {findDeviceSDK, "install Node.js 20 and npm (apt-get install nodejs npm), then `npm ci` in test/sdk/js; `make test` does the latter"},
	"prometheus":    {func() (string, error) { return exec.LookPath("prometheus") }, "apt-get install --no-install-recommends prometheus"},
	"promtool":      {func() (string, error) { return exec.LookPath("promtool") }, "apt-get install --no-install-recommends prometheus"},
	"python":        {findPython, "apt-get install python3-boto3, or pip install boto3"},
	"node":          {findNode, "install Node.js 20 and npm (apt-get install nodejs npm), then `npm ci` in test/sdk/js; `make test` does the latter"},
}

// findPython finds a Python that has boto3. The first one on the path may be a private one without it.
func findPython() (string, error) {
	var tried []string
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// A bare "import boto3" would be content with the folder of that name here.
		if exec.Command(path, "-c", "from boto3 import client").Run() == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("no python3 with boto3 (looked at: %s)", strings.Join(tried, " "))
}

// findMosquitto finds the broker, which is where daemons are.
func findMosquitto() (string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		return exec.LookPath("/usr/sbin/mosquitto")
	}
	return path, nil
}

func findNode() (string, error) {
	if _, err := os.Stat("js/node_modules/@aws-sdk/client-iot-jobs-data-plane/package.json"); err != nil {
		return "", errors.New("test/sdk/js has no node_modules")
	}
	return exec.LookPath("node")
}

// need returns the path of a client, or skips the test loudly. It is the only place where a test here may be skipped.
func need(t *testing.T, client string) string {
	t.Helper()
	s := seekers[client]
	path, err := s.find()
	if err == nil {
		return path
	}
	message := fmt.Sprintf("%s IS MISSING, so this journey is not tested: %v\n\tto install it: %s", client, err, s.install)
	if os.Getenv("MUSTER_REQUIRE_CLIENTS") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// runScripts runs each script of a folder with its interpreter, one subtest each, and shows what it said if it failed.
func runScripts(t *testing.T, interpreter, pattern, url string) {
	t.Helper()
	scripts, err := filepath.Glob(pattern)
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts at %s: %v", pattern, err)
	}
	for _, script := range scripts {
		name := strings.TrimPrefix(filepath.Base(script), "journey_")
		t.Run(strings.TrimSuffix(name, filepath.Ext(name)), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), interpreter, filepath.Base(script))
			cmd.Dir = filepath.Dir(script)
			cmd.Env = append(clientEnv(t, admin), "MUSTER_URL="+url)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
