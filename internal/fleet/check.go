package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster"
)

// A Counts is a number of executions by status.
type Counts [muster.NumStatus]int64

// A JobCheck is a job as three see it: the seed, the devices, and the service, which has both counters and a list.
type JobCheck struct {
	Job    string `json:"jobId"`
	Status string `json:"status"` // of the job
	// Seeded is what must come out if every device of the fleet gets the job, Told what the service accepted from devices,
	// Listed what the service lists, Counted its counters.
	Seeded   Counts `json:"seeded"`
	Told     Counts `json:"told"`
	Listed   Counts `json:"listed"`
	Counted  Counts `json:"counted"`
	Things   int    `json:"things"`   // that have executions
	AsSeeded int    `json:"asSeeded"` // of those, that have all that the seed says and no other
	Retries  int    `json:"retries"`  // executions that follow another on the same thing
	// Others are executions on things that are none of the fleet, Earlier those that ended before it came.
	Others  int `json:"others"`
	Earlier int `json:"earlier"`
	// Unsettled are reports of which the answer was lost; the list says what became of them.
	Unsettled int `json:"unsettled"`
	// Wrong says what does not add up; the first of each kind, of WrongThings in all.
	Wrong       []string `json:"wrong,omitempty"`
	WrongThings int      `json:"wrongThings"`

	everything Counts // of the list, others included
}

// Good says whether what devices were told is what the service lists and counts, and, once the job is over, whether
// every thing has what the seed says, but for what was cancelled.
func (c *JobCheck) Good() bool {
	over := c.Status == string(types.JobStatusCompleted) || c.Status == string(types.JobStatusCanceled)
	return c.WrongThings == 0 && (!over || c.AsSeeded == c.Things)
}

// Exact says whether all came out as seeded, on each thing and in sum.
func (c *JobCheck) Exact() bool {
	return c.WrongThings == 0 && c.AsSeeded == c.Things && c.Listed == c.Seeded
}

// String lists what there is any of.
func (c Counts) String() string {
	var parts []string
	for s := muster.Queued; s < muster.NumStatus; s++ {
		if c[s] != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[s], s))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON writes what there is any of, by name.
func (c Counts) MarshalJSON() ([]byte, error) {
	m := map[string]int64{}
	for s := muster.Queued; s < muster.NumStatus; s++ {
		if c[s] != 0 {
			m[s.String()] = c[s]
		}
	}
	return json.Marshal(m)
}

// A row is an execution as the service lists it.
type row struct {
	number  int64
	status  muster.Status
	updated time.Time
}

// Jobs are the jobs that devices have got, in the order in which the first of them did.
func (f *Fleet) Jobs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ids)
}

// listPage is the longest page of executions.
const listPage = 250

// Check holds a job against what the devices of a fleet did and what its seed says. The fleet must have stopped.
//
// It is no method, for the sake of the binary: a type of the client in a method's signature lets the linker keep all of its operations.
func Check(ctx context.Context, f *Fleet, control *iot.Client, id string) (*JobCheck, error) {
	described, err := control.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &id})
	if err != nil {
		return nil, fmt.Errorf("the job %s cannot be looked at: %w", id, err)
	}
	job := described.Job
	c := &JobCheck{Job: id, Status: string(job.Status)}
	if d := job.JobProcessDetails; d != nil {
		c.Counted = counted(d)
	}
	rows, err := list(ctx, control, id)
	if err != nil {
		return nil, err
	}
	rule := retryRule(job)
	hangs := muster.InProgress
	if job.TimeoutConfig != nil && job.TimeoutConfig.InProgressTimeoutInMinutes != nil {
		hangs = muster.TimedOut
	}
	cancelled := job.Status == types.JobStatusCanceled
	index := f.job(id)
	for _, d := range f.devices {
		seeded := f.expect(d.name, &rule, hangs)
		mine := rows[d.name]
		delete(rows, d.name)
		for _, r := range mine {
			c.everything[r.status]++
		}
		if !knows(d, index) && !slices.ContainsFunc(mine, func(r row) bool { return !r.status.Terminal() || !r.updated.Before(f.began) }) {
			c.Earlier += len(mine)
			continue
		}
		c.Things++
		c.Retries += max(0, len(mine)-1)
		for _, s := range seeded {
			c.Seeded[s]++
		}
		for _, r := range mine {
			c.Listed[r.status]++
		}
		if f.compare(c, d, index, mine) && follows(mine, seeded, cancelled) {
			c.AsSeeded++
		}
	}
	for _, theirs := range rows {
		c.Others += len(theirs)
		for _, r := range theirs {
			c.everything[r.status]++
		}
	}
	if c.everything != c.Counted {
		c.complain("the counters of %s are %s; it lists %s", id, c.Counted, c.everything)
	}
	return c, nil
}

func (c *JobCheck) complain(format string, args ...any) {
	if c.WrongThings++; len(c.Wrong) < 10 {
		c.Wrong = append(c.Wrong, fmt.Sprintf(format, args...))
	}
}

func knows(d *device, job uint32) bool {
	return slices.ContainsFunc(d.attempts, func(a attempt) bool { return a.job == job })
}

