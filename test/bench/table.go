package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// writeTable prints one aligned line per row, and under it why a row failed or
// was skipped.
func writeTable(w io.Writer, results []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "row\twhat\tmedian\tyardstick\tmedian\tcompared\tlow..high\tgood\ttarget\tverdict")
	for _, r := range results {
		cells := []string{r.ID, r.What, "-", "-", "-", "-", "-", "-", "-", string(r.Verdict)}
		if r.Yardstick != "" {
			cells[3] = r.Yardstick
		}
		if r.Verdict != Failed && r.Verdict != Skipped {
			cells[2] = withUnit(r.Median, r.Unit)
			if len(r.YardValues) > 0 {
				cells[4] = withUnit(r.YardMedian, r.Unit)
				cells[5] = r.compared(r.Compared)
			}
			cells[6] = r.compared(r.Low) + ".." + r.compared(r.High)
		}
		if r.Target != 0 || r.Good != 0 {
			cells[7], cells[8] = r.goal(r.Good), r.goal(r.Target)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Error != "" {
			fmt.Fprintf(w, "%s %s: %s\n", r.ID, r.What, r.Error)
		}
	}
	return nil
}

func (r Result) compared(v float64) string {
	switch r.Comparison {
	case Ratio.String():
		return strconv.FormatFloat(v, 'f', 2, 64) + "x"
	case Excess.String():
		if v >= 0 {
			return "+" + figure(v)
		}
	}
	return figure(v)
}

func (r Result) goal(v float64) string {
	sign := ">="
	if r.LowerIsBetter {
		sign = "<="
	}
	return sign + r.compared(v)
}

func withUnit(v float64, unit string) string {
	return strings.TrimSpace(figure(v) + " " + unit)
}

// figure prints about four significant digits with thousands set apart: these
// numbers move by tens of percent between sessions, more digits would lie.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return thousands(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a == 0:
		return "0"
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func thousands(v int64) string {
	digits := strconv.FormatInt(v, 10)
	first := 0
	if v < 0 {
		first = 1
	}
	for i := len(digits) - 3; i > first; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
