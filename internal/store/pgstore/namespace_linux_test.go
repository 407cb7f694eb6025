package pgstore

import (
	"os/exec"
	"syscall"
)

// newNetwork gives a process a network of its own.
func newNetwork(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
}
