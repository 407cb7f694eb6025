package iot

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"muster/internal/awsapi/wire"
)

// check decodes body as a CreateJob of job j and returns the error's text, or
// the input as it is written again.
func check(body string) string {
	in := CreateJobInput{JobID: "j"}
	if err := in.DecodeJSON([]byte(body)); err != nil {
		return err.Error()
	}
	if err := in.Validate(); err != nil {
		return err.Error()
	}
	return string(in.AppendJSON(nil))
}

func TestCreateJobInput(t *testing.T) {
	const full = `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/pump1"],"document":"{\"a\":\"<é>\"}","description":"roll out",` +
		`"presignedUrlConfig":{"roleArn":"arn:aws:iam::123456789012:role/r","expiresInSec":60},"targetSelection":"CONTINUOUS",` +
		`"jobExecutionsRolloutConfig":{"maximumPerMinute":200,"exponentialRate":{"baseRatePerMinute":10,"incrementFactor":1.5,"rateIncreaseCriteria":{"numberOfSucceededThings":50}}},` +
		`"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":10.5,"minNumberOfExecutedThings":20}]},` +
		`"timeoutConfig":{"inProgressTimeoutInMinutes":60},"tags":[{"Key":"é:k","Value":""}],"documentParameters":{"p":"v"},` +
		`"schedulingConfig":{"startTime":"2026-12-01 03:00","endBehavior":"CANCEL","maintenanceWindows":[{"startTime":"cron(0 2 ? * SUN *)","durationInMinutes":120}]}}`
	violated := func(n, rest string) string {
		return n + " detected: Value " + rest
	}
	for name, c := range map[string]struct{ body, want string }{
		"everything": {full, full},
		"no targets": {`{}`, violated("1 validation error", "null at 'targets' failed to satisfy constraint: Member must not be null")},
		"empty targets": {`{"targets":[]}`, violated("1 validation error",
			"'[]' at 'targets' failed to satisfy constraint: Member must have length greater than or equal to 1")},
		"deep violations": {`{"targets":["t"],"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"STOP","thresholdPercentage":100.5}]}}`, violated("3 validation errors",
			"'STOP' at 'abortConfig.criteriaList.1.member.action' failed to satisfy constraint: Member must satisfy enum value set: [CANCEL]; "+
				"Value '100.5' at 'abortConfig.criteriaList.1.member.thresholdPercentage' failed to satisfy constraint: Member must have value less than or equal to 100; "+
				"Value null at 'abortConfig.criteriaList.1.member.minNumberOfExecutedThings' failed to satisfy constraint: Member must not be null")},
		"window": {`{"targets":["t"],"schedulingConfig":{"maintenanceWindows":[{"durationInMinutes":1431}]}}`, violated("2 validation errors",
			"null at 'schedulingConfig.maintenanceWindows.1.member.startTime' failed to satisfy constraint: Member must not be null; "+
				"Value '1431' at 'schedulingConfig.maintenanceWindows.1.member.durationInMinutes' failed to satisfy constraint: Member must have value less than or equal to 1430")},
		"too many criteria": {`{"targets":["t"],"jobExecutionsRetryConfig":{"criteriaList":[` + strings.Repeat(`{"failureType":"ALL","numberOfRetries":0},`, 2) + `{"failureType":"ALL","numberOfRetries":0}]}}`, violated("1 validation error",
			"'[RetryCriteria, RetryCriteria, RetryCriteria]' at 'jobExecutionsRetryConfig.criteriaList' failed to satisfy constraint: Member must have length less than or equal to 2")},
		"tag key": {`{"targets":["t"],"tags":[{"Key":"a*"}]}`, violated("1 validation error",
			`'a*' at 'tags.1.member.Key' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`)},
		"long document": {`{"targets":["t"],"document":"` + strings.Repeat("é", 32769) + `"}`, violated("1 validation error",
			"'"+strings.Repeat("é", 256)+"...' at 'document' failed to satisfy constraint: Member must have length less than or equal to 32768")},
		"document of 32768 characters": {`{"targets":["t"],"document":"` + strings.Repeat("é", 32768) + `"}`, `{"targets":["t"],"document":"` + strings.Repeat("é", 32768) + `"}`},
		"parameters are strings":       {`{"targets":["t"],"documentParameters":{"p":5}}`, "Value '5' at 'documentParameters.p' must be a string"},
		"document is a string":         {`{"targets":["t"],"document":{}}`, "Value 'an object' at 'document' must be a string"},
		"package version": {`{"targets":["t"],"destinationPackageVersions":["arn:aws:x y"]}`, violated("1 validation error",
			"'arn:aws:x y' at 'destinationPackageVersions.1.member' failed to satisfy constraint: Member must satisfy regular expression pattern: ^arn:[!-~]+$")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := check(c.body); got != c.want {
				t.Errorf("\n got %.600s\nwant %.600s", got, c.want)
			}
		})
	}
}

