package wire

import (
	"encoding/json"
	"math"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppend(t *testing.T) {
	at := func(ms int64) string { return string(AppendTime(nil, time.UnixMilli(ms))) }
	for _, c := range []struct{ got, want string }{
		{string(AppendString(nil, "a<&>\"\\\b\f\n\r\t\x01é\u2028\x7f")), `"a<&>\"\\\b\f\n\r\t\u0001é` + "\u2028\x7f" + `"`},
		{string(AppendString(nil, "a\xffb\xc3")), `"a\ufffdb\ufffd"`},
		{at(1486687079743), "1486687079.743"},
		{at(1486687079740), "1486687079.74"},
		{at(1486687079700), "1486687079.7"},
		{at(1486687079003), "1486687079.003"},
		{at(1486687079000), "1486687079"},
		{at(-1500), "-1.5"},
		{string(AppendDouble(nil, 1.1)), "1.1"},
		{string(AppendDouble(nil, 100)), "100"},
		{string(AppendDouble(nil, 1e300)), "1e+300"},
		{string(AppendDouble(nil, math.NaN())), "null"},
		{string(AppendInt(nil, math.MinInt64)), "-9223372036854775808"},
		{string(AppendBool(nil, true)), "true"},
		{string(AppendMap(nil, Map{{"b", "1"}, {"a", "\n"}})), `{"b":"1","a":"\n"}`},
		{string(AppendMap(nil, Map{})), `{}`},
		{string(AppendStrings(nil, []string{"a", ","})), `["a",","]`},
		{string(AppendStrings(nil, []string{})), `[]`},
		{string(Close([]byte(`{`), '}')), `{}`},
		{string(Close([]byte(`{"a":1,`), '}')), `{"a":1}`},
		{string(Close(AppendEnvelope(nil, nil, 5), '}')), `{"timestamp":5}`},
		{string(Close(AppendEnvelope(nil, Ptr(""), 5), '}')), `{"clientToken":"","timestamp":5}`},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\n\x00é😀\xff")
	f.Fuzz(func(t *testing.T, s string) {
		b := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Fatalf("%q came back as %q", s, back)
		}
	})
}

func TestBind(t *testing.T) {
	query := func(values map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	}
	for s, want := range map[string]string{
		"true": "", "false": "",
		"True": "Value 'True' at 'force' must be true or false",
		"":     "Value '' at 'force' must be true or false",
	} {
		_, err := QueryBool(query(map[string]string{"f": s}), "f", "force")
		if text(err) != want {
			t.Errorf("bool %q: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"7": "", "-1": "",
		"+7":         "Value '+7' at 'maxResults' must be an integer",
		"":           "Value '' at 'maxResults' must be an integer",
		"7.0":        "Value '7.0' at 'maxResults' must be an integer",
		"4294967296": "Value '4294967296' at 'maxResults' must be an integer",
	} {
		_, err := QueryInt32(query(map[string]string{"m": s}), "m", "maxResults")
		if text(err) != want {
			t.Errorf("int %q: %v", s, err)
		}
	}
	if b, err := QueryBool(query(nil), "f", "force"); b != nil || err != nil {
		t.Error("an absent parameter is not absent")
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
