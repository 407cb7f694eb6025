package fleet

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Outcome is what becomes of one attempt at a job on one device.
type Outcome byte

// The outcomes. The last three end in success, but not on a straight way.
const (
	Succeed   Outcome = iota
	Fail              // FAILED at one of the steps
	Reject            // REJECTED, without a step
	Hang              // in progress, and never heard of again
	Crash             // the power is cut at one of the steps; the device comes back and goes on
	Duplicate         // sends every report twice, as a link does that loses acknowledgements
	Stale             // expects a version that is not the present one, is refused, and corrects itself
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"succeed", "fail", "reject", "hang", "crash", "duplicate", "stale"}

func (o Outcome) String() string { return outcomeNames[o] }

// A Mix is how often each outcome is, by weights of any sum.
type Mix [numOutcomes]float64

// ParseMix reads a mix such as succeed=90,fail=8,hang=2.
func ParseMix(text string) (m Mix, err error) {
	weights, err := parseWeights("outcome", text, outcomeNames[:])
	copy(m[:], weights)
	return m, err
}

// A Style is how a device finds out what to do.
type Style byte

// The styles of agents in the field.
const (
	StartNext Style = iota // asks StartNextPendingJobExecution, and again when it is notified or some time has passed
	Notify                 // lives by notify-next; MQTT only
	Poll                   // asks for $next now and then
	numStyles
)

var styleNames = [numStyles]string{"start-next", "notify", "poll"}

func (s Style) String() string { return styleNames[s] }

// Styles is how often each style is, by weights of any sum.
type Styles [numStyles]float64

// ParseStyles reads weights such as notify=2,poll=1, or one name alone.
func ParseStyles(text string) (s Styles, err error) {
	weights, err := parseWeights("agent style", text, styleNames[:])
	copy(s[:], weights)
	return s, err
}

func parseWeights(what, text string, names []string) ([]float64, error) {
	weights, sum := make([]float64, len(names)), 0.0
	for part := range strings.SplitSeq(text, ",") {
		name, number, given := strings.Cut(strings.TrimSpace(part), "=")
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("%q is no %s; there are %s", name, what, strings.Join(names, ", "))
		}
		w := 1.0
		if given {
			var err error
			if w, err = strconv.ParseFloat(strings.TrimSuffix(number, "%"), 64); err != nil || w < 0 || math.IsInf(w, 0) || math.IsNaN(w) {
				return nil, fmt.Errorf("%s=%s: a weight is a number that is not negative", name, number)
			}
		}
		weights[i] += w
		sum += w
	}
	if sum == 0 {
		return nil, fmt.Errorf("all weights of %q are zero", text)
	}
	return weights, nil
}

// A Span is a range of durations, drawn from evenly.
type Span struct{ Least, Most time.Duration }

// ParseSpan reads 2s, or 200ms..2s.
func ParseSpan(text string) (s Span, err error) {
	from, to, both := strings.Cut(text, "..")
	if s.Least, err = time.ParseDuration(from); err == nil {
		if s.Most = s.Least; both {
			s.Most, err = time.ParseDuration(to)
		}
	}
	if err != nil || s.Least < 0 || s.Most < s.Least {
		return s, fmt.Errorf("%q is no span of time; write 2s, or 200ms..2s", text)
	}
	return s, nil
}

func (s Span) at(unit float64) time.Duration {
	return s.Least + time.Duration(unit*float64(s.Most-s.Least))
}

// An Arrivals says when devices come: all at once if Over is zero, evenly over a time, ever faster (Ramp), or in bursts (Waves).
type Arrivals struct {
	Over  time.Duration
	Ramp  bool
	Waves int
}

// ParseArrivals reads at-once, over=30s, ramp=1m or waves=5/30s.
func ParseArrivals(text string) (a Arrivals, err error) {
	kind, value, _ := strings.Cut(text, "=")
	switch kind {
	case "at-once":
		if value == "" {
			return a, nil
		}
		err = fmt.Errorf("it takes no value")
	case "ramp", "over":
		a.Ramp = kind == "ramp"
		a.Over, err = time.ParseDuration(value)
	case "waves":
		n, over, _ := strings.Cut(value, "/")
		if a.Waves, err = strconv.Atoi(n); err == nil {
			a.Over, err = time.ParseDuration(over)
		}
		if err == nil && a.Waves < 1 {
			err = fmt.Errorf("there must be one at least")
		}
	default:
		err = fmt.Errorf("no such pattern")
	}
	if err != nil || a.Over < 0 {
		return a, fmt.Errorf("%q is no pattern of arrival; write at-once, over=30s, ramp=1m or waves=5/30s", text)
	}
	return a, nil
}

