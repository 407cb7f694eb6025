package awsapi

import (
	"fmt"
	"strings"
	"testing"

	"muster"
)

func TestImportLine(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"a thing", `{"thing":{"thingName":"a"}}`, "thing a"},
		{"a thing with everything", `{"thing":{"thingName":"a","thingTypeName":"t","billingGroupName":"b","attributes":{"x":"1","y":"2"},"thingGroupNames":["g","h"]}}`,
			"thing a t b x=1 y=2 [g h]"},
		{"as AWS lists it", `{"thing":{"thingName":"a","thingArn":"arn:x","version":3,"attributes":{}}}`, "thing a"},
		{"an attribute without a value", `{"thing":{"thingName":"a","attributes":{"x":"1","y":""}}}`, "thing a x=1"},
		{"a type", `{"thingType":{"thingTypeName":"t","thingTypeDescription":"d","searchableAttributes":["x"]}}`, "type t d [x]"},
		{"a group", `{"thingGroup":{"thingGroupName":"g","parentGroupName":"p","thingGroupDescription":"d","attributes":{"x":"1"}}}`, "group g p d x=1"},
		{"a membership", `{"membership":{"thingName":"a","thingGroupName":"g"}}`, "member a g"},

		{"nothing", `{}`, "! The line has no thing"},
		{"no JSON", `thing`, "! The line is not valid JSON"},
		{"more than JSON", `{"thing":{"thingName":"a"}} x`, "! The line is not valid JSON"},
		{"no object", `["thing"]`, "! The line must be a JSON object"},
		{"something else", `{"device":{}}`, `! "device" is not something that can be imported`},
		{"two things", `{"thing":{"thingName":"a"},"membership":{"thingName":"a","thingGroupName":"g"}}`, "! A line holds one"},
		{"a thing that is none", `{"thing":"a"}`, "! Value 'a' at 'thing' must be an object"},
		{"a thing that is null", `{"thing":null}`, "! thing must be an object"},
		{"no name", `{"thing":{"attributes":{}}}`, "! thing.thingName is missing"},
		{"a name of another kind", `{"thing":{"thingName":1}}`, "! Value '1' at 'thing.thingName' must be a string"},
		{"a bad name", `{"thing":{"thingName":"a b"}}`, "! Value 'a b' at 'thingName' failed"},
		{"an empty name", `{"thing":{"thingName":""}}`, "! Value '' at 'thingName' failed"},
		{"a bad attribute", `{"thing":{"thingName":"a","attributes":{"x":"ä"}}}`, "! Value '{x=ä}' at 'attributes' failed"},
		{"a bad group of a thing", `{"thing":{"thingName":"a","thingGroupNames":["g","h h"]}}`, "! Value 'h h' at 'thingGroupNames.2.member' failed"},
		{"a misspelt member", `{"thing":{"thingName":"a","thingtypename":"t"}}`, "! thingtypename is not a member of a thing"},
		{"half a membership", `{"membership":{"thingName":"a"}}`, "! membership.thingGroupName is missing"},
		{"a bad description", `{"thingGroup":{"thingGroupName":"g","thingGroupDescription":"\n"}}`, "! Value '\n' at 'thingGroupDescription' failed"},
		{"a bad searchable attribute", `{"thingType":{"thingTypeName":"t","searchableAttributes":["x y"]}}`, "! Value 'x y' at 'searchableAttributes.1.member' failed"},
	} {
		row, err := ImportLine([]byte(c.line))
		got := ""
		switch {
		case err != nil:
			got = "! " + err.Error()
		case row.Thing != nil:
			got = words("thing", row.Thing.Name, row.Thing.Type, row.Thing.BillingGroup, listed(row.Thing.Attributes), row.Groups)
		case row.Type != nil:
			got = words("type", row.Type.Name, row.Type.Description, row.Type.Searchable)
		case row.Group != nil:
			got = words("group", row.Group.Name, row.Group.Parent, row.Group.Description, listed(row.Group.Attributes))
		case row.Member != nil:
			got = words("member", row.Member.Thing, row.Member.Group)
		}
		if err == nil && got != c.want || err != nil && (c.want[0] != '!' || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func listed(p muster.Pairs) string {
	var list []string
	for k, v := range p.All() {
		list = append(list, k+"="+v)
	}
	return strings.Join(list, " ")
}

// words are the values that are not empty.
func words(values ...any) string {
	var list []string
	for _, v := range values {
		if s := fmt.Sprint(v); s != "" && s != "[]" {
			list = append(list, s)
		}
	}
	return strings.Join(list, " ")
}

func FuzzImportLine(f *testing.F) {
	f.Add([]byte(`{"thing":{"thingName":"a","attributes":{"x":"1"},"thingGroupNames":["g"]}}`))
	f.Add([]byte(`{"thingType":{"thingTypeName":"t"}}`))
	f.Add([]byte(`{"thingGroup":null,"membership":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		row, err := ImportLine(line)
		n := 0
		for _, there := range []bool{row.Thing != nil, row.Type != nil, row.Group != nil, row.Member != nil} {
			if there {
				n++
			}
		}
		if err == nil && n != 1 {
			t.Errorf("%q became %d rows", line, n)
		}
	})
}
