package metrics

import (
	"testing"
	"time"

	"muster/internal/awsapi"
	"muster/internal/awsapi/wire"
)

// BenchmarkCount is what a request pays for being counted, but for two looks at the clock.
func BenchmarkCount(b *testing.B) {
	r := NewRequests()
	q := awsapi.Request{Operation: "UpdateJobExecution", Plane: wire.Data, Door: awsapi.DoorMQTT}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r.Count(&q, 700*time.Microsecond)
		}
	})
}

// Operations of the same name on both planes are counted apart, and what nobody serves together.
func TestCount(t *testing.T) {
	r := NewRequests()
	for _, q := range []awsapi.Request{{Operation: "DescribeJobExecution", Plane: wire.Data}, {Operation: "DescribeJobExecution", Plane: wire.Control},
		{Operation: "DescribeJobExecution", Plane: wire.Control, Result: awsapi.NotFound}, {Operation: "MadeUp", Plane: wire.Data}, {}} {
		r.Count(&q, time.Millisecond)
	}
	for op, want := range map[operation]uint64{{wire.Data, "DescribeJobExecution"}: 1, {wire.Control, "DescribeJobExecution"}: 2} {
		if got := r.of[op].took[awsapi.DoorHTTP].Snapshot().Count; got != want {
			t.Errorf("%v: %d, not %d", op, got, want)
		}
	}
	if got := r.other.results[awsapi.DoorHTTP][awsapi.OK].Load(); got != 2 {
		t.Errorf("other: %d", got)
	}
}
