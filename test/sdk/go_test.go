package sdk_test

//lint:file-ignore SA1019 many programs still use version 1 of the SDK, and it has to work

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	awsv1 "github.com/aws/aws-sdk-go/aws"
	credentialsv1 "github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/iotjobsdataplane"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/test/process"
)

// TestGo drives one server through the AWS SDKs for Go: version 2 for the control plane, version 1 for the data plane.
// The journeys share the server and keep apart by the names they use.
func TestGo(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, url string) {
		for _, journey := range []struct {
			name string
			walk func(*testing.T, sdk)
		}{
			{"endpoint", goEndpoint},
			{"things", goThings},
			{"groups", goGroups},
			{"paging over a thousand things", goPaging},
			{"work a queue", goQueue},
			{"version mismatch", goVersionMismatch},
			{"terminal", goTerminal},
			{"refused reports", goRefusedReports},
			{"one next for all", goOneNext},
			{"snapshot group", goSnapshotGroup},
			{"join and leave", goJoinAndLeave},
			{"associate targets", goAssociate},
			{"cancel", goCancel},
			{"force cancel", goForceCancel},
			{"cancel execution", goCancelExecution},
			{"list and update jobs", goListAndUpdate},
			{"delete job", goDeleteJob},
			{"delete execution", goDeleteExecution},
			{"templates", goTemplates},
			{"managed templates", goManagedTemplates},
			{"tags", goTags},
		} {
			t.Run(journey.name, func(t *testing.T) {
				t.Parallel()
				journey.walk(t, newSDK(t, url, admin))
			})
		}
	})
}

// An sdk is a server as users of the Go SDKs see it.
type sdk struct {
	control *iot.Client
	device  *iotjobsdataplane.IoTJobsDataPlane
	last    *answer
}

func newSDK(t *testing.T, url string, k key) sdk {
	t.Helper()
	last := new(answer)
	client := &http.Client{Transport: last, Timeout: process.Patience}
	fromEnv, err := v1Session()
	if err != nil {
		t.Fatal(err)
	}
	return sdk{
		control: iot.New(iot.Options{
			BaseEndpoint: &url,
			Region:       "us-east-1",
			Credentials:  credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""),
			HTTPClient:   client,
			Retryer:      aws.NopRetryer{},
		}),
		device: iotjobsdataplane.New(fromEnv, &awsv1.Config{
			Endpoint:    &url,
			Region:      new("us-east-1"),
			Credentials: credentialsv1.NewStaticCredentials(k.ID, k.Secret, ""),
			HTTPClient:  client,
			MaxRetries:  new(0),
		}),
		last: last,
	}
}

// v1Session reads the environment, which newSDK's settings outdo. Once, because it may rewrite http.DefaultTransport.
var v1Session = sync.OnceValues(func() (*session.Session, error) { return session.NewSession() })

// transport is therefore not the default one; it allows for as many idle connections as a journey has threads.
var transport = &http.Transport{MaxIdleConnsPerHost: 32}

// An answer keeps the last status and body that passed by: executionState is no modelled member of an error,
// so SDKs drop it, yet device makers read it.
type answer struct {
	mu     sync.Mutex
	status int
	body   []byte
}

func (a *answer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.body = resp.StatusCode, body
	return resp, nil
}

// state is what the refusal told of the execution as it is.
func (a *answer) state(t *testing.T) (status string, version int64) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var body struct {
		ExecutionState *struct {
			Status        string
			VersionNumber int64
		}
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.ExecutionState == nil {
		t.Fatalf("want a body with executionState, got %d %s", a.status, a.body)
	}
	return body.ExecutionState.Status, body.ExecutionState.VersionNumber
}

func (a *answer) wantStatus(t *testing.T, status int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status != status {
		t.Errorf("want HTTP %d, got %d %s", status, a.status, a.body)
	}
}

func (a *answer) wantWord(t *testing.T, word string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !bytes.Contains(a.body, []byte(word)) {
		t.Errorf("want %s in %s", word, a.body)
	}
}

// refused requires that err is the SDK's typed error E, as a user's errors.As finds it.
func refused[E error](t *testing.T, err error) E {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Fatalf("want %T, got %v", want, err)
	}
	return want
}

// must returns the answer of a call that has to succeed: must(client.Call(in))(t).
func must[O any](out O, err error) func(*testing.T) O {
	return func(t *testing.T) O {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func same[V comparable](t *testing.T, what string, got, want V) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// val reads a member that may be absent.
func val[V any](p *V) (v V) {
	if p != nil {
		v = *p
	}
	return v
}

// thing creates a thing and returns its ARN.
func (s sdk) thing(t *testing.T, name string) string {
	t.Helper()
	return val(must(s.control.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name}))(t).ThingArn)
}

// group creates a group with members and returns its ARN.
func (s sdk) group(t *testing.T, name string, things ...string) string {
	t.Helper()
	arn := val(must(s.control.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: &name}))(t).ThingGroupArn)
	for _, thing := range things {
		s.join(t, thing, name)
	}
	return arn
}

func (s sdk) join(t *testing.T, thing, group string) {
	t.Helper()
	must(s.control.AddThingToThingGroup(t.Context(), &iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: &group}))(t)
}

