package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// class is a set of characters: a table below 256, Unicode categories above.
type class struct {
	low     [256]bool
	high    []string // categories, names in package unicode
	allHigh bool
	negated bool // of high: everything but them
}

// alternative is one branch of a pattern that needs no regular expression: a
// class repeated, or a literal.
type alternative struct {
	set     *class
	empty   bool // no character is enough
	literal string
}

// everything reports whether the pattern holds for every string.
func (a alternative) everything() bool {
	return a.set != nil && a.empty && a.set.allHigh && !slices.Contains(a.set.low[:], false)
}

// parsePattern splits a pattern of the model, which holds for the whole value,
// into simple branches. ok is false if it needs a regular expression.
func parsePattern(pattern string) (branches []alternative, ok bool) {
	for _, branch := range splitTop(pattern) {
		branch = strings.TrimPrefix(branch, "^")
		if strings.HasSuffix(branch, "$") && !strings.HasSuffix(branch, `\$`) {
			branch = strings.TrimSuffix(branch, "$")
		}
		if strings.HasPrefix(branch, "(") && strings.HasSuffix(branch, ")") {
			branch = branch[1 : len(branch)-1]
		}
		a, ok := parseBranch(branch)
		if !ok {
			return nil, false
		}
		branches = append(branches, a)
	}
	return branches, true
}

// splitTop splits at the | that stand outside of classes and groups.
func splitTop(pattern string) []string {
	var branches []string
	depth, start := 0, 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[', '(':
			depth++
		case ']', ')':
			depth--
		case '|':
			if depth == 0 {
				branches = append(branches, pattern[start:i])
				start = i + 1
			}
		}
	}
	return append(branches, pattern[start:])
}

func parseBranch(s string) (alternative, bool) {
	if !strings.HasPrefix(s, "[") {
		literal, ok := parseLiteral(s)
		return alternative{literal: literal}, ok
	}
	if len(s) < 4 {
		return alternative{}, false
	}
	body, quantifier := s[1:len(s)-2], s[len(s)-2:]
	if quantifier != "]+" && quantifier != "]*" {
		return alternative{}, false
	}
	set, ok := parseClass(body)
	return alternative{set: set, empty: quantifier == "]*"}, ok
}

func parseLiteral(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			i++
			if i == len(s) || isWordByte(s[i]) {
				return "", false
			}
			c = s[i]
		} else if strings.IndexByte(`.[](){}*+?^$|`, c) >= 0 {
			return "", false
		}
		out.WriteByte(c)
	}
	return out.String(), out.Len() > 0
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// parseClass reads what stands between the brackets of a Java character class.
func parseClass(s string) (*class, bool) {
	set := &class{}
	negate := strings.HasPrefix(s, "^")
	s = strings.TrimPrefix(s, "^")
	for s != "" {
		if rest, ok := set.category(s); ok {
			s = rest
			continue
		}
		lo, rest, ok := classChar(s)
		if !ok {
			return nil, false
		}
		s = rest
		hi := lo
		if len(s) > 1 && s[0] == '-' {
			if hi, s, ok = classChar(s[1:]); !ok || hi < lo {
				return nil, false
			}
		}
		for c := int(lo); c <= int(hi); c++ {
			set.low[c] = true
		}
	}
	if negate {
		for c := range set.low {
			set.low[c] = !set.low[c]
		}
		if set.allHigh = len(set.high) == 0 && !set.allHigh; !set.allHigh {
			set.negated = len(set.high) > 0
		}
	}
	return set, true
}

// classChar reads one character of a class, plain or escaped.
func classChar(s string) (c byte, rest string, ok bool) {
	switch {
	case s[0] >= 0x80 || s[0] == '[' || s[0] == ']' || s[0] == '&':
		return 0, "", false
	case s[0] != '\\':
		return s[0], s[1:], true
	case len(s) >= 4 && s[1] == 'x':
		n, err := strconv.ParseUint(s[2:4], 16, 8)
		return byte(n), s[4:], err == nil
	case len(s) >= 2 && !isWordByte(s[1]):
		return s[1], s[2:], true
	}
	return 0, "", false
}

// category adds a named set such as \p{L} if s begins with one. Java's POSIX
// names are about ASCII, except that Upper is read as every upper-case letter.
func (set *class) category(s string) (rest string, ok bool) {
	within := func(f func(c rune) bool) {
		for c := range set.low {
			set.low[c] = set.low[c] || f(rune(c))
		}
	}
	switch {
	case strings.HasPrefix(s, `\p{`):
		name, rest, ok := strings.Cut(s[3:], "}")
		if !ok {
			return "", false
		}
		switch name {
		case "Digit":
			within(func(c rune) bool { return c >= '0' && c <= '9' })
			return rest, true
		case "Graph":
			within(func(c rune) bool { return c > ' ' && c < 0x7F })
			return rest, true
		case "Upper":
			name = "Lu"
		}
		table := unicode.Categories[name]
		if table == nil {
			return "", false
		}
		within(func(c rune) bool { return unicode.Is(table, c) })
		set.high = append(set.high, name)
		return rest, true
	case strings.HasPrefix(s, `\s`):
		within(func(c rune) bool { return c == ' ' || c >= '\t' && c <= '\r' })
	case strings.HasPrefix(s, `\S`):
		within(func(c rune) bool { return !(c == ' ' || c >= '\t' && c <= '\r') })
		set.allHigh = true
	case strings.HasPrefix(s, `\w`):
		within(func(c rune) bool { return c < 0x80 && isWordByte(byte(c)) })
	case strings.HasPrefix(s, `\d`):
		within(func(c rune) bool { return c >= '0' && c <= '9' })
	default:
		return "", false
	}
	return s[2:], true
}

// goLiteral writes the class as a wire.Class.
func (set *class) goLiteral() string {
	var words [4]uint64
	for c, in := range set.low {
		if in {
			words[c>>6] |= 1 << (c & 63)
		}
	}
	out := fmt.Sprintf("wire.Class{Low: [4]uint64{%#x, %#x, %#x, %#x}", words[0], words[1], words[2], words[3])
	tables := make([]string, len(set.high))
	for i, name := range set.high {
		tables[i] = "unicode." + name
	}
	list := "[]*unicode.RangeTable{" + strings.Join(tables, ", ") + "}"
	switch {
	case set.allHigh:
		out += ", NotIn: []*unicode.RangeTable{}"
	case set.negated:
		out += ", NotIn: " + list
	case len(tables) > 0:
		out += ", In: " + list
	}
	return out + "}"
}

// goPattern rewrites a Java pattern for Go's regular expressions.
func goPattern(pattern string) string {
	return strings.NewReplacer(
		`\p{Upper}`, `\p{Lu}`,
		`\p{Digit}`, `0-9`,
		`\p{Graph}`, `!-~`,
	).Replace(pattern)
}
