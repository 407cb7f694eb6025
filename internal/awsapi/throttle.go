package awsapi

import (
	"net/http"

	"golang.org/x/time/rate"

	"muster"
	"muster/internal/awsapi/wire"
)

// Throttle limits requests per second of the whole account, as AWS's quotas do (events-and-limits.md
// §2). Zero is no limit.
type Throttle struct {
	DataReads  float64 // DescribeJobExecution and GetPendingJobExecutions together
	DataWrites float64 // StartNextPendingJobExecution and UpdateJobExecution together
	Control    float64 // each operation of the control plane by itself
}

type limits struct {
	reads, writes *rate.Limiter
	control       map[string]*rate.Limiter
}

func newLimits(t Throttle) *limits {
	l := &limits{reads: limiter(t.DataReads), writes: limiter(t.DataWrites)}
	if t.Control > 0 {
		l.control = map[string]*rate.Limiter{}
		for _, r := range routes {
			if r.Plane == wire.Control {
				l.control[r.Name] = limiter(t.Control)
			}
		}
	}
	return l
}

// limiter lets a second's worth through at once, so that a client that asks rarely never waits.
func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
}

// admit refuses a request that is over its limit.
func (l *limits) admit(op wire.Operation) error {
	limiter := l.control[op.Name]
	if op.Plane == wire.Data {
		limiter = l.writes
		if op.Method == http.MethodGet {
			limiter = l.reads
		}
	}
	if limiter == nil || limiter.Allow() {
		return nil
	}
	return muster.Errorf(muster.Throttled, "Rate exceeded for %s", op.Name)
}
