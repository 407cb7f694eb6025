package broker

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every mandatory statement of both specifications is named on a line of the code that obeys it, or in DESIGN.md as one that
// does not apply; and nothing is named that does not exist.
func TestEveryStatementIsNamed(t *testing.T) {
	list, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			exists[line] = true
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	one := regexp.MustCompile(`\[(MQTT3?-[0-9.-]+)\]`)
	obeyed, excused := map[string]bool{}, map[string]bool{}
	for _, f := range append(files, "DESIGN.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range one.FindAllStringSubmatch(string(text), -1) {
			if !exists[m[1]] {
				t.Errorf("%s names %s, which does not exist", f, m[1])
			}
			switch {
			case f == "DESIGN.md":
				excused[m[1]] = true
			case !strings.HasSuffix(f, "_test.go"):
				obeyed[m[1]] = true
			}
		}
	}
	for id := range exists {
		switch {
		case !obeyed[id] && !excused[id]:
			t.Errorf("%s is named nowhere", id)
		case obeyed[id] && excused[id]:
			t.Errorf("%s is both obeyed and excused", id)
		}
	}
}
