package pgstore

import "syscall"

// unacknowledged has the kernel give up what nobody has acknowledged for deadTime; by itself it waits for a quarter of an hour.
func unacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	const tcpUserTimeout = 18 // not in package syscall
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(deadTime.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
