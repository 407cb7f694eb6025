package muster

import "time"

// A Status is the state of an execution (state-machine.md §2).
type Status uint8

const (
	NoStatus Status = iota
	Queued
	InProgress
	Succeeded
	Failed
	TimedOut
	Rejected
	Removed
	Canceled
	// NumStatus is one more than the last status: the length of an array indexed by Status.
	NumStatus
)

var statusNames = [NumStatus]string{"", "QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"}

func (s Status) String() string {
	if s < NumStatus {
		return statusNames[s]
	}
	return "?"
}

// Terminal reports whether an execution in this state is over.
func (s Status) Terminal() bool { return s > InProgress }

// ParseStatus reads a status as the wire spells it. SUCCESS is another name of SUCCEEDED.
func ParseStatus(s string) (Status, bool) {
	if s == "SUCCESS" {
		return Succeeded, true
	}
	for i := Queued; i < NumStatus; i++ {
		if statusNames[i] == s {
			return i, true
		}
	}
	return NoStatus, false
}

// An Execution is one attempt of a thing at a job. Times have millisecond precision.
type Execution struct {
	Job    JobID
	Thing  ThingName
	Number int64  // 1 for the first attempt of a thing at a job, larger for each new one, never reused
	Seq    uint64 // order of creation in the store; breaks ties of QueuedAt

	Status        Status
	ForceCanceled bool
	Attempt       int32 // retries made before this one
	// TimedOutRetries is how many of these retries were made because an attempt timed out.
	TimedOutRetries int32
	Version         int64 // 1 when queued, +1 per change

	QueuedAt  Time
	StartedAt Time // 0 until a device started it
	UpdatedAt Time

	Details Pairs

	InProgressTimeout Time // deadline of the job's in-progress timer, 0: none
	StepTimeout       Time // deadline of the device's step timer, 0: none
}

// Limits of a report (data-plane.md §2).
const (
	MaxDetails        = 10
	MaxTimeoutMinutes = 10080
	FirstExecution    = 1
	FirstVersion      = 1
)

// NewExecution is an execution as it is queued at now.
func NewExecution(job JobID, thing ThingName, number int64, attempt int32, seq uint64, now Time) Execution {
	return Execution{Job: job, Thing: thing, Number: number, Seq: seq, Attempt: attempt,
		Status: Queued, Version: FirstVersion, QueuedAt: now, UpdatedAt: now}
}

// A StepTimer says what a request does to the step timer.
type StepTimer struct {
	Set     bool
	Minutes int64 // 1..10080 starts the timer afresh; -1 cancels it
}

func (s StepTimer) check() error {
	if s.Set && s.Minutes != -1 && (s.Minutes < 1 || s.Minutes > MaxTimeoutMinutes) {
		return Errorf(Invalid, "stepTimeoutInMinutes is %d; it must be -1 or between 1 and %d", s.Minutes, MaxTimeoutMinutes)
	}
	return nil
}

func (s StepTimer) apply(e *Execution, now Time) {
	switch {
	case !s.Set:
	case s.Minutes == -1:
		e.StepTimeout = 0
	default:
		e.StepTimeout = now.Add(time.Duration(s.Minutes) * time.Minute)
	}
}

// A Report is what a device says about an execution: the members of UpdateJobExecution.
type Report struct {
	Status          Status
	Details         *Pairs // nil leaves the stored details; otherwise they are replaced whole
	ExpectedVersion *int64 // nil checks nothing; 0 is a version like any other and never the current one
	Number          int64  // execution number, 0: the latest
	Step            StepTimer
}

// Check says whether the report is one a device may make at all (data-plane.md §3).
func (r Report) Check() error {
	switch r.Status {
	case NoStatus:
		return Errorf(Invalid, "1 validation error detected: Value null at 'status' failed to satisfy constraint: Member must not be null")
	case TimedOut, Removed, Canceled:
		return Errorf(Invalid, "status %s is set by the service; a device may report IN_PROGRESS, SUCCEEDED, FAILED or REJECTED", r.Status)
	}
	if r.Details != nil {
		if err := CheckDetails(*r.Details); err != nil {
			return err
		}
	}
	return r.Step.check()
}

