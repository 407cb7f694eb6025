package sdk_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func goEndpoint(t *testing.T, s sdk) {
	for _, kind := range []string{"iot:Data", "iot:Data-ATS", "iot:Jobs", "iot:CredentialProvider"} {
		at := val(must(s.control.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: &kind}))(t).EndpointAddress)
		if at == "" || strings.Contains(at, "/") {
			t.Errorf("%s: want a bare host, got %q", kind, at)
		}
	}
	_, err := s.control.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: new("iot:Nothing")})
	refused[*types.InvalidRequestException](t, err)
}

func goThings(t *testing.T, s sdk) {
	ctx := t.Context()
	kind, name := "pump", "things-pump:1"
	must(s.control.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: &kind,
		ThingTypeProperties: &types.ThingTypeProperties{ThingTypeDescription: new("moves water"), SearchableAttributes: []string{"site"}}}))(t)
	told := must(s.control.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: &kind}))(t)
	same(t, "type description", val(val(told.ThingTypeProperties).ThingTypeDescription), "moves water")

	// The same creation again is fine, another one under the same name is not.
	at := func(site string) *iot.CreateThingInput {
		return &iot.CreateThingInput{ThingName: &name, ThingTypeName: &kind, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"site": site}}}
	}
	first := must(s.control.CreateThing(ctx, at("north")))(t)
	again := must(s.control.CreateThing(ctx, at("north")))(t)
	same(t, "thing id", val(again.ThingId), val(first.ThingId))
	same(t, "thing arn", val(first.ThingArn), "arn:aws:iot:us-east-1:123456789012:thing/"+name)
	_, err := s.control.CreateThing(ctx, at("south"))
	refused[*types.ResourceAlreadyExistsException](t, err)
	_, err = s.control.CreateThing(ctx, &iot.CreateThingInput{ThingName: new("things-odd"), ThingTypeName: new("no-such-type")})
	refused[*types.ResourceNotFoundException](t, err)

	must(s.control.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: &name, ExpectedVersion: new(int64(1)),
		AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{"floor": "2"}}}))(t)
	thing := must(s.control.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name}))(t)
	same(t, "version", thing.Version, 2)
	same(t, "site", thing.Attributes["site"], "north")
	same(t, "floor", thing.Attributes["floor"], "2")
	same(t, "client id", val(thing.DefaultClientId), name)
	same(t, "type", val(thing.ThingTypeName), kind)
	_, err = s.control.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: &name, ExpectedVersion: new(int64(1)), RemoveThingType: true})
	refused[*types.VersionConflictException](t, err)

	_, err = s.control.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: &kind})
	refused[*types.InvalidRequestException](t, err)
	must(s.control.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: &kind}))(t)
	_, err = s.control.CreateThing(ctx, &iot.CreateThingInput{ThingName: new("things-late"), ThingTypeName: &kind})
	refused[*types.InvalidRequestException](t, err)

	for range 2 { // a thing that is not there deletes well
		must(s.control.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name}))(t)
	}
	_, err = s.control.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
	refused[*types.ResourceNotFoundException](t, err)
}

