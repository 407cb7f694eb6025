package muster

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Rollout is jobExecutionsRolloutConfig.
type Rollout struct {
	MaximumPerMinute int64 // 1..1000, 0: not given
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
	MaxPerMinute       = 1000
	MinIncreaseFactor  = 1.1
	MaxIncreaseFactor  = 5
	MinRoleARN         = 20
	MaxRoleARN         = 2048
	MinPresignSeconds  = 60
	MaxPresignSeconds  = 3600
	maxAbortPercentage = 100
)

// Check says whether the settings keep the rules of a job's configurations. What is nil or 0 was not
// given. The error is Invalid and names the member as the wire spells it.
func (s Settings) Check() error {
	if s.Presign != nil {
		if err := s.Presign.check(); err != nil {
			return err
		}
	}
	if s.Rollout != nil {
		if err := s.Rollout.check(); err != nil {
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
func (r *Rollout) check() error {
	const member = "jobExecutionsRolloutConfig"
	if r.MaximumPerMinute != 0 {
		if err := checkRange(member+".maximumPerMinute", r.MaximumPerMinute, 1, MaxPerMinute); err != nil {
			return err
		}
	}
	if r.Exponential == nil {
		return nil
	}
	return r.Exponential.check(member + ".exponentialRate")
}

func (x *ExponentialRate) check(member string) error {
	if err := checkRange(member+".baseRatePerMinute", x.BasePerMinute, 1, MaxPerMinute); err != nil {
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