func (s sdk) leave(t *testing.T, thing, group string) {
	t.Helper()
	must(s.control.RemoveThingFromThingGroup(t.Context(), &iot.RemoveThingFromThingGroupInput{ThingName: &thing, ThingGroupName: &group}))(t)
}

// document is what jobs here ask for unless they say otherwise.
const document = `{"operation":"update","firmware":{"version":"2.0.1"}}`

// job creates a SNAPSHOT job and returns its ARN.
func (s sdk) job(t *testing.T, id string, targets ...string) string {
	t.Helper()
	return s.create(t, &iot.CreateJobInput{JobId: &id, Targets: targets})
}

func (s sdk) continuous(t *testing.T, id string, targets ...string) string {
	t.Helper()
	return s.create(t, &iot.CreateJobInput{JobId: &id, Targets: targets, TargetSelection: types.TargetSelectionContinuous})
}

func (s sdk) create(t *testing.T, in *iot.CreateJobInput) string {
	t.Helper()
	if in.Document == nil && in.JobTemplateArn == nil {
		in.Document = new(document)
	}
	return val(must(s.control.CreateJob(t.Context(), in))(t).JobArn)
}

func (s sdk) describe(t *testing.T, job string) *types.Job {
	t.Helper()
	j := must(s.control.DescribeJob(t.Context(), &iot.DescribeJobInput{JobId: &job}))(t).Job
	if j == nil || j.JobProcessDetails == nil {
		t.Fatalf("%s: a job without counters: %v", job, j)
	}
	return j
}

// execution is the latest execution as the control plane shows it.
func (s sdk) execution(t *testing.T, thing, job string) *types.JobExecution {
	t.Helper()
	e := s.find(t, thing, job)
	if e == nil {
		t.Fatalf("%s has no execution of %s", thing, job)
	}
	return e
}

// find is the latest execution, or nil while there is none.
func (s sdk) find(t *testing.T, thing, job string) *types.JobExecution {
	t.Helper()
	out, err := s.control.DescribeJobExecution(t.Context(), &iot.DescribeJobExecutionInput{ThingName: &thing, JobId: &job})
	if err != nil {
		refused[*types.ResourceNotFoundException](t, err)
		return nil
	}
	return out.Execution
}

// await waits until the thing's execution of the job has the status.
func (s sdk) await(t *testing.T, thing, job string, status types.JobExecutionStatus) *types.JobExecution {
	t.Helper()
	var e *types.JobExecution
	process.Eventually(t, thing+" "+job+" "+string(status), func() bool {
		e = s.find(t, thing, job)
		return e != nil && e.Status == status
	})
	return e
}

func (s sdk) awaitJob(t *testing.T, job string, status types.JobStatus) *types.Job {
	t.Helper()
	var j *types.Job
	process.Eventually(t, job+" "+string(status), func() bool {
		j = s.describe(t, job)
		return j.Status == status
	})
	return j
}

// awaitGone waits until a deleted job is not found.
func (s sdk) awaitGone(t *testing.T, job string) {
	t.Helper()
	process.Eventually(t, job+" gone", func() bool {
		_, err := s.control.DescribeJob(t.Context(), &iot.DescribeJobInput{JobId: &job})
		if err == nil {
			return false
		}
		refused[*types.ResourceNotFoundException](t, err)
		return true
	})
}

// report sends UpdateJobExecution with no more than a status.
func (s sdk) report(thing, job, status string) error {
	_, err := s.device.UpdateJobExecution(&iotjobsdataplane.UpdateJobExecutionInput{ThingName: &thing, JobId: &job, Status: &status})
	return err
}

// next starts the next job, which has to be there.
func (s sdk) next(t *testing.T, thing string) *iotjobsdataplane.JobExecution {
	t.Helper()
	e := s.startNext(t, thing)
	if e == nil {
		t.Fatalf("%s is offered nothing", thing)
	}
	return e
}

// idle requires that no work is offered.
func (s sdk) idle(t *testing.T, thing string) {
	t.Helper()
	if e := s.startNext(t, thing); e != nil {
		t.Errorf("%s should be idle, but is offered %v", thing, e)
	}
}

func (s sdk) startNext(t *testing.T, thing string) *iotjobsdataplane.JobExecution {
	t.Helper()
	return must(s.device.StartNextPendingJobExecution(&iotjobsdataplane.StartNextPendingJobExecutionInput{ThingName: &thing}))(t).Execution
}

// rows lists a job's executions as "thing status", sorted.
func (s sdk) rows(t *testing.T, job string) []string {
	t.Helper()
	var rows []string
	pages := iot.NewListJobExecutionsForJobPaginator(s.control, &iot.ListJobExecutionsForJobInput{JobId: &job})
	for pages.HasMorePages() {
		for _, e := range must(pages.NextPage(t.Context()))(t).ExecutionSummaries {
			_, thing, _ := strings.Cut(val(e.ThingArn), ":thing/")
			rows = append(rows, thing+" "+string(val(e.JobExecutionSummary).Status))
		}
	}
	slices.Sort(rows)
	return rows
}
