package main

import (
	"fmt"
	"strings"

	"muster/internal/operate"
	"muster/internal/screen"
)

// look is how a command shows what goes on.
type look struct {
	Plain   bool   `help:"Plain lines, also at a terminal."`
	NoColor string `hidden:"" env:"NO_COLOR"`
	Term    string `hidden:"" env:"TERM"`
}

func (l *look) screen(w world) *screen.Screen {
	return screen.New(w.stdout, screen.Options{Plain: l.Plain || l.Term == "dumb", NoColor: l.NoColor != ""})
}

// colors are those of statuses.
var colors = map[string]screen.Color{
	"QUEUED": screen.Blue, "IN_PROGRESS": screen.Cyan, "SUCCEEDED": screen.Green, "FAILED": screen.Red,
	"TIMED_OUT": screen.Magenta, "REJECTED": screen.Yellow, "REMOVED": screen.Faint, "CANCELED": screen.Yellow,
}

// widest is as wide as a view gets: longer bars say no more.
const widest = 110

// bars are a bar for each status that there is any of, or always is in a job.
func bars(s *screen.Screen, p *operate.Progress, total int64) (lines []string) {
	width, _ := s.Size()
	width = min(width, widest)
	for _, status := range operate.Statuses {
		n := p.Executions[status]
		if n == 0 && (status == "REMOVED" || status == "CANCELED" || status == "REJECTED" || status == "TIMED_OUT") {
			continue
		}
		lines = append(lines, fmt.Sprintf("  %-12s %s %9s", status, s.Bar(width-27, n, total, colors[status]), grouped(int(n))))
	}
	return lines
}

// counts are the executions that there are any of, in a line.
func counts(p *operate.Progress) string {
	var parts []string
	for _, status := range operate.Statuses {
		if n := p.Executions[status]; n != 0 {
			parts = append(parts, grouped(int(n))+" "+status)
		}
	}
	if parts == nil {
		return "no executions yet"
	}
	return strings.Join(parts, ", ")
}

// failing is how many executions of those that are over went wrong, in words.
func failing(p *operate.Progress) string {
	if p.Ended() == 0 {
		return "none has ended"
	}
	return fmt.Sprintf("%s of %s that ended went wrong (%.1f %%)", grouped(int(p.Bad())), grouped(int(p.Ended())), 100*float64(p.Bad())/float64(p.Ended()))
}
