package sdk_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"muster/test/process"
)

// readme is the part of the README between two headings.
func readme(t *testing.T, from, to string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), from)
	part, _, ends := strings.Cut(rest, to)
	if !found || !ends {
		t.Fatalf("the README has nothing between %q and %q", from, to)
	}
	return part
}

// fenced is what the blocks of a language hold.
func fenced(text, language string) string {
	var all strings.Builder
	for {
		_, rest, found := strings.Cut(text, "```"+language+"\n")
		if !found {
			return all.String()
		}
		block, after, _ := strings.Cut(rest, "```")
		all.WriteString(block)
		text = after
	}
}

// TestREADME does what the README says, word for word, but for the address of the server.
func TestREADME(t *testing.T) {
	t.Parallel()
	url := process.Start(t)
	run := func(t *testing.T, stdin, dir, program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env, cmd.Dir = clientEnv(t, admin), dir
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(stdin, "http://localhost:8080", url))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, stdin, out)
		}
		return string(out)
	}
	t.Run("CLI and curl", func(t *testing.T) {
		t.Parallel()
		need(t, "curl")
		script := "set -e\nawsl() { \"" + need(t, "aws") + "\" --endpoint-url " + url + " \"$@\"; }\n"
		for line := range strings.Lines(strings.ReplaceAll(fenced(readme(t, "## The first job in five minutes", "### boto3"), "console"), "\\\n", " ")) {
			command, ok := strings.CutPrefix(line, "$ ")
			if ok && !strings.HasPrefix(command, "alias ") {
				script += command
			}
		}
		out := run(t, script, "", "sh", "-s")
		for _, want := range []string{`"jobId": "fw-42"`, `{"success":true,"data":{"id":"fw-42","created_at":"`, `"numberOfSucceededThings": 1`} {
			if !strings.Contains(out, want) {
				t.Errorf("%s is not in the output:\n%s", want, out)
			}
		}
	})
	succeeded := func(t *testing.T, job string) {
		t.Helper()
		told := newSDK(t, url, admin).describe(t, job)
		same(t, job+": succeeded", val(told.JobProcessDetails.NumberOfSucceededThings), 1)
	}
	t.Run("boto3", func(t *testing.T) {
		t.Parallel()
		run(t, fenced(readme(t, "### boto3", "### JavaScript"), "python"), "", need(t, "python"), "-")
		succeeded(t, "restart")
	})
	t.Run("JavaScript", func(t *testing.T) {
		t.Parallel()
		run(t, fenced(readme(t, "### JavaScript", "### Go"), "js"), "js", need(t, "node"), "--input-type=module", "-")
		succeeded(t, "restart-3")
	})
}
