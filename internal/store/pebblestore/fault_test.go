package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"muster"
	"muster/internal/store"
)

// breaks fails every change of the disk from the n-th on, once it is armed.
type breaks struct {
	err   error
	after int64
	only  func(errorfs.Op) bool
	armed atomic.Bool
	ops   atomic.Int64
}

func (b *breaks) String() string { return "breaks" }

func (b *breaks) MaybeError(op errorfs.Op) error {
	if !b.armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || b.only != nil && !b.only(op) {
		return nil
	}
	if b.ops.Add(1) > b.after {
		return b.err
	}
	return nil
}

// load works on a store until an update fails, and returns what was acknowledged: the version of each
// execution.
func workUntilFailure(t *testing.T, s *Store, callers int) map[muster.ThingName]int64 {
	t.Helper()
	acked := make([]int64, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			name := muster.ThingName(fmt.Sprint("t", c))
			for i := range 100_000 {
				var version int64
				err := s.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
					version = step(tx, name, muster.Time(i+10))
					return nil
				})
				if err != nil {
					var e *muster.Error
					if !errors.As(err, &e) || e.Kind != muster.Unavailable {
						t.Errorf("update: got %v, want an error of kind Unavailable", err)
					}
					return
				}
				acked[c] = version
			}
		})
	}
	wg.Wait()
	out := map[muster.ThingName]int64{}
	for c, v := range acked {
		out[muster.ThingName(fmt.Sprint("t", c))] = v
	}
	return out
}

// step queues a thing's execution of job j, or gives it another version.
func step(tx store.Tx, name muster.ThingName, now muster.Time) int64 {
	if _, ok := tx.Job("j"); !ok {
		tx.Put(store.Job{Job: &muster.Job{ID: "j", Status: muster.JobInProgress}})
	}
	e, ok := tx.Execution("j", name, 0)
	if !ok {
		e = muster.NewExecution("j", name, 1, 0, tx.NextSeq(), now)
		tx.Keep(name, muster.Notice{}, muster.Change{After: e})
		return e.Version
	}
	next := e
	next.Status, next.Version, next.UpdatedAt = muster.InProgress, e.Version+1, now
	next.Details = muster.MakePairs("v", strings.Repeat(fmt.Sprint(next.Version), 50))
	tx.Keep(name, muster.Notice{}, muster.Change{Before: e, After: next})
	return next.Version
}

// intact opens a store again and looks for what was acknowledged.
func intact(t *testing.T, o Options, acked map[muster.ThingName]int64) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	clean(t, s)
	if err := s.View(context.Background(), func(r store.Reader) error {
		for name, version := range acked {
			e, _ := r.Execution("j", name, 0)
			if e.Version < version {
				t.Errorf("%s has version %d, but %d was acknowledged", name, e.Version, version)
			}
			if v, _ := e.Details.Get("v"); e.Version > 1 && v != strings.Repeat(fmt.Sprint(e.Version), 50) {
				t.Errorf("%s has version %d with the details %q", name, e.Version, v)
			}
		}
		return nil
	}); err != nil {
		t.Errorf("view: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// clean runs Check and expects nothing.
func clean(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Check(context.Background(), func(p string) { t.Errorf("check: %s", p) }); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestFaults(t *testing.T) {
	is := func(suffix string, kinds ...errorfs.OpKind) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool {
			if !strings.HasSuffix(op.Path, suffix) {
				return false
			}
			for _, k := range kinds {
				if op.Kind == k {
					return true
				}
			}
			return len(kinds) == 0
		}
	}
	for _, c := range []struct {
		name string
		err  error
		only func(errorfs.Op) bool
	}{
		{"the disk is full", syscall.ENOSPC, nil},
		{"the log cannot be written", syscall.EIO, is(".log", errorfs.OpFileWrite)},
		{"the log cannot be synced", syscall.EIO, is(".log", errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo)},
		{"a new log cannot be made", syscall.ENOSPC, is(".log", errorfs.OpCreate, errorfs.OpReuseForWrite)},
		{"a table cannot be made", syscall.ENOSPC, is(".sst", errorfs.OpCreate)},
		{"a table cannot be written", syscall.EIO, is(".sst", errorfs.OpFileWrite)},
		{"the manifest cannot be synced", syscall.EIO, func(op errorfs.Op) bool {
			return strings.Contains(op.Path, "MANIFEST") && op.Kind == errorfs.OpFileSync
		}},
	} {
		for _, after := range []int64{0, 1, 7, 60} {
			t.Run(fmt.Sprintf("%s after %d", c.name, after), func(t *testing.T) {
				mem := vfs.NewMem()
				b := &breaks{err: c.err, after: after, only: c.only}
				o := Options{Dir: "store", FS: errorfs.Wrap(mem, b), memTable: 64 << 10}
				s, err := Open(o)
				if err != nil {
					t.Fatal(err)
				}
				must(t, s, func(tx store.Tx) error {
					tx.Put(store.Thing{Thing: muster.Thing{Name: "before"}})
					return nil
				})
				b.armed.Store(true)
				acked := workUntilFailure(t, s, 8)
				if err := s.Health(); err == nil || !errors.Is(err, c.err) {
					t.Errorf("health: got %v, want %v", err, c.err)
				}
				var e *muster.Error
				if err := s.Update(context.Background(), store.Keys{}, func(store.Tx) error { return nil }); !errors.As(err, &e) || e.Kind != muster.Unavailable {
					t.Errorf("a later update: got %v", err)
				}
				if err := s.View(context.Background(), func(r store.Reader) error {
					r.Execution("j", "t0", 0)
					return nil
				}); err != nil && (!errors.As(err, &e) || e.Kind != muster.Unavailable) {
					t.Errorf("a later view: got %v", err)
				}
				if err := s.Backup(context.Background(), "copy"); err == nil {
					t.Error("a backup of a failed store succeeded")
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				intact(t, Options{Dir: "store", FS: mem}, acked)
			})
		}
	}
}

// A backup onto a disk that is full does the store no harm.
func TestBackupFails(t *testing.T) {
	b := &breaks{err: syscall.ENOSPC, only: func(op errorfs.Op) bool { return strings.HasPrefix(op.Path, "copy") }}
	s := open(t, Options{Dir: "store", FS: errorfs.Wrap(vfs.NewMem(), b)})
	must(t, s, func(tx store.Tx) error {
		step(tx, "t", 1)
		return nil
	})
	b.armed.Store(true)
	if err := s.Backup(context.Background(), "copy"); err == nil {
		t.Error("the backup succeeded")
	}
	if err := s.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
	must(t, s, func(tx store.Tx) error {
		step(tx, "t", 2)
		return nil
	})
}

// A directory may be given with a slash at its end; what is in it is guarded all the same.
func TestGuardOfADirectoryWithASlash(t *testing.T) {
	s := open(t, Options{Dir: "db/", FS: vfs.NewMem()})
	if !s.fs.ours("db/000002.log") {
		t.Fatal("the log is not guarded")
	}
}
