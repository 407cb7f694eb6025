package sdk_test

//lint:file-ignore SA1019 many programs still use version 1 of the SDK, and it has to work

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go/service/iotjobsdataplane"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/test/process"
)

// goSnapshotGroup: a SNAPSHOT job is for those who were in the group when it was created.
func goSnapshotGroup(t *testing.T, s sdk) {
	for _, thing := range []string{"snap-a", "snap-b", "snap-late"} {
		s.thing(t, thing)
	}
	group := s.group(t, "snap-group", "snap-a", "snap-b")
	s.job(t, "snap", group)
	s.join(t, "snap-late", "snap-group")
	s.await(t, "snap-a", "snap", types.JobExecutionStatusQueued)
	s.await(t, "snap-b", "snap", types.JobExecutionStatusQueued)

	// A later job has reached the latecomer, so the earlier one never will.
	s.job(t, "snap-later", group)
	s.await(t, "snap-late", "snap-later", types.JobExecutionStatusQueued)
	same(t, "rows", strings.Join(s.rows(t, "snap"), ", "), "snap-a QUEUED, snap-b QUEUED")

	for _, thing := range []string{"snap-a", "snap-b"} {
		if err := s.report(thing, "snap", "SUCCEEDED"); err != nil {
			t.Fatal(err)
		}
	}
	counts := s.awaitJob(t, "snap", types.JobStatusCompleted).JobProcessDetails
	same(t, "succeeded", val(counts.NumberOfSucceededThings), 2)
	same(t, "queued", val(counts.NumberOfQueuedThings), 0)
}

// goJoinAndLeave: a CONTINUOUS job follows its group.
func goJoinAndLeave(t *testing.T, s sdk) {
	thing, job, group := "join-b", "join", "join-group"
	s.thing(t, "join-a")
	s.thing(t, thing)
	s.continuous(t, job, s.group(t, group, "join-a"))
	s.await(t, "join-a", job, types.JobExecutionStatusQueued)
	if e := s.find(t, thing, job); e != nil {
		t.Fatalf("%s is no member yet, but has %v", thing, e)
	}
	s.join(t, thing, group)
	first := s.await(t, thing, job, types.JobExecutionStatusQueued)
	s.leave(t, thing, group)
	s.await(t, thing, job, types.JobExecutionStatusRemoved)
	s.idle(t, thing)
	s.join(t, thing, group)
	second := s.await(t, thing, job, types.JobExecutionStatusQueued)
	if val(second.ExecutionNumber) <= val(first.ExecutionNumber) {
		t.Errorf("execution %d follows %d", val(second.ExecutionNumber), val(first.ExecutionNumber))
	}

	for _, thing := range []string{"join-a", thing} {
		if err := s.report(thing, job, "SUCCEEDED"); err != nil {
			t.Fatal(err)
		}
	}
	process.Eventually(t, "both counted", func() bool { return val(s.describe(t, job).JobProcessDetails.NumberOfSucceededThings) == 2 })
	j := s.describe(t, job)
	same(t, "removed", val(j.JobProcessDetails.NumberOfRemovedThings), 1)
	same(t, "a continuous job", j.Status, types.JobStatusInProgress)
}

func goAssociate(t *testing.T, s sdk) {
	s.thing(t, "assoc-a")
	s.thing(t, "assoc-b")
	more := s.group(t, "assoc-more", "assoc-b")
	s.continuous(t, "assoc", s.group(t, "assoc-group", "assoc-a"))
	must(s.control.AssociateTargetsWithJob(t.Context(), &iot.AssociateTargetsWithJobInput{JobId: new("assoc"), Targets: []string{more}, Comment: new("the rest")}))(t)
	s.await(t, "assoc-b", "assoc", types.JobExecutionStatusQueued)
	if j := s.describe(t, "assoc"); len(j.Targets) != 2 || !slices.Contains(j.Targets, more) {
		t.Errorf("targets: got %v", j.Targets)
	}
	s.job(t, "assoc-snapshot", more)
	_, err := s.control.AssociateTargetsWithJob(t.Context(), &iot.AssociateTargetsWithJobInput{JobId: new("assoc-snapshot"), Targets: []string{more}})
	refused[*types.InvalidRequestException](t, err)
}