func goGroups(t *testing.T, s sdk) {
	ctx := t.Context()
	s.thing(t, "groups-a")
	s.thing(t, "groups-b")
	s.group(t, "groups-plant", "groups-a")
	must(s.control.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("groups-hall"), ParentGroupName: new("groups-plant")}))(t)
	s.join(t, "groups-b", "groups-hall")
	s.join(t, "groups-b", "groups-hall")

	members := func(recursive bool) string {
		out := must(s.control.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: new("groups-plant"), Recursive: recursive}))(t)
		slices.Sort(out.Things)
		return strings.Join(out.Things, " ")
	}
	same(t, "members", members(false), "groups-a")
	same(t, "members with children's", members(true), "groups-a groups-b")

	hall := must(s.control.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: new("groups-hall")}))(t)
	same(t, "parent", val(val(hall.ThingGroupMetadata).ParentGroupName), "groups-plant")
	of := must(s.control.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: new("groups-b")}))(t)
	if len(of.ThingGroups) != 1 || val(of.ThingGroups[0].GroupName) != "groups-hall" {
		t.Errorf("groups of groups-b: got %v", of.ThingGroups)
	}

	_, err := s.control.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: new("groups-plant")})
	refused[*types.InvalidRequestException](t, err) // it has a child
	_, err = s.control.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: new("groups-nobody"), ThingGroupName: new("groups-hall")})
	refused[*types.ResourceNotFoundException](t, err)

	s.leave(t, "groups-b", "groups-hall")
	same(t, "members after leaving", members(true), "groups-a")
	must(s.control.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: new("groups-hall")}))(t)
	_, err = s.control.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: new("groups-hall")})
	refused[*types.ResourceNotFoundException](t, err)
}

func goPaging(t *testing.T, s sdk) {
	const count = 1000
	names := make(chan string)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for name := range names {
				if _, err := s.control.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name,
					AttributePayload: &types.AttributePayload{Attributes: map[string]string{"fleet": "paging"}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range count {
		names <- fmt.Sprintf("paging-%04d", i)
	}
	close(names)
	workers.Wait()

	// Other journeys create things meanwhile, so look for these only: none missing, none twice.
	list := func(in *iot.ListThingsInput) map[string]int {
		seen := map[string]int{}
		pages := iot.NewListThingsPaginator(s.control, in)
		for pages.HasMorePages() {
			page := must(pages.NextPage(t.Context()))(t)
			if limit := int(val(in.MaxResults)); limit > 0 && len(page.Things) > limit {
				t.Errorf("page of %d, asked for %d", len(page.Things), limit)
			}
			for _, thing := range page.Things {
				if strings.HasPrefix(val(thing.ThingName), "paging-") {
					seen[val(thing.ThingName)]++
				}
			}
		}
		return seen
	}
	for what, in := range map[string]*iot.ListThingsInput{
		"default pages":       {},
		"pages of 250":        {MaxResults: new(int32(250))},
		"pages of 37":         {MaxResults: new(int32(37))},
		"filter by attribute": {AttributeName: new("fleet"), AttributeValue: new("paging"), MaxResults: new(int32(100))},
	} {
		seen := list(in)
		same(t, what+": things", len(seen), count)
		for name, n := range seen {
			same(t, what+": "+name, n, 1)
		}
	}
	_, err := s.control.ListThings(t.Context(), &iot.ListThingsInput{NextToken: new("not a token")})
	refused[*types.InvalidRequestException](t, err)
}

func goTags(t *testing.T, s sdk) {
	ctx := t.Context()
	thing := s.thing(t, "tags-a")
	arn := s.create(t, &iot.CreateJobInput{JobId: new("tags-job"), Targets: []string{thing}, Tags: []types.Tag{{Key: new("team"), Value: new("pumps")}}})
	tags := func() string {
		out := must(s.control.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn}))(t)
		var all []string
		for _, tag := range out.Tags {
			all = append(all, val(tag.Key)+"="+val(tag.Value))
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	same(t, "tags at creation", tags(), "team=pumps")
	must(s.control.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn,
		Tags: []types.Tag{{Key: new("team"), Value: new("valves")}, {Key: new("cost center"), Value: new("42")}}}))(t)
	same(t, "tags after tagging", tags(), "cost center=42 team=valves")
	must(s.control.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"team"}}))(t)
	same(t, "tags after untagging", tags(), "cost center=42")

	arn = s.group(t, "tags-group")
	must(s.control.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: []types.Tag{{Key: new("site"), Value: new("north")}}}))(t)
	same(t, "a group's tags", tags(), "site=north")

	_, err := s.control.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: new("arn:aws:iot:us-east-1:123456789012:job/tags-no-such-job")})
	refused[*types.ResourceNotFoundException](t, err)
}
