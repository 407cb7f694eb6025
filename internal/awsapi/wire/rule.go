package wire

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// StringRule is what the model asks of a string. Zero members ask nothing.
type StringRule struct {
	Min, Max int      // in Unicode code points
	Pattern  string   // as the model spells it, for messages
	Match    Match    // holds for a whole value of that pattern
	Enum     []string // in model order
}

// Check adds to v what s, the value of member, breaks.
func (c *StringRule) Check(v *Violations, member, s string) {
	// The number of bytes bounds the number of characters, so counting is
	// needed only near or past a limit.
	if c.Max > 0 && len(s) > c.Max && utf8.RuneCountInString(s) > c.Max {
		v.add(member, s, c.most())
	}
	if c.Min > 0 && len(s) < c.Min*utf8.UTFMax && utf8.RuneCountInString(s) < c.Min {
		v.add(member, s, c.least())
	}
	if c.Match != nil && !c.Match(s) {
		v.add(member, s, c.pattern())
	}
	if c.Enum != nil && !c.inEnum(s) {
		v.add(member, s, c.enum())
	}
}

// ok reports whether s breaks nothing.
func (c *StringRule) ok(s string) bool {
	if c.Max > 0 && len(s) > c.Max && utf8.RuneCountInString(s) > c.Max {
		return false
	}
	if c.Min > 0 && len(s) < c.Min*utf8.UTFMax && utf8.RuneCountInString(s) < c.Min {
		return false
	}
	return (c.Match == nil || c.Match(s)) && (c.Enum == nil || c.inEnum(s))
}

func (c *StringRule) inEnum(s string) bool {
	for _, e := range c.Enum {
		if e == s {
			return true
		}
	}
	return false
}

func (c *StringRule) most() string {
	return "Member must have length less than or equal to " + strconv.Itoa(c.Max)
}

func (c *StringRule) least() string {
	return "Member must have length greater than or equal to " + strconv.Itoa(c.Min)
}

func (c *StringRule) pattern() string {
	return "Member must satisfy regular expression pattern: " + c.Pattern
}

func (c *StringRule) enum() string {
	return "Member must satisfy enum value set: [" + strings.Join(c.Enum, ", ") + "]"
}

// all lists every rule of c: of a map AWS tells all the rules of its keys or
// values, not which one was broken.
func (c *StringRule) all() string {
	var rules []string
	if c.Max > 0 {
		rules = append(rules, c.most())
	}
	if c.Min > 0 {
		rules = append(rules, c.least())
	}
	if c.Match != nil {
		rules = append(rules, c.pattern())
	}
	if c.Enum != nil {
		rules = append(rules, c.enum())
	}
	return strings.Join(rules, ", ")
}

// CheckMap adds to v what the keys and values of m break. A rule may be nil.
func CheckMap(v *Violations, member string, m Map, key, value *StringRule) {
	badKey, badValue := false, false
	for i := range m {
		badKey = badKey || key != nil && !key.ok(m[i].Key)
		badValue = badValue || value != nil && !value.ok(m[i].Value)
	}
	if badKey {
		v.add(member, m.String(), "Map keys must satisfy constraint: ["+key.all()+"]")
	}
	if badValue {
		v.add(member, m.String(), "Map value must satisfy constraint: ["+value.all()+"]")
	}
}

// CheckKeys adds to v what the keys of a map of structures break.
func CheckKeys[V any](v *Violations, member string, m map[string]V, key *StringRule) {
	for k := range m {
		if !key.ok(k) {
			v.add(member, ShowStrings(slices.Sorted(maps.Keys(m))), "Map keys must satisfy constraint: ["+key.all()+"]")
			return
		}
	}
}

// CheckStrings adds to v what the elements of list break.
func CheckStrings(v *Violations, member string, list []string, rule *StringRule) {
	for i, s := range list {
		if !rule.ok(s) {
			rule.Check(v, elementPath(member, i+1), s)
		}
	}
}

// Required says that member is absent although it must not be.
func (v *Violations) Required(member string) {
	*v = append(*v, Violation{Null: true, Member: member, Rule: "Member must not be null"})
}

// AtLeast checks the lower bound of an integer.
func (v *Violations) AtLeast(member string, n, least int64) {
	if n < least {
		v.add(member, strconv.FormatInt(n, 10), "Member must have value greater than or equal to "+strconv.FormatInt(least, 10))
	}
}

// AtMost checks the upper bound of an integer.
func (v *Violations) AtMost(member string, n, most int64) {
	if n > most {
		v.add(member, strconv.FormatInt(n, 10), "Member must have value less than or equal to "+strconv.FormatInt(most, 10))
	}
}

// DoubleAtLeast checks the lower bound of a double.
func (v *Violations) DoubleAtLeast(member string, f, least float64) {
	if f < least {
		v.add(member, formatDouble(f), "Member must have value greater than or equal to "+formatDouble(least))
	}
}

// DoubleAtMost checks the upper bound of a double.
func (v *Violations) DoubleAtMost(member string, f, most float64) {
	if f > most {
		v.add(member, formatDouble(f), "Member must have value less than or equal to "+formatDouble(most))
	}
}

func formatDouble(f float64) string { return string(AppendDouble(nil, f)) }

// CountAtLeast checks the lower bound of the length of a list or map. show
// renders it for the message.
func (v *Violations) CountAtLeast(member string, n, least int, show func() string) {
	if n < least {
		v.add(member, show(), "Member must have length greater than or equal to "+strconv.Itoa(least))
	}
}

// CountAtMost checks the upper bound, as CountAtLeast does the lower.
func (v *Violations) CountAtMost(member string, n, most int, show func() string) {
	if n > most {
		v.add(member, show(), "Member must have length less than or equal to "+strconv.Itoa(most))
	}
}

// ShowStrings renders a list as AWS's messages do: [a, b].
func ShowStrings(list []string) string {
	// A message shows only the beginning.
	if len(list) > maxShown {
		list = list[:maxShown]
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// ShowShapes renders a list of n structures of the named shape.
func ShowShapes(shape string, n int) string {
	if n > maxShown {
		n = maxShown
	}
	return "[" + strings.TrimSuffix(strings.Repeat(shape+", ", n), ", ") + "]"
}

// Within puts member before the path of every violation from the n-th on,
// those found inside its value.
func (v *Violations) Within(n int, member string) {
	for i := n; i < len(*v); i++ {
		(*v)[i].Member = member + "." + (*v)[i].Member
	}
}

// WithinElem is Within for the i-th element, counted from 1, of list member.
func (v *Violations) WithinElem(n int, member string, i int) {
	if n < len(*v) {
		v.Within(n, elementPath(member, i))
	}
}

// Err returns v as an error, nil if there is nothing to tell.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	return v
}

func (v *Violations) add(member, value, rule string) {
	*v = append(*v, Violation{Value: clip(value), Member: member, Rule: rule})
}

// elementPath names the i-th element, counted from 1, of list member.
func elementPath(member string, i int) string {
	return member + "." + strconv.Itoa(i) + ".member"
}
