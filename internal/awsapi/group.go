package awsapi

import (
	"strconv"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

func (c *call) createGroup(in *iot.CreateThingGroupInput) (wire.Output, error) {
	group := muster.Group{Name: muster.GroupName(in.ThingGroupName), Parent: muster.GroupName(text(in.ParentGroupName))}
	if p := in.ThingGroupProperties; p != nil {
		group.Description, group.Attributes = text(p.ThingGroupDescription), newAttributes(p.AttributePayload)
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	made, err := c.engine.CreateGroup(c.ctx, group, tags)
	if err != nil {
		return nil, err
	}
	return &iot.CreateThingGroupOutput{ThingGroupName: given(made.Name), ThingGroupARN: c.groupARN(made.Name), ThingGroupID: given(made.ID)}, nil
}

func (c *call) describeGroup(in *iot.DescribeThingGroupInput) (wire.Output, error) {
	group, ancestors, err := c.engine.DescribeGroup(c.ctx, muster.GroupName(in.ThingGroupName))
	if err != nil {
		return nil, err
	}
	properties := &iot.ThingGroupProperties{ThingGroupDescription: given(group.Description)}
	if group.Attributes != "" {
		properties.AttributePayload = &iot.AttributePayload{Attributes: mapOf(group.Attributes)}
	}
	metadata := &iot.ThingGroupMetadata{ParentGroupName: given(group.Parent), CreationDate: moment(group.Created)}
	if len(ancestors) > 0 {
		metadata.RootToParentThingGroups = c.groupRows(ancestors)
	}
	return &iot.DescribeThingGroupOutput{ThingGroupName: given(group.Name), ThingGroupID: given(group.ID), ThingGroupARN: c.groupARN(group.Name),
		Version: wire.Ptr(group.Version), ThingGroupProperties: properties, ThingGroupMetadata: metadata}, nil
}

func (c *call) updateGroup(in *iot.UpdateThingGroupInput) (wire.Output, error) {
	patch := engine.GroupPatch{Description: in.ThingGroupProperties.ThingGroupDescription, Expected: in.ExpectedVersion}
	patch.Attributes, patch.Merge = attributesPatch(in.ThingGroupProperties.AttributePayload)
	version, err := c.engine.UpdateGroup(c.ctx, muster.GroupName(in.ThingGroupName), patch)
	if err != nil {
		return nil, err
	}
	return &iot.UpdateThingGroupOutput{Version: &version}, nil
}

func (c *call) deleteGroup(in *iot.DeleteThingGroupInput) (wire.Output, error) {
	if err := c.engine.DeleteGroup(c.ctx, muster.GroupName(in.ThingGroupName), in.ExpectedVersion); err != nil {
		return nil, err
	}
	return &iot.DeleteThingGroupOutput{}, nil
}

func (c *call) listGroups(in *iot.ListThingGroupsInput) (wire.Output, error) {
	f := engine.GroupFilter{Parent: muster.GroupName(text(in.ParentGroup)), Recursive: is(in.Recursive), Prefix: text(in.NamePrefixFilter)}
	list := listName("ListThingGroups", string(f.Parent), strconv.FormatBool(f.Recursive), f.Prefix)
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	groups, next, err := c.engine.ListGroups(c.ctx, f, p)
	if err != nil {
		return nil, err
	}
	return &iot.ListThingGroupsOutput{ThingGroups: c.groupRows(groups), NextToken: nextToken(list, next)}, nil
}

func (c *call) addToGroup(in *iot.AddThingToThingGroupInput) (wire.Output, error) {
	group, thing, err := c.membershipOf(in.ThingGroupName, in.ThingGroupARN, in.ThingName, in.ThingARN)
	if err != nil {
		return nil, err
	}
	if err := c.engine.AddToGroup(c.ctx, group, thing); err != nil {
		return nil, err
	}
	return &iot.AddThingToThingGroupOutput{}, nil
}

func (c *call) removeFromGroup(in *iot.RemoveThingFromThingGroupInput) (wire.Output, error) {
	group, thing, err := c.membershipOf(in.ThingGroupName, in.ThingGroupARN, in.ThingName, in.ThingARN)
	if err != nil {
		return nil, err
	}
	if err := c.engine.RemoveFromGroup(c.ctx, group, thing); err != nil {
		return nil, err
	}
	return &iot.RemoveThingFromThingGroupOutput{}, nil
}

func (c *call) listThingsInGroup(in *iot.ListThingsInThingGroupInput) (wire.Output, error) {
	list := listName("ListThingsInThingGroup", in.ThingGroupName, strconv.FormatBool(is(in.Recursive)))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	names, next, err := c.engine.ThingsInGroup(c.ctx, muster.GroupName(in.ThingGroupName), is(in.Recursive), p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListThingsInThingGroupOutput{Things: make([]string, len(names)), NextToken: nextToken(list, next)}
	for i, name := range names {
		out.Things[i] = string(name)
	}
	return out, nil
}

func (c *call) listGroupsForThing(in *iot.ListThingGroupsForThingInput) (wire.Output, error) {
	list := listName("ListThingGroupsForThing", in.ThingName)
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	groups, err := c.engine.GroupsOf(c.ctx, muster.ThingName(in.ThingName))
	if err != nil {
		return nil, err
	}
	rows, next := inMemory(groups, func(g muster.Group) string { return string(g.Name) }, p)
	return &iot.ListThingGroupsForThingOutput{ThingGroups: c.groupRows(rows), NextToken: nextToken(list, next)}, nil
}

func (c *call) updateGroupsForThing(in *iot.UpdateThingGroupsForThingInput) (wire.Output, error) {
	if in.ThingName == nil {
		return nil, muster.Errorf(muster.Invalid, "thingName is missing; it must name the thing")
	}
	err := c.engine.UpdateGroupsOfThing(c.ctx, muster.ThingName(*in.ThingName), groupNames(in.ThingGroupsToAdd), groupNames(in.ThingGroupsToRemove))
	if err != nil {
		return nil, err
	}
	return &iot.UpdateThingGroupsForThingOutput{}, nil
}

func groupNames(in []string) []muster.GroupName {
	names := make([]muster.GroupName, len(in))
	for i, name := range in {
		names[i] = muster.GroupName(name)
	}
	return names
}

// membershipOf reads the group and the thing of a request that may name each by name or by ARN.
func (c *call) membershipOf(groupName, groupARN, thingName, thingARN *string) (muster.GroupName, muster.ThingName, error) {
	group, err := c.nameOf(muster.RefGroup, "thingGroupName", groupName, "thingGroupArn", groupARN)
	if err != nil {
		return "", "", err
	}
	thing, err := c.nameOf(muster.RefThing, "thingName", thingName, "thingArn", thingARN)
	return muster.GroupName(group), muster.ThingName(thing), err
}

// nameOf is the name that one of two members gives, or both if they agree.
func (c *call) nameOf(kind muster.RefKind, nameMember string, name *string, arnMember string, arn *string) (string, error) {
	switch {
	case name == nil && arn == nil:
		return "", muster.Errorf(muster.Invalid, "%s and %s are missing; one of them must be given", nameMember, arnMember)
	case arn == nil:
		return *name, nil
	}
	ref, err := c.parseARN(arnMember, *arn)
	if err != nil {
		return "", err
	}
	if ref.Kind != kind {
		return "", muster.Errorf(muster.Invalid, "%s is %s, which is a %s; it must be a %s", arnMember, *arn, ref.Kind, kind)
	}
	if name != nil && *name != ref.Name {
		return "", muster.Errorf(muster.Invalid, "%s is %s and %s is %s; they must name the same", nameMember, *name, arnMember, *arn)
	}
	return ref.Name, nil
}

func (c *call) groupRows(groups []muster.Group) []iot.GroupNameAndArn {
	rows := make([]iot.GroupNameAndArn, len(groups))
	for i, g := range groups {
		rows[i] = iot.GroupNameAndArn{GroupName: given(g.Name), GroupARN: c.groupARN(g.Name)}
	}
	return rows
}

func (c *call) groupARN(name muster.GroupName) *string {
	return wire.Ptr(c.arn(muster.RefGroup, string(name)))
}
