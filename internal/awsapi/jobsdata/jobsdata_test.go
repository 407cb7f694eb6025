package jobsdata

import (
	"encoding/json"
	"errors"
	"testing"

	"muster/internal/awsapi/wire"
)

var (
	_ wire.Input  = (*DescribeJobExecutionInput)(nil)
	_ wire.Input  = (*GetPendingJobExecutionsInput)(nil)
	_ wire.Input  = (*StartNextPendingJobExecutionInput)(nil)
	_ wire.Input  = (*UpdateJobExecutionInput)(nil)
	_ wire.Output = (*DescribeJobExecutionOutput)(nil)
	_ wire.Output = (*GetPendingJobExecutionsOutput)(nil)
	_ wire.Output = (*StartNextPendingJobExecutionOutput)(nil)
	_ wire.Output = (*UpdateJobExecutionOutput)(nil)
)

// update is what decoding and checking an update of job j on thing t gives,
// as JSON or as the error's text.
func update(body string) string {
	in := UpdateJobExecutionInput{JobID: "j", ThingName: "t"}
	if err := in.DecodeJSON([]byte(body)); err != nil {
		return err.Error()
	}
	if err := in.Validate(); err != nil {
		return err.Error()
	}
	return string(in.AppendJSON(nil))
}

func TestUpdateJobExecutionInput(t *testing.T) {
	const missing = "1 validation error detected: Value null at 'status' failed to satisfy constraint: Member must not be null"
	for name, c := range map[string]struct{ body, want string }{
		"all members": {`{"status":"IN_PROGRESS","statusDetails":{"step":"a b"},"stepTimeoutInMinutes":-1,"expectedVersion":3,"includeJobExecutionState":true,"includeJobDocument":false,"executionNumber":1}`,
			`{"status":"IN_PROGRESS","statusDetails":{"step":"a b"},"stepTimeoutInMinutes":-1,"expectedVersion":3,"includeJobExecutionState":true,"includeJobDocument":false,"executionNumber":1}`},
		"SUCCESS means SUCCEEDED":    {`{"status":"SUCCESS"}`, `{"status":"SUCCEEDED"}`},
		"version as a string":        {`{"status":"FAILED","expectedVersion":"2","executionNumber":"1"}`, `{"status":"FAILED","expectedVersion":2,"executionNumber":1}`},
		"numbers as details":         {`{"status":"FAILED","statusDetails":{"p":50,"done":false}}`, `{"status":"FAILED","statusDetails":{"p":"50","done":"false"}}`},
		"empty details are kept":     {`{"status":"FAILED","statusDetails":{}}`, `{"status":"FAILED","statusDetails":{}}`},
		"unknown members":            {`{"status":"FAILED","clientToken":5,"jobId":"other"}`, `{"status":"FAILED"}`},
		"no body":                    {"", missing},
		"null status":                {`{"status":null}`, missing},
		"zero version is not absent": {`{"status":"FAILED","expectedVersion":0}`, `{"status":"FAILED","expectedVersion":0}`},
		"bad status": {`{"status":"x"}`, "1 validation error detected: Value 'x' at 'status' failed to satisfy constraint: " +
			"Member must satisfy enum value set: [QUEUED, IN_PROGRESS, SUCCEEDED, FAILED, TIMED_OUT, REJECTED, REMOVED, CANCELED]"},
		"bad detail": {`{"status":"FAILED","statusDetails":{"k":"a\nb"}}`, "1 validation error detected: Value '{k=a\nb}' at 'statusDetails' failed to satisfy constraint: " +
			`Map value must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [^\p{C}]+]`},
		"null detail":     {`{"status":"FAILED","statusDetails":{"k":null}}`, "Value 'null' at 'statusDetails.k' must be a string"},
		"details a list":  {`{"status":"FAILED","statusDetails":[]}`, "Value 'an array' at 'statusDetails' must be an object"},
		"version is text": {`{"status":"FAILED","expectedVersion":"two"}`, "Value 'two' at 'expectedVersion' must be an integer"},
		"not an object":   {`[]`, "The request body must be a JSON object"},
		"not JSON":        {`{"status":"FAILED"`, "The request body is not valid JSON: unexpected end at byte 18"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := update(c.body); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNamesAreChecked(t *testing.T) {
	for id, want := range map[string]bool{"j": true, "$next": true, "$nextx": false, "a$next": false, "": false, "a b": false, "get": true} {
		in := DescribeJobExecutionInput{JobID: id, ThingName: "t"}
		if got := in.Validate() == nil; got != want {
			t.Errorf("describe %q: got %t", id, got)
		}
	}
	in := UpdateJobExecutionInput{JobID: "$next", ThingName: "a:b", Status: wire.Ptr("FAILED")}
	if in.Validate() == nil {
		t.Error("update accepts $next")
	}
}

func TestMQTT(t *testing.T) {
	var in DescribeJobExecutionInput
	token, err := in.DecodeMQTT([]byte(`{"clientToken":"c","executionNumber":"2","includeJobDocument":"yes","jobId":"x"}`))
	if err == nil || token == nil || *token != "c" || *in.ExecutionNumber != 2 || in.JobID != "" {
		t.Errorf("got %+v, token %v, error %v", in, token, err)
	}
	if token, err := in.DecodeMQTT([]byte(`{"clientToken":5}`)); err == nil || token != nil {
		t.Error("a number was accepted as client token")
	}
	if token, err := in.DecodeMQTT(nil); err != nil || token != nil {
		t.Error("an empty payload was refused")
	}
	out := DescribeJobExecutionOutput{Execution: &JobExecution{JobID: wire.Ptr("j"), ThingName: wire.Ptr("t"), JobDocument: wire.Ptr(`{"a": 1}`)}}
	for _, c := range []struct{ got, want string }{
		{string(out.AppendJSON(nil)), `{"execution":{"jobId":"j","thingName":"t","jobDocument":"{\"a\": 1}"}}`},
		{string(out.AppendMQTT(nil, wire.Ptr("c"), 7)), `{"clientToken":"c","timestamp":7,"execution":{"jobId":"j","jobDocument":{"a": 1}}}`},
		{string((&DescribeJobExecutionOutput{}).AppendMQTT(nil, nil, 7)), `{"timestamp":7}`},
		{string((&GetPendingJobExecutionsOutput{InProgressJobs: []JobExecutionSummary{{JobID: wire.Ptr("j")}}, QueuedJobs: []JobExecutionSummary{}}).AppendJSON(nil)),
			`{"inProgressJobs":[{"jobId":"j"}],"queuedJobs":[]}`},
		{string((&UpdateJobExecutionOutput{}).AppendJSON(nil)), `{}`},
	} {
		if c.got != c.want {
			t.Errorf("\n got %s\nwant %s", c.got, c.want)
		}
	}
}

// FuzzDecodeJobsData: whatever is accepted can be written and read again.
func FuzzDecodeJobsData(f *testing.F) {
	f.Add([]byte(body))
	f.Add([]byte(`{"status":"SUCCESS","statusDetails":{"a":1,"b":true,"a":"\ud800"},"expectedVersion":"2.0"}`))
	f.Add([]byte(`{"execution":{"jobDocument":"{}","statusDetails":{}},"inProgressJobs":[{"jobId":"j"}],"queuedJobs":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in, again UpdateJobExecutionInput
		err := in.DecodeJSON(data)
		_ = in.Validate()
		if err == nil {
			b := in.AppendJSON(nil)
			if !json.Valid(b) {
				t.Fatalf("wrote %q", b)
			}
			if err := again.DecodeJSON(b); err != nil || string(again.AppendJSON(nil)) != string(b) {
				t.Fatalf("%q came back as %q, error %v", b, again.AppendJSON(nil), err)
			}
		}
		var viaMQTT UpdateJobExecutionInput
		_, mqttErr := viaMQTT.DecodeMQTT(data)
		if _, bad := errors.AsType[*wire.SyntaxError](err); bad {
			if _, bad := errors.AsType[*wire.SyntaxError](mqttErr); !bad {
				t.Fatalf("%q: syntax error over HTTP, %v over MQTT", data, mqttErr)
			}
		}
		for _, x := range []interface{ DecodeMQTT([]byte) (*string, error) }{
			new(DescribeJobExecutionInput), new(GetPendingJobExecutionsInput), new(StartNextPendingJobExecutionInput),
		} {
			_, _ = x.DecodeMQTT(data)
		}
		for _, x := range []wire.Output{
			new(DescribeJobExecutionOutput), new(GetPendingJobExecutionsOutput), new(StartNextPendingJobExecutionOutput), new(UpdateJobExecutionOutput),
		} {
			if x.DecodeJSON(data) == nil && !json.Valid(x.AppendJSON(nil)) {
				t.Fatalf("%q written as %q", data, x.AppendJSON(nil))
			}
		}
	})
}

const body = `{"status":"IN_PROGRESS","statusDetails":{"step":"download","progress":"50","firmware":"2.4.1"},"expectedVersion":"3","includeJobExecutionState":true,"clientToken":"5f0c1e9a-77f2-4c7e-9d5e-3a6a1b2c3d4e"}`

func TestDecodeAllocates(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		in := UpdateJobExecutionInput{JobID: "j", ThingName: "t"}
		if _, err := in.DecodeMQTT([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := in.Validate(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 12 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUpdateDecode(b *testing.B) {
	data := []byte(body)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var in UpdateJobExecutionInput
		if _, err := in.DecodeMQTT(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateValidate(b *testing.B) {
	in := UpdateJobExecutionInput{JobID: "fw-42", ThingName: "pump1"}
	if err := in.DecodeJSON([]byte(body)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := in.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDescribeAppend(b *testing.B) {
	out := DescribeJobExecutionOutput{Execution: &JobExecution{
		JobID: wire.Ptr("fw-42"), Status: wire.Ptr("IN_PROGRESS"), StatusDetails: wire.Map{{Key: "step", Value: "download"}},
		QueuedAt: wire.Ptr[int64](1753000000), StartedAt: wire.Ptr[int64](1753000060), LastUpdatedAt: wire.Ptr[int64](1753000100),
		VersionNumber: wire.Ptr[int64](3), ExecutionNumber: wire.Ptr[int64](1), JobDocument: wire.Ptr(`{"operation":"update","url":"https://example.com/fw"}`),
	}}
	token := wire.Ptr("5f0c1e9a-77f2-4c7e-9d5e-3a6a1b2c3d4e")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = out.AppendMQTT(buf[:0], token, 1753000100)
	}
}
