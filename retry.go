package muster

// RetryCriterion is one entry of jobExecutionsRetryConfig.
type RetryCriterion struct {
	FailureType string // FAILED, TIMED_OUT or ALL
	Retries     int64  // 0..10
}

// MaxRetryCriteria is the number of entries a retry configuration may have.
const MaxRetryCriteria = 2

// checkRetry: jobExecutionsRetryConfig (state-machine.md §7). ALL is one budget for both types, so it
// cannot stand beside another entry.
func checkRetry(list []RetryCriterion) error {
	const member = "jobExecutionsRetryConfig.criteriaList"
	if n := len(list); n < 1 || n > MaxRetryCriteria {
		return Errorf(Invalid, "%s has %d entries; it must have between 1 and %d", member, n, MaxRetryCriteria)
	}
	total := int64(0)
	for i, c := range list {
		switch c.FailureType {
		case "FAILED", "TIMED_OUT", "ALL":
		default:
			return Errorf(Invalid, "%s.failureType is %q; it must be FAILED, TIMED_OUT or ALL", entry(member, i), c.FailureType)
		}
		if err := checkRange(entry(member, i)+".numberOfRetries", c.Retries, 0, MaxRetries); err != nil {
			return err
		}
		total += c.Retries
	}
	if len(list) == 2 {
		switch a, b := list[0].FailureType, list[1].FailureType; {
		case a == b:
			return Errorf(Invalid, "%s has failureType %s twice; each may be given once", member, a)
		case a == "ALL" || b == "ALL":
			return Errorf(Invalid, "%s has failureType %s beside %s; ALL must be the only entry", member, a, b)
		}
	}
	if total > MaxRetries {
		return Errorf(Invalid, "%s has %d retries in all; at most %d are allowed", member, total, MaxRetries)
	}
	return nil
}

// Retry returns the attempt that follows e, which has just ended, and whether the job grants one
// (state-machine.md §7). number and seq are those of the new execution.
func (j *Job) Retry(e Execution, number int64, seq uint64, now Time) (Execution, bool) {
	if !j.Status.Active() || j.EndReached != 0 {
		return Execution{}, false
	}
	for _, c := range j.Settings.Retry {
		used := int64(e.Attempt)
		switch {
		case c.FailureType == "FAILED" && e.Status == Failed:
			used -= int64(e.TimedOutRetries)
		case c.FailureType == "TIMED_OUT" && e.Status == TimedOut:
			used = int64(e.TimedOutRetries)
		case c.FailureType == "ALL" && (e.Status == Failed || e.Status == TimedOut):
		default:
			continue
		}
		if used >= c.Retries {
			return Execution{}, false
		}
		next := NewExecution(e.Job, e.Thing, number, e.Attempt+1, seq, now)
		next.TimedOutRetries = e.TimedOutRetries
		if e.Status == TimedOut {
			next.TimedOutRetries++
		}
		return next, true
	}
	return Execution{}, false
}
