package line

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// inNamespace is set in the process that has a network of its own.
const inNamespace = "MUSTER_TEST_IN_NAMESPACE"

// Own runs the test once more, in a process with a network of its own, in which it may do as it likes: there Own
// returns true. Where no such network can be had the test is skipped. It needs root, and the program ip of iproute2.
func Own(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		IP(t, "link set lo up")
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		const lacking = "the program ip is not installed (apt-get install iproute2)"
		if os.Getenv("MUSTER_REQUIRE_CLIENTS") != "" && os.Geteuid() == 0 {
			t.Fatal(lacking)
		}
		t.Skip(lacking)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	separate(cmd)
	switch err := cmd.Run(); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, errors.ErrUnsupported):
		t.Skip("no network namespace can be had here: ", err)
	case err != nil:
		t.Error(err)
	}
	return false
}

// IP runs the program ip, in a network of the test's own.
func IP(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}
