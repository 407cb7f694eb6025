package main

import (
	"fmt"
	"strings"
)

// emit writes a structure with its codecs and checks.
func (g *generator) emit(b *strings.Builder, t *goType) {
	g.emitType(b, t)
	switch t.role {
	case input:
		g.emitBind(b, t)
		g.emitDecodeJSON(b, t)
		if g.mqtt != nil {
			g.emitDecodeMQTT(b, t)
		}
		if len(bodyOf(t)) > 0 {
			g.emitAppend(b, t)
		}
		g.emitValidate(b, t)
	case output:
		g.emitDecodeJSON(b, t)
		g.emitAppend(b, t)
		if g.mqtt != nil {
			g.emitAppendMQTT(b, t)
		}
	case nested:
		g.emitDecode(b, t)
		g.emitAppend(b, t)
		if g.checksStructure(t.shape) && g.inputs[t.name] {
			g.emitChecks(b, t)
		}
	}
}

func (g *generator) emitType(b *strings.Builder, t *goType) {
	switch t.role {
	case input:
		fmt.Fprintf(b, "// %s is what %s takes: %s %s.\n", t.name, t.op, g.Operations[t.op].HTTP.Method, g.Operations[t.op].HTTP.RequestURI)
	case output:
		fmt.Fprintf(b, "// %s is what %s answers.\n", t.name, t.op)
	case nested:
		fmt.Fprintf(b, "// %s is the structure of that name.\n", t.name)
	}
	if len(t.shape.Members) == 0 {
		fmt.Fprintf(b, "type %s struct{}\n\n", t.name)
		return
	}
	fmt.Fprintf(b, "type %s struct {\n", t.name)
	for _, m := range t.shape.Members {
		note := ""
		switch {
		case m.Location == "uri":
			note = " // path"
		case m.Location == "querystring":
			note = " // query " + m.wireName()
		case m.Location == "header":
			note = " // header " + m.wireName()
		case t.shape.requires(m.Name):
			note = " // required"
		}
		fmt.Fprintf(b, "%s %s%s\n", fieldName(m.Name), g.fieldType(m), note)
	}
	b.WriteString("}\n\n")
}

// fieldType returns the Go type of a member. All but path labels can be
// absent.
func (g *generator) fieldType(m member) string {
	s := g.Shapes[m.Shape]
	switch s.Type {
	case "string":
		if m.Location == "uri" {
			return "string"
		}
		return "*string"
	case "integer", "long":
		if m.Location == "uri" {
			return "int64"
		}
		return "*int64"
	case "boolean":
		return "*bool"
	case "double", "float":
		return "*float64"
	case "timestamp":
		return "*time.Time"
	case "structure":
		return "*" + m.Shape
	case "list":
		switch e := g.Shapes[s.Member.Shape]; e.Type {
		case "string":
			return "[]string"
		case "structure":
			return "[]" + s.Member.Shape
		}
	case "map":
		if g.Shapes[s.Key.Shape].Type == "string" && g.Shapes[s.Value.Shape].Type == "string" {
			return "wire.Map"
		}
		if g.structured(s) {
			return "map[string]" + s.Value.Shape
		}
	}
	g.fail("member %s: no Go type for shape %s", m.Name, m.Shape)
	return "struct{}"
}

// structured reports whether a map leads from strings to structures.
func (g *generator) structured(s *shape) bool {
	return s.Type == "map" && g.Shapes[s.Key.Shape].Type == "string" && g.Shapes[s.Value.Shape].Type == "structure"
}

// bodyOf returns the members that travel in the JSON body.
func bodyOf(t *goType) members {
	var body members
	for _, m := range t.shape.Members {
		if m.Location == "" {
			body = append(body, m)
		}
	}
	return body
}

func (g *generator) emitBind(b *strings.Builder, t *goType) {
	lookup := map[string]string{"uri": "_", "querystring": "_", "header": "_"}
	var lines strings.Builder
	fails := false
	for _, m := range t.shape.Members {
		field, kind := "in."+fieldName(m.Name), g.Shapes[m.Shape].Type
		switch m.Location + " " + kind {
		case "uri string":
			lookup["uri"] = "label"
			fmt.Fprintf(&lines, "%s = label(%q)\n", field, m.wireName())
		case "uri long", "uri integer":
			lookup["uri"] = "label"
			fails = true
			fmt.Fprintf(&lines, "if %s, err = wire.LabelInt64(label, %q, %q); err != nil {\nreturn err\n}\n", field, m.wireName(), m.Name)
		case "querystring string":
			lookup["querystring"] = "query"
			fmt.Fprintf(&lines, "%s = wire.QueryString(query, %q)\n", field, m.wireName())
		case "querystring boolean", "querystring integer", "querystring long":
			lookup["querystring"] = "query"
			fails = true
			f := map[string]string{"boolean": "QueryBool", "integer": "QueryInt32", "long": "QueryInt64"}[kind]
			fmt.Fprintf(&lines, "if %s, err = wire.%s(query, %q, %q); err != nil {\nreturn err\n}\n", field, f, m.wireName(), m.Name)
		case "header string":
			lookup["header"] = "header"
			fmt.Fprintf(&lines, "%s = wire.HeaderString(header, %q)\n", field, m.wireName())
		default:
			if m.Location != "" {
				g.fail("%s.%s: cannot bind a %s in %s", t.name, m.Name, kind, m.Location)
			}
		}
	}
	receiver := "in *" + t.name
	if lines.Len() == 0 {
		receiver = "*" + t.name
	}
	fmt.Fprintf(b, "// Bind fills the members outside of the body.\n")
	fmt.Fprintf(b, "func (%s) Bind(%s func(string) string, %s func(string) (string, bool), %s func(string) string) error {\n",
		receiver, lookup["uri"], lookup["querystring"], lookup["header"])
	if fails {
		b.WriteString("var err error\n")
	}
	b.WriteString(lines.String())
	b.WriteString("return nil\n}\n\n")
}

