package wire

import (
	"bytes"
	"unicode/utf8"
)

const (
	maxDepth  = 64   // nesting a body may have
	maxErrors = 64   // wrong types remembered, see typeError
	shareUpTo = 1024 // see NewReader
)

// Reader reads one JSON object.
//
// A syntax error stops it. A value of the wrong type does not: reading goes on
// so that a syntax error further on is found, for "is it JSON" is asked before
// "are its members right". End tells the outcome.
//
// The pattern of use, which the generated code follows:
//
//	r := wire.NewReader(body)
//	if r.Begin() {
//		for r.Next() {
//			switch string(r.Key()) {
//			case "status":
//				in.Status = r.String("status")
//			default:
//				r.Skip()
//			}
//		}
//	}
//	err := r.End()
type Reader struct {
	b     []byte
	text  string // b as a string, when values may share it
	i     int
	depth int
	first bool // the next Next or Elem is the first of its container
	key   []byte
	keyAt int // where key stands in b, -1 if it had escapes
	syn   *SyntaxError
	wrong []wrongType
}

// wrongType is a type error and where it stands relative to the objects that
// are still open: in member name of the open object at depth.
type wrongType struct {
	err   *TypeError
	depth int
	name  string
}

// NewReader returns a Reader of body.
//
// Values of a small body are parts of one copy of it, which saves most
// allocations. Values of a large one are copied one by one: a short value that
// somebody keeps must not keep a whole job document with it.
func NewReader(body []byte) Reader {
	r := Reader{b: body}
	if len(body) <= shareUpTo {
		r.text = string(body)
	}
	return r
}

// Begin opens the body's object and reports whether there is one. Nothing but
// white space counts as an empty object.
func (r *Reader) Begin() bool {
	r.space()
	if r.i == len(r.b) {
		return false
	}
	if r.b[r.i] != '{' {
		start := r.i
		if r.skip() {
			r.addWrong("", "a JSON object", start)
		}
		return false
	}
	return r.open()
}

// End returns what went wrong: a *SyntaxError, else the first *TypeError.
func (r *Reader) End() error {
	if r.syn == nil {
		r.space()
		if r.i < len(r.b) {
			r.fail("unexpected data after the value")
		}
	}
	if r.syn != nil {
		return r.syn
	}
	if len(r.wrong) > 0 {
		return r.wrong[0].err
	}
	return nil
}

// Next moves to the next member of the object and reports whether there is
// one. The caller must consume its value before calling Next again.
func (r *Reader) Next() bool {
	if !r.more('}') {
		return false
	}
	if r.i >= len(r.b) || r.b[r.i] != '"' {
		r.fail("expected a member name")
		return false
	}
	start, end, plain, ok := r.plainString()
	if !ok {
		return false
	}
	r.key, r.keyAt = r.b[start:end], start
	if !plain {
		r.key, r.keyAt = unescape(r.key), -1
	}
	r.space()
	if r.i >= len(r.b) || r.b[r.i] != ':' {
		r.fail("expected ':'")
		return false
	}
	r.i++
	r.space()
	if len(r.wrong) > 0 {
		r.forgive()
	}
	return true
}

// Key returns the name of the present member, valid until the next call of
// any other method.
func (r *Reader) Key() []byte { return r.key }

// Elem moves to the next element of an array and reports whether there is one.
func (r *Reader) Elem() bool { return r.more(']') }

// Object opens an object as the value of member and reports whether there is
// one: null and a wrong type are consumed. After its members have been read
// the caller calls Leave with the same name.
func (r *Reader) Object(member string) bool { return r.container(member, '{', "an object") }

// Array opens an array as the value of member, as Object does an object.
func (r *Reader) Array(member string) bool { return r.container(member, '[', "an array") }

// Leave puts member before the path of errors found inside its value.
func (r *Reader) Leave(member string) {
	if len(r.wrong) > 0 {
		r.leave(member, member)
	}
}

// Skip consumes a value whatever it is.
func (r *Reader) Skip() { r.skip() }

func (r *Reader) container(member string, brace byte, want string) bool {
	if r.syn != nil {
		return false
	}
	if r.i < len(r.b) && r.b[r.i] == brace {
		return r.open()
	}
	start := r.i
	if r.skip() && !r.isNull(start) {
		r.addWrong(member, want, start)
	}
	return false
}

func (r *Reader) open() bool {
	if r.depth == maxDepth {
		r.fail("nesting too deep")
		return false
	}
	r.depth++
	r.i++
	r.first = true
	return true
}

// more handles the comma or the closing bracket before an element.
func (r *Reader) more(closing byte) bool {
	if r.syn != nil {
		return false
	}
	r.space()
	if r.i >= len(r.b) {
		r.fail("unexpected end")
		return false
	}
	c := r.b[r.i]
	if c == closing {
		r.i++
		r.depth--
		r.first = false
		return false
	}
	if r.first {
		r.first = false
		return true
	}
	if c != ',' {
		if closing == '}' {
			r.fail("expected ',' or '}'")
		} else {
			r.fail("expected ',' or ']'")
		}
		return false
	}
	r.i++
	r.space()
	return true
}

