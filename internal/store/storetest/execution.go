package storetest

import (
	"fmt"
	"slices"

	"muster"
	"muster/internal/store"
)

func queueOrder(h *harness) {
	h.do(func(tx store.Tx) {
		tx.Put(store.Thing{Thing: thing("t")})
		for i := range 6 {
			tx.Put(store.Job{Job: job(tx, fmt.Sprintf("j%d", i))})
		}
		q, ok := tx.Queue("t")
		h.equal("nothing pending", []any{len(q.Executions), ok, q.Thing}, []any{0, true, "t"})
		for i, at := range []muster.Time{50, 20, 20, 70, 10, 60} {
			queue(tx, fmt.Sprintf("j%d", i), "t", at)
		}
		e, _ := tx.Execution("j3", "t", 0)
		become(tx, e, muster.InProgress, 80, "step", "1")
		e, _ = tx.Execution("j5", "t", 0)
		become(tx, e, muster.InProgress, 81)
		e, _ = tx.Execution("j1", "t", 0)
		become(tx, e, muster.Succeeded, 82)
	})
	for range 2 {
		h.view(func(r store.Reader) {
			q, ok := r.Queue("t")
			var ids []muster.JobID
			for _, e := range q.Executions {
				ids = append(ids, e.Job)
			}
			h.equal("in progress first, then by time, then by creation", []any{ids, ok}, []any{"[j5 j3 j4 j2 j0]", true})
			h.equal("as package muster sorts", slices.IsSortedFunc(q.Executions, func(a, b muster.Execution) int {
				if muster.Before(a, b) {
					return -1
				}
				return 1
			}), true)
			e := q.Executions[1]
			h.equal("an execution in progress", e, muster.Execution{Job: "j3", Thing: "t", Number: 1, Seq: e.Seq, Status: muster.InProgress, Version: 2,
				QueuedAt: 70, StartedAt: 80, UpdatedAt: 80, StepTimeout: 60080, Details: muster.MakePairs("step", "1")})
			_, ok = r.Queue("nobody")
			h.equal("of nobody", ok, false)
		})
		h.again()
	}
}

func findExecution(h *harness) {
	var first, second muster.Execution
	h.do(func(tx store.Tx) {
		tx.Put(store.Thing{Thing: thing("t")})
		tx.Put(store.Job{Job: job(tx, "j")})
		tx.Put(store.Job{Job: job(tx, "k")})
		first = queue(tx, "j", "t", 10)
		first = become(tx, first, muster.InProgress, 11)
		first = become(tx, first, muster.Failed, 12, "why", "weather")
		second = queue(tx, "j", "t", 13)
		second.Attempt = 1
		second.InProgressTimeout = 900
		second.StepTimeout = 800
		second = become(tx, second, muster.InProgress, 14)
	})
	for range 2 {
		h.view(func(r store.Reader) {
			for number, want := range map[int64]muster.Execution{0: second, 1: first, 2: second} {
				got, ok := r.Execution("j", "t", number)
				h.equal(fmt.Sprintf("number %d", number), []any{got, ok}, []any{want, true})
			}
			for _, c := range []struct {
				job    muster.JobID
				thing  muster.ThingName
				number int64
			}{{"j", "t", 3}, {"k", "t", 0}, {"k", "t", 1}, {"none", "t", 0}, {"j", "nobody", 0}} {
				_, ok := r.Execution(c.job, c.thing, c.number)
				h.equal(fmt.Sprintf("%+v", c), ok, false)
			}
			h.equal("failed ones", fmt.Sprint(all(h, 1, func(p store.Page) ([]string, string, error) {
				return named(executionName)(r.ExecutionsOfJob("j", muster.Failed, p))
			})), "[j/t/1]")
			h.equal("in progress", fmt.Sprint(all(h, 1, func(p store.Page) ([]string, string, error) {
				return named(executionName)(r.ExecutionsOfJob("j", muster.InProgress, p))
			})), "[j/t/2]")
			h.equal("of the thing, failed", fmt.Sprint(all(h, 1, func(p store.Page) ([]string, string, error) {
				return named(executionName)(r.ExecutionsOfThing("t", "j", muster.Failed, p))
			})), "[j/t/1]")
			h.equal("of the thing, at another job", fmt.Sprint(all(h, 1, func(p store.Page) ([]string, string, error) {
				return named(executionName)(r.ExecutionsOfThing("t", "k", muster.NoStatus, p))
			})), "[]")
		})
		h.again()
	}
	h.do(func(tx store.Tx) { // the latest is deleted: the one before is the latest
		tx.Keep("t", muster.Notice{}, deleting(tx, second))
		got, ok := tx.Execution("j", "t", 0)
		h.equal("the latest that is left", []any{got, ok}, []any{first, true})
		h.equal("the next number", tx.NextNumber("j", "t"), 3)
		tx.Keep("t", muster.Notice{}, deleting(tx, first))
		_, ok = tx.Execution("j", "t", 0)
		h.equal("none left", ok, false)
		h.equal("the next number", tx.NextNumber("j", "t"), 3)
	})
	h.again()
	h.do(func(tx store.Tx) {
		h.equal("the next number", tx.NextNumber("j", "t"), 3)
		third := queue(tx, "j", "t", 20)
		got, _ := tx.Execution("j", "t", 0)
		h.equal("the third", got, third)
		h.equal("counts", tx.Counts("j"), muster.Counts{muster.Queued: 1})
	})
}

