package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"muster"
)

// A cell of the matrix: one thing, lamp, whose execution of job fw is in some state; fan is there so that
// the job is not over with it.
type cell struct {
	*teller
	ctx context.Context
	was muster.Execution
	has bool
}

// A setting says how the job of a row is made.
type setting struct {
	snapshot bool
	settings muster.Settings
	end      string // behavior of an endTime a day on
}

var matrixStates = []muster.Status{muster.NoStatus, muster.Queued, muster.InProgress, muster.Succeeded, muster.Failed, muster.TimedOut, muster.Rejected, muster.Removed, muster.Canceled}

// newCell brings the execution into its state as it would get there. NoStatus: lamp is registered and no target.
func newCell(t *testing.T, s muster.Status, o setting) *cell {
	c := &cell{teller: &teller{t: t, open: inMemory()}, ctx: context.Background()}
	c.begin(start)
	for _, act := range []string{"thing lamp fan", "group g", "group h", "join g fan"} {
		c.act(strings.Fields(act))
	}
	if s != muster.NoStatus {
		c.act([]string{"join", "g", "lamp"})
	}
	document := "{}"
	n := NewJob{ID: "fw", Document: &document, Targets: []muster.Target{{Group: "g"}}, Settings: o.settings}
	if !o.snapshot {
		n.Selection = muster.Continuous
	}
	if o.end != "" {
		n.Scheduling = &SchedulingInput{End: "2026-01-02T00:00:00Z", EndBehavior: o.end}
	}
	if _, err := c.CreateJob(c.ctx, n); err != nil {
		t.Fatal(err)
	}
	c.act([]string{"tick"})
	switch {
	case s == muster.InProgress:
		c.act(strings.Fields("start-next lamp details=at:start"))
	case s == muster.TimedOut:
		c.act(strings.Fields("start-next lamp step=1"))
		c.act(strings.Fields("advance 1m"))
	case s == muster.Removed && o.snapshot: // nothing else removes it
		c.act(strings.Fields("delete-thing lamp"))
		c.act(strings.Fields("thing lamp"))
	case s == muster.Removed:
		c.act(strings.Fields("leave g lamp"))
	case s == muster.Canceled:
		c.act(strings.Fields("cancel lamp fw"))
	case s.Terminal():
		c.act([]string{"report", "lamp", "fw", s.String()})
	}
	var err error
	c.was, err = c.DescribeExecution(c.ctx, "lamp", "fw", 0)
	if c.has = err == nil; c.was.Status != s {
		t.Fatalf("the execution should be %s and is %s", s, c.was.Status)
	}
	c.out.Reset()
	return c
}

