package wire

import (
	"regexp"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Match reports whether a whole value satisfies a pattern.
type Match func(string) bool

// Class is a set of characters. Nearly every pattern of the models is one
// class repeated; a table is many times faster than a regular expression, and
// these run on every request.
type Class struct {
	Low   [4]uint64             // bit c set: character c, below 256, belongs
	In    []*unicode.RangeTable // characters from 256 on that belong
	NotIn []*unicode.RangeTable // if not nil: all others from 256 on belong
}

// Any reports whether all characters of s belong; there may be none.
func (c *Class) Any(s string) bool {
	for i := 0; i < len(s); {
		if b := s[i]; b < utf8.RuneSelf {
			if c.Low[b>>6]>>(b&63)&1 == 0 {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		// Path labels may hold bytes that are not UTF-8: no character at all.
		if r == utf8.RuneError && n == 1 || !c.has(r) {
			return false
		}
		i += n
	}
	return true
}

// Some is Any for at least one character.
func (c *Class) Some(s string) bool { return s != "" && c.Any(s) }

func (c *Class) has(r rune) bool {
	if r < 256 {
		return c.Low[r>>6]>>(r&63)&1 != 0
	}
	if c.NotIn != nil {
		return !unicode.In(r, c.NotIn...)
	}
	return unicode.In(r, c.In...)
}

// Regexp matches whole values against an expression that is no simple class.
// It is compiled on first use.
func Regexp(expr string) Match {
	compiled := sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\A(?:` + expr + `)\z`)
	})
	return func(s string) bool { return compiled().MatchString(s) }
}
