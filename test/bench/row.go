package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Sample is what one measurement saw, by name. The names below are shared by
// meters so that a row and its yardstick can be compared figure by figure;
// a meter may add its own.
type Sample map[string]float64

const (
	PerSecond  = "per_s"        // operations per second
	P50        = "p50_ms"       // latency as the caller saw it
	P99        = "p99_ms"       //
	Slowest    = "longest_ms"   //
	CPUPerOp   = "cpu_us_op"    // CPU of the process under test, not of the load
	BytesPerOp = "bytes_op"     // handed to the file system: log, flush, compaction
	Seconds    = "seconds"      // how long the whole thing took
	Operations = "operations"   // how many were measured
	OpenOnly   = "open_seconds" // the part of Seconds spent inside the store's own open
)

// Meter measures one thing. Rows that point at the same two meters share
// their measurements, so that a rate and a byte count come from one run.
type Meter struct {
	Name string
	// Prepare, if set, runs once before the first round: loading and warming
	// belong here, not in the figures.
	Prepare func(context.Context) error
	Run     func(context.Context) (Sample, error)

	ready bool
}

// Comparison says what is held against the target.
type Comparison int

const (
	Ratio  Comparison = iota // row / yardstick
	Excess                   // row - yardstick, in the row's unit
	Plain                    // the row's own figure; what a row without a yardstick gets
)

// Row is one line of the table: a claim and how it is checked.
type Row struct {
	ID        string // "P1"; several rows may carry one ID
	What      string
	Yardstick string // what the yardstick is called in the table
	Figure    string // which figure of the samples is compared
	Unit      string

	Skip string // why the row cannot be measured here; "" if it can

	Measure *Meter
	Against *Meter // nil: the figure is judged by itself
	Compare Comparison

	// Target and Good are compared with the ratio, the excess or the figure;
	// both zero means the row only informs.
	Target, Good  float64
	LowerIsBetter bool
}

// Verdict is the last column of the table.
type Verdict string

const (
	Met     Verdict = "met"
	GoodFor Verdict = "good, not met"
	NotMet  Verdict = "NOT MET"
	Informs Verdict = "-"
	Failed  Verdict = "FAILED"
	Skipped Verdict = "skipped"
)

// Result is a row with its rounds. Samples and Yardsticks are paired by round.
type Result struct {
	ID            string    `json:"id"`
	What          string    `json:"what"`
	Yardstick     string    `json:"yardstick,omitempty"`
	Figure        string    `json:"figure"`
	Unit          string    `json:"unit"`
	Median        float64   `json:"median"`
	YardMedian    float64   `json:"yardstick_median,omitempty"`
	Compared      float64   `json:"compared"`
	Low           float64   `json:"compared_low"`
	High          float64   `json:"compared_high"`
	Comparison    string    `json:"comparison"`
	Target        float64   `json:"target,omitempty"`
	Good          float64   `json:"good,omitempty"`
	LowerIsBetter bool      `json:"lower_is_better"`
	Verdict       Verdict   `json:"verdict"`
	Error         string    `json:"error,omitempty"`
	Medians       Sample    `json:"medians"`
	YardMedians   Sample    `json:"yardstick_medians,omitempty"`
	Values        []float64 `json:"rounds"`
	YardValues    []float64 `json:"yardstick_rounds,omitempty"`
}

// pair is what is measured together. It is the unit of interleaving: a row and
// its yardstick run next to each other, so that a slow minute of the machine
// falls on both.
type pair struct{ measure, against *Meter }

type rounds struct {
	measure, against []Sample
	err              error
}

// runner runs the pairs of some rows in random order.
type runner struct {
	rounds int
	rand   *rand.Rand
	log    io.Writer
	// settle is called before each measurement, so that nobody pays for dirty
	// pages that another left behind.
	settle func()
}

