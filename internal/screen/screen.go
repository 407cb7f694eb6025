// Package screen shows what goes on: at a terminal a few lines that are drawn again and again, with lines that stay
// above them; elsewhere plain lines, now and then. It knows nothing of what it shows.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Options say what a screen may do.
type Options struct {
	Plain   bool // plain lines, also at a terminal
	NoColor bool
}

// A Screen is where a command shows what goes on. Any goroutine may use it.
type Screen struct {
	mu    sync.Mutex
	w     io.Writer
	size  func() (width, height int) // nil: plain
	color bool
	frame []string // as drawn
}

// What is assumed where nobody can be asked.
const (
	plainWidth  = 100
	leastWidth  = 20
	leastHeight = 4
)

// New makes a screen of a writer. It moves if that is a terminal.
func New(w io.Writer, o Options) *Screen {
	s := &Screen{w: w}
	f, ok := w.(*os.File)
	if !ok || o.Plain || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	s.color = !o.NoColor
	s.size = func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width < leastWidth || height < leastHeight {
			return 80, 24
		}
		return width, height
	}
	return s
}

// Live says whether frames are drawn.
func (s *Screen) Live() bool { return s.size != nil }

// Size is the room there is, in characters and lines; without a terminal there is any number of lines.
func (s *Screen) Size() (width, height int) {
	if s.size == nil {
		return plainWidth, 1 << 20
	}
	return s.size()
}

// Escape sequences of ECMA-48, which every terminal emulator of today understands.
const (
	hide      = "\x1b[?25l"
	show      = "\x1b[?25h"
	toEnd     = "\x1b[K" // clear to the end of the line
	below     = "\x1b[J" // clear what is below
	resetText = "\x1b[0m"
)

// Frame draws lines in place of those drawn before. Lines too long are cut, and so are lines too many. It does nothing
// where there is no terminal.
func (s *Screen) Frame(lines []string) {
	if s.size == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	width, height := s.size()
	cut := make([]string, 0, len(lines))
	for _, line := range lines[:min(len(lines), height-1)] {
		cut = append(cut, Cut(line, width-1))
	}
	var b strings.Builder
	b.WriteString(hide)
	s.up(&b)
	for _, line := range cut {
		b.WriteString(line + toEnd + "\n")
	}
	b.WriteString(below)
	io.WriteString(s.w, b.String()) // a terminal that is gone is noticed by its signal
	s.frame = cut
}

// up moves to where the frame begins.
func (s *Screen) up(b *strings.Builder) {
	b.WriteByte('\r')
	if n := len(s.frame); n > 0 {
		fmt.Fprintf(b, "\x1b[%dA", n)
	}
}

// Say writes a line that stays, above the frame if there is one.
func (s *Screen) Say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if s.size == nil || len(s.frame) == 0 {
		io.WriteString(s.w, line+"\n")
		return
	}
	var b strings.Builder
	s.up(&b)
	b.WriteString(line + toEnd + "\n")
	for _, old := range s.frame {
		b.WriteString(old + toEnd + "\n")
	}
	b.WriteString(below)
	io.WriteString(s.w, b.String())
}

// Close leaves the last frame standing and gives the terminal back. The screen can be used on, for lines.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size != nil && len(s.frame) > 0 {
		io.WriteString(s.w, resetText+show)
	}
	s.frame = nil
}

// A Color is one of the eight that every terminal has, by its code.
type Color string

// The colors.
const (
	Red     Color = "31"
	Green   Color = "32"
	Yellow  Color = "33"
	Blue    Color = "34"
	Magenta Color = "35"
	Cyan    Color = "36"
	Faint   Color = "2"
	Bold    Color = "1"
)

// Paint colors a text, where that is wanted.
func (s *Screen) Paint(c Color, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + resetText
}

// Bar is a bar of a width that is filled as far as n is of total. What there is any of can be seen.
func (s *Screen) Bar(width int, n, total int64, c Color) string {
	width = max(width, 1)
	full := 0
	if total > 0 {
		full = int((n*int64(width) + total/2) / total)
		full = min(max(full, min(int(n), 1)), width)
	}
	return s.Paint(c, strings.Repeat("█", full)) + s.Paint(Faint, strings.Repeat("·", width-full))
}

// Cut is a line as far as it fits, escape sequences not counted.
func Cut(line string, width int) string {
	used, colored := 0, false
	for i := 0; i < len(line); {
		if rest := line[i:]; strings.HasPrefix(rest, "\x1b[") {
			end := strings.IndexByte(rest, 'm')
			if end < 0 {
				return line[:i]
			}
			colored = rest[:end+1] != resetText
			i += end + 1
			continue
		}
		_, n := utf8.DecodeRuneInString(line[i:])
		if used++; used > width {
			if colored {
				return line[:i] + resetText
			}
			return line[:i]
		}
		i += n
	}
	return line
}
