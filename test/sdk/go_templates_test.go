package sdk_test

//lint:file-ignore SA1019 many programs still use version 1 of the SDK, and it has to work

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/service/iotjobsdataplane"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"muster/test/process"
)

func goTemplates(t *testing.T, s sdk) {
	ctx, id := t.Context(), "template"
	thing := s.thing(t, "template-a")
	arn := val(must(s.control.CreateJobTemplate(ctx, &iot.CreateJobTemplateInput{JobTemplateId: &id, Description: new("our update"), Document: new(document),
		TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: new(int64(60))}}))(t).JobTemplateArn)
	same(t, "arn", arn, "arn:aws:iot:us-east-1:123456789012:jobtemplate/template")
	_, err := s.control.CreateJobTemplate(ctx, &iot.CreateJobTemplateInput{JobTemplateId: &id, Description: new("again"), Document: new(document)})
	refused[*types.ConflictException](t, err)

	s.create(t, &iot.CreateJobInput{JobId: new("template-job"), Targets: []string{thing}, JobTemplateArn: &arn})
	s.await(t, "template-a", "template-job", types.JobExecutionStatusQueued)
	e := s.next(t, "template-a")
	same(t, "document from the template", val(e.JobDocument), document)
	if left := val(e.ApproximateSecondsBeforeTimedOut); left < 3500 || left > 3600 {
		t.Errorf("the template's timeout of an hour shows %d s", left)
	}
	same(t, "template of the job", val(s.describe(t, "template-job").JobTemplateArn), arn)

	// And back: a template made of a job.
	must(s.control.CreateJobTemplate(ctx, &iot.CreateJobTemplateInput{JobTemplateId: new("template-of-job"), Description: new("copied"),
		JobArn: s.describe(t, "template-job").JobArn}))(t)
	copied := must(s.control.DescribeJobTemplate(ctx, &iot.DescribeJobTemplateInput{JobTemplateId: new("template-of-job")}))(t)
	same(t, "copied document", val(copied.Document), document)
	same(t, "copied timeout", val(val(copied.TimeoutConfig).InProgressTimeoutInMinutes), 60)

	var ids []string
	pages := iot.NewListJobTemplatesPaginator(s.control, &iot.ListJobTemplatesInput{MaxResults: new(int32(1))})
	for pages.HasMorePages() {
		for _, j := range must(pages.NextPage(ctx))(t).JobTemplates {
			ids = append(ids, val(j.JobTemplateId))
		}
	}
	if !slices.Contains(ids, id) || !slices.Contains(ids, "template-of-job") {
		t.Errorf("templates listed: %v", ids)
	}
	must(s.control.DeleteJobTemplate(ctx, &iot.DeleteJobTemplateInput{JobTemplateId: &id}))(t)
	_, err = s.control.DescribeJobTemplate(ctx, &iot.DescribeJobTemplateInput{JobTemplateId: &id})
	refused[*types.ResourceNotFoundException](t, err)
}

