package muster

import (
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// queued makes an execution of a queue; the job's name tells it from others.
func queued(job JobID, s Status, at Time, seq uint64) Execution {
	return Execution{Job: job, Thing: "lamp", Number: 1, Seq: seq, Status: s, Version: 1, QueuedAt: at}
}

func queueOf(executions ...Execution) Queue {
	q := Queue{Thing: "lamp"}
	for _, e := range executions {
		q = q.With(Change{After: e})
	}
	return q
}

func jobs(q Queue) string {
	var all []string
	for _, e := range q.Executions {
		all = append(all, string(e.Job))
	}
	return strings.Join(all, " ")
}

func everything(Execution) bool { return true }

// state-machine.md §4.
func TestQueueOrder(t *testing.T) {
	want := []Execution{
		queued("started-early", InProgress, 1000, 5),
		queued("started-late", InProgress, 3000, 2),
		queued("old", Queued, 500, 9),
		queued("tied-first", Queued, 2000, 3),
		queued("tied-second", Queued, 2000, 4),
		queued("new", Queued, 2001, 1),
	}
	const order = "started-early started-late old tied-first tied-second new"
	r := rand.New(rand.NewSource(1))
	for range 50 {
		shuffled := slices.Clone(want)
		r.Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })
		if got := jobs(queueOf(shuffled...)); got != order {
			t.Fatalf("order is %s", got)
		}
	}
	q := queueOf(want...)
	for _, c := range []struct {
		name    string
		offered func(Execution) bool
		want    JobID
	}{
		{"all offered", everything, "started-early"},
		{"queued ones only", func(e Execution) bool { return e.Status == Queued }, "old"},
		{"none offered", func(Execution) bool { return false }, ""},
	} {
		if e, ok := q.Next(c.offered); e.Job != c.want || ok != (c.want != "") {
			t.Errorf("%s: next is %q, %v; want %q", c.name, e.Job, ok, c.want)
		}
	}
}

func TestQueueFind(t *testing.T) {
	first, second := queued("fw", Queued, 1, 1), queued("fw", InProgress, 2, 2)
	second.Number = 7
	q := queueOf(first, second, queued("other", Queued, 3, 3))
	for _, c := range []struct {
		job          JobID
		number, want int64 // want 0: none
	}{{"fw", 0, 7}, {"fw", 1, 1}, {"fw", 7, 7}, {"fw", 2, 0}, {"other", 0, 1}, {"none", 0, 0}} {
		i := q.Find(c.job, c.number)
		if (i >= 0) != (c.want != 0) || i >= 0 && (q.Executions[i].Number != c.want || q.Executions[i].Job != c.job) {
			t.Errorf("%s#%d is at %d", c.job, c.number, i)
		}
	}
}

func TestQueueWith(t *testing.T) {
	a, b := queued("a", Queued, 1, 1), queued("b", Queued, 2, 2)
	done, started := a, b
	done.Status, started.Status = Succeeded, InProgress
	again := a
	again.Number, again.QueuedAt, again.Seq = 2, 3, 3
	for _, c := range []struct {
		name    string
		changes []Change
		want    string
	}{
		{"nothing", nil, "a b"},
		{"one ends", []Change{{Before: a, After: done}}, "b"},
		{"one is deleted", []Change{{Before: a}}, "b"},
		{"the second starts", []Change{{Before: b, After: started}}, "b a"},
		{"one ends and is tried again", []Change{{Before: a, After: done}, {After: again}}, "b a"},
		{"one that was gone already is deleted", []Change{{Before: a, After: done}, {Before: done}}, "b"},
		{"one comes and goes", []Change{{After: again}, {Before: again}}, "a b"},
	} {
		q := queueOf(a, b)
		got := q.With(c.changes...)
		if jobs(got) != c.want || jobs(q) != "a b" || got.Thing != "lamp" {
			t.Errorf("%s: %s; want %s", c.name, jobs(got), c.want)
		}
	}
	if c := (Change{Before: a}); c.Execution().Job != "a" {
		t.Error("a deletion speaks of nothing")
	}
}

