//go:build !linux

package pgstore

import "syscall"

func unacknowledged(string, string, syscall.RawConn) error { return nil }
