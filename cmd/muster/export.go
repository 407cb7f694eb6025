package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"muster/internal/server"
)

type exportCmd struct {
	Store string `arg:"" help:"What to export: the directory of a stopped server's store, or postgres://… of a database, which servers may be using."`
	File  string `arg:"" default:"-" help:"Where to: a file that does not exist yet; - is the standard output (default)."`
}

// Help tells the form.
func (*exportCmd) Help() string {
	return `Writes JSON lines: a first line with the version, one line for each row (things, types, groups, memberships, templates, jobs,
documents, tags, executions, deadlines, settings, broker sessions), and a last line with counts and a digest. An empty store takes
them: muster import FILE --store STORE. The lines of things, types, groups and memberships alone are a bulk import too.

The digest is the sum, modulo 2^256, of the SHA-256 of the lines between the first and the last: two exports of the same rows
have the same digest, whatever store they come from and in whatever order the lines are.

The feed is not exported: events and notices that were not told yet are not told any more, and event streams begin anew. A
rollout that is under way begins its present target again, and passes over the things that have an execution.
To export the store of a running server with an embedded store, export a backup of it.`
}

// Run exports a store.
func (c *exportCmd) Run(ctx context.Context, w world) (err error) {
	if strings.HasPrefix(c.Store, "http://") || strings.HasPrefix(c.Store, "https://") {
		return fmt.Errorf("a running server is not exported; export a backup of it: muster backup %s DIR, then muster export DIR", c.Store)
	}
	to := w.stdout
	if c.File != "-" {
		f, failed := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it has everything in it
		if failed != nil {
			return failed
		}
		defer func() {
			if err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err != nil {
				err = errors.Join(err, os.Remove(c.File))
			}
		}()
		to = f
	}
	report, err := server.Export(ctx, c.Store, &progress{w: to, say: func(lines int) { fmt.Fprintf(w.stderr, "%s lines written\n", grouped(lines)) }}, warnings(w))
	if err != nil {
		return fmt.Errorf("the export stopped: %w", err)
	}
	fmt.Fprintf(w.stderr, "exported %s\n", counted(report))
	return nil
}

// counted says what an export has.
func counted(r server.ExportReport) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(r.Counts)) {
		all = append(all, grouped(int(r.Counts[kind]))+" "+kind)
	}
	if len(all) == 0 {
		all = []string{"nothing"}
	}
	return strings.Join(all, ", ") + "; digest " + r.Digest
}
