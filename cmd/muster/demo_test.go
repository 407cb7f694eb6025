package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/test/process"
)

// demonstrate runs the demo with a temporary directory of its own, which must be empty afterwards.
func demonstrate(t *testing.T, until func(*exec.Cmd, *bytes.Buffer), args ...string) (code int, out string) {
	t.Helper()
	cmd := command(t, append([]string{"demo"}, args...)...)
	temp := t.TempDir()
	cmd.Env = append(process.Without(os.Environ(), "TMPDIR="), "TMPDIR="+temp)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if until != nil {
		until(cmd, &text)
	}
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
		t.Errorf("it leaves %v behind", left)
	}
	return code, text.String()
}

func TestDemo(t *testing.T) {
	t.Parallel() // it takes its time
	code, out := demonstrate(t, nil, "-n", "60")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, text := range []string{"stage 1 of 3", "stage 3 of 3", "the job is COMPLETED", "60 of 60 things are as seeded", "everything adds up", "serve", "aws iot describe-job"} {
		if !strings.Contains(out, text) {
			t.Errorf("it does not say %q", text)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("there are escape sequences in what is no terminal")
	}
	if t.Failed() {
		t.Log(out)
	}
}

// With bad firmware the job stops by itself, and even that adds up.
func TestDemoAborts(t *testing.T) {
	t.Parallel() // it takes its time
	code, out := demonstrate(t, nil, "-n", "60", "--fail", "80")
	if code != 0 || !strings.Contains(out, "the job is CANCELED") || !strings.Contains(out, "everything adds up") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// A demo that is interrupted leaves nothing behind.
func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel() // it takes its time
	code, out := demonstrate(t, func(cmd *exec.Cmd, _ *bytes.Buffer) {
		process.Eventually(t, "it has begun", func() bool {
			made, _ := filepath.Glob(filepath.Join(strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TMPDIR="), "muster-demo-*", "data"))
			return len(made) == 1
		})
		cmd.Process.Signal(syscall.SIGINT)
	}, "-n", "60")
	if code != exitNotOver || !strings.Contains(out, "interrupted") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
