package meter

import (
	"slices"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	h.Over([]int64{1, 10, 100})
	for _, v := range []int64{-5, 0, 1, 2, 10, 11, 100, 101, 1000} {
		h.Observe(v)
	}
	s := h.Snapshot()
	if want := []uint64{3, 5, 7}; !slices.Equal(s.Counts, want) || s.Count != 9 || s.Sum != 0+0+1+2+10+11+100+101+1000 {
		t.Errorf("%+v", s)
	}
}

func TestBounds(t *testing.T) {
	for _, bounds := range [][]int64{Latency, Lateness, Sizes} {
		if !slices.IsSorted(bounds) || len(bounds) > most {
			t.Error(bounds)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	h.Over(Latency)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			h.Took(700 * time.Microsecond)
		}
	})
}
