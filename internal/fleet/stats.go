package fleet

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"muster"
)

// Stats are counters of a fleet.
type Stats struct {
	Online, Connects, Breaks, Crashes atomic.Int64
	Requests, Refused, Busy, Notices  atomic.Int64
	Begun, InHand, Hung               atomic.Int64
	Duplicates, StaleRefused, Wrong   atomic.Int64
	Ended                             [muster.NumStatus]atomic.Int64
	latency                           [64 * 4]atomic.Int64 // by quarters of powers of two of microseconds
}

// String is a line about what is going on.
func (s *Stats) String() string {
	return fmt.Sprintf("%d online, %d executions begun, %d in hand, %d hang; %d SUCCEEDED, %d FAILED, %d REJECTED", s.Online.Load(), s.Begun.Load(), s.InHand.Load(), s.Hung.Load(),
		s.Ended[muster.Succeeded].Load(), s.Ended[muster.Failed].Load(), s.Ended[muster.Rejected].Load())
}

func (s *Stats) request(took time.Duration, err error) {
	s.Requests.Add(1)
	if _, busy := isRefused(err, codeThrottled, codeInternal); busy {
		s.Busy.Add(1)
	}
	us := uint64(max(took.Microseconds(), 4))
	log := bits.Len64(us) - 1
	s.latency[log*4+int(us>>(log-2)&3)].Add(1)
}

// Latency is how long a share (0 to 1) of the requests took at most, to a quarter.
func (s *Stats) Latency(share float64) time.Duration {
	total := int64(0)
	for i := range s.latency {
		total += s.latency[i].Load()
	}
	left := int64(share * float64(total))
	for i := range s.latency {
		if left -= s.latency[i].Load(); left < 0 {
			log := i / 4
			return time.Duration((uint64(1)<<log)/4*uint64(5+i%4)) * time.Microsecond
		}
	}
	return 0
}

// memory is what the process takes.
type memory struct {
	before int64
	most   atomic.Int64
}

const memoryEvery = 250 * time.Millisecond

func (m *memory) begin() {
	runtime.GC()
	m.before = resident()
	m.most.Store(m.before)
}

func (m *memory) watch(over <-chan struct{}) {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		m.most.Store(max(m.most.Load(), resident()))
		select {
		case <-tick.C:
		case <-over:
			return
		}
	}
}

// Memory is how much the process had before there were devices, and at most, in bytes: resident memory on Linux, elsewhere what
// Go has from the system.
func (f *Fleet) Memory() (before, most int64) { return f.memory.before, f.memory.most.Load() }

func resident() int64 {
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				return pages * int64(os.Getpagesize())
			}
		}
	}
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}
