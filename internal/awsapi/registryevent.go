package awsapi

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/engine"
)

// change says what happened to a fact's row.
func (c *cause) change() (operation string) {
	switch {
	case c.fact.Before == "":
		return "CREATED"
	case c.fact.After == "":
		return "DELETED"
	}
	return "UPDATED"
}

// registry adds an event about the registry: it happened about now, for these rows have no time of their
// own. more fills in what is to be looked up; it may be nil.
func (c *cause) registry(topic string, head *eventHead, body any, more func(engine.Glance)) {
	c.add(&event{topic: topic, head: head, body: body, load: func(l engine.Glance) {
		head.Timestamp = int64(l.Now)
		if more != nil {
			more(l)
		}
	}})
}

// attributesOf is never nil: no attributes are an empty object.
func attributesOf(p muster.Pairs) json.RawMessage {
	return marshal(p)
}

// A thingBody is the payload of an event about a thing.
type thingBody struct {
	eventHead
	AccountID  string           `json:"accountId"`
	ThingID    string           `json:"thingId"`
	ThingName  muster.ThingName `json:"thingName"`
	Version    int64            `json:"versionNumber"`
	TypeName   *muster.TypeName `json:"thingTypeName"`
	Attributes json.RawMessage  `json:"attributes"`
}

// An associationBody is the payload of an event about the type of a thing.
type associationBody struct {
	eventHead
	ThingID   string           `json:"thingId"`
	ThingName muster.ThingName `json:"thingName"`
	TypeName  muster.TypeName  `json:"thingTypeName"`
}

func (c *cause) thingEvents() {
	if !c.on[iot.EventTypeThing] && !c.on[iot.EventTypeThingTypeAssociation] {
		return
	}
	before, after, ok := rows[muster.Thing](c)
	if !ok {
		return
	}
	thing := &after
	if c.fact.After == "" {
		thing = &before
	}
	if operation := c.change(); c.on[iot.EventTypeThing] {
		topic := "thing/" + c.fact.Name + "/" + strings.ToLower(operation)
		if head, wanted := c.head("THING_EVENT", operation, topic); wanted {
			body := &thingBody{eventHead: head, AccountID: c.config.Account, ThingID: thing.ID, ThingName: thing.Name,
				Version: thing.Version, Attributes: attributesOf(thing.Attributes)}
			if thing.Type != "" {
				body.TypeName = &thing.Type
			}
			c.registry(topic, &body.eventHead, body, nil)
		}
	}
	if c.on[iot.EventTypeThingTypeAssociation] && before.Type != after.Type {
		c.association(thing, before.Type, "REMOVED")
		c.association(thing, after.Type, "ADDED")
	}
}

func (c *cause) association(thing *muster.Thing, t muster.TypeName, operation string) {
	if t == "" {
		return
	}
	topic := "thingTypeAssociation/thing/" + string(thing.Name) + "/thingType/" + string(t) + "/" + strings.ToLower(operation)
	if head, wanted := c.head("THING_TYPE_ASSOCIATION_EVENT", operation, topic); wanted {
		body := &associationBody{eventHead: head, ThingID: thing.ID, ThingName: thing.Name, TypeName: t}
		c.registry(topic, &body.eventHead, body, nil)
	}
}

// A typeBody is the payload of an event about a thing type.
type typeBody struct {
	eventHead
	AccountID   string          `json:"accountId"`
	TypeID      string          `json:"thingTypeId"`
	TypeName    muster.TypeName `json:"thingTypeName"`
	Deprecated  bool            `json:"isDeprecated"`
	Deprecation *muster.Time    `json:"deprecationDate"` // milliseconds
	Searchable  []string        `json:"searchableAttributes"`
	Description string          `json:"description"`
}

func (c *cause) typeEvent() {
	if !c.on[iot.EventTypeThingType] {
		return
	}
	before, after, ok := rows[muster.ThingType](c)
	if !ok {
		return
	}
	row := &after
	if c.fact.After == "" {
		row = &before
	}
	operation := c.change()
	topic := "thingType/" + c.fact.Name + "/" + strings.ToLower(operation)
	head, wanted := c.head("THING_TYPE_EVENT", operation, topic)
	if !wanted {
		return
	}
	body := &typeBody{eventHead: head, AccountID: c.config.Account, TypeID: row.ID, TypeName: row.Name, Deprecated: row.Deprecated,
		Searchable: append([]string{}, row.Searchable...), Description: row.Description}
	if row.DeprecatedAt != 0 {
		body.Deprecation = &row.DeprecatedAt
	}
	c.registry(topic, &body.eventHead, body, nil)
}

// A groupBody is the payload of an event about a thing group.
type groupBody struct {
	eventHead
	AccountID   string            `json:"accountId"`
	GroupID     string            `json:"thingGroupId"`
	GroupName   muster.GroupName  `json:"thingGroupName"`
	Version     int64             `json:"versionNumber"`
	ParentName  *muster.GroupName `json:"parentGroupName"`
	ParentID    *string           `json:"parentGroupId"`
	Description string            `json:"description"`
	Ancestors   []ancestor        `json:"rootToParentThingGroups"`
	Attributes  json.RawMessage   `json:"attributes"`
	MappingID   *string           `json:"dynamicGroupMappingId"` // of dynamic groups, which are not served
}

type ancestor struct {
	ARN string `json:"groupArn"`
	ID  string `json:"groupId"`
}

