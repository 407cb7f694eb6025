package sdk_test

//lint:file-ignore SA1019 many programs still use version 1 of the SDK, and it has to work

import (
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go/service/iotjobsdataplane"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// goQueue is a device's day: look, take the next job, report on it, finish it, take the one after.
func goQueue(t *testing.T, s sdk) {
	thing, first, second := "queue:pump_1", "queue-first", "queue-second"
	arn := s.thing(t, thing)
	pending := func() *iotjobsdataplane.GetPendingJobExecutionsOutput {
		return must(s.device.GetPendingJobExecutions(&iotjobsdataplane.GetPendingJobExecutionsInput{ThingName: &thing}))(t)
	}
	peek := func() *iotjobsdataplane.JobExecution {
		return must(s.device.DescribeJobExecution(&iotjobsdataplane.DescribeJobExecutionInput{ThingName: &thing, JobId: new("$next")}))(t).Execution
	}
	if e := peek(); e != nil || len(pending().QueuedJobs) != 0 {
		t.Fatalf("a new thing has work: %v", e)
	}
	for _, job := range []string{first, second} {
		s.job(t, job, arn)
		s.await(t, thing, job, types.JobExecutionStatusQueued)
	}

	list := pending()
	if len(list.QueuedJobs) != 2 || val(list.QueuedJobs[0].JobId) != first || len(list.InProgressJobs) != 0 {
		t.Fatalf("pending: got %v", list)
	}
	same(t, "version when queued", val(list.QueuedJobs[0].VersionNumber), 1)
	same(t, "first execution's number", val(list.QueuedJobs[0].ExecutionNumber), 1)

	e := val(must(s.device.StartNextPendingJobExecution(&iotjobsdataplane.StartNextPendingJobExecutionInput{ThingName: &thing,
		StatusDetails: map[string]*string{"step": new("download")}, StepTimeoutInMinutes: new(int64(10))}))(t).Execution)
	same(t, "started job", val(e.JobId), first)
	same(t, "started thing", val(e.ThingName), thing)
	same(t, "status", val(e.Status), "IN_PROGRESS")
	same(t, "version when started", val(e.VersionNumber), 2)
	same(t, "document", val(e.JobDocument), document)
	if left := val(e.ApproximateSecondsBeforeTimedOut); left < 590 || left > 600 {
		t.Errorf("step timer of 10 minutes shows %d s", left)
	}
	if val(e.StartedAt) < val(e.QueuedAt) || val(e.QueuedAt) > 1e11 {
		t.Errorf("times in seconds: queued %d, started %d", val(e.QueuedAt), val(e.StartedAt))
	}
	again := s.next(t, thing)
	same(t, "started again", val(again.JobId), first)
	same(t, "version when started again", val(again.VersionNumber), 2)

	out := must(s.device.UpdateJobExecution(&iotjobsdataplane.UpdateJobExecutionInput{ThingName: &thing, JobId: &first, Status: new("IN_PROGRESS"),
		ExpectedVersion: new(int64(2)), ExecutionNumber: new(int64(1)), StatusDetails: map[string]*string{"step": new("install"), "percent": new("50")},
		IncludeJobExecutionState: new(true), IncludeJobDocument: new(true)}))(t)
	same(t, "version after a report", val(val(out.ExecutionState).VersionNumber), 3)
	same(t, "details after a report", val(val(out.ExecutionState).StatusDetails["percent"]), "50")
	same(t, "document after a report", val(out.JobDocument), document)

	// A report without details leaves them; the answer holds only what was asked for.
	out = must(s.device.UpdateJobExecution(&iotjobsdataplane.UpdateJobExecutionInput{ThingName: &thing, JobId: &first, Status: new("IN_PROGRESS")}))(t)
	if out.ExecutionState != nil || out.JobDocument != nil {
		t.Errorf("nothing was asked for, got %v", out)
	}
	e = val(peek())
	same(t, "$next", val(e.JobId), first)
	same(t, "details kept", val(e.StatusDetails["step"]), "install")
	told := s.execution(t, thing, first)
	same(t, "version on the control plane", told.VersionNumber, 4)
	same(t, "details on the control plane", val(told.StatusDetails).DetailsMap["step"], "install")
	same(t, "thing on the control plane", val(told.ThingArn), arn)
	if list = pending(); len(list.InProgressJobs) != 1 || len(list.QueuedJobs) != 1 {
		t.Errorf("pending half way: got %v", list)
	}

	if err := s.report(thing, first, "SUCCEEDED"); err != nil {
		t.Fatal(err)
	}
	same(t, "$next when the first is done", val(val(peek()).JobId), second)
	done := s.awaitJob(t, first, types.JobStatusCompleted)
	same(t, "succeeded", val(done.JobProcessDetails.NumberOfSucceededThings), 1)
	same(t, "queued", val(done.JobProcessDetails.NumberOfQueuedThings), 0)
	if done.CompletedAt == nil {
		t.Error("a completed job has no completedAt")
	}

	// A device may end a job that it never started.
	if err := s.report(thing, second, "REJECTED"); err != nil {
		t.Fatal(err)
	}
	same(t, "rejected", val(s.awaitJob(t, second, types.JobStatusCompleted).JobProcessDetails.NumberOfRejectedThings), 1)
	s.idle(t, thing)
	history := must(s.control.ListJobExecutionsForThing(t.Context(), &iot.ListJobExecutionsForThingInput{ThingName: &thing}))(t)
	same(t, "rows of history", len(history.ExecutionSummaries), 2)
}

func goVersionMismatch(t *testing.T, s sdk) {
	thing, job := "mismatch-a", "mismatch"
	s.job(t, job, s.thing(t, thing))
	s.await(t, thing, job, types.JobExecutionStatusQueued)
	s.next(t, thing)
	for _, wrong := range []int64{0, 1, 3} {
		_, err := s.device.UpdateJobExecution(&iotjobsdataplane.UpdateJobExecutionInput{ThingName: &thing, JobId: &job, Status: new("SUCCEEDED"), ExpectedVersion: &wrong})
		same(t, "HTTP status", refused[*iotjobsdataplane.InvalidStateTransitionException](t, err).StatusCode(), 409)
		status, version := s.last.state(t)
		same(t, "status told", status, "IN_PROGRESS")
		same(t, "version told", version, 2)
		s.last.wantWord(t, `"VersionMismatch"`)
	}
	same(t, "version after refusals", s.execution(t, thing, job).VersionNumber, 2)
}

func goTerminal(t *testing.T, s sdk) {
	thing, job := "terminal-a", "terminal"
	s.job(t, job, s.thing(t, thing))
	s.await(t, thing, job, types.JobExecutionStatusQueued)
	if err := s.report(thing, job, "FAILED"); err != nil {
		t.Fatal(err)
	}
	_, err := s.device.DescribeJobExecution(&iotjobsdataplane.DescribeJobExecutionInput{ThingName: &thing, JobId: &job})
	same(t, "HTTP status", refused[*iotjobsdataplane.TerminalStateException](t, err).StatusCode(), 410)
	for _, status := range []string{"IN_PROGRESS", "FAILED", "SUCCEEDED"} {
		refused[*iotjobsdataplane.InvalidStateTransitionException](t, s.report(thing, job, status))
		told, version := s.last.state(t)
		same(t, "status told", told, "FAILED")
		same(t, "version told", version, 2)
	}
	same(t, "status on the control plane", s.execution(t, thing, job).Status, types.JobExecutionStatusFailed)
}

func goRefusedReports(t *testing.T, s sdk) {
	thing, job := "refused-a", "refused"
	s.job(t, job, s.thing(t, thing))
	s.await(t, thing, job, types.JobExecutionStatusQueued)

	refused[*iotjobsdataplane.ResourceNotFoundException](t, s.report("refused-nobody", job, "IN_PROGRESS"))
	refused[*iotjobsdataplane.ResourceNotFoundException](t, s.report(thing, "refused-no-such-job", "IN_PROGRESS"))
	refused[*iotjobsdataplane.InvalidStateTransitionException](t, s.report(thing, job, "QUEUED"))
	for _, status := range []string{"DONE", "CANCELED", "TIMED_OUT", "REMOVED"} {
		refused[*iotjobsdataplane.InvalidRequestException](t, s.report(thing, job, status))
	}
	for what, in := range map[string]*iotjobsdataplane.UpdateJobExecutionInput{
		"step timeout of 0":  {StepTimeoutInMinutes: new(int64(0))},
		"step timeout > 7 d": {StepTimeoutInMinutes: new(int64(10081))},
		"bad detail key":     {StatusDetails: map[string]*string{"a b": new("c")}},
		"detail with a tab":  {StatusDetails: map[string]*string{"a": new("b\tc")}},
	} {
		in.ThingName, in.JobId, in.Status = &thing, &job, new("IN_PROGRESS")
		if _, err := s.device.UpdateJobExecution(in); err == nil {
			t.Errorf("%s was accepted", what)
		} else {
			refused[*iotjobsdataplane.InvalidRequestException](t, err)
		}
	}
	_, err := s.device.GetPendingJobExecutions(&iotjobsdataplane.GetPendingJobExecutionsInput{ThingName: new("refused-nobody")})
	refused[*iotjobsdataplane.ResourceNotFoundException](t, err)
	same(t, "version after refusals", s.execution(t, thing, job).VersionNumber, 1)

	// SUCCESS is the name that the first published description gives to SUCCEEDED.
	if err := s.report(thing, job, "SUCCESS"); err != nil {
		t.Error(err)
	}
	same(t, "status", s.execution(t, thing, job).Status, types.JobExecutionStatusSucceeded)
}

// goOneNext lets a device's confused threads all ask at once: each gets the same execution, and it is started once.
func goOneNext(t *testing.T, s sdk) {
	thing := "one-next-a"
	arn := s.thing(t, thing)
	for _, job := range []string{"one-next-1", "one-next-2"} {
		s.job(t, job, arn)
		s.await(t, thing, job, types.JobExecutionStatusQueued)
	}
	var threads sync.WaitGroup
	for range 8 {
		threads.Go(func() {
			out, err := s.device.StartNextPendingJobExecution(&iotjobsdataplane.StartNextPendingJobExecutionInput{ThingName: &thing})
			if err != nil {
				t.Error(err)
				return
			}
			same(t, "job", val(val(out.Execution).JobId), "one-next-1")
			same(t, "version", val(val(out.Execution).VersionNumber), 2)
		})
	}
	threads.Wait()
}
