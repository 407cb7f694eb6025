package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"of nothing", nil, 0},
		{"of one", []float64{7}, 7},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even is the mean of the middle two", []float64{4, 1, 3, 100}, 3.5},
		{"one wild round does not show", []float64{100, 101, 1e9}, 101},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("%s: median(%v) = %v, want %v", c.name, c.values, got, c.want)
		}
	}
	values := []float64{3, 1, 2}
	if median(values); values[0] != 3 {
		t.Error("median sorted its argument: rounds would no longer pair up")
	}
}

// scripted answers with one sample after another and counts how often it ran.
func scripted(name string, calls *[]string, samples ...Sample) *Meter {
	next := 0
	return &Meter{Name: name, Run: func(context.Context) (Sample, error) {
		*calls = append(*calls, name)
		s := samples[next%len(samples)]
		next++
		return s, nil
	}}
}

func quietRunner(n int) runner {
	return runner{rounds: n, rand: rand.New(rand.NewPCG(1, 2)), log: io.Discard}
}

func TestRunPairsAndShares(t *testing.T) {
	var calls []string
	row := scripted("row", &calls, Sample{PerSecond: 300, P99: 4}, Sample{PerSecond: 100, P99: 2}, Sample{PerSecond: 200, P99: 3})
	yard := scripted("yard", &calls, Sample{PerSecond: 100, P99: 1})
	alone := scripted("alone", &calls, Sample{Seconds: 0.5})
	results, err := quietRunner(3).run(t.Context(), []Row{
		{ID: "P1", Figure: PerSecond, Measure: row, Against: yard, Target: 2, Good: 1.3},
		{ID: "P2", Figure: P99, Measure: row, Against: yard, Target: 2, Good: 3, LowerIsBetter: true},
		{ID: "P8", Figure: Seconds, Measure: alone, Target: 0.1, Good: 1, LowerIsBetter: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for i, c := range calls {
		count[c]++
		if c == "row" && !(i > 0 && calls[i-1] == "yard") && !(i+1 < len(calls) && calls[i+1] == "yard") {
			t.Errorf("the yardstick did not run next to the row: %v", calls)
		}
	}
	if count["row"] != 3 || count["yard"] != 3 || count["alone"] != 3 {
		t.Errorf("ran %v, want each three times however many rows share it", count)
	}
	rate, late, plain := results[0], results[1], results[2]
	if rate.Median != 200 || rate.YardMedian != 100 || rate.Compared != 2 || rate.Low != 1 || rate.High != 3 || rate.Verdict != Met {
		t.Errorf("rate: %+v", rate)
	}
	if late.Compared != 3 || late.Verdict != GoodFor {
		t.Errorf("latency: %+v", late)
	}
	if plain.Comparison != "plain" || plain.Compared != 0.5 || plain.Verdict != GoodFor {
		t.Errorf("without a yardstick: %+v", plain)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name string
		row  Row
		v    float64
		want Verdict
	}{
		{"faster than the target", Row{Target: 2.5, Good: 1.3}, 2.6, Met},
		{"exactly the target", Row{Target: 2.5, Good: 1.3}, 2.5, Met},
		{"between good and target", Row{Target: 2.5, Good: 1.3}, 2, GoodFor},
		{"below good", Row{Target: 2.5, Good: 1.3}, 1, NotMet},
		{"lower is better, met", Row{Target: 0.5, Good: 0.8, LowerIsBetter: true}, 0.5, Met},
		{"lower is better, good", Row{Target: 0.5, Good: 0.8, LowerIsBetter: true}, 0.7, GoodFor},
		{"lower is better, missed", Row{Target: 0.5, Good: 0.8, LowerIsBetter: true}, 0.9, NotMet},
		{"an excess below nothing", Row{Target: 1, Good: 4, LowerIsBetter: true}, -0.2, Met},
		{"no goal", Row{}, 17, Informs},
	} {
		if got := c.row.judge(c.v); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRunReportsFailuresOnTheirRows(t *testing.T) {
	var calls []string
	prepared := 0
	broken := &Meter{Name: "broken", Run: func(context.Context) (Sample, error) {
		calls = append(calls, "broken")
		return nil, errors.New("disk full")
	}}
	fine := scripted("fine", &calls, Sample{PerSecond: 10})
	fine.Prepare = func(context.Context) error { prepared++; return nil }
	zero := scripted("zero", &calls, Sample{PerSecond: 0})
	results, err := quietRunner(3).run(t.Context(), []Row{
		{ID: "A", Figure: PerSecond, Measure: broken, Target: 1, Good: 1},
		{ID: "B", Figure: PerSecond, Measure: fine},
		{ID: "C", Figure: "no such figure", Measure: fine},
		{ID: "D", Figure: PerSecond, Measure: fine, Against: zero},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"disk full", "", "did not measure", "measured zero"} {
		r := results[i]
		if want == "" && r.Verdict != Informs || want != "" && (r.Verdict != Failed || !strings.Contains(r.Error, want)) {
			t.Errorf("%s: %s %q, want %q", r.ID, r.Verdict, r.Error, want)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times, want once", prepared)
	}
	if n := strings.Count(strings.Join(calls, " "), "broken"); n != 1 {
		t.Errorf("a broken meter ran %d times, want once", n)
	}
}

func TestRunStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := &Meter{Name: "m", Run: func(context.Context) (Sample, error) { cancel(); return Sample{PerSecond: 1}, nil }}
	if _, err := quietRunner(3).run(ctx, []Row{{ID: "A", Figure: PerSecond, Measure: m}}); !errors.Is(err, context.Canceled) {
		t.Errorf("run returned %v, want context canceled", err)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	err := writeTable(&out, []Result{
		{ID: "P1", What: "engine update, 64 callers", Yardstick: "Y2", Unit: "/s", Median: 81234.4, YardMedian: 31200,
			YardValues: []float64{31200}, Compared: 2.6036, Low: 2.41, High: 2.7, Comparison: "ratio", Target: 2.5, Good: 1.3, Verdict: Met},
		{ID: "P8", What: "CreateJob answers", Unit: "ms", Median: 120.6, Compared: 120.6, Low: 99.96, High: 130, Comparison: "plain",
			Target: 100, Good: 1000, LowerIsBetter: true, Verdict: GoodFor},
		{ID: "P14", What: "ready after kill", Yardstick: "Y2", Unit: "s", Median: 1.25, YardMedian: 1.5, YardValues: []float64{1.5},
			Compared: -0.25, Low: -0.5, High: 0.125, Comparison: "excess", Target: 1, Good: 4, LowerIsBetter: true, Verdict: Met},
		{ID: "P3", What: "HTTP update", Yardstick: "Y3", Comparison: "ratio", Target: 0.6, Good: 0.45, Verdict: Failed, Error: "connection refused"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `row  what                       median     yardstick  median     compared  low..high       good      target   verdict
P1   engine update, 64 callers  81,234 /s  Y2         31,200 /s  2.60x     2.41x..2.70x    >=1.30x   >=2.50x  met
P8   CreateJob answers          121 ms     -          -          -         100.0..130      <=1,000   <=100    good, not met
P14  ready after kill           1.250 s    Y2         1.500 s    -0.250    -0.500..+0.125  <=+4.000  <=+1.000 met
P3   HTTP update                -          Y3         -          -         -               >=0.45x   >=0.60x  FAILED
P3 HTTP update: connection refused
`
	// Columns are compared by their words; tabwriter answers for the spaces.
	if got, want := words(out.String()), words(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	lines := strings.Split(out.String(), "\n")
	if at := strings.Index(lines[0], "verdict"); strings.Index(lines[1], "met") != at || strings.Index(lines[4], "FAILED") != at {
		t.Errorf("the last column is not aligned:\n%s", out.String())
	}
}

func words(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(out, "\n")
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.12345: "0.123", 9.87654: "9.877", 12.34: "12.3", 123.4: "123", 999.6: "1000",
		1234.5: "1,235", 1234567: "1,234,567", -45678: "-45,678",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
}
