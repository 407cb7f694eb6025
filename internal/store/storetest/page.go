package storetest

import (
	"context"
	"fmt"

	"muster"
	"muster/internal/store"
)

// lists are all lists of a reader, as pages of names.
func lists(r store.Reader) map[string]func(store.Page) ([]string, string, error) {
	continuous := muster.Continuous
	return map[string]func(store.Page) ([]string, string, error){
		"things": func(p store.Page) ([]string, string, error) {
			return named(func(t muster.Thing) string { return string(t.Name) })(r.Things(store.ThingFilter{}, p))
		},
		"things of a type": func(p store.Page) ([]string, string, error) {
			return named(func(t muster.Thing) string { return string(t.Name) })(r.Things(store.ThingFilter{Type: "y"}, p))
		},
		"things by attribute": func(p store.Page) ([]string, string, error) {
			return named(func(t muster.Thing) string { return string(t.Name) })(r.Things(store.ThingFilter{Attribute: "a", Value: "v"}, p))
		},
		"types": func(p store.Page) ([]string, string, error) {
			return named(func(t muster.ThingType) string { return string(t.Name) })(r.ThingTypes(p))
		},
		"groups": func(p store.Page) ([]string, string, error) {
			return named(func(g muster.Group) string { return string(g.Name) })(r.Groups("", p))
		},
		"children": func(p store.Page) ([]string, string, error) {
			return named(func(g muster.Group) string { return string(g.Name) })(r.Groups("g0", p))
		},
		"members": func(p store.Page) ([]string, string, error) {
			return named(func(m muster.Membership) string { return string(m.Thing) })(r.Members("g0", p))
		},
		"templates": func(p store.Page) ([]string, string, error) {
			return named(func(t muster.Template) string { return string(t.ID) })(r.Templates(p))
		},
		"settings": func(p store.Page) ([]string, string, error) {
			return named(func(x store.Setting) string { return x.Name + x.Value })(r.Settings("s", p))
		},
		"settings of a prefix": func(p store.Page) ([]string, string, error) {
			return named(func(x store.Setting) string { return x.Name + x.Value })(r.Settings("s/", p))
		},
		"jobs": func(p store.Page) ([]string, string, error) {
			return named(func(j *muster.Job) string { return string(j.ID) })(r.Jobs(store.JobFilter{}, p))
		},
		"jobs in progress": func(p store.Page) ([]string, string, error) {
			return named(func(j *muster.Job) string { return string(j.ID) })(r.Jobs(store.JobFilter{Status: muster.JobInProgress}, p))
		},
		"continuous jobs of a group": func(p store.Page) ([]string, string, error) {
			return named(func(j *muster.Job) string { return string(j.ID) })(r.Jobs(store.JobFilter{Group: "g0", Selection: &continuous}, p))
		},
		"executions of a job": func(p store.Page) ([]string, string, error) {
			return named(executionName)(r.ExecutionsOfJob("j0", muster.NoStatus, p))
		},
		"queued executions of a job": func(p store.Page) ([]string, string, error) {
			return named(executionName)(r.ExecutionsOfJob("j0", muster.Queued, p))
		},
		"executions of a thing": func(p store.Page) ([]string, string, error) {
			return named(executionName)(r.ExecutionsOfThing("n0", "", muster.NoStatus, p))
		},
		"executions of a thing at a job": func(p store.Page) ([]string, string, error) {
			return named(executionName)(r.ExecutionsOfThing("n0", "j0", muster.NoStatus, p))
		},
	}
}

func executionName(e muster.Execution) string {
	return fmt.Sprintf("%s/%s/%d", e.Job, e.Thing, e.Number)
}

func named[T any](name func(T) string) func([]T, string, error) ([]string, string, error) {
	return func(rows []T, next string, err error) ([]string, string, error) {
		var out []string
		for _, r := range rows {
			out = append(out, name(r))
		}
		return out, next, err
	}
}

