package main

import (
	"encoding/xml"
	"io"
	"math"
	"os"
	"strings"
	"testing"
)

func TestAxis(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		log    bool
		ticks  string
	}{
		{"decades", []float64{1000, 1_000_000}, true, "1k 10k 100k 1M"},
		{"below one", []float64{0.4, 55}, true, "0.1 1 10 100"},
		{"within a decade begins at zero", []float64{31_000, 98_000}, false, "0 20k 40k 60k 80k 100k"},
		{"a zero cannot be on a logarithmic axis", []float64{0, 4000}, false, "0 1k 2k 3k 4k"},
		{"one figure", []float64{7}, false, "0 2 4 6 8"},
		{"nothing happened", []float64{0}, false, "0 0.2 0.4 0.6 0.8 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := axisOf(c.values)
			var got []string
			for _, v := range a.ticks() {
				got = append(got, short(v))
			}
			if a.log != c.log || strings.Join(got, " ") != c.ticks {
				t.Errorf("log %v, ticks %v", a.log, got)
			}
			for _, v := range c.values {
				if at := a.at(v); math.IsNaN(at) || at < -1e-9 || at > 1+1e-9 {
					t.Errorf("%v lies at %v", v, at)
				}
			}
		})
	}
}

// The picture is well-formed, says in words what it shows, and names its axes.
func TestChart(t *testing.T) {
	c := chart{title: "Speed & size", x: "things", y: "per second", series: []line{
		{name: "a <b>", x: []float64{1, 10, 100}, y: []float64{5, 50, 500}, low: []float64{4, 40, 400}, high: []float64{6, 60, 600}},
		{name: "c", x: []float64{1, 10, 100}, y: []float64{5, 50, 499}},
		{name: "d", x: []float64{1, 100}, y: []float64{5, 5}},
	}}
	svg := c.svg()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"Speed &amp; size", "things (logarithmic)", "per second (logarithmic)", "a &lt;b&gt;: 5 at 1, 50 at 10, 500 at 100", "prefers-color-scheme:dark"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("a point is nowhere")
	}
	// Names of lines that end at one place stand apart.
	at := spread(c.series, func(v float64) float64 { return plotBottom - v/2 })
	if d := math.Abs(at[0] - at[1]); d < 17.9 {
		t.Errorf("names %v apart", d)
	}
}

// Every target has a row.
func TestTargetsHaveRows(t *testing.T) {
	b, err := newBench(t.TempDir(), leastThings, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	has := map[string]bool{}
	for _, r := range rows(b) {
		has[r.ID] = true
		if r.ID[0] == 'P' && targets[r.ID] == "" {
			t.Errorf("nothing says what %s is about", r.ID)
		}
		name, _, _ := strings.Cut(r.Yardstick, " ")
		if strings.HasPrefix(name, "Y") && yardsticks[name] == "" {
			t.Errorf("nothing says what yardstick %s is", name)
		}
	}
	for id := range targets {
		if !has[id] {
			t.Errorf("%s has no row", id)
		}
	}
}

// The page shows the run that lies beside it, as this program prints it.
func TestPageShowsTheRun(t *testing.T) {
	var table strings.Builder
	if err := showFile(&table, "../../docs/bench/run.json"); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```\n"+table.String()+"```\n") {
		t.Error("docs/benchmarks.md does not show docs/bench/run.json; go run ./test/bench -show docs/bench/run.json prints it")
	}
}