// Every row of data-plane.md §6's table, and some more.
func TestCompare(t *testing.T) {
	a, b, c := queued("a", Queued, 1, 1), queued("b", Queued, 2, 2), queued("c", Queued, 3, 3)
	as := func(e Execution, s Status) Execution { e.Status = s; e.Version++; return e }
	details := func(e Execution) Execution { e.Details = MakePairs("p", "1"); e.Version++; e.StepTimeout = 5; return e }
	retry := func(e Execution, at Time) Execution {
		e.Number, e.Seq, e.QueuedAt, e.Attempt, e.Status = 2, 10, at, 1, Queued
		return e
	}
	runningA, runningB := as(a, InProgress), as(b, InProgress)
	hidden := func(jobs string) func(Execution) bool {
		return func(e Execution) bool { return !strings.Contains(jobs, string(e.Job)) }
	}
	for _, row := range []struct {
		name    string
		before  []Execution
		changes []Change
		offered func(Execution) bool
		want    Notice
	}{
		{"new execution, list was empty", nil, []Change{{After: a}}, everything, Notice{true, true}},
		{"new execution behind others", []Execution{a}, []Change{{After: b}}, everything, Notice{true, false}},
		{"first one starts", []Execution{a, b}, []Change{{Before: a, After: runningA}}, everything, Notice{false, false}},
		{"the only one starts", []Execution{a}, []Change{{Before: a, After: runningA}}, everything, Notice{false, false}},
		{"another starts and thereby is first", []Execution{a, b}, []Change{{Before: b, After: runningB}}, everything, Notice{false, true}},
		{"another starts while an earlier one runs", []Execution{runningA, b}, []Change{{Before: b, After: runningB}}, everything, Notice{false, false}},
		{"an earlier one starts while another runs", []Execution{a, runningB}, []Change{{Before: a, After: runningA}}, everything, Notice{false, true}},
		{"details and step timer", []Execution{runningA, b}, []Change{{Before: runningA, After: details(runningA)}}, everything, Notice{false, false}},
		{"nothing", []Execution{a, b}, nil, everything, Notice{false, false}},
		{"nothing in an empty queue", nil, nil, everything, Notice{false, false}},
		{"first one succeeds, others remain", []Execution{runningA, b}, []Change{{Before: runningA, After: as(runningA, Succeeded)}}, everything, Notice{true, true}},
		{"first one canceled, others remain", []Execution{a, b}, []Change{{Before: a, After: as(a, Canceled)}}, everything, Notice{true, true}},
		{"first one times out, others remain", []Execution{runningA, b}, []Change{{Before: runningA, After: as(runningA, TimedOut)}}, everything, Notice{true, true}},
		{"first one removed, others remain", []Execution{a, b}, []Change{{Before: a, After: as(a, Removed)}}, everything, Notice{true, true}},
		{"first one deleted, others remain", []Execution{a, b}, []Change{{Before: a}}, everything, Notice{true, true}},
		{"the only one ends", []Execution{runningA}, []Change{{Before: runningA, After: as(runningA, Failed)}}, everything, Notice{true, true}},
		{"the only one is deleted", []Execution{a}, []Change{{Before: a}}, everything, Notice{true, true}},
		{"one that is not first goes", []Execution{a, b, c}, []Change{{Before: b, After: as(b, Rejected)}}, everything, Notice{true, false}},
		{"failed, with a retry, alone", []Execution{runningA}, []Change{{Before: runningA, After: as(runningA, Failed)}, {After: retry(a, 9)}}, everything, Notice{true, true}},
		{"failed, with a retry, others wait", []Execution{runningA, b}, []Change{{Before: runningA, After: as(runningA, Failed)}, {After: retry(a, 9)}}, everything, Notice{true, true}},
		{"failed, with a retry, behind one that runs", []Execution{runningA, runningB}, []Change{{Before: runningB, After: as(runningB, Failed)}, {After: retry(b, 9)}}, everything, Notice{true, false}},
		{"one goes as another comes", []Execution{a, b}, []Change{{Before: b, After: as(b, Canceled)}, {After: c}}, everything, Notice{true, false}},
		{"new execution of a hidden job", []Execution{a}, []Change{{After: b}}, hidden("b"), Notice{false, false}},
		{"first one hidden, new one behind it", []Execution{a}, []Change{{After: b}}, hidden("a"), Notice{true, true}},
		{"a hidden one goes", []Execution{a, b}, []Change{{Before: a}}, hidden("a"), Notice{false, false}},
		{"several come at once", []Execution{a}, []Change{{After: b}, {After: c}}, everything, Notice{true, false}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := queueOf(row.before...)
			if got := Compare(before, before.With(row.changes...), row.offered); got != row.want {
				t.Errorf("notify %v, notify-next %v; want %v, %v", got.List, got.Next, row.want.List, row.want.Next)
			}
		})
	}

	// A window that opens or closes changes no execution but what is visible: then the queues that are
	// compared hold what could be seen before and what can be seen after.
	for _, row := range []struct {
		name          string
		before, after Queue
		want          Notice
	}{
		{"window opens on the first", queueOf(b), queueOf(a, b), Notice{true, true}},
		{"window opens behind others", queueOf(a), queueOf(a, b), Notice{true, false}},
		{"window closes on the only one", queueOf(a), queueOf(), Notice{true, true}},
		{"window closes on one that runs, which stays", queueOf(runningA), queueOf(runningA), Notice{false, false}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := Compare(row.before, row.after, everything); got != row.want {
				t.Errorf("is %+v; want %+v", got, row.want)
			}
		})
	}
}