// happened says what became of lamp and its job: how the call went, what the feed told, in order.
func (c *cell) happened(err error) string {
	var words []string
	var known *muster.Error
	switch {
	case errors.Is(err, errNone):
		words = append(words, err.Error())
	case errors.As(err, &known):
		words = append(words, known.Kind.String())
		if known.Execution != nil && (known.Execution.Status != c.was.Status || known.Execution.Version != c.was.Version) {
			words = append(words, "WITH ANOTHER STATE")
		}
	case err != nil:
		c.t.Fatal(err)
	}
	if _, err := c.Tick(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	entries, err := c.store.Feed(c.ctx, c.fed, 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, entry := range entries {
		for _, f := range entry.Facts {
			if f.Kind != muster.FactExecution || f.Thing != "lamp" {
				continue
			}
			switch what := fmt.Sprintf("-> %s v%+d", f.To, f.Version-c.was.Version); {
			case f.From == muster.NoStatus:
				words = append(words, fmt.Sprintf("new QUEUED #+%d v%d", f.Number-c.was.Number, f.Version))
			case f.To == muster.NoStatus:
				words = append(words, "deleted")
			case f.Forced:
				words = append(words, what+" forced")
			default:
				words = append(words, what)
			}
			if f.Notice.List {
				words = append(words, "notify")
			}
			if f.Notice.Next {
				words = append(words, "notify-next")
			}
		}
	}
	if v, err := c.DescribeJob(c.ctx, "fw"); err != nil {
		words = append(words, "job gone")
	} else if v.Status != muster.JobInProgress {
		words = append(words, "job "+v.Status.String())
	}
	if e, err := c.DescribeExecution(c.ctx, "lamp", "fw", c.was.Number); err == nil && c.has && e.Details != c.was.Details {
		text, _ := e.Details.MarshalJSON()
		words = append(words, "details="+string(text))
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// The rows of state-machine.md §2's table that take an engine: what does not exist, what the control plane
// does to one execution, groups and registry, endTime, abort, retry.
func TestMatrix(t *testing.T) {
	var b strings.Builder
	fmt.Fprintln(&b, "# What happens to the execution of a thing, by the state it is in. (none): the thing is registered and no target.")
	row := func(event string, o setting, act func(c *cell) error) {
		fmt.Fprintln(&b, event)
		var order []string
		states := map[string][]string{}
		for _, s := range matrixStates {
			c := newCell(t, s, o)
			what := c.happened(act(c))
			if err := c.store.Check(c.ctx, func(problem string) { t.Errorf("%s, %s: %s", event, s, problem) }); err != nil {
				t.Error(err)
			}
			if err := c.store.Close(); err != nil {
				t.Error(err)
			}
			if states[what] == nil {
				order = append(order, what)
			}
			name := s.String()
			if s == muster.NoStatus {
				name = "(none)"
			}
			states[what] = append(states[what], name)
		}
		for _, what := range order {
			who := strings.Replace(strings.Join(states[what], ", "), "SUCCEEDED, FAILED, TIMED_OUT, REJECTED, REMOVED, CANCELED", "any terminal", 1)
			fmt.Fprintf(&b, "  %-33s %s\n", who, what)
		}
	}
	matrixOfDevices(row)
	matrixOfOperators(row)
	matrixOfTheRest(row)

	const file = "testdata/matrix.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want := read(t, file); b.String() != want {
		t.Errorf("%s: %s\n(-update rewrites it: review the difference)", file, firstDifference(want, b.String()))
	}
}

type matrixRow func(event string, o setting, act func(c *cell) error)

func matrixOfDevices(row matrixRow) {
	report := func(event string, r muster.Report) {
		row(event, setting{}, func(c *cell) error {
			_, err := c.Report(c.ctx, "lamp", "fw", r)
			return err
		})
	}
	nine := int64(9)
	for _, s := range []muster.Status{muster.InProgress, muster.Succeeded, muster.Failed, muster.Rejected, muster.Queued, muster.Canceled, muster.TimedOut, muster.Removed, muster.NoStatus} {
		report("device Update "+cmp.Or(s.String(), "without status"), muster.Report{Status: s})
	}
	report("device Update SUCCEEDED, expectedVersion 9", muster.Report{Status: muster.Succeeded, ExpectedVersion: &nine})
	report("device Update SUCCEEDED, executionNumber 9", muster.Report{Status: muster.Succeeded, Number: 9})
	row("device StartNext", setting{}, func(c *cell) error {
		_, ok, err := c.StartNext(c.ctx, "lamp", Start{})
		return answered(ok, err)
	})
	row("device Describe", setting{}, func(c *cell) error {
		_, err := c.DescribeForDevice(c.ctx, "lamp", "fw", 0)
		return err
	})
	row("device Describe $next", setting{}, func(c *cell) error {
		_, ok, err := c.DescribeNext(c.ctx, "lamp")
		return answered(ok, err)
	})
	row("device Update SUCCEEDED, of another thing's", setting{}, func(c *cell) error {
		_, err := c.Report(c.ctx, "nobody", "fw", muster.Report{Status: muster.Succeeded})
		return err
	})
}

// errNone is what an answer without execution is printed as.
var errNone = errors.New("answer without execution")

func answered(ok bool, err error) error {
	if err == nil && !ok {
		return errNone
	}
	return err
}

func matrixOfOperators(row matrixRow) {
	row("DescribeJobExecution", setting{}, func(c *cell) error {
		_, err := c.DescribeExecution(c.ctx, "lamp", "fw", 0)
		return err
	})
	cancel := func(event string, force bool, expected func(c *cell) *int64, details *muster.Pairs) {
		row(event, setting{}, func(c *cell) error {
			return c.CancelExecution(c.ctx, "lamp", "fw", force, expected(c), details)
		})
	}
	none := func(*cell) *int64 { return nil }
	right := func(c *cell) *int64 { return &c.was.Version }
	wrong := func(c *cell) *int64 { v := c.was.Version + 1; return &v }
	some := muster.MakePairs("why", "enough")
	cancel("CancelJobExecution", false, none, nil)
	cancel("CancelJobExecution force", true, none, nil)
	cancel("CancelJobExecution, the current expectedVersion", false, right, nil)
	cancel("CancelJobExecution, another expectedVersion", false, wrong, nil)
	cancel("CancelJobExecution force, another expectedVersion", true, wrong, nil)
	cancel("CancelJobExecution force with details", true, none, &some)
	cancel("CancelJobExecution with details, another expectedVersion", true, wrong, &some)
	for _, force := range []bool{false, true} {
		name := map[bool]string{true: " force"}[force]
		row("DeleteJobExecution"+name, setting{}, func(c *cell) error {
			return c.DeleteExecution(c.ctx, "lamp", "fw", max(1, c.was.Number), force)
		})
		row("DeleteJobExecution"+name+", executionNumber 9", setting{}, func(c *cell) error {
			return c.DeleteExecution(c.ctx, "lamp", "fw", 9, force)
		})
		row("CancelJob"+name, setting{}, func(c *cell) error {
			_, err := c.CancelJob(c.ctx, "fw", force, "", "")
			return err
		})
		row("CancelJob"+name+", then a device Update SUCCEEDED before the sweep", setting{}, func(c *cell) error {
			if _, err := c.CancelJob(c.ctx, "fw", force, "", ""); err != nil {
				return err
			}
			_, err := c.Report(c.ctx, "lamp", "fw", muster.Report{Status: muster.Succeeded})
			var known *muster.Error
			if errors.As(err, &known) {
				known.Execution = nil // it is canceled by then
			}
			return err
		})
		row("DeleteJob"+name, setting{}, func(c *cell) error { return c.DeleteJob(c.ctx, "fw", force) })
		row("CancelJob, then DeleteJob"+name+" before the sweep", setting{}, func(c *cell) error {
			if _, err := c.CancelJob(c.ctx, "fw", false, "", ""); err != nil {
				return err
			}
			return c.DeleteJob(c.ctx, "fw", force)
		})
	}
}

func matrixOfTheRest(row matrixRow) {
	for _, snapshot := range []bool{false, true} {
		o := setting{snapshot: snapshot}
		kind := " (CONTINUOUS)"
		if snapshot {
			kind = " (SNAPSHOT)"
		}
		row("the thing joins the group"+kind, o, func(c *cell) error { return c.AddToGroup(c.ctx, "g", "lamp") })
		row("the thing leaves the group"+kind, o, func(c *cell) error { return c.RemoveFromGroup(c.ctx, "g", "lamp") })
		row("the thing leaves the group and joins it again"+kind, o, func(c *cell) error {
			if err := c.RemoveFromGroup(c.ctx, "g", "lamp"); err != nil {
				return err
			}
			return c.AddToGroup(c.ctx, "g", "lamp")
		})
		row("the thing joins a group that is then associated"+kind, o, func(c *cell) error {
			if err := c.AddToGroup(c.ctx, "h", "lamp"); err != nil {
				return err
			}
			_, err := c.AssociateTargets(c.ctx, "fw", []muster.Target{{Group: "h"}}, "")
			return err
		})
		row("the group is deleted"+kind, o, func(c *cell) error { return c.DeleteGroup(c.ctx, "g", nil) })
		row("the thing is deleted"+kind, o, func(c *cell) error { return c.DeleteThing(c.ctx, "lamp", nil) })
		for _, end := range []string{muster.StopRollout, muster.EndCancel, muster.EndForce} {
			row("endTime, "+end+kind, setting{snapshot: snapshot, end: end}, func(c *cell) error { return c.Advance(c.ctx, start.Add(24*time.Hour)) })
			row("endTime, "+end+", then the thing joins"+kind, setting{snapshot: snapshot, end: end}, func(c *cell) error {
				if err := c.Advance(c.ctx, start.Add(24*time.Hour)); err != nil {
					return err
				}
				return c.AddToGroup(c.ctx, "g", "lamp")
			})
		}
	}
	late := setting{settings: muster.Settings{Timeout: &muster.Timeout{InProgress: time.Hour}}}
	row("the in-progress timer fires", late, func(c *cell) error { return c.Advance(c.ctx, start.Add(2*time.Hour)) })

	// A job that retries is rare among the states above: an end with budget left begins another attempt at once.
	tried := func(list ...muster.RetryCriterion) setting {
		return setting{settings: muster.Settings{Retry: list}}
	}
	fail := func(c *cell) error {
		_, err := c.Report(c.ctx, "lamp", "fw", muster.Report{Status: muster.Failed})
		return err
	}
	lend := func(o setting) func(c *cell) error { // give the budget only now, so that the state could be reached
		return func(c *cell) error {
			if err := c.UpdateJob(c.ctx, "fw", JobPatch{Settings: o.settings}); err != nil {
				return err
			}
			return fail(c)
		}
	}
	row("device Update FAILED, one retry of FAILED", setting{}, lend(tried(muster.RetryCriterion{FailureType: "FAILED", Retries: 1})))
	row("device Update FAILED, one retry of TIMED_OUT", setting{}, lend(tried(muster.RetryCriterion{FailureType: "TIMED_OUT", Retries: 1})))
	row("device Update FAILED, one retry of ALL", setting{}, lend(tried(muster.RetryCriterion{FailureType: "ALL", Retries: 1})))
	row("device Update FAILED, no retry of FAILED", setting{}, lend(tried(muster.RetryCriterion{FailureType: "FAILED", Retries: 0})))
	row("device Update FAILED, one retry of FAILED, endTime has come", setting{end: muster.StopRollout}, func(c *cell) error {
		if err := c.UpdateJob(c.ctx, "fw", JobPatch{Settings: tried(muster.RetryCriterion{FailureType: "FAILED", Retries: 1}).settings}); err != nil {
			return err
		}
		if err := c.Advance(c.ctx, start.Add(24*time.Hour)); err != nil {
			return err
		}
		return fail(c)
	})
	row("another thing's failure meets an abort criterion", setting{}, func(c *cell) error {
		abort := []muster.AbortCriterion{{FailureType: "ALL", Percentage: 1, MinExecuted: 1}}
		if err := c.UpdateJob(c.ctx, "fw", JobPatch{Settings: muster.Settings{Abort: abort}}); err != nil {
			return err
		}
		_, err := c.Report(c.ctx, "fan", "fw", muster.Report{Status: muster.Failed})
		return err
	})
}
