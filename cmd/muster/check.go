package main

import (
	"context"
	"fmt"

	"muster/internal/server"
)

type checkCmd struct {
	Store string `arg:"" help:"Directory of the store of a stopped server, or postgres://… of a database that servers may be using."`
}

// Help tells the exit codes, which scripts need.
func (*checkCmd) Help() string {
	return `Prints each problem on a line. Exit code 0: there are none; 1: there are some; 2: the store could not be checked.`
}

// Run checks a store.
func (c *checkCmd) Run(ctx context.Context, w world) error {
	problems := 0
	err := server.Check(ctx, c.Store, warnings(w), func(problem string) {
		problems++
		fmt.Fprintln(w.stdout, problem)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s could not be checked: %w", c.Store, err)
	case problems > 0:
		fmt.Fprintf(w.stderr, "%s: problems found: %d\n", c.Store, problems)
		return exit(exitProblems)
	}
	fmt.Fprintf(w.stderr, "%s: no problems found\n", c.Store)
	return nil
}
