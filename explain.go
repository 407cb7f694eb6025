package muster

import (
	"strconv"
	"strings"
	"time"
)

// A Reason is why things of a job do not move, and for how many of them it is why.
type Reason struct {
	Code   ReasonCode
	Things int64
	// AtLeast says that Things were not counted to the end.
	AtLeast bool
	Until   Time  // when it ends by itself, 0: it does not, or nobody knows
	Job     JobID // that is waited behind
	Text    string
}

// A ReasonCode names a kind of reason, for programs. People read the text.
type ReasonCode string

// Why things do not move.
const (
	ReasonStart     ReasonCode = "NOT_STARTED"        // its startTime is to come
	ReasonWindow    ReasonCode = "OUTSIDE_WINDOW"     // its maintenance window is closed
	ReasonHeld      ReasonCode = "HELD"               // somebody, or the gate after a stage, holds it
	ReasonRate      ReasonCode = "WAITING_FOR_RATE"   // the rollout keeps to its rate
	ReasonBake      ReasonCode = "STAGE_BAKING"       // a stage has its bake time
	ReasonRoom      ReasonCode = "MAX_IN_FLIGHT"      // as many are at work as may be
	ReasonRolling   ReasonCode = "ROLLING_OUT"        // the rollout is at work
	ReasonTurn      ReasonCode = "WAITING_FOR_JOBS"   // as many jobs as are allowed are rolling out
	ReasonBehind    ReasonCode = "BEHIND_JOB"         // another job is first on the thing
	ReasonNever     ReasonCode = "NEVER_STARTED"      // it is offered, and the device has not taken it
	ReasonWorking   ReasonCode = "IN_PROGRESS"        // the device is at work
	ReasonRetry     ReasonCode = "RETRYING"           // an attempt failed and another one is made
	ReasonAborted   ReasonCode = "ABORTED"            // an abort criterion was met
	ReasonCanceled  ReasonCode = "CANCELED"           // somebody canceled it
	ReasonEnded     ReasonCode = "END_TIME_REACHED"   // its endTime came
	ReasonDeleting  ReasonCode = "DELETING"           //
	ReasonNamespace ReasonCode = "NAMESPACE"          // jobs with a namespace are not offered to devices
	ReasonNoTarget  ReasonCode = "NO_SUCH_TARGET"     // a target is gone
	ReasonEmpty     ReasonCode = "EMPTY_TARGET"       // a target has no things
	ReasonJoin      ReasonCode = "WAITING_FOR_THINGS" // a CONTINUOUS job has reached all there are
	ReasonDone      ReasonCode = "DONE"               // it is over
	ReasonFailed    ReasonCode = "FAILED"             // it is over, and not well
)

// A Standing is what is known of a job when somebody asks why it does not move.
type Standing struct {
	Now     Time
	Counts  Counts
	Tally   Tally
	Waiting int64 // things the rollout has yet to come to
	AtLeast bool  // Waiting was not counted to the end
	Slot    Time  // when the rate allows the next execution, 0: nobody knows
	Ahead   int   // jobs whose rollout begins before this one's, if it waits for its turn
}

