package muster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares got with a file in testdata, or rewrites the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := "testdata/" + file
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			t.Fatalf("%s line %d is\n%s\nwant\n%s\n(go test . -update rewrites it: review the difference)", path, i+1, x, y)
		}
	}
}

// The moments and the job that the matrices speak of: queued at noon, started ten minutes later,
// whatever happens happens at half past.
const (
	noon       = Time(1764590400000)
	tenPast    = noon + 10*60_000
	halfPast   = noon + 30*60_000
	inProgress = time.Hour
)

// specimen is an execution in a state as it got there; its job has an in-progress timer, its device
// has set a step timer.
func specimen(s Status) Execution {
	e := NewExecution("fw", "lamp", 1, 0, 1, noon)
	e.Details = MakePairs("at", "start")
	if s == Queued {
		return e
	}
	e.Version, e.Status, e.StartedAt, e.UpdatedAt = 2, InProgress, tenPast, tenPast
	e.InProgressTimeout, e.StepTimeout = tenPast.Add(inProgress), tenPast.Add(25*time.Minute)
	if s == InProgress {
		return e
	}
	e.Version, e.Status, e.UpdatedAt = 3, s, tenPast+60_000
	e.InProgressTimeout, e.StepTimeout = 0, 0
	return e
}

// told says in words how an execution changed.
func told(before, after Execution) string {
	if before == after {
		return "unchanged"
	}
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	at := func(name string, was, is Time) {
		switch {
		case was == is:
		case is == 0:
			say("%s off", name)
		case is == halfPast:
			say("%s=now", name)
		default:
			say("%s=now+%dm", name, is.Sub(halfPast)/time.Minute)
		}
	}
	if before.Status != after.Status {
		say("-> %s", after.Status)
	}
	if d := after.Version - before.Version; d != 0 {
		say("v%+d", d)
	}
	if before.ForceCanceled != after.ForceCanceled {
		say("forceCanceled")
	}
	at("startedAt", before.StartedAt, after.StartedAt)
	at("updatedAt", before.UpdatedAt, after.UpdatedAt)
	if before.Details != after.Details {
		text, _ := after.Details.MarshalJSON()
		say("details=%s", text)
	}
	at("inProgressTimer", before.InProgressTimeout, after.InProgressTimeout)
	at("stepTimer", before.StepTimeout, after.StepTimeout)
	if before.Job != after.Job || before.Thing != after.Thing || before.Number != after.Number || before.Seq != after.Seq || before.Attempt != after.Attempt || before.QueuedAt != after.QueuedAt {
		say("BECAME ANOTHER")
	}
	return strings.Join(words, " ")
}

func toldError(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	return e.Kind.String()
}

// section writes an event and what it does in each state, states with the same answer on one line.
func section(b *strings.Builder, event string, names []string, do func(i int) string) {
	fmt.Fprintf(b, "%s\n", event)
	var order []string
	states := map[string][]string{}
	for i, name := range names {
		what := do(i)
		if states[what] == nil {
			order = append(order, what)
		}
		states[what] = append(states[what], name)
	}
	for _, what := range order {
		who := strings.Join(states[what], ", ")
		who = strings.Replace(who, "SUCCEEDED, FAILED, TIMED_OUT, REJECTED, REMOVED, CANCELED", "any terminal", 1)
		fmt.Fprintf(b, "  %-33s %s\n", who, what)
	}
}

