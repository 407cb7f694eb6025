package muster

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// JobID is 1..64 of [a-zA-Z0-9_-].
type JobID string

// A JobStatus is the state of a job (state-machine.md §1).
type JobStatus uint8

const (
	NoJobStatus JobStatus = iota
	JobScheduled
	JobInProgress
	JobCompleted
	JobCanceled
	JobDeleting
	numJobStatus
)

var jobStatusNames = [numJobStatus]string{"", "SCHEDULED", "IN_PROGRESS", "COMPLETED", "CANCELED", "DELETION_IN_PROGRESS"}

func (s JobStatus) String() string {
	if s < numJobStatus {
		return jobStatusNames[s]
	}
	return "?"
}

// ParseJobStatus reads a job status as the wire spells it.
func ParseJobStatus(s string) (JobStatus, bool) {
	for i := JobScheduled; i < numJobStatus; i++ {
		if jobStatusNames[i] == s {
			return i, true
		}
	}
	return NoJobStatus, false
}

// Active reports whether the job may still change its executions by itself.
func (s JobStatus) Active() bool { return s == JobScheduled || s == JobInProgress }

// A Selection says whether a job reaches things that join its groups later.
type Selection uint8

const (
	Snapshot Selection = iota
	Continuous
)

func (s Selection) String() string {
	if s == Continuous {
		return "CONTINUOUS"
	}
	return "SNAPSHOT"
}

// A Target is one thing or one thing group with all groups below it.
type Target struct {
	Thing ThingName `json:",omitempty"`
	Group GroupName `json:",omitempty"`
}

// Limits of jobs (events-and-limits.md §2).
const (
	MaxTargets         = 100
	MaxDocumentBytes   = 32768
	MaxActiveJobs      = 100_000 // unless the server is told otherwise
	MaxDeletingJobs    = 10
	MaxPackageVersions = 25
	MaxRetries         = 10
	PendingShown       = 10
	PendingShownWindow = 15 // with jobs that are in their maintenance window
)

// A Job is what the operator asked for and how far it has come. Its document is kept beside it.
type Job struct {
	ID        JobID
	Seq       uint64 // order of creation in the store
	Status    JobStatus
	Selection Selection
	Targets   []Target

	Description   string
	Namespace     string
	ReasonCode    string
	Comment       string
	ForceCanceled bool

	Settings   Settings
	Scheduling *Scheduling

	TemplateARN                string
	Parameters                 Pairs // documentParameters
	DestinationPackageVersions []string
	DocumentSource             string // as given; empty when the document came inline

	Created   Time
	Updated   Time
	Completed Time
	// Ended is when the job was canceled; the executions it takes along are stamped with it, whenever
	// the sweep reaches them.
	Ended Time

	// EndReached is when endTime came, 0 until then.
	EndReached Time

	// Rolling is set while targets are still to be rolled out, Sweeping while executions are still
	// to be canceled or deleted: both make the job concurrent.
	Rolling  bool
	Sweeping bool
	// Showing is set while devices are still to be told that queued executions came into sight or went out of
	// it: the sequence number of the moment. Hidden says that they were out of sight, and every device
	// knew, when the job ended or was canceled or deleted: there is no more to tell of them.
	Showing uint64 `json:",omitempty"`
	Hidden  bool   `json:",omitempty"`
	// Waiting says that the rollout has not begun because too many other jobs are rolling out, Counted that
	// the job is one of those that are counted for that.
	Waiting bool `json:",omitempty"`
	Counted bool `json:",omitempty"`
	// RolledOut is the number of Targets, from the first, that the rollout is done with.
	RolledOut int
	// Paced is when the rate allows the next execution after a rollout that is done: targets may be added.
	Paced Time `json:",omitempty"`

	// What AWS does not have; all empty unless somebody asks for it.
	Extras   *Extras   `json:",omitempty"`
	Progress *Progress `json:",omitempty"` // through the stages, nil until the targets are counted
	Held     *Hold     `json:",omitempty"`
	// Parked is where the rollout goes on, while it waits for something that has no due time.
	Parked string `json:",omitempty"`
	// Shown is when queued executions last came back into sight, 0 if they never were out of it.
	Shown Time `json:",omitempty"`
	// RetryOf is the job whose failed things this one tries again, RetriedBy the jobs that do so for this one.
	RetryOf   *RetryOf `json:",omitempty"`
	RetriedBy []JobID  `json:",omitempty"`
}