// CheckDetails says whether status details respect the quota of pairs.
func CheckDetails(d Pairs) error {
	if n := d.Len(); n > MaxDetails {
		return Errorf(Invalid, "statusDetails has %d pairs; at most %d are allowed", n, MaxDetails)
	}
	return nil
}

// Report returns e as the device's report leaves it at now. The in-progress timer of the job, 0 for
// none, starts when the execution does. On error e is unchanged, and the error carries it.
func (e Execution) Report(r Report, inProgress time.Duration, now Time) (Execution, error) {
	if r.ExpectedVersion != nil && *r.ExpectedVersion != e.Version {
		return e, e.refuse(VersionMismatch, "Expected version %d but found version %d", *r.ExpectedVersion, e.Version)
	}
	if e.Status.Terminal() || r.Status == Queued {
		return e, e.refuse(InvalidTransition, "The execution of job %s on thing %s is %s; it cannot become %s", e.Job, e.Thing, e.Status, r.Status)
	}
	next := e.touched(now)
	if r.Details != nil {
		next.Details = *r.Details
	}
	if r.Status == InProgress {
		if e.Status == Queued {
			next.start(inProgress, now)
		}
		r.Step.apply(&next, now)
		return next, nil
	}
	return next.ended(r.Status), nil
}

// Start returns e as StartNextPendingJobExecution leaves it: a queued one begins; one in progress
// keeps everything but the step timer, if one is given (state-machine.md §2).
func (e Execution) Start(details *Pairs, step StepTimer, inProgress time.Duration, now Time) Execution {
	if e.Status == Queued {
		e = e.touched(now)
		if details != nil {
			e.Details = *details
		}
		e.start(inProgress, now)
	}
	step.apply(&e, now)
	return e
}

// Cancel returns e canceled at now. force also ends one in progress.
func (e Execution) Cancel(force bool, now Time) (Execution, error) {
	if e.Status.Terminal() || e.Status == InProgress && !force {
		return e, e.refuse(InvalidTransition, "The execution of job %s on thing %s is %s and cannot be canceled%s", e.Job, e.Thing, e.Status,
			map[bool]string{true: " without force"}[e.Status == InProgress])
	}
	next := e.touched(now).ended(Canceled)
	next.ForceCanceled = force
	return next, nil
}

// Remove returns a pending e as removed: its thing is no target any more.
func (e Execution) Remove(now Time) Execution { return e.touched(now).ended(Removed) }

// Expire returns an e in progress as timed out.
func (e Execution) Expire(now Time) Execution { return e.touched(now).ended(TimedOut) }

// Deadline is when e times out, 0 when no timer runs. A step timer cannot outlast the in-progress timer.
func (e Execution) Deadline() Time {
	if e.Status != InProgress {
		return 0
	}
	if e.StepTimeout == 0 || e.InProgressTimeout != 0 && e.InProgressTimeout < e.StepTimeout {
		return e.InProgressTimeout
	}
	return e.StepTimeout
}

// SecondsLeft is approximateSecondsBeforeTimedOut: seconds to the deadline, not below 0; ok is false
// when no timer runs.
func (e Execution) SecondsLeft(now Time) (seconds int64, ok bool) {
	d := e.Deadline()
	if d == 0 {
		return 0, false
	}
	return max(0, int64(d-now)/1000), true
}

func (e Execution) touched(now Time) Execution {
	e.Version++
	e.UpdatedAt = now
	return e
}

func (e *Execution) start(inProgress time.Duration, now Time) {
	e.Status = InProgress
	e.StartedAt = now
	if inProgress > 0 {
		e.InProgressTimeout = now.Add(inProgress)
	}
}

func (e Execution) ended(s Status) Execution {
	e.Status = s
	e.InProgressTimeout, e.StepTimeout = 0, 0
	return e
}

func (e Execution) refuse(k Kind, format string, args ...any) *Error {
	err := Errorf(k, format, args...)
	err.Execution = &e
	return err
}
