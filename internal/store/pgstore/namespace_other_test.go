//go:build !linux

package pgstore

import (
	"errors"
	"os/exec"
)

func newNetwork(cmd *exec.Cmd) { cmd.Err = errors.ErrUnsupported }
