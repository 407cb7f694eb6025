package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"muster"
	"muster/internal/store/pebblestore"
)

// BenchmarkReport is a device's report with details, durable, by many callers at once.
func BenchmarkReport(b *testing.B) {
	for _, callers := range []int{64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			const things = 100_000
			s, err := pebblestore.Open(pebblestore.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			g := New(s, Options{Clock: &SystemClock{}})
			fill(b, g, things)
			details := muster.MakePairs("progress", "50", "step", "downloading the new firmware image from the object store", "url", "https://firmware.example.com/images/pump/4.2.1/image.bin", "free", "1048576")
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for c := range callers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						name := muster.ThingName(fmt.Sprintf("thing-%06d", (int(n)*7919+c)%things))
						if _, err := g.Report(context.Background(), name, "job", muster.Report{Status: muster.InProgress, Details: &details}); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}

// fill makes things in a group and a job that has reached them all.
func fill(t testing.TB, g *Engine, things int) {
	ctx := context.Background()
	if _, err := g.CreateGroup(ctx, muster.Group{Name: "all"}, ""); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < things; i += ImportSlice {
		var rows []ImportRow
		for k := i; k < min(i+ImportSlice, things); k++ {
			name := muster.ThingName(fmt.Sprintf("thing-%06d", k))
			rows = append(rows, ImportRow{Thing: &muster.Thing{Name: name}}, ImportRow{Member: &muster.Membership{Thing: name, Group: "all"}})
		}
		if _, err := g.Import(ctx, rows); err != nil {
			t.Fatal(err)
		}
	}
	document := `{"operation":"test"}`
	if _, err := g.CreateJob(ctx, NewJob{ID: "job", Document: &document, Targets: []muster.Target{{Group: "all"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Tick(ctx); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLongQueue is a report of a device that has many jobs to do.
func BenchmarkLongQueue(b *testing.B) {
	for _, jobs := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			const things = 100
			ctx := b.Context()
			s, err := pebblestore.Open(pebblestore.Options{Memory: true})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			g := New(s, Options{Clock: &SystemClock{}})
			fill(b, g, things)
			document := `{"operation":"test"}`
			for n := 1; n < jobs; n++ {
				if _, err := g.CreateJob(ctx, NewJob{ID: muster.JobID(fmt.Sprintf("job-%d", n)), Document: &document, Targets: []muster.Target{{Group: "all"}}}); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := g.Tick(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				if _, err := g.Report(ctx, muster.ThingName(fmt.Sprintf("thing-%06d", n%things)), "job", muster.Report{Status: muster.InProgress}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