// fill puts the i-th row into every list.
func fill(tx store.Tx, i int) {
	t := thing(fmt.Sprintf("n%d", i))
	t.Type, t.Attributes = "y", muster.MakePairs("a", "v")
	tx.Put(store.Thing{Thing: t})
	tx.Put(store.ThingType{ThingType: muster.ThingType{Name: muster.TypeName(fmt.Sprintf("y%d", i))}})
	parent := ""
	if i > 0 {
		parent = "g0"
	}
	tx.Put(store.Group{Group: group(tx, fmt.Sprintf("g%d", i), parent)})
	tx.Put(store.Member{Membership: muster.Membership{Group: "g0", Thing: t.Name, Seq: tx.NextSeq()}})
	tx.Put(store.Template{Template: muster.Template{ID: muster.TemplateID(fmt.Sprintf("m%d", i))}})
	for _, name := range []string{"r%d", "s/%d", "t%d"} {
		tx.Put(store.Setting{Name: fmt.Sprintf(name, i), Value: "v"})
	}
	j := job(tx, fmt.Sprintf("j%d", i), muster.Target{Group: "g0"})
	j.Selection = muster.Continuous
	tx.Put(store.Job{Job: j})
	queue(tx, "j0", string(t.Name), 100)
	if i > 0 {
		queue(tx, string(j.ID), "n0", 100)
	}
	// Attempts at one job: all but the last are over.
	e, _ := tx.Execution("j0", "n0", 0)
	become(tx, e, muster.Failed, 101)
	queue(tx, "j0", "n0", 102)
}

// empty takes the i-th row out of every list.
func empty(tx store.Tx, i int) {
	name := muster.ThingName(fmt.Sprintf("n%d", i))
	for _, id := range []muster.JobID{"j0", muster.JobID(fmt.Sprintf("j%d", i))} {
		for _, of := range []muster.ThingName{name, "n0"} {
			if e, ok := tx.Execution(id, of, 1); ok && (of != "n0" || id != "j0") {
				tx.Keep(of, muster.Notice{}, deleting(tx, e))
			}
		}
	}
	if e, ok := tx.Execution("j0", "n0", int64(i+1)); ok {
		tx.Keep("n0", muster.Notice{}, deleting(tx, e))
	}
	tx.Delete(store.Member{Membership: muster.Membership{Group: "g0", Thing: name}})
	tx.Delete(store.Thing{Thing: muster.Thing{Name: name}})
	tx.Delete(store.ThingType{ThingType: muster.ThingType{Name: muster.TypeName(fmt.Sprintf("y%d", i))}})
	tx.Delete(store.Group{Group: muster.Group{Name: muster.GroupName(fmt.Sprintf("g%d", i))}})
	tx.Delete(store.Template{Template: muster.Template{ID: muster.TemplateID(fmt.Sprintf("m%d", i))}})
	tx.Delete(store.Setting{Name: fmt.Sprintf("s/%d", i)})
	tx.Delete(store.Job{Job: &muster.Job{ID: muster.JobID(fmt.Sprintf("j%d", i))}})
}