func goCancel(t *testing.T, s sdk) {
	job := "cancel"
	s.job(t, job, s.thing(t, "cancel-a"), s.thing(t, "cancel-b"))
	s.await(t, "cancel-a", job, types.JobExecutionStatusQueued)
	s.await(t, "cancel-b", job, types.JobExecutionStatusQueued)
	s.next(t, "cancel-a")

	must(s.control.CancelJob(t.Context(), &iot.CancelJobInput{JobId: &job, ReasonCode: new("BAD_FIRMWARE"), Comment: new("it bricks pumps")}))(t)
	s.await(t, "cancel-b", job, types.JobExecutionStatusCanceled)
	j := s.awaitJob(t, job, types.JobStatusCanceled)
	same(t, "reason", val(j.ReasonCode), "BAD_FIRMWARE")
	same(t, "comment", val(j.Comment), "it bricks pumps")
	same(t, "forced", val(j.ForceCanceled), false)
	s.idle(t, "cancel-b")

	// Who has started may finish, and it counts.
	same(t, "started one", s.execution(t, "cancel-a", job).Status, types.JobExecutionStatusInProgress)
	if err := s.report("cancel-a", job, "SUCCEEDED"); err != nil {
		t.Fatal(err)
	}
	counts := s.describe(t, job).JobProcessDetails
	same(t, "succeeded", val(counts.NumberOfSucceededThings), 1)
	same(t, "canceled", val(counts.NumberOfCanceledThings), 1)
	_, err := s.control.CancelJob(t.Context(), &iot.CancelJobInput{JobId: &job})
	refused[*types.InvalidRequestException](t, err)
}

func goForceCancel(t *testing.T, s sdk) {
	job := "force"
	s.job(t, job, s.thing(t, "force-a"), s.thing(t, "force-b"))
	s.await(t, "force-a", job, types.JobExecutionStatusQueued)
	s.await(t, "force-b", job, types.JobExecutionStatusQueued)
	s.next(t, "force-a")
	must(s.control.CancelJob(t.Context(), &iot.CancelJobInput{JobId: &job, Force: true}))(t)
	same(t, "started one, forced", val(s.await(t, "force-a", job, types.JobExecutionStatusCanceled).ForceCanceled), true)
	s.await(t, "force-b", job, types.JobExecutionStatusCanceled)
	same(t, "job, forced", val(s.awaitJob(t, job, types.JobStatusCanceled).ForceCanceled), true)
	same(t, "canceled", val(s.describe(t, job).JobProcessDetails.NumberOfCanceledThings), 2)
	refused[*iotjobsdataplane.InvalidStateTransitionException](t, s.report("force-a", job, "SUCCEEDED"))
	status, _ := s.last.state(t)
	same(t, "status told", status, "CANCELED")
}

func goCancelExecution(t *testing.T, s sdk) {
	ctx, thing, job := t.Context(), "cancelx-a", "cancelx"
	s.job(t, job, s.thing(t, thing), s.thing(t, "cancelx-b"))
	s.await(t, thing, job, types.JobExecutionStatusQueued)
	s.await(t, "cancelx-b", job, types.JobExecutionStatusQueued)
	s.next(t, thing)

	_, err := s.control.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: &thing, JobId: &job, Force: true, ExpectedVersion: new(int64(1))})
	refused[*types.VersionConflictException](t, err)
	s.last.wantStatus(t, 409)
	_, err = s.control.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: &thing, JobId: &job})
	refused[*types.InvalidStateTransitionException](t, err)
	must(s.control.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: &thing, JobId: &job, Force: true,
		ExpectedVersion: new(int64(2)), StatusDetails: map[string]string{"why": "recalled"}}))(t)
	e := s.await(t, thing, job, types.JobExecutionStatusCanceled)
	same(t, "version", e.VersionNumber, 3)
	same(t, "forced", val(e.ForceCanceled), true)
	same(t, "details", val(e.StatusDetails).DetailsMap["why"], "recalled")

	must(s.control.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: new("cancelx-b"), JobId: &job}))(t)
	same(t, "canceled", val(s.awaitJob(t, job, types.JobStatusCompleted).JobProcessDetails.NumberOfCanceledThings), 2)
	_, err = s.control.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: new("cancelx-nobody"), JobId: &job})
	refused[*types.ResourceNotFoundException](t, err)
}

