package awsapi

import (
	"strconv"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

func (c *call) createThing(in *iot.CreateThingInput) (wire.Output, error) {
	thing := muster.Thing{Name: muster.ThingName(in.ThingName), Type: muster.TypeName(text(in.ThingTypeName)), BillingGroup: text(in.BillingGroupName)}
	thing.Attributes = newAttributes(in.AttributePayload)
	made, err := c.engine.CreateThing(c.ctx, thing)
	if err != nil {
		return nil, err
	}
	return &iot.CreateThingOutput{ThingName: given(made.Name), ThingARN: c.thingARN(made.Name), ThingID: given(made.ID)}, nil
}

func (c *call) describeThing(in *iot.DescribeThingInput) (wire.Output, error) {
	thing, err := c.engine.DescribeThing(c.ctx, muster.ThingName(in.ThingName))
	if err != nil {
		return nil, err
	}
	return &iot.DescribeThingOutput{
		DefaultClientID:  given(thing.Name),
		ThingName:        given(thing.Name),
		ThingID:          given(thing.ID),
		ThingARN:         c.thingARN(thing.Name),
		ThingTypeName:    given(thing.Type),
		Attributes:       mapOf(thing.Attributes),
		Version:          wire.Ptr(thing.Version),
		BillingGroupName: given(thing.BillingGroup),
	}, nil
}

func (c *call) updateThing(in *iot.UpdateThingInput) (wire.Output, error) {
	patch := engine.ThingPatch{Type: muster.TypeName(text(in.ThingTypeName)), RemoveType: is(in.RemoveThingType), Expected: in.ExpectedVersion}
	patch.Attributes, patch.Merge = attributesPatch(in.AttributePayload)
	if err := c.engine.UpdateThing(c.ctx, muster.ThingName(in.ThingName), patch); err != nil {
		return nil, err
	}
	return &iot.UpdateThingOutput{}, nil
}

func (c *call) deleteThing(in *iot.DeleteThingInput) (wire.Output, error) {
	if err := c.engine.DeleteThing(c.ctx, muster.ThingName(in.ThingName), in.ExpectedVersion); err != nil {
		return nil, err
	}
	return &iot.DeleteThingOutput{}, nil
}

func (c *call) listThings(in *iot.ListThingsInput) (wire.Output, error) {
	prefix := is(in.UsePrefixAttributeValue)
	switch {
	case in.AttributeValue != nil && in.AttributeName == nil:
		return nil, muster.Errorf(muster.Invalid, "attributeValue is %q without attributeName; it must go with one", *in.AttributeValue)
	case prefix && in.AttributeValue == nil:
		return nil, muster.Errorf(muster.Invalid, "usePrefixAttributeValue is true without attributeValue; it must go with one")
	}
	list := listName("ListThings", text(in.ThingTypeName), text(in.AttributeName), text(in.AttributeValue), strconv.FormatBool(in.AttributeValue != nil), strconv.FormatBool(prefix))
	p, err := page(list, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	// A name alone asks for the things that have the attribute, whatever its value.
	anyValue := in.AttributeName != nil && in.AttributeValue == nil
	things, next, err := c.engine.ListThings(c.ctx, engine.ThingFilter{Type: muster.TypeName(text(in.ThingTypeName)),
		Attribute: text(in.AttributeName), Value: text(in.AttributeValue), Prefix: prefix || anyValue}, p)
	if err != nil {
		return nil, err
	}
	out := &iot.ListThingsOutput{Things: make([]iot.ThingAttribute, len(things)), NextToken: nextToken(list, next)}
	for i, t := range things {
		out.Things[i] = iot.ThingAttribute{ThingName: given(t.Name), ThingTypeName: given(t.Type), ThingARN: c.thingARN(t.Name), Attributes: mapOf(t.Attributes), Version: wire.Ptr(t.Version)}
	}
	return out, nil
}

func (c *call) thingARN(name muster.ThingName) *string {
	return wire.Ptr(c.arn(muster.RefThing, string(name)))
}

// newAttributes are those of something that is made: merge has nothing to act on, and an empty value
// means that the attribute is not there, as in an update.
func newAttributes(p *iot.AttributePayload) muster.Pairs {
	if p == nil {
		return ""
	}
	return muster.Pairs("").Merge(pairs(p.Attributes))
}

// attributesPatch reads attributePayload of an update: without attributes, whatever merge says, they stay.
func attributesPatch(p *iot.AttributePayload) (attributes *muster.Pairs, merge bool) {
	if p == nil || p.Attributes == nil {
		return nil, false
	}
	return wire.Ptr(pairs(p.Attributes)), is(p.Merge)
}