// paging walks every list by small pages while rows come and go: rows that stay come exactly once.
func paging(h *harness) {
	const n = 24
	h.do(func(tx store.Tx) {
		for i := range n {
			fill(tx, i)
		}
	})
	stays := map[string]map[string]int{}
	token := map[string]string{}
	over := map[string]bool{}
	snapshot := func() map[string]map[string]bool {
		out := map[string]map[string]bool{}
		h.view(func(r store.Reader) {
			for name, list := range lists(r) {
				out[name] = map[string]bool{}
				for _, row := range all(h, 1000, list) {
					out[name][row] = true
				}
			}
		})
		return out
	}
	for name, rows := range snapshot() {
		stays[name] = map[string]int{}
		for row := range rows {
			stays[name][row] = 0
		}
		if len(rows) < n-1 {
			h.Fatalf("the list of %s has only %d rows", name, len(rows))
		}
	}
	for step := 1; len(over) < len(stays); step++ {
		h.view(func(r store.Reader) {
			for name, list := range lists(r) {
				if over[name] {
					continue
				}
				rows, next, err := list(store.Page{After: token[name], Limit: 1 + step%3})
				if err != nil {
					h.Fatalf("%s: %v", name, err)
				}
				for _, row := range rows {
					stays[name][row]++
				}
				token[name] = next
				if next == "" {
					over[name] = true
				}
			}
		})
		if step%2 == 0 {
			h.do(func(tx store.Tx) {
				fill(tx, n+step)
				if step < n && step != 2 {
					empty(tx, step)
				}
			})
		}
		if step%5 == 0 {
			h.again()
		}
	}
	for name, rows := range snapshot() {
		for row := range rows {
			if times, first := stays[name][row]; first && times != 1 {
				h.Errorf("%s: %s stayed all the time and came %d times", name, row, times)
			}
		}
		for row, times := range stays[name] {
			if times > 1 {
				h.Errorf("%s: %s came %d times", name, row, times)
			}
		}
	}
}

// pagingExecutions walks a status while its executions leave it one by one.
func pagingExecutions(h *harness) {
	const n = 60
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
		for i := range n {
			tx.Put(store.Thing{Thing: thing(fmt.Sprintf("t%d", i))})
			queue(tx, "j", fmt.Sprintf("t%d", i), muster.Time(1000-i))
		}
	})
	seen := map[string]int{}
	p := store.Page{Limit: 7}
	for step := 0; ; step++ {
		h.view(func(r store.Reader) {
			es, next, err := r.ExecutionsOfJob("j", muster.Queued, p)
			if err != nil {
				h.Fatal(err)
			}
			for _, e := range es {
				seen[string(e.Thing)]++
			}
			p.After = next
		})
		if p.After == "" {
			break
		}
		h.do(func(tx store.Tx) { // those seen first go on; odd things that were not seen as well
			for i := range n {
				name := muster.ThingName(fmt.Sprintf("t%d", i))
				if e, _ := tx.Execution("j", name, 0); e.Status == muster.Queued && (seen[string(name)] > 0 || i%2 == 1 && i%5 == step%5) {
					become(tx, e, muster.InProgress, 2000)
				}
			}
		})
	}
	for i := 0; i < n; i += 2 {
		if got := seen[fmt.Sprintf("t%d", i)]; got != 1 {
			h.Errorf("t%d came %d times", i, got)
		}
	}
	h.view(func(r store.Reader) {
		inProgress := all(h, 11, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfJob("j", muster.InProgress, p)
		})
		h.equal("in progress", int64(len(inProgress)), r.Counts("j")[muster.InProgress])
	})
}

func tokens(h *harness) {
	h.do(func(tx store.Tx) {
		for i := range 5 {
			fill(tx, i)
		}
	})
	h.view(func(r store.Reader) {
		next := map[string]string{}
		for name, list := range lists(r) {
			_, token, err := list(store.Page{Limit: 1})
			if err != nil || token == "" {
				h.Fatalf("%s: token %q, error %v", name, token, err)
			}
			next[name] = token
			for _, bad := range []string{"x", "!!", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA", token + "A", token[1:], "0"} {
				_, _, err := list(store.Page{After: bad, Limit: 1})
				h.kind(fmt.Sprintf("%s after %q", name, bad), err, muster.Invalid)
			}
		}
		for name, list := range lists(r) {
			for other, token := range next {
				if other != name {
					_, _, err := list(store.Page{After: token, Limit: 1})
					h.kind(fmt.Sprintf("%s with a token of %s", name, other), err, muster.Invalid)
				}
			}
		}
	})
	err := h.View(context.Background(), func(r store.Reader) error {
		_, _, err := r.Things(store.ThingFilter{}, store.Page{After: "?", Limit: 1})
		return err
	})
	h.kind("a view returns what its function returned", err, muster.Invalid)
}