// compare holds what the service lists for a device against what the device was told.
func (f *Fleet) compare(c *JobCheck, d *device, job uint32, mine []row) (good bool) {
	good = true
	wrong := func(format string, args ...any) {
		good = false
		c.complain(format, args...)
	}
	seen := 0
	for _, a := range d.attempts {
		if a.job != job {
			continue
		}
		i := slices.IndexFunc(mine, func(r row) bool { return r.number == a.number })
		if i < 0 {
			wrong("%s has worked on execution %d, which is not listed", d.name, a.number)
			continue
		}
		seen++
		is := mine[i].status
		byService := is == muster.TimedOut || is == muster.Canceled || is == muster.Removed
		switch a.state {
		case ended:
			c.Told[a.status]++
			if is != a.status {
				wrong("%s was told that execution %d is %s; it is listed as %s", d.name, a.number, a.status, is)
			}
		case flying, unsure:
			c.Unsettled++
			c.Told[is]++
			if is != a.status && !byService && is != muster.InProgress {
				wrong("%s has reported %s for execution %d; it is listed as %s", d.name, a.status, a.number, is)
			}
		default: // it never reported an end
			c.Told[is]++
			if !byService && is != muster.InProgress && is != muster.Queued {
				wrong("%s has reported no end of execution %d; it is listed as %s", d.name, a.number, is)
			}
		}
	}
	for _, r := range mine {
		if slices.ContainsFunc(d.attempts, func(a attempt) bool { return a.job == job && a.number == r.number }) {
			continue
		}
		c.Told[r.status]++ // what no device has touched is the service's word alone
		if r.status != muster.Queued && r.status != muster.Canceled && r.status != muster.TimedOut && r.status != muster.Removed {
			wrong("%s has not touched execution %d; it is listed as %s", d.name, r.number, r.status)
		}
	}
	return good
}

// follows says whether executions are those of the seed. Of a cancelled job any may have been cancelled, and with it what
// would have followed.
func follows(mine []row, seeded []muster.Status, cancelled bool) bool {
	for i, r := range mine {
		switch {
		case cancelled && r.status == muster.Canceled && i == len(mine)-1:
			return true
		case i >= len(seeded) || r.status != seeded[i]:
			return false
		}
	}
	return len(mine) == len(seeded) || cancelled
}

// expect is what becomes of a job on a device: the status of each attempt.
func (f *Fleet) expect(name string, rule *muster.Job, hangs muster.Status) (all []muster.Status) {
	e := muster.NewExecution(rule.ID, muster.ThingName(name), 1, 0, 0, 0)
	for nth := 0; ; nth++ {
		switch f.Plan.Outcome(name, nth) {
		case Fail:
			e.Status = muster.Failed
		case Reject:
			e.Status = muster.Rejected
		case Hang:
			e.Status = hangs
		default:
			e.Status = muster.Succeeded
		}
		all = append(all, e.Status)
		next, again := rule.Retry(e, e.Number+1, 0, 0)
		if !again {
			return all
		}
		e = next
	}
}

// Expected counts what must come out of a job with the given retries, if every device gets it and hanging ones time out.
func (f *Fleet) Expected(retry []muster.RetryCriterion) (c Counts) {
	rule := muster.Job{Status: muster.JobInProgress, Settings: muster.Settings{Retry: retry}}
	for _, d := range f.devices {
		for _, s := range f.expect(d.name, &rule, muster.TimedOut) {
			c[s]++
		}
	}
	return c
}

// retryRule is as much of a job as decides about retries.
func retryRule(job *types.Job) muster.Job {
	rule := muster.Job{ID: muster.JobID(aws.ToString(job.JobId)), Status: muster.JobInProgress}
	if config := job.JobExecutionsRetryConfig; config != nil {
		for _, c := range config.CriteriaList {
			rule.Settings.Retry = append(rule.Settings.Retry, muster.RetryCriterion{FailureType: string(c.FailureType), Retries: int64(aws.ToInt32(c.NumberOfRetries))})
		}
	}
	return rule
}

// list lists all executions of a job by thing, in the order of their numbers.
func list(ctx context.Context, control *iot.Client, id string) (map[string][]row, error) {
	rows := map[string][]row{}
	// Not the SDK's paginator: it takes the client as an interface, and the linker then keeps all of its 270 operations.
	in := &iot.ListJobExecutionsForJobInput{JobId: &id, MaxResults: aws.Int32(listPage)}
	for more := true; more; more = in.NextToken != nil {
		page, err := control.ListJobExecutionsForJob(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("the executions of %s cannot be listed: %w", id, err)
		}
		in.NextToken = page.NextToken
		for _, s := range page.ExecutionSummaries {
			arn := aws.ToString(s.ThingArn)
			name := arn[strings.LastIndexByte(arn, '/')+1:]
			x := s.JobExecutionSummary
			status, ok := muster.ParseStatus(string(x.Status))
			if !ok {
				return nil, fmt.Errorf("an execution of %s has the status %q, which is unknown", id, x.Status)
			}
			rows[name] = append(rows[name], row{aws.ToInt64(x.ExecutionNumber), status, aws.ToTime(x.LastUpdatedAt)})
		}
	}
	for _, r := range rows {
		sort.Slice(r, func(i, j int) bool { return r[i].number < r[j].number })
	}
	return rows, nil
}

func counted(d *types.JobProcessDetails) (c Counts) {
	for s, n := range map[muster.Status]*int32{
		muster.Queued: d.NumberOfQueuedThings, muster.InProgress: d.NumberOfInProgressThings, muster.Succeeded: d.NumberOfSucceededThings,
		muster.Failed: d.NumberOfFailedThings, muster.Rejected: d.NumberOfRejectedThings, muster.TimedOut: d.NumberOfTimedOutThings,
		muster.Removed: d.NumberOfRemovedThings, muster.Canceled: d.NumberOfCanceledThings,
	} {
		c[s] = int64(aws.ToInt32(n))
	}
	return c
}
