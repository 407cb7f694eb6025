package muster

import (
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"testing"
	"time"
)

func moment(t testing.TB, s string) Time {
	t.Helper()
	m, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return At(m)
}

func TestCronComes(t *testing.T) {
	for _, c := range []struct {
		name, expr, after, want string // want: the moments that follow, separated by commas; "never" ends
	}{
		{"every Sunday at two", "cron(0 2 ? * SUN *)", "2026-12-01 03:00", "2026-12-06 02:00, 2026-12-13 02:00"},
		{"1 is Sunday", "cron(0 2 ? * 1 *)", "2026-12-01 03:00", "2026-12-06 02:00"},
		{"7 is Saturday", "cron(0 2 ? * 7 *)", "2026-12-01 03:00", "2026-12-05 02:00"},
		{"strictly after", "cron(0 2 * * ? *)", "2026-12-06 02:00", "2026-12-07 02:00"},
		{"every quarter of an hour", "cron(0/15 * ? * * *)", "2026-12-31 23:40", "2026-12-31 23:45, 2027-01-01 00:00"},
		{"a step from an odd start", "cron(7/20 10 * * ? *)", "2026-05-05 00:00", "2026-05-05 10:07, 2026-05-05 10:27, 2026-05-05 10:47, 2026-05-06 10:07"},
		{"a step over a range", "cron(0 8-18/4 * * ? *)", "2026-05-05 09:00", "2026-05-05 12:00, 2026-05-05 16:00, 2026-05-06 08:00"},
		{"a step over everything", "cron(0 0 1 */5 ? *)", "2026-05-05 09:00", "2026-06-01 00:00, 2026-11-01 00:00, 2027-01-01 00:00"},
		{"weekdays by name", "cron(15 10 ? * MON-FRI *)", "2026-12-04 10:15", "2026-12-07 10:15"},
		{"names in lower case", "cron(0 0 ? jan,Jul sat *)", "2026-02-01 00:00", "2026-07-04 00:00, 2026-07-11 00:00, 2026-07-18 00:00, 2026-07-25 00:00, 2027-01-02 00:00"},
		{"last day of the month", "cron(0 0 L * ? *)", "2024-01-15 00:00", "2024-01-31 00:00, 2024-02-29 00:00, 2024-03-31 00:00, 2024-04-30 00:00"},
		{"last day of the week", "cron(0 0 ? * L *)", "2026-12-01 00:00", "2026-12-05 00:00, 2026-12-12 00:00"},
		{"last Friday of the month", "cron(0 0 ? * 6L *)", "2026-12-01 00:00", "2026-12-25 00:00, 2027-01-29 00:00, 2027-02-26 00:00"},
		{"last Friday by name", "cron(0 0 ? * FRIL *)", "2026-12-01 00:00", "2026-12-25 00:00"},
		{"second Tuesday", "cron(0 3 ? * 3#2 *)", "2026-12-01 00:00", "2026-12-08 03:00, 2027-01-12 03:00"},
		{"second Tuesday by name", "cron(0 3 ? * TUE#2 *)", "2026-12-01 00:00", "2026-12-08 03:00"},
		{"fifth Monday, when there is one", "cron(0 0 ? * 2#5 *)", "2026-01-01 00:00", "2026-03-30 00:00, 2026-06-29 00:00"},
		{"weekday nearest to the 3rd", "cron(0 0 3W * ? *)", "2026-01-01 00:00", "2026-01-02 00:00, 2026-02-03 00:00, 2026-03-03 00:00, 2026-04-03 00:00, 2026-05-04 00:00"},
		{"1W does not leave the month", "cron(0 0 1W 8 ? *)", "2026-01-01 00:00", "2026-08-03 00:00"},
		{"31W does not leave the month", "cron(0 0 31W 5,6 ? *)", "2026-01-01 00:00", "2026-05-29 00:00, 2027-05-31 00:00"},
		{"last weekday of the month", "cron(0 0 LW 5,2 ? *)", "2026-01-01 00:00", "2026-02-27 00:00, 2026-05-29 00:00"},
		{"leap days", "cron(30 12 29 2 ? *)", "2096-02-29 12:30", "2104-02-29 12:30"},
		{"some years", "cron(0 0 1 1 ? 2027-2028,2030/100)", "2026-01-01 00:00", "2027-01-01 00:00, 2028-01-01 00:00, 2030-01-01 00:00, 2130-01-01 00:00, never"},
		{"a year that is over", "cron(0 0 * * ? 2025)", "2026-01-01 00:00", "never"},
		{"a day that does not exist", "cron(0 0 30 2 ? *)", "2026-01-01 00:00", "never"},
		{"the last minute there is", "cron(* * * * ? *)", "2199-12-31 23:58", "2199-12-31 23:59, never"},
		{"from before the first year", "cron(5 0 ? * * *)", "1950-01-01 00:00", "1970-01-01 00:05"},
		{"leading zeros and more spaces", "cron( 05  08 01  01 ?   2030 )", "2026-01-01 00:00", "2030-01-01 08:05, never"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cron, err := ParseCron(c.expr)
			if err != nil {
				t.Fatal(err)
			}
			at := moment(t, c.after)
			for _, want := range strings.Split(c.want, ", ") {
				next, ok := cron.Next(at)
				got := "never"
				if ok {
					got = next.Time().Format("2006-01-02 15:04")
				}
				if got != want {
					t.Fatalf("after %s comes %s; want %s", at.Time().Format("2006-01-02 15:04"), got, want)
				}
				at = next
			}
		})
	}
}

