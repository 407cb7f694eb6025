// Package operate is what an operator's commands do with any service that speaks AWS IoT Jobs, through the AWS SDK: follow a
// job, and make what a file says.
package operate

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Statuses are those of executions, in the order in which people read them.
var Statuses = []string{"QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"}

// Progress is how far a job is.
type Progress struct {
	JobID      string           `json:"jobId"`
	Status     string           `json:"status"`
	Executions map[string]int64 `json:"executions"` // by status, attempts included; all eight
	Reason     string           `json:"reasonCode,omitempty"`
	Comment    string           `json:"comment,omitempty"`
	CreatedAt  time.Time        `json:"createdAt"`
	EndedAt    *time.Time       `json:"completedAt,omitempty"`

	retries bool // the job may have several attempts of a thing
}

// Look asks for the progress of a job.
func Look(ctx context.Context, control *iot.Client, id string) (*Progress, error) {
	out, err := control.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &id})
	if err != nil {
		return nil, err
	}
	job := out.Job
	p := &Progress{JobID: id, Status: string(job.Status), Executions: map[string]int64{}, Reason: aws.ToString(job.ReasonCode),
		Comment: aws.ToString(job.Comment), CreatedAt: aws.ToTime(job.CreatedAt), EndedAt: job.CompletedAt, retries: job.JobExecutionsRetryConfig != nil}
	d := job.JobProcessDetails
	if d == nil {
		d = new(types.JobProcessDetails)
	}
	for i, n := range []*int32{d.NumberOfQueuedThings, d.NumberOfInProgressThings, d.NumberOfSucceededThings, d.NumberOfFailedThings,
		d.NumberOfTimedOutThings, d.NumberOfRejectedThings, d.NumberOfRemovedThings, d.NumberOfCanceledThings} {
		p.Executions[Statuses[i]] = int64(aws.ToInt32(n))
	}
	return p, nil
}

// Over says whether the job has ended, or is being deleted. Of a cancelled job executions may go on.
func (p *Progress) Over() bool {
	switch types.JobStatus(p.Status) {
	case types.JobStatusCompleted, types.JobStatusCanceled, types.JobStatusDeletionInProgress:
		return true
	}
	return false
}

// Total is how many executions there are.
func (p *Progress) Total() (n int64) {
	for _, s := range Statuses {
		n += p.Executions[s]
	}
	return n
}

// Ended is how many executions are over.
func (p *Progress) Ended() int64 {
	return p.Total() - p.Executions["QUEUED"] - p.Executions["IN_PROGRESS"]
}

// Bad is how many executions devices have failed, or not ended in time.
func (p *Progress) Bad() int64 {
	return p.Executions["FAILED"] + p.Executions["TIMED_OUT"] + p.Executions["REJECTED"]
}

// A Rate is how fast something grows, over the last seconds.
type Rate struct {
	at []time.Time
	n  []int64
}

// rateWindow is how far back a rate looks.
const rateWindow = 5 * time.Second

// Add notes how much there is at a moment and returns the growth per second.
func (r *Rate) Add(n int64, at time.Time) float64 {
	r.at, r.n = append(r.at, at), append(r.n, n)
	for len(r.at) > 2 && at.Sub(r.at[1]) >= rateWindow {
		r.at, r.n = r.at[1:], r.n[1:]
	}
	if span := at.Sub(r.at[0]); span > 0 {
		return float64(n-r.n[0]) / span.Seconds()
	}
	return 0
}

// Failures are the things of a job by their latest attempt, as far as one asks about failing.
type Failures struct {
	Things int64 `json:"things"` // that have an execution
	Failed int64 `json:"failed"` // of those, that failed, timed out or rejected in their latest attempt
}

// Percent is the share of things that failed.
func (f Failures) Percent() float64 {
	if f.Things == 0 {
		return 0
	}
	return 100 * float64(f.Failed) / float64(f.Things)
}

// CountFailures counts things, not executions: a thing that failed and succeeded in a retry has not failed. Without retries
// the counters say it; with them everything that failed is listed, and the latest attempt of each such thing looked at.
func CountFailures(ctx context.Context, control *iot.Client, p *Progress) (Failures, error) {
	all := Failures{Things: p.Total(), Failed: p.Bad()}
	if !p.retries || all.Failed == 0 {
		return all, nil
	}
	// The attempts that failed on each thing.
	failed := map[string]int64{}
	for _, status := range []types.JobExecutionStatus{types.JobExecutionStatusFailed, types.JobExecutionStatusTimedOut} {
		in := &iot.ListJobExecutionsForJobInput{JobId: &p.JobID, Status: status, MaxResults: aws.Int32(250)}
		for more := true; more; more = in.NextToken != nil {
			page, err := control.ListJobExecutionsForJob(ctx, in)
			if err != nil {
				return all, fmt.Errorf("what failed cannot be listed: %w", err)
			}
			in.NextToken = page.NextToken
			for _, x := range page.ExecutionSummaries {
				failed[aws.ToString(x.ThingArn)]++
			}
		}
	}
	all = Failures{Things: p.Total(), Failed: p.Executions["REJECTED"]}
	for arn, n := range failed {
		name := nameOf(arn)
		out, err := control.DescribeJobExecution(ctx, &iot.DescribeJobExecutionInput{JobId: &p.JobID, ThingName: &name})
		if err != nil {
			return all, fmt.Errorf("the latest attempt on %s cannot be looked at: %w", name, err)
		}
		switch out.Execution.Status {
		case types.JobExecutionStatusFailed, types.JobExecutionStatusTimedOut:
			all.Failed++
			all.Things -= n - 1
		default:
			all.Things -= n
		}
	}
	return all, nil
}
