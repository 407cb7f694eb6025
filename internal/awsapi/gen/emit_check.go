package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (g *generator) emitValidate(b *strings.Builder, t *goType) {
	if !g.checksStructure(t.shape) {
		fmt.Fprintf(b, "// Validate returns nil: the model asks nothing.\nfunc (*%s) Validate() error { return nil }\n\n", t.name)
		return
	}
	fmt.Fprintf(b, "// Validate returns nil or wire.Violations.\n")
	fmt.Fprintf(b, "func (in *%s) Validate() error {\nvar v wire.Violations\nin.check(&v)\nreturn v.Err()\n}\n\n", t.name)
	g.emitChecks(b, t)
}

func (g *generator) emitChecks(b *strings.Builder, t *goType) {
	v := receiverOf(t)
	fmt.Fprintf(b, "func (%s *%s) check(v *wire.Violations) {\n", v, t.name)
	for _, m := range t.shape.Members {
		field := v + "." + fieldName(m.Name)
		if m.Location == "uri" {
			b.WriteString(g.checkValue(field, m))
			continue
		}
		inner := g.checkValue(field, m)
		switch required := t.shape.requires(m.Name); {
		case required && inner != "":
			fmt.Fprintf(b, "if %s == nil {\nv.Required(%q)\n} else {\n%s}\n", field, m.Name, inner)
		case required:
			fmt.Fprintf(b, "if %s == nil {\nv.Required(%q)\n}\n", field, m.Name)
		case inner != "":
			fmt.Fprintf(b, "if %s != nil {\n%s}\n", field, inner)
		}
	}
	b.WriteString("}\n\n")
}

// checkValue returns the statements that check a present value, "" for none.
func (g *generator) checkValue(field string, m member) string {
	s := g.Shapes[m.Shape]
	value := "*" + field
	if m.Location == "uri" {
		value = field
	}
	switch s.Type {
	case "string":
		if g.checksString(m.Shape) {
			return fmt.Sprintf("%s.Check(v, %q, %s)\n", ruleName(m.Shape), m.Name, value)
		}
	case "integer", "long":
		return bounds(s, "AtLeast", "AtMost", m.Name, value, "")
	case "double", "float":
		return bounds(s, "DoubleAtLeast", "DoubleAtMost", m.Name, value, "")
	case "structure":
		if g.checksStructure(s) {
			return fmt.Sprintf("n := len(*v)\n%s.check(v)\nv.Within(n, %q)\n", field, m.Name)
		}
	case "map":
		if g.structured(s) {
			if s.Min != nil || s.Max != nil || g.checksStructure(g.Shapes[s.Value.Shape]) {
				g.fail("member %s: only the keys of a map of structures can be checked", m.Name)
			}
			if !g.checksString(s.Key.Shape) {
				return ""
			}
			return fmt.Sprintf("wire.CheckKeys(v, %q, %s, &%s)\n", m.Name, field, ruleName(s.Key.Shape))
		}
		out := bounds(s, "CountAtLeast", "CountAtMost", m.Name, "len("+field+")", ", "+field+".String")
		key, val := "nil", "nil"
		if g.checksString(s.Key.Shape) {
			key = "&" + ruleName(s.Key.Shape)
		}
		if g.checksString(s.Value.Shape) {
			val = "&" + ruleName(s.Value.Shape)
		}
		if key == "nil" && val == "nil" {
			return out
		}
		return out + fmt.Sprintf("wire.CheckMap(v, %q, %s, %s, %s)\n", m.Name, field, key, val)
	case "list":
		return g.checkList(field, m.Name, s)
	}
	return ""
}

func (g *generator) checkList(field, name string, s *shape) string {
	element := g.Shapes[s.Member.Shape]
	if element.Type == "string" {
		out := bounds(s, "CountAtLeast", "CountAtMost", name, "len("+field+")", ", func() string { return wire.ShowStrings("+field+") }")
		if g.checksString(s.Member.Shape) {
			out += fmt.Sprintf("wire.CheckStrings(v, %q, %s, &%s)\n", name, field, ruleName(s.Member.Shape))
		}
		return out
	}
	out := bounds(s, "CountAtLeast", "CountAtMost", name, "len("+field+")",
		fmt.Sprintf(", func() string { return wire.ShowShapes(%q, len(%s)) }", s.Member.Shape, field))
	if g.checksStructure(element) {
		out += fmt.Sprintf("for i := range %s {\nn := len(*v)\n%s[i].check(v)\nv.WithinElem(n, %q, i+1)\n}\n", field, field, name)
	}
	return out
}

