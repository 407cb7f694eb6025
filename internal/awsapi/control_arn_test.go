package awsapi

import (
	"testing"

	"muster"
)

// The ARNs of a region's partition, with and without an account.
func TestControlARNs(t *testing.T) {
	managed, _ := muster.ManagedTemplateNamed("AWS-Reboot", "")
	for region, want := range map[string][2]string{
		"eu-west-1":     {"arn:aws:iot:eu-west-1:000000000001:job/fw", "arn:aws:iot:eu-west-1::jobtemplate/AWS-Reboot:1.0"},
		"cn-north-1":    {"arn:aws-cn:iot:cn-north-1:000000000001:job/fw", "arn:aws-cn:iot:cn-north-1::jobtemplate/AWS-Reboot:1.0"},
		"us-gov-west-1": {"arn:aws-us-gov:iot:us-gov-west-1:000000000001:job/fw", "arn:aws-us-gov:iot:us-gov-west-1::jobtemplate/AWS-Reboot:1.0"},
	} {
		c := &call{API: New(nil, Config{Account: "000000000001", Region: region}), region: region}
		if got := [2]string{*c.jobARN("fw"), *c.managedARN(managed)}; got != want {
			t.Errorf("%s: %v; want %v", region, got, want)
		}
		for _, arn := range want {
			ref, err := c.parseARN("arn", arn)
			if err != nil || ref.Kind != muster.RefJob && ref.Kind != muster.RefTemplate {
				t.Errorf("%s reads as %v, %v", arn, ref, err)
			}
		}
	}
}

// jobTemplateArn says whose template it is by its account.
func TestControlTemplateOf(t *testing.T) {
	c := &call{API: New(nil, Config{}), region: "us-east-1"}
	for arn, want := range map[string]struct {
		template               muster.TemplateID
		name, version, refused string
	}{
		"arn:aws:iot:us-east-1:123456789012:jobtemplate/t":  {template: "t"},
		"arn:aws:iot:us-east-1::jobtemplate/AWS-Reboot:1.0": {name: "AWS-Reboot", version: "1.0"},
		"arn:aws:iot:us-east-1::jobtemplate/AWS-Reboot":     {name: "AWS-Reboot"},
		"arn:aws:iot:us-east-1:123456789012:thing/t":        {refused: "jobTemplateArn is arn:aws:iot:us-east-1:123456789012:thing/t, which is not a job template"},
		"arn:aws:iot:us-east-1:999999999999:jobtemplate/t":  {refused: "jobTemplateArn is arn:aws:iot:us-east-1:999999999999:jobtemplate/t, which is in account 999999999999; this is 123456789012"},
	} {
		template, managed, err := c.templateOf(arn)
		switch {
		case want.refused != "":
			if err == nil || err.Error() != want.refused {
				t.Errorf("%s: %v; want %s", arn, err, want.refused)
			}
		case err != nil || template != want.template || (managed != nil) != (want.name != ""):
			t.Errorf("%s: %q, %v, %v", arn, template, managed, err)
		case managed != nil && (managed.Name != want.name || managed.Version != want.version):
			t.Errorf("%s: %v", arn, managed)
		}
	}
}

// Rows of executions: retryAttempt from the first retry on, startedAt once started.
func TestControlExecutionRows(t *testing.T) {
	e := muster.NewExecution("fw", "lamp", 1, 0, 1, 1000)
	if row := executionSummary(e); row.RetryAttempt != nil || row.StartedAt != nil || row.QueuedAt == nil || *row.ExecutionNumber != 1 {
		t.Errorf("a first attempt: %s", row.AppendJSON(nil))
	}
	e = muster.NewExecution("fw", "lamp", 2, 1, 2, 1000).Start(nil, muster.StepTimer{}, 0, 2500)
	if got, want := string(executionSummary(e).AppendJSON(nil)), `{"status":"IN_PROGRESS","queuedAt":1,"startedAt":2.5,"lastUpdatedAt":2.5,"executionNumber":2,"retryAttempt":1}`; got != want {
		t.Errorf("a first retry is\n%s\nwant\n%s", got, want)
	}
}

// DescribeEndpoint answers what was configured, if anything was.
func TestControlEndpoint(t *testing.T) {
	o := newOperator(t, Config{Endpoint: "jobs.example.com:8443"})
	if status, _, answer := o.ask(o.control, "GET", "/endpoint?endpointType=iot:Data-ATS", ""); status != 200 || answer != `{"endpointAddress":"jobs.example.com:8443"}` {
		t.Errorf("%d %s", status, answer)
	}
}
