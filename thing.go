package muster

// ThingName is 1..128 of [a-zA-Z0-9:_-] (control-plane.md §1, NAME).
type ThingName string

// TypeName names a thing type, as ThingName.
type TypeName string

// A Thing is a device as the registry knows it.
type Thing struct {
	Name         ThingName
	ID           string // UUID, given once
	Type         TypeName
	Attributes   Pairs
	BillingGroup string // kept and returned, nothing more
	Version      int64  // 1 when made, +1 per update
}

// A ThingType groups things of a kind. Things cannot be made with a deprecated type.
type ThingType struct {
	Name         TypeName
	ID           string
	Description  string
	Searchable   []string // attribute names, at most 3
	Created      Time
	Deprecated   bool
	DeprecatedAt Time
}

// Limits of the registry (events-and-limits.md §2).
const (
	MaxAttributesUntyped = 3
	MaxAttributesTyped   = 50
	MaxAttributeBytes    = 47 << 10
	MaxSearchable        = 3
	MaxGroupsOfThing     = 10
	MaxGroupDepth        = 7
	MaxChildren          = 100
	MaxGroupAttributes   = 50
	MaxTags              = 50
)

// CheckAttributes says whether a thing of that type, or of none, may carry the attributes.
func CheckAttributes(t TypeName, a Pairs) error {
	n := a.Len()
	if t == "" && n > MaxAttributesUntyped {
		return Errorf(Invalid, "attributePayload.attributes has %d attributes; a thing without a thing type may have at most %d", n, MaxAttributesUntyped)
	}
	if n > MaxAttributesTyped {
		return Errorf(Invalid, "attributePayload.attributes has %d attributes; a thing may have at most %d", n, MaxAttributesTyped)
	}
	size := 0
	for k, v := range a.All() {
		size += len(k) + len(v)
	}
	if size > MaxAttributeBytes {
		return Errorf(Invalid, "attributePayload.attributes takes %d bytes; at most %d are allowed", size, MaxAttributeBytes)
	}
	return nil
}
