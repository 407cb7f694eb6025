package muster

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Extras are settings that AWS does not have. A job gets them through tags when it is created, which
// every AWS tool can send; a job without such tags is as it would be at AWS.
type Extras struct {
	// QueuedTimeout ends a queued execution that nobody starts as TIMED_OUT, 0: never. The time counts
	// from when it was queued, or from when the job last came back into sight.
	QueuedTimeout time.Duration `json:",omitempty"`
	// Stages divide the rollout, nil: it is not divided.
	Stages []Stage `json:",omitempty"`
	// MaxFailed is the largest percentage of a stage's executed things that may have failed for the
	// next stage to begin, nil: there is no gate.
	MaxFailed *float64 `json:",omitempty"`
	// MaxInFlight is how many things may be at work (QUEUED or IN_PROGRESS) for the rollout to go on, 0: any number.
	MaxInFlight int64 `json:",omitempty"`
}

// A Stage is a share of the targets, those of the stages before included, and how long the rollout
// rests once they are all reached. The last stage is all targets and has no rest.
type Stage struct {
	Percent float64
	Bake    time.Duration
}

// Tags that carry Extras.
const (
	TagPrefix         = "muster:"
	TagQueuedTimeout  = "muster:queued-timeout-minutes"
	TagStages         = "muster:stages"
	TagStageMaxFailed = "muster:stage-max-failed-percent"
	TagMaxInFlight    = "muster:max-in-flight"
)

// Limits of Extras.
const (
	MaxStages   = 20
	MinBake     = time.Minute
	MaxBake     = 30 * 24 * time.Hour
	MaxInFlight = 10_000_000
)

// IsExtra reports whether a tag key is one of Muster's own, known or not. Nobody may mean another
// thing by a misspelled one.
func IsExtra(key string) bool {
	return len(key) >= len(TagPrefix) && strings.EqualFold(key[:len(TagPrefix)], TagPrefix)
}

// ParseExtras reads the settings among a job's tags; nil when there are none. The error is Invalid.
func ParseExtras(tags Pairs) (*Extras, error) {
	var x Extras
	any := false
	for key, value := range tags.All() {
		if IsExtra(key) {
			any = true
			if err := x.set(key, value); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case !any:
		return nil, nil
	case x.MaxFailed != nil && x.Stages == nil:
		return nil, Errorf(Invalid, "tag %s is given without %s; it is the gate between stages", TagStageMaxFailed, TagStages)
	}
	return &x, nil
}

// CheckExtra says whether a tag of a job, if it is a setting, has a value that it can have.
func CheckExtra(key, value string) error {
	if !IsExtra(key) {
		return nil
	}
	return new(Extras).set(key, value)
}

func (x *Extras) set(key, value string) error {
	bad := func(must string) error { return Errorf(Invalid, "tag %s is %q; it must be %s", key, value, must) }
	switch key {
	case TagQueuedTimeout:
		n, ok := whole(value, 1, MaxTimeoutMinutes)
		if !ok {
			return bad("a whole number of minutes between 1 and " + strconv.Itoa(MaxTimeoutMinutes))
		}
		x.QueuedTimeout = Minutes(n)
	case TagMaxInFlight:
		n, ok := whole(value, 1, MaxInFlight)
		if !ok {
			return bad("a whole number between 1 and " + strconv.Itoa(MaxInFlight))
		}
		x.MaxInFlight = n
	case TagStageMaxFailed:
		p, ok := percent(value)
		if !ok {
			return bad("a percentage between 0 and 100 with at most two decimals, without a sign, such as 2.5")
		}
		x.MaxFailed = &p
	case TagStages:
		stages, why := parseStages(value)
		if why != "" {
			return Errorf(Invalid, "tag %s is %q: %s. Write percent of the targets and bake time of each stage, such as 5/30m 25/2h 100", key, value, why)
		}
		x.Stages = stages
	default:
		return Errorf(Invalid, "tag key %s is no setting that is known; there are %s, %s, %s and %s", key,
			TagQueuedTimeout, TagStages, TagStageMaxFailed, TagMaxInFlight)
	}
	return nil
}

func whole(text string, lo, hi int64) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= lo && n <= hi && text[0] != '+'
}

// percent reads plain decimals only: no sign, no exponent, nothing that is not a number.
func percent(text string) (float64, bool) {
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	p, err := strconv.ParseFloat(text, 64)
	return p, err == nil && p <= 100 && decimals(p) <= 2
}

func parseStages(text string) (stages []Stage, why string) {
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > MaxStages {
		return nil, "it has " + strconv.Itoa(len(words)) + " stages; there must be between 1 and " + strconv.Itoa(MaxStages)
	}
	before := 0.0
	for i, word := range words {
		share, bake, bakes := strings.Cut(word, "/")
		s := Stage{}
		var ok bool
		if s.Percent, ok = percent(share); !ok || s.Percent == 0 {
			return nil, share + " is no percentage above 0 and up to 100 with at most two decimals"
		}
		if s.Percent <= before {
			return nil, share + " is not more than the stage before it; a share includes those of the stages before"
		}
		before = s.Percent
		switch last := i == len(words)-1; {
		case last && (s.Percent != 100 || bakes):
			return nil, "the last stage must be 100, without a bake time"
		case last:
		case !bakes:
			return nil, "stage " + word + " has no bake time"
		default:
			var err error
			if s.Bake, err = time.ParseDuration(bake); err != nil || s.Bake < MinBake || s.Bake > MaxBake {
				return nil, bake + " is no bake time between 1m and 720h, such as 30m or 2h"
			}
		}
		stages = append(stages, s)
	}
	return stages, ""
}

