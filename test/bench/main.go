// Command bench measures Muster against yardsticks that run in the same run.
//
// Absolute figures move by tens of percent between sessions of one machine;
// ratios taken side by side hold. So every row is measured next to its
// yardstick, in random order, several times, and medians are compared. The
// yardsticks are part of this program: a raw log, a naive Pebble layout, an
// empty HTTP handler. rows.go lists what is claimed.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"muster/test/postgres"
)

func main() {
	if childMain(os.Args) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(log)
	largest := flags.Int("largest", everySize, "with -curves: leave out sizes beyond this")
	times := flags.Int("rounds", 3, "how often each row and its yardstick are measured; fewer than 3 says little")
	seconds := flags.Float64("seconds", 1, "length of one timed measurement")
	only := flags.String("run", "", "measure only rows whose \"ID what\" matches this `regexp`")
	jsonFile := flags.String("json", "", "also write results to this `file`")
	dir := flags.String("dir", "", "where to put data; a directory of its own is made in it and removed (default the temporary directory)")
	things := flags.Int("things", 1_000_000, "executions in the stores")
	curvesDir := flags.String("curves", "", "measure how it grows instead, and write pictures and curves.json into this `directory`")
	show := flags.String("show", "", "print the table of results that -json wrote to this `file`, and measure nothing")
	profiles := flags.String("profiles", "", "write CPU profiles of what is measured into this `directory`; it costs some speed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	switch {
	case *times < 1 || *seconds <= 0:
		return errors.New("-rounds and -seconds must be positive")
	case *things < leastThings || *things > 9_999_999:
		return fmt.Errorf("-things must lie between %s and 9,999,999", thousands(leastThings))
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case *show != "":
		return showFile(out, *show)
	case *curvesDir != "":
		fmt.Fprintf(out, "%s\n%d rounds of %v s\n\n", describeMachine(cmp.Or(*dir, os.TempDir())), *times, *seconds)
		return drawCurves(ctx, *curvesDir, cmp.Or(*dir, os.TempDir()), *times, *seconds, *largest, out)
	}
	b, err := newBench(*dir, *things, *seconds)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if *profiles != "" {
		if b.Profiles, err = filepath.Abs(*profiles); err == nil {
			err = os.MkdirAll(b.Profiles, 0o755)
		}
		if err != nil {
			return err
		}
	}

	var chosen []Row
	for _, row := range rows(b) {
		if match.MatchString(row.ID + " " + row.What) {
			chosen = append(chosen, row)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no row matches %q", *only)
	}
	m := describeMachine(b.Dir)
	rep := report{At: time.Now().UTC(), Machine: m, Only: *only, Rounds: *times, Seconds: *seconds, Things: *things, Compared: comparedMeans, Yardsticks: yardsticks, Targets: targets}
	if err := rep.writeHead(out); err != nil {
		return err
	}

	r := runner{rounds: *times, rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), log: log, settle: syncDisks}
	if rep.Rows, err = r.run(ctx, chosen); err != nil {
		return err
	}
	if err := rep.writeResults(out); err != nil {
		return err
	}
	if *jsonFile != "" {
		return writeJSON(*jsonFile, rep)
	}
	return nil
}

func writeJSON(path string, r any) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Bench is one run: where its data lives, how large it is, and the processes
// that its meters share.
type Bench struct {
	Dir      string
	Things   int
	Seconds  float64
	Profiles string // where CPU profiles go; "": none are taken

	children map[string]*Child
	seeds    map[string]string // directories of stores that others begin with a copy of
	binary   string            // the muster binary, once it is built
	certs    *certs            // once they are made
	cluster  *postgres.Cluster // once it runs
	closers  []func()
}

// leastThings is the size of the smaller group that the largest is compared with.
const leastThings = 1000

func newBench(parent string, things int, seconds float64) (*Bench, error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return nil, err
	}
	return &Bench{Dir: dir, Things: things, Seconds: seconds, children: map[string]*Child{}, seeds: map[string]string{}}, nil
}

// child returns the child called key, starting the service if it is not yet
// running; fresh says that it has just been started. Its directory is its own.
func (b *Bench) child(ctx context.Context, key, service string) (c *Child, fresh bool, err error) {
	if c := b.children[key]; c != nil {
		return c, false, nil
	}
	dir := filepath.Join(b.Dir, key)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, false, err
	}
	c, err = b.adopt(ctx, key, service, Settings{Dir: dir, Things: b.Things})
	return c, err == nil, err
}

// adopt starts a service that runs until the end, to be found again by its key.
func (b *Bench) adopt(ctx context.Context, key, service string, s Settings) (*Child, error) {
	s.Profiles = b.Profiles
	c, err := startChild(ctx, service, s)
	if err != nil {
		return nil, err
	}
	b.children[key] = c
	b.onClose(c.Kill) // its data goes with it, so there is nothing to close in order
	return c, nil
}

func (b *Bench) onClose(f func()) { b.closers = append(b.closers, f) }

// Close ends what the meters started and removes what they wrote.
func (b *Bench) Close() error {
	for _, f := range b.closers {
		f()
	}
	return os.RemoveAll(b.Dir)
}
