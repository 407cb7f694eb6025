package muster

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// wantInvalid checks that err is Invalid with exactly that sentence; "" wants no error.
func wantInvalid(t *testing.T, err error, sentence string) {
	t.Helper()
	if sentence == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var e *Error
	switch {
	case err == nil:
		t.Errorf("accepted; want: %s", sentence)
	case !errors.As(err, &e) || e.Kind != Invalid:
		t.Errorf("error is %#v; want kind Invalid", err)
	case e.Message != sentence:
		t.Errorf("error is  %s\nwant      %s", e.Message, sentence)
	}
}

func TestSettings(t *testing.T) {
	rollout := func(r Rollout) Settings { return Settings{Rollout: &r} }
	exponential := func(x ExponentialRate) Settings { return Settings{Rollout: &Rollout{Exponential: &x}} }
	abort := func(c ...AbortCriterion) Settings { return Settings{Abort: c} }
	retry := func(c ...RetryCriterion) Settings { return Settings{Retry: c} }
	timeout := func(d time.Duration) Settings { return Settings{Timeout: &Timeout{InProgress: d}} }
	presign := func(p Presign) Settings { return Settings{Presign: &p} }
	const (
		rate  = "jobExecutionsRolloutConfig.exponentialRate."
		first = "abortConfig.criteriaList[0]."
		tries = "jobExecutionsRetryConfig.criteriaList"
	)
	for _, c := range []struct {
		name string
		s    Settings
		want string
	}{
		{"nothing given", Settings{}, ""},
		{"everything given empty", Settings{Presign: &Presign{}, Rollout: &Rollout{}, Timeout: &Timeout{}}, ""},

		{"slowest constant rate", rollout(Rollout{MaximumPerMinute: 1}), ""},
		{"fastest constant rate", rollout(Rollout{MaximumPerMinute: 1000}), ""},
		{"too fast", rollout(Rollout{MaximumPerMinute: 2000}), "jobExecutionsRolloutConfig.maximumPerMinute is 2000; it must be between 1 and 1000"},
		{"negative rate", rollout(Rollout{MaximumPerMinute: -1}), "jobExecutionsRolloutConfig.maximumPerMinute is -1; it must be between 1 and 1000"},

		{"rate raised by notified things", exponential(ExponentialRate{50, 2, 1000, 0}), ""},
		{"rate raised by succeeded things", exponential(ExponentialRate{1, 1.1, 0, 1}), ""},
		{"steepest rate", exponential(ExponentialRate{1000, 5, 0, 1}), ""},
		{"one decimal that binary cannot hold", exponential(ExponentialRate{10, 2.3, 5, 0}), ""},
		{"no base rate", exponential(ExponentialRate{0, 2, 5, 0}), rate + "baseRatePerMinute is 0; it must be between 1 and 1000"},
		{"base rate too high", exponential(ExponentialRate{1001, 2, 5, 0}), rate + "baseRatePerMinute is 1001; it must be between 1 and 1000"},
		{"factor too small", exponential(ExponentialRate{10, 1, 5, 0}), rate + "incrementFactor is 1; it must be between 1.1 and 5"},
		{"factor too large", exponential(ExponentialRate{10, 5.1, 5, 0}), rate + "incrementFactor is 5.1; it must be between 1.1 and 5"},
		{"factor is not a number", exponential(ExponentialRate{10, math.NaN(), 5, 0}), rate + "incrementFactor is NaN; it must be between 1.1 and 5"},
		{"factor with two decimals", exponential(ExponentialRate{10, 1.25, 5, 0}), rate + "incrementFactor is 1.25; it must have at most one decimal"},
		{"no criterion", exponential(ExponentialRate{10, 2, 0, 0}), rate + "rateIncreaseCriteria is empty; it must have one of numberOfNotifiedThings and numberOfSucceededThings, at least 1"},
		{"both criteria", exponential(ExponentialRate{10, 2, 5, 6}), rate + "rateIncreaseCriteria has numberOfNotifiedThings 5 and numberOfSucceededThings 6; it must have only one of them"},
		{"negative notified", exponential(ExponentialRate{10, 2, -5, 0}), rate + "rateIncreaseCriteria.numberOfNotifiedThings is -5; it must be at least 1"},
		{"negative succeeded", exponential(ExponentialRate{10, 2, 0, -5}), rate + "rateIncreaseCriteria.numberOfSucceededThings is -5; it must be at least 1"},

		{"abort on any kind of failure", abort(AbortCriterion{"FAILED", 10.5, 1}, AbortCriterion{"REJECTED", 0.01, 2}, AbortCriterion{"TIMED_OUT", 33.33, 3}, AbortCriterion{"ALL", 100, math.MaxInt32}), ""},
		{"two decimals that binary cannot hold", abort(AbortCriterion{"ALL", 0.07, 1}), ""},
		{"empty abort list", Settings{Abort: []AbortCriterion{}}, "abortConfig.criteriaList is empty; it must have at least one entry"},
		{"abort on success", abort(AbortCriterion{"SUCCEEDED", 10, 1}), first + `failureType is "SUCCEEDED"; it must be FAILED, REJECTED, TIMED_OUT or ALL`},
		{"second entry wrong", abort(AbortCriterion{"ALL", 10, 1}, AbortCriterion{"", 10, 1}), `abortConfig.criteriaList[1].failureType is ""; it must be FAILED, REJECTED, TIMED_OUT or ALL`},
		{"no percentage", abort(AbortCriterion{"ALL", 0, 1}), first + "thresholdPercentage is 0; it must be above 0 and at most 100"},
		{"negative percentage", abort(AbortCriterion{"ALL", -1, 1}), first + "thresholdPercentage is -1; it must be above 0 and at most 100"},
		{"percentage above all", abort(AbortCriterion{"ALL", 100.01, 1}), first + "thresholdPercentage is 100.01; it must be above 0 and at most 100"},
		{"percentage is not a number", abort(AbortCriterion{"ALL", math.NaN(), 1}), first + "thresholdPercentage is NaN; it must be above 0 and at most 100"},
		{"three decimals", abort(AbortCriterion{"ALL", 12.345, 1}), first + "thresholdPercentage is 12.345; it must have at most two decimals"},
		{"tiny percentage", abort(AbortCriterion{"ALL", 1e-9, 1}), first + "thresholdPercentage is 0.000000001; it must have at most two decimals"},
		{"no minimum", abort(AbortCriterion{"ALL", 10, 0}), first + "minNumberOfExecutedThings is 0; it must be at least 1"},

		{"a minute", timeout(time.Minute), ""},
		{"a week", timeout(10080 * time.Minute), ""},
		{"more than a week", timeout(Minutes(10081)), "timeoutConfig.inProgressTimeoutInMinutes is 10081; it must be between 1 and 10080"},
		{"negative timeout", timeout(Minutes(-1)), "timeoutConfig.inProgressTimeoutInMinutes is -1; it must be between 1 and 10080"},
		{"more minutes than a duration holds", timeout(Minutes(math.MaxInt64)), "timeoutConfig.inProgressTimeoutInMinutes is 153722867; it must be between 1 and 10080"},
		{"half a minute", timeout(30 * time.Second), "timeoutConfig.inProgressTimeoutInMinutes is 0.5; it must be a whole number"},

		{"retries of one type", retry(RetryCriterion{"FAILED", 10}), ""},
		{"retries of both types", retry(RetryCriterion{"FAILED", 7}, RetryCriterion{"TIMED_OUT", 3}), ""},
		{"retries of all types", retry(RetryCriterion{"ALL", 10}), ""},
		{"no retry at all", retry(RetryCriterion{"ALL", 0}), ""},
		{"empty retry list", Settings{Retry: []RetryCriterion{}}, tries + " has 0 entries; it must have between 1 and 2"},
		{"three entries", retry(RetryCriterion{"FAILED", 1}, RetryCriterion{"TIMED_OUT", 1}, RetryCriterion{"ALL", 1}), tries + " has 3 entries; it must have between 1 and 2"},
		{"retry of a rejected one", retry(RetryCriterion{"REJECTED", 1}), tries + `[0].failureType is "REJECTED"; it must be FAILED, TIMED_OUT or ALL`},
		{"negative retries", retry(RetryCriterion{"FAILED", 1}, RetryCriterion{"TIMED_OUT", -1}), tries + "[1].numberOfRetries is -1; it must be between 0 and 10"},
		{"eleven retries", retry(RetryCriterion{"FAILED", 11}), tries + "[0].numberOfRetries is 11; it must be between 0 and 10"},
		{"eleven retries together", retry(RetryCriterion{"FAILED", 6}, RetryCriterion{"TIMED_OUT", 5}), tries + " has 11 retries in all; at most 10 are allowed"},
		{"all beside another", retry(RetryCriterion{"TIMED_OUT", 1}, RetryCriterion{"ALL", 1}), tries + " has failureType TIMED_OUT beside ALL; ALL must be the only entry"},
		{"a type twice", retry(RetryCriterion{"FAILED", 1}, RetryCriterion{"FAILED", 2}), tries + " has failureType FAILED twice; each may be given once"},

		{"presigned for a minute", presign(Presign{"arn:aws:iam::123456789012:role/s3", time.Minute}), ""},
		{"presigned for an hour", presign(Presign{"", time.Hour}), ""},
		{"presigned too shortly", presign(Presign{"", 59 * time.Second}), "presignedUrlConfig.expiresInSec is 59; it must be between 60 and 3600"},
		{"presigned too long", presign(Presign{"", 3601 * time.Second}), "presignedUrlConfig.expiresInSec is 3601; it must be between 60 and 3600"},
		{"role too short", presign(Presign{"arn:aws:iam", 0}), "presignedUrlConfig.roleArn has 11 characters; it must have between 20 and 2048"},
		{"role too long", presign(Presign{strings.Repeat("a", 2049), 0}), "presignedUrlConfig.roleArn has 2049 characters; it must have between 20 and 2048"},
	} {
		t.Run(c.name, func(t *testing.T) { wantInvalid(t, c.s.Check(MaxPerMinute), c.want) })
	}
}

func TestMinutesDoNotWrap(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 10080, 153722867, 153722868, math.MaxInt64, math.MinInt64, math.MaxInt64/60 + 1} {
		d := Minutes(n)
		if n > 0 && d <= 0 || n < 0 && d >= 0 {
			t.Errorf("Minutes(%d) is %v", n, d)
		}
		if n >= 1 && n <= MaxTimeoutMinutes && d != time.Duration(n)*time.Minute {
			t.Errorf("Minutes(%d) is %v", n, d)
		}
	}
}
