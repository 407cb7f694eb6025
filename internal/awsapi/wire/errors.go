package wire

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// SyntaxError says that a body is not JSON at all.
type SyntaxError struct {
	Offset int    // byte at which reading stopped
	Reason string // what was wrong there
}

func (e *SyntaxError) Error() string {
	return "The request body is not valid JSON: " + e.Reason + " at byte " + strconv.Itoa(e.Offset)
}

// TypeError says that a value is of the wrong kind: a number where a string
// belongs, a body that is no object, a query parameter that is no integer.
type TypeError struct {
	Member string // path of the member, "" for the body itself
	Want   string // "a string", "an integer", "true or false", ...
	Value  string // what came, as written; "an object" or "an array" for those
}

func (e *TypeError) Error() string {
	if e.Member == "" {
		return "The request body must be " + e.Want
	}
	return "Value '" + cut(e.Value) + "' at '" + cut(e.Member) + "' must be " + e.Want
}

// Violation is one broken constraint of the model.
type Violation struct {
	Value  string // as shown to the client
	Null   bool   // the value is absent; Value is not used
	Member string // path, for instance criteriaList.1.member.action
	Rule   string // "Member must ..."
}

// String returns the sentence AWS writes for v.
func (v Violation) String() string {
	value := "null"
	if !v.Null {
		value = "'" + cut(v.Value) + "'"
	}
	return "Value " + value + " at '" + cut(v.Member) + "' failed to satisfy constraint: " + v.Rule
}

// Violations are all the broken constraints of one request, in model order.
type Violations []Violation

// Error returns AWS's text, for instance "1 validation error detected: Value
// 'x' at 'status' failed to satisfy constraint: Member must ...".
func (v Violations) Error() string {
	var s strings.Builder
	s.WriteString(strconv.Itoa(len(v)))
	if len(v) == 1 {
		s.WriteString(" validation error detected: ")
	} else {
		s.WriteString(" validation errors detected: ")
	}
	for i := range v {
		if i > 0 {
			s.WriteString("; ")
		}
		// A body can hold thousands of bad elements; the count is told, the
		// rest would only make the answer larger than the request.
		if i == maxListed {
			s.WriteString("...")
			break
		}
		s.WriteString(v[i].String())
	}
	return s.String()
}

const (
	maxShown  = 256 // characters of a value that a message repeats
	maxListed = 20  // violations that a message spells out
)

// cut shortens s to what a message shows, on a character boundary.
func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	n := 0
	for i := range s {
		if n == maxShown {
			return s[:i] + "..."
		}
		n++
	}
	return s
}

// clip bounds a value kept for a message, so that an error does not hold or
// copy a large body. It keeps more bytes than cut shows characters.
func clip(s string) string {
	const most = maxShown*utf8.UTFMax + 1
	if len(s) <= most {
		return s
	}
	end := most
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.Clone(s[:end])
}