func counters(h *harness) {
	statuses := []muster.Status{muster.InProgress, muster.Succeeded, muster.Failed, muster.TimedOut, muster.Rejected, muster.Removed, muster.Canceled}
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
		tx.Put(store.Job{Job: job(tx, "k")})
		for i := range 50 {
			name := fmt.Sprintf("t%d", i)
			tx.Put(store.Thing{Thing: thing(name)})
			e := queue(tx, "j", name, muster.Time(i+1))
			if i%8 > 0 {
				become(tx, e, statuses[i%8-1], 100)
			}
			if i%16 == 3 { // a second attempt
				queue(tx, "j", name, 200)
			}
			if i%10 == 9 {
				e, _ = tx.Execution("j", muster.ThingName(name), 1)
				tx.Keep(e.Thing, muster.Notice{}, deleting(tx, e))
			}
		}
		queue(tx, "k", "t0", 1)
	})
	for range 2 {
		h.view(func(r store.Reader) {
			var recount muster.Counts
			for _, e := range all(h, 9, func(p store.Page) ([]muster.Execution, string, error) {
				return r.ExecutionsOfJob("j", muster.NoStatus, p)
			}) {
				recount[e.Status]++
			}
			h.equal("counts", r.Counts("j"), recount)
			for st := muster.Queued; st < muster.NumStatus; st++ {
				es := all(h, 3, func(p store.Page) ([]muster.Execution, string, error) { return r.ExecutionsOfJob("j", st, p) })
				h.equal(st.String(), int64(len(es)), recount[st])
				for _, e := range es {
					h.equal("status", e.Status, st)
				}
			}
			h.equal("of nothing", r.Counts("none"), muster.Counts{})
		})
		h.again()
	}
}

