//go:build !linux

package line

import (
	"errors"
	"os/exec"
)

func separate(cmd *exec.Cmd) { cmd.Err = errors.ErrUnsupported }
