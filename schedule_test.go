package muster

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseScheduling(t *testing.T) {
	now := moment(t, "2026-12-01 03:00")
	sunday := Window{"cron(0 2 ? * SUN *)", 2 * time.Hour}
	const (
		start   = "schedulingConfig.startTime"
		end     = "schedulingConfig.endTime"
		windows = "schedulingConfig.maintenanceWindows"
		form    = "; it must be like 2006-01-02 15:04, in UTC, or like 2006-01-02T15:04:05Z"
		fromNow = " minutes after now, which is 2026-12-01T03:00:00Z"
	)
	for _, c := range []struct {
		name, start, end, behavior string
		windows                    []Window
		sel                        Selection
		want                       string
	}{
		{"start alone", "2026-12-01 03:30", "", "", nil, Snapshot, ""},
		{"start in a year", "2027-12-01 03:00", "", "", nil, Snapshot, ""},
		{"end alone", "", "2026-12-01 03:30", "", nil, Snapshot, ""},
		{"end in two years", "", "2028-12-01 03:00", "", nil, Snapshot, ""},
		{"end half an hour after the start", "2026-12-02 03:00", "2026-12-02 03:30", "FORCE_CANCEL", nil, Snapshot, ""},
		{"windows alone", "", "", "", []Window{sunday, sunday}, Continuous, ""},
		{"everything", "2026-12-02 03:00", "2026-12-31 03:30", "CANCEL", []Window{sunday}, Continuous, ""},
		{"shortest and longest window", "", "", "", []Window{{sunday.Start, time.Minute}, {sunday.Start, 1430 * time.Minute}}, Continuous, ""},

		{"start too soon", "2026-12-01 03:29", "", "", nil, Snapshot, start + " is 2026-12-01 03:29; it must be at least 30" + fromNow},
		{"start in the past", "2026-11-01 03:29", "", "", nil, Snapshot, start + " is 2026-11-01 03:29; it must be at least 30" + fromNow},
		{"start too far", "2027-12-01 03:01", "", "", nil, Snapshot, start + " is 2027-12-01 03:01; it must be at most 1 year from now, which is 2026-12-01T03:00:00Z"},
		{"start is no time", "tomorrow", "", "", nil, Snapshot, start + ` is "tomorrow"` + form},
		{"start is too long", strings.Repeat("2", 65), "", "", nil, Snapshot, start + " has 65 characters; at most 64 are allowed"},
		{"end too soon", "", "2026-12-01 03:29", "", nil, Snapshot, end + " is 2026-12-01 03:29; it must be at least 30" + fromNow},
		{"end too soon after the start", "2026-12-02 03:00", "2026-12-02 03:29", "", nil, Snapshot, end + " is 2026-12-02 03:29; it must be at least 30 minutes after schedulingConfig.startTime, which is 2026-12-02T03:00:00Z"},
		{"end before the start", "2026-12-02 03:00", "2026-12-01 23:00", "", nil, Snapshot, end + " is 2026-12-01 23:00; it must be at least 30 minutes after schedulingConfig.startTime, which is 2026-12-02T03:00:00Z"},
		{"end too far", "", "2028-12-01 03:01", "", nil, Snapshot, end + " is 2028-12-01 03:01; it must be at most 2 years from now, which is 2026-12-01T03:00:00Z"},
		{"end is no time", "", "03:00", "", nil, Snapshot, end + ` is "03:00"` + form},
		{"behavior without end", "2026-12-02 03:00", "", "CANCEL", nil, Snapshot, "schedulingConfig.endBehavior is CANCEL without schedulingConfig.endTime; it must go with an endTime"},
		{"behavior alone", "", "", "STOP_ROLLOUT", nil, Snapshot, "schedulingConfig.endBehavior is STOP_ROLLOUT without schedulingConfig.endTime; it must go with an endTime"},
		{"unknown behavior", "", "2026-12-31 03:00", "STOP", nil, Snapshot, `schedulingConfig.endBehavior is "STOP"; it must be STOP_ROLLOUT, CANCEL or FORCE_CANCEL`},
		{"windows of a snapshot job", "", "", "", []Window{sunday}, Snapshot, windows + " is given with targetSelection SNAPSHOT; it must go with CONTINUOUS"},
		{"window of no time", "", "", "", []Window{sunday, {sunday.Start, 0}}, Continuous, windows + "[1].durationInMinutes is 0; it must be between 1 and 1430"},
		{"window of a whole day", "", "", "", []Window{{sunday.Start, 1440 * time.Minute}}, Continuous, windows + "[0].durationInMinutes is 1440; it must be between 1 and 1430"},
		{"window that is no cron expression", "", "", "", []Window{{"02:00", time.Hour}}, Continuous, windows + `[0].startTime "02:00" is no cron expression; it must be cron(minutes hours day-of-month month day-of-week year)`},
		{"window with a wrong hour", "", "", "", []Window{{"cron(0 25 ? * SUN *)", time.Hour}}, Continuous, windows + `[0].startTime "cron(0 25 ? * SUN *)" cannot be read: hours has "25"; it must be a number between 0 and 23`},
		{"window too long", "", "", "", []Window{{strings.Repeat(" ", 257), time.Hour}}, Continuous, windows + "[0].startTime has 257 characters; at most 256 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseScheduling(c.start, c.end, c.behavior, c.windows, c.sel, now)
			wantInvalid(t, err, c.want)
			if err != nil {
				return
			}
			if s.Start != c.start || s.End != c.end || !slices.Equal(s.Windows, c.windows) {
				t.Errorf("%+v is not what was given", s)
			}
			if wantBehavior := map[bool]string{true: "STOP_ROLLOUT"}[c.end != "" && c.behavior == ""]; s.EndBehavior != c.behavior+wantBehavior {
				t.Errorf("behavior is %q", s.EndBehavior)
			}
		})
	}
	if s, err := ParseScheduling("", "", "", nil, Snapshot, now); s != nil || err != nil {
		t.Errorf("an empty schedule is %v, %v", s, err)
	}
}

