package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type dryRunCmd struct {
	File     string        `short:"f" xor:"job" required:"" placeholder:"FILE" help:"The job, as aws iot create-job --cli-input-json takes it; - is the standard input."`
	Retry    string        `name:"retry-failed" xor:"job" required:"" placeholder:"JOB" help:"Instead of a new job, what muster job retry-failed would make of this one."`
	Success  float64       `placeholder:"PERCENT" default:"100" help:"Assume that this many of a hundred attempts succeed (default ${default})."`
	Duration time.Duration `placeholder:"DURATION" default:"5m" help:"Assume that a device takes this long (default ${default})."`
	Curve    bool          `help:"Print what happens minute by minute."`
	JSON     bool          `name:"json" help:"Print the server's answer as it is."`
	aServer
}

// Help tells what is assumed.
func (*dryRunCmd) Help() string {
	return `The server plays the job through by its own rules, with a clock of its own, and creates nothing. Devices are assumed to start what they are offered at once.`
}

// A forecast is the part of a dry run that is printed.
type forecast struct {
	Targeted struct {
		Things         int64
		AtLeast        bool
		WithQueuedWork int64
		Samples        []string
	} `json:"targeted"`
	Bounded string `json:"bounded"`
	Waits   string `json:"waits"`
	Windows []struct{ Opens, Closes string }
	Aborts  []struct{ Text string }
	Moments []struct{ At, Text string }

	Earliest, Expected end
	Curve              []struct {
		Minute                     string
		Queued, InFlight, Notified int64
		Ended                      map[string]int64
	} `json:"curve"`
	CurveCut bool
}

type end struct {
	At, Status    string
	Finished      bool
	Held, Aborted string
	Executions    map[string]int64
}

func (e end) String() string {
	text := e.At + ", " + e.Status + "; executions: " + statuses(e.Executions)
	switch {
	case e.Held != "":
		text += "; held: " + e.Held
	case e.Aborted != "":
		text += "; " + e.Aborted
	case !e.Finished:
		text += "; it does not come to its end"
	}
	return text
}

// Run prints what the job would come to.
func (c *dryRunCmd) Run(ctx context.Context, w world) error {
	var in io.Reader = strings.NewReader("")
	if c.File != "" {
		f, err := w.open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	query := url.Values{"success": {fmt.Sprint(c.Success)}, "duration": {c.Duration.String()}}
	if c.Retry != "" {
		query.Set("retryFailed", c.Retry)
	}
	a, err := c.post(ctx, c.Endpoint, "/_muster/dry-run?"+query.Encode(), "application/json", in)
	if err != nil {
		return err
	}
	var f forecast
	if a.status != http.StatusOK || json.Unmarshal(a.body, &f) != nil {
		return a.refusal()
	}
	if c.JSON {
		fmt.Fprintln(w.stdout, indented(a.body))
		return nil
	}
	c.print(w.stdout, f)
	return nil
}

func (c *dryRunCmd) print(w io.Writer, f forecast) {
	more := ""
	if f.Targeted.AtLeast {
		more = " or more"
	}
	fmt.Fprintf(w, "targets   %s%s, %s with queued work", count(int(f.Targeted.Things), "thing"), more, grouped(int(f.Targeted.WithQueuedWork)))
	if len(f.Targeted.Samples) > 0 {
		fmt.Fprintf(w, "; such as %s", strings.Join(f.Targeted.Samples, ", "))
	}
	fmt.Fprintln(w)
	for _, win := range f.Windows {
		fmt.Fprintf(w, "window    %s to %s\n", win.Opens, win.Closes)
	}
	for _, abort := range f.Aborts {
		fmt.Fprintf(w, "abort     %s\n", abort.Text)
	}
	for _, m := range f.Moments {
		fmt.Fprintf(w, "%s  %s\n", m.At, m.Text)
	}
	if c.Curve {
		fmt.Fprintf(w, "\n%-20s  %8s  %9s  %9s  ended\n", "minute", "queued", "in flight", "reached")
		for _, m := range f.Curve {
			fmt.Fprintf(w, "%-20s  %8s  %9s  %9s  %s\n", m.Minute, grouped(int(m.Queued)), grouped(int(m.InFlight)), grouped(int(m.Notified)), statuses(m.Ended))
		}
		if f.CurveCut {
			fmt.Fprintln(w, "and so on")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "earliest  %s\nexpected  %s\n", f.Earliest, f.Expected)
	for _, note := range []string{f.Bounded, f.Waits} {
		if note != "" {
			fmt.Fprintf(w, "note      %s\n", note)
		}
	}
}