// emitDecodeJSON writes the decoder of a whole body.
func (g *generator) emitDecodeJSON(b *strings.Builder, t *goType) {
	if t.role == input && len(bodyOf(t)) == 0 {
		fmt.Fprintf(b, "// DecodeJSON does nothing: no member travels in the body.\n")
		fmt.Fprintf(b, "func (*%s) DecodeJSON([]byte) error { return nil }\n\n", t.name)
		return
	}
	v := receiverOf(t)
	fmt.Fprintf(b, "// DecodeJSON fills the members of the body.\n")
	fmt.Fprintf(b, "func (%s *%s) DecodeJSON(body []byte) error {\nr := wire.NewReader(body)\nif r.Begin() {\n%s.decode(&r)\n}\nreturn r.End()\n}\n\n", v, t.name, v)
	g.emitDecode(b, t)
}

func receiverOf(t *goType) string {
	switch t.role {
	case input:
		return "in"
	case output:
		return "out"
	}
	return "s"
}

func (g *generator) emitDecode(b *strings.Builder, t *goType) {
	v := receiverOf(t)
	fmt.Fprintf(b, "func (%s *%s) decode(r *wire.Reader) {\n", v, t.name)
	g.emitMembers(b, t, bodyOf(t), "")
	b.WriteString("}\n\n")
}

// emitDecodeMQTT writes the decoder of an MQTT payload, which carries what
// HTTP puts into the query as well. Path labels come from the topic.
func (g *generator) emitDecodeMQTT(b *strings.Builder, t *goType) {
	var list members
	for _, m := range t.shape.Members {
		if m.Location != "uri" {
			m.LocationName = m.Name
			list = append(list, m)
		}
	}
	receiver := "in *" + t.name
	if len(list) == 0 {
		receiver = "*" + t.name
	}
	fmt.Fprintf(b, "// DecodeMQTT fills the members that an MQTT payload carries and returns its\n// client token. The token is returned beside a *wire.TypeError too.\n")
	fmt.Fprintf(b, "func (%s) DecodeMQTT(payload []byte) (clientToken *string, err error) {\nr := wire.NewReader(payload)\nif r.Begin() {\n", receiver)
	g.emitMembers(b, t, list, "case \"clientToken\":\nclientToken = r.String(\"clientToken\")\n")
	b.WriteString("}\nreturn clientToken, r.End()\n}\n\n")
}

// emitMembers writes the loop over an object's members. r is a Reader or a
// pointer to one.
func (g *generator) emitMembers(b *strings.Builder, t *goType, list members, more string) {
	b.WriteString("for r.Next() {\n")
	if len(list) == 0 && more == "" {
		b.WriteString("r.Skip()\n}\n")
		return
	}
	b.WriteString("switch string(r.Key()) {\n")
	ptr := "r"
	if more != "" {
		ptr = "&r"
	}
	for _, m := range list {
		name := m.wireName()
		fmt.Fprintf(b, "case %q:\n", name)
		g.emitMember(b, receiverOf(t)+"."+fieldName(m.Name), name, m, ptr)
		if alias := g.aliases[t.name+"."+m.Name]; alias != "" {
			wrong, right, _ := strings.Cut(alias, "=")
			field := receiverOf(t) + "." + fieldName(m.Name)
			fmt.Fprintf(b, "if %s != nil && *%s == %q {\n*%s = %q\n}\n", field, field, wrong, field, right)
		}
	}
	b.WriteString(more + "default:\nr.Skip()\n}\n}\n")
}

func (g *generator) emitMember(b *strings.Builder, field, name string, m member, ptr string) {
	s := g.Shapes[m.Shape]
	read := map[string]string{
		"string": "String", "integer": "Int32", "long": "Int64", "boolean": "Bool",
		"double": "Double", "float": "Double", "timestamp": "Time", "map": "Map",
	}[s.Type]
	if g.scalars[m.Shape] {
		read = "Details"
	}
	switch {
	case g.structured(s):
		value := s.Value.Shape
		fmt.Fprintf(b, "%s = nil\nif r.Object(%q) {\n%s = map[string]%s{}\nfor r.Next() {\nkey := string(r.Key())\nvar e %s\nif r.Object(key) {\ne.decode(%s)\nr.Leave(key)\n}\n%s[key] = e\n}\nr.Leave(%q)\n}\n",
			field, name, field, value, value, ptr, field, name)
	case read != "":
		fmt.Fprintf(b, "%s = r.%s(%q)\n", field, read, name)
	case s.Type == "structure":
		fmt.Fprintf(b, "%s = nil\nif r.Object(%q) {\n%s = new(%s)\n%s.decode(%s)\nr.Leave(%q)\n}\n", field, name, field, m.Shape, field, ptr, name)
	case g.Shapes[s.Member.Shape].Type == "string":
		fmt.Fprintf(b, "%s = r.Strings(%q)\n", field, name)
	default:
		fmt.Fprintf(b, "%s = nil\nif r.Array(%q) {\n%s = []%s{}\nfor r.Elem() {\nvar e %s\ni := len(%s) + 1\nif r.ElemObject(%q, i) {\ne.decode(%s)\nr.LeaveElem(%q, i)\n}\n%s = append(%s, e)\n}\n}\n",
			field, name, field, s.Member.Shape, s.Member.Shape, field, name, ptr, name, field, field)
	}
}