func (r *Reader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

func (r *Reader) fail(reason string) bool {
	if r.syn == nil {
		r.syn = &SyntaxError{Offset: r.i, Reason: reason}
	}
	return false
}

func (r *Reader) isNull(start int) bool {
	return r.i-start == 4 && r.b[start] == 'n'
}

// addWrong records that the value which starts at start and ends here is not
// what member holds.
func (r *Reader) addWrong(member, want string, start int) {
	if len(r.wrong) == maxErrors {
		return
	}
	var value string
	switch c := r.b[start]; {
	case c == '{':
		value = "an object"
	case c == '[':
		value = "an array"
	case c == '"':
		again := Reader{b: r.b[:r.i], i: start}
		value, _ = again.str()
		value = clip(value)
	default:
		value = clip(string(r.b[start:r.i]))
	}
	r.wrong = append(r.wrong, wrongType{&TypeError{Member: member, Want: want, Value: value}, r.depth, member})
}

func (r *Reader) leave(prefix, name string) {
	for i := range r.wrong {
		w := &r.wrong[i]
		if w.depth > r.depth {
			w.err.Member = clip(prefix + "." + w.err.Member)
			w.depth, w.name = r.depth, name
		}
	}
}

// forgive drops the errors of an earlier member of the same name: the last of
// duplicate keys counts. Past maxErrors nothing is forgiven, because what was
// not recorded could not stand any more.
func (r *Reader) forgive() {
	if len(r.wrong) == maxErrors {
		return
	}
	kept := r.wrong[:0]
	for _, w := range r.wrong {
		if w.depth != r.depth || w.name != string(r.key) {
			kept = append(kept, w)
		}
	}
	r.wrong = kept
}

// skip consumes one value and reports whether it was well formed.
func (r *Reader) skip() bool {
	if r.syn != nil {
		return false
	}
	if r.i >= len(r.b) {
		return r.fail("unexpected end")
	}
	switch c := r.b[r.i]; c {
	case '"':
		return r.skipString()
	case '{':
		if !r.open() {
			return false
		}
		for r.more('}') {
			if r.i >= len(r.b) || r.b[r.i] != '"' {
				return r.fail("expected a member name")
			}
			if !r.skipString() {
				return false
			}
			r.space()
			if r.i >= len(r.b) || r.b[r.i] != ':' {
				return r.fail("expected ':'")
			}
			r.i++
			r.space()
			if !r.skip() {
				return false
			}
		}
		return r.syn == nil
	case '[':
		if !r.open() {
			return false
		}
		for r.more(']') {
			if !r.skip() {
				return false
			}
		}
		return r.syn == nil
	case 't':
		return r.literal("true")
	case 'f':
		return r.literal("false")
	case 'n':
		return r.literal("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return r.number()
		}
		return r.fail("unexpected character")
	}
}

func (r *Reader) literal(word string) bool {
	if !bytes.HasPrefix(r.b[r.i:], []byte(word)) {
		return r.fail("unexpected word")
	}
	r.i += len(word)
	return true
}

// number consumes a number by the grammar of JSON.
func (r *Reader) number() bool {
	n := numberLen(r.b[r.i:])
	if n == 0 {
		return r.fail("malformed number")
	}
	r.i += n
	return true
}

// numberLen returns the length of the JSON number that b begins with, 0 if
// there is none.
func numberLen[T []byte | string](b T) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i] >= '1' && b[i] <= '9':
		i = digits(b, i)
	default:
		return 0
	}
	if i < len(b) && b[i] == '.' {
		j := digits(b, i+1)
		if j == i+1 {
			return 0
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := digits(b, i)
		if j == i {
			return 0
		}
		i = j
	}
	return i
}

func digits[T []byte | string](b T, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// plainString scans a string up to its closing quote. It reports whether the
// content can be used as it stands; otherwise it holds escapes.
func (r *Reader) plainString() (start, end int, plain, ok bool) {
	r.i++
	start = r.i
	plain = true
	var high byte
	for r.i < len(r.b) {
		c := r.b[r.i]
		switch {
		case c == '"':
			end = r.i
			if high >= utf8.RuneSelf && !utf8.Valid(r.b[start:end]) {
				r.fail("string is not UTF-8")
				return 0, 0, false, false
			}
			r.i++
			return start, end, plain, true
		case c == '\\':
			plain = false
			if !r.escape() {
				return 0, 0, false, false
			}
		case c < ' ':
			r.fail("control character in a string")
			return 0, 0, false, false
		default:
			high |= c
			r.i++
		}
	}
	r.fail("unexpected end")
	return 0, 0, false, false
}

// escape checks and steps over one backslash sequence.
func (r *Reader) escape() bool {
	rest := r.b[r.i:]
	if len(rest) < 2 {
		r.i = len(r.b)
		return r.fail("unexpected end")
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		r.i += 2
		return true
	case 'u':
		if _, ok := hex4(rest[2:]); ok {
			r.i += 6
			return true
		}
	}
	return r.fail("malformed escape")
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var v rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

func (r *Reader) skipString() bool {
	_, _, _, ok := r.plainString()
	return ok
}

// str reads a string.
func (r *Reader) str() (string, bool) {
	start, end, plain, ok := r.plainString()
	switch {
	case !ok:
		return "", false
	case !plain:
		return string(unescape(r.b[start:end])), true
	}
	return r.slice(start, end), true
}

// slice returns a part of the body as a string.
func (r *Reader) slice(start, end int) string {
	if r.text != "" {
		return r.text[start:end]
	}
	return string(r.b[start:end])
}