// The transition table of state-machine.md §2, as the functions of this package have it. Rows that
// only the engine can produce (an execution that does not exist, DeleteJobExecution, expectedVersion
// of CancelJobExecution, groups that things join) are in its own matrix.
func TestTransitions(t *testing.T) {
	var b strings.Builder
	statuses := []Status{Queued, InProgress, Succeeded, Failed, TimedOut, Rejected, Removed, Canceled}
	var names []string
	for _, s := range statuses {
		names = append(names, s.String())
	}
	row := func(event string, do func(e Execution) string) {
		section(&b, event, names, func(i int) string { return do(specimen(statuses[i])) })
	}
	report := func(event string, r Report) {
		row(event, func(e Execution) string {
			if err := r.Check(); err != nil {
				return toldError(err)
			}
			next, err := e.Report(r, inProgress, halfPast)
			if err != nil {
				if next != e {
					return toldError(err) + " BUT CHANGED: " + told(e, next)
				}
				var with *Error
				if !errors.As(err, &with) || with.Execution == nil || *with.Execution != e {
					return toldError(err) + " WITHOUT THE EXECUTION"
				}
				return toldError(err)
			}
			return told(e, next)
		})
	}
	some := func(p Pairs) *Pairs { return &p }
	version := func(v int64) *int64 { return &v }
	step := func(minutes int64) StepTimer { return StepTimer{Set: true, Minutes: minutes} }

	fmt.Fprintf(&b, "# Executions. In-progress timer of the job: 60m. Running: in-progress timer until now+40m, step timer until now+5m.\n")
	section(&b, "new execution (rollout, join, retry)", []string{"(none)"}, func(int) string {
		e := NewExecution("fw", "lamp", 1, 0, 1, halfPast)
		return fmt.Sprintf("-> %s v%d queuedAt=now number=%d", e.Status, e.Version, e.Number)
	})
	for _, s := range statuses {
		report("device Update "+s.String(), Report{Status: s})
	}
	report("device Update without status", Report{})
	report("device Update IN_PROGRESS with details", Report{Status: InProgress, Details: some(MakePairs("at", "half"))})
	report("device Update IN_PROGRESS with details {}", Report{Status: InProgress, Details: some("")})
	report("device Update IN_PROGRESS with step timer 7m", Report{Status: InProgress, Step: step(7)})
	report("device Update IN_PROGRESS with step timer 90m", Report{Status: InProgress, Step: step(90)})
	report("device Update IN_PROGRESS with step timer -1", Report{Status: InProgress, Step: step(-1)})
	report("device Update IN_PROGRESS with step timer 0", Report{Status: InProgress, Step: step(0)})
	report("device Update IN_PROGRESS with 11 details", Report{Status: InProgress, Details: some(manyPairs(11))})
	report("device Update SUCCEEDED with details and step timer", Report{Status: Succeeded, Details: some(MakePairs("at", "end")), Step: step(7)})
	report("device Update SUCCEEDED with expectedVersion 2", Report{Status: Succeeded, ExpectedVersion: version(2)})
	report("device Update SUCCEEDED with expectedVersion 0", Report{Status: Succeeded, ExpectedVersion: version(0)})
	report("device Update QUEUED with expectedVersion 9", Report{Status: Queued, ExpectedVersion: version(9)})
	report("device Update CANCELED with expectedVersion 9", Report{Status: Canceled, ExpectedVersion: version(9)})

	// StartNext acts on what a queue offers first, so terminal executions never come into question.
	start := func(event string, details *Pairs, timer StepTimer) {
		row(event, func(e Execution) string {
			q := Queue{Thing: e.Thing}.With(Change{After: e})
			first, ok := q.Next(func(Execution) bool { return true })
			if !ok {
				return "skipped"
			}
			return told(e, first.Start(details, timer, inProgress, halfPast))
		})
	}
	start("device StartNext", nil, StepTimer{})
	start("device StartNext with details and step timer 7m", some(MakePairs("at", "half")), step(7))
	row("device Describe $next", func(e Execution) string {
		q := Queue{Thing: e.Thing}.With(Change{After: e})
		if _, ok := q.Next(func(Execution) bool { return true }); !ok {
			return "skipped"
		}
		return "returned"
	})

	job := Job{ID: "fw", Status: JobInProgress, Seq: 1}
	settled := func(event string, act func(Job) (Job, error)) {
		row(event, func(e Execution) string {
			j, err := act(job)
			if err != nil {
				return toldError(err)
			}
			after, present := j.Settle(e)
			if !present {
				return "gone"
			}
			return told(e, after)
		})
	}
	settled("CancelJob", func(j Job) (Job, error) { return j.Cancel(false, "", "", halfPast) })
	settled("CancelJob force", func(j Job) (Job, error) { return j.Cancel(true, "", "", halfPast) })
	settled("CancelJob, then CancelJob force", func(j Job) (Job, error) {
		j, _ = j.Cancel(false, "", "", noon)
		return j.Cancel(true, "", "", halfPast)
	})
	settled("DeleteJob force", func(j Job) (Job, error) { return j.Delete(true, halfPast) })
	settled("CancelJob, then DeleteJob", func(j Job) (Job, error) {
		j, _ = j.Cancel(false, "", "", noon)
		return j.Delete(false, halfPast)
	})
	cancel := func(event string, force bool) {
		row(event, func(e Execution) string {
			after, err := e.Cancel(force, halfPast)
			if err != nil && after == e {
				return toldError(err)
			}
			return told(e, after)
		})
	}
	cancel("CancelJobExecution", false)
	cancel("CancelJobExecution force", true)
	row("timer fires", func(e Execution) string {
		if e.Deadline() == 0 {
			return "no timer runs"
		}
		return told(e, e.Expire(halfPast))
	})
	row("thing is no target any more, or deleted", func(e Execution) string {
		if e.Status.Terminal() {
			return "not pending"
		}
		return told(e, e.Remove(halfPast))
	})

	fmt.Fprintf(&b, "\n# What a device is offered, by the state of the job.\n")
	for _, s := range []JobStatus{JobScheduled, JobInProgress, JobCompleted, JobCanceled, JobDeleting} {
		for _, force := range []bool{false, true} {
			for _, namespace := range []string{"", "edge"} {
				if force && s != JobCanceled || namespace != "" && s != JobInProgress {
					continue
				}
				j := Job{ID: "fw", Status: s, ForceCanceled: force, Namespace: namespace, Ended: halfPast}
				event := "job " + s.String() + map[bool]string{true: " with force"}[force] + map[bool]string{true: " with a namespace"}[namespace != ""]
				row(event, func(e Execution) string {
					return map[bool]string{true: "offered", false: "hidden"}[j.Offers(e)]
				})
			}
		}
	}

	fmt.Fprintf(&b, "\n# Jobs (state-machine.md §1).\n")
	jobStatuses := []JobStatus{JobScheduled, JobInProgress, JobCompleted, JobCanceled, JobDeleting}
	names = nil
	for _, s := range jobStatuses {
		names = append(names, s.String())
	}
	jobRow := func(event string, act func(Job) (Job, error)) {
		section(&b, event, names, func(i int) string {
			j := Job{ID: "fw", Status: jobStatuses[i], Rolling: jobStatuses[i] == JobInProgress}
			after, err := act(j)
			if err != nil {
				if after.Status != j.Status || after.Updated != 0 || after.Sweeping {
					return toldError(err) + " BUT CHANGED"
				}
				return toldError(err)
			}
			s := "-> " + after.Status.String()
			for _, f := range []struct {
				name string
				is   bool
			}{{"forceCanceled", after.ForceCanceled}, {"updated=now", after.Updated == halfPast}, {"completed=now", after.Completed == halfPast},
				{"rolling", after.Rolling}, {"sweeping", after.Sweeping}, {"concurrent", after.Concurrent()}, {"active", after.Status.Active()}} {
				if f.is {
					s += " " + f.name
				}
			}
			return s
		})
	}
	jobRow("CancelJob", func(j Job) (Job, error) { return j.Cancel(false, "", "", halfPast) })
	jobRow("CancelJob force", func(j Job) (Job, error) { return j.Cancel(true, "", "", halfPast) })
	jobRow("CancelJob force, canceled with force before", func(j Job) (Job, error) {
		j.ForceCanceled = j.Status == JobCanceled
		return j.Cancel(true, "", "", halfPast)
	})
	jobRow("DeleteJob", func(j Job) (Job, error) { return j.Delete(false, halfPast) })
	jobRow("DeleteJob force", func(j Job) (Job, error) { return j.Delete(true, halfPast) })

	golden(t, "transitions.golden", b.String())
}

func manyPairs(n int) Pairs {
	var b PairsBuilder
	for i := range n {
		b.Set(fmt.Sprint("k", i), "v")
	}
	return b.Pairs()
}
