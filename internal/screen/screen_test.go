package screen

import (
	"bytes"
	"strings"
	"testing"
)

func TestCut(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"short", "short"}, {"exactly 10", "exactly 10"}, {"more than ten", "more than "},
		{"████████████", "██████████"},
		{"\x1b[31mred\x1b[0m and black", "\x1b[31mred\x1b[0m and bl"},
		{"\x1b[31mred and red all over", "\x1b[31mred and re\x1b[0m"},
		{"broken \x1b[31", "broken "},
	} {
		if got := Cut(c.line, 10); got != c.want {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, Options{})
	s.Frame([]string{"never seen"})
	s.Say("%d of %d %s", 1, 2, s.Paint(Red, "red"))
	s.Close()
	if out.String() != "1 of 2 red\n" || s.Live() {
		t.Errorf("%q", &out)
	}
}

// A terminal of four lines, as the bytes leave it.
func TestFramesAreDrawnOverEachOther(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{w: &out, size: func() (int, int) { return 21, 5 }, color: true}
	s.Frame([]string{"one", "two", "three"})
	s.Frame([]string{"1", "a line that is longer than the terminal", "3", "4", "does not fit"})
	s.Say("stays")
	s.Close()
	s.Say("after")
	var lines []string
	at := 0
	for _, part := range strings.SplitAfter(out.String(), "\n") {
		if i := strings.Index(part, "A"); strings.Contains(part, "\r\x1b[") && i > 0 {
			at -= int(part[i-1] - '0')
			part = part[i+1:]
		}
		text := strings.NewReplacer(hide, "", show, "", toEnd, "", below, "", resetText, "", "\r", "", "\n", "").Replace(part)
		if !strings.HasSuffix(part, "\n") {
			continue
		}
		lines = append(lines[:min(at, len(lines))], append([]string{text}, lines[min(at+1, len(lines)):]...)...)
		at++
	}
	if got := strings.Join(lines, "|"); got != "stays|1|a line that is longe|3|4|after" {
		t.Errorf("%q", got)
	}
}

func TestBar(t *testing.T) {
	s := New(new(bytes.Buffer), Options{})
	for _, c := range []struct {
		n, total int64
		want     string
	}{{0, 0, "··········"}, {0, 10, "··········"}, {1, 1000, "█·········"}, {500, 1000, "█████·····"}, {10, 10, "██████████"}, {11, 10, "██████████"}} {
		if got := s.Bar(10, c.n, c.total, Red); got != c.want {
			t.Errorf("%d of %d: %s", c.n, c.total, got)
		}
	}
}
