package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// said runs a command in this process.
func said(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, world{strings.NewReader(stdin), &out, &err})
	return code, out.String(), err.String()
}

func TestMistakesAreOneSentence(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args string
		says string
	}{
		{"serve --http 0 --store postgres://127.0.0.1:1/db", "does not answer"},
		{"serve --http 0 --store postgres://127.0.0.1:x/db", "cannot be read"},
		{"serve --http 0.0.0.0:0 --store memory", "--insecure"},
		{"serve --http= --mqtt=", "nothing to listen on"},
		{"serve --https 0", "--tls-cert"},
		{"serve --auth sigv4", "--credentials"},
		{"serve --credentials keys.json", "--auth sigv4"},
		{"serve --auth sigv4 --credentials " + nowhere, "credentials file"},
		{"serve --auth basic", "none"},
		{"serve --http here --store memory", "port must be a number"},
		{"serve --client-ca x --mqtt 0 --http 0", "--mqtts"},
		{"serve --client-deny x", "--client-ca"},
		{"serve --max-rollout-rate 0", "--max-rollout-rate"},
		{"serve --max-active-jobs 0", "--max-active-jobs"},
		{"serve --max-concurrent-jobs -1", "--max-concurrent-jobs"},
		{"serve --mqtts 0", "--tls-cert"},
		{"serve --http= --mqtt 0.0.0.0:0 --store memory", "--mqtts"},
		{"serve --mqtt external", "--mqtt-broker"},
		{"serve --mqtt-broker mqtt://localhost", "--mqtt external"},
		{"serve --mqtt external --mqtt-broker mqtt://localhost --mqtts 0 --tls-cert x --tls-key y", "--mqtts listens"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker tcp://localhost", "mqtts://HOST:PORT"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtt://u:p@localhost", "--mqtt-username"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtt://localhost/x", "WebSocket"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtt://localhost --mqtt-share maybe", "auto"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtt://localhost --mqtt-group a/b", "none of /"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtts://localhost --mqtt-cert x", "its key"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtts://localhost --mqtt-ca " + nowhere, "authorities of the broker"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtts://localhost --mqtt-password-file " + nowhere, "password cannot be read"},
		{"serve --http 0 --store memory --mqtt external --mqtt-broker mqtts://localhost --mqtt-password-file x --mqtt-password y", "twice"},
		{"ready --endpoint http://127.0.0.1:1", "does not answer"},
		{"cert device", "<thing>"},
		{"cert device a/b", "not a thing's name"},
		{"cert device server", "another name"},
		{"serve --client-nothing x", "unknown flag"},
		{"check " + nowhere, "there is no store"},
		{"backup " + nowhere + " " + nowhere + "2", "there is no store"},
		{"backup ftp://x " + nowhere, "http://HOST:PORT"},
		{"import " + nowhere, "no such file"},
		{"import - --endpoint nowhere", "http://HOST:PORT"},
		{"nothing", "nothing"},
	} {
		code, out, text := said("", strings.Fields(c.args)...)
		first, rest, _ := strings.Cut(text, "\n")
		if code != exitFailed || out != "" || !strings.HasPrefix(first, "muster: ") || !strings.Contains(first, c.says) ||
			rest != "" && !strings.HasPrefix(rest, "muster --help") {
			t.Errorf("muster %s: %d %q", c.args, code, text)
		}
	}
}

func TestHelp(t *testing.T) {
	for args, says := range map[string]string{
		"":               "Commands:",
		"--help":         "Commands:",
		"serve --help":   "$MUSTER_HTTP_DATA",
		"import --help":  `{"membership":{"thingName":"lamp-1","thingGroupName":"hall"}}`,
		"check --help":   "Exit code 0",
		"backup --help":  "a directory that does not exist",
		"version --help": "version",
	} {
		code, out, errs := said("", strings.Fields(args)...)
		if code != 0 || errs != "" || !strings.Contains(strings.Join(strings.Fields(out), " "), says) {
			t.Errorf("muster %s: %d %s%s", args, code, out, errs)
		}
	}
}

// Every flag of serve has a variable of its name.
func TestServeVariables(t *testing.T) {
	_, help, _ := said("", "serve", "--help")
	help = strings.Join(strings.Fields(help), " ")
	flags := regexp.MustCompile(`--([a-z0-9-]+)(?:=\S+)? [A-Z]|--([a-z0-9-]+)=\S+ (?:none|pebble|text|debug)`).FindAllStringSubmatch(help, -1)
	seen := 0
	for _, m := range flags {
		name := m[1] + m[2]
		if name == "help" {
			continue
		}
		seen++
		if variable := "$MUSTER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")); !strings.Contains(help, variable) {
			t.Errorf("--%s has no %s", name, variable)
		}
	}
	if seen < 20 {
		t.Errorf("only %d flags were found", seen)
	}
	t.Setenv("MUSTER_HTTP", "0.0.0.0:0")
	t.Setenv("MUSTER_STORE", "memory")
	if code, _, text := said("", "serve"); code != exitFailed || !strings.Contains(text, "0.0.0.0:0 can be reached") {
		t.Errorf("MUSTER_HTTP counts for nothing: %d %s", code, text)
	}
}

func TestImportOffline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lines := `{"thing":{"thingName":"a"}}
{"thing":{"thingName":"b b"}}
`
	code, out, text := said(lines, "import", "-", "--store", dir, "--atomic")
	if code != exitProblems || !strings.HasPrefix(out, "2 lines: made 0 things") || !strings.HasPrefix(text, "line 2: ") {
		t.Errorf("atomic: %d %s%s", code, out, text)
	}
	code, out, text = said(lines, "import", "-", "--store", dir)
	if want := "2 lines: made 1 thing, 0 thing types, 0 thing groups and 0 memberships; 0 unchanged, 1 refused\n"; code != exitProblems || out != want {
		t.Errorf("%d %s%s, want %s", code, out, text, want)
	}
	copied := dir + "-copy"
	if code, out, text := said("", "backup", "pebble:"+dir, copied); code != 0 || out != "backup written to "+copied+"\n" {
		t.Errorf("backup: %d %s%s", code, out, text)
	}
	if code, out, text := said("", "check", copied); code != 0 || out != "" || !strings.Contains(text, "no problems") {
		t.Errorf("check: %d %s%s", code, out, text)
	}
}

func TestAddrFileIsWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "addrs.json")
	for _, addr := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		if err := writeAddrs(file, map[string]string{"http": addr}); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != `{"http":"`+addr+`"}`+"\n" {
			t.Errorf("%s, %v", text, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if err := writeAddrs(filepath.Join(dir, "none", "addrs.json"), nil); err == nil {
		t.Error("a file in no directory was written")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := said("", "version"); code != 0 || !strings.HasPrefix(out, "muster ") || !strings.Contains(out, "go1.") {
		t.Errorf("%d %s", code, out)
	}
}
