package muster

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestPlaceholders(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // kind, argument, …
	}{
		{"none", `{"a":"${thingName}","b":"$aws:iot"}`, nil},
		{"presigned URL", `{"u":"${aws:iot:s3-presigned-url:https://s3.us-east-1.amazonaws.com/bucket/a b.bin}"}`,
			[]string{"s3-presigned-url", "https://s3.us-east-1.amazonaws.com/bucket/a b.bin"}},
		{"version 2", `{"u":"${aws:iot:s3-presigned-url-v2:https://b.s3.us-east-1.amazonaws.com/k%3FversionId%3Dv}"}`,
			[]string{"s3-presigned-url-v2", "https://b.s3.us-east-1.amazonaws.com/k%3FversionId%3Dv"}},
		{"upload with others inside", `{"u":"x${aws:iot:s3-presigned-url-upload:https://s3.r.amazonaws.com/b/${thingName}/${jobId}-${executionNumber}.log}y"}`,
			[]string{"s3-presigned-url-upload", "https://s3.r.amazonaws.com/b/${thingName}/${jobId}-${executionNumber}.log"}},
		{"signature", `"${aws:iot:code-sign-signature:s3://r.b/k@v1}"`, []string{"code-sign-signature", "s3://r.b/k@v1"}},
		{"package", `"${aws:iot:package:p:version:$default:attributes:key}"`, []string{"package", "p:version:$default:attributes:key"}},
		{"two in one string", `"${aws:iot:parameter:a}${aws:iot:parameter:b}"`, []string{"parameter", "a", "parameter", "b"}},
		{"no argument", `"${aws:iot:parameter:}"`, []string{"parameter", ""}},
		{"unknown kind", `"${aws:iot:moon:phase}"`, []string{"moon", "phase"}},
		{"no colon", `"${aws:iot:parameter}"`, nil},
		{"no kind", `"${aws:iot::x}"`, nil},
		{"kind of other letters", `"${aws:iot:Para meter:x}"`, nil},
		{"not closed", `{"a":"${aws:iot:parameter:x","b":{"c":"}"}}`, nil},
		{"inner one not closed", `{"a":"${aws:iot:s3-presigned-url-upload:u/${thingName}","b":"}"}`, nil},
		{"one behind one that is not closed", `["${aws:iot:parameter:x","${aws:iot:parameter:y}"]`, []string{"parameter", "y"}},
		{"escaped slashes", `"${aws:iot:s3-presigned-url:https:\/\/s3.r.amazonaws.com\/b\/k}"`, []string{"s3-presigned-url", "https://s3.r.amazonaws.com/b/k"}},
		{"escaped quote", `"${aws:iot:parameter:a\"b}"`, []string{"parameter", `a"b`}},
		{"escaped letter", `"${aws:iot:parameter:\u0061\u00e9}"`, []string{"parameter", "aé"}},
		{"one inside another", `"${aws:iot:s3-presigned-url:https://h/b/${aws:iot:parameter:key}}"`, []string{"s3-presigned-url", "https://h/b/${aws:iot:parameter:key}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range Placeholders(c.text) {
				got = append(got, p.Kind, p.Arg)
				if s := c.text[p.Start:p.End]; !strings.HasPrefix(s, "${aws:iot:"+p.Kind+":") || !strings.HasSuffix(s, "}") {
					t.Errorf("stands at %q", s)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q; want %q", got, c.want)
			}
			if len(got) > 0 && !HasPlaceholders(c.text) {
				t.Error("HasPlaceholders says no")
			}
		})
	}
	if HasPlaceholders(`{"a":"${thingName}"}`) {
		t.Error("HasPlaceholders says yes")
	}
}

func TestReplace(t *testing.T) {
	values := map[string]string{"a": "1", "quote": `say "hi" \ there`, "lines": "one\ntwo\r\t\x01", "url": "https://h/?a=1&b=<2>", "umlaut": "ü€😀", "empty": "", "bad": "\xff", "again": "${aws:iot:parameter:a}"}
	fill := func(p Placeholder) (string, bool) {
		v, ok := values[p.Arg]
		return v, ok && p.Kind == PlaceholderParameter
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing to do", `{"x":"y"}`, `{"x":"y"}`},
		{"one", `{"x":"${aws:iot:parameter:a}"}`, `{"x":"1"}`},
		{"several, with text around", `{"x":"<${aws:iot:parameter:a}${aws:iot:parameter:a}>"}`, `{"x":"<11>"}`},
		{"unfilled stays", `{"x":"${aws:iot:parameter:other}","y":"${aws:iot:parameter:a}"}`, `{"x":"${aws:iot:parameter:other}","y":"1"}`},
		{"all unfilled", `{"x":"${aws:iot:package:p}"}`, `{"x":"${aws:iot:package:p}"}`},
		{"empty", `{"x":"${aws:iot:parameter:empty}"}`, `{"x":""}`},
		{"quotes and backslashes", `{"x":"${aws:iot:parameter:quote}"}`, `{"x":"say \"hi\" \\ there"}`},
		{"control characters", `{"x":"${aws:iot:parameter:lines}"}`, `{"x":"one\ntwo\r\t\u0001"}`},
		{"URLs stay readable", `{"x":"${aws:iot:parameter:url}"}`, `{"x":"https://h/?a=1&b=<2>"}`},
		{"beyond ASCII", `{"x":"${aws:iot:parameter:umlaut}"}`, `{"x":"ü€😀"}`},
		{"not UTF-8", `{"x":"${aws:iot:parameter:bad}"}`, "{\"x\":\"\ufffd\"}"},
		{"values are not looked into", `{"x":"${aws:iot:parameter:again}"}`, `{"x":"${aws:iot:parameter:a}"}`},
		{"inside an unfilled one", `{"x":"${aws:iot:s3-presigned-url:https://h/b/${aws:iot:parameter:a}}"}`, `{"x":"${aws:iot:s3-presigned-url:https://h/b/1}"}`},
		{"not closed", `{"x":"${aws:iot:parameter:a"}`, `{"x":"${aws:iot:parameter:a"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Replace(c.text, fill)
			if got != c.want {
				t.Errorf("is    %s\nwant  %s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Error("is not JSON any more")
			}
		})
	}
}

// Whatever the document and the value, a document stays JSON and the value arrives as it was.
func FuzzReplace(f *testing.F) {
	f.Add(`{"a":"${aws:iot:parameter:x}","b":["${aws:iot:s3-presigned-url-upload:u/${thingName}}"]}`, "v\"\\\n")
	f.Add(`["${aws:iot:parameter:x","${aws:iot:a:\"}","}"]`, "}")
	f.Add(`{"\u0024${aws:iot:a:\\}":1}`, "\u2028")
	f.Fuzz(func(t *testing.T, text, value string) {
		end := 0
		for _, p := range Placeholders(text) {
			if p.Start < end || p.End <= p.Start || p.End > len(text) || text[p.End-1] != '}' {
				t.Fatalf("%+v in %q", p, text)
			}
			end = p.End
		}
		got := Replace(text, func(Placeholder) (string, bool) { return value, true })
		if Replace(text, func(Placeholder) (string, bool) { return "", false }) != text {
			t.Error("text changed with nothing filled in")
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s became %s", text, got)
		}
		var back string
		if err := json.Unmarshal(append(appendJSON([]byte{'"'}, value), '"'), &back); err != nil || back != strings.ToValidUTF8(value, "\ufffd") && back != string([]rune(value)) {
			t.Errorf("%q came back as %q, %v", value, back, err)
		}
	})
}
