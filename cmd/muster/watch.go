package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/internal/operate"
	"muster/internal/screen"
)

type watchCmd struct {
	JobID  string        `arg:"" help:"The job."`
	Wait   bool          `help:"Say only how it ends, and end with an exit code that tells."`
	FailOn string        `placeholder:"N|N%" help:"With --wait: more failed things than this are a failure; 0 tolerates none (default: any number is tolerated in a job that completes)."`
	Time   time.Duration `name:"timeout" placeholder:"DURATION" help:"Give up after this time (default: never)."`
	Once   bool          `help:"Show how far it is now, and end."`
	Every  time.Duration `placeholder:"DURATION" default:"1s" help:"How often to ask (default ${default})."`
	JSON   bool          `name:"json" help:"Print a line of JSON whenever something has changed."`
	anyServer
	look
}

// Help lists the exit codes.
func (*watchCmd) Help() string {
	return `Works with every service that speaks AWS IoT Jobs; --endpoint aws is AWS itself.

A thing has failed if its latest attempt is FAILED, TIMED_OUT or REJECTED: one that succeeds when tried again has not.

Exit code with --wait  0: the job completed, and no more things failed than --fail-on allows
                       1: more failed, or the job was cancelled, aborted or deleted
                       2: it could not be asked, or there is no such job
                       3: not over when --timeout had passed, or interrupted
Without --wait the exit code is 0 unless the job could not be asked.`
}

// AfterApply says what is wrong with the flags before anything is done.
func (c *watchCmd) AfterApply(*kong.Context) error {
	switch {
	case c.FailOn != "" && !c.Wait:
		return errors.New("--fail-on is for --wait: without it the exit code does not tell how the job ends")
	case c.Wait && c.Once:
		return errors.New("--wait and --once exclude each other")
	case c.Every < 100*time.Millisecond:
		return fmt.Errorf("--every is %s; 100ms is the shortest", c.Every)
	case c.FailOn == "":
		return nil
	}
	_, err := operate.ParseTolerance(c.FailOn)
	return err
}

// watchPlain is how often a line is said where there is no terminal.
const watchPlain = 5 * time.Second

// Run follows the job.
func (c *watchCmd) Run(ctx context.Context, w world) error {
	control, err := c.control(ctx)
	if err != nil {
		return err
	}
	s := c.screen(w)
	defer s.Close()
	var late <-chan time.Time
	if c.Time > 0 {
		t := time.NewTimer(c.Time)
		defer t.Stop()
		late = t.C
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var rate operate.Rate
	var before string // what was said last
	var saidAt time.Time
	var p *operate.Progress
	for {
		next, err := operate.Look(ctx, control, c.JobID)
		if _, gone := errors.AsType[*types.ResourceNotFoundException](err); gone && p != nil {
			s.Close()
			s.Say("%s was deleted", c.JobID)
			if c.Wait {
				return exit(exitProblems)
			}
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("the job %s cannot be looked at: %w", c.JobID, err)
		}
		if err == nil {
			p = next
			per := rate.Add(p.Ended(), time.Now())
			over := p.Over() || c.Once
			switch {
			case c.JSON:
				if text, err := json.Marshal(p); err != nil {
					return err
				} else if string(text) != before {
					before = string(text)
					fmt.Fprintln(w.stdout, before)
				}
			case c.Wait && !over:
			case s.Live() && !c.Wait:
				c.draw(s, p, per)
			default:
				if line := fmt.Sprintf("%s is %s: %s", p.JobID, p.Status, counts(p)); line != before && (over || time.Since(saidAt) >= watchPlain) {
					before, saidAt = line, time.Now()
					s.Say("%s", line)
				}
			}
			if over {
				s.Close()
				return c.verdict(ctx, s, control, p)
			}
		}
		select {
		case <-tick.C:
		case <-late:
			return c.early(s, fmt.Sprintf("%s is not over after %s", c.JobID, c.Time))
		case <-ctx.Done():
			return c.early(s, "interrupted")
		}
	}
}

// early is the end before the job's.
func (c *watchCmd) early(s *screen.Screen, why string) error {
	s.Close()
	if !c.JSON {
		s.Say("%s", why)
	}
	if c.Wait {
		return exit(exitNotOver)
	}
	return nil
}

func (c *watchCmd) draw(s *screen.Screen, p *operate.Progress, rate float64) {
	lines := []string{s.Paint(screen.Bold, p.JobID) + " is " + s.Paint(screen.Bold, p.Status), ""}
	lines = append(lines, bars(s, p, p.Total())...)
	lines = append(lines, "", fmt.Sprintf("  %.1f executions end in a second; %s", rate, failing(p)))
	if left := p.Total() - p.Ended(); rate > 0 && left > 0 {
		lines = append(lines, "  "+s.Paint(screen.Faint, fmt.Sprintf("at this rate the %s that are there take another %s", grouped(int(left)), (time.Duration(float64(left)/rate)*time.Second).Round(time.Second))))
	}
	s.Frame(lines)
}

// verdict says how the job ended, and makes it an exit code if that is asked for.
func (c *watchCmd) verdict(ctx context.Context, s *screen.Screen, control *iot.Client, p *operate.Progress) error {
	if c.Once && !p.Over() {
		return nil
	}
	f, err := operate.CountFailures(ctx, control, p)
	if err != nil {
		return err
	}
	why := ""
	if p.Reason != "" || p.Comment != "" {
		why = " (" + strings.TrimSpace(p.Reason+" "+p.Comment) + ")"
	}
	if c.JSON {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		s.Say("%s", text)
	} else {
		s.Say("%s is %s%s: %s of %s failed (%.1f %%)", p.JobID, p.Status, why, grouped(int(f.Failed)), count(int(f.Things), "thing"), f.Percent())
	}
	if !c.Wait {
		return nil
	}
	if c.FailOn != "" {
		t, err := operate.ParseTolerance(c.FailOn)
		if err != nil {
			return err
		}
		if t.Exceeded(f) {
			if !c.JSON {
				s.Say("more than %s", t)
			}
			return exit(exitProblems)
		}
	}
	if p.Status != "COMPLETED" {
		return exit(exitProblems)
	}
	return nil
}
