package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
	"muster/internal/store/codec"
)

// TestCheckFinds spoils one row at a time and wants to hear of it.
func TestCheckFinds(t *testing.T) {
	// Number 1 is thing t0, job j and group g; t0's execution is over, t1's is queued.
	for _, c := range []struct {
		name  string
		spoil func(*pebble.Batch) error
		want  string
	}{
		{"a counter", func(b *pebble.Batch) error {
			return b.Set(key1(kCounts, 1), appendCounts(nil, &muster.Counts{muster.Queued: 7}, &muster.Tally{}), nil)
		}, "stored counters of job j"},
		{"counters are lost", func(b *pebble.Batch) error { return b.Delete(key1(kCounts, 1), nil) }, "stored counters of job j"},
		{"an execution is lost", func(b *pebble.Batch) error { return b.Delete(execKey(1, 1, 1), nil) }, "stored counters of job j"},
		{"an execution does not decode", func(b *pebble.Batch) error {
			return b.Set(execKey(1, 1, 1), []byte{byte(muster.Succeeded)}, nil)
		}, "does not decode"},
		{"an execution of no job", func(b *pebble.Batch) error {
			e := muster.NewExecution("", "", 1, 0, 1, 1)
			return b.Set(execKey(9, 1, 1), codec.AppendExecution(nil, &e), nil)
		}, "job number 9, which does not exist"},
		{"an execution of no thing", func(b *pebble.Batch) error {
			e := muster.NewExecution("", "", 1, 0, 1, 1)
			return b.Set(execKey(1, 99, 1), codec.AppendExecution(nil, &e), nil)
		}, "on a thing that has no name, number 99"},
		{"history is lost", func(b *pebble.Batch) error { return b.Delete(historyKey(1, 1), nil) }, "no history of it, thing t0 the first"},
		{"history of no job", func(b *pebble.Batch) error { return b.Set(historyKey(1, 9), []byte{1}, nil) }, "history of job number 9"},
		{"a thing's row is lost", func(b *pebble.Batch) error { return b.Delete(key1(kThing, 1), nil) }, "have a row"},
		{"a row of no thing", func(b *pebble.Batch) error { return b.Set(key1(kThing, 99), encodeThing(&muster.Thing{}), nil) }, "have a row"},
		{"an entry of the feed is lost", func(b *pebble.Batch) error { return b.Delete(feedKey(2), nil) }, "entry 3 where entry 2 was expected"},
		{"the newest entry of the feed is lost", func(b *pebble.Batch) error { return b.Delete(feedKey(3), nil) }, "The feed ends before entry 3"},
		{"an entry of the feed does not decode", func(b *pebble.Batch) error { return b.Set(feedKey(2), []byte{200, 1, 9, 1, 1}, nil) }, "Entry 2 of the feed does not decode"},
		{"a member of no group", func(b *pebble.Batch) error { return b.Set(key2(kMember, 1, 9), []byte{1}, nil) }, "group number 9, which does not exist"},
		{"a member that is no thing", func(b *pebble.Batch) error { return b.Set(key2(kMember, 99, 1), []byte{1}, nil) }, "a member that has no name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			s := open(t, Options{Dir: "store", FS: mem})
			must(t, s, func(tx store.Tx) error {
				tx.Put(store.Job{Job: &muster.Job{ID: "j", Status: muster.JobInProgress}})
				tx.Put(store.Group{Group: muster.Group{Name: "g"}})
				return nil
			})
			must(t, s, func(tx store.Tx) error {
				for i := range 3 {
					tx.Put(store.Thing{Thing: muster.Thing{Name: muster.ThingName(fmt.Sprint("t", i))}})
					step(tx, muster.ThingName(fmt.Sprint("t", i)), 5)
				}
				tx.Put(store.Member{Membership: muster.Membership{Group: "g", Thing: "t0", Seq: 4}})
				return nil
			})
			must(t, s, func(tx store.Tx) error {
				e, _ := tx.Execution("j", "t0", 0)
				next, err := e.Report(muster.Report{Status: muster.Succeeded, Details: &details}, 0, 9)
				tx.Keep("t0", muster.Notice{}, muster.Change{Before: e, After: next})
				return err
			})
			clean(t, s)
			b := s.db.NewBatch()
			if err := c.spoil(b); err != nil {
				t.Fatal(err)
			}
			if err := b.Commit(pebble.Sync); err != nil {
				t.Fatal(err)
			}
			heard := func(s *Store) string {
				var all []string
				if err := s.Check(context.Background(), func(p string) { all = append(all, p) }); err != nil {
					t.Fatal(err)
				}
				return strings.Join(all, "\n")
			}
			if got := heard(s); !strings.Contains(got, c.want) {
				t.Errorf("check of the open store: %q does not tell %q", got, c.want)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, err := Open(Options{Dir: "store", FS: mem})
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			if got := heard(s); !strings.Contains(got, c.want) && !strings.HasPrefix(c.name, "history is lost") {
				t.Errorf("check after opening: %q does not tell %q", got, c.want)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The feed forgets its oldest entries, and with them the names of what is gone.
func TestFeedIsBounded(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{Dir: "store", FS: mem, FeedEntries: 100}
	s := open(t, o)
	must(t, s, func(tx store.Tx) error {
		tx.Put(store.Thing{Thing: muster.Thing{Name: "gone"}})
		tx.Put(store.Job{Job: &muster.Job{ID: "gone"}})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "gone"}})
		tx.Delete(store.Job{Job: &muster.Job{ID: "gone"}})
		return nil
	})
	for i := range 1000 {
		must(t, s, func(tx store.Tx) error {
			step(tx, "t", muster.Time(i+5))
			return nil
		})
		if i == 500 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, o)
		}
	}
	if err := s.Close(); err != nil { // chores are done before
		t.Fatal(err)
	}
	s = open(t, o)
	entries, err := s.Feed(context.Background(), "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entries); n < 100 || n > 200 || entries[n-1].Seq != s.feed || entries[0].Seq != s.feed-uint64(n)+1 {
		t.Errorf("%d entries are left, from %d; the last written is %d", n, entries[0].Seq, s.feed)
	}
	if len(s.dead) != 0 || len(s.dropped) != 0 || s.names.name(1) != "" {
		t.Errorf("what is gone is remembered: %v, %v, %q", s.dead, s.dropped, s.names.name(1))
	}
	clean(t, s)
}

