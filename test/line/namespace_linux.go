package line

import (
	"os/exec"
	"syscall"
)

// separate gives a process that is to be started a network of its own.
func separate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
}
