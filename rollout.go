package muster

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Rollout is jobExecutionsRolloutConfig.
type Rollout struct {
	MaximumPerMinute int64 // 1..1000, or more where the server allows it; 0: not given
	Exponential      *ExponentialRate
}

// ExponentialRate raises the rate by Factor each time Notified or Succeeded things have been counted
// another time; one of the two is given.
type ExponentialRate struct {
	BasePerMinute int64
	Factor        float64 // 1.1..5
	Notified      int64
	Succeeded     int64
}

// AbortCriterion is one entry of abortConfig.
type AbortCriterion struct {
	FailureType string  // FAILED, REJECTED, TIMED_OUT or ALL
	Percentage  float64 // above 0, to 100
	MinExecuted int64
}

// Limits of settings (state-machine.md §6, §9, §10; control-plane.md §2).
const (
	MaxPerMinute       = 1000 // unless the server allows more
	MinIncreaseFactor  = 1.1
	MaxIncreaseFactor  = 5
	MinRoleARN         = 20
	MaxRoleARN         = 2048
	MinPresignSeconds  = 60
	MaxPresignSeconds  = 3600
	maxAbortPercentage = 100
)

// Check says whether the settings keep the rules of a job's configurations. What is nil or 0 was not
// given; perMinute is the highest rate of a rollout that the server allows. The error is Invalid and names
// the member as the wire spells it.
func (s Settings) Check(perMinute int64) error {
	if s.Presign != nil {
		if err := s.Presign.check(); err != nil {
			return err
		}
	}
	if s.Rollout != nil {
		if err := s.Rollout.check(perMinute); err != nil {
			return err
		}
	}
	if s.Abort != nil {
		if err := checkAbort(s.Abort); err != nil {
			return err
		}
	}
	if s.Timeout != nil {
		if err := s.Timeout.check(); err != nil {
			return err
		}
	}
	if s.Retry != nil {
		return checkRetry(s.Retry)
	}
	return nil
}

// check: presignedUrlConfig.
func (p *Presign) check() error {
	if n := len(p.RoleARN); n != 0 && (n < MinRoleARN || n > MaxRoleARN) {
		return Errorf(Invalid, "presignedUrlConfig.roleArn has %d characters; it must have between %d and %d", n, MinRoleARN, MaxRoleARN)
	}
	if p.ExpiresIn == 0 {
		return nil
	}
	return checkSpan("presignedUrlConfig.expiresInSec", p.ExpiresIn, time.Second, MinPresignSeconds, MaxPresignSeconds)
}

// check: timeoutConfig.
func (t *Timeout) check() error {
	if t.InProgress == 0 {
		return nil
	}
	return checkSpan("timeoutConfig.inProgressTimeoutInMinutes", t.InProgress, time.Minute, 1, MaxTimeoutMinutes)
}

// check: jobExecutionsRolloutConfig (state-machine.md §9).
func (r *Rollout) check(perMinute int64) error {
	const member = "jobExecutionsRolloutConfig"
	if r.MaximumPerMinute != 0 {
		if err := checkRange(member+".maximumPerMinute", r.MaximumPerMinute, 1, perMinute); err != nil {
			return err
		}
	}
	if r.Exponential == nil {
		return nil
	}
	return r.Exponential.check(member+".exponentialRate", perMinute)
}

func (x *ExponentialRate) check(member string, perMinute int64) error {
	if err := checkRange(member+".baseRatePerMinute", x.BasePerMinute, 1, perMinute); err != nil {
		return err
	}
	// Written so that not-a-number fails, too.
	if !(x.Factor >= MinIncreaseFactor && x.Factor <= MaxIncreaseFactor) {
		return Errorf(Invalid, "%s.incrementFactor is %s; it must be between %v and %v", member, decimal(x.Factor), MinIncreaseFactor, MaxIncreaseFactor)
	}
	if decimals(x.Factor) > 1 {
		return Errorf(Invalid, "%s.incrementFactor is %s; it must have at most one decimal", member, decimal(x.Factor))
	}
	member += ".rateIncreaseCriteria"
	switch {
	case x.Notified == 0 && x.Succeeded == 0:
		return Errorf(Invalid, "%s is empty; it must have one of numberOfNotifiedThings and numberOfSucceededThings, at least 1", member)
	case x.Notified != 0 && x.Succeeded != 0:
		return Errorf(Invalid, "%s has numberOfNotifiedThings %d and numberOfSucceededThings %d; it must have only one of them", member, x.Notified, x.Succeeded)
	case x.Notified != 0:
		return checkRange(member+".numberOfNotifiedThings", x.Notified, 1, math.MaxInt64)
	}
	return checkRange(member+".numberOfSucceededThings", x.Succeeded, 1, math.MaxInt64)
}

