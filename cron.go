package muster

import (
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Years a cron expression can name.
const (
	minCronYear = 1970
	maxCronYear = 2199
)

// A Cron is a cron expression in AWS's dialect, read: the minutes, in UTC, at which something begins
// (state-machine.md §8). The zero Cron never comes.
type Cron struct {
	minutes uint64
	hours   uint64
	months  uint64
	years   [4]uint64 // bit n: minCronYear + n

	// Days: the rule says which of the fields counts.
	rule dayRule
	days uint64 // days of the month 1..31, or days of the week 1..7, 1 = SUN
	nth  int    // with ruleNthWeekday
}

// A dayRule says which days of a month an expression means.
type dayRule uint8

const (
	ruleMonthDays      dayRule = iota // days of the month
	ruleLastDay                       // L: the last day of the month
	ruleLastWorkday                   // LW: the last Monday to Friday of the month
	ruleNearestWorkday                // 15W: the Monday to Friday nearest to it, within the month
	ruleWeekDays                      // days of the week
	ruleLastWeekday                   // 6L: the last Friday of the month
	ruleNthWeekday                    // 3#2: the second Tuesday of the month
)

// A cronField is what may stand in one of the six places.
type cronField struct {
	name     string
	min, max int
	steps    bool // a/n is allowed
	names    []string
}

var (
	cronMinutes = cronField{name: "minutes", min: 0, max: 59, steps: true}
	cronHours   = cronField{name: "hours", min: 0, max: 23, steps: true}
	cronDays    = cronField{name: "day-of-month", min: 1, max: 31, steps: true}
	cronMonths  = cronField{name: "month", min: 1, max: 12, steps: true,
		names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}}
	cronWeekDays = cronField{name: "day-of-week", min: 1, max: 7,
		names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}}
	cronYears = cronField{name: "year", min: minCronYear, max: maxCronYear, steps: true}
)