// Progress is how far a job has come through its stages.
type Progress struct {
	Targets int64 // things that the job was to reach when its rollout began
	Stage   int   // the present stage, from 0
	Filled  Time  // when the stage had reached its share, 0: not yet
}

// Staged reports whether the job's rollout is divided into stages.
func (j *Job) Staged() bool { return j.Extras != nil && len(j.Extras.Stages) > 0 }

// StageShare is how many things the present stage reaches, with those of the stages before; ok is false
// when there is no limit: no stages, or the last one.
func (j *Job) StageShare() (n int64, ok bool) {
	if !j.Staged() || j.Progress == nil || j.Progress.Targets == 0 || j.Progress.Stage >= len(j.Extras.Stages)-1 {
		return 0, false
	}
	share := j.Extras.Stages[j.Progress.Stage].Percent
	// Percentages have two decimals: in whole hundredths nothing is rounded twice.
	hundredths := int64(math.Round(share * 100))
	return (j.Progress.Targets*hundredths + 9999) / 10000, true
}

// Room is how many more executions the rollout may make now, as stages and max-in-flight allow; -1 is
// any number. notified is how many things have one, pending how many executions are not over.
func (j *Job) Room(notified, pending int64) int64 {
	room := int64(-1)
	if share, ok := j.StageShare(); ok {
		room = max(0, share-notified)
	}
	if j.Extras != nil && j.Extras.MaxInFlight > 0 {
		left := max(0, j.Extras.MaxInFlight-pending)
		if room < 0 || left < room {
			room = left
		}
	}
	return room
}

// Bakes is when the bake time of a stage that has reached its share is over, 0 when none bakes.
func (j *Job) Bakes() Time {
	if !j.Staged() || j.Progress == nil || j.Progress.Filled == 0 || j.Progress.Stage >= len(j.Extras.Stages) {
		return 0
	}
	return j.Progress.Filled.Add(j.Extras.Stages[j.Progress.Stage].Bake)
}

// Gate says whether the next stage may begin at this tally, and if not, in a sentence why. A stage of
// which nothing has executed has shown nothing, and does not pass.
func (j *Job) Gate(t Tally) (why string, passes bool) {
	if !j.Staged() || j.Progress == nil || j.Extras.MaxFailed == nil {
		return "", true
	}
	stage := "Stage " + strconv.Itoa(j.Progress.Stage+1) + " of " + strconv.Itoa(len(j.Extras.Stages)) + " has ended its bake time"
	executed, bad := t.Executed(), t.failures("ALL")
	switch {
	case executed == 0:
		return stage + " and nothing has executed yet, so that there is nothing to judge by", false
	case float64(bad)*100 > *j.Extras.MaxFailed*float64(executed):
		return stage + " with " + strconv.FormatInt(bad, 10) + " of " + strconv.FormatInt(executed, 10) +
			" things that executed failed, rejected or timed out; at most " + decimal(*j.Extras.MaxFailed) + " % are allowed", false
	}
	return "", true
}

// NextStage begins the stage after the present one.
func (j Job) NextStage() Job {
	next := *j.Progress
	next.Stage++
	next.Filled = 0
	j.Progress = &next
	return j
}

// A Hold is why a job makes no new executions and offers none that is queued, while what is in progress
// goes on.
type Hold struct {
	Since  Time
	ByGate bool // the gate after a stage, not an operator
	Why    string
}

// Hold holds an active job at now.
func (j Job) Hold(byGate bool, why string, now Time) (Job, error) {
	switch {
	case !j.Status.Active():
		return j, Errorf(InvalidTransition, "Job %s is %s; only a job that is IN_PROGRESS or SCHEDULED can be held", j.ID, j.Status)
	case j.Held != nil:
		return j, Errorf(InvalidTransition, "Job %s is held already, since %s", j.ID, j.Held.Since.Time().Format(time.RFC3339))
	}
	j.Held = &Hold{Since: now, ByGate: byGate, Why: why}
	j.Updated = now
	return j, nil
}

// Resume lets a held job go on at now. Who resumes a job that its gate holds lets the next stage begin.
func (j Job) Resume(now Time) (Job, error) {
	switch {
	case !j.Status.Active():
		return j, Errorf(InvalidTransition, "Job %s is %s and cannot be resumed", j.ID, j.Status)
	case j.Held == nil:
		return j, Errorf(InvalidTransition, "Job %s is not held", j.ID)
	}
	if j.Held.ByGate && j.Progress != nil {
		j = j.NextStage()
	}
	j.Held, j.Updated = nil, now
	if j.Shows() {
		j.Shown = now
	}
	return j, nil
}

// Deadline is when an execution of this job times out, 0 for never: what its timers say, and for one
// that is queued and offered, what the job's queued timeout says.
func (j *Job) Deadline(e Execution) Time {
	if e.Status != Queued || j.Extras == nil || j.Extras.QueuedTimeout == 0 || !j.Shows() {
		return e.Deadline()
	}
	return max(e.QueuedAt, j.Shown).Add(j.Extras.QueuedTimeout)
}