// checkAbort: abortConfig (state-machine.md §10).
func checkAbort(list []AbortCriterion) error {
	if len(list) == 0 {
		return Errorf(Invalid, "abortConfig.criteriaList is empty; it must have at least one entry")
	}
	for i, c := range list {
		member := entry("abortConfig.criteriaList", i)
		switch c.FailureType {
		case "FAILED", "REJECTED", "TIMED_OUT", "ALL":
		default:
			return Errorf(Invalid, "%s.failureType is %q; it must be FAILED, REJECTED, TIMED_OUT or ALL", member, c.FailureType)
		}
		if !(c.Percentage > 0 && c.Percentage <= maxAbortPercentage) {
			return Errorf(Invalid, "%s.thresholdPercentage is %s; it must be above 0 and at most %d", member, decimal(c.Percentage), maxAbortPercentage)
		}
		if decimals(c.Percentage) > 2 {
			return Errorf(Invalid, "%s.thresholdPercentage is %s; it must have at most two decimals", member, decimal(c.Percentage))
		}
		if err := checkRange(member+".minNumberOfExecutedThings", c.MinExecuted, 1, math.MaxInt64); err != nil {
			return err
		}
	}
	return nil
}

// Minutes is n minutes; where that is more than a Duration holds, the longest (or shortest) one, so
// that a number from outside cannot wrap around into the allowed range before it is checked.
func Minutes(n int64) time.Duration {
	switch {
	case n > int64(math.MaxInt64/time.Minute):
		return math.MaxInt64
	case n < int64(math.MinInt64/time.Minute):
		return math.MinInt64
	}
	return time.Duration(n) * time.Minute
}

func checkRange(member string, v, lo, hi int64) error {
	switch {
	case v >= lo && v <= hi:
		return nil
	case hi == math.MaxInt64:
		return Errorf(Invalid, "%s is %d; it must be at least %d", member, v, lo)
	}
	return Errorf(Invalid, "%s is %d; it must be between %d and %d", member, v, lo, hi)
}

// checkSpan is checkRange for a length of time that the wire counts in whole units.
func checkSpan(member string, d, unit time.Duration, lo, hi int64) error {
	if d%unit != 0 && d != math.MaxInt64 && d != math.MinInt64 {
		return Errorf(Invalid, "%s is %s; it must be a whole number", member, decimal(float64(d)/float64(unit)))
	}
	return checkRange(member, int64(d/unit), lo, hi)
}

func entry(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// decimal is x in the fewest digits that mean it, never with an exponent.
func decimal(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// decimals is the number of digits x needs behind the point.
func decimals(x float64) int {
	_, frac, _ := strings.Cut(decimal(x), ".")
	return len(frac)
}

// PerMinute is how many executions a rollout may create in a minute after so many were created
// (notified) and so many things have succeeded; 0 means as many as the store takes (state-machine.md §9).
func (r *Rollout) PerMinute(notified, succeeded int64) float64 {
	if r == nil || r.MaximumPerMinute == 0 && r.Exponential == nil {
		return 0
	}
	most := float64(r.MaximumPerMinute)
	x := r.Exponential
	if x == nil {
		return most
	}
	if most == 0 {
		most = float64(max(MaxPerMinute, x.BasePerMinute)) // a base above AWS's limit is one that the server allows
	}
	steps := int64(0)
	switch {
	case x.Notified > 0:
		steps = notified / x.Notified
	case x.Succeeded > 0:
		steps = succeeded / x.Succeeded
	}
	return min(most, float64(x.BasePerMinute)*math.Pow(x.Factor, float64(steps)))
}

// Tally counts a job's things by the status of their latest attempt.
type Tally [NumStatus]int64

// Add counts a change.
func (t *Tally) Add(c Change) {
	t.move(c.Before.Status, c.After.Status, c.Superseded, c.Stale, 1)
}

// Take takes back what Add counted for a change with these members.
func (t *Tally) Take(before, after, superseded Status, stale bool) {
	t.move(before, after, superseded, stale, -1)
}

func (t *Tally) move(before, after, superseded Status, stale bool, n int64) {
	if stale {
		return
	}
	if before != NoStatus {
		t[before] -= n
	}
	if after != NoStatus {
		t[after] += n
	}
	switch {
	case superseded == NoStatus:
	case after == NoStatus:
		t[superseded] += n // the attempt before is the latest again
	default:
		t[superseded] -= n
	}
}

// Executed is the number of things that have done their work, well or badly.
func (t Tally) Executed() int64 {
	return t[Succeeded] + t[Failed] + t[Rejected] + t[TimedOut]
}

// failures is the number of things that failed in the way the criterion speaks of.
func (t Tally) failures(failureType string) int64 {
	switch failureType {
	case "FAILED":
		return t[Failed]
	case "REJECTED":
		return t[Rejected]
	case "TIMED_OUT":
		return t[TimedOut]
	}
	return t[Failed] + t[Rejected] + t[TimedOut]
}

// AbortReason is the reasonCode of a job that met an abort criterion. AWS does not document its own.
const AbortReason = "ABORT_CRITERIA_MET"

// Abort says whether the job has to be aborted at this tally, and in a sentence why (state-machine.md
// §10). A thing whose failure is retried is back in QUEUED by then and does not count.
func (j *Job) Abort(t Tally) (why string, met bool) {
	executed := t.Executed()
	for _, c := range j.Settings.Abort {
		bad := t.failures(c.FailureType)
		if executed >= c.MinExecuted && executed > 0 && float64(bad)*100 >= c.Percentage*float64(executed) {
			return "Aborted: " + strconv.FormatInt(bad, 10) + " of " + strconv.FormatInt(executed, 10) + " things that executed ended as " + c.FailureType +
				"; the threshold is " + strconv.FormatFloat(c.Percentage, 'f', -1, 64) + " % of at least " + strconv.FormatInt(c.MinExecuted, 10), true
		}
	}
	return "", false
}
