package awsapi

import (
	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
)

// mqtt5Configuration of thing types is accepted and forgotten: nothing here propagates attributes, and
// to show it would say otherwise.

func (c *call) createThingType(in *iot.CreateThingTypeInput) (wire.Output, error) {
	t := muster.ThingType{Name: muster.TypeName(in.ThingTypeName)}
	if p := in.ThingTypeProperties; p != nil {
		t.Description, t.Searchable = text(p.ThingTypeDescription), p.SearchableAttributes
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	made, err := c.engine.CreateThingType(c.ctx, t, tags)
	if err != nil {
		return nil, err
	}
	return &iot.CreateThingTypeOutput{ThingTypeName: given(made.Name), ThingTypeARN: c.typeARN(made.Name), ThingTypeID: given(made.ID)}, nil
}

func (c *call) describeThingType(in *iot.DescribeThingTypeInput) (wire.Output, error) {
	t, err := c.engine.DescribeThingType(c.ctx, muster.TypeName(in.ThingTypeName))
	if err != nil {
		return nil, err
	}
	return &iot.DescribeThingTypeOutput{ThingTypeName: given(t.Name), ThingTypeID: given(t.ID), ThingTypeARN: c.typeARN(t.Name),
		ThingTypeProperties: typeProperties(t), ThingTypeMetadata: typeMetadata(t)}, nil
}

func (c *call) updateThingType(in *iot.UpdateThingTypeInput) (wire.Output, error) {
	p := in.ThingTypeProperties
	if p == nil {
		p = &iot.ThingTypeProperties{}
	}
	if err := c.engine.UpdateThingType(c.ctx, muster.TypeName(in.ThingTypeName), p.ThingTypeDescription, p.SearchableAttributes); err != nil {
		return nil, err
	}
	return &iot.UpdateThingTypeOutput{}, nil
}

func (c *call) deprecateThingType(in *iot.DeprecateThingTypeInput) (wire.Output, error) {
	if err := c.engine.DeprecateThingType(c.ctx, muster.TypeName(in.ThingTypeName), is(in.UndoDeprecate)); err != nil {
		return nil, err
	}
	return &iot.DeprecateThingTypeOutput{}, nil
}

func (c *call) deleteThingType(in *iot.DeleteThingTypeInput) (wire.Output, error) {
	if err := c.engine.DeleteThingType(c.ctx, muster.TypeName(in.ThingTypeName)); err != nil {
		return nil, err
	}
	return &iot.DeleteThingTypeOutput{}, nil
}

func (c *call) listThingTypes(in *iot.ListThingTypesInput) (wire.Output, error) {
	list := listName("ListThingTypes", text(in.ThingTypeName))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	types, next, err := c.engine.ListThingTypes(c.ctx, muster.TypeName(text(in.ThingTypeName)), p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListThingTypesOutput{ThingTypes: make([]iot.ThingTypeDefinition, len(types)), NextToken: nextToken(list, next)}
	for i, t := range types {
		out.ThingTypes[i] = iot.ThingTypeDefinition{ThingTypeName: given(t.Name), ThingTypeARN: c.typeARN(t.Name), ThingTypeProperties: typeProperties(t), ThingTypeMetadata: typeMetadata(t)}
	}
	return out, nil
}

func typeProperties(t muster.ThingType) *iot.ThingTypeProperties {
	out := &iot.ThingTypeProperties{ThingTypeDescription: given(t.Description)}
	if len(t.Searchable) > 0 {
		out.SearchableAttributes = t.Searchable
	}
	return out
}

func typeMetadata(t muster.ThingType) *iot.ThingTypeMetadata {
	return &iot.ThingTypeMetadata{Deprecated: wire.Ptr(t.Deprecated), DeprecationDate: moment(t.DeprecatedAt), CreationDate: moment(t.Created)}
}

func (c *call) typeARN(name muster.TypeName) *string {
	return wire.Ptr(c.arn(muster.RefType, string(name)))
}
