package broker

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// testBinary is this test binary, to be run again with other arguments.
func testBinary(t testing.TB, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(self, args...)
}

// heapOf is what lives on the heap, keep included.
func heapOf(keep any) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(keep)
	return m.HeapAlloc
}
