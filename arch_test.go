package muster_test

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms says who may import whom. An entry that ends in / allows everything below it; std is the
// standard library but for what a room refuses.
var rooms = map[string]struct {
	may     []string
	refuses []string // of the standard library
}{
	".": {may: []string{"std"}, refuses: []string{"context", "os", "net", "log", "sync", "database/sql"}},

	"internal/store":       {may: []string{"std", "muster"}, refuses: []string{"os", "net", "database/sql"}},
	"internal/store/codec": {may: []string{"std", "muster"}, refuses: []string{"os", "net"}},
	"internal/store/pgstore": {may: []string{"std", "muster", "muster/internal/store", "muster/internal/store/codec", "muster/internal/meter", "github.com/jackc/pgx/v5/",
		"github.com/google/uuid"}, refuses: []string{"os", "database/sql"}},
	"internal/store/pebblestore": {may: []string{"std", "muster", "muster/internal/store", "muster/internal/store/codec", "muster/internal/meter",
		"github.com/cockroachdb/pebble/v2/", "github.com/cockroachdb/crlib/crtime",
		"github.com/RoaringBitmap/roaring/v2/", "github.com/RaduBerinde/btreemap"}, refuses: []string{"net", "database/sql"}},
	"internal/store/storetest": {may: []string{"std", "muster", "muster/internal/store"}, refuses: []string{"net", "database/sql"}},

	"internal/engine": {may: []string{"std", "muster", "muster/internal/store", "muster/internal/meter", "github.com/google/uuid"},
		refuses: []string{"encoding/json", "os", "net", "database/sql"}},

	"internal/awsapi": {may: []string{"std", "muster", "muster/internal/engine", "muster/internal/awsapi/", "muster/internal/meter", "github.com/aws/", "github.com/google/uuid",
		"golang.org/x/time/rate"},
		refuses: []string{"database/sql"}},
	"internal/awsapi/iot":      {may: []string{"std", "muster/internal/awsapi/wire"}, refuses: []string{"os", "net"}},
	"internal/awsapi/jobsdata": {may: []string{"std", "muster/internal/awsapi/wire"}, refuses: []string{"os", "net"}},
	"internal/awsapi/wire":     {may: []string{"std"}, refuses: []string{"os", "net"}},
	"internal/awsapi/gen":      {may: []string{"std", "muster/internal/awsapi/wire"}, refuses: []string{"net"}},

	// The broker and the AWS face do not know each other; the server introduces them.
	"internal/broker": {may: []string{"std"}, refuses: []string{"database/sql"}},

	"internal/meter":   {may: []string{"std"}, refuses: []string{"net", "os", "context"}},
	"internal/webhook": {may: []string{"std", "muster", "muster/internal/awsapi", "muster/internal/engine", "github.com/google/uuid"}, refuses: []string{"os", "database/sql"}},
	// Nobody else knows Prometheus, or OpenTelemetry: the rooms count, these show.
	"internal/metrics": {may: []string{"std", "muster", "muster/internal/", "github.com/prometheus/client_golang/"}, refuses: []string{"os", "database/sql"}},
	"internal/trace":   {may: []string{"std", "muster/internal/", "go.opentelemetry.io/otel/"}, refuses: []string{"os", "database/sql"}},
	// What plays devices is a client like any other; it borrows the broker's packets, and the rules to say what must come out.
	"internal/fleet":   {may: []string{"std", "muster", "muster/internal/broker", "github.com/aws/"}, refuses: []string{"database/sql"}},
	"internal/screen":  {may: []string{"std", "golang.org/x/term"}, refuses: []string{"net", "database/sql"}},
	"internal/operate": {may: []string{"std", "github.com/aws/", "go.yaml.in/yaml/"}, refuses: []string{"database/sql"}},

	"internal/server": {may: []string{"std", "muster", "muster/internal/", "github.com/google/uuid", "github.com/coder/websocket", "golang.org/x/time/rate"}},
	"mustertest":      {may: []string{"std", "muster/internal/server", "github.com/aws/aws-sdk-go-v2/aws"}},
	"cmd/muster":      {may: []string{"std", "muster", "muster/internal/server", "muster/internal/fleet", "muster/internal/operate", "muster/internal/screen", "github.com/alecthomas/kong", "github.com/aws/", "golang.org/x/term"}},

	// What measures may reach inside; what plays the client may not.
	"test/bench":    {may: []string{"std", "muster", "muster/internal/", "muster/test/device", "muster/test/postgres", "github.com/"}},
	"test/storm":    {may: []string{"std", "muster", "muster/internal/", "muster/test/", "github.com/"}},
	"test/process":  {may: []string{"std"}},
	"test/deploy":   {may: []string{"std", "muster/test/process", "go.yaml.in/yaml/"}},
	"test/device":   {may: []string{"std"}},
	"test/line":     {may: []string{"std"}},
	"test/postgres": {may: []string{"std", "muster/test/process", "github.com/jackc/pgx/v5"}},
	"test/sdk":      {may: []string{"std", "muster/test/process", "muster/test/postgres", "github.com/"}},
}