// RetryOf names a job whose failed things are tried again.
type RetryOf struct {
	Job JobID
	Seq uint64 // of that job: another one may get its id
	// Chosen says that Targets are the failed things themselves. Otherwise they are the targets of the
	// other job, and of their things only those that failed are reached.
	Chosen bool `json:",omitempty"`
}

// Settings are the configurations that UpdateJob can change and templates keep.
type Settings struct {
	Presign *Presign         `json:",omitempty"`
	Rollout *Rollout         `json:",omitempty"`
	Abort   []AbortCriterion `json:",omitempty"`
	Timeout *Timeout         `json:",omitempty"`
	Retry   []RetryCriterion `json:",omitempty"`
}

// Presign is presignedUrlConfig.
type Presign struct {
	RoleARN   string
	ExpiresIn time.Duration // 0: not given, which means an hour
}

// Timeout is timeoutConfig. InProgress is 0 when the configuration was given empty.
type Timeout struct{ InProgress time.Duration }

// Document is a job document: the text devices get, and the text before parameters were put in.
type Document struct {
	Text   string
	Source string // before substitution; empty when nothing was substituted
}

// Before is the document before parameter substitution.
func (d Document) Before() string {
	if d.Source != "" {
		return d.Source
	}
	return d.Text
}

// CheckDocument says whether text can be a job document: JSON, in UTF-8, of at most 32768 bytes.
func CheckDocument(text string) error {
	switch {
	case len(text) > MaxDocumentBytes:
		return Errorf(Invalid, "The job document has %d bytes; at most %d are allowed", len(text), MaxDocumentBytes)
	case !utf8.ValidString(text):
		return Errorf(Invalid, "The job document is not valid UTF-8")
	case !json.Valid([]byte(text)):
		return Errorf(Invalid, "The job document is not valid JSON")
	case !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{"):
		return Errorf(Invalid, "The job document must be a JSON object")
	}
	return nil
}

// InProgressTimeout is the length of the in-progress timer, 0 for none.
func (j *Job) InProgressTimeout() time.Duration {
	if j.Settings.Timeout == nil {
		return 0
	}
	return j.Settings.Timeout.InProgress
}

// Concurrent is isConcurrent: the job is rolling out or canceling.
func (j *Job) Concurrent() bool { return j.Rolling && !j.Waiting || j.Sweeping }

// Settle returns e as the job's present state leaves it, before the sweep that makes it durable has
// reached it (design §7): gone when the job is being deleted, canceled when the job was.
func (j *Job) Settle(e Execution) (settled Execution, present bool) {
	switch {
	case j.Status == JobDeleting:
		return e, false
	case j.takes(e.Status):
		if j.Status == JobCanceled {
			settled, _ = e.Cancel(j.ForceCanceled, j.Ended)
		} else {
			settled, _ = e.Cancel(j.Scheduling.EndBehavior == EndForce, j.EndReached)
		}
		return settled, true
	}
	return e, true
}

// Taken are the statuses of the executions that the end of the job takes along: those a canceled job
// cancels, or an endTime with a behavior that does.
func (j *Job) Taken() (all []Status) {
	for _, s := range []Status{Queued, InProgress} {
		if j.takes(s) {
			all = append(all, s)
		}
	}
	return all
}

func (j *Job) takes(s Status) bool {
	if s.Terminal() || s == NoStatus {
		return false
	}
	if j.Status == JobCanceled {
		return s == Queued || j.ForceCanceled
	}
	if j.EndReached == 0 || j.Scheduling == nil {
		return false
	}
	return j.Scheduling.EndBehavior == EndForce || j.Scheduling.EndBehavior == EndCancel && s == Queued
}

// Offers reports whether a device is shown the pending e of this job: queued ones only while the job
// is in progress, never those of a job with a namespace (state-machine.md §4).
func (j *Job) Offers(e Execution) bool {
	if j.Namespace != "" {
		return false
	}
	settled, ok := j.Settle(e)
	if !ok || settled.Status.Terminal() {
		return false
	}
	return settled.Status == InProgress || j.Shows()
}

// Shows reports whether queued executions of the job are offered: not before its start, outside its
// window or while it is held.
func (j *Job) Shows() bool {
	return j.Namespace == "" && j.Held == nil && (j.Status == JobInProgress || j.Status == JobCompleted)
}

// Told reports whether a device was told of the pending e of this job, and not yet that it is gone.
func (j *Job) Told(e Execution) bool {
	switch settled, present := j.Settle(e); {
	case j.Namespace != "":
		return false
	case !present || settled.Status.Terminal():
		return !j.Hidden || e.Status != Queued
	case j.Showing != 0 && e.Status == Queued && e.Seq <= j.Showing:
		return !j.Offers(e)
	}
	return j.Offers(e)
}

// outOfSight reports whether devices know of no queued execution of an active job.
func (j *Job) outOfSight() bool {
	return j.Hidden || j.Status.Active() && !j.Shows() && j.Showing == 0
}

// Cancel marks the job canceled at now. A canceled job can be canceled again with force, to end what
// is in progress (state-machine.md §1).
func (j Job) Cancel(force bool, reason, comment string, now Time) (Job, error) {
	switch {
	case j.Status.Active():
	case j.Status == JobCanceled && force && !j.ForceCanceled:
	default:
		return j, Errorf(Invalid, "Job %s is %s and cannot be canceled", j.ID, j.Status)
	}
	j.Hidden = j.outOfSight()
	j.Status = JobCanceled
	j.ForceCanceled = force
	if reason != "" {
		j.ReasonCode = reason
	}
	if comment != "" {
		j.Comment = comment
	}
	j.Ended, j.Updated, j.Completed = now, now, now
	j.Rolling, j.Sweeping, j.Parked = false, true, ""
	return j, nil
}

// Delete marks the job as being deleted.
func (j Job) Delete(force bool, now Time) (Job, error) {
	switch {
	case j.Status == JobDeleting:
		return j, Errorf(InvalidTransition, "Job %s is being deleted already", j.ID)
	case j.Status.Active() && !force:
		return j, Errorf(InvalidTransition, "Job %s is %s; cancel it first or delete it with force", j.ID, j.Status)
	}
	j.Hidden = j.outOfSight()
	j.Status = JobDeleting
	j.Updated = now
	j.Rolling, j.Sweeping, j.Parked = false, true, ""
	return j, nil
}

// Counts are a job's executions by status, attempts included (design §7).
type Counts [NumStatus]int64

// Pending is the number of executions that are not over.
func (c Counts) Pending() int64 { return c[Queued] + c[InProgress] }

// Add counts a change.
func (c *Counts) Add(ch Change) {
	if ch.Before.Status != NoStatus {
		c[ch.Before.Status]--
	}
	if ch.After.Status != NoStatus {
		c[ch.After.Status]++
	}
}

// Finished reports whether a job with these counts is complete: its executions are all over, and its
// rollout is done, or its endTime has come. A CONTINUOUS job without an endTime never is.
func (j *Job) Finished(c Counts) bool {
	if !j.Status.Active() || j.Rolling || j.Sweeping || c.Pending() != 0 {
		return false
	}
	return j.EndReached != 0 || j.Selection == Snapshot && j.RolledOut == len(j.Targets)
}

// Complete marks a finished job COMPLETED.
func (j Job) Complete(now Time) Job {
	j.Status = JobCompleted
	j.Completed, j.Updated = now, now
	return j
}

// Windowed reports whether the job has maintenance windows.
func (j *Job) Windowed() bool { return j.Scheduling != nil && len(j.Scheduling.Windows) > 0 }

// Edge brings an active job in line with its schedule at now (state-machine.md §1, §8), and says when
// the schedule has something to say again, 0 for never.
func (j Job) Edge(now Time) (next Job, again Time) {
	s := j.Scheduling
	if s == nil || !j.Status.Active() || j.EndReached != 0 {
		return j, 0
	}
	if s.EndAt != 0 && now >= s.EndAt {
		j.EndReached, j.Updated = now, now
		j.Rolling, j.Parked = false, ""
		if j.Sweeping = len(j.Taken()) > 0; j.Sweeping {
			j.Hidden = j.outOfSight()
		}
		return j, 0
	}
	open := now >= s.StartAt
	if !open {
		again = s.StartAt
	}
	if j.Windowed() {
		var closes Time
		if _, closes, open = s.OpenWindow(now); open {
			again = closes
		} else if starts := s.NextWindows(now, 1); len(starts) > 0 {
			again = starts[0]
		} else {
			again = 0
		}
	}
	if s.EndAt != 0 && (again == 0 || again > s.EndAt) {
		again = s.EndAt
	}
	switch {
	case open && j.Status == JobScheduled:
		j.Status, j.Updated = JobInProgress, now
		if j.Selection == Continuous {
			j.RolledOut = 0 // who joined meanwhile is looked for again
		}
		j.Rolling = j.RolledOut < len(j.Targets)
		j.Shown = now
	case !open && j.Status == JobInProgress:
		j.Status, j.Updated = JobScheduled, now
		j.Rolling, j.Parked = false, ""
	}
	return j, again
}
