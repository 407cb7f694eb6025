package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/internal/store"
)

const (
	benchThings = 1_000_000
	benchJob    = "firmware-2026-11"
)

func benchName(i int) muster.ThingName {
	return muster.ThingName("device-" + strconv.Itoa(1000000+i))
}

// details are 186 bytes, as in the measurements that chose the engine.
var details = muster.MakePairs("step", "3 of 7: writing the second image to the inactive partition", "progress", "42 %", "note",
	"checksum of the first image verified; battery at 81 %; link quality is good enough for the rest of it, so go")

// register makes the things and the job.
func register(tb testing.TB, s *Store, n int) {
	tb.Helper()
	must(tb, s, func(tx store.Tx) error {
		tx.Put(store.Job{Job: &muster.Job{ID: benchJob, Seq: tx.NextSeq(), Status: muster.JobInProgress, Created: 1700000000000}})
		return nil
	})
	for i := 0; i < n; i += 1000 {
		must(tb, s, func(tx store.Tx) error {
			for k := i; k < min(n, i+1000); k++ {
				tx.Put(store.Thing{Thing: muster.Thing{Name: benchName(k), ID: fmt.Sprintf("7f9c2ba4-e88f-427d-a5b1-%012x", k), Version: 1}})
			}
			return nil
		})
	}
}

// rollOut queues an execution on every thing.
func rollOut(tb testing.TB, s *Store, n int) {
	tb.Helper()
	for i := 0; i < n; i += 512 {
		must(tb, s, func(tx store.Tx) error {
			for k := i; k < min(n, i+512); k++ {
				name := benchName(k)
				if _, has := tx.Execution(benchJob, name, 0); !has {
					q, _ := tx.Queue(name)
					e := muster.NewExecution(benchJob, name, tx.NextNumber(benchJob, name), 0, tx.NextSeq(), 1700000000000)
					keepBench(tx, q, muster.Change{After: e})
				}
			}
			return nil
		})
	}
}

func must(tb testing.TB, s *Store, fn func(store.Tx) error) {
	tb.Helper()
	if err := s.Update(context.Background(), store.Keys{}, fn); err != nil {
		tb.Fatal(err)
	}
}

// keepBench is what the engine does with changes.
func keepBench(tx store.Tx, q muster.Queue, changes ...muster.Change) {
	offered := func(e muster.Execution) bool {
		j, ok := tx.Job(e.Job)
		return ok && j.Offers(e)
	}
	tx.Keep(q.Thing, muster.Compare(q, q.With(changes...), offered), changes...)
}

// report moves a thing's execution on, as the engine does: queued, in progress, over, queued anew.
func report(s *Store, name muster.ThingName, now muster.Time) error {
	return s.Update(context.Background(), store.Keys{}, func(tx store.Tx) error {
		q, ok := tx.Queue(name)
		if !ok {
			return muster.Errorf(muster.NotFound, "no such thing")
		}
		i := q.Find(benchJob, 0)
		if i < 0 {
			e := muster.NewExecution(benchJob, name, tx.NextNumber(benchJob, name), 0, tx.NextSeq(), now)
			keepBench(tx, q, muster.Change{After: e})
			return nil
		}
		e := q.Executions[i]
		r := muster.Report{Status: muster.InProgress, Details: &details}
		if e.Status == muster.InProgress {
			r.Status = muster.Succeeded
		}
		next, err := e.Report(r, 0, now)
		if err != nil {
			return err
		}
		keepBench(tx, q, muster.Change{Before: e, After: next})
		return nil
	})
}

func BenchmarkUpdate(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	register(b, s, benchThings)
	rollOut(b, s, benchThings)
	for _, callers := range []int{64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			var wg sync.WaitGroup
			before := s.Stats()
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(c), uint64(b.N)))
					for i := c; i < b.N; i += callers {
						if err := report(s, benchName(rng.IntN(benchThings)), 1700000001000+muster.Time(i)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			after := s.Stats()
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(after.WALBytes-before.WALBytes)/n, "wal-B/update")
			b.ReportMetric(float64(after.Flushed-before.Flushed)/n, "flushed-B/update")
			b.ReportMetric(float64(after.Compacted-before.Compacted)/n, "compacted-B/update")
			b.ReportMetric(n/float64(after.Batches-before.Batches), "updates/batch")
		})
	}
}