// bounds writes the checks of the model's min and max, which are about the
// value of a number and the length of a list or map. A lower bound of 0 on a
// length says nothing.
func bounds(s *shape, least, most, name, value, extra string) string {
	out := ""
	if s.Max != nil {
		out += fmt.Sprintf("v.%s(%q, %s, %v%s)\n", most, name, value, *s.Max, extra)
	}
	if s.Min != nil && !(extra != "" && *s.Min == 0) {
		out += fmt.Sprintf("v.%s(%q, %s, %v%s)\n", least, name, value, *s.Min, extra)
	}
	return out
}

// checksStructure reports whether anything below s can be violated.
func (g *generator) checksStructure(s *shape) bool {
	for _, m := range s.Members {
		if s.requires(m.Name) && m.Location != "uri" || g.checkValue("x", m) != "" {
			return true
		}
	}
	return false
}

// checksString reports whether a string shape needs a rule.
func (g *generator) checksString(name string) bool {
	s := g.Shapes[name]
	if len(s.Enum) > 0 || s.Max != nil || s.Min != nil && *s.Min > 0 {
		return true
	}
	return s.Pattern != "" && !holdsAlways(s.Pattern)
}

func holdsAlways(pattern string) bool {
	branches, ok := parsePattern(pattern)
	return ok && len(branches) == 1 && branches[0].everything()
}

// rules writes the rule of every string shape that an input reaches.
func (g *generator) rules() string {
	var rules strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g.inputs)) {
		s := g.Shapes[name]
		if s.Type != "string" || !g.checksString(name) {
			continue
		}
		var parts []string
		if s.Min != nil && *s.Min > 0 {
			parts = append(parts, fmt.Sprintf("Min: %v", *s.Min))
		}
		if s.Max != nil {
			parts = append(parts, fmt.Sprintf("Max: %v", *s.Max))
		}
		if s.Pattern != "" && !holdsAlways(s.Pattern) {
			parts = append(parts, "Pattern: "+quote(s.Pattern), "Match: "+g.match(s.Pattern))
		}
		if len(s.Enum) > 0 {
			parts = append(parts, fmt.Sprintf("Enum: %#v", s.Enum))
		}
		fmt.Fprintf(&rules, "%s = wire.StringRule{%s}\n", ruleName(name), strings.Join(parts, ", "))
	}
	var classes strings.Builder
	byName := map[string]string{}
	for literal, name := range g.classes {
		byName[name] = literal
	}
	for i := range len(byName) {
		name := fmt.Sprintf("class%d", i+1)
		fmt.Fprintf(&classes, "%s = %s\n", name, byName[name])
	}
	if rules.Len() == 0 {
		return ""
	}
	return "// The sets of characters that the patterns below repeat.\nvar (\n" + classes.String() + ")\n\n" +
		"// What the model asks of strings, by shape.\nvar (\n" + rules.String() + ")\n"
}

// match returns the expression of a wire.Match for pattern.
func (g *generator) match(pattern string) string {
	branches, ok := parsePattern(pattern)
	if !ok {
		return "wire.Regexp(" + quote(goPattern(pattern)) + ")"
	}
	tests := make([]string, len(branches))
	for i, br := range branches {
		if br.set == nil {
			tests[i] = fmt.Sprintf("s == %q", br.literal)
			continue
		}
		method := ".Some"
		if br.empty {
			method = ".Any"
		}
		tests[i] = g.class(br.set) + method
		if len(branches) > 1 {
			tests[i] += "(s)"
		}
	}
	if len(branches) == 1 && branches[0].set != nil {
		return tests[0]
	}
	return "func(s string) bool { return " + strings.Join(tests, " || ") + " }"
}

// class returns the variable that holds set.
func (g *generator) class(set *class) string {
	literal := set.goLiteral()
	if g.classes[literal] == "" {
		g.classes[literal] = fmt.Sprintf("class%d", len(g.classes)+1)
	}
	return g.classes[literal]
}

func quote(s string) string {
	if strings.Contains(s, "`") {
		return fmt.Sprintf("%q", s)
	}
	return "`" + s + "`"
}
