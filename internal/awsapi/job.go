package awsapi

import (
	"net/http"
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

func (c *call) createJob(in *iot.CreateJobInput) (wire.Output, error) {
	n, err := c.newJob(in)
	if err != nil {
		return nil, err
	}
	job, err := c.engine.CreateJob(c.ctx, n)
	if err != nil {
		return nil, err
	}
	return &iot.CreateJobOutput{JobARN: c.jobARN(job.ID), JobID: given(job.ID), Description: given(job.Description)}, nil
}

// ParseCreateJob reads the body of a CreateJob for an endpoint that is not AWS's, as CreateJob itself would
// at the job id; r is the request it came with. The error is of the domain.
func (a *API) ParseCreateJob(r *http.Request, id string, body []byte) (n engine.NewJob, err error) {
	in := &iot.CreateJobInput{}
	if err := in.DecodeJSON(body); err != nil {
		return n, refusal(err)
	}
	if err := in.Bind(func(string) string { return id }, func(string) (string, bool) { return "", false }, func(string) string { return "" }); err != nil {
		return n, refusal(err)
	}
	if err := in.Validate(); err != nil {
		return n, refusal(err)
	}
	c := call{API: a, ctx: r.Context(), region: a.config.Region, host: r.Host}
	if scope, signed := Scope(r); a.config.Auth == nil && signed && scope.Region != "" {
		c.region = scope.Region
	}
	return c.newJob(in)
}

func (c *call) newJob(in *iot.CreateJobInput) (n engine.NewJob, err error) {
	n = engine.NewJob{
		ID:                         muster.JobID(in.JobID),
		Description:                text(in.Description),
		Namespace:                  text(in.NamespaceID),
		Document:                   in.Document,
		DocumentSource:             text(in.DocumentSource),
		TemplateARN:                text(in.JobTemplateARN),
		Parameters:                 pairs(in.DocumentParameters),
		Scheduling:                 schedulingOf(in.SchedulingConfig),
		DestinationPackageVersions: in.DestinationPackageVersions,
	}
	if text(in.TargetSelection) == iot.TargetSelectionContinuous {
		n.Selection = muster.Continuous
	}
	if n.Targets, err = c.targetsOf(in.Targets); err != nil {
		return n, err
	}
	if in.JobTemplateARN != nil {
		if n.Template, n.Managed, err = c.templateOf(*in.JobTemplateARN); err != nil {
			return n, err
		}
	}
	if n.Settings, err = settingsOf(in.PresignedURLConfig, in.JobExecutionsRolloutConfig, in.AbortConfig, in.TimeoutConfig, in.JobExecutionsRetryConfig); err != nil {
		return n, err
	}
	n.Tags, err = tagsOf(in.Tags)
	return n, err
}

// describeJob takes no notice of beforeSubstitution: the answer has no document in it.
func (c *call) describeJob(in *iot.DescribeJobInput) (wire.Output, error) {
	v, err := c.engine.DescribeJob(c.ctx, muster.JobID(in.JobID))
	if err != nil {
		return nil, err
	}
	return &iot.DescribeJobOutput{DocumentSource: given(v.DocumentSource), Job: c.jobOut(v)}, nil
}

// updateJob, deleteJob and associateTargets take a namespaceId, which AWS gives no meaning: a job id
// is enough to find the job.
func (c *call) updateJob(in *iot.UpdateJobInput) (wire.Output, error) {
	settings, err := settingsOf(in.PresignedURLConfig, in.JobExecutionsRolloutConfig, in.AbortConfig, in.TimeoutConfig, in.JobExecutionsRetryConfig)
	if err != nil {
		return nil, err
	}
	return nil, c.engine.UpdateJob(c.ctx, muster.JobID(in.JobID), engine.JobPatch{Description: in.Description, Settings: settings})
}

func (c *call) cancelJob(in *iot.CancelJobInput) (wire.Output, error) {
	job, err := c.engine.CancelJob(c.ctx, muster.JobID(in.JobID), is(in.Force), text(in.ReasonCode), text(in.Comment))
	if err != nil {
		return nil, err
	}
	return &iot.CancelJobOutput{JobARN: c.jobARN(job.ID), JobID: given(job.ID), Description: given(job.Description)}, nil
}

func (c *call) deleteJob(in *iot.DeleteJobInput) (wire.Output, error) {
	return nil, c.engine.DeleteJob(c.ctx, muster.JobID(in.JobID), is(in.Force))
}

func (c *call) listJobs(in *iot.ListJobsInput) (wire.Output, error) {
	list := listName("ListJobs", text(in.Status), text(in.TargetSelection), text(in.ThingGroupName), text(in.ThingGroupID), text(in.NamespaceID))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	f := engine.JobFilter{Group: muster.GroupName(text(in.ThingGroupName)), Namespace: text(in.NamespaceID)}
	f.Status, _ = muster.ParseJobStatus(text(in.Status)) // absent: all
	if in.TargetSelection != nil {
		selection := muster.Snapshot
		if *in.TargetSelection == iot.TargetSelectionContinuous {
			selection = muster.Continuous
		}
		f.Selection = &selection
	}
	jobs, next, err := c.engine.ListJobs(c.ctx, f, text(in.ThingGroupID), p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListJobsOutput{Jobs: make([]iot.JobSummary, len(jobs)), NextToken: nextToken(list, next)}
	for i, job := range jobs {
		out.Jobs[i] = iot.JobSummary{
			JobARN:          c.jobARN(job.ID),
			JobID:           given(job.ID),
			ThingGroupID:    given(job.GroupID),
			TargetSelection: given(job.Selection.String()),
			Status:          given(job.Status.String()),
			CreatedAt:       moment(job.Created),
			LastUpdatedAt:   moment(job.Updated),
			CompletedAt:     moment(job.Completed),
			IsConcurrent:    wire.Ptr(job.Concurrent()),
		}
	}
	return out, nil
}

func (c *call) getJobDocument(in *iot.GetJobDocumentInput) (wire.Output, error) {
	doc, err := c.engine.Document(c.ctx, muster.JobID(in.JobID))
	if err != nil {
		return nil, err
	}
	if is(in.BeforeSubstitution) {
		return &iot.GetJobDocumentOutput{Document: wire.Ptr(doc.Before())}, nil
	}
	return &iot.GetJobDocumentOutput{Document: wire.Ptr(doc.Text)}, nil
}

func (c *call) associateTargets(in *iot.AssociateTargetsWithJobInput) (wire.Output, error) {
	targets, err := c.targetsOf(in.Targets)
	if err != nil {
		return nil, err
	}
	job, err := c.engine.AssociateTargets(c.ctx, muster.JobID(in.JobID), targets, text(in.Comment))
	if err != nil {
		return nil, err
	}
	return &iot.AssociateTargetsWithJobOutput{JobARN: c.jobARN(job.ID), JobID: given(job.ID), Description: given(job.Description)}, nil
}

// jobOut is a job as DescribeJob shows it: three configurations are there even when they were not
// given, the others are not (control-plane.md §2).
func (c *call) jobOut(v engine.JobView) *iot.Job {
	out := &iot.Job{
		JobARN:                     c.jobARN(v.ID),
		JobID:                      given(v.ID),
		TargetSelection:            given(v.Selection.String()),
		Status:                     given(v.Status.String()),
		ReasonCode:                 given(v.ReasonCode),
		Comment:                    given(v.Comment),
		Targets:                    c.targetARNs(v.Targets),
		Description:                given(v.Description),
		PresignedURLConfig:         presignOut(v.Settings.Presign),
		JobExecutionsRolloutConfig: rolloutOut(v.Settings.Rollout),
		AbortConfig:                abortOut(v.Settings.Abort),
		CreatedAt:                  moment(v.Created),
		LastUpdatedAt:              moment(v.Updated),
		CompletedAt:                moment(v.Completed),
		JobProcessDetails:          processOut(v.Counts),
		TimeoutConfig:              timeoutOut(v.Settings.Timeout),
		NamespaceID:                given(v.Namespace),
		JobTemplateARN:             given(v.TemplateARN),
		JobExecutionsRetryConfig:   retryOut(v.Settings.Retry),
		IsConcurrent:               wire.Ptr(v.Concurrent()),
		SchedulingConfig:           schedulingOut(v.Scheduling),
		DestinationPackageVersions: v.DestinationPackageVersions,
	}
	if v.ForceCanceled {
		out.ForceCanceled = wire.Ptr(true)
	}
	if v.Parameters != "" {
		out.DocumentParameters = mapOf(v.Parameters)
	}
	if len(v.Processing) > 0 {
		out.JobProcessDetails.ProcessingTargets = c.targetARNs(v.Processing)
	}
	if v.Scheduling != nil && len(v.Scheduling.Windows) > 0 && v.Status.Active() {
		out.ScheduledJobRollouts = []iot.ScheduledJobRollout{}
		for _, at := range v.Scheduling.NextWindows(v.Now, muster.ScheduledShown) {
			out.ScheduledJobRollouts = append(out.ScheduledJobRollouts, iot.ScheduledJobRollout{StartTime: wire.Ptr(at.Time().Format("2006-01-02 15:04"))})
		}
	}
	return out
}

// processOut has all eight counters, zero or not.
func processOut(n muster.Counts) *iot.JobProcessDetails {
	return &iot.JobProcessDetails{
		NumberOfCanceledThings:   wire.Ptr(n[muster.Canceled]),
		NumberOfSucceededThings:  wire.Ptr(n[muster.Succeeded]),
		NumberOfFailedThings:     wire.Ptr(n[muster.Failed]),
		NumberOfRejectedThings:   wire.Ptr(n[muster.Rejected]),
		NumberOfQueuedThings:     wire.Ptr(n[muster.Queued]),
		NumberOfInProgressThings: wire.Ptr(n[muster.InProgress]),
		NumberOfRemovedThings:    wire.Ptr(n[muster.Removed]),
		NumberOfTimedOutThings:   wire.Ptr(n[muster.TimedOut]),
	}
}

func schedulingOf(in *iot.SchedulingConfig) *engine.SchedulingInput {
	if in == nil {
		return nil
	}
	return &engine.SchedulingInput{Start: text(in.StartTime), End: text(in.EndTime), EndBehavior: text(in.EndBehavior), Windows: windowsOf(in.MaintenanceWindows)}
}

func schedulingOut(s *muster.Scheduling) *iot.SchedulingConfig {
	if s == nil {
		return nil
	}
	return &iot.SchedulingConfig{StartTime: given(s.Start), EndTime: given(s.End), EndBehavior: given(s.EndBehavior), MaintenanceWindows: windowsOut(s.Windows)}
}

func (c *call) targetsOf(arns []string) ([]muster.Target, error) {
	targets := make([]muster.Target, len(arns))
	for i, arn := range arns {
		var err error
		if targets[i], err = c.parseTarget("targets", arn); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

func (c *call) targetARNs(targets []muster.Target) []string {
	arns := make([]string, len(targets))
	for i, t := range targets {
		arns[i] = c.targetARN(t)
	}
	return arns
}

func (c *call) jobARN(id muster.JobID) *string { return wire.Ptr(c.arn(muster.RefJob, string(id))) }

// What the handlers of the control plane share to read optional members and to leave out empty ones.

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func is(b *bool) bool { return b != nil && *b }

// given is a member that is absent when it is empty.
func given[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	return wire.Ptr(string(s))
}

func moment(t muster.Time) *time.Time {
	if t == 0 {
		return nil
	}
	return wire.Ptr(t.Time())
}

// mapOf is never nil: no pairs are an empty object.
func mapOf(p muster.Pairs) wire.Map {
	m := wire.Map{}
	for k, v := range p.All() {
		m = append(m, wire.Pair{Key: k, Value: v})
	}
	return m
}

// listName names a list and its filters for page tokens. The separator cannot be in a filter.
func listName(operation string, filters ...string) string {
	return operation + "\x00" + strings.Join(filters, "\x00")
}

// inMemory is a page of a list that is at hand whole, sorted by name.
func inMemory[T any](all []T, name func(T) string, p engine.Page) (rows []T, next string) {
	for _, row := range all {
		if name(row) <= p.After {
			continue
		}
		if len(rows) == p.Limit {
			return rows, name(rows[len(rows)-1])
		}
		rows = append(rows, row)
	}
	return rows, ""
}
