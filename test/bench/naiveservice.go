package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// naiveService is Y2 as a child process.
type naiveService struct {
	*naive
	things        int
	fleet         *fleet
	writtenBefore uint64 // by the load
}

func openNaiveService(_ context.Context, s Settings) (service, hello, error) {
	start := time.Now()
	n, err := openNaive(s.Dir)
	if err != nil {
		return nil, hello{}, err
	}
	svc := &naiveService{naive: n, things: s.Things, fleet: newFleet(s.Things)}
	return svc, hello{Sample: Sample{OpenOnly: time.Since(start).Seconds()}}, nil
}

func (s *naiveService) Call(ctx context.Context, req Request) (Sample, error) {
	switch req.Op {
	case "load":
		return s.measureLoad(ctx)
	case "update":
		return s.measureUpdates(ctx, req)
	case "settle":
		return nil, s.settle()
	case "recount":
		return nil, s.recount()
	}
	return nil, fmt.Errorf("naive cannot %q", req.Op)
}

func (s *naiveService) measureLoad(ctx context.Context) (Sample, error) {
	cpu, start := ownCPU(), time.Now()
	if err := s.load(ctx, s.things); err != nil {
		return nil, err
	}
	took, things := time.Since(start).Seconds(), float64(s.things)
	return Sample{
		Seconds: took, Operations: things, PerSecond: things / took,
		CPUPerOp: float64((ownCPU() - cpu).Microseconds()) / things,
	}, nil
}

// measureUpdates counts bytes from empty memtables to empty memtables with
// compactions done, so that none of the load's are among them. Compaction comes
// in lumps larger than a short run, so bytes are spread over every update since
// the load, however many callers made it; rates and latencies are of the timed
// part alone.
func (s *naiveService) measureUpdates(ctx context.Context, req Request) (Sample, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	if s.applied.Load() == 0 {
		s.writtenBefore = s.written()
	}
	do := ask(s.queue, newCalls(req.Callers))
	sample, err := s.fleet.run(ctx, req.Callers, time.Duration(req.Seconds*float64(time.Second)), do)
	if err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	sample[BytesPerOp] = float64(s.written()-s.writtenBefore) / float64(max(1, s.applied.Load()))
	return sample, nil
}

// written is what the store has handed to the file system: log, flush and compaction.
func (n *naive) written() uint64 {
	m := n.db.Metrics()
	total := m.WAL.BytesWritten
	for _, l := range m.Levels {
		total += l.TableBytesFlushed + l.TableBytesCompacted + l.BlobBytesFlushed + l.BlobBytesCompacted
	}
	return total
}

// settle empties the memtables and waits until compactions have caught up. It
// looks a few times, because one compaction may call for the next.
func (n *naive) settle() error {
	if err := n.db.Flush(); err != nil {
		return err
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	giveUp := time.Now().Add(30 * time.Second)
	for quiet := 0; quiet < 3 && time.Now().Before(giveUp); <-look.C {
		m := n.db.Metrics()
		if m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
	return nil
}

// recount compares the counters with the records, so that a yardstick which
// lost updates is not held against anyone.
func (n *naive) recount() error {
	it, err := n.db.NewIter(&pebble.IterOptions{LowerBound: recordKey(nil, nil), UpperBound: []byte("s")})
	if err != nil {
		return err
	}
	var found [statuses]int64
	for ok := it.First(); ok; ok = it.Next() {
		r, err := parseRecord(it.Value())
		if err != nil {
			return errors.Join(err, it.Close())
		}
		found[r.status]++
	}
	if err := it.Close(); err != nil {
		return err
	}
	if found != n.counts {
		return fmt.Errorf("counters say %v, records say %v", n.counts, found)
	}
	return nil
}

// The meters of Y2.

// loadNaive fills an empty store and lets it come to rest.
func loadNaive(c *Child) error {
	if _, err := c.Call(Request{Op: "load"}); err != nil {
		return err
	}
	_, err := c.Call(Request{Op: "settle"})
	return err
}

// naiveUpdates measures durable updates with a number of callers on a store
// that all meters with this Bench share.
func (b *Bench) naiveUpdates(callers int) *Meter {
	return &Meter{
		Name: fmt.Sprintf("Y2 naive Pebble, %d callers", callers),
		Prepare: func(ctx context.Context) error {
			c, fresh, err := b.child(ctx, "naive", "naive")
			if err != nil || !fresh {
				return err
			}
			return loadNaive(c)
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, _, err := b.child(ctx, "naive", "naive")
			if err != nil {
				return nil, err
			}
			return c.Call(Request{Op: "update", Callers: callers, Seconds: b.Seconds})
		},
	}
}

// naiveLoad measures queueing Things executions in an empty store, the last of
// them durable.
func (b *Bench) naiveLoad() *Meter {
	return &Meter{
		Name: fmt.Sprintf("Y2 naive Pebble, load %s", thousands(int64(b.Things))),
		Run: func(ctx context.Context) (s Sample, err error) {
			dir, err := os.MkdirTemp(b.Dir, "naive-load-")
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			c, err := startChild(ctx, "naive", Settings{Dir: dir, Things: b.Things})
			if err != nil {
				return nil, err
			}
			defer c.Kill() // what it has not flushed is thrown away anyway
			return c.Call(Request{Op: "load"})
		},
	}
}

// naiveReopen kills a loaded store in the middle of updates, and measures from
// starting the next process until it is ready. That is the time to replay the
// memtables that the kill caught, anything from nearly empty to all four: a row
// compared with it needs the same load and the same Seconds.
func (b *Bench) naiveReopen() *Meter {
	const callers = 64
	dir := filepath.Join(b.Dir, "naive-reopen")
	settings := Settings{Dir: dir, Things: b.Things}
	var c *Child
	start := func(ctx context.Context) (err error) {
		if c, err = startChild(ctx, "naive", settings); err == nil {
			b.onClose(c.Kill)
		}
		return err
	}
	return &Meter{
		Name: "Y2 naive Pebble, reopen after SIGKILL",
		Prepare: func(ctx context.Context) error {
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := start(ctx); err != nil {
				return err
			}
			return loadNaive(c)
		},
		Run: func(ctx context.Context) (Sample, error) {
			if c == nil {
				return nil, errors.New("did not come back from an earlier kill")
			}
			ended := make(chan error, 1)
			go func(c *Child) {
				_, err := c.Call(Request{Op: "update", Callers: callers, Seconds: 24 * 3600})
				ended <- err
			}(c)
			select {
			case err := <-ended:
				return nil, fmt.Errorf("updates ended before the kill: %w", err)
			case <-time.After(time.Duration(b.Seconds * float64(time.Second))):
			}
			c.Kill()
			<-ended
			if err := start(ctx); err != nil {
				return nil, err
			}
			if _, err := c.Call(Request{Op: "recount"}); err != nil {
				return nil, err
			}
			return Sample{Seconds: c.Ready.Seconds(), OpenOnly: c.Opened[OpenOnly]}, nil
		},
	}
}