// run measures every pair once per round and returns a result per row, in the
// rows' order. A pair that fails is not tried again, and its rows say why.
func (r runner) run(ctx context.Context, rows []Row) ([]Result, error) {
	seen := map[pair]*rounds{}
	var order []pair
	for _, row := range rows {
		p := pair{row.Measure, row.Against}
		if seen[p] == nil && row.Skip == "" {
			seen[p] = &rounds{}
			order = append(order, p)
		}
	}
	for round := range r.rounds {
		r.rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, p := range order {
			got := seen[p]
			if got.err != nil {
				continue
			}
			got.err = r.runPair(ctx, round, p, got)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	results := make([]Result, 0, len(rows))
	for _, row := range rows {
		results = append(results, row.result(seen[pair{row.Measure, row.Against}]))
	}
	return results, nil
}

func (r runner) runPair(ctx context.Context, round int, p pair, got *rounds) error {
	type turn struct {
		meter *Meter
		into  *[]Sample
	}
	turns := []turn{{p.measure, &got.measure}}
	if p.against != nil {
		turns = append(turns, turn{p.against, &got.against})
	}
	for _, t := range turns {
		if err := t.meter.prepare(ctx, r.log); err != nil {
			return err
		}
	}
	r.rand.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	for _, t := range turns {
		if r.settle != nil {
			r.settle()
		}
		start := time.Now()
		s, err := t.meter.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", t.meter.Name, err)
		}
		*t.into = append(*t.into, s)
		fmt.Fprintf(r.log, "round %d  %-34s %5.1fs  %s\n", round+1, t.meter.Name, time.Since(start).Seconds(), s)
	}
	return nil
}

func (m *Meter) prepare(ctx context.Context, log io.Writer) error {
	if m.ready || m.Prepare == nil {
		return nil
	}
	fmt.Fprintf(log, "preparing %s\n", m.Name)
	if err := m.Prepare(ctx); err != nil {
		return fmt.Errorf("preparing %s: %w", m.Name, err)
	}
	m.ready = true
	return nil
}

func (r Row) result(got *rounds) Result {
	compare := r.Compare
	if r.Against == nil {
		compare = Plain
	}
	res := Result{
		ID: r.ID, What: r.What, Yardstick: r.Yardstick, Figure: r.Figure, Unit: r.Unit,
		Comparison: compare.String(), Target: r.Target, Good: r.Good, LowerIsBetter: r.LowerIsBetter,
	}
	switch {
	case r.Skip != "":
		res.Verdict, res.Error = Skipped, r.Skip
		return res
	case got.err != nil:
		res.Verdict, res.Error = Failed, got.err.Error()
		return res
	}
	var ok bool
	if res.Values, ok = figures(got.measure, r.Figure); !ok {
		return res.missing(r.Measure, r.Figure)
	}
	if r.Against != nil {
		// What is judged by itself may be something that the yardstick does not do.
		if res.YardValues, ok = figures(got.against, r.Figure); !ok && compare != Plain {
			return res.missing(r.Against, r.Figure)
		}
	}
	res.Medians, res.YardMedians = medians(got.measure), medians(got.against)
	res.Median, res.YardMedian = median(res.Values), median(res.YardValues)
	res.Compared = compare.of(res.Median, res.YardMedian)
	res.Low, res.High = math.Inf(1), math.Inf(-1)
	for i, v := range res.Values {
		var y float64
		if len(res.YardValues) > 0 {
			y = res.YardValues[i]
		}
		c := compare.of(v, y)
		res.Low, res.High = min(res.Low, c), max(res.High, c)
	}
	if anyNotFinite(res.Compared, res.Low, res.High) {
		res.Compared, res.Low, res.High = 0, 0, 0
		res.Verdict, res.Error = Failed, "the yardstick measured zero"
		return res
	}
	res.Verdict = r.judge(res.Compared)
	return res
}

func (res Result) missing(m *Meter, figure string) Result {
	res.Verdict, res.Error = Failed, fmt.Sprintf("%s did not measure %s", m.Name, figure)
	return res
}

func (r Row) judge(v float64) Verdict {
	reaches := func(goal float64) bool {
		if r.LowerIsBetter {
			return v <= goal
		}
		return v >= goal
	}
	switch {
	case r.Target == 0 && r.Good == 0:
		return Informs
	case reaches(r.Target):
		return Met
	case reaches(r.Good):
		return GoodFor
	}
	return NotMet
}

func (c Comparison) of(row, yard float64) float64 {
	switch c {
	case Ratio:
		return row / yard
	case Excess:
		return row - yard
	}
	return row
}

func (c Comparison) String() string {
	return [...]string{"ratio", "excess", "plain"}[c]
}

// String lists the figures by name, so that two lines of the log read alike.
func (s Sample) String() string {
	var out []byte
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if len(out) > 0 {
			out = append(out, "  "...)
		}
		out = fmt.Appendf(out, "%s=%s", k, figure(s[k]))
	}
	return string(out)
}

func figures(samples []Sample, name string) ([]float64, bool) {
	var out []float64
	for _, s := range samples {
		v, ok := s[name]
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, len(out) > 0
}

// medians takes the median figure by figure; the figures of one median sample
// may come from different rounds.
func medians(samples []Sample) Sample {
	if len(samples) == 0 {
		return nil
	}
	out := Sample{}
	for name := range samples[0] {
		if values, ok := figures(samples, name); ok {
			out[name] = median(values)
		}
	}
	return out
}

// median is the middle value, or the mean of the middle two; 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

func anyNotFinite(values ...float64) bool {
	return slices.ContainsFunc(values, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}
