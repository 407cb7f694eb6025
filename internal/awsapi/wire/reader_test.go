package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// everything is an object with one member of each kind.
type everything struct {
	S       *string
	N       *int64
	I       *int64
	B       *bool
	D       *float64
	T       *time.Time
	List    []string
	Map     Map
	Details Map
	Child   *everything
	Items   []everything
}

func (e *everything) decode(r *Reader) {
	for r.Next() {
		switch string(r.Key()) {
		case "s":
			e.S = r.String("s")
		case "n":
			e.N = r.Int64("n")
		case "i":
			e.I = r.Int32("i")
		case "b":
			e.B = r.Bool("b")
		case "d":
			e.D = r.Double("d")
		case "t":
			e.T = r.Time("t")
		case "list":
			e.List = r.Strings("list")
		case "map":
			e.Map = r.Map("map")
		case "details":
			e.Details = r.Details("details")
		case "child":
			e.Child = nil
			if r.Object("child") {
				e.Child = new(everything)
				e.Child.decode(r)
				r.Leave("child")
			}
		case "items":
			e.Items = nil
			if r.Array("items") {
				e.Items = []everything{}
				for r.Elem() {
					var one everything
					i := len(e.Items) + 1
					if r.ElemObject("items", i) {
						one.decode(r)
						r.LeaveElem("items", i)
					}
					e.Items = append(e.Items, one)
				}
			}
		default:
			r.Skip()
		}
	}
}

func decode(body string) (everything, error) {
	var e everything
	r := NewReader([]byte(body))
	if r.Begin() {
		e.decode(&r)
	}
	return e, r.End()
}

func TestReaderAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want everything
	}{
		"nothing":                 {"", everything{}},
		"white space":             {" \t\r\n", everything{}},
		"empty object":            {" {} ", everything{}},
		"null is absent":          {`{"s":null,"n":null,"b":null,"d":null,"t":null,"list":null,"map":null,"child":null,"items":null}`, everything{}},
		"a string":                {`{"s":"a"}`, everything{S: Ptr("a")}},
		"an empty string":         {`{"s":""}`, everything{S: Ptr("")}},
		"every escape":            {`{"s":"\"\\\/\b\f\n\r\t\u00e9"}`, everything{S: Ptr("\"\\/\b\f\n\r\té")}},
		"a surrogate pair":        {`{"s":"\ud83d\ude00!"}`, everything{S: Ptr("😀!")}},
		"half a pair":             {`{"s":"\ud83d!"}`, everything{S: Ptr("\uFFFD!")}},
		"two first halves":        {`{"s":"\ud83d\ud83d\ude00"}`, everything{S: Ptr("\uFFFD😀")}},
		"half a pair, then other": {`{"s":"\ud83d\u0041"}`, everything{S: Ptr("\uFFFDA")}},
		"raw UTF-8":               {`{"s":"é😀"}`, everything{S: Ptr("é😀")}},
		"an escaped key":          {`{"\u0073":"a"}`, everything{S: Ptr("a")}},
		"an integer":              {`{"n":2}`, everything{N: Ptr[int64](2)}},
		"an integer as 2.0":       {`{"n":2.0}`, everything{N: Ptr[int64](2)}},
		"an integer as 2.000":     {`{"n":2.000}`, everything{N: Ptr[int64](2)}},
		"an integer as a string":  {`{"n":"2"}`, everything{N: Ptr[int64](2)}},
		"a negative integer":      {`{"n":-1}`, everything{N: Ptr[int64](-1)}},
		"minus zero":              {`{"n":-0}`, everything{N: Ptr[int64](0)}},
		"the largest long":        {`{"n":9223372036854775807}`, everything{N: Ptr[int64](1<<63 - 1)}},
		"the smallest long":       {`{"n":-9223372036854775808}`, everything{N: Ptr[int64](-1 << 63)}},
		"the largest integer":     {`{"i":2147483647}`, everything{I: Ptr[int64](1<<31 - 1)}},
		"booleans":                {`{"b":true}`, everything{B: Ptr(true)}},
		"a double":                {`{"d":1.5e1}`, everything{D: Ptr(15.0)}},
		"a double as a string":    {`{"d":"1.5"}`, everything{D: Ptr(1.5)}},
		"a time":                  {`{"t":1486687079.743}`, everything{T: Ptr(time.UnixMilli(1486687079743).UTC())}},
		"a list":                  {`{"list":["a","b"]}`, everything{List: []string{"a", "b"}}},
		"an empty list":           {`{"list":[]}`, everything{List: []string{}}},
		"a map keeps its order":   {`{"map":{"b":"1","a":"2"}}`, everything{Map: Map{{"b", "1"}, {"a", "2"}}}},
		"an empty map":            {`{"map":{}}`, everything{Map: Map{}}},
		"details as literal text": {`{"details":{"a":1.50,"b":true,"c":"x","d":-1e3}}`, everything{Details: Map{{"a", "1.50"}, {"b", "true"}, {"c", "x"}, {"d", "-1e3"}}}},
		"the last duplicate":      {`{"s":"a","s":"b"}`, everything{S: Ptr("b")}},
		"a null duplicate":        {`{"s":"a","s":null}`, everything{}},
		"a repeated map key":      {`{"map":{"a":"1","b":"2","a":"3"}}`, everything{Map: Map{{"a", "3"}, {"b", "2"}}}},
		"a wrong duplicate":       {`{"s":1,"n":[],"s":"b","n":4}`, everything{S: Ptr("b"), N: Ptr[int64](4)}},
		"a wrong nested one":      {`{"child":{"s":1},"child":{"s":"b"}}`, everything{Child: &everything{S: Ptr("b")}}},
		"a wrong map value":       {`{"map":{"a":1,"a":"2"}}`, everything{Map: Map{{"a", "2"}}}},
		"a wrong element":         {`{"items":[{},{"s":1}],"list":[1],"items":[],"list":[]}`, everything{Items: []everything{}, List: []string{}}},
		"unknown members":         {`{"x":{"y":[1,{"z":null},"a\n",false]},"s":"a","w":-0.1e+5}`, everything{S: Ptr("a")}},
		"nested objects":          {`{"child":{"child":{"n":1}},"items":[{"s":"a"},{}]}`, everything{Child: &everything{Child: &everything{N: Ptr[int64](1)}}, Items: []everything{{S: Ptr("a")}, {}}}},
		"depth at the limit":      {strings.Repeat(`{"child":`, 63) + `{}` + strings.Repeat("}", 63), deep(63)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(c.body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func deep(n int) everything {
	e := everything{}
	for range n {
		inner := e
		e = everything{Child: &inner}
	}
	return e
}

func TestReaderRefusesSyntax(t *testing.T) {
	for _, body := range []string{
		`{`, `}`, `{"s"}`, `{"s":}`, `{"s":"a"`, `{"s":"a",}`, `{,}`, `{"s":"a"}x`, `{} {}`, `{"s":'a'}`, `{s:"a"}`,
		`{"n":01}`, `{"n":+1}`, `{"n":.5}`, `{"n":1.}`, `{"n":1e}`, `{"n":-}`, `{"n":NaN}`, `{"n":0x1}`,
		`{"b":tru}`, `{"b":True}`, `{"b":truex}`, `{"s":nul}`,
		"{\"s\":\"a\nb\"}", "{\"s\":\"\x00\"}", `{"s":"\x"}`, `{"s":"\u12"}`, `{"s":"\u12g4"}`, `{"s":"\`, `{"s":"`,
		"{\"s\":\"\xff\"}", "{\"\xc3\":1}", "{\"x\":[\"\xed\xa0\x80\"]}", "\xef\xbb\xbf{}",
		`[1,2`, `[1,]`, `tru`, `nonsense`, `"a`,
		// Syntax wins over a wrong type that stands before it.
		`{"s":1,"n":`, `{"list":[1,{]}`, `[]x`, `{"map":{"a":1}`,
		strings.Repeat(`{"child":`, 64) + `{}` + strings.Repeat("}", 64),
		`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
	} {
		_, err := decode(body)
		if _, ok := errors.AsType[*SyntaxError](err); !ok {
			t.Errorf("%q: got %v, want a syntax error", body, err)
		}
	}
}

func TestReaderNamesWrongTypes(t *testing.T) {
	for body, want := range map[string]string{
		`[]`:                                    "The request body must be a JSON object",
		`null`:                                  "The request body must be a JSON object",
		`"a"`:                                   "The request body must be a JSON object",
		` 5 `:                                   "The request body must be a JSON object",
		`{"s":5}`:                               "Value '5' at 's' must be a string",
		`{"s":{}}`:                              "Value 'an object' at 's' must be a string",
		`{"s":true}`:                            "Value 'true' at 's' must be a string",
		`{"n":"x"}`:                             "Value 'x' at 'n' must be an integer",
		`{"n":""}`:                              "Value '' at 'n' must be an integer",
		`{"n":" 2"}`:                            "Value ' 2' at 'n' must be an integer",
		`{"n":"02"}`:                            "Value '02' at 'n' must be an integer",
		`{"n":"+2"}`:                            "Value '+2' at 'n' must be an integer",
		`{"n":2.5}`:                             "Value '2.5' at 'n' must be an integer",
		`{"n":1e2}`:                             "Value '1e2' at 'n' must be an integer",
		`{"n":1.0e2}`:                           "Value '1.0e2' at 'n' must be an integer",
		`{"n":9223372036854775808}`:             "Value '9223372036854775808' at 'n' must be an integer",
		`{"n":[1]}`:                             "Value 'an array' at 'n' must be an integer",
		`{"n":true}`:                            "Value 'true' at 'n' must be an integer",
		`{"i":2147483648}`:                      "Value '2147483648' at 'i' must be an integer",
		`{"b":1}`:                               "Value '1' at 'b' must be true or false",
		`{"b":"true"}`:                          "Value 'true' at 'b' must be true or false",
		`{"d":"NaN"}`:                           "Value 'NaN' at 'd' must be a number",
		`{"d":1e999}`:                           "Value '1e999' at 'd' must be a number",
		`{"t":1753000000000}`:                   "Value '1753000000000' at 't' must be a time in epoch seconds",
		`{"list":"a"}`:                          "Value 'a' at 'list' must be an array",
		`{"list":["a",null]}`:                   "Value 'null' at 'list.2.member' must be a string",
		`{"map":[]}`:                            "Value 'an array' at 'map' must be an object",
		`{"map":{"a":1}}`:                       "Value '1' at 'map.a' must be a string",
		`{"details":{"a":null}}`:                "Value 'null' at 'details.a' must be a string",
		`{"details":{"a":{}}}`:                  "Value 'an object' at 'details.a' must be a string",
		`{"child":5}`:                           "Value '5' at 'child' must be an object",
		`{"child":{"child":{"n":"a"}}}`:         "Value 'a' at 'child.child.n' must be an integer",
		`{"items":[{},{"s":1}]}`:                "Value '1' at 'items.2.member.s' must be a string",
		`{"items":[null]}`:                      "Value 'null' at 'items.1.member' must be an object",
		`{"child":{"items":[{"map":{"k":1}}]}}`: "Value '1' at 'child.items.1.member.map.k' must be a string",
		// The first of several is told, and only the last of duplicates counts.
		`{"s":1,"n":"x"}`:         "Value '1' at 's' must be a string",
		`{"s":1,"n":"x","s":"a"}`: "Value 'x' at 'n' must be an integer",
		`{"s":"a","s":1}`:         "Value '1' at 's' must be a string",
	} {
		_, err := decode(body)
		if _, ok := errors.AsType[*TypeError](err); !ok || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", body, err, want)
		}
	}
}

func TestReaderForgivesOnlyWhatItRemembers(t *testing.T) {
	// More wrong members than are remembered: correcting those must not hide
	// the rest.
	var body strings.Builder
	body.WriteString(`{"map":{`)
	for i := range 2 * maxErrors {
		body.WriteString(`"k` + strings.Repeat("x", i) + `":1,`)
	}
	for i := range maxErrors {
		body.WriteString(`"k` + strings.Repeat("x", i) + `":"a",`)
	}
	body.WriteString(`"z":"a"}}`)
	if _, err := decode(body.String()); err == nil {
		t.Error("wrong members were accepted")
	}
}

func TestLargeMapsKeepTheLastOfDuplicates(t *testing.T) {
	var body strings.Builder
	body.WriteString(`{"map":{`)
	for _, value := range []string{"old", "new"} {
		for i := range 100 {
			body.WriteString(`"k` + strings.Repeat("x", i) + `":"` + value + `",`)
		}
	}
	body.WriteString(`"z":"new"}}`)
	e, err := decode(body.String())
	if err != nil || len(e.Map) != 101 {
		t.Fatalf("got %d entries, error %v", len(e.Map), err)
	}
	for _, p := range e.Map {
		if p.Value != "new" {
			t.Fatalf("%s is %s", p.Key, p.Value)
		}
	}
}

func TestLargeBodiesAreNotShared(t *testing.T) {
	body := `{"s":"a","map":{"k":"v"},"x":"` + strings.Repeat("x", shareUpTo) + `"}`
	e, err := decode(body)
	if err != nil || *e.S != "a" || e.Map[0] != (Pair{"k", "v"}) {
		t.Fatalf("got %+v, error %v", e, err)
	}
}

// FuzzReader compares with encoding/json: the same bodies are JSON, and the
// same strings come out.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, `{"s":"a","n":1,"list":["a"],"map":{"a":"b"},"items":[{"child":{}}]}`, `[1,{"a":[]}]`, `"\ud83d\ude00"`,
		`{"s":"\ud83d","\u0073":null}`, `{"n":-1.5e+3,"x":[[[]]]}`, "{\"s\":\"\xff\"}", `{"a":"b","a":"c"}`, `{"s":1,"s":}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := decode(string(body))
		syntax, bad := errors.AsType[*SyntaxError](err)
		if bad && syntax.Reason == "nesting too deep" {
			return
		}
		valid := json.Valid(body) && utf8.Valid(body) || strings.Trim(string(body), " \t\r\n") == ""
		if valid == bad {
			t.Fatalf("%q: encoding/json says valid=%t, got %v", body, valid, err)
		}
		var want map[string]*string
		if !valid || json.Unmarshal(body, &want) != nil {
			return
		}
		r := NewReader([]byte(`{"m":` + string(body) + `}`))
		r.Begin()
		r.Next()
		m := r.Map("m")
		r.Next()
		if err := r.End(); err != nil {
			return // a null, which encoding/json lets pass
		}
		if len(m) != len(want) {
			t.Fatalf("%q: got %v", body, m)
		}
		for _, p := range m {
			if v := want[p.Key]; v == nil || *v != p.Value {
				t.Fatalf("%q: got %v", body, m)
			}
		}
	})
}
