package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// unescape resolves the backslash sequences of s, which have been checked.
// Half a surrogate pair becomes U+FFFD, as encoding/json has it.
func unescape(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(out, s...)
		}
		out = append(out, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			u, _ := hex4(s)
			s = s[4:]
			if utf16.IsSurrogate(u) {
				pair := rune(utf8.RuneError)
				if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
					low, _ := hex4(s[2:])
					pair = utf16.DecodeRune(u, low)
				}
				if pair != utf8.RuneError {
					s = s[6:]
				}
				u = pair
			}
			out = utf8.AppendRune(out, u)
		default:
			out = append(out, c)
		}
	}
}
