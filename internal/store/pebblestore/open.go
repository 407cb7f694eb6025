package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
)

// format is the version of the layout. A store written with a newer one is refused.
const format = 1

// slowDisk is how long a write may take before it is worth a line in the log.
const slowDisk = 5 * time.Second

// memTables is how many there may be, with the one that is written to; each has a log.
const memTables = 4

// memoryDir is where a store in RAM lies, in its own file system.
const memoryDir = "muster"

// Open opens the store in a directory, or makes one.
func Open(o Options) (*Store, error) {
	if o.FeedEntries <= 0 {
		o.FeedEntries = 1_000_000
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.memTable == 0 {
		o.memTable = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	fs := o.FS
	var slow io.Closer = io.NopCloser(nil)
	switch {
	case o.Memory:
		fs, o.Dir = vfs.NewMem(), memoryDir
	case o.Dir == "":
		return nil, errors.New("a store on disk needs a directory")
	case fs == nil:
		fs, slow = vfs.WithDiskHealthChecks(vfs.Default, slowDisk, nil, func(i vfs.DiskSlowInfo) {
			o.Logger.Warn("the disk is slow", "path", i.Path, "operation", i.OpType.String(), "seconds", i.Duration.Seconds())
		})
	}
	s := &Store{
		opts:      o,
		log:       o.Logger,
		slow:      slow,
		state:     newState(),
		toSeal:    map[uint32]bool{},
		documents: newCache[muster.Document](8 << 20),
		sealed:    newCache[*sets](16 << 20),
		syncing:   make(chan *commit),
		reprs:     make(chan []byte, 3),
		changed:   make(chan struct{}, 1),
	}
	s.stats.Begin()
	s.waiting.wake = make(chan struct{}, 1)
	s.tx = &tx{reader: reader{state: s.state, s: s, b: &s.batch}}
	o.Dir = fs.PathJoin(o.Dir) // without a slash at its end, as the names of files in it have it
	if !o.Memory {
		fs = newLogs(fs, o.Dir)
	}
	s.fs = newGuard(fs, o.Dir, s.fail)
	if err := s.openDB(); err != nil {
		return nil, errors.Join(err, slow.Close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.db.Close(), slow.Close())
	}
	s.written = s.meta
	s.durableFeed.Store(s.feed)
	s.fs.armed.Store(true)
	s.done.Add(2)
	go s.write()
	go s.sync()
	s.waiting.signal() // there may be chores
	return s, nil
}

func (s *Store) openDB() error {
	cache := pebble.NewCache(int64(s.opts.CacheBytes))
	defer cache.Unref()
	o := &pebble.Options{
		FS:                          s.fs,
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                s.opts.memTable, // begins small and doubles
		MemTableStopWritesThreshold: memTables,
		// Devices' acts read RAM, so tables may pile up a little before they are merged.
		L0CompactionThreshold:      8,
		L0StopWritesThreshold:      32,
		LBaseMaxBytes:              256 << 20,
		MaxOpenFiles:               512,
		BytesPerSync:               1 << 20,
		Logger:                     pebbleLog{s},
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if s.Health() == nil {
					s.log.Error("pebble's background work failed", "error", err)
				}
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.log.Error("a file of the store is damaged", "path", i.Path, "error", i.Details)
			},
			WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
				s.log.Warn("writes wait for the disk", "reason", i.Reason)
			},
		},
	}
	for i := range o.Levels[:6] {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.Levels[6].FilterPolicy = pebble.NoFilterPolicy // what is asked for is mostly there
	db, err := pebble.Open(s.opts.Dir, o)
	if err != nil {
		return s.explain(err)
	}
	if f := s.failure.Load(); f != nil {
		return errors.Join(f, db.Close())
	}
	s.db = db
	return nil
}

// explain says in words of this program what hinders Open.
func (s *Store) explain(err error) error {
	switch {
	case strings.Contains(err.Error(), "lock held by current process"),
		errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && strings.Contains(err.Error(), "LOCK"):
		return &muster.Error{Kind: muster.Unavailable, Message: fmt.Sprintf("The store in %s is in use by another process", s.opts.Dir), Cause: err}
	}
	return &muster.Error{Kind: muster.Unavailable, Message: fmt.Sprintf("The store in %s cannot be opened", s.opts.Dir), Cause: err}
}

// checkFormat refuses a store of a newer layout, and marks a new one.
func (s *Store) checkFormat() error {
	r := &reader{state: s.state, s: s}
	v, ok := r.get([]byte{kFormat})
	if r.err != nil {
		return r.err
	}
	if !ok {
		return s.db.Set([]byte{kFormat}, strconv.AppendInt(nil, format, 10), pebble.Sync)
	}
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 {
		return fmt.Errorf("the store in %s has the unknown format %q", s.opts.Dir, v)
	}
	if n > format {
		return fmt.Errorf("the store in %s has format %d, written by a newer version of this program, which knows formats up to %d", s.opts.Dir, n, format)
	}
	return nil
}

// pebbleLog takes pebble's log. Where pebble would end the process, the store fails instead.
type pebbleLog struct{ s *Store }

func (l pebbleLog) Infof(format string, args ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.s.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble: "+format, args...)
	l.s.fs.frozen.Store(true)
	l.s.fail(err)
}
