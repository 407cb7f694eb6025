package operate

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// group plans a group and its members.
func (p *planner) group(ctx context.Context, g *Group) error {
	name := &g.ThingGroupName
	props := &types.ThingGroupProperties{ThingGroupDescription: g.Description}
	if g.Attributes != nil {
		props.AttributePayload = &types.AttributePayload{Attributes: g.Attributes}
	}
	is, err := p.control.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: name})
	switch {
	case missing(err):
		p.made[*name] = true
		s := &Step{Sign: "+", What: "group " + *name}
		in := &iot.CreateThingGroupInput{ThingGroupName: name, ThingGroupProperties: props}
		if g.ParentGroupName != "" {
			in.ParentGroupName = &g.ParentGroupName
			s.detail("parent: %s", g.ParentGroupName)
		}
		s.do = append(s.do, func(ctx context.Context) error { _, err := p.control.CreateThingGroup(ctx, in); return err })
		p.add(s)
		return p.members(ctx, g, nil)
	case err != nil:
		return err
	}
	if g.ParentGroupName != "" && (is.ThingGroupMetadata == nil || aws.ToString(is.ThingGroupMetadata.ParentGroupName) != g.ParentGroupName) {
		p.wrong("group %s: its parent cannot be changed to %s", *name, g.ParentGroupName)
	}
	s := &Step{Sign: "~", What: "group " + *name}
	have := is.ThingGroupProperties
	if have == nil {
		have = new(types.ThingGroupProperties)
	}
	changed := s.differs("description", g.Description, have.ThingGroupDescription)
	if g.Attributes != nil {
		attributes := map[string]string{}
		if have.AttributePayload != nil {
			attributes = have.AttributePayload.Attributes
		}
		changed = s.differs("attributes", g.Attributes, attributes) || changed
	}
	if changed {
		if props.ThingGroupDescription == nil {
			props.ThingGroupDescription = have.ThingGroupDescription
		}
		if props.AttributePayload != nil {
			props.AttributePayload.Merge = true
		}
		in := &iot.UpdateThingGroupInput{ThingGroupName: name, ThingGroupProperties: props, ExpectedVersion: aws.Int64(is.Version)}
		s.do = append(s.do, func(ctx context.Context) error { _, err := p.control.UpdateThingGroup(ctx, in); return err })
	}
	p.add(s)
	var members []string
	in := &iot.ListThingsInThingGroupInput{ThingGroupName: name, MaxResults: aws.Int32(250)}
	for more := true; more; more = in.NextToken != nil {
		page, err := p.control.ListThingsInThingGroup(ctx, in)
		if err != nil {
			return err
		}
		in.NextToken = page.NextToken
		members = append(members, page.Things...)
	}
	return p.members(ctx, g, members)
}

// members plans who joins, and who leaves if that is wanted.
func (p *planner) members(ctx context.Context, g *Group, members []string) error {
	if g.Things == nil {
		return nil
	}
	name := &g.ThingGroupName
	s := &Step{Sign: "~", What: "members of group " + *name}
	for _, thing := range g.Things {
		if slices.Contains(members, thing) {
			continue
		}
		if _, err := p.control.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &thing}); missing(err) {
			p.wrong("group %s: there is no thing %s (muster import makes many at once)", *name, thing)
			continue
		} else if err != nil {
			return err
		}
		s.detail("+ %s", thing)
		s.do = append(s.do, func(ctx context.Context) error {
			_, err := p.control.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: name, ThingName: &thing})
			return err
		})
	}
	others := 0
	for _, thing := range members {
		if _, listed := slices.BinarySearch(g.Things, thing); listed {
			continue
		}
		if others++; !p.prune {
			continue
		}
		s.detail("- %s", thing)
		s.do = append(s.do, func(ctx context.Context) error {
			_, err := p.control.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: name, ThingName: &thing})
			return err
		})
	}
	p.add(s)
	if others > 0 && !p.prune {
		p.plan.Notes = append(p.plan.Notes, "group "+*name+" has members that the file does not name; they stay (--prune removes them)")
	}
	return nil
}
