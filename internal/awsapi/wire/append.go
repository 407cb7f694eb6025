package wire

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Characters that only HTML minds are
// left alone, since job documents and presigned URLs are full of them; bytes
// that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0 // s[:done] has been appended
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[done:i]...)
			b = appendEscape(b, c)
			i++
			done = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[done:i]...)
			b = append(b, `\ufffd`...)
			done = i + 1
		}
		i += n
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// AppendInt appends n.
func AppendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte { return strconv.AppendBool(b, v) }

// AppendDouble appends f, null if it is not finite: JSON cannot say that.
func AppendDouble(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64)
}

// AppendTime appends t as the control plane does: epoch seconds with up to
// three digits of fraction, rounded down to the millisecond.
func AppendTime(b []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	ms %= 1000
	if ms == 0 {
		return b
	}
	b = append(b, '.', byte('0'+ms/100))
	if ms%100 != 0 {
		b = append(b, byte('0'+ms/10%10))
	}
	if ms%10 != 0 {
		b = append(b, byte('0'+ms%10))
	}
	return b
}

// AppendMap appends m as a JSON object.
func AppendMap(b []byte, m Map) []byte {
	b = append(b, '{')
	for i := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, m[i].Key)
		b = append(b, ':')
		b = AppendString(b, m[i].Value)
	}
	return append(b, '}')
}

// AppendStrings appends list as a JSON array.
func AppendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, s)
	}
	return append(b, ']')
}

// Close ends an object or array whose members were each followed by a comma.
func Close(b []byte, closing byte) []byte {
	if last := len(b) - 1; b[last] == ',' {
		b[last] = closing
		return b
	}
	return append(b, closing)
}

// AppendEnvelope opens the payload of an MQTT answer: the client token if the
// request had one, and the time in epoch seconds. A comma follows.
func AppendEnvelope(b []byte, clientToken *string, timestamp int64) []byte {
	b = append(b, '{')
	if clientToken != nil {
		b = append(b, `"clientToken":`...)
		b = AppendString(b, *clientToken)
		b = append(b, ',')
	}
	b = append(b, `"timestamp":`...)
	b = AppendInt(b, timestamp)
	return append(b, ',')
}