// A store in RAM can be backed up to disk.
func TestBackupOfMemory(t *testing.T) {
	s := open(t, Options{Memory: true})
	must(t, s, func(tx store.Tx) error {
		step(tx, "t", 1)
		return nil
	})
	dir := filepath.Join(t.TempDir(), "copy")
	if err := s.Backup(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	c := open(t, Options{Dir: dir})
	clean(t, c)
	if err := c.View(context.Background(), func(r store.Reader) error {
		if _, ok := r.Execution("j", "t", 0); !ok {
			t.Error("the execution is missing")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestSlab(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s slab
	live := map[uint32][]byte{}
	for range 50_000 {
		if len(live) > 0 && rng.IntN(100) < 48 {
			for h, v := range live {
				if !bytes.Equal(s.get(h), v) {
					t.Fatalf("handle %x holds something else", h)
				}
				s.free(h)
				delete(live, h)
				break
			}
			continue
		}
		v := make([]byte, rng.IntN(1+1<<rng.IntN(15)))
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		h := s.put(v)
		if _, taken := live[h]; taken || h == 0 {
			t.Fatalf("handle %x was given twice", h)
		}
		live[h] = v
	}
	c := s.clone()
	for h, v := range live {
		s.free(h)
		if !bytes.Equal(c.get(h), v) {
			t.Fatalf("the copy of handle %x changed", h)
		}
	}
	if limit := int64(len(slotSizes) * chunkBytes); s.used > limit {
		t.Errorf("%d bytes are in use when everything is free; at most %d should be", s.used, limit)
	}
}

func TestNames(t *testing.T) {
	n := newNames()
	const count = 60_000
	name := func(i int) string { return fmt.Sprintf("thing-%d-%s", i, strings.Repeat("x", i%100)) }
	for i := range count {
		n.add(uint32(i), name(i))
		n.index(uint32(i))
	}
	kept := n.name(7)
	for i := range count {
		if i%3 != 0 {
			n.unindex(uint32(i))
			n.drop(uint32(i))
		}
	}
	for i := range count {
		tid, ok := n.find(name(i))
		if want := i%3 == 0; ok != want || ok && (tid != uint32(i) || n.name(tid) != name(i)) {
			t.Fatalf("%s: got %d, %t", name(i), tid, ok)
		}
	}
	if kept != name(7) {
		t.Errorf("a name that was handed out became %q", kept)
	}
	if n.total > 2*count/3*70 {
		t.Errorf("%d bytes of names are kept", n.total)
	}
}

func TestNumbersSortAsTheirKeys(t *testing.T) {
	ns := []int64{0, 1, 2, 239, 240, 241, 255, 256, 65535, 65536, 1 << 24, 1<<32 - 1, 1 << 40, 1 << 62}
	var last []byte
	for _, n := range ns {
		k := appendNumber(nil, n)
		if bytes.Compare(k, last) <= 0 {
			t.Errorf("the key of %d does not follow", n)
		}
		if got, rest, ok := cutNumber(k); got != n || len(rest) > 0 || !ok {
			t.Errorf("%d comes back as %d", n, got)
		}
		last = k
	}
}

// A record that is damaged may come back as something else, but never brings the program down.
func FuzzRecord(f *testing.F) {
	e := muster.Execution{Status: muster.InProgress, Version: 300, Seq: 1 << 40, QueuedAt: 1700000000000, StartedAt: 1700000000100, UpdatedAt: 1700000000200,
		Attempt: 3, InProgressTimeout: 1700000060000, StepTimeout: 5, Details: details, ForceCanceled: true}
	f.Add(codec.AppendExecution(nil, &e))
	f.Fuzz(func(t *testing.T, v []byte) {
		var e, again muster.Execution
		if !codec.DecodeExecution(v, &e) {
			return
		}
		if codec.DecodeExecution(codec.AppendExecution(nil, &e), &again); again != e {
			t.Errorf("%+v comes back as %+v", e, again)
		}
	})
}

// Ids that are no UUIDs in the usual form are kept as they are.
func TestIdOfAnySort(t *testing.T) {
	for _, id := range []string{"", "x", "7f9c2ba4-e88f-427d-a5b1-0d4f3a2e1c00", "7F9C2BA4-e88f-427d-a5b1-0d4f3a2e1c00", "7f9c2ba4-e88f-427d-a5b1_0d4f3a2e1c00", strings.Repeat("a", 36)} {
		d := codec.Decoder{B: appendID(nil, id)}
		if got := decodeID(&d); got != id || d.Bad {
			t.Errorf("%q comes back as %q", id, got)
		}
	}
}