func goManagedTemplates(t *testing.T, s sdk) {
	ctx := t.Context()
	var names []string
	pages := iot.NewListManagedJobTemplatesPaginator(s.control, &iot.ListManagedJobTemplatesInput{})
	for pages.HasMorePages() {
		for _, m := range must(pages.NextPage(ctx))(t).ManagedJobTemplates {
			names = append(names, val(m.TemplateName))
		}
	}
	for _, name := range []string{"AWS-Reboot", "AWS-Download-File", "AWS-Install-Application", "AWS-Run-Command"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %v", name, names)
		}
	}
	run := must(s.control.DescribeManagedJobTemplate(ctx, &iot.DescribeManagedJobTemplateInput{TemplateName: new("AWS-Run-Command")}))(t)
	same(t, "arn", val(run.TemplateArn), "arn:aws:iot:us-east-1::jobtemplate/AWS-Run-Command:1.0")
	if !slices.ContainsFunc(run.DocumentParameters, func(p types.DocumentParameter) bool { return val(p.Key) == "command" && !p.Optional }) {
		t.Errorf("want a required parameter command, got %v", run.DocumentParameters)
	}
	_, err := s.control.DescribeManagedJobTemplate(ctx, &iot.DescribeManagedJobTemplateInput{TemplateName: new("AWS-No-Such")})
	refused[*types.ResourceNotFoundException](t, err)

	thing := s.thing(t, "managed-a")
	_, err = s.control.CreateJob(ctx, &iot.CreateJobInput{JobId: new("managed"), Targets: []string{thing}, JobTemplateArn: run.TemplateArn})
	refused[*types.InvalidRequestException](t, err) // what command?
	s.create(t, &iot.CreateJobInput{JobId: new("managed"), Targets: []string{thing}, JobTemplateArn: run.TemplateArn,
		DocumentParameters: map[string]string{"command": "echo,hello"}})
	text := val(must(s.control.GetJobDocument(ctx, &iot.GetJobDocumentInput{JobId: new("managed")}))(t).Document)
	if !strings.Contains(text, "echo,hello") || strings.Contains(text, "${aws:iot:parameter") {
		t.Errorf("document: got %s", text)
	}
	same(t, "parameter of the job", s.describe(t, "managed").DocumentParameters["command"], "echo,hello")
}

// TestGoKeys: what the server's credentials file allows, and what it does not.
func TestGoKeys(t *testing.T) {
	t.Parallel()
	url := process.Start(t, signed(t)...)
	owner := newSDK(t, url, admin)
	arn := owner.thing(t, "keys-a")
	name := new("keys-a")

	create := func(k key) error {
		_, err := newSDK(t, url, k).control.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("keys-b")})
		return err
	}
	code := func(err error) string {
		if err == nil {
			return ""
		}
		return refused[smithy.APIError](t, err).ErrorCode()
	}
	pending := func(k key) string {
		_, err := newSDK(t, url, k).device.GetPendingJobExecutions(&iotjobsdataplane.GetPendingJobExecutionsInput{ThingName: name})
		if err == nil {
			return ""
		}
		return refused[awserr.RequestFailure](t, err).Code()
	}
	same(t, "unknown key", code(create(stranger)), "UnrecognizedClientException")
	if got := code(create(impostor)); got != "InvalidSignatureException" && got != "SignatureDoesNotMatch" {
		t.Errorf("wrong secret: got %q", got)
	}
	same(t, "device on the control plane", code(create(device)), "AccessDeniedException")
	same(t, "device on the data plane", pending(device), "")
	same(t, "stranger on the data plane", pending(stranger), "UnrecognizedClientException")
	same(t, "reader that writes", code(create(reader)), "AccessDeniedException")
	same(t, "reader that reads", val(must(newSDK(t, url, reader).control.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: name}))(t).ThingArn), arn)
}

// TestGoCrash: what was acknowledged before kill -9 is there after it, and the work goes on.
func TestGoCrash(t *testing.T) {
	t.Parallel()
	store := "pebble:" + filepath.Join(t.TempDir(), "data")
	first := process.Launch(t, "--store", store)
	before := newSDK(t, first.URL, admin)
	before.thing(t, "crash-a")
	before.continuous(t, "crash", before.group(t, "crash-group", "crash-a"))
	before.await(t, "crash-a", "crash", types.JobExecutionStatusQueued)
	before.next(t, "crash-a")
	before.thing(t, "crash-b")
	before.join(t, "crash-b", "crash-group")
	first.Kill()

	after := newSDK(t, process.Start(t, "--store", store), admin)
	after.await(t, "crash-b", "crash", types.JobExecutionStatusQueued)
	e := after.execution(t, "crash-a", "crash")
	same(t, "status", e.Status, types.JobExecutionStatusInProgress)
	same(t, "version", e.VersionNumber, 2)
	if err := after.report("crash-a", "crash", "SUCCEEDED"); err != nil {
		t.Fatal(err)
	}
	counts := after.describe(t, "crash").JobProcessDetails
	same(t, "succeeded", val(counts.NumberOfSucceededThings), 1)
	same(t, "queued", val(counts.NumberOfQueuedThings), 1)
}