func TestBind(t *testing.T) {
	bind := func(in wire.Input, labels, queries map[string]string) error {
		return in.Bind(
			func(name string) string { return labels[name] },
			func(name string) (string, bool) { v, ok := queries[name]; return v, ok },
			func(string) string { return "" })
	}
	var list ListJobsInput
	if err := bind(&list, nil, map[string]string{"status": "IN_PROGRESS", "maxResults": "251", "thingGroupName": ""}); err != nil {
		t.Fatal(err)
	}
	want := "3 validation errors detected: Value '251' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 250; " +
		"Value '' at 'thingGroupName' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
		"Value '' at 'thingGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+"
	if err := list.Validate(); err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	var del DeleteJobExecutionInput
	if err := bind(&del, map[string]string{"jobId": "j", "thingName": "t", "executionNumber": "7"}, map[string]string{"force": "true"}); err != nil {
		t.Fatal(err)
	}
	if del.JobID != "j" || del.ThingName != "t" || del.ExecutionNumber != 7 || !*del.Force || del.NamespaceID != nil || del.Validate() != nil {
		t.Errorf("got %+v", del)
	}
	for _, c := range []struct{ number, force, want string }{
		{"seven", "true", "Value 'seven' at 'executionNumber' must be an integer"},
		{"7", "yes", "Value 'yes' at 'force' must be true or false"},
	} {
		err := bind(&del, map[string]string{"executionNumber": c.number}, map[string]string{"force": c.force})
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	version := "1.0x"
	managed := DescribeManagedJobTemplateInput{TemplateName: "AWS-Reboot", TemplateVersion: &version}
	if managed.Validate() == nil {
		t.Error("a pattern matched a part of the value")
	}
}

func TestOutput(t *testing.T) {
	at := time.UnixMilli(1753000000123)
	for _, c := range []struct {
		out  wire.Output
		want string
	}{
		{&DeleteJobOutput{}, `{}`},
		{&ListJobsOutput{}, `{}`},
		{&ListJobsOutput{Jobs: []JobSummary{}}, `{"jobs":[]}`},
		{&ListThingsInThingGroupOutput{Things: []string{"a", "b"}}, `{"things":["a","b"]}`},
		{&DescribeJobExecutionOutput{Execution: &JobExecution{StatusDetails: &JobExecutionStatusDetails{DetailsMap: wire.Map{}}, QueuedAt: &at}},
			`{"execution":{"statusDetails":{"detailsMap":{}},"queuedAt":1753000000.123}}`},
		{&DescribeJobOutput{Job: &Job{PresignedURLConfig: &PresignedUrlConfig{}, IsConcurrent: wire.Ptr(false), JobProcessDetails: &JobProcessDetails{NumberOfQueuedThings: wire.Ptr[int64](1)}}},
			`{"job":{"presignedUrlConfig":{},"jobProcessDetails":{"numberOfQueuedThings":1},"isConcurrent":false}}`},
	} {
		got := string(c.out.AppendJSON(nil))
		if got != c.want {
			t.Errorf("\n got %s\nwant %s", got, c.want)
		}
		if err := c.out.DecodeJSON([]byte(got)); err != nil || string(c.out.AppendJSON(nil)) != c.want {
			t.Errorf("%s came back as %s, error %v", got, c.out.AppendJSON(nil), err)
		}
	}
}

func TestOperations(t *testing.T) {
	seen := map[string]bool{}
	built := 0
	for _, op := range Operations {
		if key := op.Method + " " + op.Path; seen[key] || op.Plane != wire.Control {
			t.Errorf("%s: %s is there twice", op.Name, key)
		} else {
			seen[key] = true
		}
		if op.Built {
			built++
		}
	}
	if len(Operations) != 102 || built != 46 {
		t.Errorf("%d operations, %d built", len(Operations), built)
	}
}

// bodies returns a fresh value of every type that reads a body.
func bodies() []wire.Output {
	type body = wire.Output
	return []body{
		new(CreateJobInput), new(UpdateJobInput), new(CancelJobInput), new(AssociateTargetsWithJobInput), new(CancelJobExecutionInput),
		new(CreateJobTemplateInput), new(TagResourceInput), new(UntagResourceInput), new(CreateThingInput), new(UpdateThingInput),
		new(CreateThingTypeInput), new(UpdateThingTypeInput), new(DeprecateThingTypeInput), new(CreateThingGroupInput),
		new(UpdateThingGroupInput), new(AddThingToThingGroupInput), new(RemoveThingFromThingGroupInput), new(UpdateThingGroupsForThingInput),
		new(DescribeJobOutput), new(ListJobsOutput), new(GetJobDocumentOutput), new(ListJobExecutionsForJobOutput), new(ListJobExecutionsForThingOutput),
		new(DescribeJobExecutionOutput), new(DescribeJobTemplateOutput), new(ListJobTemplatesOutput), new(DescribeManagedJobTemplateOutput),
		new(ListManagedJobTemplatesOutput), new(ListTagsForResourceOutput), new(DescribeEndpointOutput), new(DescribeThingOutput),
		new(ListThingsOutput), new(DescribeThingTypeOutput), new(ListThingTypesOutput), new(DescribeThingGroupOutput),
		new(ListThingGroupsOutput), new(ListThingsInThingGroupOutput), new(ListThingGroupsForThingOutput),
	}
}

// FuzzDecodeIot: whatever is accepted can be written, read again and checked.
func FuzzDecodeIot(f *testing.F) {
	for _, s := range []string{
		`{"targets":["a"],"tags":[{"Key":"k"}],"abortConfig":{"criteriaList":[{"thresholdPercentage":1e-9}]},"schedulingConfig":{"maintenanceWindows":[{}]}}`,
		`{"attributePayload":{"attributes":{"a":"b"},"merge":true},"expectedVersion":"1","statusDetails":{"a":1}}`,
		`{"job":{"createdAt":1486687079.743,"documentParameters":{},"scheduledJobRollouts":[]},"jobs":[{"createdAt":-1.5}]}`,
		`{"thingGroupProperties":{"thingGroupDescription":"x"},"thingTypeProperties":{"mqtt5Configuration":{"propagatingAttributes":[{}]}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again := bodies()
		for i, x := range bodies() {
			err := x.DecodeJSON(data)
			if in, ok := x.(wire.Input); ok {
				if bad := in.Validate(); bad != nil && bad.Error() == "" {
					t.Fatal("a violation without text")
				}
			}
			if err != nil {
				continue
			}
			b := x.AppendJSON(nil)
			if !json.Valid(b) {
				t.Fatalf("%T wrote %q", x, b)
			}
			if err := again[i].DecodeJSON(b); err != nil || string(again[i].AppendJSON(nil)) != string(b) {
				t.Fatalf("%T: %q came back as %q, error %v", x, b, again[i].AppendJSON(nil), err)
			}
		}
	})
}

func BenchmarkCreateJobDecode(b *testing.B) {
	data := []byte(`{"targets":["arn:aws:iot:us-east-1:123456789012:thing/pump1"],"document":"` + strings.Repeat(`{\"a\":1}`, 500) + `","tags":[{"Key":"k","Value":"v"}]}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var in CreateJobInput
		if err := in.DecodeJSON(data); err != nil {
			b.Fatal(err)
		}
	}
}