func deletedThing(h *harness) {
	var e muster.Execution
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
		tx.Put(store.Thing{Thing: thing("t")})
		e = queue(tx, "j", "t", 1)
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "t"}})
		q, ok := tx.Queue("t")
		h.equal("it has a queue while something is pending", []any{len(q.Executions), ok}, []any{1, true})
		_, ok = tx.Thing("t")
		h.equal("it is not registered", ok, false)
	})
	h.again()
	queued := e
	h.do(func(tx store.Tx) {
		e = become(tx, queued, muster.Removed, 2)
		_, ok := tx.Queue("t")
		h.equal("a queue", ok, false)
	})
	h.again()
	h.view(func(r store.Reader) {
		got, ok := r.Execution("j", "t", 0)
		h.equal("its execution", []any{got, ok}, []any{e, true})
		h.equal("its history", len(all(h, 5, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfThing("t", "", muster.NoStatus, p)
		})), 1)
		h.equal("the job's list", len(all(h, 5, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfJob("j", muster.Removed, p)
		})), 1)
		h.equal("the list of things", len(all(h, 5, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) })), 0)
	})
	h.do(func(tx store.Tx) { // it comes back
		tx.Put(store.Thing{Thing: thing("t")})
		h.equal("numbers go on", tx.NextNumber("j", "t"), 2)
		queue(tx, "j", "t", 3)
		tx.Put(store.Thing{Thing: thing("u")})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "u"}}) // one of which nothing is left
		tx.Put(store.Thing{Thing: thing("u")})
		_, ok := tx.Thing("u")
		h.equal("u", ok, true)
	})
	h.again()
	h.view(func(r store.Reader) {
		h.equal("history", len(all(h, 1, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfThing("t", "j", muster.NoStatus, p)
		})), 2)
		h.equal("things", len(all(h, 1, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) })), 2)
	})
}

func deletedJob(h *harness) {
	h.do(func(tx store.Tx) {
		for _, id := range []string{"j", "k"} {
			tx.Put(store.Job{Job: job(tx, id, muster.Target{Group: "g"})})
			tx.Put(store.Document{Job: muster.JobID(id), Document: muster.Document{Text: "{}"}})
			for i := range 30 {
				name := fmt.Sprintf("t%d", i)
				tx.Put(store.Thing{Thing: thing(name)})
				e := queue(tx, id, name, muster.Time(i+1))
				if i > 2 {
					become(tx, e, muster.Succeeded, 90)
				}
			}
		}
	})
	h.do(func(tx store.Tx) {
		j, _ := tx.Job("j")
		tx.Delete(store.Job{Job: j})
		_, ok := tx.Job("j")
		h.equal("the job", ok, false)
		h.equal("counts", tx.Counts("j"), muster.Counts{})
		_, ok = tx.Execution("j", "t9", 0)
		h.equal("an execution", ok, false)
		q, _ := tx.Queue("t1")
		h.equal("pending", len(q.Executions), 1)
	})
	for range 2 {
		h.view(func(r store.Reader) {
			_, ok := r.Document("j")
			h.equal("document", ok, false)
			for i := range 30 {
				name := muster.ThingName(fmt.Sprintf("t%d", i))
				h.equal("history", fmt.Sprint(all(h, 5, func(p store.Page) ([]string, string, error) {
					return named(executionName)(r.ExecutionsOfThing(name, "", muster.NoStatus, p))
				})), fmt.Sprintf("[k/%s/1]", name))
				if q, _ := r.Queue(name); i < 3 && len(q.Executions) != 1 {
					h.Errorf("%s has %d pending", name, len(q.Executions))
				}
			}
			h.equal("the other job's", len(all(h, 7, func(p store.Page) ([]muster.Execution, string, error) {
				return r.ExecutionsOfJob("k", muster.NoStatus, p)
			})), 30)
		})
		h.again()
	}
	h.do(func(tx store.Tx) { // the id is free
		tx.Put(store.Job{Job: job(tx, "j")})
		h.equal("no execution of the new job", len(all(h, 7, func(p store.Page) ([]muster.Execution, string, error) {
			return tx.ExecutionsOfJob("j", muster.NoStatus, p)
		})), 0)
		h.equal("numbers begin anew", tx.NextNumber("j", "t5"), 1)
		queue(tx, "j", "t5", 400)
		_, ok := tx.Document("j")
		h.equal("no document", ok, false)
	})
}

