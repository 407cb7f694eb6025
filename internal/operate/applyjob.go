package operate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// template plans a template. AWS has no call that changes one, so one that differs is replaced; jobs made of it are not touched.
func (p *planner) template(ctx context.Context, in *iot.CreateJobTemplateInput) error {
	create := func(ctx context.Context) error { _, err := p.control.CreateJobTemplate(ctx, in); return err }
	is, err := p.control.DescribeJobTemplate(ctx, &iot.DescribeJobTemplateInput{JobTemplateId: in.JobTemplateId})
	switch {
	case missing(err):
		p.add(&Step{Sign: "+", What: "template " + *in.JobTemplateId, do: []func(context.Context) error{create}})
		return nil
	case err != nil:
		return err
	}
	s := &Step{Sign: "-/+", What: "template " + *in.JobTemplateId + " (a template cannot be changed; it is replaced)"}
	changed := s.differs("description", in.Description, is.Description)
	if in.Document != nil && !sameJSON(*in.Document, aws.ToString(is.Document)) {
		changed = s.differs("document", *in.Document, aws.ToString(is.Document)) || changed
	}
	for _, m := range []struct {
		name       string
		wanted, is any
	}{
		{"documentSource", in.DocumentSource, is.DocumentSource}, {"presignedUrlConfig", in.PresignedUrlConfig, is.PresignedUrlConfig},
		{"jobExecutionsRolloutConfig", in.JobExecutionsRolloutConfig, is.JobExecutionsRolloutConfig}, {"abortConfig", in.AbortConfig, is.AbortConfig},
		{"timeoutConfig", in.TimeoutConfig, is.TimeoutConfig}, {"jobExecutionsRetryConfig", in.JobExecutionsRetryConfig, is.JobExecutionsRetryConfig},
		{"maintenanceWindows", in.MaintenanceWindows, is.MaintenanceWindows}, {"destinationPackageVersions", in.DestinationPackageVersions, is.DestinationPackageVersions},
	} {
		changed = s.differs(m.name, m.wanted, m.is) || changed
	}
	if changed {
		s.do = []func(context.Context) error{func(ctx context.Context) error {
			_, err := p.control.DeleteJobTemplate(ctx, &iot.DeleteJobTemplateInput{JobTemplateId: in.JobTemplateId})
			return err
		}, create}
	}
	p.add(s)
	return nil
}

// target is the ARN of a target, which may be given as thing/NAME or thinggroup/NAME.
func (p *planner) target(ctx context.Context, text string) (string, error) {
	kind, name, _ := strings.Cut(text, "/")
	switch {
	case strings.HasPrefix(text, "arn:"):
		return text, nil
	case kind == "thing":
		out, err := p.control.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
		if err != nil {
			return "", err
		}
		return aws.ToString(out.ThingArn), nil
	case kind == "thinggroup":
		out, err := p.control.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: &name})
		if err != nil {
			return "", err
		}
		return aws.ToString(out.ThingGroupArn), nil
	}
	return "", fmt.Errorf("the target %q is no ARN; write one, or thing/NAME or thinggroup/NAME", text)
}

// targets are the ARNs of a job's targets. Groups that the plan makes are left as they are.
func (p *planner) targets(ctx context.Context, in *iot.CreateJobInput) (arns []string, err error) {
	for _, text := range in.Targets {
		arn, err := p.target(ctx, text)
		if kind, name, _ := strings.Cut(text, "/"); missing(err) && kind == "thinggroup" && p.made[name] {
			arn, err = text, nil
		}
		if missing(err) {
			p.wrong("job %s: there is no %s", *in.JobId, text)
			continue
		}
		if err != nil {
			return nil, err
		}
		arns = append(arns, arn)
	}
	return arns, nil
}

// job plans a job.
func (p *planner) job(ctx context.Context, in *iot.CreateJobInput) error {
	targets, err := p.targets(ctx, in)
	if err != nil {
		return err
	}
	out, err := p.control.DescribeJob(ctx, &iot.DescribeJobInput{JobId: in.JobId})
	if missing(err) {
		s := &Step{Sign: "+", What: "job " + *in.JobId}
		s.detail("targets: %s", strings.Join(in.Targets, ", "))
		s.do = append(s.do, func(ctx context.Context) (err error) {
			for i, text := range in.Targets {
				if in.Targets[i], err = p.target(ctx, text); err != nil {
					return err
				}
			}
			_, err = p.control.CreateJob(ctx, in)
			return err
		})
		p.add(s)
		return nil
	}
	if err != nil {
		return err
	}
	job := out.Job
	s := &Step{Sign: "~", What: "job " + *in.JobId}
	if err := p.fixed(ctx, in, out, s); err != nil {
		return err
	}
	p.settings(in, job, s)
	p.aim(in, job, targets, s)
	if err := p.tags(ctx, in, job, s); err != nil {
		return err
	}
	p.add(s)
	return nil
}

