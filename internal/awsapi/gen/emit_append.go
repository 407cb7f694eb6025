package main

import (
	"fmt"
	"strings"
)

// differs reports whether the structure looks different over MQTT, so that its
// appender must be told.
func (g *generator) differs(s *shape) bool {
	if g.mqtt == nil {
		return false
	}
	for _, m := range s.Members {
		inner := g.Shapes[m.Shape]
		if m.Shape == g.mqtt.raw || inner.Type == "structure" && g.differs(inner) {
			return true
		}
	}
	return false
}

// emitAppend writes the encoder: AppendJSON for the object, AppendMembers for
// what stands inside its braces.
func (g *generator) emitAppend(b *strings.Builder, t *goType) {
	v := receiverOf(t)
	fmt.Fprintf(b, "// AppendJSON appends the JSON object; absent members are left out.\n")
	fmt.Fprintf(b, "func (%s *%s) AppendJSON(b []byte) []byte {\nreturn wire.Close(%s.AppendMembers(append(b, '{')), '}')\n}\n\n", v, t.name, v)
	receiver := v + " *" + t.name
	list := bodyOf(t)
	if len(list) == 0 {
		receiver = "*" + t.name
	}
	fmt.Fprintf(b, "// AppendMembers appends the members alone, each followed by a comma.\n")
	if g.differs(t.shape) {
		fmt.Fprintf(b, "func (%s) AppendMembers(b []byte) []byte {\nreturn %s.appendMembers(b, false)\n}\n\n", receiver, v)
		fmt.Fprintf(b, "func (%s) appendMembers(b []byte, mqtt bool) []byte {\n", receiver)
	} else {
		fmt.Fprintf(b, "func (%s) AppendMembers(b []byte) []byte {\n", receiver)
	}
	for _, m := range list {
		field := v + "." + fieldName(m.Name)
		cond := field + " != nil"
		if g.mqtt != nil && g.mqtt.omit == t.name+"."+m.Name {
			cond += " && !mqtt"
		}
		fmt.Fprintf(b, "if %s {\nb = append(b, %s...)\n%sb = append(b, ',')\n}\n", cond, "`\""+m.wireName()+"\":`", g.appendValue(field, m))
	}
	b.WriteString("return b\n}\n\n")
}

func (g *generator) appendValue(field string, m member) string {
	s := g.Shapes[m.Shape]
	if g.mqtt != nil && m.Shape == g.mqtt.raw {
		return fmt.Sprintf("if mqtt {\nb = append(b, *%s...)\n} else {\nb = wire.AppendString(b, *%s)\n}\n", field, field)
	}
	scalar := map[string]string{
		"string": "AppendString", "integer": "AppendInt", "long": "AppendInt", "boolean": "AppendBool",
		"double": "AppendDouble", "float": "AppendDouble", "timestamp": "AppendTime",
	}[s.Type]
	switch {
	case g.structured(s):
		return fmt.Sprintf("b = append(b, '{')\nfor _, key := range slices.Sorted(maps.Keys(%s)) {\ne := %s[key]\nb = append(wire.AppendString(b, key), ':')\nb = append(e.AppendJSON(b), ',')\n}\nb = wire.Close(b, '}')\n", field, field)
	case scalar != "":
		return fmt.Sprintf("b = wire.%s(b, *%s)\n", scalar, field)
	case s.Type == "map":
		return fmt.Sprintf("b = wire.AppendMap(b, %s)\n", field)
	case s.Type == "structure" && g.differs(s):
		return fmt.Sprintf("b = wire.Close(%s.appendMembers(append(b, '{'), mqtt), '}')\n", field)
	case s.Type == "structure":
		return fmt.Sprintf("b = %s.AppendJSON(b)\n", field)
	case g.Shapes[s.Member.Shape].Type == "string":
		return fmt.Sprintf("b = wire.AppendStrings(b, %s)\n", field)
	}
	return fmt.Sprintf("b = append(b, '[')\nfor i := range %s {\nb = append(%s[i].AppendJSON(b), ',')\n}\nb = wire.Close(b, ']')\n", field, field)
}

// emitAppendMQTT writes the encoder of the payload of an accepted answer.
func (g *generator) emitAppendMQTT(b *strings.Builder, t *goType) {
	call := "out.AppendMembers(b)"
	if g.differs(t.shape) {
		call = "out.appendMembers(b, true)"
	}
	fmt.Fprintf(b, "// AppendMQTT appends the payload of an accepted answer: the client token if\n"+
		"// there was one, the time in epoch seconds, and the members as MQTT has them,\n"+
		"// the job document as JSON and not as a string.\n")
	fmt.Fprintf(b, "func (out *%s) AppendMQTT(b []byte, clientToken *string, timestamp int64) []byte {\n"+
		"b = wire.AppendEnvelope(b, clientToken, timestamp)\nreturn wire.Close(%s, '}')\n}\n\n", t.name, call)
}
