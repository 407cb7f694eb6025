package storetest

import (
	"fmt"
	"slices"

	"muster"
	"muster/internal/store"
)

func rows(h *harness) {
	h.do(func(tx store.Tx) {
		for _, n := range []string{"b", "a", "c:1", "é-not-a-legal-name"} {
			tx.Put(store.Thing{Thing: thing(n)})
		}
		for _, n := range []string{"t2", "t1"} {
			tx.Put(store.ThingType{ThingType: muster.ThingType{Name: muster.TypeName(n), ID: "i", Searchable: []string{"x"}, Created: 5}})
		}
		tx.Put(store.Group{Group: group(tx, "root", "")})
		tx.Put(store.Group{Group: group(tx, "child2", "root")})
		tx.Put(store.Group{Group: group(tx, "child1", "root")})
		tx.Put(store.Group{Group: group(tx, "grandchild", "child1")})
		tx.Put(store.Template{Template: muster.Template{ID: "z", Document: `{"a":1}`, Created: 3}})
		tx.Put(store.Template{Template: muster.Template{ID: "y", Description: "d", Windows: []muster.Window{{Start: "cron(0 1 * * ? *)", Duration: 3600e9}}}})
		tx.Put(store.Job{Job: job(tx, "j1")})
	})
	look := func() {
		h.view(func(r store.Reader) {
			got, ok := r.Thing("a")
			h.equal("thing", []any{got, ok}, []any{thing("a"), true})
			_, ok = r.Thing("missing")
			h.equal("missing thing", ok, false)
			h.equal("things", len(all(h, 3, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) })), 4)
			types := all(h, 1, r.ThingTypes)
			h.equal("types by name", []any{len(types), types[0].Name, types[1].Name, types[0].Searchable}, []any{2, "t1", "t2", []string{"x"}})
			y, ok := r.ThingType("t2")
			h.equal("type", []any{y.ID, y.Created, ok}, []any{"i", 5, true})
			h.equal("groups by name", groupNames(all(h, 2, func(p store.Page) ([]muster.Group, string, error) { return r.Groups("", p) })), "[child1 child2 grandchild root]")
			h.equal("direct children", groupNames(all(h, 1, func(p store.Page) ([]muster.Group, string, error) { return r.Groups("root", p) })), "[child1 child2]")
			g, ok := r.Group("child1")
			h.equal("group", []any{g.Parent, g.Attributes, g.Version, g.Created, ok}, []any{"root", muster.MakePairs("k", "v"), 3, 1700000000123, true})
			templates := all(h, 1, r.Templates)
			h.equal("templates by id", []any{len(templates), templates[0].ID, templates[1].ID}, []any{2, "y", "z"})
			z, ok := r.Template("z")
			h.equal("template", []any{z.Document, ok}, []any{`{"a":1}`, true})
			j, ok := r.Job("j1")
			h.equal("job", []any{j.Description, j.Settings.Timeout.InProgress, j.Parameters.Len(), j.Updated, ok}, []any{"d j1", "1m0s", 1, 1700000000002, true})
		})
	}
	look()
	h.again()
	look()
	changed := thing("a")
	changed.Version, changed.Type, changed.Attributes = 2, "t1", ""
	h.do(func(tx store.Tx) {
		tx.Put(store.Thing{Thing: changed})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "b"}})
		tx.Delete(store.ThingType{ThingType: muster.ThingType{Name: "t2"}})
		tx.Delete(store.Group{Group: muster.Group{Name: "child2"}})
		tx.Delete(store.Template{Template: muster.Template{ID: "z"}})
		for _, gone := range []store.Row{store.Thing{Thing: muster.Thing{Name: "nobody"}}, store.Group{Group: muster.Group{Name: "none"}},
			store.Job{Job: &muster.Job{ID: "none"}}, store.Template{Template: muster.Template{ID: "none"}}} {
			tx.Delete(gone)
		}
	})
	for range 2 {
		h.view(func(r store.Reader) {
			got, _ := r.Thing("a")
			h.equal("changed thing", got, changed)
			_, ok := r.Thing("b")
			h.equal("deleted thing", ok, false)
			_, ok = r.Queue("b")
			h.equal("queue of a deleted thing", ok, false)
			_, ok = r.ThingType("t2")
			h.equal("deleted type", ok, false)
			_, ok = r.Group("child2")
			h.equal("deleted group", ok, false)
			h.equal("children", groupNames(all(h, 5, func(p store.Page) ([]muster.Group, string, error) { return r.Groups("root", p) })), "[child1]")
			_, ok = r.Template("z")
			h.equal("deleted template", ok, false)
			h.equal("things", len(all(h, 9, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(store.ThingFilter{}, p) })), 3)
		})
		h.again()
	}
}

func groupNames(gs []muster.Group) string {
	var out []muster.GroupName
	for _, g := range gs {
		out = append(out, g.Name)
	}
	return fmt.Sprint(out)
}

