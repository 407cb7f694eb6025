package pebblestore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
)

// TestCrash takes the power away at random moments: what the disk may then hold must have everything
// that was acknowledged, and nothing by halves.
func TestCrash(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			mem := vfs.NewCrashableMem()
			s := open(t, Options{Dir: "store", FS: mem, memTable: 64 << 10, FeedEntries: 300})
			stop := int64(rng.IntN(400))
			var mu sync.Mutex
			acked := map[muster.ThingName]int64{}
			var crashed vfs.FS
			var wanted map[muster.ThingName]int64
			var wg sync.WaitGroup
			total := int64(0)
			for c := range 6 {
				wg.Go(func() {
					name := muster.ThingName(fmt.Sprint("t", c))
					for i := range 100 {
						var version int64
						if err := s.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
							version = step(tx, name, muster.Time(i+10))
							twin(tx, name, version)
							return nil
						}); err != nil {
							t.Errorf("update: %v", err)
							return
						}
						mu.Lock()
						acked[name] = version
						if total++; total == stop {
							wanted = map[muster.ThingName]int64{}
							for n, v := range acked {
								wanted[n] = v
							}
							crashed = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if crashed == nil {
				crashed, wanted = mem.CrashClone(vfs.CrashCloneCfg{}), acked
			}
			twins(t, Options{Dir: "store", FS: crashed})
			intact(t, Options{Dir: "store", FS: crashed}, wanted)
		})
	}
}

// twin writes the version a second time, as another kind of row, so that half an update would show.
func twin(tx store.Tx, name muster.ThingName, version int64) {
	tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefThing, Name: string(name)}, Tags: muster.MakePairs("v", fmt.Sprint(version))})
}

func twins(t *testing.T, o Options) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer s.Close()
	if err := s.View(context.Background(), func(r store.Reader) error {
		for c := range 64 {
			name := fmt.Sprint("t", c)
			e, ok := r.Execution("j", muster.ThingName(name), 0)
			v, _ := r.Tags(muster.Ref{Kind: muster.RefThing, Name: name}).Get("v")
			if ok && v != fmt.Sprint(e.Version) || !ok && v != "" {
				t.Errorf("%s has version %d, but %q in its tags", name, e.Version, v)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

const childDir = "MUSTER_TEST_CHILD_DIR"

// TestKill kills a process that has a store, again and again, and looks what the next one finds.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		beKilled(t, dir)
		return
	}
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(11, 13))
	acked := map[muster.ThingName]int64{}
	for round := range rounds {
		n := killOne(t, dir, 1+rng.IntN(3000), acked)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
		if n == 0 {
			t.Fatalf("round %d: the child acknowledged nothing", round)
		}
		twins(t, Options{Dir: dir})
		intact(t, Options{Dir: dir}, acked)
		if t.Failed() {
			t.Fatalf("in round %d, after %d updates", round, n)
		}
	}
}

// killOne lets a child work until it has reported about so many updates.
func killOne(t *testing.T, dir string, about int, acked map[muster.ThingName]int64) (n int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewReader(out); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			if err != io.EOF {
				t.Errorf("reading from the child: %v", err)
			}
			break
		}
		var name string
		var version int64
		if _, err := fmt.Sscanf(line, "acked %s %d", &name, &version); err != nil {
			t.Errorf("the child said %s", strings.TrimSpace(line))
			continue
		}
		acked[muster.ThingName(name)] = max(version, acked[muster.ThingName(name)])
		if n++; n == about {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	return n
}

// beKilled is the child. Each line is one write, so that none is seen by halves.
func beKilled(t *testing.T, dir string) {
	s, err := Open(Options{Dir: dir, memTable: 1 << 20, FeedEntries: 5000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			name := muster.ThingName(fmt.Sprint("t", c))
			for i := 0; ; i++ {
				var version int64
				if err := s.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
					version = step(tx, name, muster.Time(i+10))
					twin(tx, name, version)
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
				if _, err := fmt.Fprintf(os.Stdout, "acked %s %d\n", name, version); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNewerFormatIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	s := open(t, Options{Dir: "store", FS: mem})
	if err := s.db.Set([]byte{kFormat}, []byte("2"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: "store", FS: mem})
	if err == nil || !strings.Contains(err.Error(), "format 2, written by a newer version") {
		t.Fatalf("open: %v", err)
	}
	// It was not touched: with its own format it opens again.
	db, err := pebble.Open("store", &pebble.Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte{kFormat}, []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: "store", FS: mem})
}

const holderDir = "MUSTER_TEST_HOLDER_DIR"

func TestSecondOpenerIsRefused(t *testing.T) {
	if dir := os.Getenv(holderDir); dir != "" {
		if _, err := Open(Options{Dir: dir}); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("opened")
		return
	}
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	want := "The store in " + dir + " is in use by another process"
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("in this process: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondOpenerIsRefused$")
	cmd.Env = append(os.Environ(), holderDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("in another process: %v, %s", err, out)
	}
}
