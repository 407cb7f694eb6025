package awsapi

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"muster/internal/awsapi/wire"
)

// TestCoverage keeps the table of operations in the documentation the same as the route table.
func TestCoverage(t *testing.T) {
	const file, from, to = "../../docs/differences.md", "-update -->\n", "<!-- end of coverage -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), from)
	_, tail, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatal("the marks of the coverage table are gone")
	}
	all := Operations()
	slices.SortFunc(all, func(a, b wire.Operation) int {
		if a.Plane != b.Plane {
			return int(b.Plane) - int(a.Plane) // the devices' side first
		}
		return strings.Compare(a.Name, b.Name)
	})
	var b strings.Builder
	served := 0
	for _, plane := range []wire.Plane{wire.Data, wire.Control} {
		fmt.Fprintf(&b, "\n### %s plane\n\n| operation | | HTTP |\n|---|---|---|\n", strings.ToUpper(plane.String()[:1])+plane.String()[1:])
		for _, op := range all {
			if op.Plane != plane {
				continue
			}
			mark := ""
			if op.Built {
				mark, served = "served", served+1
			}
			fmt.Fprintf(&b, "| %s | %s | `%s %s` |\n", op.Name, mark, op.Method, op.Path)
		}
	}
	want := head + from + fmt.Sprintf("\n%d of %d operations are served.\n", served, len(all)) + b.String() + "\n" + to + tail
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("docs/differences.md is not what the route table says; run this test with -update")
	}
}