// A hierarchyBody is the payload of an event about a group and its parent.
type hierarchyBody struct {
	eventHead
	AccountID string           `json:"accountId"`
	GroupID   string           `json:"thingGroupId"`
	GroupName muster.GroupName `json:"thingGroupName"`
	ChildID   string           `json:"childGroupId"`
	ChildName muster.GroupName `json:"childGroupName"`
}

func (c *cause) groupEvents(batch []muster.Entry) {
	if !c.on[iot.EventTypeThingGroup] && !c.on[iot.EventTypeThingGroupHierarchy] {
		return
	}
	before, after, ok := rows[muster.Group](c)
	if !ok {
		return
	}
	group := &after
	if c.fact.After == "" {
		group = &before
	}
	operation := c.change()
	if c.on[iot.EventTypeThingGroup] {
		topic := "thingGroup/" + c.fact.Name + "/" + strings.ToLower(operation)
		if head, wanted := c.head("THING_GROUP_EVENT", operation, topic); wanted {
			body := &groupBody{eventHead: head, AccountID: c.config.Account, GroupID: group.ID, GroupName: group.Name, Version: group.Version,
				Description: group.Description, Attributes: attributesOf(group.Attributes), Ancestors: []ancestor{}}
			c.registry(topic, &body.eventHead, body, func(l engine.Glance) {
				if group.Parent == "" {
					return
				}
				body.ParentName, body.Ancestors = &group.Parent, body.Ancestors[:0]
				for _, g := range l.Lineage(group.Parent) {
					body.Ancestors = append(body.Ancestors, ancestor{c.plain().arn(muster.RefGroup, string(g.Name)), g.ID})
					body.ParentID = &g.ID
				}
			})
		}
	}
	if operation == "UPDATED" || group.Parent == "" || !c.on[iot.EventTypeThingGroupHierarchy] {
		return // a group keeps its parent
	}
	operation = map[string]string{"CREATED": "ADDED", "DELETED": "REMOVED"}[operation]
	topic := "thingGroupHierarchy/thingGroup/" + string(group.Parent) + "/childThingGroup/" + string(group.Name) + "/" + strings.ToLower(operation)
	if head, wanted := c.head("THING_GROUP_HIERARCHY_EVENT", operation, topic); wanted {
		body := &hierarchyBody{eventHead: head, AccountID: c.config.Account, GroupName: group.Parent, ChildID: group.ID, ChildName: group.Name}
		c.registry(topic, &body.eventHead, body, func(l engine.Glance) { body.GroupID = c.groupID(l, group.Parent, batch) })
	}
}

// A membershipBody is the payload of an event about a thing in a group.
type membershipBody struct {
	eventHead
	AccountID    string `json:"accountId"`
	GroupARN     string `json:"groupArn"`
	GroupID      string `json:"groupId"`
	ThingARN     string `json:"thingArn"`
	ThingID      string `json:"thingId"`
	MembershipID string `json:"membershipId"`
}

func (c *cause) membershipEvent(batch []muster.Entry) {
	f := c.fact
	if !c.on[iot.EventTypeThingGroupMembership] || f.Before != "" && f.After != "" {
		return
	}
	operation := "ADDED"
	if f.After == "" {
		operation = "REMOVED"
	}
	topic := "thingGroupMembership/thingGroup/" + string(f.Group) + "/thing/" + string(f.Thing) + "/" + strings.ToLower(operation)
	head, wanted := c.head("THING_GROUP_MEMBERSHIP_EVENT", operation, topic)
	if !wanted {
		return
	}
	// The row is the same when the membership comes and when it goes, and no other one's: so is the id.
	id := uuid.NewSHA1(eventSpace, []byte(f.Before+f.After)).String()
	body := &membershipBody{eventHead: head, AccountID: c.config.Account, GroupARN: c.plain().arn(muster.RefGroup, string(f.Group)),
		ThingARN: c.plain().arn(muster.RefThing, string(f.Thing)), MembershipID: id}
	c.registry(topic, &body.eventHead, body, func(l engine.Glance) {
		body.GroupID, body.ThingID = c.groupID(l, f.Group, batch), c.thingID(l, f.Thing, batch)
	})
}

// rowsGone are the ids of things and groups that a batch tells the end of.
type rowsGone map[rowName]string

type rowName struct {
	kind muster.FactKind
	name string
}

// groupID is the id of a group that may have been deleted since.
func (t *telling) groupID(l engine.Glance, name muster.GroupName, batch []muster.Entry) string {
	if group, ok := l.Group(name); ok {
		return group.ID
	}
	return t.goneID(rowName{muster.FactGroup, string(name)}, batch)
}

// thingID is the id of a thing that may have been deleted since.
func (t *telling) thingID(l engine.Glance, name muster.ThingName, batch []muster.Entry) string {
	if thing, ok := l.Thing(name); ok {
		return thing.ID
	}
	return t.goneID(rowName{muster.FactThing, string(name)}, batch)
}

// goneID looks an id up among the rows whose end the batch tells: things leave their groups in the moment
// they are deleted. It is empty when the end is told later.
func (t *telling) goneID(name rowName, batch []muster.Entry) string {
	if t.gone == nil {
		t.gone = rowsGone{}
		for i := range batch {
			for k := range batch[i].Facts {
				f := &batch[i].Facts[k]
				if f.After != "" || f.Kind != muster.FactThing && f.Kind != muster.FactGroup {
					continue
				}
				var row struct{ ID string }
				if json.Unmarshal([]byte(f.Before), &row) == nil {
					t.gone[rowName{f.Kind, f.Name}] = row.ID
				}
			}
		}
	}
	return t.gone[name]
}
