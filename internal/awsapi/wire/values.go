package wire

import (
	"math"
	"strconv"
	"time"
)

// String reads the string value of member; nil if it is null or no string.
func (r *Reader) String(member string) *string {
	if s, ok := r.wantString(member); ok {
		return &s
	}
	return nil
}

// wantString reads a string; null gives false without an error.
func (r *Reader) wantString(member string) (string, bool) {
	if r.syn != nil {
		return "", false
	}
	if r.i < len(r.b) && r.b[r.i] == '"' {
		return r.str()
	}
	start := r.i
	if r.skip() && !r.isNull(start) {
		r.addWrong(member, "a string", start)
	}
	return "", false
}

// Bool reads true or false.
func (r *Reader) Bool(member string) *bool {
	start := r.i
	if !r.skip() || r.isNull(start) {
		return nil
	}
	switch r.b[start] {
	case 't':
		return Ptr(true)
	case 'f':
		return Ptr(false)
	}
	r.addWrong(member, "true or false", start)
	return nil
}

// Int32 reads an integer of 32 bits. Like Int64 it takes 2, 2.0 and "2": an
// embedded library of AWS's own sends versions as strings.
func (r *Reader) Int32(member string) *int64 {
	return r.integer(member, math.MinInt32, math.MaxInt32)
}

// Int64 reads an integer of 64 bits.
func (r *Reader) Int64(member string) *int64 {
	return r.integer(member, math.MinInt64, math.MaxInt64)
}

func (r *Reader) integer(member string, least, most int64) *int64 {
	start, text, ok := r.numeral()
	if !ok {
		return nil
	}
	if n, ok := parseInteger(text); ok && n >= least && n <= most {
		return &n
	}
	r.addWrong(member, "an integer", start)
	return nil
}

// Double reads a number, bare or as a string.
func (r *Reader) Double(member string) *float64 {
	start, text, ok := r.numeral()
	if !ok {
		return nil
	}
	if n := numberLen(text); n > 0 && n == len(text) {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return &f
		}
	}
	r.addWrong(member, "a number", start)
	return nil
}

// Time reads a timestamp: epoch seconds with or without a fraction, which is
// kept to the millisecond.
func (r *Reader) Time(member string) *time.Time {
	start := r.i
	f := r.Double(member)
	if f == nil {
		return nil
	}
	// Four-digit years; beyond them the conversion to nanoseconds is undefined.
	const last = 253402300800
	if *f < -last || *f >= last {
		r.addWrong(member, "a time in epoch seconds", start)
		return nil
	}
	t := time.UnixMilli(int64(math.Round(*f * 1000))).UTC()
	return &t
}

// numeral reads a value that should be a number, bare or as a string, and
// returns its text, "" for anything else. ok is false for null and bad syntax.
func (r *Reader) numeral() (start int, text string, ok bool) {
	start = r.i
	if r.syn == nil && start < len(r.b) && r.b[start] == '"' {
		text, ok = r.str()
		return start, text, ok
	}
	if !r.skip() || r.isNull(start) {
		return start, "", false
	}
	if c := r.b[start]; c == '-' || c >= '0' && c <= '9' {
		text = r.slice(start, r.i)
	}
	return start, text, true
}

// parseInteger takes digits with an optional minus and an optional fraction of
// zeros. Exponents and other fractions are refused.
func parseInteger(s string) (int64, bool) {
	if n := numberLen(s); n == 0 || n != len(s) {
		return 0, false
	}
	end := 0
	if s[0] == '-' {
		end = 1
	}
	end = digits(s, end)
	if end < len(s) {
		for _, c := range []byte(s[end+1:]) {
			if s[end] != '.' || c != '0' {
				return 0, false
			}
		}
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	return n, err == nil
}

// Strings reads an array of strings; nil if it is null or no array.
func (r *Reader) Strings(member string) []string {
	if !r.Array(member) {
		return nil
	}
	list := []string{}
	for r.Elem() {
		if s, ok := r.elemString(member, len(list)+1); ok {
			list = append(list, s)
		} else if r.syn == nil {
			// Hold the place, so that later elements are named rightly.
			list = append(list, "")
		}
	}
	return list
}

// elemString reads a string where null has no meaning.
func (r *Reader) elemString(member string, i int) (string, bool) {
	if r.i < len(r.b) && r.b[r.i] == '"' {
		return r.str()
	}
	start := r.i
	if r.skip() {
		r.addWrongIn(member, elementPath(member, i), "a string", start)
	}
	return "", false
}

// ElemObject opens an object as the i-th element of list member. The caller
// calls LeaveElem afterwards.
func (r *Reader) ElemObject(member string, i int) bool {
	if r.i < len(r.b) && r.b[r.i] == '{' {
		return r.open()
	}
	start := r.i
	if r.skip() {
		r.addWrongIn(member, elementPath(member, i), "an object", start)
	}
	return false
}

// LeaveElem puts the element before the path of errors found inside it.
func (r *Reader) LeaveElem(member string, i int) {
	if len(r.wrong) > 0 {
		// The array itself is one level deeper than the object that member
		// belongs to, and that object is where duplicates are compared.
		r.depth--
		r.leave(elementPath(member, i), member)
		r.depth++
	}
}

// addWrongIn records an error one level inside member: in its i-th element or
// under one of its keys.
func (r *Reader) addWrongIn(member, path, want string, start int) {
	n := len(r.wrong)
	r.addWrong(path, want, start)
	if len(r.wrong) > n {
		r.wrong[n].depth, r.wrong[n].name = r.depth-1, member
	}
}

// Map reads an object whose values are strings.
func (r *Reader) Map(member string) Map { return r.stringMap(member, false) }

// Details reads an object whose values are strings, numbers or booleans. The
// latter two are kept as they were written: AWS's own JavaScript agent sends
// numbers in statusDetails.
func (r *Reader) Details(member string) Map { return r.stringMap(member, true) }

func (r *Reader) stringMap(member string, scalars bool) Map {
	if !r.Object(member) {
		return nil
	}
	m := make(Map, 0, 4)
	var index map[string]int // only for large maps, where searching gets slow
	for r.Next() {
		key := r.keyString()
		value, ok := "", false
		start := r.i
		if start < len(r.b) && r.b[start] == '"' {
			value, ok = r.str()
		} else if r.skip() {
			c := r.b[start]
			if ok = scalars && c != '{' && c != '[' && c != 'n'; ok {
				value = r.slice(start, r.i)
			} else {
				r.addWrong(key, "a string", start)
			}
		}
		if !ok && r.syn != nil {
			break
		}
		m, index = m.put(index, key, value)
	}
	r.Leave(member)
	return m
}

// put sets key, keeping the place of an earlier one of the same name.
func (m Map) put(index map[string]int, key, value string) (Map, map[string]int) {
	const small = 16
	if index == nil && len(m) >= small {
		index = make(map[string]int, 2*len(m))
		for i := range m {
			index[m[i].Key] = i
		}
	}
	if index != nil {
		if i, ok := index[key]; ok {
			m[i].Value = value
			return m, index
		}
		index[key] = len(m)
		return append(m, Pair{key, value}), index
	}
	for i := range m {
		if m[i].Key == key {
			m[i].Value = value
			return m, index
		}
	}
	return append(m, Pair{key, value}), index
}

// keyString returns the present key as a string that may be kept.
func (r *Reader) keyString() string {
	if r.keyAt >= 0 {
		return r.slice(r.keyAt, r.keyAt+len(r.key))
	}
	return string(r.key)
}
