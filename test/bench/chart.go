package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A chart is lines over one pair of axes. A pixel of style is all that a plotting
// library would add, and none of those writes a picture that follows the
// reader's choice of light or dark.
type chart struct {
	title  string
	x, y   string // what the axes say, units included
	series []line
}

// A line has a point for each x, ascending; low and high are the worst and the
// best of its rounds, and may be nil.
type line struct {
	name      string
	x, y      []float64
	low, high []float64
}

const (
	chartWidth, chartHeight = 720.0, 380.0
	plotLeft, plotTop       = 76.0, 44.0
	plotRight, plotBottom   = 560.0, 318.0 // the names of the lines stand to the right
)

// Colours that are told apart by most eyes, on white and on near black; lines
// also differ in dashes and marks.
var strokes = []struct{ light, dark, dash, mark string }{
	{"#0b62b5", "#6cb6ff", "", "circle"},
	{"#b3540a", "#f0a860", "7 4", "square"},
	{"#237a36", "#7ed08c", "2 4", "diamond"},
	{"#8540a8", "#d19bef", "10 3 2 3", "circle"},
}

// svg draws the chart. Axes whose figures span more than a decade are logarithmic,
// others begin at zero.
func (c chart) svg() string {
	xs, ys := axisOf(c.values(func(l line) [][]float64 { return [][]float64{l.x} })), axisOf(c.values(func(l line) [][]float64 { return [][]float64{l.y, l.low, l.high} }))
	px := func(v float64) float64 { return plotLeft + xs.at(v)*(plotRight-plotLeft) }
	py := func(v float64) float64 { return plotBottom - ys.at(v)*(plotBottom-plotTop) }

	var b strings.Builder
	draw := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	draw(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" font-family="system-ui, sans-serif" font-size="13">`, chartWidth, chartHeight)
	draw(`<title>%s</title>`, html.EscapeString(c.title))
	draw(`<desc>%s</desc>`, html.EscapeString(c.describe()))
	b.WriteString(chartStyle())
	draw(`<rect class="paper" width="%g" height="%g"/>`, chartWidth, chartHeight)
	draw(`<text class="ink" x="%g" y="24" font-size="15" font-weight="600">%s</text>`, plotLeft, html.EscapeString(c.title))
	for _, t := range xs.ticks() {
		draw(`<path class="grid" d="M%.1f %.1fV%.1f"/>`, px(t), plotTop, plotBottom)
		draw(`<text class="ink" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, px(t), plotBottom+20, short(t))
	}
	for _, t := range ys.ticks() {
		draw(`<path class="grid" d="M%.1f %.1fH%.1f"/>`, plotLeft, py(t), plotRight)
		draw(`<text class="ink" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, plotLeft-8, py(t)+4.5, short(t))
	}
	draw(`<path class="axis" d="M%.1f %.1fV%.1fH%.1f"/>`, plotLeft, plotTop, plotBottom, plotRight)
	draw(`<text class="ink" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, (plotLeft+plotRight)/2, plotBottom+44, html.EscapeString(c.x+xs.note()))
	draw(`<text class="ink" transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, (plotTop+plotBottom)/2, html.EscapeString(c.y+ys.note()))
	names := spread(c.series, py)
	for i, l := range c.series {
		s := strokes[i%len(strokes)]
		var path []string
		for k := range l.x {
			path = append(path, fmt.Sprintf("%.1f %.1f", px(l.x[k]), py(l.y[k])))
			if l.low != nil {
				draw(`<path class="s%d thin" d="M%.1f %.1fV%.1f"/>`, i, px(l.x[k]), py(l.low[k]), py(l.high[k]))
			}
		}
		draw(`<path class="s%d" stroke-dasharray="%s" d="M%s"/>`, i, s.dash, strings.Join(path, "L"))
		for k := range l.x {
			draw(`%s`, mark(s.mark, i, px(l.x[k]), py(l.y[k])))
		}
		last := len(l.x) - 1
		draw(`<path class="s%d thin" d="M%.1f %.1fL%.1f %.1f"/>`, i, px(l.x[last])+6, py(l.y[last]), plotRight+14, names[i])
		draw(`<text class="t%d" x="%.1f" y="%.1f">%s</text>`, i, plotRight+18, names[i]+4.5, html.EscapeString(l.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func chartStyle() string {
	var light, dark strings.Builder
	for i, s := range strokes {
		for to, colour := range map[*strings.Builder]string{&light: s.light, &dark: s.dark} {
			fmt.Fprintf(to, ".s%d{stroke:%s}.t%d,.m%d{fill:%s}", i, colour, i, i, colour)
		}
	}
	return "<style>path{fill:none;stroke-width:2}.thin{stroke-width:1}.grid,.axis{stroke-width:1}" +
		".paper{fill:#fff}.ink{fill:#1f2328}.grid{stroke:#d8dee4}.axis{stroke:#6e7781}" + light.String() +
		"@media(prefers-color-scheme:dark){.paper{fill:#0d1117}.ink{fill:#d1d7e0}.grid{stroke:#2a313c}.axis{stroke:#8b949e}" + dark.String() + "}</style>\n"
}

func mark(kind string, i int, x, y float64) string {
	switch kind {
	case "square":
		return fmt.Sprintf(`<rect class="m%d" x="%.1f" y="%.1f" width="8" height="8"/>`, i, x-4, y-4)
	case "diamond":
		return fmt.Sprintf(`<rect class="m%d" x="%.1f" y="%.1f" width="8" height="8" transform="rotate(45 %.1f %.1f)"/>`, i, x-4, y-4, x, y)
	}
	return fmt.Sprintf(`<circle class="m%d" cx="%.1f" cy="%.1f" r="4.5"/>`, i, x, y)
}

// spread puts the names of lines beside their ends, apart from each other.
func spread(series []line, py func(float64) float64) []float64 {
	const apart = 18
	order := make([]int, len(series))
	at := make([]float64, len(series))
	for i, l := range series {
		order[i], at[i] = i, py(l.y[len(l.y)-1])
	}
	slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, at[a]-at[b])) })
	for k := 1; k < len(order); k++ {
		at[order[k]] = max(at[order[k]], at[order[k-1]]+apart)
	}
	// What ran out at the bottom moves up, and pushes those above it.
	for k, lowest := len(order)-1, plotBottom; k >= 0; k-- {
		at[order[k]] = min(at[order[k]], lowest)
		lowest = at[order[k]] - apart
	}
	return at
}

// describe says in words what the picture shows, for those who do not see it.
func (c chart) describe() string {
	var all []string
	for _, l := range c.series {
		var points []string
		for k := range l.x {
			points = append(points, short(l.y[k])+" at "+short(l.x[k]))
		}
		all = append(all, l.name+": "+strings.Join(points, ", "))
	}
	return c.y + " by " + c.x + ". " + strings.Join(all, ". ") + "."
}

func (c chart) values(of func(line) [][]float64) (all []float64) {
	for _, l := range c.series {
		for _, v := range of(l) {
			all = append(all, v...)
		}
	}
	return all
}

// An axis maps figures to 0..1.
type axis struct {
	low, high float64
	log       bool
}

// logFrom is how far figures must lie apart for a logarithmic axis.
const logFrom = 10

func axisOf(values []float64) axis {
	low, high := slices.Min(values), slices.Max(values)
	if low > 0 && high/low > logFrom {
		return axis{math.Pow(10, math.Floor(math.Log10(low)+1e-9)), math.Pow(10, math.Ceil(math.Log10(high)-1e-9)), true}
	}
	step := niceStep(high / 5)
	return axis{0, max(step, math.Ceil(high/step-1e-9)*step), false}
}

func (a axis) at(v float64) float64 {
	if a.log {
		return (math.Log10(v) - math.Log10(a.low)) / (math.Log10(a.high) - math.Log10(a.low))
	}
	return (v - a.low) / (a.high - a.low)
}

func (a axis) ticks() (all []float64) {
	if a.log {
		for v := a.low; v <= a.high*1.0001; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	step := niceStep(a.high / 5)
	for v := a.low; v <= a.high+step/1000; v += step {
		all = append(all, v)
	}
	return all
}

func (a axis) note() string {
	if a.log {
		return " (logarithmic)"
	}
	return ""
}

// niceStep is 1, 2 or 5 times a power of ten, not below about v.
func niceStep(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

// short is a figure as an axis shows it: 250k, 1M, 0.5.
func short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
