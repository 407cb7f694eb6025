package awsapi

import (
	"errors"
	"strings"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

// ImportLine reads one line of a bulk import, a JSON object with one member that says what it is:
//
//	{"thing":{"thingName":"lamp-1","thingTypeName":"lamp","attributes":{"site":"north"},"thingGroupNames":["hall"]}}
//	{"thingType":{"thingTypeName":"lamp","thingTypeDescription":"…","searchableAttributes":["site"]}}
//	{"thingGroup":{"thingGroupName":"hall","parentGroupName":"house","thingGroupDescription":"…","attributes":{}}}
//	{"membership":{"thingName":"lamp-1","thingGroupName":"hall"}}
//
// Names and values have to satisfy what the operations that make one of them ask. A misspelt member is
// refused, for nobody looks at a million things afterwards; what AWS adds when it lists things
// (thingArn, version and so on) is passed over, and so is what an export of everything adds.
func ImportLine(line []byte) (engine.ImportRow, error) {
	p := importLine{r: wire.NewReader(line)}
	var row engine.ImportRow
	var err error
	if p.r.Begin() {
		for p.r.Next() {
			kind := string(p.r.Key())
			read := importKinds[kind]
			switch {
			case read == nil:
				p.refuse("%q is not something that can be imported; thing, thingType, thingGroup and membership are", kind)
				p.r.Skip()
				continue
			case p.kind != "":
				p.refuse("A line holds one thing, thingType, thingGroup or membership; this one has %s and %s", p.kind, kind)
			}
			p.kind = kind
			if !p.r.Object(kind) {
				p.refuse("%s must be an object", kind)
				continue
			}
			row, err = read(&p)
			p.r.Leave(kind)
		}
	}
	switch end := p.r.End(); {
	case end != nil:
		return row, importError(end)
	case p.wrong != nil:
		return row, p.wrong
	case p.kind == "":
		return row, muster.Errorf(muster.Invalid, "The line has no thing, thingType, thingGroup or membership")
	}
	return row, importError(err)
}

// importKinds are the members that a line may have.
var importKinds = map[string]func(*importLine) (engine.ImportRow, error){
	"thing":      (*importLine).thing,
	"thingType":  (*importLine).thingType,
	"thingGroup": (*importLine).group,
	"membership": (*importLine).membership,
}

type importLine struct {
	r     wire.Reader
	kind  string // the member that the line has
	wrong error  // the first thing that reading the line found wrong beside its syntax and types
}

func (p *importLine) refuse(format string, args ...any) {
	if p.wrong == nil {
		p.wrong = muster.Errorf(muster.Invalid, format, args...)
	}
}

// other passes over a member that is not one of those the import reads.
func (p *importLine) other(ignored ...string) {
	key := string(p.r.Key())
	for _, name := range ignored {
		if key == name {
			p.r.Skip()
			return
		}
	}
	p.refuse("%s is not a member of a %s", key, p.kind)
	p.r.Skip()
}

func (p *importLine) need(member string, value *string) {
	if value == nil {
		p.refuse("%s.%s is missing", p.kind, member)
	}
}

func (p *importLine) thing() (row engine.ImportRow, err error) {
	var in iot.CreateThingInput
	var name *string
	var groups []string
	for p.r.Next() {
		switch string(p.r.Key()) {
		case "thingName":
			name = p.r.String("thingName")
		case "thingTypeName":
			in.ThingTypeName = p.r.String("thingTypeName")
		case "billingGroupName":
			in.BillingGroupName = p.r.String("billingGroupName")
		case "attributes":
			in.AttributePayload = &iot.AttributePayload{Attributes: p.r.Map("attributes")}
		case "thingGroupNames":
			groups = p.r.Strings("thingGroupNames")
		default:
			p.other("thingArn", "thingId", "version", "defaultClientId")
		}
	}
	p.need("thingName", name)
	in.ThingName = text(name)
	if err = in.Validate(); err == nil && groups != nil {
		err = (&iot.UpdateThingGroupsForThingInput{ThingGroupsToAdd: groups}).Validate()
	}
	t := muster.Thing{Name: muster.ThingName(in.ThingName), Type: muster.TypeName(text(in.ThingTypeName)), BillingGroup: text(in.BillingGroupName)}
	t.Attributes = newAttributes(in.AttributePayload)
	row.Thing = &t
	for _, group := range groups {
		row.Groups = append(row.Groups, muster.GroupName(group))
	}
	return row, err
}

func (p *importLine) thingType() (row engine.ImportRow, err error) {
	var properties iot.ThingTypeProperties
	var name *string
	for p.r.Next() {
		switch string(p.r.Key()) {
		case "thingTypeName":
			name = p.r.String("thingTypeName")
		case "thingTypeDescription":
			properties.ThingTypeDescription = p.r.String("thingTypeDescription")
		case "searchableAttributes":
			properties.SearchableAttributes = p.r.Strings("searchableAttributes")
		default:
			p.other("thingTypeArn", "thingTypeId", "created", "deprecated", "deprecatedAt")
		}
	}
	p.need("thingTypeName", name)
	in := iot.CreateThingTypeInput{ThingTypeName: text(name), ThingTypeProperties: &properties}
	row.Type = &muster.ThingType{Name: muster.TypeName(in.ThingTypeName), Description: text(properties.ThingTypeDescription),
		Searchable: properties.SearchableAttributes}
	return row, in.Validate()
}

func (p *importLine) group() (row engine.ImportRow, err error) {
	var properties iot.ThingGroupProperties
	var in iot.CreateThingGroupInput
	var name *string
	for p.r.Next() {
		switch string(p.r.Key()) {
		case "thingGroupName":
			name = p.r.String("thingGroupName")
		case "parentGroupName":
			in.ParentGroupName = p.r.String("parentGroupName")
		case "thingGroupDescription":
			properties.ThingGroupDescription = p.r.String("thingGroupDescription")
		case "attributes":
			properties.AttributePayload = &iot.AttributePayload{Attributes: p.r.Map("attributes")}
		default:
			p.other("thingGroupArn", "thingGroupId", "version", "created", "sequence")
		}
	}
	p.need("thingGroupName", name)
	in.ThingGroupName, in.ThingGroupProperties = text(name), &properties
	group := muster.Group{Name: muster.GroupName(in.ThingGroupName), Parent: muster.GroupName(text(in.ParentGroupName)),
		Description: text(properties.ThingGroupDescription)}
	group.Attributes = newAttributes(properties.AttributePayload)
	row.Group = &group
	return row, in.Validate()
}

func (p *importLine) membership() (row engine.ImportRow, err error) {
	var in iot.AddThingToThingGroupInput
	for p.r.Next() {
		switch string(p.r.Key()) {
		case "thingName":
			in.ThingName = p.r.String("thingName")
		case "thingGroupName":
			in.ThingGroupName = p.r.String("thingGroupName")
		default:
			p.other("thingArn", "thingGroupArn", "sequence")
		}
	}
	p.need("thingName", in.ThingName)
	p.need("thingGroupName", in.ThingGroupName)
	row.Member = &muster.Membership{Thing: muster.ThingName(text(in.ThingName)), Group: muster.GroupName(text(in.ThingGroupName))}
	return row, in.Validate()
}

// importError says what is wrong with a line in the line's own words: the shapes that check it nest
// deeper, and a line is not a request.
func importError(err error) error {
	var violations wire.Violations
	var syntax *wire.SyntaxError
	var wrongType *wire.TypeError
	switch {
	case errors.As(err, &violations):
		for i := range violations {
			member := &violations[i].Member
			for _, prefix := range []string{"thingTypeProperties.", "thingGroupProperties.", "attributePayload."} {
				*member = strings.TrimPrefix(*member, prefix)
			}
			if rest, ok := strings.CutPrefix(*member, "thingGroupsToAdd"); ok {
				*member = "thingGroupNames" + rest
			}
		}
		sentences := make([]string, len(violations))
		for i, v := range violations {
			sentences[i] = v.String()
		}
		return muster.Errorf(muster.Invalid, "%s", strings.Join(sentences[:min(len(sentences), 5)], "; "))
	case errors.As(err, &syntax):
		return muster.Errorf(muster.Invalid, "The line is not valid JSON: %s at byte %d", syntax.Reason, syntax.Offset)
	case errors.As(err, &wrongType):
		if wrongType.Member == "" {
			return muster.Errorf(muster.Invalid, "The line must be %s", wrongType.Want)
		}
		return muster.Errorf(muster.Invalid, "%s", wrongType.Error())
	}
	return err
}
