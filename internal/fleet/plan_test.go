package fleet

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"muster"
)

// What a device does depends on the seed and its name alone, for ever: a run of today can be repeated next year.
func TestPlanIsKept(t *testing.T) {
	m, err := ParseMix("succeed=1,fail=1,reject=1,hang=1,crash=1,duplicate=1,stale=1")
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Seed: 7, Mix: m, Styles: Styles{1, 1, 1}, Think: Span{0, time.Second}}.withDefaults(true)
	var got []string
	for _, name := range []string{"sim-000001", "sim-000002", "pump"} {
		for nth := range 2 {
			got = append(got, fmt.Sprintf("%s %d %s %s %d %s", name, nth, p.style(name), p.Outcome(name, nth), p.turn(name, nth), p.think(name, nth, 1).Round(time.Millisecond)))
		}
	}
	const want = `sim-000001 0 start-next crash 1 591ms
sim-000001 1 start-next duplicate 2 849ms
sim-000002 0 poll stale 2 500ms
sim-000002 1 poll succeed 2 55ms
pump 0 notify hang 0 172ms
pump 1 notify succeed 2 148ms`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// Of many devices the shares are those asked for.
func TestShares(t *testing.T) {
	m, err := ParseMix("succeed=80%,fail=15%,hang=5%")
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Seed: 1, Mix: m}.withDefaults(true)
	var n [numOutcomes]int
	const of = 20_000
	for _, name := range Names("sim-", of) {
		n[p.Outcome(name, 0)]++
	}
	for o, want := range map[Outcome]float64{Succeed: 0.8, Fail: 0.15, Hang: 0.05, Crash: 0} {
		if got := float64(n[o]) / of; math.Abs(got-want) > 0.01 {
			t.Errorf("%s: %.3f, want %.2f", o, got, want)
		}
	}
}

func TestParsing(t *testing.T) {
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	for _, text := range []string{"", "win=1", "succeed=-1", "succeed=0", "succeed=x", "succeed=NaN", "succeed=Inf"} {
		_, err := ParseMix(text)
		refused(text, err)
	}
	for _, text := range []string{"", "2", "2s..1s", "-1s", "1s..", "1s..x"} {
		_, err := ParseSpan(text)
		refused(text, err)
	}
	for _, text := range []string{"", "over", "over=x", "over=-1s", "at-once=1", "waves=0/1s", "waves=2", "often"} {
		_, err := ParseArrivals(text)
		refused(text, err)
	}
	for _, text := range []string{"", "80%", "80/1m", "0%/1m", "101%/1m", "80%/0s", "never"} {
		_, err := ParseOnline(text)
		refused(text, err)
	}
}

func TestArrivals(t *testing.T) {
	for _, c := range []struct {
		text string
		unit float64
		want time.Duration
	}{
		{"at-once", 0.9, 0}, {"over=10s", 0.5, 5 * time.Second}, {"ramp=10s", 0.25, 5 * time.Second},
		{"waves=5/40s", 0.1, 0}, {"waves=5/40s", 0.3, 10 * time.Second}, {"waves=5/40s", 0.999, 40 * time.Second}, {"waves=1/40s", 0.7, 0},
	} {
		a, err := ParseArrivals(c.text)
		if got := a.at(c.unit); err != nil || got != c.want {
			t.Errorf("%s at %g: %s %v, want %s", c.text, c.unit, got, err, c.want)
		}
	}
}

func TestOnline(t *testing.T) {
	o, err := ParseOnline("80%/10m")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		phase   float64
		since   time.Duration
		off, on time.Duration
	}{{0, 0, 0, 8 * time.Minute}, {0, 8 * time.Minute, 2 * time.Minute, 0}, {0, 11 * time.Minute, 0, 7 * time.Minute}, {0.9, 0, time.Minute, 0}, {0.9, time.Minute, 0, 8 * time.Minute}} {
		if off, on := o.away(c.phase, c.since); off != c.off || on != c.on {
			t.Errorf("%+v: %s %s", c, off, on)
		}
	}
	if off, on := (Online{}).away(0.5, time.Hour); off != 0 || on != math.MaxInt64 {
		t.Errorf("always: %s %s", off, on)
	}
}

// What is listed is held against the seed attempt by attempt.
func TestFollows(t *testing.T) {
	const s, f, c, to = muster.Succeeded, muster.Failed, muster.Canceled, muster.TimedOut
	for _, x := range []struct {
		is, seeded []muster.Status
		cancelled  bool
		want       bool
	}{
		{[]muster.Status{s}, []muster.Status{s}, false, true},
		{[]muster.Status{f, s}, []muster.Status{f, s}, false, true},
		{[]muster.Status{f}, []muster.Status{f, s}, false, false},
		{[]muster.Status{f}, []muster.Status{f, s}, true, true},
		{[]muster.Status{f, c}, []muster.Status{f, s}, true, true},
		{[]muster.Status{f, c}, []muster.Status{f, s}, false, false},
		{[]muster.Status{to}, []muster.Status{s}, true, false},
		{[]muster.Status{s, s}, []muster.Status{s}, false, false},
	} {
		var rows []row
		for i, status := range x.is {
			rows = append(rows, row{number: int64(i + 1), status: status})
		}
		if got := follows(rows, x.seeded, x.cancelled); got != x.want {
			t.Errorf("%v of %v, cancelled %v: %v", x.is, x.seeded, x.cancelled, got)
		}
	}
}

func TestLatency(t *testing.T) {
	var s Stats
	if got := s.Latency(0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	for range 98 {
		s.request(time.Millisecond, nil)
	}
	s.request(time.Second, nil)
	s.request(time.Second, nil)
	if got := s.Latency(0.5); got < time.Millisecond || got > 1250*time.Microsecond {
		t.Errorf("half within %s", got)
	}
	if got := s.Latency(0.99); got < time.Second || got > 1250*time.Millisecond {
		t.Errorf("99 of 100 within %s", got)
	}
}