func tagsAndDocuments(h *harness) {
	ref := muster.Ref{Kind: muster.RefJob, Name: "j"}
	doc := muster.Document{Text: `{"b":"1"}`, Source: `{"b":"${x}"}`}
	h.do(func(tx store.Tx) {
		tx.Put(store.Job{Job: job(tx, "j")})
		tx.Put(store.Document{Job: "j", Document: doc})
		tx.Put(store.Tags{Of: ref, Tags: muster.MakePairs("a", "1")})
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefThing, Name: "j"}, Tags: muster.MakePairs("b", "2")})
		tx.Put(store.Setting{Name: "clock", Value: "12"})
		h.equal("a setting", tx.Setting("clock"), "12")
	})
	h.again()
	h.view(func(r store.Reader) {
		got, ok := r.Document("j")
		h.equal("document", []any{got, ok}, []any{doc, true})
		got, ok = r.Document("j") // perhaps from a cache
		h.equal("document again", []any{got, ok}, []any{doc, true})
		_, ok = r.Document("none")
		h.equal("no document", ok, false)
		h.equal("tags", r.Tags(ref), muster.MakePairs("a", "1"))
		h.equal("a setting", r.Setting("clock"), "12")
		h.equal("no setting", r.Setting("none"), "")
		h.equal("no tags", r.Tags(muster.Ref{Kind: muster.RefJob, Name: "k"}), muster.Pairs(""))
	})
	h.do(func(tx store.Tx) {
		tx.Put(store.Tags{Of: ref})
		tx.Put(store.Setting{Name: "clock"})
		tx.Put(store.Document{Job: "j", Document: muster.Document{Text: "{}"}})
	})
	h.view(func(r store.Reader) {
		got, _ := r.Document("j")
		h.equal("changed document", got, muster.Document{Text: "{}"})
		h.equal("a setting put empty", r.Setting("clock"), "")
		h.equal("tags put empty", r.Tags(ref), muster.Pairs(""))
		h.equal("tags of the other kind", r.Tags(muster.Ref{Kind: muster.RefThing, Name: "j"}), muster.MakePairs("b", "2"))
	})
}

func thingFilter(h *harness) {
	h.do(func(tx store.Tx) {
		for i := range 40 {
			t := thing(fmt.Sprintf("t%02d", i))
			t.Attributes = muster.MakePairs("site", fmt.Sprintf("north-%d", i%4))
			if i%2 == 0 {
				t.Type = "even"
			}
			tx.Put(store.Thing{Thing: t})
		}
	})
	for range 2 {
		h.view(func(r store.Reader) {
			for _, c := range []struct {
				f    store.ThingFilter
				want int
			}{
				{store.ThingFilter{}, 40},
				{store.ThingFilter{Type: "even"}, 20},
				{store.ThingFilter{Type: "odd"}, 0},
				{store.ThingFilter{Attribute: "site", Value: "north-1"}, 10},
				{store.ThingFilter{Attribute: "site", Value: "north-1", Type: "even"}, 0},
				{store.ThingFilter{Attribute: "site", Value: "north-", Prefix: true}, 40},
				{store.ThingFilter{Attribute: "site", Value: "north-", Prefix: true, Type: "even"}, 20},
				{store.ThingFilter{Attribute: "site", Value: "north-"}, 0},
				{store.ThingFilter{Attribute: "place", Value: ""}, 0},
			} {
				got := all(h, 7, func(p store.Page) ([]muster.Thing, string, error) { return r.Things(c.f, p) })
				h.equal(fmt.Sprintf("things by %+v", c.f), len(got), c.want)
			}
		})
		h.do(func(tx store.Tx) { // a thing changes its type and back
			t, _ := tx.Thing("t00")
			t.Type = "odd"
			tx.Put(store.Thing{Thing: t})
			t.Type = "even"
			tx.Put(store.Thing{Thing: t})
		})
		h.again()
	}
}

