package muster

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Kinds of placeholders in a job document (control-plane.md §2).
const (
	PlaceholderPresign     = "s3-presigned-url"        // Arg: the object's URL, its key taken literally
	PlaceholderPresignV2   = "s3-presigned-url-v2"     // Arg: the object's URL, its key URL-encoded
	PlaceholderUpload      = "s3-presigned-url-upload" // Arg: the object's URL, with ${thingName} and the like in it
	PlaceholderSignature   = "code-sign-signature"     // Arg: s3://REGION.BUCKET/KEY@VERSION
	PlaceholderParameter   = "parameter"               // Arg: the name of a managed template's parameter
	PlaceholderPackage     = "package"                 // Arg: PKG:version:VER:attributes:KEY and the like
	placeholderOpening     = "${aws:iot:"
	placeholderKindLetters = "abcdefghijklmnopqrstuvwxyz0123456789-"
)

// A Placeholder is ${aws:iot:KIND:ARG} in a job document. Whether the kind is known, and whether ARG
// means anything, is for whoever fills it in to say.
type Placeholder struct {
	Kind, Arg  string // Arg without JSON's escapes
	Start, End int    // the text is document[Start:End]
}

// HasPlaceholders reports whether a document may have placeholders. It is never wrong when it says no.
func HasPlaceholders(text string) bool { return strings.Contains(text, placeholderOpening) }

// Placeholders finds the placeholders of a document, in order. One inside another, such as
// ${thingName} in an upload URL, is part of the outer one's Arg.
func Placeholders(text string) []Placeholder {
	var all []Placeholder
	for at := 0; ; {
		p, ok := nextPlaceholder(text, at)
		if !ok {
			return all
		}
		all = append(all, p)
		at = p.End
	}
}

// Replace returns the document with what fill has for each placeholder, escaped to stand in a JSON
// string. Where fill has nothing the text stays as it is, except that placeholders inside of it get
// their turn.
func Replace(text string, fill func(Placeholder) (string, bool)) string {
	if !HasPlaceholders(text) {
		return text
	}
	var out []byte
	done := 0
	for at := 0; ; {
		p, ok := nextPlaceholder(text, at)
		if !ok {
			break
		}
		value, ok := fill(p)
		if !ok {
			at = p.Start + len(placeholderOpening)
			continue
		}
		out = append(out, text[done:p.Start]...)
		out = appendJSON(out, value)
		at, done = p.End, p.End
	}
	if done == 0 {
		return text
	}
	return string(append(out, text[done:]...))
}

// nextPlaceholder finds the first placeholder that begins at or behind an index.
func nextPlaceholder(text string, at int) (Placeholder, bool) {
	for {
		i := strings.Index(text[at:], placeholderOpening)
		if i < 0 {
			return Placeholder{}, false
		}
		start := at + i
		at = start + len(placeholderOpening)
		end, ok := closingBrace(text, at)
		if !ok {
			continue
		}
		kind, arg, ok := strings.Cut(text[at:end], ":")
		if !ok || kind == "" || strings.Trim(kind, placeholderKindLetters) != "" {
			continue
		}
		return Placeholder{Kind: kind, Arg: unescapeJSON(arg), Start: start, End: end + 1}, true
	}
}

// closingBrace is the index of the } that closes a ${ before at. A placeholder does not reach beyond
// the JSON string it stands in.
func closingBrace(text string, at int) (int, bool) {
	depth := 1
	for i := at; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++ // an escaped quote does not end the string
		case c == '"' || c < ' ':
			return 0, false
		case c == '$' && i+1 < len(text) && text[i+1] == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i, true
			}
		}
	}
	return 0, false
}

// unescapeJSON undoes the escapes of a piece of a JSON string: encoders write / as \/ in URLs.
func unescapeJSON(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var plain string
	if json.Unmarshal([]byte(`"`+s+`"`), &plain) != nil {
		return s
	}
	return plain
}

// appendJSON appends s as it stands inside a JSON string. & and the like stay as they are: the
// values are mostly URLs, and people read documents.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