// ParseCron reads cron(minutes hours day-of-month month day-of-week year). Names of months and days
// may be in either case.
func ParseCron(expr string) (Cron, error) {
	var c Cron
	inner, ok := strings.CutPrefix(expr, "cron(")
	if ok {
		inner, ok = strings.CutSuffix(inner, ")")
	}
	if !ok {
		return Cron{}, Errorf(Invalid, "%q is no cron expression; it must be cron(minutes hours day-of-month month day-of-week year)", expr)
	}
	f := strings.FieldsFunc(strings.ToUpper(inner), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(f) != 6 {
		return Cron{}, Errorf(Invalid, "%q has %d fields; it must have six: cron(minutes hours day-of-month month day-of-week year)", expr, len(f))
	}
	err := c.read(f)
	if err != nil {
		return Cron{}, Errorf(Invalid, "%q cannot be read: %s", expr, err)
	}
	return c, nil
}

// read fills c from the six fields.
func (c *Cron) read(f []string) (err error) {
	if c.minutes, err = cronMinutes.set(f[0]); err != nil {
		return err
	}
	if c.hours, err = cronHours.set(f[1]); err != nil {
		return err
	}
	if c.months, err = cronMonths.set(f[3]); err != nil {
		return err
	}
	if (f[2] == "?") == (f[4] == "?") {
		return Errorf(Invalid, "day-of-month is %s and day-of-week is %s; exactly one of them must be ?", f[2], f[4])
	}
	if f[4] == "?" {
		err = c.readMonthDays(f[2])
	} else {
		err = c.readWeekDays(f[4])
	}
	if err != nil {
		return err
	}
	return cronYears.each(f[5], func(v int) { c.years[(v-minCronYear)/64] |= 1 << ((v - minCronYear) % 64) })
}

func (c *Cron) readMonthDays(s string) (err error) {
	switch {
	case s == "L":
		c.rule = ruleLastDay
	case s == "LW":
		c.rule = ruleLastWorkday
	case strings.HasSuffix(s, "W"):
		// W goes with a single day: in a list it would not be clear to what it belongs.
		day, err := cronDays.value(strings.TrimSuffix(s, "W"))
		if err != nil {
			return err
		}
		c.rule, c.days = ruleNearestWorkday, 1<<day
	default:
		c.rule = ruleMonthDays
		c.days, err = cronDays.set(s)
	}
	return err
}

func (c *Cron) readWeekDays(s string) (err error) {
	day, nth, isNth := strings.Cut(s, "#")
	switch {
	case s == "L": // the last day of the week
		c.rule, c.days = ruleWeekDays, 1<<7
	case isNth:
		// "Only one # expression": a list fails here, because it is no number.
		d, err := cronWeekDays.value(day)
		if err != nil {
			return err
		}
		if len(nth) != 1 || nth[0] < '1' || nth[0] > '5' {
			return Errorf(Invalid, "day-of-week is %s; behind # there must be a number between 1 and 5, and nothing else", s)
		}
		c.rule, c.days, c.nth = ruleNthWeekday, 1<<d, int(nth[0]-'0')
	case strings.HasSuffix(s, "L"):
		d, err := cronWeekDays.value(strings.TrimSuffix(s, "L"))
		if err != nil {
			return err
		}
		c.rule, c.days = ruleLastWeekday, 1<<d
	default:
		c.rule = ruleWeekDays
		c.days, err = cronWeekDays.set(s)
	}
	return err
}

// set reads a field whose values fit into 64 bits.
func (f *cronField) set(s string) (set uint64, err error) {
	err = f.each(s, func(v int) { set |= 1 << v })
	return set, err
}

// each calls add with every value that a list of *, a, a-b, each with or without /n, stands for.
func (f *cronField) each(s string, add func(v int)) error {
	for _, item := range strings.Split(s, ",") {
		span, step, stepped := strings.Cut(item, "/")
		by := 1
		if stepped {
			if !f.steps {
				return Errorf(Invalid, "%s is %s; / cannot be used there", f.name, s)
			}
			n, ok := cronNumber(step)
			if size := f.max - f.min + 1; !ok || n < 1 || n > size {
				return Errorf(Invalid, "%s is %s; behind / there must be a number between 1 and %d", f.name, s, size)
			}
			by = n
		}
		lo, hi := f.min, f.max
		if span != "*" {
			first, last, ranged := strings.Cut(span, "-")
			var err error
			if lo, err = f.value(first); err != nil {
				return err
			}
			switch {
			case ranged:
				if hi, err = f.value(last); err != nil {
					return err
				}
				if hi < lo {
					return Errorf(Invalid, "%s is %s; a range must not run backwards", f.name, s)
				}
			case !stepped:
				hi = lo
			}
		}
		for v := lo; v <= hi; v += by {
			add(v)
		}
	}
	return nil
}

// value reads one number or name.
func (f *cronField) value(s string) (int, error) {
	for i, name := range f.names {
		if s == name {
			return f.min + i, nil
		}
	}
	v, ok := cronNumber(s)
	if !ok || v < f.min || v > f.max {
		names := ""
		if f.names != nil {
			names = " or one of " + f.names[0] + " to " + f.names[len(f.names)-1]
		}
		return 0, Errorf(Invalid, "%s has %q; it must be a number between %d and %d%s", f.name, s, f.min, f.max, names)
	}
	return v, nil
}

// cronNumber reads one to four digits.
func cronNumber(s string) (int, bool) {
	if s == "" || len(s) > 4 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// Next is the first minute strictly after a moment that c means; ok is false when there is none
// before the year 2200.
func (c Cron) Next(after Time) (next Time, ok bool) {
	// Clamped first, so that no moment, however far, leaves the years the arithmetic is made for.
	from := time.Date(minCronYear, 1, 1, 0, 0, 0, 0, time.UTC)
	if after >= At(time.Date(maxCronYear+1, 1, 1, 0, 0, 0, 0, time.UTC)) {
		return 0, false
	}
	if after >= At(from) {
		from = after.Time().Truncate(time.Minute).Add(time.Minute)
	}
	year, month, day := from.Date()
	hour, minute := from.Hour(), from.Minute()
	for y := year; y <= maxCronYear; y++ {
		if n := y - minCronYear; c.years[n/64]&(1<<(n%64)) == 0 {
			month, day, hour, minute = 1, 1, 0, 0
			continue
		}
		for m := month; m <= 12; m++ {
			if c.months&(1<<m) != 0 {
				for days := c.daysOf(y, m) >> day << day; days != 0; days &= days - 1 {
					d := bits.TrailingZeros64(days)
					if d != day {
						hour, minute = 0, 0
					}
					if h, mi, ok := c.timeOf(hour, minute); ok {
						return At(time.Date(y, m, d, h, mi, 0, 0, time.UTC)), true
					}
				}
			}
			day, hour, minute = 1, 0, 0
		}
		month = 1
	}
	return 0, false
}

// timeOf is the first time of a day that is not before hour and minute.
func (c Cron) timeOf(hour, minute int) (h, m int, ok bool) {
	for hours := c.hours >> hour << hour; hours != 0; hours &= hours - 1 {
		h = bits.TrailingZeros64(hours)
		if h != hour {
			minute = 0
		}
		if minutes := c.minutes >> minute << minute; minutes != 0 {
			return h, bits.TrailingZeros64(minutes), true
		}
	}
	return 0, 0, false
}

// daysOf is the set of days of a month that c means.
func (c Cron) daysOf(y int, m time.Month) uint64 {
	last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
	first := int(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC).Weekday()) // 0 = Sunday
	month := uint64(1)<<(last+1) - 2
	weekday := func(day int) int { return (first + day - 1) % 7 } // 0 = Sunday

	switch c.rule {
	case ruleMonthDays:
		return c.days & month
	case ruleLastDay:
		return 1 << last
	case ruleLastWorkday:
		return 1 << nearestWorkday(last, last, weekday)
	case ruleNearestWorkday:
		if c.days&month == 0 { // a month without a 31st has none near it, either
			return 0
		}
		return 1 << nearestWorkday(bits.TrailingZeros64(c.days), last, weekday)
	}
	var set uint64
	for day := 1; day <= last; day++ {
		if c.days&(2<<weekday(day)) == 0 {
			continue
		}
		switch c.rule {
		case ruleWeekDays:
			set |= 1 << day
		case ruleLastWeekday:
			set = 1 << day
		case ruleNthWeekday:
			if (day+6)/7 == c.nth {
				set = 1 << day
			}
		}
	}
	return set
}

// nearestWorkday is the Monday to Friday nearest to a day, without leaving its month.
func nearestWorkday(day, last int, weekday func(int) int) int {
	switch weekday(day) {
	case 6: // Saturday
		if day == 1 {
			return 3
		}
		return day - 1
	case 0: // Sunday
		if day == last {
			return day - 2
		}
		return day + 1
	}
	return day
}