// exceptions are imports that a room refuses, with the reason why one file may.
var exceptions = map[string]string{}

// strays are words that may stand in a few places only, each with its reason.
var strays = []struct {
	what    string
	imports string // the package a selector belongs to
	names   []string
	allowed map[string]string // file or folder: why
}{
	{"reads the clock", "time", []string{"Now", "Since", "Until"}, map[string]string{
		"internal/engine/clock.go":  "SystemClock is where the engine's time comes from",
		"internal/server/server.go": "real time for signatures, socket deadlines and durations in the log",
		"cmd/muster/client.go":      "signatures live by real time",
		"cmd/muster/cert.go":        "certificates live by real time",
		"internal/broker":           "keep-alives and sessions live by real time",
		"internal/store/pgstore":    "whether another node is alive is measured in real time",
		"internal/fleet":            "devices live by real time",
		"internal/screen":           "what is shown moves in real time",
		"internal/operate":          "rates of what is watched are by real time",
		"cmd/muster/demo.go":        "it moves the demo's clock",
		"cmd/muster/watch.go":       "rates of what is watched are by real time",
		"test":                      "measures and waits for processes",
	}},
	{"waits without anybody being able to wake it", "time", []string{"Sleep"}, map[string]string{
		"test/bench": "paces load",
	}},
	{"reads the environment", "os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, map[string]string{
		"test": "runs processes",
	}},
	{"reads arguments", "os", []string{"Args"}, map[string]string{
		"cmd/muster/main.go": "it is the program", "internal/awsapi/gen": "it is a program", "test": "runs processes",
	}},
	{"reads flags", "flag", nil, map[string]string{
		"internal/awsapi/gen": "it is a program", "test": "runs processes",
	}},
	{"ends the process", "os", []string{"Exit"}, map[string]string{
		"cmd/muster/main.go": "it is the program", "internal/awsapi/gen": "it is a program", "test": "runs processes",
	}},
}

// longest is how many lines a file may have before one asks whether two nouns live there.
const longest = 800

var emptyNames = []string{"util", "utils", "common", "types", "models", "helpers", "manager", "impl", "misc", "base"}

// A source is one file of Go.
type source struct {
	path      string // with slashes, from the root
	text      []byte
	tree      *ast.File
	lines     *token.FileSet
	test      bool
	generated bool
}

func (s source) dir() string { return path.Dir(s.path) }

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(name), text: text, lines: token.NewFileSet(), test: strings.HasSuffix(name, "_test.go")}
		if s.tree, err = parser.ParseFile(s.lines, name, text, parser.ParseComments); err != nil {
			return err
		}
		s.generated = ast.IsGenerated(s.tree)
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s source) imports() (paths []string) {
	for _, i := range s.tree.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err) // it was parsed
		}
		paths = append(paths, p)
	}
	return paths
}

// covers reports whether one of the entries is the import or holds it.
func covers(entries []string, imported string) bool {
	return slices.ContainsFunc(entries, func(e string) bool {
		below, ok := strings.CutSuffix(e, "/")
		return imported == below || ok && strings.HasPrefix(imported, e)
	})
}

