package awsapi

import (
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

func (c *call) createTemplate(in *iot.CreateJobTemplateInput) (wire.Output, error) {
	n := engine.NewTemplate{
		Template: muster.Template{
			ID:                         muster.TemplateID(in.JobTemplateID),
			Description:                text(in.Description),
			DocumentSource:             text(in.DocumentSource),
			Windows:                    windowsOf(in.MaintenanceWindows),
			DestinationPackageVersions: in.DestinationPackageVersions,
		},
		Inline: in.Document,
	}
	if in.JobARN != nil {
		ref, err := c.parseARN("jobArn", *in.JobARN)
		if err != nil {
			return nil, err
		}
		if ref.Kind != muster.RefJob {
			return nil, muster.Errorf(muster.Invalid, "jobArn is %s, which is not a job", *in.JobARN)
		}
		n.Job = muster.JobID(ref.Name)
	}
	var err error
	if n.Settings, err = settingsOf(in.PresignedURLConfig, in.JobExecutionsRolloutConfig, in.AbortConfig, in.TimeoutConfig, in.JobExecutionsRetryConfig); err != nil {
		return nil, err
	}
	if n.Tags, err = tagsOf(in.Tags); err != nil {
		return nil, err
	}
	t, err := c.engine.CreateTemplate(c.ctx, n)
	if err != nil {
		return nil, err
	}
	return &iot.CreateJobTemplateOutput{JobTemplateARN: c.templateARN(t.ID), JobTemplateID: given(t.ID)}, nil
}

func (c *call) describeTemplate(in *iot.DescribeJobTemplateInput) (wire.Output, error) {
	t, err := c.engine.DescribeTemplate(c.ctx, muster.TemplateID(in.JobTemplateID))
	if err != nil {
		return nil, err
	}
	return &iot.DescribeJobTemplateOutput{
		JobTemplateARN:             c.templateARN(t.ID),
		JobTemplateID:              given(t.ID),
		Description:                given(t.Description),
		DocumentSource:             given(t.DocumentSource),
		Document:                   given(t.Document),
		CreatedAt:                  moment(t.Created),
		PresignedURLConfig:         presignOut(t.Settings.Presign),
		JobExecutionsRolloutConfig: rolloutOut(t.Settings.Rollout),
		AbortConfig:                abortOut(t.Settings.Abort),
		TimeoutConfig:              timeoutOut(t.Settings.Timeout),
		JobExecutionsRetryConfig:   retryOut(t.Settings.Retry),
		MaintenanceWindows:         windowsOut(t.Windows),
		DestinationPackageVersions: t.DestinationPackageVersions,
	}, nil
}

func (c *call) listTemplates(in *iot.ListJobTemplatesInput) (wire.Output, error) {
	list := listName("ListJobTemplates")
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	templates, next, err := c.engine.ListTemplates(c.ctx, p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListJobTemplatesOutput{JobTemplates: make([]iot.JobTemplateSummary, len(templates)), NextToken: nextToken(list, next)}
	for i, t := range templates {
		out.JobTemplates[i] = iot.JobTemplateSummary{JobTemplateARN: c.templateARN(t.ID), JobTemplateID: given(t.ID), Description: given(t.Description), CreatedAt: moment(t.Created)}
	}
	return out, nil
}

func (c *call) deleteTemplate(in *iot.DeleteJobTemplateInput) (wire.Output, error) {
	return nil, c.engine.DeleteTemplate(c.ctx, muster.TemplateID(in.JobTemplateID))
}

func (c *call) describeManagedTemplate(in *iot.DescribeManagedJobTemplateInput) (wire.Output, error) {
	t, ok := muster.ManagedTemplateNamed(in.TemplateName, text(in.TemplateVersion))
	if !ok {
		return nil, noManaged(in.TemplateName, text(in.TemplateVersion))
	}
	out := &iot.DescribeManagedJobTemplateOutput{
		TemplateName:       given(t.Name),
		TemplateARN:        c.managedARN(t),
		Description:        given(t.Description),
		TemplateVersion:    given(t.Version),
		Environments:       t.Environments,
		DocumentParameters: make([]iot.DocumentParameter, len(t.Parameters)),
		Document:           given(t.Document),
	}
	for i, p := range t.Parameters {
		out.DocumentParameters[i] = iot.DocumentParameter{Key: given(p.Key), Description: given(p.Description), Regex: given(p.Regex), Example: given(p.Example), Optional: wire.Ptr(p.Optional)}
	}
	return out, nil
}

func (c *call) listManagedTemplates(in *iot.ListManagedJobTemplatesInput) (wire.Output, error) {
	list := listName("ListManagedJobTemplates", text(in.TemplateName))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	all := muster.ManagedTemplates()
	if in.TemplateName != nil {
		t, ok := muster.ManagedTemplateNamed(*in.TemplateName, "")
		if !ok {
			return nil, noManaged(*in.TemplateName, "")
		}
		all = []muster.ManagedTemplate{t}
	}
	rows, next := inMemory(all, func(t muster.ManagedTemplate) string { return t.Name }, p)
	out := &iot.ListManagedJobTemplatesOutput{ManagedJobTemplates: make([]iot.ManagedJobTemplateSummary, len(rows)), NextToken: nextToken(list, next)}
	for i, t := range rows {
		out.ManagedJobTemplates[i] = iot.ManagedJobTemplateSummary{TemplateARN: c.managedARN(t), TemplateName: given(t.Name), Description: given(t.Description), Environments: t.Environments, TemplateVersion: given(t.Version)}
	}
	return out, nil
}

func noManaged(name, version string) error {
	if version == "" {
		return muster.Errorf(muster.NotFound, "Managed job template %s does not exist", name)
	}
	return muster.Errorf(muster.NotFound, "Managed job template %s version %s does not exist", name, version)
}

func (c *call) templateARN(id muster.TemplateID) *string {
	return wire.Ptr(c.arn(muster.RefTemplate, string(id)))
}

// managedARN has no account: a managed template is everybody's.
func (c *call) managedARN(t muster.ManagedTemplate) *string {
	return wire.Ptr("arn:" + partition(c.region) + ":iot:" + c.region + "::" + string(muster.RefTemplate) + "/" + t.Name + ":" + t.Version)
}

// templateOf reads jobTemplateArn: a template of the account, or a managed one.
func (c *call) templateOf(arn string) (muster.TemplateID, *engine.ManagedRef, error) {
	ref, err := c.parseARN("jobTemplateArn", arn)
	if err != nil {
		return "", nil, err
	}
	if ref.Kind != muster.RefTemplate {
		return "", nil, muster.Errorf(muster.Invalid, "jobTemplateArn is %s, which is not a job template", arn)
	}
	if account := strings.Split(arn, ":")[4]; account != "" {
		return muster.TemplateID(ref.Name), nil, nil
	}
	name, version, _ := strings.Cut(ref.Name, ":")
	return "", &engine.ManagedRef{Name: name, Version: version}, nil
}

// settingsOf reads the configurations that jobs and templates share. Shapes have been validated, so
// required members are there and a 0 that the model forbids is not; only timeoutConfig has no range
// there, and its 0 would mean "not given" to the rules.
func settingsOf(presign *iot.PresignedUrlConfig, rollout *iot.JobExecutionsRolloutConfig, abort *iot.AbortConfig, timeout *iot.TimeoutConfig, retry *iot.JobExecutionsRetryConfig) (s muster.Settings, err error) {
	if presign != nil {
		s.Presign = &muster.Presign{RoleARN: text(presign.RoleARN), ExpiresIn: time.Duration(number(presign.ExpiresInSec)) * time.Second}
	}
	if rollout != nil {
		s.Rollout = &muster.Rollout{MaximumPerMinute: number(rollout.MaximumPerMinute)}
		if x := rollout.ExponentialRate; x != nil {
			s.Rollout.Exponential = &muster.ExponentialRate{BasePerMinute: *x.BaseRatePerMinute, Factor: *x.IncrementFactor,
				Notified: number(x.RateIncreaseCriteria.NumberOfNotifiedThings), Succeeded: number(x.RateIncreaseCriteria.NumberOfSucceededThings)}
		}
	}
	if abort != nil {
		s.Abort = make([]muster.AbortCriterion, len(abort.CriteriaList))
		for i, a := range abort.CriteriaList {
			s.Abort[i] = muster.AbortCriterion{FailureType: *a.FailureType, Percentage: *a.ThresholdPercentage, MinExecuted: *a.MinNumberOfExecutedThings}
		}
	}
	if timeout != nil {
		if m := timeout.InProgressTimeoutInMinutes; m != nil && (*m < 1 || *m > muster.MaxTimeoutMinutes) {
			return s, muster.Errorf(muster.Invalid, "timeoutConfig.inProgressTimeoutInMinutes is %d; it must be between 1 and %d", *m, muster.MaxTimeoutMinutes)
		}
		s.Timeout = &muster.Timeout{InProgress: muster.Minutes(number(timeout.InProgressTimeoutInMinutes))}
	}
	if retry != nil {
		s.Retry = make([]muster.RetryCriterion, len(retry.CriteriaList))
		for i, r := range retry.CriteriaList {
			s.Retry[i] = muster.RetryCriterion{FailureType: *r.FailureType, Retries: *r.NumberOfRetries}
		}
	}
	return s, nil
}

func presignOut(p *muster.Presign) *iot.PresignedUrlConfig {
	if p == nil {
		return &iot.PresignedUrlConfig{}
	}
	return &iot.PresignedUrlConfig{RoleARN: given(p.RoleARN), ExpiresInSec: positive(int64(p.ExpiresIn / time.Second))}
}

func rolloutOut(r *muster.Rollout) *iot.JobExecutionsRolloutConfig {
	if r == nil {
		return &iot.JobExecutionsRolloutConfig{}
	}
	out := &iot.JobExecutionsRolloutConfig{MaximumPerMinute: positive(r.MaximumPerMinute)}
	if x := r.Exponential; x != nil {
		out.ExponentialRate = &iot.ExponentialRolloutRate{BaseRatePerMinute: wire.Ptr(x.BasePerMinute), IncrementFactor: wire.Ptr(x.Factor),
			RateIncreaseCriteria: &iot.RateIncreaseCriteria{NumberOfNotifiedThings: positive(x.Notified), NumberOfSucceededThings: positive(x.Succeeded)}}
	}
	return out
}

func abortOut(list []muster.AbortCriterion) *iot.AbortConfig {
	if list == nil {
		return nil
	}
	out := &iot.AbortConfig{CriteriaList: make([]iot.AbortCriteria, len(list))}
	for i, a := range list {
		out.CriteriaList[i] = iot.AbortCriteria{FailureType: wire.Ptr(a.FailureType), Action: wire.Ptr(iot.AbortActionCancel),
			ThresholdPercentage: wire.Ptr(a.Percentage), MinNumberOfExecutedThings: wire.Ptr(a.MinExecuted)}
	}
	return out
}

func timeoutOut(t *muster.Timeout) *iot.TimeoutConfig {
	if t == nil {
		return &iot.TimeoutConfig{}
	}
	return &iot.TimeoutConfig{InProgressTimeoutInMinutes: positive(int64(t.InProgress / time.Minute))}
}

func retryOut(list []muster.RetryCriterion) *iot.JobExecutionsRetryConfig {
	if list == nil {
		return nil
	}
	out := &iot.JobExecutionsRetryConfig{CriteriaList: make([]iot.RetryCriteria, len(list))}
	for i, r := range list {
		out.CriteriaList[i] = iot.RetryCriteria{FailureType: wire.Ptr(r.FailureType), NumberOfRetries: wire.Ptr(r.Retries)}
	}
	return out
}

func windowsOf(in []iot.MaintenanceWindow) []muster.Window {
	if in == nil {
		return nil
	}
	windows := make([]muster.Window, len(in))
	for i, w := range in {
		windows[i] = muster.Window{Start: *w.StartTime, Duration: muster.Minutes(*w.DurationInMinutes)}
	}
	return windows
}

func windowsOut(windows []muster.Window) []iot.MaintenanceWindow {
	if len(windows) == 0 {
		return nil
	}
	out := make([]iot.MaintenanceWindow, len(windows))
	for i, w := range windows {
		out[i] = iot.MaintenanceWindow{StartTime: wire.Ptr(w.Start), DurationInMinutes: wire.Ptr(int64(w.Duration / time.Minute))}
	}
	return out
}

func number(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// positive is a member that is absent when it was not given, which the rules keep as 0.
func positive(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}
