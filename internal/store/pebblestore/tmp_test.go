package pebblestore

import (
	"os"
	"testing"
	"time"
	"runtime/pprof"
)

func TestTmpReopen(t *testing.T) {
	dir := os.Getenv("TMPSTORE")
	if dir == "" {
		return
	}
	start := time.Now()
	f, _ := os.Create("/tmp/open.prof")
	pprof.StartCPUProfile(f)
	s, err := Open(Options{Dir: dir})
	pprof.StopCPUProfile()
	if err != nil {
		t.Fatal(err)
	}
	t.Log("open", time.Since(start), "things", s.Stats())
	for k, j := range s.jobs {
		t.Log(k, j.sealed, j.job.Status)
	}
	t.Log(s.db.Metrics())
	s.Close()
}
func TestTmpMake(t *testing.T) {
	dir := os.Getenv("TMPMAKE")
	if dir == "" {
		return
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	register(t, s, benchThings)
	rollOut(t, s, benchThings)
	os.Exit(0)
}