func TestMoments(t *testing.T) {
	for text, want := range map[string]string{
		"2026-12-01 03:00":            "2026-12-01T03:00:00Z",
		"2026-12-01T03:00":            "2026-12-01T03:00:00Z",
		"2026-12-01T03:00:05":         "2026-12-01T03:00:05Z",
		"2026-12-01T03:00:05.250":     "2026-12-01T03:00:05.25Z",
		"2026-12-01 03:00:05":         "2026-12-01T03:00:05Z",
		"2026-12-01T03:00Z":           "2026-12-01T03:00:00Z",
		"2026-12-01T03:00:05Z":        "2026-12-01T03:00:05Z",
		"2026-12-01T03:00:05.25Z":     "2026-12-01T03:00:05.25Z",
		"2026-12-01T03:00:05+02:00":   "2026-12-01T01:00:05Z",
		"2026-12-01T03:00-0530":       "2026-12-01T08:30:00Z",
		"2026-12-01T03:00:05.1234+01": "2026-12-01T02:00:05.123Z",
		"":                            "",
		"2026-12-01":                  "",
		"2026-12-01 3:00":             "",
		"2026-12-01 03:0":             "",
		"2026-12-1 03:00":             "",
		"26-12-01 03:00":              "",
		"2026-13-01 03:00":            "",
		"2026-02-30 03:00":            "",
		"2026-12-01 24:00":            "",
		"2026-12-01 03:60":            "",
		"2026-12-01  03:00":           "",
		" 2026-12-01 03:00":           "",
		"2026-12-01 03:00 UTC":        "",
		"2026/12/01 03:00":            "",
		"1796094000":                  "",
	} {
		got, err := parseMoment("startTime", text)
		if (err == nil) != (want != "") || err == nil && got.Time().Format(time.RFC3339Nano) != want {
			t.Errorf("%q is %v, %v; want %q", text, got.Time(), err, want)
		}
	}
}

