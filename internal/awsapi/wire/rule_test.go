package wire

import (
	"strings"
	"testing"
	"unicode"
)

var (
	word      = Class{Low: [4]uint64{0x7ff200000000000, 0x7fffffe87fffffe, 0x0, 0x0}} // [a-zA-Z0-9:_-]
	noControl = Class{Low: [4]uint64{0xffffffff00000000, 0x7fffffffffffffff, 0xffffdfff00000000, 0xffffffffffffffff}, NotIn: []*unicode.RangeTable{unicode.C}}
	letters   = Class{Low: [4]uint64{0, 0x7fffffe07fffffe, 0x420040000000000, 0xff7fffffff7fffff}, In: []*unicode.RangeTable{unicode.L}}
)

func TestClassMatchesTheWholeValue(t *testing.T) {
	for _, c := range []struct {
		class *Class
		s     string
		want  bool
	}{
		{&word, "abc:_-9", true},
		{&word, "", false},
		{&word, "abc ", false},
		{&word, "abc\n", false},
		{&word, "ab/c", false},
		{&word, "é", false},
		{&word, "ā", false},
		{&word, "\xff", false},
		{&noControl, "a é 😀", true},
		{&noControl, "a\tb", false},
		{&noControl, "a\u0085", false},
		{&noControl, "zero\u200dwidth", false},
		{&noControl, "private \ue000", false},
		{&noControl, "\uFFFD", true},
		{&noControl, "bad \xc3", false},
		{&letters, "éāж", true},
		{&letters, "ж1", false},
		{&letters, "÷", false},
	} {
		if got := c.class.Some(c.s); got != c.want {
			t.Errorf("%q: got %t", c.s, got)
		}
	}
	if !word.Any("") {
		t.Error("Any refuses the empty string")
	}
	version := Regexp(`^[1-9]+.[0-9]+`)
	for s, want := range map[string]bool{"1.0": true, "12.34": true, "1.0x": false, "x1.0": false, "1.0\n": false, "": false} {
		if version(s) != want {
			t.Errorf("version %q: got %t", s, !want)
		}
	}
}

func TestViolationText(t *testing.T) {
	id := StringRule{Min: 1, Max: 4, Pattern: "[a-zA-Z0-9:_-]+", Match: word.Some}
	status := StringRule{Enum: []string{"IN_PROGRESS", "FAILED"}}
	value := StringRule{Min: 1, Pattern: `[^\p{C}]+`, Match: noControl.Some}
	for name, c := range map[string]struct {
		check func(v *Violations)
		want  string
	}{
		"enum": {func(v *Violations) { status.Check(v, "status", "x") },
			"1 validation error detected: Value 'x' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [IN_PROGRESS, FAILED]"},
		"null": {func(v *Violations) { v.Required("status") },
			"1 validation error detected: Value null at 'status' failed to satisfy constraint: Member must not be null"},
		"too long": {func(v *Violations) { id.Check(v, "jobId", "abcde") },
			"1 validation error detected: Value 'abcde' at 'jobId' failed to satisfy constraint: Member must have length less than or equal to 4"},
		"empty": {func(v *Violations) { id.Check(v, "jobId", "") },
			"2 validation errors detected: Value '' at 'jobId' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '' at 'jobId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+"},
		"range": {func(v *Violations) { v.AtMost("maxResults", 251, 250); v.AtLeast("maxResults", 0, 1) },
			"2 validation errors detected: Value '251' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 250; " +
				"Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"double": {func(v *Violations) { v.DoubleAtLeast("incrementFactor", 1, 1.1) },
			"1 validation error detected: Value '1' at 'incrementFactor' failed to satisfy constraint: Member must have value greater than or equal to 1.1"},
		"map keys and values": {func(v *Violations) { CheckMap(v, "statusDetails", Map{{"a b", "x"}, {"c", "y\n"}}, &id, &value) },
			"2 validation errors detected: Value '{a b=x, c=y\n}' at 'statusDetails' failed to satisfy constraint: Map keys must satisfy constraint: " +
				"[Member must have length less than or equal to 4, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+]; " +
				"Value '{a b=x, c=y\n}' at 'statusDetails' failed to satisfy constraint: Map value must satisfy constraint: " +
				`[Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [^\p{C}]+]`},
		"element": {func(v *Violations) { CheckStrings(v, "targets", []string{"a", "b/c"}, &id) },
			"1 validation error detected: Value 'b/c' at 'targets.2.member' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+"},
		"nested": {func(v *Violations) {
			v.Required("startTime")
			v.WithinElem(0, "maintenanceWindows", 1)
			v.Within(0, "schedulingConfig")
		}, "1 validation error detected: Value null at 'schedulingConfig.maintenanceWindows.1.member.startTime' failed to satisfy constraint: Member must not be null"},
		"list": {func(v *Violations) {
			v.CountAtMost("l", 2, 1, func() string { return ShowStrings([]string{"a", "b"}) })
			v.CountAtLeast("m", 0, 1, func() string { return ShowShapes("Tag", 0) })
		}, "2 validation errors detected: Value '[a, b]' at 'l' failed to satisfy constraint: Member must have length less than or equal to 1; " +
			"Value '[]' at 'm' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			var v Violations
			c.check(&v)
			if got := v.Err().Error(); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
	if (Violations)(nil).Err() != nil {
		t.Error("no violations are an error")
	}
}

func TestLengthCountsCharacters(t *testing.T) {
	rule := StringRule{Min: 2, Max: 4}
	for s, want := range map[string]bool{"": false, "é": false, "😀": false, "😀😀": true, "éééé": true, "😀😀😀😀": true, "ééééé": false, "abcde": false} {
		var v Violations
		rule.Check(&v, "m", s)
		if got := v.Err() == nil; got != want || rule.ok(s) != want {
			t.Errorf("%q: got %t", s, got)
		}
	}
}

func TestMessagesStayShort(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	var v Violations
	for range 1000 {
		(&StringRule{Max: 1}).Check(&v, "m", long)
	}
	text := v.Error()
	if len(text) > 20_000 || !strings.HasPrefix(text, "1000 validation errors detected: Value '"+strings.Repeat("é", maxShown)+"...' at") {
		t.Errorf("%d bytes: %.100s", len(text), text)
	}
	if err := (&TypeError{Member: "m", Want: "a string", Value: long}).Error(); len(err) > 1000 {
		t.Errorf("%d bytes", len(err))
	}
}