func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return first != "muster" && !strings.Contains(first, ".")
}

func TestWhoImportsWhom(t *testing.T) {
	unknown := map[string]bool{}
	for _, s := range sources(t) {
		room, ok := rooms[s.dir()]
		if !ok {
			if !unknown[s.dir()] {
				t.Errorf("%s: no room of that name; say in arch_test.go what it may import", s.dir())
			}
			unknown[s.dir()] = true
			continue
		}
		if s.test {
			continue // a test may look behind the wall it tests
		}
		for _, p := range s.imports() {
			switch {
			case exceptions[s.path+" "+p] != "":
			case !standard(p) && !covers(room.may, p):
				t.Errorf("%s imports %s, which its room may not know", s.path, p)
			case standard(p) && slices.ContainsFunc(room.refuses, func(r string) bool { return p == r || strings.HasPrefix(p, r+"/") }):
				t.Errorf("%s imports %s, which its room refuses", s.path, p)
			}
		}
	}
}

// The client's tests must not know what is inside the server, also not in test files.
func TestClientsKnowNothing(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.path, "test/sdk/") {
			continue
		}
		for _, p := range s.imports() {
			if p == "muster" || strings.HasPrefix(p, "muster/") && p != "muster/test/process" && p != "muster/test/postgres" {
				t.Errorf("%s imports %s", s.path, p)
			}
		}
	}
}

func TestStrays(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, stray := range strays {
			allowed := false
			for place := range stray.allowed {
				allowed = allowed || s.path == place || strings.HasPrefix(s.path, place+"/")
			}
			if allowed || !slices.Contains(s.imports(), stray.imports) {
				continue
			}
			if stray.names == nil {
				t.Errorf("%s %s: only %v may", s.path, stray.what, stray.allowed)
			}
			ast.Inspect(s.tree, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == path.Base(stray.imports) && slices.Contains(stray.names, sel.Sel.Name) {
						t.Errorf("%s %s (%s.%s)", s.lines.Position(sel.Pos()), stray.what, x.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// Tests do not wait a while and hope, and are not left out.
func TestTestsDoNotSleepOrSkip(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.tree, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch call := x.Name + "." + sel.Sel.Name; call {
			case "time.Sleep":
				t.Errorf("%s: a test sleeps", s.lines.Position(sel.Pos()))
			case "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip":
				// Clients of other makers may be missing on a machine.
				if !strings.HasPrefix(s.path, "test/sdk/") {
					t.Errorf("%s: a test skips itself", s.lines.Position(sel.Pos()))
				}
			}
			return true
		})
	}
}

func TestFilesAndNames(t *testing.T) {
	unfinished := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}
	for _, s := range sources(t) {
		if slices.Contains(emptyNames, s.tree.Name.Name) {
			t.Errorf("%s: package %s says nothing about what it holds", s.path, s.tree.Name.Name)
		}
		if s.generated {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > longest {
			t.Errorf("%s has %d lines; do two nouns live there?", s.path, n)
		}
		lines := bufio.NewScanner(bytes.NewReader(s.text))
		for i := 1; lines.Scan(); i++ {
			for _, word := range unfinished {
				if strings.Contains(lines.Text(), word) {
					t.Errorf("%s:%d: %s", s.path, i, word)
				}
			}
		}
	}
}

// Every package says what it is, and every exported name what it promises.
func TestDocumented(t *testing.T) {
	packages := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		packages[s.dir()] = packages[s.dir()] || s.tree.Doc != nil
		if s.generated {
			continue
		}
		for _, decl := range s.tree.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() && d.Doc == nil {
					t.Errorf("%s: func %s has no comment", s.lines.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				above := d.Doc != nil // a comment in a group may speak for what stands below it
				for _, spec := range d.Specs {
					ty, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					above = above || ty.Doc != nil
					if ty.Name.IsExported() && !above && ty.Comment == nil {
						t.Errorf("%s: type %s has no comment", s.lines.Position(ty.Pos()), ty.Name.Name)
					}
				}
			}
		}
	}
	for dir, documented := range packages {
		if !documented {
			t.Errorf("%s has no package comment", dir)
		}
	}
}
