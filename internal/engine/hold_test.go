package engine

import (
	"fmt"
	"strings"
	"testing"

	"muster"
)

// Of more failed things than a job can have targets, the targets are those of the job in which they failed,
// and only what failed there is reached.
func TestRetryOfMany(t *testing.T) {
	const things, failed = 400, 150
	h := fleet(t, things)
	ctx := t.Context()
	h.act(strings.Fields("job fw @fleet alone"))
	h.act([]string{"tick"})
	name := func(i int) muster.ThingName { return muster.ThingName(fmt.Sprintf("t%04d", i)) }
	for i := range things {
		status := muster.Succeeded
		if i < failed {
			status = failedStatuses[i%2*2] // FAILED and REJECTED
		}
		if _, err := h.Report(ctx, name(i), "fw", muster.Report{Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := h.RetryFailed(ctx, "fw", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Targets) != 2 || made.RetryOf == nil || made.RetryOf.Chosen || made.ID != "fw-retry-1" {
		t.Errorf("%+v", made)
	}
	// What fails after the job was made is not its business.
	h.act(strings.Fields("advance 0s"))
	h.act(strings.Fields("advance 1m"))
	if _, err := h.Report(ctx, "alone", "fw", muster.Report{Status: muster.Failed}); err != nil {
		t.Fatal(err)
	}
	v, err := h.DescribeJob(ctx, made.ID)
	if err != nil || v.Counts[muster.Queued] != failed || v.Status != muster.JobInProgress || v.Rolling {
		t.Errorf("%+v %v %v", v.Counts, v.Status, err)
	}
	for i := range failed {
		if _, err := h.Report(ctx, name(i), made.ID, muster.Report{Status: muster.Succeeded}); err != nil {
			t.Fatal(err)
		}
	}
	if v, err = h.DescribeJob(ctx, made.ID); err != nil || v.Status != muster.JobCompleted {
		t.Errorf("%v %v", v.Status, err)
	}
	if x, err := h.ExplainThing(ctx, made.ID, name(things-1)); err != nil || x.Reasons[0].Code != muster.ReasonNoTarget {
		t.Errorf("%+v %v", x.Reasons, err)
	}
}

func TestFreeID(t *testing.T) {
	h := newTeller(t)
	h.act(strings.Fields("thing a"))
	long := strings.Repeat("j", 64)
	for _, id := range []string{long, long[:56] + "-retry-1"} {
		h.act(strings.Fields("job " + id + " a"))
		h.act([]string{"tick"})
		h.act(strings.Fields("report a " + id + " FAILED"))
	}
	made, err := h.RetryFailed(t.Context(), muster.JobID(long), "")
	if err != nil || made.ID != muster.JobID(long[:56]+"-retry-2") {
		t.Errorf("%s %v", made.ID, err)
	}
}

// A dry run of a retry plays for what failed alone, whether they are its targets themselves or too many for that.
func TestDryRunOfRetry(t *testing.T) {
	for _, failed := range []int{7, 150} {
		h := fleet(t, 200)
		ctx := t.Context()
		h.act(strings.Fields("job fw @fleet alone"))
		h.act([]string{"tick"})
		if _, err := h.DryRunRetry(ctx, "fw", DefaultAssume); err == nil || !strings.Contains(err.Error(), "nothing to try again") {
			t.Errorf("nothing has failed: %v", err)
		}
		for i := range failed {
			if _, err := h.Report(ctx, muster.ThingName(fmt.Sprintf("t%04d", i)), "fw", muster.Report{Status: muster.Failed}); err != nil {
				t.Fatal(err)
			}
		}
		d, err := h.DryRunRetry(ctx, "fw", DefaultAssume)
		if err != nil {
			t.Fatal(err)
		}
		if d.Job.ID != "fw-retry-1" || d.Things != int64(failed) || d.Expected.Counts != (muster.Counts{muster.Succeeded: int64(failed)}) || d.Expected.Status != muster.JobCompleted {
			t.Errorf("%s for %d things, %+v", d.Job.ID, d.Things, d.Expected)
		}
		if _, err := h.DescribeJob(ctx, "fw-retry-1"); err == nil {
			t.Error("a dry run made a job")
		}
		if v, err := h.DescribeJob(ctx, "fw"); err != nil || len(v.RetriedBy) != 0 {
			t.Errorf("a dry run left a link: %v %v", v.RetriedBy, err)
		}
	}
}