func deadlines(h *harness) {
	d := func(due muster.Time, kind store.DeadlineKind, subject, cursor string) store.Deadline {
		return store.Deadline{Due: due, Kind: kind, Subject: subject, Cursor: cursor}
	}
	h.do(func(tx store.Tx) {
		h.equal("none", tx.NextDue(), 0)
		for _, x := range []store.Deadline{d(30, store.Rollout, "c", ""), d(10, store.Sweep, "b", "x"), d(10, store.Rollout, "b", ""), d(20, store.Delete, "a", ""), d(1<<40, store.Delete, "z", "")} {
			tx.Put(x)
		}
		tx.Put(d(10, store.Sweep, "b", "y")) // the same, further on
	})
	for range 2 {
		h.view(func(r store.Reader) {
			h.equal("next", r.NextDue(), 10)
			h.equal("nothing before", len(r.Due(9, 5)), 0)
			h.equal("due", r.Due(20, 5), []store.Deadline{d(10, store.Rollout, "b", ""), d(10, store.Sweep, "b", "y"), d(20, store.Delete, "a", "")})
			h.equal("limited", len(r.Due(20, 2)), 2)
			h.equal("all", len(r.Due(1<<50, 50)), 5)
		})
		h.again()
	}
	h.do(func(tx store.Tx) {
		tx.Delete(d(10, store.Sweep, "b", "whatever"))
		tx.Delete(d(10, store.Rollout, "b", ""))
		tx.Delete(d(11, store.Rollout, "b", ""))
		h.equal("next", tx.NextDue(), 20)
	})
	h.again()
	h.view(func(r store.Reader) { h.equal("next", r.NextDue(), 20) })
}

// largeJob is large enough for whatever a store does only with many executions.
func largeJob(h *harness) {
	const n = 3000
	name := func(i int) string { return fmt.Sprintf("thing-%d", i) }
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
	})
	for i := 0; i < n; i += 500 {
		h.do(func(tx store.Tx) {
			for k := i; k < i+500; k++ {
				tx.Put(store.Thing{Thing: thing(name(k))})
				queue(tx, "j", name(k), 1000)
			}
		})
	}
	for i := 0; i < n; i += 500 {
		h.do(func(tx store.Tx) {
			for k := i; k < i+500; k++ {
				e, _ := tx.Execution("j", muster.ThingName(name(k)), 0)
				st := muster.Succeeded
				if k%7 == 0 {
					st = muster.Failed
				}
				become(tx, e, st, 2000, "result", "it went as it went")
			}
		})
	}
	h.do(func(tx store.Tx) {
		j, _ := tx.Job("j")
		done := *j
		done.Status = muster.JobCompleted
		tx.Put(store.Job{Job: &done})
	})
	for round := range 3 {
		h.view(func(r store.Reader) {
			failed := all(h, 100, func(p store.Page) ([]muster.Execution, string, error) {
				return r.ExecutionsOfJob("j", muster.Failed, p)
			})
			h.equal("failed", int64(len(failed)), r.Counts("j")[muster.Failed])
			h.equal("all", len(all(h, 250, func(p store.Page) ([]muster.Execution, string, error) {
				return r.ExecutionsOfJob("j", muster.NoStatus, p)
			})), n+round)
			e, ok := r.Execution("j", "thing-14", 1)
			h.equal("one", []any{e.Status, e.Details, ok}, []any{muster.Failed, muster.MakePairs("result", "it went as it went"), true})
		})
		h.again()
		h.do(func(tx store.Tx) { // the job wakes up again
			e := queue(tx, "j", "thing-7", 3000)
			become(tx, e, muster.Failed, 3001)
			h.equal("number", e.Number, int64(round+2))
		})
	}
	h.do(func(tx store.Tx) {
		j, _ := tx.Job("j")
		tx.Delete(store.Job{Job: j})
	})
	h.again()
	h.view(func(r store.Reader) {
		h.equal("history", len(all(h, 5, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfThing("thing-7", "", muster.NoStatus, p)
		})), 0)
	})
}
