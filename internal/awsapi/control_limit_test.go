package awsapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"muster"
)

const accountARN = "arn:aws:iot:us-east-1:123456789012:"

// texts is n texts of a format, as a JSON array.
func texts(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(format, "%", fmt.Sprint(i))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// members is n members of an object, with the value v.
func members(n int, key, v string) string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%s%d", key, i)] = v
	}
	text, _ := json.Marshal(m)
	return string(text)
}

// Every quota of events-and-limits.md §2 that is a number of things: the last that is allowed is taken, and
// one more refused.
func TestControlLimits(t *testing.T) {
	const invalid, exceeded = "400 InvalidRequestException", "410 LimitExceededException"
	o := newOperator(t, Config{})
	tags := `{"Key":"k%","Value":"v"}`
	lamp := `"` + accountARN + `thing/lamp"`
	document := func(n int) string { return fmt.Sprintf(`{\"a\":\"%s\"}`, strings.Repeat("x", n-len(`{"a":""}`))) }
	o.must("POST", "/things/lamp", "", nil)
	o.must("POST", "/thing-types/meter", "", nil)
	o.must("POST", "/thing-groups/level1", "", nil)
	for i := 2; i < muster.MaxGroupDepth; i++ {
		o.must("POST", fmt.Sprintf("/thing-groups/level%d", i), fmt.Sprintf(`{"parentGroupName":"level%d"}`, i-1), nil)
	}
	o.must("POST", "/thing-groups/parent", "", nil)
	for i := 1; i < muster.MaxChildren; i++ {
		o.must("POST", fmt.Sprintf("/thing-groups/child%d", i), `{"parentGroupName":"parent"}`, nil)
	}
	for i := range muster.MaxTargets + 1 {
		o.must("POST", fmt.Sprintf("/thing-groups/g%d", i), "", nil)
	}
	for i := 1; i < muster.MaxGroupsOfThing; i++ {
		o.must("PUT", "/thing-groups/addThingToThingGroup", fmt.Sprintf(`{"thingName":"lamp","thingGroupName":"g%d"}`, i), nil)
	}
	for i := 1; i < muster.MaxTemplates; i++ {
		o.must("PUT", fmt.Sprintf("/job-templates/t%d", i), `{"description":"d","document":"{}"}`, nil)
	}
	o.must("PUT", "/jobs/always", `{"targets":["`+accountARN+`thinggroup/g0"],"document":"{}","targetSelection":"CONTINUOUS"}`, nil)
	o.must("POST", "/thing-groups/tagged", `{"tags":`+texts(muster.MaxTags-1, tags)+`}`, nil)
	o.tick()

	for _, c := range []struct {
		name, method, target string
		last, more           string // bodies
		moreTarget           string // of more, if it is another; % is replaced below
		refused              string
	}{
		{"attributes of a thing without a type", "POST", "/things/bare", `{"attributePayload":{"attributes":` + members(3, "a", "v") + `}}`,
			`{"attributePayload":{"attributes":` + members(4, "a", "v") + `}}`, "/things/bare2", invalid},
		{"attributes of a thing with a type", "POST", "/things/typed", `{"thingTypeName":"meter","attributePayload":{"attributes":` + members(50, "a", "v") + `}}`,
			`{"thingTypeName":"meter","attributePayload":{"attributes":` + members(51, "a", "v") + `}}`, "/things/typed2", invalid},
		{"attributes of a group", "POST", "/thing-groups/rich", `{"thingGroupProperties":{"attributePayload":{"attributes":` + members(50, "a", "v") + `}}}`,
			`{"thingGroupProperties":{"attributePayload":{"attributes":` + members(51, "a", "v") + `}}}`, "/thing-groups/rich2", invalid},
		{"searchable attributes of a type", "POST", "/thing-types/found", `{"thingTypeProperties":{"searchableAttributes":["a","b","c"]}}`,
			`{"thingTypeProperties":{"searchableAttributes":["a","b","c","d"]}}`, "/thing-types/found2", invalid},
		{"levels of groups", "POST", "/thing-groups/level7", `{"parentGroupName":"level6"}`, `{"parentGroupName":"level7"}`, "/thing-groups/level8", invalid},
		{"child groups", "POST", "/thing-groups/childlast", `{"parentGroupName":"parent"}`, `{"parentGroupName":"parent"}`, "/thing-groups/childmore", invalid},
		{"groups of a thing", "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"lamp","thingGroupName":"g10"}`, `{"thingName":"lamp","thingGroupName":"g11"}`, "", invalid},
		{"groups of a thing, at once", "PUT", "/thing-groups/updateThingGroupsForThing", `{"thingName":"lamp","thingGroupsToAdd":["g11"],"thingGroupsToRemove":["g10"]}`,
			`{"thingName":"lamp","thingGroupsToAdd":["g12"]}`, "", invalid},
		{"targets of a job", "PUT", "/jobs/wide", `{"document":"{}","targets":` + texts(100, `"`+accountARN+`thinggroup/g%"`) + `}`,
			`{"document":"{}","targets":` + texts(101, `"`+accountARN+`thinggroup/g%"`) + `}`, "/jobs/wider", invalid},
		{"targets that are associated", "POST", "/jobs/always/targets", `{"targets":` + texts(100, `"`+accountARN+`thinggroup/g%"`) + `}`,
			`{"targets":["` + accountARN + `thinggroup/g100"]}`, "", exceeded},
		{"bytes of a document", "PUT", "/jobs/long", `{"targets":[` + lamp + `],"document":"` + document(32768) + `"}`,
			`{"targets":[` + lamp + `],"document":"` + document(32769) + `"}`, "/jobs/longer", invalid},
		{"package versions", "PUT", "/jobs/packed", `{"targets":[` + lamp + `],"document":"{}","destinationPackageVersions":` + texts(25, `"`+accountARN+`package/p/version/%"`) + `}`,
			`{"targets":[` + lamp + `],"document":"{}","destinationPackageVersions":` + texts(26, `"`+accountARN+`package/p/version/%"`) + `}`, "/jobs/packed2", invalid},
		{"tags of a job", "PUT", "/jobs/tagged", `{"targets":[` + lamp + `],"document":"{}","tags":` + texts(50, tags) + `}`,
			`{"targets":[` + lamp + `],"document":"{}","tags":` + texts(51, tags) + `}`, "/jobs/tagged2", invalid},
		{"tags that are added", "POST", "/tags", `{"resourceArn":"` + accountARN + `thinggroup/tagged","tags":[{"Key":"last"}]}`,
			`{"resourceArn":"` + accountARN + `thinggroup/tagged","tags":[{"Key":"more"}]}`, "", exceeded},
		{"job templates", "PUT", "/job-templates/last", `{"description":"d","document":"{}"}`, `{"description":"d","document":"{}"}`, "/job-templates/more", exceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, typ, answer := o.ask(o.control, c.method, c.target, c.last); status != 200 {
				t.Errorf("the last that is allowed: %d %s %s", status, typ, answer)
			}
			target := c.target
			if c.moreTarget != "" {
				target = c.moreTarget
			}
			status, typ, answer := o.ask(o.control, c.method, target, c.more)
			if got := fmt.Sprint(status, " ", typ); got != c.refused {
				t.Errorf("one more: %s %s; want %s", got, answer, c.refused)
			}
		})
	}
}

// The eleventh job that would be in DELETION_IN_PROGRESS is refused, and not changed.
func TestControlDeletingJobs(t *testing.T) {
	o := newOperator(t, Config{})
	o.must("POST", "/things/lamp", "", nil)
	for i := range muster.MaxDeletingJobs + 1 {
		o.must("PUT", fmt.Sprintf("/jobs/j%d", i), `{"targets":["`+accountARN+`thing/lamp"],"document":"{}"}`, nil)
	}
	o.tick()
	for i := range muster.MaxDeletingJobs {
		o.must("DELETE", fmt.Sprintf("/jobs/j%d?force=true", i), "", nil)
	}
	last := fmt.Sprintf("/jobs/j%d", muster.MaxDeletingJobs)
	if status, typ, answer := o.ask(o.control, "DELETE", last+"?force=true", ""); status != 410 || typ != "LimitExceededException" {
		t.Errorf("%d %s %s", status, typ, answer)
	}
	var told struct{ Job struct{ Status string } }
	if o.must("GET", last, "", &told); told.Job.Status != "IN_PROGRESS" {
		t.Errorf("the job that was not deleted is %s", told.Job.Status)
	}
	o.tick() // the others are gone
	o.must("DELETE", last+"?force=true", "", nil)
}
