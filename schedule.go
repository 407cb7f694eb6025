package muster

import (
	"slices"
	"sort"
	"time"
)

// Scheduling is schedulingConfig. Start and End keep the text they were given as, which is what
// DescribeJob returns.
type Scheduling struct {
	Start       string
	StartAt     Time
	End         string
	EndAt       Time
	EndBehavior string // STOP_ROLLOUT, CANCEL, FORCE_CANCEL; empty without End
	Windows     []Window
}

// A Window is one maintenance window: a cron expression in AWS's dialect and how long it stays open.
type Window struct {
	Start    string
	Duration time.Duration
}

// What happens to a job's executions at its end (state-machine.md §2).
const (
	StopRollout = "STOP_ROLLOUT"
	EndCancel   = "CANCEL"
	EndForce    = "FORCE_CANCEL"
)

// Limits of a schedule (state-machine.md §8).
const (
	MinLeadTime      = 30 * time.Minute // from now to the start, and from the start to the end
	MaxStartYears    = 1
	MaxEndYears      = 2
	MaxWindowMinutes = 1430
	MaxMomentText    = 64
	MaxCronText      = 256
	ScheduledShown   = 7 // window starts that DescribeJob lists
)

// ParseScheduling reads the members of schedulingConfig as they arrived at now. When all are empty
// there is no schedule, which is nil.
func ParseScheduling(start, end, endBehavior string, windows []Window, sel Selection, now Time) (*Scheduling, error) {
	if start == "" && end == "" && endBehavior == "" && len(windows) == 0 {
		return nil, nil
	}
	s := &Scheduling{Start: start, End: end, EndBehavior: endBehavior, Windows: slices.Clone(windows)}
	begins, name := now, "now"
	var err error
	if start != "" {
		const member = "schedulingConfig.startTime"
		if s.StartAt, err = parseMoment(member, start); err != nil {
			return nil, err
		}
		if err = checkMoment(member, start, s.StartAt, now, "now", now, MaxStartYears); err != nil {
			return nil, err
		}
		begins, name = s.StartAt, "schedulingConfig.startTime"
	}
	if end != "" {
		const member = "schedulingConfig.endTime"
		if s.EndAt, err = parseMoment(member, end); err != nil {
			return nil, err
		}
		if err = checkMoment(member, end, s.EndAt, begins, name, now, MaxEndYears); err != nil {
			return nil, err
		}
	}
	switch {
	case endBehavior == "" && end != "":
		s.EndBehavior = StopRollout
	case endBehavior == "":
	case endBehavior != StopRollout && endBehavior != EndCancel && endBehavior != EndForce:
		return nil, Errorf(Invalid, "schedulingConfig.endBehavior is %q; it must be STOP_ROLLOUT, CANCEL or FORCE_CANCEL", endBehavior)
	case end == "":
		return nil, Errorf(Invalid, "schedulingConfig.endBehavior is %s without schedulingConfig.endTime; it must go with an endTime", endBehavior)
	}
	if len(windows) > 0 && sel != Continuous {
		return nil, Errorf(Invalid, "schedulingConfig.maintenanceWindows is given with targetSelection %s; it must go with CONTINUOUS", sel)
	}
	return s, CheckWindows("schedulingConfig.maintenanceWindows", windows)
}

// CheckWindows says whether maintenance windows are well formed; member is where the request has
// them, which is not the same in a job and in a template.
func CheckWindows(member string, windows []Window) error {
	for i, w := range windows {
		at := entry(member, i)
		if n := len(w.Start); n > MaxCronText {
			return Errorf(Invalid, "%s.startTime has %d characters; at most %d are allowed", at, n, MaxCronText)
		}
		if _, err := ParseCron(w.Start); err != nil {
			return Errorf(Invalid, "%s.startTime %s", at, err)
		}
		if err := checkSpan(at+".durationInMinutes", w.Duration, time.Minute, 1, MaxWindowMinutes); err != nil {
			return err
		}
	}
	return nil
}

