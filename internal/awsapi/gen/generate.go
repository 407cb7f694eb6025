package main

import (
	"bytes"
	"fmt"
	"go/format"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// generator holds the state of generating one package.
type generator struct {
	service
	*model
	built map[string]string // operation -> file

	types   []*goType          // in the order they are reached
	byShape map[string]*goType // structures that are no operation's input or output
	order   map[string][]*goType
	inputs  map[string]bool   // shapes an input reaches: these get rules
	enums   []string          // enum shapes, as reached
	seen    map[string]bool   // enum shapes
	classes map[string]string // class literal -> variable
	checked map[string]bool   // memory of hasChecks

	err error // the first thing that could not be generated
}

// goType is one structure to emit.
type goType struct {
	name  string
	shape *shape
	role  role
	op    string
	file  string
}

type role int

const (
	nested role = iota
	input
	output
)

// generate returns the files of svc's package, formatted.
func generate(svc service, data []byte) (map[string][]byte, error) {
	m, err := parseModel(data, svc.amend)
	if err != nil {
		return nil, err
	}
	g := &generator{
		service: svc, model: m, built: svc.built(),
		byShape: map[string]*goType{}, order: map[string][]*goType{},
		inputs: map[string]bool{}, seen: map[string]bool{},
		classes: map[string]string{}, checked: map[string]bool{},
	}
	sources := map[string]string{"operations": g.operations()}
	for _, n := range svc.nouns {
		for _, op := range strings.Fields(n.ops) {
			g.reachOperation(op, n.file)
		}
	}
	for _, t := range g.types {
		for _, member := range t.shape.Members {
			g.fieldType(member) // fails for what the emitters do not know
		}
	}
	if g.err != nil {
		return nil, g.err
	}
	for _, n := range svc.nouns {
		var b strings.Builder
		for _, t := range g.order[n.file] {
			g.emit(&b, t)
		}
		sources[n.file] = b.String()
	}
	sources["rules"] = g.rules()
	if len(g.enums) > 0 {
		sources["enums"] = g.constants()
	}
	if g.err != nil {
		return nil, g.err
	}
	files := map[string][]byte{}
	for name, src := range sources {
		doc := ""
		if name == "operations" {
			doc = "// " + strings.ReplaceAll(svc.doc, "\n", "\n// ") + "\n"
		}
		src = header + "\n" + doc + "package " + svc.pkg + "\n\n" + imports(src) + src
		out, err := format.Source([]byte(src))
		if err != nil {
			return nil, fmt.Errorf("%s.go: %w", name, err)
		}
		files[name+".go"] = bytes.TrimLeft(out, "\n")
	}
	return files, nil
}

func imports(src string) string {
	var lines []string
	for _, p := range []string{"maps", "slices", "time", "unicode"} {
		if strings.Contains(src, p+".") {
			lines = append(lines, strconv.Quote(p))
		}
	}
	if strings.Contains(src, "wire.") {
		lines = append(lines, "", `"muster/internal/awsapi/wire"`)
	}
	if len(lines) == 0 {
		return ""
	}
	return "import (\n" + strings.Join(lines, "\n") + "\n)\n\n"
}

func (g *generator) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf(format, args...)
	}
}

// operations writes the table of every modelled operation.
func (g *generator) operations() string {
	var b strings.Builder
	b.WriteString("// Operations are all operations of the model, by name. Those that are not Built\n" +
		"// have no types here.\nvar Operations = []wire.Operation{\n")
	for _, name := range slices.Sorted(maps.Keys(g.Operations)) {
		op := g.Operations[name]
		status := op.HTTP.ResponseCode
		if status == 0 {
			status = 200
		}
		_, built := g.built[name]
		body := false
		if op.Input != nil {
			for _, m := range g.Shapes[op.Input.Shape].Members {
				body = body || m.Location == ""
			}
		}
		fmt.Fprintf(&b, "{Name: %q, Method: %q, Path: %q, Plane: wire.%s, Status: %d, Built: %t, Body: %t, Answer: %t},\n",
			name, op.HTTP.Method, op.HTTP.RequestURI, g.plane, status, built, body, op.Output != nil)
	}
	b.WriteString("}\n")
	return b.String()
}

// reachOperation collects the structures of op for emission into file.
func (g *generator) reachOperation(name, file string) {
	op := g.Operations[name]
	if op == nil {
		g.fail("operation %s is not in the model", name)
		return
	}
	add := func(r *ref, suffix string, role role) {
		s := &shape{Type: "structure"}
		if r != nil {
			s = g.Shapes[r.Shape]
		}
		g.add(&goType{name: name + suffix, shape: s, role: role, op: name, file: file})
		for _, m := range s.Members {
			g.reach(m.Shape, file, role == input)
		}
	}
	add(op.Input, "Input", input)
	add(op.Output, "Output", output)
}

func (g *generator) add(t *goType) {
	g.types = append(g.types, t)
	g.order[t.file] = append(g.order[t.file], t)
}

// reach collects the structures and enums below shape name.
func (g *generator) reach(name, file string, fromInput bool) {
	s := g.Shapes[name]
	if s == nil {
		g.fail("shape %s is not in the model", name)
		return
	}
	if fromInput {
		if g.inputs[name] {
			return
		}
		g.inputs[name] = true
	}
	switch s.Type {
	case "structure":
		if g.byShape[name] == nil {
			t := &goType{name: name, shape: s, role: nested, file: file}
			g.byShape[name] = t
			g.add(t)
		} else if !fromInput {
			return
		}
		for _, m := range s.Members {
			g.reach(m.Shape, file, fromInput)
		}
	case "list":
		g.reach(s.Member.Shape, file, fromInput)
	case "map":
		g.reach(s.Key.Shape, file, fromInput)
		g.reach(s.Value.Shape, file, fromInput)
	case "string":
		if len(s.Enum) > 0 && !g.seen[name] {
			g.seen[name] = true
			g.enums = append(g.enums, name)
		}
	}
}

// constants writes the values of the enums.
func (g *generator) constants() string {
	var b strings.Builder
	slices.Sort(g.enums)
	for _, name := range g.enums {
		fmt.Fprintf(&b, "// Values of %s.\nconst (\n", name)
		for _, v := range g.Shapes[name].Enum {
			fmt.Fprintf(&b, "%s = %q\n", constName(name, v), v)
		}
		b.WriteString(")\n\n")
	}
	return b.String()
}
