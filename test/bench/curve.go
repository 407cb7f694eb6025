package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster"
)

// How it grows: the same measurement at sizes that lie decades apart. There is
// no yardstick here; what is to be seen is the shape.

var (
	executionSizes = []int{1000, 10_000, 100_000, 1_000_000}
	connSizes      = []int{10, 100, 1000, 10_000}
	jobSizes       = []int{1, 3, 10, 30, 100}
)

const (
	curveConns  = 64     // callers, where their number is not what changes
	connThings  = 20_000 // live executions behind the connections
	queueThings = 2000   // things with that many jobs each
)

// A curve is a measurement at some sizes, as JSON has it.
type curve struct {
	Name   string       `json:"name"`
	By     string       `json:"by"` // what grows
	Sizes  []int        `json:"sizes"`
	Points [][]Sample   `json:"points"` // by size, then round
	Files  []string     `json:"files"`
	Charts []curveChart `json:"-"`
}

// A curveChart is a picture of some figures of a curve.
type curveChart struct {
	file, title, y string
	lines          []curveLine
}

type curveLine struct{ name, figure string }

// Figures that only curves have.
const (
	rolloutPerSecond = "rollout_per_s"
	pendingPerSecond = "pending_per_s"
	pendingP99       = "pending_p99_ms"
	mqttPerSecond    = "mqtt_per_s"
	mqttP50          = "mqtt_p50_ms"
	mqttP99          = "mqtt_p99_ms"
)

func curves() []*curve {
	return []*curve{
		{Name: "executions per job", By: "executions of the job", Sizes: executionSizes, Charts: []curveChart{
			{"executions-throughput.svg", "Throughput and the size of a job (64 callers report)", "per second", []curveLine{
				{"executions made", rolloutPerSecond}, {"reports", PerSecond}}},
			{"executions-latency.svg", "Latency of a report and the size of its job (64 callers)", "milliseconds", []curveLine{
				{"p99", P99}, {"median", P50}}},
		}},
		{Name: "connections", By: "connections, each a device that reports as soon as it is answered", Sizes: connSizes, Charts: []curveChart{
			{"connections-throughput.svg", "Throughput and the number of connections", "updates per second", []curveLine{
				{"MQTT", mqttPerSecond}, {"HTTP", PerSecond}}},
			{"connections-latency.svg", "Latency of an update and the number of connections", "milliseconds", []curveLine{
				{"HTTP, p99", P99}, {"HTTP, median", P50}, {"MQTT, p99", mqttP99}, {"MQTT, median", mqttP50}}},
		}},
		{Name: "jobs per thing", By: "jobs that are pending on each thing", Sizes: jobSizes, Charts: []curveChart{
			{"jobs-throughput.svg", "Throughput and the jobs pending on a thing (64 callers)", "per second", []curveLine{
				{"GetPending", pendingPerSecond}, {"reports", PerSecond}}},
			{"jobs-latency.svg", "Latency of a report and the jobs pending on its thing (64 callers)", "milliseconds", []curveLine{
				{"p99", P99}, {"median", P50}}},
		}},
	}
}

// drawCurves measures them all and writes their pictures and curves.json to a directory.
func drawCurves(ctx context.Context, to, data string, rounds int, seconds float64, largest int, log io.Writer) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	all := curves()
	for i, measure := range []func(context.Context, *Bench, *curve, int) error{measureExecutions, measureConns, measureJobs} {
		c := all[i]
		c.Sizes = slices.DeleteFunc(slices.Clone(c.Sizes), func(n int) bool { return n > largest })
		b, err := newBench(data, connThings, seconds)
		if err != nil {
			return err
		}
		start := time.Now()
		err = measure(ctx, b, c, rounds)
		if closed := b.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		fmt.Fprintf(log, "%s: %.0f s\n", c.Name, time.Since(start).Seconds())
		for k, n := range c.Sizes {
			fmt.Fprintf(log, "  %9s  %s\n", thousands(int64(n)), medians(c.Points[k]))
		}
		for _, picture := range c.Charts {
			c.Files = append(c.Files, picture.file)
			if err := os.WriteFile(filepath.Join(to, picture.file), []byte(c.chart(picture).svg()), 0o644); err != nil {
				return err
			}
		}
	}
	return writeJSON(filepath.Join(to, "curves.json"), struct {
		At      time.Time `json:"at"`
		Machine machine   `json:"machine"`
		Rounds  int       `json:"rounds"`
		Seconds float64   `json:"seconds"`
		Curves  []*curve  `json:"curves"`
	}{time.Now().UTC(), describeMachine(data), rounds, seconds, all})
}

func (c *curve) chart(p curveChart) chart {
	out := chart{title: p.title, x: c.By, y: p.y}
	for _, l := range p.lines {
		one := line{name: l.name}
		for k, n := range c.Sizes {
			values, ok := figures(c.Points[k], l.figure)
			if !ok {
				continue
			}
			one.x = append(one.x, float64(n))
			one.y = append(one.y, median(values))
			one.low, one.high = append(one.low, slices.Min(values)), append(one.high, slices.Max(values))
		}
		if len(one.x) > 0 {
			out.series = append(out.series, one)
		}
	}
	return out
}

