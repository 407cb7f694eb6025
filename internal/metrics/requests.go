// Package metrics shows what the rooms have counted, in the form of Prometheus. It counts requests itself, and asks for the rest
// when it is scraped. No label has the name of a thing, a job or a client: there is no bound to those.
package metrics

import (
	"sync/atomic"
	"time"

	"muster/internal/awsapi"
	"muster/internal/awsapi/wire"
	"muster/internal/meter"
)

// Requests count requests. Counting costs a look-up and three atomic additions.
type Requests struct {
	of    map[operation]*requests
	other *requests // no served operation
}

type operation struct {
	plane wire.Plane
	name  string
}

// requests are those of one operation.
type requests struct {
	results [awsapi.NumDoors][awsapi.NumResults]atomic.Uint64
	took    [awsapi.NumDoors]meter.Histogram
}

func newRequests() *requests {
	r := &requests{}
	for i := range r.took {
		r.took[i].Over(meter.Latency)
	}
	return r
}

// NewRequests makes counters for all operations that are served.
func NewRequests() *Requests {
	r := &Requests{of: map[operation]*requests{{wire.Data, "Publish"}: newRequests()}, other: newRequests()}
	for _, op := range awsapi.Operations() {
		if op.Built {
			r.of[operation{op.Plane, op.Name}] = newRequests()
		}
	}
	return r
}

// Count counts a request.
func (r *Requests) Count(q *awsapi.Request, took time.Duration) {
	c := r.of[operation{q.Plane, q.Operation}]
	if c == nil {
		c = r.other
	}
	c.results[q.Door][q.Result].Add(1)
	c.took[q.Door].Took(took)
}
