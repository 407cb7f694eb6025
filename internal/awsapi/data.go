package awsapi

import (
	"muster"
	"muster/internal/awsapi/jobsdata"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

// next is the job id that stands for the first pending execution.
const next = "$next"

// getPending is GetPendingJobExecutions.
func (c *call) getPending(in *jobsdata.GetPendingJobExecutionsInput) (wire.Output, error) {
	pending, err := c.engine.Pending(c.ctx, muster.ThingName(in.ThingName))
	if err != nil {
		return nil, err
	}
	// Both arrays are always there, empty or not (data-plane.md §3).
	out := &jobsdata.GetPendingJobExecutionsOutput{InProgressJobs: []jobsdata.JobExecutionSummary{}, QueuedJobs: []jobsdata.JobExecutionSummary{}}
	for i := range pending {
		if pending[i].Status == muster.InProgress {
			out.InProgressJobs = append(out.InProgressJobs, deviceSummary(&pending[i]))
		} else {
			out.QueuedJobs = append(out.QueuedJobs, deviceSummary(&pending[i]))
		}
	}
	return out, nil
}

// startNext is StartNextPendingJobExecution.
func (c *call) startNext(in *jobsdata.StartNextPendingJobExecutionInput) (wire.Output, error) {
	e, ok, err := c.engine.StartNext(c.ctx, muster.ThingName(in.ThingName),
		engine.Start{Details: details(in.StatusDetails), Step: stepTimer(in.StepTimeoutInMinutes)})
	if err != nil || !ok {
		return &jobsdata.StartNextPendingJobExecutionOutput{}, err
	}
	shape, err := c.deviceExecution(e, true)
	return &jobsdata.StartNextPendingJobExecutionOutput{Execution: shape}, err
}

// describeForDevice is the data plane's DescribeJobExecution.
func (c *call) describeForDevice(in *jobsdata.DescribeJobExecutionInput) (wire.Output, error) {
	thing, withDocument := muster.ThingName(in.ThingName), in.IncludeJobDocument == nil || *in.IncludeJobDocument
	var e muster.Execution
	var err error
	if in.JobID == next {
		var ok bool
		if e, ok, err = c.engine.DescribeNextIn(c.ctx, thing, c.namespace); err != nil || !ok {
			return &jobsdata.DescribeJobExecutionOutput{}, err
		}
	} else {
		number, err := executionNumber(in.ExecutionNumber, in.JobID, in.ThingName)
		if err != nil {
			return nil, err
		}
		if e, err = c.engine.DescribeForDevice(c.ctx, thing, muster.JobID(in.JobID), number); err != nil {
			return nil, err
		}
	}
	shape, err := c.deviceExecution(e, withDocument)
	return &jobsdata.DescribeJobExecutionOutput{Execution: shape}, err
}

// readNamespace reads namespaceId, which DescribeJobExecution had in older models (data-plane.md §3): $next is then
// the next of that namespace's jobs. A job's own id needs none.
func (c *call) readNamespace(e *entry, query func(string) (string, bool)) error {
	if e.op.Plane != wire.Data || e.op.Name != "DescribeJobExecution" {
		return nil
	}
	name, given := query("namespaceId")
	if !given {
		return nil
	}
	c.namespace = name
	return validNamespace("namespaceId", name)
}

// update is UpdateJobExecution.
func (c *call) update(in *jobsdata.UpdateJobExecutionInput) (wire.Output, error) {
	number, err := executionNumber(in.ExecutionNumber, in.JobID, in.ThingName)
	if err != nil {
		return nil, err
	}
	status, _ := muster.ParseStatus(*in.Status)
	e, err := c.engine.Report(c.ctx, muster.ThingName(in.ThingName), muster.JobID(in.JobID), muster.Report{
		Status: status, Details: details(in.StatusDetails), ExpectedVersion: in.ExpectedVersion, Number: number, Step: stepTimer(in.StepTimeoutInMinutes)})
	if err != nil {
		return nil, err
	}
	c.execution = e
	out := &jobsdata.UpdateJobExecutionOutput{}
	if in.IncludeJobExecutionState != nil && *in.IncludeJobExecutionState {
		out.ExecutionState = executionState(e)
	}
	if in.IncludeJobDocument != nil && *in.IncludeJobDocument {
		text, err := c.document(e)
		if err != nil {
			return nil, err
		}
		out.JobDocument = &text
	}
	return out, nil
}

// executionNumber reads an optional execution number: the first is 1, so that nothing below exists.
func executionNumber(n *int64, job, thing string) (int64, error) {
	if n == nil {
		return 0, nil
	}
	if *n < muster.FirstExecution {
		return 0, muster.Errorf(muster.NotFound, "Thing %s has no execution %d of job %s", thing, *n, job)
	}
	return *n, nil
}

// document is what a device is handed for an execution, with its placeholders filled afresh.
func (c *call) document(e muster.Execution) (string, error) {
	doc, err := c.engine.Document(c.ctx, e.Job)
	if err != nil || c.config.Delivery == nil || !muster.HasPlaceholders(doc.Text) {
		return doc.Text, err
	}
	v, err := c.engine.DescribeJob(c.ctx, e.Job)
	if err != nil {
		return "", err
	}
	return c.config.Delivery.Fill(c.ctx, v.Job, e, doc.Text), nil
}

// deviceExecution is an execution as devices see it, and remembers it for the REST form.
func (c *call) deviceExecution(e muster.Execution, withDocument bool) (*jobsdata.JobExecution, error) {
	c.execution = e
	shape := executionShape(e, c.engine.Now())
	if withDocument {
		text, err := c.document(e)
		if err != nil {
			return nil, err
		}
		shape.JobDocument = &text
	}
	return shape, nil
}

// executionShape is an execution as devices see it, without its document. What its members point at is made in
// one piece with it.
func executionShape(e muster.Execution, now muster.Time) *jobsdata.JobExecution {
	v := &struct {
		jobsdata.JobExecution
		e                              muster.Execution
		status                         string
		queued, started, updated, left int64
	}{e: e, status: e.Status.String(), queued: e.QueuedAt.Seconds(), started: e.StartedAt.Seconds(), updated: e.UpdatedAt.Seconds()}
	v.JobExecution = jobsdata.JobExecution{
		JobID: (*string)(&v.e.Job), ThingName: (*string)(&v.e.Thing), Status: &v.status, StatusDetails: wireMap(e.Details),
		QueuedAt: &v.queued, LastUpdatedAt: &v.updated, VersionNumber: &v.e.Version, ExecutionNumber: &v.e.Number,
	}
	if !e.StartedAt.IsZero() {
		v.StartedAt = &v.started
	}
	if left, running := e.SecondsLeft(now); running {
		v.left = left
		v.ApproximateSecondsBeforeTimedOut = &v.left
	}
	return &v.JobExecution
}

// deviceSummary points at e for what it can.
func deviceSummary(e *muster.Execution) jobsdata.JobExecutionSummary {
	at := &struct{ queued, started, updated int64 }{e.QueuedAt.Seconds(), e.StartedAt.Seconds(), e.UpdatedAt.Seconds()}
	s := jobsdata.JobExecutionSummary{JobID: (*string)(&e.Job), QueuedAt: &at.queued, LastUpdatedAt: &at.updated,
		VersionNumber: &e.Version, ExecutionNumber: &e.Number}
	if !e.StartedAt.IsZero() {
		s.StartedAt = &at.started
	}
	return s
}

func stepTimer(minutes *int64) muster.StepTimer {
	if minutes == nil {
		return muster.StepTimer{}
	}
	return muster.StepTimer{Set: true, Minutes: *minutes}
}

// details are nil when absent, so that {} can clear what is stored.
func details(m wire.Map) *muster.Pairs {
	if m == nil {
		return nil
	}
	p := pairs(m)
	return &p
}

func pairs(m wire.Map) muster.Pairs {
	var b muster.PairsBuilder
	size := 0
	for _, p := range m {
		size += len(p.Key) + len(p.Value) + 4
	}
	b.Grow(len(m), size)
	for _, p := range m {
		b.Set(p.Key, p.Value)
	}
	return b.Pairs()
}

// wireMap is nil when there are no pairs: an empty map is left out of answers.
func wireMap(p muster.Pairs) wire.Map {
	if p == "" {
		return nil
	}
	m := make(wire.Map, 0, p.Len())
	for k, v := range p.All() {
		m = append(m, wire.Pair{Key: k, Value: v})
	}
	return m
}
