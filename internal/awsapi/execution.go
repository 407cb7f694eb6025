package awsapi

import (
	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
)

func (c *call) listExecutionsForJob(in *iot.ListJobExecutionsForJobInput) (wire.Output, error) {
	list := listName("ListJobExecutionsForJob", in.JobID, text(in.Status))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	status, _ := muster.ParseStatus(text(in.Status)) // absent: all
	rows, next, err := c.engine.ExecutionsOfJob(c.ctx, muster.JobID(in.JobID), status, p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListJobExecutionsForJobOutput{ExecutionSummaries: make([]iot.JobExecutionSummaryForJob, len(rows)), NextToken: nextToken(list, next)}
	for i, e := range rows {
		out.ExecutionSummaries[i] = iot.JobExecutionSummaryForJob{ThingARN: c.thingARN(e.Thing), JobExecutionSummary: executionSummary(e)}
	}
	return out, nil
}

func (c *call) listExecutionsForThing(in *iot.ListJobExecutionsForThingInput) (wire.Output, error) {
	list := listName("ListJobExecutionsForThing", in.ThingName, text(in.Status), text(in.NamespaceID), text(in.JobID))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	status, _ := muster.ParseStatus(text(in.Status)) // absent: all
	rows, next, err := c.engine.ExecutionsOfThing(c.ctx, muster.ThingName(in.ThingName), muster.JobID(text(in.JobID)), status, text(in.NamespaceID), p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListJobExecutionsForThingOutput{ExecutionSummaries: make([]iot.JobExecutionSummaryForThing, len(rows)), NextToken: nextToken(list, next)}
	for i, e := range rows {
		out.ExecutionSummaries[i] = iot.JobExecutionSummaryForThing{JobID: given(e.Job), JobExecutionSummary: executionSummary(e)}
	}
	return out, nil
}

func executionSummary(e muster.Execution) *iot.JobExecutionSummary {
	return &iot.JobExecutionSummary{
		Status:          given(e.Status.String()),
		QueuedAt:        moment(e.QueuedAt),
		StartedAt:       moment(e.StartedAt),
		LastUpdatedAt:   moment(e.UpdatedAt),
		ExecutionNumber: wire.Ptr(e.Number),
		RetryAttempt:    positive(int64(e.Attempt)),
	}
}

func (c *call) describeExecution(in *iot.DescribeJobExecutionInput) (wire.Output, error) {
	number, err := executionNumber(in.ExecutionNumber, in.JobID, in.ThingName)
	if err != nil {
		return nil, err
	}
	e, err := c.engine.DescribeExecution(c.ctx, muster.ThingName(in.ThingName), muster.JobID(in.JobID), number)
	if err != nil {
		return nil, err
	}
	out := &iot.JobExecution{
		JobID:           given(e.Job),
		Status:          given(e.Status.String()),
		StatusDetails:   &iot.JobExecutionStatusDetails{DetailsMap: mapOf(e.Details)},
		ThingARN:        c.thingARN(e.Thing),
		QueuedAt:        moment(e.QueuedAt),
		StartedAt:       moment(e.StartedAt),
		LastUpdatedAt:   moment(e.UpdatedAt),
		ExecutionNumber: wire.Ptr(e.Number),
		VersionNumber:   wire.Ptr(e.Version),
	}
	if e.ForceCanceled {
		out.ForceCanceled = wire.Ptr(true)
	}
	if left, running := e.SecondsLeft(c.engine.Now()); running {
		out.ApproximateSecondsBeforeTimedOut = &left
	}
	return &iot.DescribeJobExecutionOutput{Execution: out}, nil
}

func (c *call) cancelExecution(in *iot.CancelJobExecutionInput) (wire.Output, error) {
	return nil, c.engine.CancelExecution(c.ctx, muster.ThingName(in.ThingName), muster.JobID(in.JobID), is(in.Force), in.ExpectedVersion, details(in.StatusDetails))
}

// deleteExecution takes no notice of namespaceId, as updateJob.
func (c *call) deleteExecution(in *iot.DeleteJobExecutionInput) (wire.Output, error) {
	number, err := executionNumber(&in.ExecutionNumber, in.JobID, in.ThingName)
	if err != nil {
		return nil, err
	}
	return nil, c.engine.DeleteExecution(c.ctx, muster.ThingName(in.ThingName), muster.JobID(in.JobID), number, is(in.Force))
}