func TestCronWithinAMinute(t *testing.T) {
	c, _ := ParseCron("cron(* * * * ? *)")
	at := moment(t, "2026-12-01 03:00")
	for _, c2 := range []struct{ after, want Time }{{at - 1, at}, {at, at + 60000}, {at + 1, at + 60000}, {at + 59999, at + 60000}} {
		if got, _ := c.Next(c2.after); got != c2.want {
			t.Errorf("after %d comes %d; want %d", c2.after, got, c2.want)
		}
	}
	for _, far := range []Time{-1 << 63, 1<<63 - 1, 1<<63 - 60000} {
		if next, ok := c.Next(far); ok && (far > 0 || next != 0) {
			t.Errorf("after %d comes %d", far, next)
		}
	}
	if _, ok := (Cron{}).Next(at); ok {
		t.Error("the zero Cron comes")
	}
}

func TestCronRefused(t *testing.T) {
	for _, c := range []struct{ name, expr, want string }{
		{"nothing", "", "is no cron expression"},
		{"no wrapping", "0 2 ? * SUN *", "is no cron expression"},
		{"a rate", "rate(5 minutes)", "is no cron expression"},
		{"not closed", "cron(0 2 ? * SUN *", "is no cron expression"},
		{"five fields", "cron(0 2 ? * SUN)", "has 5 fields"},
		{"seven fields", "cron(0 0 2 ? * SUN *)", "has 7 fields"},
		{"minute 60", "cron(60 2 ? * SUN *)", `minutes has "60"; it must be a number between 0 and 59`},
		{"hour 24", "cron(0 24 ? * SUN *)", `hours has "24"`},
		{"day 0", "cron(0 2 0 * ? *)", `day-of-month has "0"`},
		{"day 32", "cron(0 2 32 * ? *)", `day-of-month has "32"`},
		{"month 13", "cron(0 2 1 13 ? *)", `month has "13"; it must be a number between 1 and 12 or one of JAN to DEC`},
		{"day of week 0", "cron(0 2 ? * 0 *)", `day-of-week has "0"; it must be a number between 1 and 7 or one of SUN to SAT`},
		{"day of week 8", "cron(0 2 ? * 8 *)", `day-of-week has "8"`},
		{"year 1969", "cron(0 2 ? * * 1969)", `year has "1969"`},
		{"year 2200", "cron(0 2 ? * * 2200)", `year has "2200"`},
		{"both days", "cron(0 2 1 * SUN *)", "exactly one of them must be ?"},
		{"two stars", "cron(0 2 * * * *)", "exactly one of them must be ?"},
		{"no day", "cron(0 2 ? * ? *)", "exactly one of them must be ?"},
		{"question mark elsewhere", "cron(? 2 * * ? *)", `minutes has "?"`},
		{"question mark in a list", "cron(0 2 1,? * SUN *)", "exactly one of them must be ?"},
		{"step of days of the week", "cron(0 2 ? * 2/2 *)", "/ cannot be used there"},
		{"step of nothing", "cron(0/0 2 ? * * *)", "behind / there must be a number between 1 and 60"},
		{"step too wide", "cron(0/61 2 ? * * *)", "behind / there must be a number between 1 and 60"},
		{"empty step", "cron(0/ 2 ? * * *)", "behind / there must be a number"},
		{"two steps", "cron(0/2/3 2 ? * * *)", "behind / there must be a number"},
		{"backwards", "cron(30-10 2 ? * * *)", "a range must not run backwards"},
		{"half a range", "cron(10- 2 ? * * *)", `minutes has ""`},
		{"two ranges in one", "cron(1-2-3 2 ? * * *)", `minutes has "2-3"`},
		{"empty entry", "cron(1,,2 2 ? * * *)", `minutes has ""`},
		{"sign", "cron(+1 2 ? * * *)", `minutes has "+1"`},
		{"huge", "cron(99999999999999999999 2 ? * * *)", `minutes has "99999999999999999999"`},
		{"two nth", "cron(0 2 ? * 3#1,6#3 *)", "behind # there must be a number between 1 and 5, and nothing else"},
		{"nth in a list", "cron(0 2 ? * 1,3#1 *)", `day-of-week has "1,3"`},
		{"sixth", "cron(0 2 ? * 3#6 *)", "behind # there must be a number between 1 and 5"},
		{"nth of nothing", "cron(0 2 ? * #2 *)", `day-of-week has ""`},
		{"nth day of month", "cron(0 2 3#2 * ? *)", `day-of-month has "3#2"`},
		{"before the last", "cron(0 2 L-3 * ? *)", `day-of-month has "L"`},
		{"last in a list", "cron(0 2 1,L * ? *)", `day-of-month has "L"`},
		{"nearest in a list", "cron(0 2 1,15W * ? *)", `day-of-month has "1,15"`},
		{"nearest to nothing", "cron(0 2 W * ? *)", `day-of-month has ""`},
		{"nearest to the 32nd", "cron(0 2 32W * ? *)", `day-of-month has "32"`},
		{"last hour", "cron(0 L ? * * *)", `hours has "L"`},
		{"name in the wrong place", "cron(0 2 ? SUN * *)", `month has "SUN"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseCron(c.expr)
			if err == nil {
				t.Fatalf("%s was accepted", c.expr)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q; want it to say %q", err, c.want)
			}
		})
	}
}

// slowCron says minute by minute whether an expression means it, straight from the text and in other
// ways than Cron does.
type slowCron struct{ fields []string }

var slowNames = strings.NewReplacer("SUN", "1", "MON", "2", "TUE", "3", "WED", "4", "THU", "5", "FRI", "6", "SAT", "7",
	"JAN", "1", "FEB", "2", "MAR", "3", "APR", "4", "MAY", "5", "JUN", "6", "JUL", "7", "AUG", "8", "SEP", "9", "OCT", "10", "NOV", "11", "DEC", "12")

func newSlowCron(expr string) slowCron {
	return slowCron{strings.Fields(slowNames.Replace(strings.TrimSuffix(strings.TrimPrefix(expr, "cron("), ")")))}
}

func (s slowCron) has(field, v, first, last int) bool {
	for _, item := range strings.Split(s.fields[field], ",") {
		number := func(s string) int { n, _ := strconv.Atoi(s); return n }
		span, step, stepped := strings.Cut(item, "/")
		from, to, ranged := strings.Cut(span, "-")
		lo, hi, by := number(from), number(to), 1
		if from == "*" {
			lo, hi = first, last
		} else if !ranged {
			if hi = lo; stepped {
				hi = last
			}
		}
		if stepped {
			by = number(step)
		}
		if v >= lo && v <= hi && (v-lo)%by == 0 {
			return true
		}
	}
	return false
}

func (s slowCron) day(t time.Time) bool {
	if !s.has(5, t.Year(), 1970, 2199) || !s.has(3, int(t.Month()), 1, 12) {
		return false
	}
	var month []time.Time // the days of t's month
	for d := t.AddDate(0, 0, 1-t.Day()); d.Month() == t.Month(); d = d.AddDate(0, 0, 1) {
		month = append(month, d)
	}
	working := func(d time.Time) bool { return d.Weekday() != time.Saturday && d.Weekday() != time.Sunday }
	dom, dow := s.fields[2], s.fields[4]
	weekday := int(t.Weekday()) + 1
	switch {
	case dow == "?" && dom == "L":
		return t.Day() == len(month)
	case dow == "?" && strings.HasSuffix(dom, "W"):
		day := len(month)
		if dom != "LW" {
			day, _ = strconv.Atoi(strings.TrimSuffix(dom, "W"))
		}
		if day > len(month) {
			return false
		}
		best := time.Time{}
		far := func(d time.Time) int { return max(d.Day()-day, day-d.Day()) }
		for _, d := range month {
			if working(d) && (best.IsZero() || far(d) < far(best)) {
				best = d
			}
		}
		return t.Day() == best.Day()
	case dow == "?":
		return s.has(2, t.Day(), 1, 31)
	case dow == "L":
		return t.Weekday() == time.Saturday
	case strings.HasSuffix(dow, "L"):
		n, _ := strconv.Atoi(strings.TrimSuffix(dow, "L"))
		return weekday == n && t.AddDate(0, 0, 7).Month() != t.Month()
	case strings.Contains(dow, "#"):
		d, nth, _ := strings.Cut(dow, "#")
		seen := 0
		for _, other := range month {
			if other.Weekday() == t.Weekday() && !other.After(t) {
				seen++
			}
		}
		return strconv.Itoa(weekday) == d && strconv.Itoa(seen) == nth
	}
	return s.has(4, weekday, 1, 7)
}

// minutes calls yield with every minute of the days from first on that s means.
func (s slowCron) minutes(first time.Time, days int, yield func(Time) bool) {
	for day := range days {
		date := first.AddDate(0, 0, day)
		if !s.day(date) {
			continue
		}
		for minute := range 24 * 60 {
			if s.has(1, minute/60, 0, 23) && s.has(0, minute%60, 0, 59) && !yield(At(date.Add(time.Duration(minute)*time.Minute))) {
				return
			}
		}
	}
}

// randomCron makes an expression that is well formed.
func randomCron(r *rand.Rand) string {
	field := func(lo, hi, size int, steps bool) string {
		var items []string
		for range 1 + r.Intn(3) {
			a, b := lo+r.Intn(hi-lo+1), lo+r.Intn(hi-lo+1)
			item := [...]string{"*", strconv.Itoa(a), strconv.Itoa(a), fmt.Sprintf("%d-%d", min(a, b), max(a, b))}[r.Intn(4)]
			if steps && r.Intn(3) == 0 {
				item += fmt.Sprintf("/%d", 1+r.Intn(size))
			}
			items = append(items, item)
		}
		return strings.Join(items, ",")
	}
	names := func(s, all string) string { // some expressions speak in names
		if r.Intn(2) == 0 || strings.ContainsAny(s, "/") {
			return s
		}
		list := strings.Fields(all)
		return strings.Join(mapFields(s, func(n int) string { return list[n-1] }), "")
	}
	dom, dow := "?", "?"
	switch r.Intn(9) {
	case 0:
		dom = "L"
	case 1:
		dom = "LW"
	case 2, 3:
		dom = fmt.Sprintf("%dW", 1+r.Intn(31))
	case 4:
		dow = "L"
	case 5:
		dow = fmt.Sprintf("%dL", 1+r.Intn(7))
	case 6:
		dow = fmt.Sprintf("%d#%d", 1+r.Intn(7), 1+r.Intn(5))
	case 7:
		dom = field(1, 31, 31, true)
	default:
		dow = names(field(1, 7, 7, false), "SUN MON TUE WED THU FRI SAT")
	}
	month := names(field(1, 12, 12, true), "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
	if r.Intn(2) == 0 {
		month = "*"
	}
	year := "*"
	if r.Intn(3) == 0 {
		year = field(2024, 2032, 4, true)
	}
	return fmt.Sprintf("cron(%s %s %s %s %s %s)", field(0, 59, 60, true), field(0, 23, 24, true), dom, month, dow, year)
}

// mapFields splits s into numbers and what is between them, the numbers mapped.
func mapFields(s string, number func(int) string) (out []string) {
	for len(s) > 0 {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		if n == 0 {
			out, s = append(out, s[:1]), s[1:]
			continue
		}
		v, _ := strconv.Atoi(s[:n])
		out, s = append(out, number(v)), s[n:]
	}
	return out
}

// Next finds exactly the minutes that looking at each one finds.
func TestCronAgainstEveryMinute(t *testing.T) {
	r := rand.New(rand.NewSource(42))
	const days = 500
	for range 150 {
		expr := randomCron(r)
		cron, err := ParseCron(expr)
		if err != nil {
			t.Fatal(err)
		}
		first := time.Date(2024+r.Intn(8), time.Month(1+r.Intn(12)), 1+r.Intn(28), 0, 0, 0, 0, time.UTC)
		at, found := At(first)-1, 0
		newSlowCron(expr).minutes(first, days, func(want Time) bool {
			got, ok := cron.Next(at)
			if !ok || got != want {
				t.Fatalf("%s: after %v comes %v, %v; want %v", expr, at.Time(), got.Time(), ok, want.Time())
			}
			// From anywhere in between the answer is the same.
			if mid := at + Time(r.Int63n(int64(want-at))); r.Intn(8) == 0 {
				if got, _ := cron.Next(mid); got != want {
					t.Fatalf("%s: after %v comes %v; want %v", expr, mid.Time(), got.Time(), want.Time())
				}
			}
			at = want
			found++
			return found < 3000
		})
		if end := At(first.AddDate(0, 0, days)); found < 3000 {
			if got, ok := cron.Next(at); ok && got < end {
				t.Fatalf("%s: after %v comes %v, which is none", expr, at.Time(), got.Time())
			}
		}
	}
}

func FuzzCron(f *testing.F) {
	for _, s := range []string{"cron(0 2 ? * SUN *)", "cron(0/15 8-18 LW JAN-MAR,12 ? 2026/3)", "cron(* * ? * 3#2 *)", "cron(0 0 31W * ? *)", "cron(? ? ? ? ? ?)", "cron(", "cron(0 0 ? * ıL *)"} {
		f.Add(s, int64(1764558000000))
	}
	f.Fuzz(func(t *testing.T, expr string, after int64) {
		c, err := ParseCron(expr)
		if err != nil {
			if c != (Cron{}) {
				t.Error("a refused expression left something")
			}
			return
		}
		next, ok := c.Next(Time(after))
		if !ok {
			return
		}
		if next <= Time(after) || next%60000 != 0 {
			t.Errorf("%s: after %d comes %d", expr, after, next)
		}
		// The moment before it has the same answer, so nothing was stepped over by starting early.
		if again, ok := c.Next(next - 1); !ok || again != next {
			t.Errorf("%s: after %d comes %d, not %d", expr, next-1, again, next)
		}
	})
}

func BenchmarkCronParseAndNext(b *testing.B) {
	at := moment(b, "2026-12-01 03:00")
	for b.Loop() {
		c, _ := ParseCron("cron(0 2 ? * SUN *)")
		c.Next(at)
	}
}
