package awsapi

import (
	"strings"

	"muster"
)

// arn names a resource of this account, in the region of the call.
func (c *call) arn(kind muster.RefKind, name string) string {
	return "arn:" + partition(c.region) + ":iot:" + c.region + ":" + c.config.Account + ":" + string(kind) + "/" + name
}

func (c *call) targetARN(t muster.Target) string {
	if t.Group != "" {
		return c.arn(muster.RefGroup, string(t.Group))
	}
	return c.arn(muster.RefThing, string(t.Thing))
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// parseARN reads an ARN of this account. member names the request member in errors.
func (c *call) parseARN(member, text string) (muster.Ref, error) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "iot" {
		return muster.Ref{}, muster.Errorf(muster.Invalid, "%s is %q, which is not an ARN of the form arn:aws:iot:REGION:ACCOUNT:KIND/NAME", member, text)
	}
	if parts[3] != c.region && parts[3] != c.config.Region {
		return muster.Ref{}, muster.Errorf(muster.Invalid, "%s is %s, which is in region %s; this is %s", member, text, parts[3], c.region)
	}
	kind, name, ok := strings.Cut(parts[5], "/")
	if !ok || name == "" {
		return muster.Ref{}, muster.Errorf(muster.Invalid, "%s is %q, which names no resource", member, text)
	}
	// Managed templates belong to no account.
	if parts[4] != c.config.Account && !(parts[4] == "" && muster.RefKind(kind) == muster.RefTemplate) {
		return muster.Ref{}, muster.Errorf(muster.Invalid, "%s is %s, which is in account %s; this is %s", member, text, parts[4], c.config.Account)
	}
	return muster.Ref{Kind: muster.RefKind(kind), Name: name}, nil
}

// parseTarget reads the ARN of a thing or a thing group.
func (c *call) parseTarget(member, text string) (muster.Target, error) {
	ref, err := c.parseARN(member, text)
	if err != nil {
		return muster.Target{}, err
	}
	switch ref.Kind {
	case muster.RefThing:
		return muster.Target{Thing: muster.ThingName(ref.Name)}, nil
	case muster.RefGroup:
		return muster.Target{Group: muster.GroupName(ref.Name)}, nil
	}
	return muster.Target{}, muster.Errorf(muster.Invalid, "%s is %s, which is neither a thing nor a thing group", member, text)
}
