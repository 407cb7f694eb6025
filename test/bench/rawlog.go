package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Y1, the raw log: what the disk and two goroutine switches allow. State is a
// map in RAM; an update is appended to a log whose blocks already exist, and
// answered after fdatasync. It cannot be reopened and answers no question: a
// ceiling, not a store.

// rawlogSize is zeroed ahead, because syncing into blocks that the file system
// has yet to allocate also syncs its journal. At the end the log wraps.
const rawlogSize = 128 << 20

type rawState struct {
	version int64
	status  byte
}

type rawlog struct {
	file  *os.File
	at    int64
	wrote atomic.Int64
	index map[string]int32
	state []rawState
	queue chan *updateCall
	done  chan struct{}
}

// updateCall is a caller's one request, used again for its next.
type updateCall struct {
	thing    []byte
	expected int64
	details  []byte

	version int64
	err     error
	done    chan struct{} // holds one, so that the answering side never waits
}

func newCalls(n int) []updateCall {
	calls := make([]updateCall, n)
	for i := range calls {
		calls[i].done = make(chan struct{}, 1)
	}
	return calls
}

// ask makes the queue look like a function to the fleet.
func ask(queue chan<- *updateCall, calls []updateCall) doUpdate {
	return func(caller, thing int, expected int64, details []byte) (int64, error) {
		c := &calls[caller]
		c.thing, c.expected, c.details, c.err = appendThing(c.thing[:0], thing), expected, details, nil
		queue <- c
		<-c.done
		return c.version, c.err
	}
}

// drain adds to batch what waits in the queue, up to limit, without waiting.
func drain(queue <-chan *updateCall, batch []*updateCall, limit int) []*updateCall {
	for len(batch) < limit {
		select {
		case c, ok := <-queue:
			if !ok {
				return batch
			}
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

func openRawlog(dir string, things int) (*rawlog, error) {
	f, err := os.Create(filepath.Join(dir, "raw.log"))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < rawlogSize; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, off); err != nil {
			f.Close()
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, err
	}
	l := &rawlog{
		file: f, index: make(map[string]int32, things), state: make([]rawState, things),
		queue: make(chan *updateCall, maxBatch), done: make(chan struct{}),
	}
	for i := range things {
		l.index[string(appendThing(nil, i))] = int32(i)
		l.state[i].version = 1
	}
	go l.write()
	return l, nil
}

const maxBatch = 4096

func (l *rawlog) write() {
	defer close(l.done)
	var buf []byte
	var batch []*updateCall
	for first := range l.queue {
		batch = drain(l.queue, append(batch[:0], first), maxBatch)
		buf = buf[:0]
		for _, c := range batch {
			buf = l.apply(buf, c)
		}
		err := l.append(buf)
		for _, c := range batch {
			if err != nil {
				c.err = err
			}
			c.done <- struct{}{}
		}
	}
}

// apply decides one update and appends its frame: length, thing, version, status, details.
func (l *rawlog) apply(buf []byte, c *updateCall) []byte {
	i, ok := l.index[string(c.thing)]
	if !ok {
		c.err = fmt.Errorf("no execution for %s", c.thing)
		return buf
	}
	s := &l.state[i]
	if c.expected != 0 && c.expected != s.version {
		c.err = fmt.Errorf("expected version %d of %s, found %d", c.expected, c.thing, s.version)
		return buf
	}
	s.version++
	s.status = (s.status + 1) % 3
	c.version = s.version
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(c.thing)+len(c.details)+9))
	buf = append(buf, c.thing...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(s.version))
	buf = append(buf, s.status)
	return append(buf, c.details...)
}

func (l *rawlog) append(buf []byte) error {
	if l.at+int64(len(buf)) > rawlogSize {
		l.at = 0
	}
	if _, err := l.file.WriteAt(buf, l.at); err != nil {
		return err
	}
	l.at += int64(len(buf))
	l.wrote.Add(int64(len(buf)))
	return fdatasync(l.file)
}

func (l *rawlog) Close() error {
	close(l.queue)
	<-l.done
	return l.file.Close()
}

type rawlogService struct {
	*rawlog
	fleet *fleet
}

func openRawlogService(_ context.Context, s Settings) (service, hello, error) {
	l, err := openRawlog(s.Dir, s.Things)
	if err != nil {
		return nil, hello{}, err
	}
	return &rawlogService{l, newFleet(s.Things)}, hello{}, nil
}

func (s *rawlogService) Call(ctx context.Context, req Request) (Sample, error) {
	if req.Op != "update" {
		return nil, fmt.Errorf("rawlog cannot %q", req.Op)
	}
	d := time.Duration(req.Seconds * float64(time.Second))
	do := ask(s.queue, newCalls(req.Callers))
	if _, err := s.fleet.lap(ctx, req.Callers, forTime(d/5), do); err != nil {
		return nil, err
	}
	before := s.wrote.Load()
	sample, err := s.fleet.lap(ctx, req.Callers, forTime(d), do)
	if err != nil {
		return nil, err
	}
	sample[BytesPerOp] = float64(s.wrote.Load()-before) / max(1, sample[Operations])
	return sample, nil
}

// rawlog measures Y1 with a number of callers.
func (b *Bench) rawlog(callers int) *Meter {
	open := func(ctx context.Context) (*Child, error) {
		c, _, err := b.child(ctx, "rawlog", "rawlog")
		return c, err
	}
	return &Meter{
		Name: fmt.Sprintf("Y1 raw log, %d callers", callers),
		Prepare: func(ctx context.Context) error {
			_, err := open(ctx)
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, err := open(ctx)
			if err != nil {
				return nil, err
			}
			return c.Call(Request{Op: "update", Callers: callers, Seconds: b.Seconds})
		},
	}
}
