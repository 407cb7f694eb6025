package awsapi

import (
	"context"
	"net/http"
	"time"

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
	// Concurrent is how many requests of the data plane may be under way at once, by whatever door; those beyond
	// wait, and are refused when it takes too long. 0: 4096; negative: no bound.
	Concurrent int
}

const (
	defaultConcurrent = 4096
	// patience is how long a request may wait for others. A client that is refused then comes again later.
	patience = 5 * time.Second
)

type limits struct {
	reads, writes *rate.Limiter
	control       map[string]*rate.Limiter
	places        chan struct{} // holds one for each request under way; nil: any number
}

func newLimits(t Throttle) *limits {
	l := &limits{reads: limiter(t.DataReads), writes: limiter(t.DataWrites)}
	if t.Concurrent == 0 {
		t.Concurrent = defaultConcurrent
	}
	if t.Concurrent > 0 {
		l.places = make(chan struct{}, t.Concurrent)
	}
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

// enter waits until there is room for one more request. If it returns nil the caller must leave.
func (l *limits) enter(ctx context.Context, op wire.Operation) error {
	if l.places == nil || op.Plane != wire.Data {
		return nil
	}
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case l.places <- struct{}{}:
		return nil
	case <-late.C:
		return muster.Errorf(muster.Throttled, "There are too many requests under way; ask again later")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave makes room for another request.
func (l *limits) leave(op wire.Operation) {
	if l.places != nil && op.Plane == wire.Data {
		<-l.places
	}
}