// fixed finds differences that nothing can be done about.
func (p *planner) fixed(ctx context.Context, in *iot.CreateJobInput, out *iot.DescribeJobOutput, s *Step) error {
	job := out.Job
	probe := &Step{}
	if in.Document != nil {
		is, err := p.control.GetJobDocument(ctx, &iot.GetJobDocumentInput{JobId: in.JobId})
		if err != nil {
			return err
		}
		if !sameJSON(*in.Document, aws.ToString(is.Document)) {
			probe.differs("document", *in.Document, aws.ToString(is.Document))
		}
	}
	probe.differs("documentSource", in.DocumentSource, out.DocumentSource)
	probe.differs("targetSelection", in.TargetSelection, job.TargetSelection)
	probe.differs("schedulingConfig", in.SchedulingConfig, job.SchedulingConfig)
	probe.differs("namespaceId", in.NamespaceId, job.NamespaceId)
	probe.differs("jobTemplateArn", in.JobTemplateArn, job.JobTemplateArn)
	probe.differs("documentParameters", in.DocumentParameters, job.DocumentParameters)
	probe.differs("destinationPackageVersions", in.DestinationPackageVersions, job.DestinationPackageVersions)
	for _, d := range probe.Details {
		p.wrong("job %s: %s: that cannot be changed once a job is made; give it another jobId", *in.JobId, d)
	}
	return nil
}

// settings plans what UpdateJob can change.
func (p *planner) settings(in *iot.CreateJobInput, job *types.Job, s *Step) {
	up := &iot.UpdateJobInput{JobId: in.JobId, NamespaceId: in.NamespaceId}
	if s.differs("description", in.Description, job.Description) {
		up.Description = in.Description
	}
	if s.differs("presignedUrlConfig", in.PresignedUrlConfig, job.PresignedUrlConfig) {
		up.PresignedUrlConfig = in.PresignedUrlConfig
	}
	if s.differs("jobExecutionsRolloutConfig", in.JobExecutionsRolloutConfig, job.JobExecutionsRolloutConfig) {
		up.JobExecutionsRolloutConfig = in.JobExecutionsRolloutConfig
	}
	if s.differs("abortConfig", in.AbortConfig, job.AbortConfig) {
		up.AbortConfig = in.AbortConfig
	}
	if s.differs("timeoutConfig", in.TimeoutConfig, job.TimeoutConfig) {
		up.TimeoutConfig = in.TimeoutConfig
	}
	if s.differs("jobExecutionsRetryConfig", in.JobExecutionsRetryConfig, job.JobExecutionsRetryConfig) {
		up.JobExecutionsRetryConfig = in.JobExecutionsRetryConfig
	}
	if len(s.Details) == 0 {
		return
	}
	if job.Status != types.JobStatusInProgress && job.Status != types.JobStatusScheduled {
		p.wrong("job %s is %s and cannot be changed: %s", *in.JobId, job.Status, strings.Join(s.Details, "; "))
		return
	}
	s.do = append(s.do, func(ctx context.Context) error { _, err := p.control.UpdateJob(ctx, up); return err })
}

// aim plans targets that come to a continuous job.
func (p *planner) aim(in *iot.CreateJobInput, job *types.Job, targets []string, s *Step) {
	var more []string
	for _, arn := range targets {
		if !slices.Contains(job.Targets, arn) {
			more = append(more, arn)
		}
	}
	for _, arn := range job.Targets {
		if len(targets) == len(in.Targets) && !slices.Contains(targets, arn) {
			p.wrong("job %s: the target %s cannot be taken from it; give it another jobId", *in.JobId, arn)
		}
	}
	if len(more) == 0 {
		return
	}
	if job.TargetSelection != types.TargetSelectionContinuous || job.Status != types.JobStatusInProgress && job.Status != types.JobStatusScheduled {
		p.wrong("job %s: targets come only to a job that is CONTINUOUS and not over: %s", *in.JobId, strings.Join(more, ", "))
		return
	}
	for _, arn := range more {
		if strings.Contains(arn, ":thing/") {
			p.wrong("job %s: %s cannot come to it: only groups can, once a job is made", *in.JobId, arn)
		}
		s.detail("+ target %s", arn)
	}
	s.do = append(s.do, func(ctx context.Context) (err error) {
		arns := slices.Clone(more)
		for i := range arns {
			if arns[i], err = p.target(ctx, arns[i]); err != nil {
				return err
			}
		}
		_, err = p.control.AssociateTargetsWithJob(ctx, &iot.AssociateTargetsWithJobInput{JobId: in.JobId, Targets: arns})
		return err
	})
}

// settingTags begin the names of tags that are settings, read when a job is made.
const settingTags = "muster:"

// tags plans tags that are new or have another value.
func (p *planner) tags(ctx context.Context, in *iot.CreateJobInput, job *types.Job, s *Step) error {
	if len(in.Tags) == 0 {
		return nil
	}
	have := map[string]string{}
	list := &iot.ListTagsForResourceInput{ResourceArn: job.JobArn}
	for more := true; more; more = list.NextToken != nil {
		page, err := p.control.ListTagsForResource(ctx, list)
		if err != nil {
			return err
		}
		list.NextToken = page.NextToken
		for _, t := range page.Tags {
			have[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	}
	var set []types.Tag
	for _, t := range in.Tags {
		key, value := aws.ToString(t.Key), aws.ToString(t.Value)
		is, there := have[key]
		switch {
		case there && is == value:
		case strings.HasPrefix(strings.ToLower(key), settingTags):
			p.wrong("job %s: the tag %s is read when a job is made; give it another jobId", *in.JobId, key)
		default:
			s.detail("tag %s: %q -> %q", key, is, value)
			set = append(set, t)
		}
	}
	if len(set) > 0 {
		s.do = append(s.do, func(ctx context.Context) error {
			_, err := p.control.TagResource(ctx, &iot.TagResourceInput{ResourceArn: job.JobArn, Tags: set})
			return err
		})
	}
	return nil
}