func goDeleteJob(t *testing.T, s sdk) {
	ctx, thing, job := t.Context(), "delete-a", "delete"
	arn := s.thing(t, thing)
	s.job(t, job, arn)
	s.await(t, thing, job, types.JobExecutionStatusQueued)
	_, err := s.control.CreateJob(ctx, &iot.CreateJobInput{JobId: &job, Targets: []string{arn}, Document: new(document)})
	same(t, "who is there already", val(refused[*types.ResourceAlreadyExistsException](t, err).ResourceId), job)

	_, err = s.control.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job})
	refused[*types.InvalidStateTransitionException](t, err)
	s.last.wantStatus(t, 409)
	must(s.control.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job, Force: true}))(t)
	s.awaitGone(t, job)
	s.idle(t, thing)
	refused[*iotjobsdataplane.ResourceNotFoundException](t, s.report(thing, job, "SUCCEEDED"))

	s.job(t, job, arn) // the id is free again
	s.await(t, thing, job, types.JobExecutionStatusQueued)
	if err := s.report(thing, job, "SUCCEEDED"); err != nil {
		t.Fatal(err)
	}
	s.awaitJob(t, job, types.JobStatusCompleted)
	must(s.control.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job}))(t)
	s.awaitGone(t, job)
}

func goDeleteExecution(t *testing.T, s sdk) {
	ctx, thing, job := t.Context(), "deletex-a", "deletex"
	s.job(t, job, s.thing(t, thing))
	number := s.await(t, thing, job, types.JobExecutionStatusQueued).ExecutionNumber
	s.next(t, thing)
	_, err := s.control.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{ThingName: &thing, JobId: &job, ExecutionNumber: number})
	refused[*types.InvalidStateTransitionException](t, err)
	must(s.control.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{ThingName: &thing, JobId: &job, ExecutionNumber: number, Force: true}))(t)
	process.Eventually(t, "execution gone", func() bool { return s.find(t, thing, job) == nil })
	refused[*iotjobsdataplane.ResourceNotFoundException](t, s.report(thing, job, "SUCCEEDED"))
}

func goListAndUpdate(t *testing.T, s sdk) {
	ctx := t.Context()
	s.thing(t, "list-a")
	group := s.group(t, "list-group", "list-a")
	s.job(t, "list-snapshot", group)
	s.continuous(t, "list-continuous", group)
	ids := func(in *iot.ListJobsInput) string {
		var ids []string
		in.ThingGroupName, in.MaxResults = new("list-group"), new(int32(1))
		pages := iot.NewListJobsPaginator(s.control, in)
		for pages.HasMorePages() {
			for _, j := range must(pages.NextPage(ctx))(t).Jobs {
				ids = append(ids, val(j.JobId))
			}
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	same(t, "jobs of the group", ids(&iot.ListJobsInput{}), "list-continuous list-snapshot")
	same(t, "continuous jobs", ids(&iot.ListJobsInput{TargetSelection: types.TargetSelectionContinuous}), "list-continuous")
	same(t, "jobs in progress", ids(&iot.ListJobsInput{Status: types.JobStatusInProgress}), "list-continuous list-snapshot")
	same(t, "scheduled jobs", ids(&iot.ListJobsInput{Status: types.JobStatusScheduled}), "")

	must(s.control.UpdateJob(ctx, &iot.UpdateJobInput{JobId: new("list-snapshot"), Description: new("second thoughts"),
		TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: new(int64(30))}}))(t)
	j := s.describe(t, "list-snapshot")
	same(t, "description", val(j.Description), "second thoughts")
	same(t, "timeout", val(val(j.TimeoutConfig).InProgressTimeoutInMinutes), 30)
	same(t, "document", val(must(s.control.GetJobDocument(ctx, &iot.GetJobDocumentInput{JobId: new("list-snapshot")}))(t).Document), document)

	for what, in := range map[string]*iot.CreateJobInput{
		"no document":        {},
		"not JSON":           {Document: new("reboot, please")},
		"two documents":      {Document: new(document), DocumentSource: new("https://s3.us-east-1.amazonaws.com/bucket/key")},
		"params, no library": {Document: new(document), DocumentParameters: map[string]string{"a": "b"}},
	} {
		in.JobId, in.Targets = new("list-odd"), []string{group}
		if _, err := s.control.CreateJob(ctx, in); err == nil {
			t.Errorf("%s was accepted", what)
		} else {
			refused[*types.InvalidRequestException](t, err)
		}
	}
	_, err := s.control.CreateJob(ctx, &iot.CreateJobInput{JobId: new("list-odd"), Document: new(document), Targets: []string{group + "-no-such"}})
	refused[*types.ResourceNotFoundException](t, err)
}
