package pebblestore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
)

// A log grows by steps, so that most syncs find the file as large as it was.
func TestLogsGrowBySteps(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("db", 0o755); err != nil {
		t.Fatal(err)
	}
	l := newLogs(mem, "db")
	write := func(f vfs.File, n int) int64 {
		t.Helper()
		if _, err := f.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	f, err := l.Create("db/000001.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	first := write(f, 100)
	if first != 100+logStep {
		t.Fatalf("a log of 100 bytes has room for %d", first)
	}
	if got := write(f, logStep); got != first {
		t.Fatalf("a log of %d bytes that fit grew to %d", first, got)
	}
	if got := write(f, 1); got != first+1+logStep {
		t.Fatalf("a full log grew from %d to %d", first, got)
	}
}

// The largest logs that are done with are written over by those that begin, also after a restart.
func TestLogsAreWrittenOver(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("db", 0o755); err != nil {
		t.Fatal(err)
	}
	l := newLogs(mem, "db")
	make1 := func(number, size int) {
		t.Helper()
		f, err := l.Create(fmt.Sprintf("db/%06d.log", number), vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, size := range []int{4e5, 2e5, 5e5, 3e5, 1e5, 6e5, 7e5} {
		make1(n, size)
	}
	for n := range 7 {
		if err := l.Remove(fmt.Sprintf("db/%06d.log", n)); err != nil {
			t.Fatal(err)
		}
	}
	names := func() []string {
		t.Helper()
		names, err := mem.List("db")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	if got, want := names(), []string{"000000.spare", "000002.spare", "000003.spare", "000005.spare", "000006.spare"}; !slices.Equal(got, want) {
		t.Fatalf("kept are %v, not %v", got, want)
	}
	l = newLogs(mem, "db")
	make1(7, 10)
	if got, want := names(), []string{"000000.spare", "000002.spare", "000003.spare", "000005.spare", "000007.log"}; !slices.Equal(got, want) {
		t.Fatalf("there are %v, not %v", got, want)
	}
	if info, err := mem.Stat("db/000007.log"); err != nil || info.Size() != 7e5+logStep {
		t.Fatalf("the log that was begun in place of another has another size: %v, %v", info, err)
	}
}

// What a log is followed by is not read as part of it, whichever way the store ended.
func TestLogsOverOthersAreReplayed(t *testing.T) {
	mem := vfs.NewCrashableMem()
	have, spared := 0, 0
	for life := range 4 {
		s := open(t, Options{Dir: "db", FS: mem, memTable: 32 << 10})
		if got := int(s.Stats().Things); got != have {
			t.Fatalf("life %d has %d things, not %d", life, got, have)
		}
		for range 150 * (4 - life) { // ever less, so that much is left of the logs before
			must(t, s, func(tx store.Tx) error {
				tx.Put(store.Thing{Thing: muster.Thing{Name: benchName(have), ID: "id", Version: 1}})
				return nil
			})
			have++
			if have%20 == 0 && anySpare(t, mem) {
				spared++
			}
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		if err := s.Close(); err != nil { // so that pebble has removed what it would
			t.Fatal(err)
		}
		if anySpare(t, mem) {
			spared++
		}
		if life != 1 { // the third life begins with the spares of one that was ended in order
			mem = crashed
		}
	}
	if spared == 0 {
		t.Fatal("no log was ever spare")
	}
}

func anySpare(t *testing.T, mem *vfs.MemFS) bool {
	t.Helper()
	names, err := mem.List("db")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, spareSuffix) })
}
