package muster

import "sort"

// A Queue is the pending executions of one thing: in progress before queued, then by the time they
// were queued, then by creation (state-machine.md §4). It is the unit of change: whatever happens
// to a thing's executions is a function from a queue to a queue and a list of changes.
type Queue struct {
	Thing      ThingName
	Executions []Execution
}

// A Change is an execution before and after an act. Before.Status is NoStatus when the act created
// the execution, After.Status when it deleted it.
type Change struct {
	Before, After Execution
	// Superseded is, when the change creates the latest attempt, the status of the one that was the
	// latest before; when it deletes the latest, the status of the one that is now. NoStatus: there is none.
	Superseded Status
	// Stale says that the execution is not its thing's latest attempt at the job.
	Stale bool
}

// Execution is the side of the change that exists, the later one if both do.
func (c Change) Execution() *Execution {
	if c.After.Status == NoStatus {
		return &c.Before
	}
	return &c.After
}

// Find is the index of the newest pending execution of a job, -1 if there is none. number 0 means any.
func (q Queue) Find(job JobID, number int64) int {
	found := -1
	for i := range q.Executions {
		e := &q.Executions[i]
		if e.Job == job && (number == 0 || e.Number == number) && (found < 0 || e.Number > q.Executions[found].Number) {
			found = i
		}
	}
	return found
}

// Next is the first execution that is offered.
func (q Queue) Next(offered func(Execution) bool) (Execution, bool) {
	for _, e := range q.Executions {
		if offered(e) {
			return e, true
		}
	}
	return Execution{}, false
}

// With returns the queue as the changes leave it. q is not touched.
func (q Queue) With(changes ...Change) Queue {
	out := Queue{Thing: q.Thing, Executions: make([]Execution, 0, len(q.Executions)+len(changes))}
	out.Executions = append(out.Executions, q.Executions...)
	for _, c := range changes {
		e := *c.Execution()
		i := 0
		for i < len(out.Executions) && (out.Executions[i].Job != e.Job || out.Executions[i].Number != e.Number) {
			i++
		}
		switch pending := c.After.Status == Queued || c.After.Status == InProgress; {
		case i < len(out.Executions) && pending:
			out.Executions[i] = c.After
		case i < len(out.Executions):
			out.Executions = append(out.Executions[:i], out.Executions[i+1:]...)
		case pending:
			out.Executions = append(out.Executions, c.After)
		}
	}
	sort.SliceStable(out.Executions, func(i, k int) bool { return Before(out.Executions[i], out.Executions[k]) })
	return out
}

// Visible is the part of a queue that a device is shown.
func (q Queue) Visible(offered func(Execution) bool) Queue {
	out := Queue{Thing: q.Thing}
	for _, e := range q.Executions {
		if offered(e) {
			out.Executions = append(out.Executions, e)
		}
	}
	return out
}

// Before is the order of a queue.
func Before(a, b Execution) bool {
	if (a.Status == InProgress) != (b.Status == InProgress) {
		return a.Status == InProgress
	}
	if a.QueuedAt != b.QueuedAt {
		return a.QueuedAt < b.QueuedAt
	}
	return a.Seq < b.Seq
}

// Notice says what a device has to be told after a change of its queue (data-plane.md §6).
type Notice struct {
	List bool // the set of pending executions changed: notify
	Next bool // another execution is next: notify-next
}

// Compare derives the notice from the visible queue before and after.
func Compare(before, after Queue, offered func(Execution) bool) Notice {
	var n Notice
	x, okX := before.Next(offered)
	y, okY := after.Next(offered)
	n.Next = okX != okY || okX && (x.Job != y.Job || x.Number != y.Number)
	n.List = !covers(before, after, offered) || !covers(after, before, offered)
	return n
}

// covers reports whether every offered execution of b is in a.
func covers(a, b Queue, offered func(Execution) bool) bool {
	from := 0 // queues mostly differ in one place: what is looked for comes behind what was found last
next:
	for i := range b.Executions {
		e := &b.Executions[i]
		if !offered(*e) {
			continue
		}
		for n := range a.Executions {
			k := (from + n) % len(a.Executions)
			o := &a.Executions[k]
			if o.Job == e.Job && o.Number == e.Number && offered(*o) {
				from = k + 1
				continue next
			}
		}
		return false
	}
	return true
}
