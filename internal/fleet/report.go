package fleet

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"muster"
)

// A Report is what a fleet has to tell once it is gone.
type Report struct {
	Devices  int           `json:"devices"`
	Seed     uint64        `json:"seed"`
	Ran      time.Duration `json:"ranNanoseconds"`
	Requests int64         `json:"requests"`
	P50      time.Duration `json:"p50Nanoseconds"` // of the answers
	P99      time.Duration `json:"p99Nanoseconds"`
	Connects int64         `json:"connects"`
	Crashes  int64         `json:"crashes"`
	// Breaks are connections that ended without being meant to, Refused requests refused that the plan did not mean to be,
	// by reason; Busy are those that the service asked to come again.
	Breaks     map[string]int64 `json:"breaks,omitempty"`
	Refused    map[string]int64 `json:"refused,omitempty"`
	Busy       int64            `json:"busy"`
	Duplicates int64            `json:"duplicatesRefused"`
	Stale      int64            `json:"staleRefused"`
	Notices    int64            `json:"notices"`
	// Memory of the process at most, and how much more it is for a device than before there were any, in bytes.
	Memory    int64       `json:"memory"`
	PerDevice int64       `json:"memoryPerDevice"`
	Jobs      []*JobCheck `json:"jobs"`
	// Wrong is what the service did that it must not.
	Wrong      []string `json:"wrong,omitempty"`
	WrongCount int64    `json:"wrongCount"`
}

// Account holds every job that devices have got, and one that they should have got, against the service. The fleet must have
// stopped.
func Account(ctx context.Context, f *Fleet, control *iot.Client, expected string) (*Report, error) {
	s := &f.stats
	before, most := f.Memory()
	r := &Report{Devices: len(f.devices), Seed: f.Plan.Seed, Ran: f.ran, Requests: s.Requests.Load(), P50: s.Latency(0.5), P99: s.Latency(0.99),
		Connects: s.Connects.Load(), Crashes: s.Crashes.Load(), Breaks: f.breaks, Refused: f.refusals, Busy: s.Busy.Load(),
		Duplicates: s.Duplicates.Load(), Stale: s.StaleRefused.Load(), Notices: s.Notices.Load(),
		Memory: most, PerDevice: (most - before) / int64(len(f.devices)), Wrong: f.problems, WrongCount: s.Wrong.Load()}
	jobs := f.Jobs()
	if expected != "" && !slices.Contains(jobs, expected) {
		jobs = append(jobs, expected)
	}
	for _, id := range jobs {
		c, err := Check(ctx, f, control, id)
		if err != nil {
			return nil, err
		}
		r.Jobs = append(r.Jobs, c)
	}
	return r, nil
}

// Good says whether everything adds up.
func (r *Report) Good() bool {
	return r.WrongCount == 0 && !slices.ContainsFunc(r.Jobs, func(c *JobCheck) bool { return !c.Good() })
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%d devices, seed %d, for %s", r.Devices, r.Seed, r.Ran.Round(100*time.Millisecond))
	line("  requests     %d, %.0f a second; half of the answers within %s, 99 of 100 within %s", r.Requests, float64(r.Requests)/max(r.Ran.Seconds(), 0.001), r.P50, r.P99)
	line("  connections  %d made, %d cut by crashes%s", r.Connects, r.Crashes, reasons(", %d broken", r.Breaks))
	line("  refused      %d duplicates and %d stale versions, as they must be%s", r.Duplicates, r.Stale, reasons("; %d others", r.Refused))
	if r.Busy > 0 {
		line("  busy         %d requests were told to come again, and did", r.Busy)
	}
	if r.PerDevice > 0 {
		line("  memory       %.1f MB at most, %.1f KB for each device", float64(r.Memory)/1e6, float64(r.PerDevice)/1e3)
	}
	for _, c := range r.Jobs {
		c.describe(&b)
	}
	for _, w := range r.Wrong {
		line("wrong: %s", w)
	}
	if more := r.WrongCount - int64(len(r.Wrong)); more > 0 {
		line("wrong: and %d more", more)
	}
	if r.Good() {
		line("everything adds up")
	} else {
		line("it does NOT add up")
	}
	return b.String()
}

func reasons(format string, by map[string]int64) string {
	total := int64(0)
	var parts []string
	for why, n := range by {
		total += n
		parts = append(parts, fmt.Sprintf("%s: %d", why, n))
	}
	if total == 0 {
		return ""
	}
	sort.Strings(parts)
	return fmt.Sprintf(format, total) + " (" + strings.Join(parts, "; ") + ")"
}

func (c *JobCheck) describe(b *strings.Builder) {
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("job %s is %s", c.Job, c.Status)
	line("  %-12s %10s %10s %10s %10s", "", "seeded", "devices", "listed", "counted")
	for s := muster.Queued; s < muster.NumStatus; s++ {
		if c.Seeded[s]|c.Told[s]|c.Listed[s]|c.Counted[s] == 0 {
			continue
		}
		line("  %-12s %10d %10d %10d %10d", s, c.Seeded[s], c.Told[s], c.Listed[s], c.Counted[s])
	}
	line("  %d of %d things are as seeded, %d retries included", c.AsSeeded, c.Things, c.Retries)
	if c.Others+c.Earlier > 0 {
		line("  counted besides: %d executions on other things, %d that ended before", c.Others, c.Earlier)
	}
	if c.Unsettled > 0 {
		line("  of %d reports the answer was lost; the list has said what became of them", c.Unsettled)
	}
	for _, w := range c.Wrong {
		line("  wrong: %s", w)
	}
	if more := c.WrongThings - len(c.Wrong); more > 0 {
		line("  wrong: and %d more", more)
	}
}
