package muster

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func text(p Pairs) string {
	var all []string
	for k, v := range p.All() {
		all = append(all, k+"="+v)
	}
	return strings.Join(all, " ")
}

func TestPairs(t *testing.T) {
	for _, c := range []struct {
		name string
		got  Pairs
		want string
	}{
		{"none", MakePairs(), ""},
		{"in the order given", MakePairs("b", "2", "a", "1"), "b=2 a=1"},
		{"the last of a name, at its first place", MakePairs("a", "1", "b", "2", "a", "3"), "a=3 b=2"},
		{"empty name and value", MakePairs("", "x", "a", ""), "=x a="},
		{"a name without value is dropped", MakePairs("a", "1", "b"), "a=1"},
		{"a value of two length bytes", MakePairs("a", strings.Repeat("x", 300), "b", "2"), "a=" + strings.Repeat("x", 300) + " b=2"},
		{"merged", MakePairs("a", "1", "b", "2", "c", "3").Merge(MakePairs("d", "4", "b", "", "a", "9", "e", "")), "a=9 c=3 d=4"},
		{"merged with nothing", MakePairs("a", "1").Merge(""), "a=1"},
		{"merged into nothing", Pairs("").Merge(MakePairs("a", "1")), "a=1"},
		{"without", MakePairs("a", "1", "b", "2", "c", "3").Without("c", "a", "x"), "b=2"},
	} {
		if got := text(c.got); got != c.want || !c.got.Valid() {
			t.Errorf("%s: %q, valid %v; want %q", c.name, got, c.got.Valid(), c.want)
		}
	}
	p := MakePairs("a", "1", "b", "")
	for name, want := range map[string]bool{"a": true, "b": true, "c": false, "": false} {
		if _, ok := p.Get(name); ok != want {
			t.Errorf("%q is there: %v", name, ok)
		}
	}
	if v, _ := p.Get("a"); v != "1" || p.Len() != 2 {
		t.Errorf("a is %q of %d", v, p.Len())
	}
	for range p.All() {
		break // an early end is no trouble
	}
	for _, bad := range []Pairs{"\x01", "\x01a", "\x01a\x02b", "\x80", "\xff\xff\xff\xff\xff\x01", "\x01a\x01b\x00"} {
		if bad.Valid() {
			t.Errorf("%q is valid", string(bad))
		}
		text(bad) // but does no harm
	}
}

func TestPairsAsJSON(t *testing.T) {
	type row struct{ P Pairs }
	for _, p := range []Pairs{"", MakePairs("b", "2", "a", ""), MakePairs("long", strings.Repeat("ü", 300)), MakePairs(`"\`, "\n\x00<&>"), MakePairs("a", "1", "b", "2")} {
		data, err := json.Marshal(row{p})
		if err != nil {
			t.Fatal(err)
		}
		var back row
		if err := json.Unmarshal(data, &back); err != nil || back.P != p {
			t.Errorf("%s came back as %q, %v", data, text(back.P), err)
		}
	}
	if data, _ := json.Marshal(MakePairs("b", "2", "a", "1")); string(data) != `{"b":"2","a":"1"}` {
		t.Errorf("is %s", data)
	}
	for _, bad := range []string{`[]`, `"a"`, `1`, `{"a":1}`, `{"a":{}}`} {
		var p Pairs
		if json.Unmarshal([]byte(bad), &p) == nil {
			t.Errorf("%s is pairs", bad)
		}
	}
	p := MakePairs("a", "1")
	if err := json.Unmarshal([]byte("null"), &p); err != nil || p != MakePairs("a", "1") {
		t.Errorf("null: %v", err)
	}
}

// Pairs behave as a map that knows its order, and survive their own encoding and JSON's.
func FuzzPairs(f *testing.F) {
	f.Add("a", "1", "b", "2", "a", "3")
	f.Add("", "", "ü", strings.Repeat("x", 200), "a", "\xff")
	f.Fuzz(func(t *testing.T, a, av, b, bv, c, cv string) {
		want := map[string]string{}
		var names []string
		var builder PairsBuilder
		for _, kv := range [][2]string{{a, av}, {b, bv}, {c, cv}} {
			if _, ok := want[kv[0]]; !ok {
				names = append(names, kv[0])
			}
			want[kv[0]] = kv[1]
			builder.Set(kv[0], kv[1])
		}
		p := builder.Pairs()
		var order []string
		for k := range p.All() {
			order = append(order, k)
		}
		if !p.Valid() || !maps.Equal(maps.Collect(p.All()), want) || !slices.Equal(order, names) || p.Len() != len(want) || p != MakePairs(a, av, b, bv, c, cv) {
			t.Errorf("%q of %v", text(p), want)
		}
		if utf8.ValidString(a + "|" + av + "|" + b + "|" + bv + "|" + c + "|" + cv) {
			data, err := json.Marshal(p)
			var back Pairs
			if err != nil || json.Unmarshal(data, &back) != nil || back != p {
				t.Errorf("%s: %v", data, err)
			}
		}
		// Bytes that no builder made do no harm.
		if torn := Pairs(a + string(p)); torn.Valid() && torn != "" && torn.Len() == 0 {
			t.Errorf("%q is valid, but empty", string(torn))
		}
	})
}