func TestWindows(t *testing.T) {
	sunday := Window{"cron(0 2 ? * SUN *)", 2 * time.Hour}     // 6th, 13th, … of December 2026
	daily := Window{"cron(0 22 * * ? *)", 10 * time.Hour}      // over midnight
	late := Window{"cron(0 3 ? * SUN *)", 3 * time.Hour}       // overlaps sunday
	over := Window{"cron(0 2 1 1 ? 2020)", 2 * time.Hour}      // never again
	dense := Window{"cron(0/5 * * * ? *)", 1430 * time.Minute} // opens again before it closes
	broken := Window{"cron(what)", 2 * time.Hour}              // cannot come from ParseScheduling
	clock := func(m Time) string { return m.Time().Format("2006-01-02 15:04") }
	for _, c := range []struct {
		name       string
		start, end string
		windows    []Window
		now        string
		open       string // opened, closes
		next       string
	}{
		{"none", "", "", nil, "2026-12-06 02:00", "", ""},
		{"before", "", "", []Window{sunday}, "2026-12-06 01:59", "", "2026-12-06 02:00, 2026-12-13 02:00, 2026-12-20 02:00"},
		{"as it opens", "", "", []Window{sunday}, "2026-12-06 02:00", "2026-12-06 02:00, 2026-12-06 04:00", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"in its last minute", "", "", []Window{sunday}, "2026-12-06 03:59", "2026-12-06 02:00, 2026-12-06 04:00", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"as it closes", "", "", []Window{sunday}, "2026-12-06 04:00", "", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"over midnight", "", "", []Window{daily}, "2026-12-07 07:30", "2026-12-06 22:00, 2026-12-07 08:00", "2026-12-07 22:00, 2026-12-08 22:00, 2026-12-09 22:00"},
		{"two at once", "", "", []Window{late, sunday}, "2026-12-06 03:30", "2026-12-06 03:00, 2026-12-06 06:00", "2026-12-13 02:00, 2026-12-13 03:00, 2026-12-20 02:00"},
		{"two of the same", "", "", []Window{sunday, sunday}, "2026-12-05 00:00", "", "2026-12-06 02:00, 2026-12-13 02:00, 2026-12-20 02:00"},
		{"one that is over", "", "", []Window{over, sunday}, "2026-12-06 02:30", "2026-12-06 02:00, 2026-12-06 04:00", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"one that never comes again", "", "", []Window{over}, "2026-12-06 02:30", "", ""},
		{"open again before it closes", "", "", []Window{dense}, "2026-12-06 02:32", "2026-12-06 02:30, 2026-12-07 02:20", "2026-12-06 02:35, 2026-12-06 02:40, 2026-12-06 02:45"},
		{"one that cannot be read", "", "", []Window{broken, sunday}, "2026-12-06 02:30", "2026-12-06 02:00, 2026-12-06 04:00", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"before the start", "2026-12-10 00:00", "", []Window{sunday}, "2026-12-06 02:30", "", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"start as a window opens", "2026-12-13 02:00", "", []Window{sunday}, "2026-12-06 02:30", "", "2026-12-13 02:00, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"start within a window", "2026-12-13 02:30", "", []Window{sunday}, "2026-12-06 02:30", "", "2026-12-13 02:30, 2026-12-20 02:00, 2026-12-27 02:00"},
		{"started within a window", "2026-12-13 02:30", "", []Window{sunday}, "2026-12-13 02:30", "2026-12-13 02:30, 2026-12-13 04:00", "2026-12-20 02:00, 2026-12-27 02:00, 2027-01-03 02:00"},
		{"end between windows", "", "2026-12-15 00:00", []Window{sunday}, "2026-12-06 02:30", "2026-12-06 02:00, 2026-12-06 04:00", "2026-12-13 02:00"},
		{"end within a window", "", "2026-12-13 03:00", []Window{sunday}, "2026-12-13 02:30", "2026-12-13 02:00, 2026-12-13 03:00", ""},
		{"ended within a window", "", "2026-12-13 03:00", []Window{sunday}, "2026-12-13 03:00", "", ""},
		{"end as a window opens", "", "2026-12-13 02:00", []Window{sunday}, "2026-12-06 05:00", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Scheduling{Windows: c.windows}
			if c.start != "" {
				s.StartAt = moment(t, c.start)
			}
			if c.end != "" {
				s.EndAt = moment(t, c.end)
			}
			now := moment(t, c.now)
			got := ""
			if opened, closes, ok := s.OpenWindow(now); ok {
				got = clock(opened) + ", " + clock(closes)
			}
			if got != c.open {
				t.Errorf("open is %q; want %q", got, c.open)
			}
			var next []string
			for _, m := range s.NextWindows(now, 3) {
				next = append(next, clock(m))
			}
			if got := strings.Join(next, ", "); got != c.next {
				t.Errorf("next are %q; want %q", got, c.next)
			}
			if got := s.NextWindows(now, 0); len(got) != 0 {
				t.Errorf("of none are %v", got)
			}
		})
	}
	var none *Scheduling
	if _, _, ok := none.OpenWindow(1); ok || none.NextWindows(1, 3) != nil {
		t.Error("no schedule has windows")
	}
}

