package awsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/internal/engine"
)

// fleet is an operator with a group of 260 things, of which 10 are in a group below it and every
// second one is red; a CONTINUOUS job on them all; and 30 more jobs on the first thing.
func fleet(t *testing.T) *operator {
	o := newOperator(t, Config{})
	rows := []engine.ImportRow{
		{Group: &muster.Group{Name: "all"}},
		{Group: &muster.Group{Name: "few", Parent: "all"}},
	}
	for i := range 260 {
		thing := muster.Thing{Name: muster.ThingName(fmt.Sprintf("thing-%03d", i))}
		if i%2 == 0 {
			thing.Attributes = muster.MakePairs("color", "red")
		}
		group := muster.GroupName("all")
		if i >= 250 {
			group = "few"
		}
		rows = append(rows, engine.ImportRow{Thing: &thing}, engine.ImportRow{Member: &muster.Membership{Group: group, Thing: thing.Name}})
	}
	for i := range 110 {
		rows = append(rows, engine.ImportRow{Group: &muster.Group{Name: muster.GroupName(fmt.Sprintf("group-%03d", i))}},
			engine.ImportRow{Type: &muster.ThingType{Name: muster.TypeName(fmt.Sprintf("type-%03d", i))}})
	}
	for i := range 5 {
		rows = append(rows, engine.ImportRow{Member: &muster.Membership{Group: muster.GroupName(fmt.Sprintf("group-%03d", i)), Thing: "thing-000"}})
	}
	results, err := o.engine.Import(context.Background(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Refused != nil {
			t.Fatal(r.Refused)
		}
	}
	o.must("PUT", "/jobs/wide", `{"targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/all"],"document":"{}","targetSelection":"CONTINUOUS"}`, nil)
	for i := range 30 {
		o.must("PUT", fmt.Sprintf("/jobs/narrow-%02d", i), `{"targets":["arn:aws:iot:us-east-1:123456789012:thing/thing-000"],"document":"{}"}`, nil)
		o.must("PUT", fmt.Sprintf("/job-templates/template-%02d", i), `{"document":"{}","description":"one of many"}`, nil)
	}
	o.tick()
	return o
}

// A list that is read page by page, whatever their size, has every row once, in the same order.
func TestControlPages(t *testing.T) {
	o := fleet(t)
	for _, list := range []struct {
		name, target, rows string
		count              int
	}{
		{"things", "/things", "things", 260},
		{"things with an attribute", "/things?attributeName=color&attributeValue=red", "things", 130},
		{"things in a group", "/thing-groups/all/things", "things", 250},
		{"things in a group and below", "/thing-groups/all/things?recursive=true", "things", 260},
		{"groups", "/thing-groups", "thingGroups", 112},
		{"groups by prefix", "/thing-groups?namePrefixFilter=group-00", "thingGroups", 10},
		{"groups below", "/thing-groups?parentGroup=all&recursive=true", "thingGroups", 1},
		{"groups of a thing", "/things/thing-000/thing-groups", "thingGroups", 6},
		{"thing types", "/thing-types", "thingTypes", 110},
		{"jobs", "/jobs", "jobs", 31},
		{"jobs by selection", "/jobs?targetSelection=SNAPSHOT", "jobs", 30},
		{"executions of a job", "/jobs/wide/things", "executionSummaries", 260},
		{"executions of a job by status", "/jobs/wide/things?status=QUEUED", "executionSummaries", 260},
		{"executions of a thing", "/things/thing-000/jobs", "executionSummaries", 31},
		{"job templates", "/job-templates", "jobTemplates", 30},
		{"managed job templates", "/managed-job-templates", "managedJobTemplates", 8},
	} {
		t.Run(list.name, func(t *testing.T) {
			var first []string
			for _, size := range []int{0, 250, 7, 1} {
				rows := o.walk(t, list.target, list.rows, size)
				if len(rows) != list.count {
					t.Fatalf("pages of %d have %d rows; want %d", size, len(rows), list.count)
				}
				if first == nil {
					first = rows
				}
				if !slices.Equal(rows, first) {
					t.Fatalf("pages of %d differ:\n%v\n%v", size, rows, first)
				}
			}
			if sorted := slices.Sorted(slices.Values(first)); len(slices.Compact(sorted)) != list.count {
				t.Fatal("a row comes twice")
			}
		})
	}
}

// walk reads a list to its end. size 0 leaves the size of pages to the service, which is 100.
func (o *operator) walk(t *testing.T, target, member string, size int) (rows []string) {
	t.Helper()
	token := ""
	for range 300 {
		page := o.page(t, target, size, token)
		var more []json.RawMessage
		if err := json.Unmarshal(page[member], &more); err != nil {
			t.Fatalf("%s: %v in %s", target, err, page[member])
		}
		if most := map[bool]int{true: 100, false: size}[size == 0]; len(more) > most {
			t.Fatalf("%s: a page has %d rows; at most %d were asked for", target, len(more), most)
		}
		for _, row := range more {
			rows = append(rows, string(row))
		}
		if page["nextToken"] == nil {
			return rows
		}
		if err := json.Unmarshal(page["nextToken"], &token); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s never ends", target)
	return nil
}

func (o *operator) page(t *testing.T, target string, size int, token string) (answer map[string]json.RawMessage) {
	t.Helper()
	q := url.Values{}
	if size > 0 {
		q.Set("maxResults", fmt.Sprint(size))
	}
	if token != "" {
		q.Set("nextToken", token)
	}
	if len(q) > 0 {
		target += map[bool]string{true: "&", false: "?"}[strings.Contains(target, "?")] + q.Encode()
	}
	o.must("GET", target, "", &answer)
	return answer
}

// A token is good for the list that returned it, with the same filters, and for nothing else.
func TestControlTokensBelongToTheirList(t *testing.T) {
	o := fleet(t)
	lists := []string{"/things", "/things?attributeName=color&attributeValue=red", "/things?attributeName=color", "/thing-groups/all/things",
		"/thing-groups/all/things?recursive=true", "/thing-groups", "/thing-groups?namePrefixFilter=group", "/things/thing-000/thing-groups",
		"/thing-types", "/jobs", "/jobs?status=IN_PROGRESS", "/jobs/wide/things", "/jobs/wide/things?status=QUEUED", "/jobs/narrow-00/things",
		"/things/thing-000/jobs", "/things/thing-000/jobs?status=QUEUED", "/job-templates", "/managed-job-templates"}
	for _, from := range lists {
		if from == "/jobs/narrow-00/things" {
			continue // one row: no second page
		}
		var token string
		if err := json.Unmarshal(o.page(t, from, 1, "")["nextToken"], &token); err != nil {
			t.Fatal(from, err)
		}
		for _, to := range lists {
			target := to + map[bool]string{true: "&", false: "?"}[strings.Contains(to, "?")] + "nextToken=" + token
			status, typ, answer := o.ask(o.control, "GET", target, "")
			if want := map[bool]int{true: 200, false: 400}[from == to]; status != want || want == 400 && typ != "InvalidRequestException" {
				t.Errorf("the token of %s on %s: %d %s %s", from, to, status, typ, answer)
			}
		}
	}
}

// Whatever a client sends as a token, the answer is a page or InvalidRequestException.
func TestControlBadTokens(t *testing.T) {
	o := fleet(t)
	marked := func(list, after string) string { return *nextToken(list, after) }
	for _, list := range []struct{ target, name string }{
		{"/things", listName("ListThings", "", "", "", "false", "false")},
		{"/thing-groups", listName("ListThingGroups", "", "false", "")},
		{"/thing-groups/all/things", listName("ListThingsInThingGroup", "all", "false")},
		{"/thing-types", listName("ListThingTypes", "")},
		{"/jobs", listName("ListJobs", "", "", "", "", "")},
		{"/jobs/wide/things", listName("ListJobExecutionsForJob", "wide", "")},
		{"/things/thing-000/jobs", listName("ListJobExecutionsForThing", "thing-000", "", "", "")},
		{"/job-templates", listName("ListJobTemplates")},
	} {
		for _, token := range []string{"x", "!!", "eA", marked(list.name, "x"), marked(list.name, "\x00\xff"), marked(list.name, "0"), marked(list.name, "0/")} {
			status, typ, answer := o.ask(o.control, "GET", list.target+"?nextToken="+url.QueryEscape(token), "")
			if status != 200 && typ != "InvalidRequestException" || len(token) < 4 && status == 200 {
				t.Errorf("%s with token %q: %d %s %s", list.target, token, status, typ, answer)
			}
		}
	}
}

// A filter looks far enough for the first page to have rows, however few are asked for, and its tokens go on
// where the page ended.
func TestControlFilterLooksFar(t *testing.T) {
	o := fleet(t)
	page := o.page(t, "/thing-groups?namePrefixFilter=group-10", 3, "")
	if got := string(page["thingGroups"]); strings.Count(got, `"groupName":"group-10`) != 3 {
		t.Errorf("the first page of three is %s", got)
	}
	if rows := o.walk(t, "/thing-groups?namePrefixFilter=group-10", "thingGroups", 3); len(rows) != 10 {
		t.Errorf("all pages have %d rows; want 10", len(rows))
	}
	if page = o.page(t, "/thing-groups?namePrefixFilter=group-10", 10, ""); page["nextToken"] != nil {
		t.Errorf("after the last group of that prefix there is a token, %s", page["nextToken"])
	}
	if page = o.page(t, "/thing-groups?parentGroup=all&recursive=true", 1, ""); !strings.Contains(string(page["thingGroups"]), "few") {
		t.Errorf("the first page of what is below is %s", page["thingGroups"])
	}
}