// measureExecutions: a job of n executions is rolled out, and then reported for.
func measureExecutions(ctx context.Context, parent *Bench, c *curve, rounds int) error {
	for _, n := range c.Sizes {
		b, err := newBench(parent.Dir, n, parent.Seconds)
		if err != nil {
			return err
		}
		var samples []Sample
		for round := range rounds {
			var s Sample
			if s, err = executionsOnce(ctx, b, fmt.Sprintf("round-%d", round)); err != nil {
				break
			}
			samples = append(samples, s)
		}
		if closed := b.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		c.Points = append(c.Points, samples)
	}
	return nil
}

func executionsOnce(ctx context.Context, b *Bench, name string) (Sample, error) {
	dir, err := b.sow(ctx, name, thingsSeed)
	if err != nil {
		return nil, err
	}
	child, err := startChild(ctx, "engine", Settings{Dir: dir, Things: b.Things})
	if err != nil {
		return nil, err
	}
	defer child.Kill()
	syncDisks()
	rollout, err := child.Call(Request{Op: "rollout", Job: naiveJob})
	if err != nil {
		return nil, err
	}
	syncDisks()
	s, err := child.Call(Request{Op: "update", Callers: curveConns, Seconds: b.Seconds})
	if err == nil {
		s[rolloutPerSecond] = rollout[PerSecond]
	}
	return s, err
}

// measureConns: the real program, with more and more connections.
func measureConns(ctx context.Context, b *Bench, c *curve, rounds int) error {
	dir, err := b.sow(ctx, "conns", liveSeed)
	if err != nil {
		return err
	}
	p, err := b.serveMuster(ctx, dir)
	if err != nil {
		return err
	}
	if err := p.tellAll(ctx, b.Things); err != nil {
		return err
	}
	mqtt := &mqttServer{b: b}
	var versions []int64
	for _, n := range c.Sizes {
		devices, _ := mqtt.updates(n)
		if err := devices.prepare(ctx, io.Discard); err != nil {
			return err
		}
		var samples []Sample
		for range rounds {
			load := newDeviceLoad(b.Things, n)
			if versions != nil {
				load.versions = versions
			}
			http := b.httpLoad(p.addr, p.pid, n)
			http.Request, http.Check = load.Request, load.Check
			syncDisks()
			s, err := http.Run(ctx)
			if err != nil {
				return fmt.Errorf("%d connections: %w", n, err)
			}
			versions = load.versions
			syncDisks()
			m, err := devices.Run(ctx)
			if err != nil {
				return fmt.Errorf("%d connections: %w", n, err)
			}
			s[mqttPerSecond], s[mqttP50], s[mqttP99] = m[PerSecond], m[P50], m[P99]
			samples = append(samples, s)
		}
		c.Points = append(c.Points, samples)
	}
	return nil
}

// measureJobs: things that have more and more jobs to do report for the first.
func measureJobs(ctx context.Context, parent *Bench, c *curve, rounds int) error {
	b, err := newBench(parent.Dir, queueThings, parent.Seconds)
	if err != nil {
		return err
	}
	defer b.Close()
	child, err := b.engine(ctx, "queues", liveSeed)
	if err != nil {
		return err
	}
	for _, n := range c.Sizes {
		if _, err := child.Call(Request{Op: "pile", Callers: n}); err != nil {
			return err
		}
		var samples []Sample
		for range rounds {
			syncDisks()
			s, err := child.Call(Request{Op: "update", Callers: curveConns, Seconds: b.Seconds})
			if err != nil {
				return err
			}
			pending, err := child.Call(Request{Op: "pending", Callers: curveConns, Seconds: b.Seconds / 2})
			if err != nil {
				return err
			}
			s[pendingPerSecond], s[pendingP99] = pending[PerSecond], pending[P99]
			samples = append(samples, s)
		}
		c.Points = append(c.Points, samples)
	}
	return nil
}

// pile makes jobs for all things until each has so many.
func (e *engineService) pile(ctx context.Context, jobs int) error {
	for n := 1; n < jobs; n++ {
		id := muster.JobID(fmt.Sprintf("%s-%d", naiveJob, n))
		if _, err := e.DescribeJob(ctx, id); err == nil {
			continue
		}
		if err := e.begin(ctx, id, allGroup); err != nil {
			return err
		}
	}
	return nil
}

// measurePending has devices ask what there is for them.
func (e *engineService) measurePending(ctx context.Context, req Request) (Sample, error) {
	return e.fleet.run(ctx, req.Callers, time.Duration(req.Seconds*float64(time.Second)), func(_, thing int, expected int64, _ []byte) (int64, error) {
		all, err := e.Pending(ctx, thingName(thing))
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("%s has nothing pending", thingName(thing))
		}
		return expected, err
	})
}

// everySize is no bound on the sizes of curves.
const everySize = math.MaxInt