// BenchmarkMillion tells what a job of a million things costs: once, not per iteration.
func BenchmarkMillion(b *testing.B) {
	for range b.N {
		dir := b.TempDir()
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		register(b, s, benchThings)
		things := heap()
		start := time.Now()
		rollOut(b, s, benchThings)
		b.ReportMetric(time.Since(start).Seconds(), "rollout-s")
		live := heap()
		b.ReportMetric(float64(live)/benchThings, "all-B/live")
		b.ReportMetric(float64(live-things)/benchThings, "B/live")
		s, took := reopen(b, s, dir)
		b.ReportMetric(took, "reopen-live-s")
		for i := 0; i < benchThings; i += 500 {
			must(b, s, func(tx store.Tx) error {
				for k := i; k < i+500; k++ {
					q, _ := tx.Queue(benchName(k))
					e := q.Executions[0]
					next, err := e.Report(muster.Report{Status: muster.Succeeded, Details: &details}, 0, 1700000002000)
					if err != nil {
						return err
					}
					keepBench(tx, q, muster.Change{Before: e, After: next})
				}
				return nil
			})
		}
		must(b, s, func(tx store.Tx) error {
			j, _ := tx.Job(benchJob)
			done := *j
			done.Status = muster.JobCompleted
			tx.Put(store.Job{Job: &done})
			return nil
		})
		over := heap()
		b.ReportMetric(float64(over-things)/benchThings, "B/terminal")
		s, took = reopen(b, s, dir)
		b.ReportMetric(took, "reopen-over-s")
		var got int
		start = time.Now()
		if err := s.View(context.Background(), func(r store.Reader) error {
			for p := (store.Page{Limit: 250}); ; {
				es, next, err := r.ExecutionsOfJob(benchJob, muster.Succeeded, p)
				if got += len(es); err != nil || next == "" {
					return err
				}
				p.After = next
			}
		}); err != nil || got != benchThings {
			b.Fatalf("walked %d: %v", got, err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "walk-s")
		if err := s.db.Compact(context.Background(), []byte{'a'}, []byte{'z'}, false); err != nil {
			b.Fatal(err)
		}
		for name, kind := range map[string]byte{"record": kExec, "history": kHistory} {
			size, err := s.db.EstimateDiskUsage([]byte{kind}, []byte{kind + 1})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(size)/benchThings, name+"-disk-B")
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func reopen(b *testing.B, s *Store, dir string) (*Store, float64) {
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	return s, time.Since(start).Seconds()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPage reads a page of 100 from the middle of a large job and of a small one.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{100, benchThings} {
		s := open(b, Options{Dir: b.TempDir()})
		register(b, s, n)
		rollOut(b, s, n)
		for i := 0; i < n; i += 500 {
			must(b, s, func(tx store.Tx) error {
				for k := i; k < min(n, i+500); k += 1 + min(1, n/1000) {
					q, _ := tx.Queue(benchName(k))
					next, _ := q.Executions[0].Report(muster.Report{Status: muster.Succeeded, Details: &details}, 0, 1700000002000)
					keepBench(tx, q, muster.Change{Before: q.Executions[0], After: next})
				}
				return nil
			})
		}
		for _, st := range []muster.Status{muster.Queued, muster.Succeeded} {
			b.Run(fmt.Sprintf("%d/%s", n, st), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 2))
				list := fmt.Sprintf("executions of job\x00%d\x00%d", 1, st)
				for b.Loop() {
					after := ""
					if n > 100 {
						after = store.PageToken(list, execPlace(uint32(rng.IntN(n-300)), 0))
					}
					if err := s.View(context.Background(), func(r store.Reader) error {
						_, _, err := r.ExecutionsOfJob(benchJob, st, store.Page{After: after, Limit: 100})
						return err
					}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