// Whoever lives by OpenWindow and NextWindows sees a window open exactly when going through every
// minute does.
func TestWindowsAgainstEveryMinute(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	for range 60 {
		s := &Scheduling{}
		first := time.Date(2026, time.Month(1+r.Intn(12)), 1+r.Intn(28), 0, 0, 0, 0, time.UTC)
		var open []int // per minute of five days, how many windows are open; from a day before
		const days = 6
		open = make([]int, days*1440+2*1440)
		for range 1 + r.Intn(3) {
			w := Window{fmt.Sprintf("cron(%d %d/%d ? * %d-7 *)", r.Intn(60), r.Intn(12), 1+r.Intn(24), 1+r.Intn(6)), Minutes(1 + r.Int63n(1430))}
			s.Windows = append(s.Windows, w)
			newSlowCron(w.Start).minutes(first.AddDate(0, 0, -1), days, func(m Time) bool {
				at := int(m.Sub(At(first.AddDate(0, 0, -1))) / time.Minute)
				for i := range int(w.Duration / time.Minute) {
					open[at+i]++
				}
				return true
			})
		}
		if r.Intn(2) == 0 {
			s.StartAt = At(first).Add(Minutes(r.Int63n(2 * 1440)))
		}
		if r.Intn(2) == 0 {
			s.EndAt = At(first).Add(Minutes(2*1440 + r.Int63n(2*1440)))
		}
		for minute := 1440; minute < (days-1)*1440; minute += 1 + r.Intn(40) {
			now := At(first.AddDate(0, 0, -1)).Add(Minutes(int64(minute)))
			want := open[minute] > 0 && now >= s.StartAt && (s.EndAt == 0 || now < s.EndAt)
			opened, closes, ok := s.OpenWindow(now)
			if ok != want || ok && (opened > now || closes <= now) {
				t.Fatalf("%+v at %v: open is %v from %v to %v; want %v", s, now.Time(), ok, opened.Time(), closes.Time(), want)
			}
			for _, next := range s.NextWindows(now, 7) {
				if opened, _, ok := s.OpenWindow(next); next <= now || !ok || opened > next {
					t.Fatalf("%+v at %v: next is %v, but none opens then", s, now.Time(), next.Time())
				}
			}
			// Nothing opens unannounced: if it is closed now, it is closed until the first that was told.
			if next := s.NextWindows(now, 1); !ok && len(next) == 1 {
				if _, _, early := s.OpenWindow(next[0] - 1); early && next[0]-1 > now {
					t.Fatalf("%+v at %v: open before %v", s, now.Time(), next[0].Time())
				}
			}
		}
	}
}
