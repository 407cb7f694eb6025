package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/internal/store"
)

// Digest is everything that can be read from a store, as text. Stores with equal digests hold the
// same; where the order of a list is a store's own affair the lines are sorted.
func Digest(t testing.TB, s store.Store) string {
	t.Helper()
	var out string
	if err := s.View(context.Background(), func(r store.Reader) error {
		out = digest(t, r, 7)
		return nil
	}); err != nil {
		t.Fatalf("view: %v", err)
	}
	return out
}

func digest(t testing.TB, r store.Reader, limit int) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	lines := func(sorted bool, ls []string) {
		if sorted {
			slices.Sort(ls)
		}
		for _, l := range ls {
			line("%s", l)
		}
	}
	text := func(what string) func(v any) string {
		return func(v any) string { return fmt.Sprintf("%s %+v", what, v) }
	}
	names := map[muster.ThingName]bool{}
	var ls []string
	for _, x := range all(t, limit, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) }) {
		names[x.Name] = true
		same, _ := r.Thing(x.Name)
		ls = append(ls, fmt.Sprintf("thing %+v %t", x, same == x))
	}
	lines(true, ls)
	for _, x := range all(t, limit, r.ThingTypes) {
		n := len(all(t, limit, func(p store.Page) ([]muster.Thing, string, error) {
			return r.Things(store.ThingFilter{Type: x.Name}, p)
		}))
		line("type %+v %d", x, n)
	}
	for _, g := range all(t, limit, func(p store.Page) ([]muster.Group, string, error) { return r.Groups("", p) }) {
		line("group %+v", g)
		lines(false, each(all(t, limit, func(p store.Page) ([]muster.Group, string, error) { return r.Groups(g.Name, p) }), func(c muster.Group) string { return " child " + string(c.Name) }))
		lines(true, each(all(t, limit, func(p store.Page) ([]muster.Membership, string, error) { return r.Members(g.Name, p) }), func(m muster.Membership) string { return text(" member")(m) }))
	}
	lines(false, each(all(t, limit, r.Templates), func(x muster.Template) string { return text("template")(x) }))
	for _, j := range all(t, limit, func(p store.Page) ([]*muster.Job, string, error) { return r.Jobs(store.JobFilter{}, p) }) {
		d, ok := r.Document(j.ID)
		settings := fmt.Sprintf("%+v %+v", j.Settings.Timeout, j.Settings.Rollout)
		flat := *j
		flat.Settings, flat.Scheduling = muster.Settings{}, nil
		line("job %+v %s document %+v %t tags %q counts %v tally %v", flat, settings, d, ok, r.Tags(muster.Ref{Kind: muster.RefJob, Name: string(j.ID)}), r.Counts(j.ID))
		line("tally %v", r.Tally(j.ID))
		for st := muster.NoStatus; st < muster.NumStatus; st++ {
			var ls []string
			for _, e := range all(t, limit, func(p store.Page) ([]muster.Execution, string, error) { return r.ExecutionsOfJob(j.ID, st, p) }) {
				names[e.Thing] = true
				one, _ := r.Execution(j.ID, e.Thing, e.Number)
				latest, _ := r.Execution(j.ID, e.Thing, 0)
				ls = append(ls, fmt.Sprintf(" %s: %+v %t latest %d", st, e, one == e, latest.Number))
			}
			lines(true, ls)
		}
	}
	for st := muster.NoJobStatus + 1; st <= muster.JobDeleting; st++ {
		line("%d jobs %s", r.JobCount(st), st)
		lines(false, each(all(t, limit, func(p store.Page) ([]*muster.Job, string, error) { return r.Jobs(store.JobFilter{Status: st}, p) }), func(j *muster.Job) string { return " " + string(j.ID) }))
	}
	for _, name := range sortedKeys(names) {
		q, ok := r.Queue(name)
		line("queue %s %t", name, ok)
		lines(false, each(q.Executions, func(e muster.Execution) string { return " " + executionName(e) }))
		lines(false, each(r.GroupsOf(name), func(m muster.Membership) string { return text(" in")(m) }))
		es := all(t, limit, func(p store.Page) ([]muster.Execution, string, error) {
			return r.ExecutionsOfThing(name, "", muster.NoStatus, p)
		})
		for i := 0; i < len(es); { // newest job first; within one the order is the store's
			k := i
			for k < len(es) && es[k].Job == es[i].Job {
				k++
			}
			lines(true, each(es[i:k], func(e muster.Execution) string { return " history " + executionName(e) + " " + e.Status.String() }))
			i = k
		}
	}
	lines(false, each(r.Due(1<<60, 1<<20), func(d store.Deadline) string { return text("deadline")(d) }))
	for _, x := range all(t, limit, func(p store.Page) ([]store.Setting, string, error) { return r.Settings("", p) }) {
		line("setting %+v %t", x, r.Setting(x.Name) == x.Value)
	}
	line("next due %d", r.NextDue())
	return b.String()
}

func each[T any](rows []T, text func(T) string) []string {
	var out []string
	for _, r := range rows {
		out = append(out, text(r))
	}
	return out
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	var out []K
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