func (a Arrivals) at(unit float64) time.Duration {
	switch {
	case a.Waves > 1:
		unit = math.Floor(unit*float64(a.Waves)) / float64(a.Waves-1)
	case a.Waves == 1:
		unit = 0
	case a.Ramp:
		unit = math.Sqrt(unit)
	}
	return time.Duration(unit * float64(a.Over))
}

// An Online says how much of the time a device is connected: for a share of each period, each device with a phase of
// its own. The zero value is always.
type Online struct {
	Share  float64
	Period time.Duration
}

// ParseOnline reads always, or 80%/10m: in each ten minutes offline for two.
func ParseOnline(text string) (o Online, err error) {
	if text == "always" {
		return o, nil
	}
	share, period, _ := strings.Cut(text, "/")
	percent, err := strconv.ParseFloat(strings.TrimSuffix(share, "%"), 64)
	if err == nil {
		o.Share = percent / 100
		o.Period, err = time.ParseDuration(period)
	}
	if err != nil || !strings.HasSuffix(share, "%") || o.Share <= 0 || o.Share > 1 || o.Period <= 0 {
		return o, fmt.Errorf("%q does not say when devices are online; write always, or 80%%/10m", text)
	}
	return o, nil
}

// away returns how long a device with a phase (0 to 1) is offline from a moment on, and if it is not, how long it is
// online yet.
func (o Online) away(phase float64, since time.Duration) (off, on time.Duration) {
	if o.Period == 0 || o.Share >= 1 {
		return 0, math.MaxInt64
	}
	at := (since + time.Duration(phase*float64(o.Period))) % o.Period
	if up := time.Duration(o.Share * float64(o.Period)); at >= up {
		return o.Period - at, 0
	} else {
		return 0, up - at
	}
}

// A Plan is all that a fleet's behaviour depends on: with the same plan a device of the same name does the same things.
type Plan struct {
	Seed   uint64
	Mix    Mix    // default: all succeed
	Styles Styles // default: StartNext
	Arrive Arrivals
	Online Online
	Think  Span          // before each step; default 200ms..2s
	Steps  int           // of an attempt; default 3
	Poll   time.Duration // how often a device asks that is not notified; default 30 s
	Down   Span          // how long a crashed device is away; default 1s..5s
}

func (p Plan) withDefaults(mqtt bool) Plan {
	if p.Mix == (Mix{}) {
		p.Mix[Succeed] = 1
	}
	if p.Styles == (Styles{}) {
		p.Styles[StartNext] = 1
		if mqtt {
			p.Styles[Notify] = 1
		}
	}
	p.Steps, p.Poll = cmp.Or(p.Steps, 3), cmp.Or(p.Poll, 30*time.Second)
	p.Think = cmp.Or(p.Think, Span{200 * time.Millisecond, 2 * time.Second})
	p.Down = cmp.Or(p.Down, Span{time.Second, 5 * time.Second})
	return p
}

// What is drawn for a device, so that no two draws are the same.
const (
	facetArrival = iota + 1
	facetStyle
	facetPhase
	facetOutcome
	facetStep
	facetThink
	facetDown
)

// unit draws a number from 0 up to 1 that depends on the seed, a device's name and what it is drawn for.
func (p *Plan) unit(name string, facets ...uint64) float64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	x := mix(h.Sum64() ^ mix(p.Seed))
	for _, f := range facets {
		x = mix(x + f)
	}
	return float64(x>>11) / (1 << 53)
}

// mix is the finalizer of splitmix64, after Steele, Lea and Flood: each bit of the sum changes about half of the result's.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func weighted(unit float64, weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	left, last := unit*sum, 0
	for i, w := range weights {
		if w == 0 {
			continue
		}
		if last = i; left < w {
			return i
		}
		left -= w
	}
	return last // rounding
}

// Outcome is what becomes of a device's attempt at a job, counted from 0.
func (p *Plan) Outcome(name string, attempt int) Outcome {
	return Outcome(weighted(p.unit(name, facetOutcome, uint64(attempt)), p.Mix[:]))
}

// turn is the step, from 0, at which the attempt goes wrong, if it does.
func (p *Plan) turn(name string, attempt int) int {
	return int(p.unit(name, facetStep, uint64(attempt)) * float64(p.Steps))
}

func (p *Plan) think(name string, attempt, step int) time.Duration {
	return p.Think.at(p.unit(name, facetThink, uint64(attempt), uint64(step)))
}

func (p *Plan) style(name string) Style {
	return Style(weighted(p.unit(name, facetStyle), p.Styles[:]))
}