// momentLayouts: YYYY-MM-DD HH:MM, and what ISO 8601 makes of it. The layouts with seconds also take
// fractions of them.
var momentLayouts = func() (all []string) {
	for _, sep := range []string{" ", "T"} {
		for _, clock := range []string{"15:04", "15:04:05"} {
			for _, zone := range []string{"", "Z07:00", "Z0700", "Z07"} {
				all = append(all, "2006-01-02"+sep+clock+zone)
			}
		}
	}
	return all
}()

func parseMoment(member, text string) (Time, error) {
	if n := len(text); n > MaxMomentText {
		return 0, Errorf(Invalid, "%s has %d characters; at most %d are allowed", member, n, MaxMomentText)
	}
	// Hours of one digit would be read as well; the colon at its place rules them out.
	if len(text) > len("2006-01-02 15") && text[len("2006-01-02 15")] == ':' {
		for _, layout := range momentLayouts {
			if t, err := time.Parse(layout, text); err == nil {
				return At(t), nil
			}
		}
	}
	return 0, Errorf(Invalid, "%s is %q; it must be like 2006-01-02 15:04, in UTC, or like 2006-01-02T15:04:05Z", member, text)
}

// checkMoment: at least 30 minutes after what comes before it, at most some years from now.
func checkMoment(member, text string, t, before Time, beforeName string, now Time, years int) error {
	if t < before.Add(MinLeadTime) {
		return Errorf(Invalid, "%s is %s; it must be at least %d minutes after %s, which is %s", member, text,
			int(MinLeadTime.Minutes()), beforeName, before.Time().Format(time.RFC3339))
	}
	if t > At(now.Time().AddDate(years, 0, 0)) {
		return Errorf(Invalid, "%s is %s; it must be at most %d year%s from now, which is %s", member, text,
			years, map[bool]string{true: "s"}[years > 1], now.Time().Format(time.RFC3339))
	}
	return nil
}

// NextWindows is when maintenance windows open after now, at most n, earliest first: moments from
// the start of the job to before its end. A window that is open already when the job starts opens
// with it.
func (s *Scheduling) NextWindows(now Time, n int) []Time {
	if s == nil {
		return nil
	}
	var all []Time
	if s.StartAt > now && n > 0 {
		if _, _, ok := s.OpenWindow(s.StartAt); ok {
			all = append(all, s.StartAt)
		}
	}
	for _, w := range s.Windows {
		c, err := ParseCron(w.Start)
		if err != nil {
			continue // was checked when it came in
		}
		t, ok := max(now, s.StartAt-1), true
		for range n {
			if t, ok = c.Next(t); !ok || s.ended(t) {
				break
			}
			all = append(all, t)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(n, len(all))]
}

// OpenWindow is the maintenance window that is open at now, of several the one that closes last. It
// does not open before the job starts, and closes when the job ends. By the time it closes another
// may have opened: whoever waits for closes asks again then.
func (s *Scheduling) OpenWindow(now Time) (opened, closes Time, ok bool) {
	if s == nil || now < s.StartAt || s.ended(now) {
		return 0, 0, false
	}
	for _, w := range s.Windows {
		c, err := ParseCron(w.Start)
		if err != nil {
			continue
		}
		t, found := c.latest(now, w.Duration)
		if found && (!ok || t.Add(w.Duration) > closes) {
			opened, closes, ok = t, t.Add(w.Duration), true
		}
	}
	if !ok {
		return 0, 0, false
	}
	if s.EndAt != 0 {
		closes = min(closes, s.EndAt)
	}
	return max(opened, s.StartAt), closes, true
}

// latest is the last minute that c means in the time d up to and with now.
func (c Cron) latest(now Time, d time.Duration) (Time, bool) {
	// The next one after a moment never comes earlier when the moment is moved forward, so the last
	// moment from which it is not yet past now can be searched for.
	from := now.Add(-d)
	past := sort.Search(int(d.Milliseconds()), func(i int) bool {
		t, ok := c.Next(from + Time(i))
		return !ok || t > now
	})
	if past == 0 {
		return 0, false
	}
	return c.Next(from + Time(past) - 1)
}

func (s *Scheduling) ended(t Time) bool { return s.EndAt != 0 && t >= s.EndAt }
