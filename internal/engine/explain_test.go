package engine

import (
	"fmt"
	"strings"
	"testing"

	"muster"
)

// explain tells the reasons: "explain JOB" or "explain JOB THING".
func (h *teller) explain(args []string) error {
	ctx := h.t.Context()
	var x Explanation
	var err error
	if len(args) == 1 {
		x, err = h.Explain(ctx, muster.JobID(args[0]))
	} else {
		x, err = h.ExplainThing(ctx, muster.JobID(args[0]), muster.ThingName(args[1]))
	}
	for _, r := range x.Reasons {
		number := fmt.Sprint(r.Things)
		if r.AtLeast {
			number += "+"
		}
		behind := ""
		if r.Job != "" {
			behind = " " + string(r.Job)
		}
		until := ""
		if r.Until != 0 {
			until = " until " + r.Until.Time().Format("Jan 2 15:04:05")
		}
		h.say("%s %s%s%s: %s", number, r.Code, behind, until, r.Text)
	}
	return err
}

// A job of many things is looked through in slices, and only so far.
func TestExplainCountsInSlices(t *testing.T) {
	h := newTeller(t)
	ctx := t.Context()
	h.act([]string{"group", "fleet"})
	const things = 3*lookSlice + 7
	var rows []ImportRow
	for i := range things {
		rows = append(rows, ImportRow{Thing: &muster.Thing{Name: muster.ThingName(fmt.Sprintf("t%05d", i))}, Groups: []muster.GroupName{"fleet"}})
	}
	if _, err := h.Import(ctx, rows); err != nil {
		t.Fatal(err)
	}
	h.act(strings.Fields("job paced @fleet max=10"))
	h.act([]string{"tick"})
	x, err := h.Explain(ctx, "paced")
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Reasons) != 2 || x.Reasons[0].Code != muster.ReasonRate || x.Reasons[0].Things != things-1 ||
		x.Reasons[0].Until != start.Add(6e9) || x.Reasons[1].Code != muster.ReasonNever || x.Reasons[1].Things != 1 {
		t.Errorf("%+v", x.Reasons)
	}
	h.act(strings.Fields("job all @fleet"))
	h.act([]string{"tick"})
	if x, err = h.Explain(ctx, "all"); err != nil {
		t.Fatal(err)
	}
	if len(x.Reasons) != 2 || x.Reasons[0].Job != "paced" || x.Reasons[0].Things != 1 || x.Reasons[1].Code != muster.ReasonNever || x.Reasons[1].Things != things-1 {
		t.Errorf("%+v", x.Reasons)
	}
}
