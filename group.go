package muster

// GroupName names a thing group, as ThingName.
type GroupName string

// A Group is a static thing group. Its parent is fixed when it is made.
type Group struct {
	Name        GroupName
	ID          string // UUID, given once
	Seq         uint64 // order of creation in the store: a child's is larger than its parent's
	Parent      GroupName
	Description string
	Attributes  Pairs
	Version     int64
	Created     Time
}

// A Membership says that a thing is in a group since a moment in the store's sequence. A SNAPSHOT
// job reaches the memberships that are not younger than itself (design §7).
type Membership struct {
	Group GroupName
	Thing ThingName
	Seq   uint64
}
