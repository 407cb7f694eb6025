package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"muster/internal/operate"
)

type applyCmd struct {
	File   string `short:"f" required:"" placeholder:"FILE" help:"What there should be, YAML or JSON; - is the standard input."`
	DryRun bool   `help:"Show the plan and change nothing."`
	Yes    bool   `short:"y" help:"Do not ask."`
	Prune  bool   `help:"Take members that the file does not name out of its groups."`
	anyServer
}

// Help shows a file, and the exit codes.
func (*applyCmd) Help() string {
	return `The file has documents separated by ---, with the members of AWS's own calls:

  thingGroupName: pumps          # a group: parentGroupName, description, attributes
  things: [pump1, pump2]         # and its members
  ---
  jobTemplateId: firmware        # a template, as CreateJobTemplate takes it
  description: Firmware of pumps
  document: {operation: update}
  ---
  jobId: fw-42                   # a job, as CreateJob takes it
  targets: [thinggroup/pumps]    # an ARN, thing/NAME or thinggroup/NAME
  document: {operation: update, url: "https://firmware.example.com/42.bin"}
  timeoutConfig: {inProgressTimeoutInMinutes: 30}
  tags: {team: water}

What a file does not say is left as it is. What cannot be changed, such as the document of a job, is refused before anything is done. A template that differs is replaced. The same file again has nothing to do.

Exit code 0: done, or nothing to do; 1: it was not wanted when asked; 2: it could not be done.`
}

// Run plans, asks and does.
func (c *applyCmd) Run(ctx context.Context, w world) error {
	in, err := w.open(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	file, err := operate.Read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	control, err := c.control(ctx)
	if err != nil {
		return err
	}
	plan, err := operate.MakePlan(ctx, control, file, c.Prune)
	if err != nil {
		return err
	}
	for _, s := range plan.Steps {
		fmt.Fprintf(w.stdout, "%-3s %s\n", s.Sign, s.What)
		for _, d := range s.Details {
			fmt.Fprintf(w.stdout, "      %s\n", d)
		}
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(w.stdout, "    %s\n", n)
	}
	for _, text := range plan.Wrong {
		fmt.Fprintf(w.stderr, "!   %s\n", text)
	}
	switch {
	case len(plan.Wrong) > 0:
		return fmt.Errorf("%s; nothing was changed", count(len(plan.Wrong), "obstacle"))
	case len(plan.Steps) == 0:
		fmt.Fprintln(w.stdout, "nothing to do")
		return nil
	case c.DryRun:
		fmt.Fprintf(w.stdout, "%s to do; nothing was changed\n", count(len(plan.Steps), "step"))
		return nil
	}
	if !c.Yes {
		if f, ok := w.stdin.(*os.File); c.File == "-" || !ok || !term.IsTerminal(int(f.Fd())) {
			return fmt.Errorf("%s to do, and nobody to ask: say --yes, or --dry-run to see the plan alone", count(len(plan.Steps), "step"))
		}
		fmt.Fprintf(w.stdout, "Do this? [y/N] ")
		line, _ := bufio.NewReader(w.stdin).ReadString('\n') // the end of the input is no
		if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
			fmt.Fprintln(w.stdout, "nothing was changed")
			return exit(exitProblems)
		}
	}
	n := 0
	err = plan.Do(ctx, func(operate.Step) { n++ })
	if err != nil {
		return fmt.Errorf("after %s of %d: %w", count(n, "step"), len(plan.Steps), err)
	}
	fmt.Fprintf(w.stdout, "%s done\n", count(n, "step"))
	return nil
}
