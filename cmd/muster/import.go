package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"muster/internal/server"
)

type importCmd struct {
	File     string `arg:"" help:"JSON lines; - is the standard input."`
	Endpoint string `placeholder:"URL" default:"http://127.0.0.1:8080" help:"The running server to import into (default ${default})."`
	Store    string `placeholder:"DIR" help:"Import into the store of a stopped server, or into a database (postgres://…), instead; it is made if there is none. An export of everything needs this, and an empty store."`
	Atomic   bool   `help:"Import nothing if any line is bad. Without it bad lines are named and the rest is imported."`
	signing
}

// Help shows the lines, and the exit codes, which scripts need.
func (*importCmd) Help() string {
	return `Each line is one JSON object. What a line uses must be above it, or be there already:

  {"thingType":{"thingTypeName":"lamp","thingTypeDescription":"…","searchableAttributes":["site"]}}
  {"thingGroup":{"thingGroupName":"hall","parentGroupName":"house","attributes":{"floor":"1"}}}
  {"thing":{"thingName":"lamp-1","thingTypeName":"lamp","attributes":{"site":"north"},"thingGroupNames":["hall"]}}
  {"membership":{"thingName":"lamp-1","thingGroupName":"hall"}}

A line that says what is there already changes nothing, so an import can be repeated.

What muster export wrote is recognised by its first line. It goes, as a whole, into an empty store that no server uses;
then what the store holds is compared with the file, by counts and digest.
Exit code 0: every line was taken; 1: lines were refused; 2: the import failed.`
}

// progressEvery is how many lines lie between two words about progress.
const progressEvery = 100_000

// Run imports a file.
func (c *importCmd) Run(ctx context.Context, w world) error {
	given, err := w.open(c.File)
	if err != nil {
		return err
	}
	defer given.Close()
	in := bufio.NewReader(&progress{r: given, say: func(lines int) { fmt.Fprintf(w.stderr, "%s lines read\n", grouped(lines)) }})
	if server.IsExport(in) {
		return c.everything(ctx, w, in)
	}
	var report server.ImportReport
	if c.Store != "" {
		report, err = server.Import(ctx, c.Store, in, c.Atomic, warnings(w))
	} else {
		report, err = c.online(ctx, in)
	}
	for _, e := range report.Errors {
		fmt.Fprintf(w.stderr, "line %d: %s\n", e.Line, e.Error)
	}
	if more := report.Refused - len(report.Errors); more > 0 {
		fmt.Fprintf(w.stderr, "and %s more\n", count(more, "line"))
	}
	if report.Lines > 0 {
		fmt.Fprintf(w.stdout, "%s: made %s, %s, %s and %s; %s unchanged, %s refused\n",
			count(report.Lines, "line"), count(report.Things, "thing"), count(report.ThingTypes, "thing type"), count(report.ThingGroups, "thing group"),
			count(report.Memberships, "membership"), grouped(report.Unchanged), grouped(report.Refused))
	}
	switch {
	case err != nil:
		return fmt.Errorf("the import stopped: %w", err)
	case report.Refused > 0:
		return exit(exitProblems)
	}
	return nil
}

// everything takes an export of everything.
func (c *importCmd) everything(ctx context.Context, w world, in *bufio.Reader) error {
	if c.Store == "" {
		return fmt.Errorf("%s is an export of everything, which goes into an empty store: say which with --store", c.File)
	}
	report, err := server.Load(ctx, c.Store, in, warnings(w))
	if err != nil {
		return fmt.Errorf("the import stopped: %w", err)
	}
	fmt.Fprintf(w.stdout, "imported %s\n", counted(report))
	return nil
}

func (c *importCmd) online(ctx context.Context, in io.Reader) (report server.ImportReport, err error) {
	a, err := c.post(ctx, c.Endpoint, "/_muster/import?atomic="+strconv.FormatBool(c.Atomic), "application/x-ndjson", in)
	if err != nil {
		return report, err
	}
	// A refusal of the whole request has a message, and no lines were looked at.
	if json.Unmarshal(a.body, &report) != nil || report.Errors == nil {
		return server.ImportReport{}, a.refusal()
	}
	if report.Message != "" {
		return report, errors.New(report.Message)
	}
	return report, nil
}

// progress counts the lines that pass, read or written.
type progress struct {
	r     io.Reader
	w     io.Writer
	lines int
	say   func(lines int)
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.count(b[:n])
	return n, err
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.count(b[:n])
	return n, err
}

func (p *progress) count(b []byte) {
	before := p.lines
	p.lines += bytes.Count(b, []byte{'\n'})
	if p.lines/progressEvery > before/progressEvery {
		p.say(p.lines / progressEvery * progressEvery)
	}
}

// count is a number of something.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// grouped is a number with its thousands set apart.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