// Explain says why things of the job do not move, as far as the job itself is why: what it waits for, and
// what has ended it.
func (j *Job) Explain(s Standing) (all []Reason) {
	queued := s.Counts[Queued]
	say := func(code ReasonCode, things int64, until Time, text string) {
		all = append(all, Reason{Code: code, Things: things, Until: until, Text: text})
	}
	rollout := func(code ReasonCode, more int64, until Time, text string) {
		say(code, s.Waiting+more, until, text)
		all[len(all)-1].AtLeast = s.AtLeast
	}
	switch {
	case j.Status == JobDeleting:
		say(ReasonDeleting, s.Counts.Pending(), 0, "The job is being deleted")
		return all
	case j.Status == JobCanceled && j.ReasonCode == AbortReason:
		rollout(ReasonAborted, s.Tally[Canceled]+queued, 0, j.Comment+" ("+clock(j.Ended)+")")
		return all
	case j.Status == JobCanceled:
		text := "The job was canceled " + clock(j.Ended)
		if j.ReasonCode != "" || j.Comment != "" {
			text += ": " + strings.TrimSpace(j.ReasonCode+" "+j.Comment)
		}
		rollout(ReasonCanceled, s.Tally[Canceled]+queued, 0, text)
		return all
	case j.Status == JobCompleted:
		say(ReasonDone, 0, 0, "The job is over since "+clock(j.Completed))
		return all
	}
	if j.Namespace != "" {
		say(ReasonNamespace, queued, 0, "The job has the namespace "+j.Namespace+"; such jobs are not offered to devices")
	}
	if j.EndReached != 0 {
		rollout(ReasonEnded, 0, 0, "The job's endTime came "+clock(j.EndReached)+"; nothing new is rolled out")
	}
	if j.Held != nil {
		by := "Somebody holds the job since " + clock(j.Held.Since)
		if j.Held.ByGate {
			by = "The gate between stages holds the job since " + clock(j.Held.Since)
		}
		if j.Held.Why != "" {
			by += ": " + j.Held.Why
		}
		rollout(ReasonHeld, queued, 0, by+". It goes on when somebody resumes it")
	}
	if j.Status == JobScheduled && j.EndReached == 0 {
		rollout(j.closed(s.Now, queued))
		return all
	}
	if !j.Rolling || j.Held != nil {
		return all
	}
	if j.Waiting {
		text := "As many jobs as the server allows are rolling out; this one begins when one of them is done"
		if s.Ahead > 0 {
			text += ", after " + amount(int64(s.Ahead), "other job") + " that " + map[bool]string{true: "wait", false: "waits"}[s.Ahead > 1] + " as well"
		}
		rollout(ReasonTurn, 0, 0, text)
		return all
	}
	share, limited := j.StageShare()
	left := j.Room(notifiedOf(s.Tally), s.Counts.Pending())
	switch {
	case j.Bakes() != 0:
		rollout(ReasonBake, 0, j.Bakes(), j.stageText()+" has reached its "+amount(share, "thing")+" and has its bake time until "+clock(j.Bakes()))
	case left == 0 && limited && notifiedOf(s.Tally) >= share:
		rollout(ReasonBake, 0, 0, j.stageText()+" has reached its "+amount(share, "thing")+" and begins its bake time")
	case left == 0:
		rollout(ReasonRoom, 0, 0, "At work: "+amount(s.Counts.Pending(), "thing")+", as many as "+TagMaxInFlight+" allows; the next follows when one is done")
	case j.Staged() && j.Progress == nil:
		rollout(ReasonRolling, 0, 0, "The targets are being counted, to know how many each stage is to reach")
	case j.Settings.Rollout.PerMinute(notifiedOf(s.Tally), s.Tally[Succeeded]) > 0:
		text := "The rollout goes at " + decimal(j.Settings.Rollout.PerMinute(notifiedOf(s.Tally), s.Tally[Succeeded])) + " a minute"
		if s.Slot != 0 {
			text += "; the next thing follows at " + clock(s.Slot)
		}
		rollout(ReasonRate, 0, s.Slot, text)
	default:
		rollout(ReasonRolling, 0, 0, "The rollout is at work")
	}
	return all
}

// closed is why a job is SCHEDULED.
func (j *Job) closed(now Time, queued int64) (code ReasonCode, more int64, until Time, text string) {
	if now < j.Scheduling.StartAt && !j.Windowed() {
		return ReasonStart, queued, j.Scheduling.StartAt, "The job starts at " + clock(j.Scheduling.StartAt)
	}
	if next := j.Scheduling.NextWindows(now, 1); len(next) > 0 {
		return ReasonWindow, queued, next[0], "The job is outside its maintenance window, which opens " + clock(next[0])
	}
	return ReasonWindow, queued, 0, "The job is outside its maintenance window, which does not open again"
}

func (j *Job) stageText() string {
	n := j.Progress.Stage
	return "Stage " + strconv.Itoa(n+1) + " of " + strconv.Itoa(len(j.Extras.Stages)) + " (" + decimal(j.Extras.Stages[n].Percent) + " %)"
}

// RetriesLeft is how many more attempts the job grants a thing whose attempt e fails, and whose attempt
// times out. With ALL they are the same ones.
func (j *Job) RetriesLeft(e Execution) (failed, timedOut int64) {
	left := func(as Status) (n int64) {
		for e := e; ; n++ {
			e.Status = as
			next, ok := j.Retry(e, e.Number+1, 0, 0)
			if !ok {
				return n
			}
			e = next
		}
	}
	return left(Failed), left(TimedOut)
}

// Turns says in sentences what became of a job between two of its rows; was is nil when it is new.
func Turns(was, is *Job) (all []string) {
	if was == nil {
		return []string{"The job is created and " + is.Status.String()}
	}
	if was.Status != is.Status {
		text := "The job becomes " + is.Status.String()
		if is.Status == JobCanceled && is.Comment != "" {
			text += ". " + is.Comment
		}
		all = append(all, text)
	}
	if was.EndReached != is.EndReached {
		all = append(all, "The job's endTime comes")
	}
	switch {
	case was.Held == nil && is.Held != nil:
		all = append(all, "The job is held. "+is.Held.Why)
	case was.Held != nil && is.Held == nil:
		all = append(all, "The job is resumed")
	}
	if is.Progress != nil && was.Progress != is.Progress {
		switch share, limited := is.StageShare(); {
		case was.Progress != nil && was.Progress.Filled == 0 && is.Progress.Filled != 0:
			all = append(all, is.stageText()+" has reached its "+amount(share, "thing")+"; its bake time lasts until "+clock(is.Bakes()))
		case was.Progress != nil && was.Progress.Stage == is.Progress.Stage:
		case limited:
			all = append(all, is.stageText()+" begins, which is to reach "+amount(share, "thing"))
		default:
			all = append(all, is.stageText()+" begins, which is to reach all "+amount(is.Progress.Targets, "thing"))
		}
	}
	return all
}

func notifiedOf(t Tally) (n int64) {
	for _, of := range t {
		n += of
	}
	return n
}

func clock(t Time) string { return t.Time().Format(time.RFC3339) }

func amount(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.FormatInt(n, 10) + " " + what
}
