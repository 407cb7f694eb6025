package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"muster"
	"muster/internal/store"
)

// feedOf is the whole feed, read in small steps.
func feedOf(h *harness) (out []muster.Entry) {
	h.Helper()
	last := map[uint32]uint64{}
	out = Entries(h, h.Store, "", 3)
	for i, e := range out {
		out[i].Here = false // what was told before the store was opened again is as true
		if e.Seq != last[e.Writer]+1 || e.Missed {
			h.Fatalf("entry %+v follows entry %d", e, last[e.Writer])
		}
		last[e.Writer] = e.Seq
	}
	return out
}

// Entries are those of a store's feed that come after a place, read a few at a time.
func Entries(t testing.TB, s store.Store, after muster.Place, few int) (all []muster.Entry) {
	t.Helper()
	for {
		entries, err := s.Feed(context.Background(), after, few)
		if err != nil {
			t.Fatalf("feed: %v", err)
		}
		if len(entries) == 0 {
			return all
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].Place
	}
}

func facts(h *harness) (out []muster.Fact) {
	for _, e := range feedOf(h) {
		out = append(out, e.Facts...)
	}
	return out
}

func feed(h *harness) {
	var want []muster.Fact
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			h.Fatal(err)
		}
		return string(b)
	}
	h.equal("an empty feed", len(feedOf(h)), 0)
	var j *muster.Job
	var e muster.Execution
	// A function may run more than once: what it says that the feed will tell counts once.
	do := func(fn func(store.Tx)) {
		before := want[:len(want):len(want)]
		h.do(func(tx store.Tx) {
			want = before
			fn(tx)
		})
	}
	do(func(tx store.Tx) {
		t := thing("t")
		tx.Put(store.Thing{Thing: t})
		want = append(want, muster.Fact{Kind: muster.FactThing, Name: "t", After: text(t)})
		g := group(tx, "g", "")
		tx.Put(store.Group{Group: g})
		want = append(want, muster.Fact{Kind: muster.FactGroup, Name: "g", After: text(g)})
		m := muster.Membership{Group: "g", Thing: "t", Seq: 9}
		tx.Put(store.Member{Membership: m})
		want = append(want, muster.Fact{Kind: muster.FactMembership, Thing: "t", Group: "g", After: text(m)})
		tx.Put(store.Template{Template: muster.Template{ID: "m"}}) // is told to nobody
		j = job(tx, "j")
		tx.Put(store.Job{Job: j})
		want = append(want, muster.Fact{Kind: muster.FactJob, Name: "j", After: text(j)})
		e = queue(tx, "j", "t", 5000)
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "t", Job: "j", Number: 1, To: muster.Queued, Version: 1, Notice: muster.Notice{List: true}})
	})
	h.do(func(tx store.Tx) {
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: "j"}, Tags: muster.MakePairs("a", "b")})
	})
	queued := e
	do(func(tx store.Tx) {
		next := queued
		next.Status, next.Version, next.ForceCanceled, next.UpdatedAt, next.Details = muster.Canceled, 2, true, 6000, muster.MakePairs("k", "v")
		tx.Keep("t", muster.Notice{List: true, Next: true}, muster.Change{Before: queued, After: next})
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "t", Job: "j", Number: 1, From: muster.Queued, To: muster.Canceled, Version: 2, Forced: true,
			Notice: muster.Notice{List: true, Next: true}})
		e = next
	})
	for range 2 {
		h.equal("the feed", facts(h), want)
		entries := feedOf(h)
		h.equal("the time of the last entry", entries[len(entries)-1].At, muster.Time(6000))
		h.again()
	}
	do(func(tx store.Tx) {
		tx.Keep("t", muster.Notice{}, deleting(tx, e))
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "t", Job: "j", Number: 1, From: muster.Canceled, Version: 2, Forced: true, Details: e.Details})
		tx.Delete(store.Member{Membership: muster.Membership{Group: "g", Thing: "t"}})
		want = append(want, muster.Fact{Kind: muster.FactMembership, Thing: "t", Group: "g", Before: text(muster.Membership{Group: "g", Thing: "t", Seq: 9})})
		changed := *j
		changed.Status = muster.JobCompleted
		tx.Put(store.Job{Job: &changed})
		want = append(want, muster.Fact{Kind: muster.FactJob, Name: "j", Before: text(j), After: text(&changed)})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "t"}})
		want = append(want, muster.Fact{Kind: muster.FactThing, Name: "t", Before: text(thing("t"))})
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "t"}}) // is gone already
	})
	do(func(tx store.Tx) { // something a device has to be told though no execution changed
		tx.Put(store.Thing{Thing: thing("u")})
		want = append(want, muster.Fact{Kind: muster.FactThing, Name: "u", After: text(thing("u"))})
		tx.Keep("u", muster.Notice{Next: true})
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "u", Notice: muster.Notice{Next: true}})
		tx.Keep("u", muster.Notice{})
	})
	do(func(tx store.Tx) { // of several changes in one act the last carries the notice
		tx.Put(store.Job{Job: job(tx, "k")})
		k, _ := tx.Job("k")
		want = append(want, muster.Fact{Kind: muster.FactJob, Name: "k", After: text(k)})
		a := queue(tx, "k", "u", 7000)
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "u", Job: "k", Number: 1, To: muster.Queued, Version: 1, Notice: muster.Notice{List: true}})
		failed := a
		failed.Status, failed.Version = muster.Failed, 2
		retry := muster.NewExecution("k", "u", 2, 1, tx.NextSeq(), 7001)
		tx.Keep("u", muster.Notice{List: true}, muster.Change{Before: a, After: failed}, muster.Change{After: retry, Superseded: muster.Failed})
		want = append(want, muster.Fact{Kind: muster.FactExecution, Thing: "u", Job: "k", Number: 1, From: muster.Queued, To: muster.Failed, Version: 2},
			muster.Fact{Kind: muster.FactExecution, Thing: "u", Job: "k", Number: 2, To: muster.Queued, Version: 1, Notice: muster.Notice{List: true}})
	})
	for range 2 {
		h.equal("the feed", facts(h), want)
		h.again()
	}
	whole := feedOf(h)
	entries, err := h.Feed(context.Background(), whole[1].Place, 1)
	h.equal("one entry", []any{len(entries), entries[0].Writer, entries[0].Seq, entries[0].Place, err},
		[]any{1, whole[2].Writer, whole[2].Seq, whole[2].Place, nil})
	entries, err = h.Feed(context.Background(), whole[len(whole)-1].Place, 10)
	h.equal("at the end", []any{len(entries), err}, []any{0, nil})
	end, err := h.FeedEnd(context.Background())
	h.equal("the end", fmt.Sprint(end, err), fmt.Sprint(whole[len(whole)-1].Place, nil))
	_, err = h.Feed(context.Background(), "nowhere", 1)
	h.kind("a place that is none", err, muster.Invalid)
}

