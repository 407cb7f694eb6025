package muster

import (
	"strings"
	"testing"
	"time"
)

func TestJobStatusNames(t *testing.T) {
	for s := JobScheduled; s < numJobStatus; s++ {
		if got, ok := ParseJobStatus(s.String()); !ok || got != s {
			t.Errorf("%v is read as %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "DELETED", "CANCELLATION_IN_PROGRESS", "completed"} { // event words are no status
		if got, ok := ParseJobStatus(s); ok {
			t.Errorf("%q is read as %v", s, got)
		}
	}
	if numJobStatus.String() != "?" || Snapshot.String() != "SNAPSHOT" || Continuous.String() != "CONTINUOUS" {
		t.Error("names")
	}
}

func TestCheckDocument(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"smallest", `{}`, ""},
		{"with space around", " \r\n\t{\"a\": 1}\n", ""},
		{"largest", `{"a":"` + strings.Repeat("x", MaxDocumentBytes-8) + `"}`, ""},
		{"one byte more", `{"a":"` + strings.Repeat("x", MaxDocumentBytes-7) + `"}`, "The job document has 32769 bytes; at most 32768 are allowed"},
		{"empty", "", "The job document is not valid JSON"},
		{"not JSON", "{", "The job document is not valid JSON"},
		{"two", "{}{}", "The job document is not valid JSON"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "The job document is not valid UTF-8"},
		{"a list", "[]", "The job document must be a JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) { wantInvalid(t, CheckDocument(c.text), c.want) })
	}
	if d := (Document{Text: "after", Source: "before"}); d.Before() != "before" || (Document{Text: "after"}).Before() != "after" {
		t.Error("Before")
	}
}

func TestCancelKeepsWhatIsNotGiven(t *testing.T) {
	j := Job{ID: "fw", Status: JobInProgress, ReasonCode: "OLD", Comment: "old"}
	j, err := j.Cancel(false, "", "", noon)
	if err != nil || j.ReasonCode != "OLD" || j.Comment != "old" {
		t.Errorf("%+v, %v", j, err)
	}
	j, err = j.Cancel(true, "NEW", "new", tenPast)
	if err != nil || j.ReasonCode != "NEW" || j.Comment != "new" || !j.ForceCanceled || j.Ended != tenPast {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestFinished(t *testing.T) {
	ended := Counts{}
	ended[Succeeded], ended[Failed], ended[Removed] = 5, 1, 2
	waiting, running := ended, ended
	waiting[Queued]++
	running[InProgress]++
	for _, c := range []struct {
		name   string
		job    Job
		counts Counts
		want   bool
	}{
		{"all over", Job{Status: JobInProgress}, ended, true},
		{"an empty group", Job{Status: JobInProgress}, Counts{}, true},
		{"one queued", Job{Status: JobInProgress}, waiting, false},
		{"one in progress", Job{Status: JobInProgress}, running, false},
		{"still rolling out", Job{Status: JobInProgress, Rolling: true}, ended, false},
		{"continuous", Job{Status: JobInProgress, Selection: Continuous}, ended, false},
		{"not begun", Job{Status: JobScheduled, Targets: make([]Target, 1)}, Counts{}, false},
		{"paused with a target to go", Job{Status: JobInProgress, Targets: make([]Target, 2), RolledOut: 1}, ended, false},
		{"past its end", Job{Status: JobInProgress, Selection: Continuous, EndReached: 1}, ended, true},
		{"past its end, one in progress", Job{Status: JobInProgress, EndReached: 1}, running, false},
		{"past its end, still canceling", Job{Status: JobInProgress, EndReached: 1, Sweeping: true}, ended, false},
		{"completed", Job{Status: JobCompleted}, ended, false},
		{"canceled", Job{Status: JobCanceled}, ended, false},
	} {
		if got := c.job.Finished(c.counts); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestInProgressTimeoutOfAJob(t *testing.T) {
	j := Job{}
	if j.InProgressTimeout() != 0 {
		t.Error("a timeout without timeoutConfig")
	}
	j.Settings.Timeout = &Timeout{InProgress: time.Hour}
	if j.InProgressTimeout() != time.Hour {
		t.Error("another timeout")
	}
}

func TestAttributes(t *testing.T) {
	big := func(n int) Pairs { return MakePairs("a", strings.Repeat("x", n-1)) }
	for _, c := range []struct {
		name  string
		kind  TypeName
		pairs Pairs
		want  string
	}{
		{"three without a type", "", manyPairs(3), ""},
		{"four without a type", "", manyPairs(4), "attributePayload.attributes has 4 attributes; a thing without a thing type may have at most 3"},
		{"fifty with a type", "lamp", manyPairs(50), ""},
		{"fifty-one with a type", "lamp", manyPairs(51), "attributePayload.attributes has 51 attributes; a thing may have at most 50"},
		{"as large as allowed", "", big(47 << 10), ""},
		{"too large", "", big(47<<10 + 1), "attributePayload.attributes takes 48129 bytes; at most 48128 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) { wantInvalid(t, CheckAttributes(c.kind, c.pairs), c.want) })
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 12, 1, 3, 0, 0, 123456789, time.FixedZone("", 3600))
	m := At(at)
	if got := m.Time().Format(time.RFC3339Nano); got != "2026-12-01T02:00:00.123Z" {
		t.Errorf("is %s", got)
	}
	if m.Seconds() != at.Unix() || m.Add(time.Hour).Sub(m) != time.Hour || m.IsZero() || !Time(0).IsZero() {
		t.Error("arithmetic")
	}
}

func TestErrors(t *testing.T) {
	cause := Errorf(NotFound, "no disk")
	err := &Error{Kind: Unavailable, Message: "cannot write", Cause: cause}
	if err.Error() != "cannot write: no disk" || err.Unwrap() != error(cause) || Errorf(Invalid, "%d is odd", 3).Error() != "3 is odd" {
		t.Error("sentences")
	}
	if Throttled.String() != "Throttled" || Kind(200).String() != "Kind(200)" {
		t.Error("names")
	}
	for k := Internal; k <= Unavailable; k++ {
		if k.String() == "" {
			t.Errorf("Kind(%d) has no name", k)
		}
	}
}
