package pebblestore

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A sync is cheap where a log is written over what is on disk already: where the file grows, the file
// system's journal has to be written with it, and waits for whatever else the journal has. Pebble writes
// over the logs that it needs no more, but forgets about them when it is closed, and its first logs are
// short. So logs sees to it that a log always has room: it keeps a few old logs under another name for
// the next that is begun, and lets a log that grows do so by large steps of zeros.
//
// A log may so be followed by what an older one said, or by zeros. Pebble reads neither, for every
// chunk of a log names the log.
type logs struct {
	vfs.FS
	dir string

	mu     sync.Mutex
	spares []spare // the largest one last
}

type spare struct {
	name string
	size int64
}

const (
	spareSuffix = ".spare"
	maxSpares   = memTables + 1 // as many as pebble writes over while it is open
	logStep     = 1 << 20
)

// newLogs finds the spares of a directory, which may not exist.
func newLogs(under vfs.FS, dir string) *logs {
	l := &logs{FS: under, dir: dir}
	names, err := under.List(dir)
	if err != nil {
		return l // pebble will say it better
	}
	for _, name := range names {
		if strings.HasSuffix(name, spareSuffix) {
			l.add(under.PathJoin(dir, name))
		}
	}
	return l
}

func (l *logs) add(name string) {
	s := spare{name: name}
	if info, err := l.FS.Stat(name); err == nil {
		s.size = info.Size()
	}
	at, _ := slices.BinarySearchFunc(l.spares, s, func(a, b spare) int { return cmp.Compare(a.size, b.size) })
	l.spares = slices.Insert(l.spares, at, s)
}

func (l *logs) isLog(name string) bool {
	return strings.HasSuffix(name, ".log") && l.PathDir(name) == l.dir
}

// Create begins a log in the place of a spare one.
func (l *logs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !l.isLog(name) {
		return l.FS.Create(name, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.spares); n > 0 {
		s := l.spares[n-1]
		l.spares = l.spares[:n-1]
		if f, err := l.ReuseForWrite(s.name, name, c); err == nil {
			return f, nil
		}
	}
	f, err := l.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &logFile{File: f}, nil
}

func (l *logs) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(old, name, c)
	if err != nil || !l.isLog(name) {
		return f, err
	}
	room := int64(0)
	if info, err := f.Stat(); err == nil {
		room = info.Size()
	}
	return &logFile{File: f, room: room}, nil
}

// Remove keeps a log that is not needed any more, if it is larger than what is kept.
func (l *logs) Remove(name string) error {
	if !l.isLog(name) {
		return l.FS.Remove(name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := strings.TrimSuffix(name, ".log") + spareSuffix
	if err := l.FS.Rename(name, kept); err != nil {
		return l.FS.Remove(name)
	}
	l.add(kept)
	if len(l.spares) <= maxSpares {
		return nil
	}
	name = l.spares[0].name
	l.spares = slices.Delete(l.spares, 0, 1)
	return l.FS.Remove(name)
}

func (l *logs) Unwrap() vfs.FS { return l.FS }

// A logFile is a log that is written from its beginning.
type logFile struct {
	vfs.File
	at   int64 // where the next write goes
	room int64 // the file's size
}

var zeros [logStep]byte

func (f *logFile) Write(p []byte) (int, error) {
	if end := f.at + int64(len(p)); end > f.room {
		if _, err := f.File.WriteAt(zeros[:], end); err != nil {
			return 0, err
		}
		f.room = end + logStep
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	return n, err
}
