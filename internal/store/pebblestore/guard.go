package pebblestore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A guard stands between pebble and the disk, because pebble ends the process when its log cannot be
// written. At the first write, sync or rename in the store's directory that fails, the guard tells the
// store, which from then on acknowledges nothing; and it freezes the directory as it is: every later
// change is dropped and reported as done, so that pebble goes on undisturbed with what nobody will
// ever be told of. What was acknowledged before is on disk, and the next Open finds it.
type guard struct {
	vfs.FS
	dir    string
	fail   func(error)
	armed  atomic.Bool // from when the store is open: errors before are Open's
	frozen atomic.Bool

	mu       sync.Mutex
	locks    []io.Closer
	released chan struct{}
	once     sync.Once
}

func newGuard(under vfs.FS, dir string, fail func(error)) *guard {
	return &guard{FS: under, dir: dir, fail: fail, released: make(chan struct{})}
}

// ours reports whether a change of a file is to be guarded.
func (g *guard) ours(name string) bool { return name == g.dir || g.FS.PathDir(name) == g.dir }

// hurt is told of an error; if it returns true the error is to be hidden.
func (g *guard) hurt(name, op string, err error) bool {
	if !g.armed.Load() || !g.ours(name) {
		return false
	}
	if !g.frozen.Swap(true) {
		g.fail(&fs.PathError{Op: op, Path: name, Err: err})
	}
	return true
}

func (g *guard) stopped(name string) bool { return g.frozen.Load() && g.ours(name) }

func (g *guard) create(op, name string, create func() (vfs.File, error)) (vfs.File, error) {
	if g.stopped(name) {
		return hole{name}, nil
	}
	f, err := create()
	if err != nil {
		if g.hurt(name, op, err) {
			return hole{name}, nil
		}
		return nil, err
	}
	return &guardedFile{File: f, g: g, name: name}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create("create", name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.create("open", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

func (g *guard) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create("rename", name, func() (vfs.File, error) { return g.FS.ReuseForWrite(old, name, c) })
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	return g.create("open", name, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// Open of a file that was written into the frozen directory fails. Pebble tries again at once, so the
// failure is told slowly.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.Open(name, opts...)
	if err != nil && g.stopped(name) {
		select {
		case <-g.released:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return f, err
}

func (g *guard) change(op, name string, do func() error) error {
	if g.stopped(name) {
		return nil
	}
	if err := do(); err != nil && !g.hurt(name, op, err) {
		return err
	}
	return nil
}

func (g *guard) Link(old, name string) error {
	return g.change("link", name, func() error { return g.FS.Link(old, name) })
}

func (g *guard) Rename(old, name string) error {
	return g.change("rename", name, func() error { return g.FS.Rename(old, name) })
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	return g.change("mkdir", dir, func() error { return g.FS.MkdirAll(dir, perm) })
}

// Remove may fail without harm: pebble removes what it does not need.
func (g *guard) Remove(name string) error {
	if g.stopped(name) {
		return nil
	}
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	if g.stopped(name) {
		return nil
	}
	return g.FS.RemoveAll(name)
}

func (g *guard) Lock(name string) (io.Closer, error) {
	c, err := g.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	l := &lock{Closer: c}
	g.mu.Lock()
	g.locks = append(g.locks, l)
	g.mu.Unlock()
	return l, nil
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

// release gives up the directory, also if pebble could not be closed.
func (g *guard) release() {
	g.once.Do(func() { close(g.released) })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen.Load() {
		for _, l := range g.locks {
			_ = l.Close() // nothing can be done about it, and the process's end does it too
		}
	}
}

// A lock can be closed twice.
type lock struct {
	io.Closer
	once sync.Once
	err  error
}

func (l *lock) Close() error {
	l.once.Do(func() { l.err = l.Closer.Close() })
	return l.err
}

// guardedFile is a file that is written to.
type guardedFile struct {
	vfs.File
	g    *guard
	name string
}

func (f *guardedFile) change(op string, do func() error) error { return f.g.change(op, f.name, do) }

func (f *guardedFile) Write(p []byte) (int, error) {
	n := len(p)
	err := f.change("write", func() (err error) {
		_, err = f.File.Write(p)
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, at int64) (int, error) {
	n := len(p)
	err := f.change("write", func() (err error) {
		_, err = f.File.WriteAt(p, at)
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}

func (f *guardedFile) Preallocate(offset, length int64) error {
	return f.change("preallocate", func() error { return f.File.Preallocate(offset, length) })
}

func (f *guardedFile) Sync() error { return f.change("sync", f.File.Sync) }

func (f *guardedFile) SyncData() error { return f.change("sync", f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.change("sync", func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *guardedFile) Close() error {
	err := f.File.Close()
	if err != nil && (f.g.stopped(f.name) || f.g.hurt(f.name, "close", err)) {
		return nil
	}
	return err
}

// A hole is a file in a frozen directory: it takes everything and keeps nothing.
type hole struct{ name string }

var errFrozen = errors.New("the store has failed; what was written since is not kept")

func (hole) Close() error                           { return nil }
func (hole) Read([]byte) (int, error)               { return 0, errFrozen }
func (hole) ReadAt([]byte, int64) (int, error)      { return 0, errFrozen }
func (hole) Write(p []byte) (int, error)            { return len(p), nil }
func (hole) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (hole) Preallocate(int64, int64) error         { return nil }
func (h hole) Stat() (vfs.FileInfo, error)          { return holeInfo{h}, nil }
func (hole) Sync() error                            { return nil }
func (hole) SyncTo(int64) (bool, error)             { return true, nil }
func (hole) SyncData() error                        { return nil }
func (hole) Prefetch(int64, int64) error            { return nil }
func (hole) Fd() uintptr                            { return vfs.InvalidFd }

// holeInfo is what a hole says of itself: it is empty.
type holeInfo struct{ hole }

func (i holeInfo) Name() string         { return filepath.Base(i.name) }
func (holeInfo) Size() int64            { return 0 }
func (holeInfo) Mode() fs.FileMode      { return 0o644 }
func (holeInfo) ModTime() time.Time     { return time.Time{} }
func (holeInfo) IsDir() bool            { return false }
func (holeInfo) Sys() any               { return nil }
func (holeInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