func jobFilter(h *harness) {
	snapshot, continuous := muster.Snapshot, muster.Continuous
	h.do(func(tx store.Tx) {
		for i := range 30 {
			j := job(tx, fmt.Sprintf("j%02d", i), muster.Target{Group: muster.GroupName(fmt.Sprintf("g%d", i%3))}, muster.Target{Thing: "x"})
			if i%2 == 0 {
				j.Selection = muster.Continuous
			}
			if i%5 == 0 {
				j.Status = muster.JobCompleted
			}
			if i == 7 {
				j.Namespace = "n"
			}
			tx.Put(store.Job{Job: j})
		}
	})
	for range 2 {
		h.view(func(r store.Reader) {
			list := func(f store.JobFilter) (ids []muster.JobID) {
				for _, j := range all(h, 4, func(p store.Page) ([]*muster.Job, string, error) { return r.Jobs(f, p) }) {
					ids = append(ids, j.ID)
				}
				return ids
			}
			ids := list(store.JobFilter{})
			h.equal("all, newest first", []any{len(ids), ids[0], ids[29], slices.IsSortedFunc(ids, func(a, b muster.JobID) int { return -compare(a, b) })}, []any{30, "j29", "j00", true})
			h.equal("completed", list(store.JobFilter{Status: muster.JobCompleted}), "[j25 j20 j15 j10 j05 j00]")
			h.equal("by group", list(store.JobFilter{Group: "g1", Status: muster.JobCompleted}), "[j25 j10]")
			h.equal("snapshot, by group", list(store.JobFilter{Group: "g0", Selection: &snapshot}), "[j27 j21 j15 j09 j03]")
			h.equal("continuous and completed", list(store.JobFilter{Status: muster.JobCompleted, Selection: &continuous}), "[j20 j10 j00]")
			h.equal("namespace", list(store.JobFilter{Namespace: "n"}), "[j07]")
			h.equal("none", list(store.JobFilter{Group: "none"}), "[]")
			h.equal("counts", []int{r.JobCount(muster.JobInProgress), r.JobCount(muster.JobCompleted), r.JobCount(muster.JobCanceled)}, "[24 6 0]")
			var targeting []muster.JobID
			for j := range r.Targeting("g0") {
				targeting = append(targeting, j.ID)
			}
			slices.Sort(targeting)
			h.equal("targeting", targeting, "[j06 j12 j18 j24]")
		})
		h.do(func(tx store.Tx) { // a job leaves its lists and comes back
			j, _ := tx.Job("j06")
			other := *j
			other.Status, other.Targets = muster.JobCanceled, nil
			tx.Put(store.Job{Job: &other})
			h.equal("canceled", tx.JobCount(muster.JobCanceled), 1)
			tx.Put(store.Job{Job: j})
		})
		h.again()
	}
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func memberships(h *harness) {
	h.do(func(tx store.Tx) {
		for _, g := range []string{"g2", "g1", "g3"} {
			tx.Put(store.Group{Group: group(tx, g, "")})
		}
		for i := range 20 {
			n := fmt.Sprintf("t%02d", i)
			tx.Put(store.Thing{Thing: thing(n)})
			tx.Put(store.Member{Membership: muster.Membership{Group: "g1", Thing: muster.ThingName(n), Seq: tx.NextSeq()}})
			if i%2 == 0 {
				tx.Put(store.Member{Membership: muster.Membership{Group: "g2", Thing: muster.ThingName(n), Seq: tx.NextSeq()}})
			}
		}
		tx.Delete(store.Member{Membership: muster.Membership{Group: "g1", Thing: "t04"}})
		tx.Delete(store.Member{Membership: muster.Membership{Group: "g3", Thing: "t04"}})
	})
	for range 2 {
		h.view(func(r store.Reader) {
			members := func(g muster.GroupName) []muster.Membership {
				return all(h, 6, func(p store.Page) ([]muster.Membership, string, error) { return r.Members(g, p) })
			}
			h.equal("members", []int{len(members("g1")), len(members("g2")), len(members("g3"))}, "[19 10 0]")
			for _, m := range members("g2") {
				found := false
				for _, o := range r.GroupsOf(m.Thing) {
					found = found || o == m
				}
				h.equal("the membership from the other end", found, true)
				h.equal("its sequence is kept", m.Seq > 0, true)
			}
			of := r.GroupsOf("t06")
			h.equal("groups by name", []any{len(of), of[0].Group, of[1].Group}, []any{2, "g1", "g2"})
			h.equal("after leaving", len(r.GroupsOf("t04")), 1)
			h.equal("of nobody", len(r.GroupsOf("nobody")), 0)
		})
		h.again()
	}
}

// byteOrder has names that every language sorts otherwise.
func byteOrder(h *harness) {
	names := []string{"a", "B", "b", "_", "-", ":", "A1", "a-1", "a1", "aB", "Z", "10", "9"}
	h.do(func(tx store.Tx) {
		tx.Put(store.Group{Group: group(tx, "parent", "")})
		for _, n := range names {
			tx.Put(store.Group{Group: group(tx, n, "parent")})
			tx.Put(store.ThingType{ThingType: muster.ThingType{Name: muster.TypeName(n)}})
			tx.Put(store.Template{Template: muster.Template{ID: muster.TemplateID(n)}})
		}
	})
	slices.Sort(names)
	h.view(func(r store.Reader) {
		h.equal("groups", groupNames(all(h, 2, func(p store.Page) ([]muster.Group, string, error) { return r.Groups("parent", p) })), fmt.Sprint(names))
		var types, templates []string
		for _, t := range all(h, 2, r.ThingTypes) {
			types = append(types, string(t.Name))
		}
		for _, t := range all(h, 2, r.Templates) {
			templates = append(templates, string(t.ID))
		}
		h.equal("types", fmt.Sprint(types), fmt.Sprint(names))
		h.equal("templates", fmt.Sprint(templates), fmt.Sprint(names))
	})
}
