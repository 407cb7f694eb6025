package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	bulk := `{"thingGroup":{"thingGroupName":"hall"}}
{"thing":{"thingName":"lamp-1","thingGroupNames":["hall"]}}
`
	from, file, to := filepath.Join(dir, "from"), filepath.Join(dir, "file"), filepath.Join(dir, "to")
	if code, _, stderr := said(bulk, "import", "-", "--store", from); code != 0 {
		t.Fatal(stderr)
	}
	code, out, stderr := said("", "export", from, file)
	if code != 0 || out != "" || !strings.Contains(stderr, "exported 1 membership, 1 thing, 1 thingGroup; digest ") {
		t.Fatalf("%d %q %q", code, out, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if code, _, stderr := said("", "export", from, file); code != exitFailed || !strings.Contains(stderr, "exists") {
		t.Errorf("over a file that is there: %d %q", code, stderr)
	}
	code, text, _ := said("", "export", from)
	if whole, err := os.ReadFile(file); code != 0 || err != nil || text != string(whole) {
		t.Errorf("the standard output has other lines: %d %q", code, text)
	}
	if code, _, stderr := said("", "import", file); code != exitFailed || !strings.Contains(stderr, "--store") {
		t.Errorf("into a running server: %d %q", code, stderr)
	}
	code, out, stderr = said(text, "import", "-", "--store", to)
	if code != 0 || !strings.Contains(out, "imported 1 membership, 1 thing, 1 thingGroup; digest ") {
		t.Fatalf("%d %q %q", code, out, stderr)
	}
	if _, again, _ := said("", "export", to); again != text {
		t.Errorf("exported\n%s\nafter an import of\n%s", again, text)
	}
	if code, _, stderr := said("", "import", file, "--store", to); code != exitFailed || !strings.Contains(stderr, "not empty") {
		t.Errorf("twice: %d %q", code, stderr)
	}
	if code, _, _ := said("", "check", to); code != 0 {
		t.Errorf("check: %d", code)
	}
	if code, _, stderr := said("", "export", "http://127.0.0.1:1"); code != exitFailed || !strings.Contains(stderr, "muster backup http://127.0.0.1:1 DIR") {
		t.Errorf("of a server: %d %q", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("made")
	}
	none := filepath.Join(dir, "out")
	if code, _, _ := said("", "export", filepath.Join(dir, "none"), none); code != exitFailed {
		t.Errorf("of nothing: %d", code)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a file is left of an export that failed")
	}
}