// feedOfGone reads facts of a job and a thing of which nothing is left.
func feedOfGone(h *harness) {
	h.do(func(tx store.Tx) {
		tx.Put(store.Thing{Thing: thing("t")})
		tx.Put(store.Job{Job: job(tx, "j")})
		e := queue(tx, "j", "t", 1)
		become(tx, e, muster.Canceled, 2)
		tx.Delete(store.Thing{Thing: muster.Thing{Name: "t"}})
	})
	h.do(func(tx store.Tx) { tx.Delete(store.Job{Job: &muster.Job{ID: "j"}}) })
	h.do(func(tx store.Tx) { // the names are taken by others
		tx.Put(store.Thing{Thing: thing("t")})
		tx.Put(store.Job{Job: job(tx, "j")})
	})
	for range 3 {
		n := 0
		for _, f := range facts(h) {
			if f.Kind == muster.FactExecution {
				h.equal("names", fmt.Sprint(f.Thing, " ", f.Job), "t j")
				n++
			}
		}
		h.equal("facts", n, 2)
		h.view(func(r store.Reader) {
			h.equal("history", len(all(h, 4, func(p store.Page) ([]muster.Execution, string, error) {
				return r.ExecutionsOfThing("t", "", muster.NoStatus, p)
			})), 0)
		})
		h.again()
	}
}
