package awsapi

import (
	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
)

func (c *call) tagResource(in *iot.TagResourceInput) (wire.Output, error) {
	ref, err := c.parseARN("resourceArn", *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := c.engine.Tag(c.ctx, ref, tags); err != nil {
		return nil, err
	}
	return &iot.TagResourceOutput{}, nil
}

func (c *call) untagResource(in *iot.UntagResourceInput) (wire.Output, error) {
	ref, err := c.parseARN("resourceArn", *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if err := c.engine.Untag(c.ctx, ref, in.TagKeys); err != nil {
		return nil, err
	}
	return &iot.UntagResourceOutput{}, nil
}

// listTags answers all tags at once, as there are at most 50: no token is one of its own.
func (c *call) listTags(in *iot.ListTagsForResourceInput) (wire.Output, error) {
	ref, err := c.parseARN("resourceArn", *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if text(in.NextToken) != "" {
		return nil, muster.Errorf(muster.Invalid, "nextToken is not one that this list returned")
	}
	tags, err := c.engine.Tags(c.ctx, ref)
	if err != nil {
		return nil, err
	}
	out := &iot.ListTagsForResourceOutput{Tags: []iot.Tag{}}
	for k, v := range tags.All() {
		out.Tags = append(out.Tags, iot.Tag{Key: wire.Ptr(k), Value: wire.Ptr(v)})
	}
	return out, nil
}

// tagsOf reads tags, of which each key may be given once.
func tagsOf(in []iot.Tag) (muster.Pairs, error) {
	var b muster.PairsBuilder
	seen := make(map[string]bool, len(in))
	for _, t := range in {
		if seen[*t.Key] {
			return "", muster.Errorf(muster.Invalid, "tags has the key %s twice; each may be given once", *t.Key)
		}
		seen[*t.Key] = true
		b.Set(*t.Key, text(t.Value))
	}
	return b.Pairs(), nil
}
