package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/engine"
)

const (
	// inFlight is how many slices of an import may wait for the disk at once.
	inFlight = 4
	// maxLine is the longest line an import takes; a thing with all the attributes it may have is far shorter.
	maxLine = 1 << 20
	// maxReasons is how many refused lines an import explains; it counts all.
	maxReasons = 1000
)

// An ImportReport is what became of an import.
type ImportReport struct {
	Lines       int           `json:"lines"` // that hold something
	Things      int           `json:"things"`
	ThingTypes  int           `json:"thingTypes"`
	ThingGroups int           `json:"thingGroups"`
	Memberships int           `json:"memberships"` // made, also by things that name their groups
	Unchanged   int           `json:"unchanged"`   // lines that said what was there already
	Refused     int           `json:"refused"`     // lines of which nothing was taken
	Errors      []ImportError `json:"errors"`      // why, for the first 1000 of them
	Message     string        `json:"message,omitempty"`
}

// An ImportError says what is wrong with a line, counted from 1.
type ImportError struct {
	Line  int    `json:"line"`
	Error string `json:"error"`
}

// serveImport takes things, types, groups and memberships, one JSON object on a line; with
// ?atomic=true nothing if any of them is bad.
func (s *Server) serveImport(w http.ResponseWriter, r *http.Request) {
	whole := false
	if text := r.URL.Query().Get("atomic"); text != "" {
		var err error
		if whole, err = strconv.ParseBool(text); err != nil {
			refuse(w, http.StatusBadRequest, "atomic must be true or false")
			return
		}
	}
	// An import may take longer than any other request, as long as it goes on. Deadlines cannot be set
	// only where there is no connection behind the request.
	conn := http.NewResponseController(w)
	_ = conn.SetWriteDeadline(time.Time{})
	r.Body = &patientBody{ReadCloser: r.Body, extend: func() { _ = conn.SetReadDeadline(s.now().Add(stallTimeout)) }}
	body, err := s.admitted(r, maxSigned)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	report, err := importLines(r.Context(), s.engine, body, whole)
	status, id := http.StatusOK, w.Header().Get(awsapi.RequestIDHeader)
	switch {
	case err != nil:
		status, report.Message = http.StatusInternalServerError, "Internal error"
		if known, ok := errors.AsType[*muster.Error](err); ok && known.Kind != muster.Internal {
			status, report.Message = http.StatusBadRequest, known.Message
			if known.Kind == muster.Unavailable {
				status = http.StatusServiceUnavailable
			}
		}
		s.log.Error("import stopped", "lines", report.Lines, "error", err, "request", id)
	case whole && report.Refused > 0:
		status = http.StatusBadRequest
	}
	s.log.Info("import", "lines", report.Lines, "things", report.Things, "refused", report.Refused, "request", id)
	reply(w, status, report)
}

// A patientBody waits for a client as long as it sends something now and then.
type patientBody struct {
	io.ReadCloser
	extend func()
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.extend()
	return b.ReadCloser.Read(p)
}

// importLines imports what a reader holds. A bad line is named and the rest goes on; or, as a whole,
// everything is checked before anything is made, and nothing is if a line is bad. What others change
// between the check and its end may still refuse a line, and a crash may leave a part, which the same
// import again completes.
func importLines(ctx context.Context, e *engine.Engine, r io.Reader, whole bool) (ImportReport, error) {
	if !whole {
		return take(ctx, r, inFlight, e.Import)
	}
	spool, err := os.CreateTemp("", "muster-import-*")
	if err != nil {
		return ImportReport{Errors: []ImportError{}}, err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	report, err := take(ctx, io.TeeReader(r, spool), 1, e.Rehearse().Import)
	if err != nil || report.Refused > 0 {
		return ImportReport{Lines: report.Lines, Refused: report.Refused, Errors: report.Errors}, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return report, err
	}
	return take(ctx, spool, inFlight, e.Import)
}

// A slice is some lines of an import that are taken in one transaction.
type slice struct {
	rows  []engine.ImportRow
	lines []int           // of the rows
	bad   []ImportError   // lines that are not rows
	names map[string]bool // what it touches; true: changes
	apply func(context.Context, []engine.ImportRow) ([]engine.ImportResult, error)

	done    chan struct{} // closed when the rest is there
	results []engine.ImportResult
	err     error
}

func newSlice() *slice { return &slice{names: map[string]bool{}, done: make(chan struct{})} }

func (s *slice) add(line int, row engine.ImportRow) {
	s.rows, s.lines = append(s.rows, row), append(s.lines, line)
	switch {
	case row.Type != nil:
		s.names["type "+string(row.Type.Name)] = true
	case row.Group != nil:
		s.names["group "+string(row.Group.Name)] = true
		if row.Group.Parent != "" {
			s.names["group "+string(row.Group.Parent)] = true // it counts its children
		}
	case row.Thing != nil:
		s.names["thing "+string(row.Thing.Name)] = true
		s.uses("type " + string(row.Thing.Type))
		for _, g := range row.Groups {
			s.uses("group " + string(g))
		}
	case row.Member != nil:
		s.names["thing "+string(row.Member.Thing)] = true
		s.uses("group " + string(row.Member.Group))
	}
}

func (s *slice) uses(name string) { s.names[name] = s.names[name] || false }

// follows reports whether a slice must be taken after another because one of them changes what both touch.
func (s *slice) follows(earlier *slice) bool {
	for name, changes := range s.names {
		if before, both := earlier.names[name]; both && (changes || before) {
			return true
		}
	}
	return false
}

func (s *slice) run(ctx context.Context) {
	defer close(s.done)
	if len(s.rows) > 0 {
		s.results, s.err = s.apply(ctx, s.rows)
	}
}

// take reads lines and hands them over in slices. Several slices may be in flight, so that one is
// applied while another is being synced, but never two of which the order matters: a thing waits for
// its type and its groups.
func take(ctx context.Context, r io.Reader, depth int, apply func(context.Context, []engine.ImportRow) ([]engine.ImportResult, error)) (report ImportReport, err error) {
	report.Errors = []ImportError{}
	var flying []*slice
	land := func() {
		s := flying[0]
		flying = flying[1:]
		<-s.done
		if s.err != nil && err == nil {
			err = s.err
		}
		if s.err == nil {
			report.count(s)
		}
	}
	launch := func(s *slice) {
		s.apply = apply
		blocked := func() bool {
			for _, f := range flying {
				if s.follows(f) {
					return true
				}
			}
			return len(flying) >= depth
		}
		for blocked() {
			land()
		}
		if err == nil {
			flying = append(flying, s)
			go s.run(ctx)
		}
	}

	in := lines{r: bufio.NewReaderSize(r, 64<<10)}
	s := newSlice()
	for err == nil && in.next() {
		report.Lines++
		row, bad := engine.ImportRow{}, in.bad
		if bad == nil {
			row, bad = awsapi.ImportLine(in.text)
		}
		if bad != nil {
			s.bad = append(s.bad, ImportError{in.number, sentence(bad)})
		} else {
			s.add(in.number, row)
		}
		if len(s.rows) >= engine.ImportSlice || len(s.bad) >= engine.ImportSlice {
			launch(s)
			s = newSlice()
		}
	}
	if err == nil && in.err == nil {
		launch(s)
	}
	for len(flying) > 0 {
		land()
	}
	if err == nil && in.err != nil {
		err = &muster.Error{Kind: muster.Invalid, Message: "The import could not be read to its end, at line " + strconv.Itoa(in.number+1), Cause: in.err}
	}
	return report, err
}

// count adds what became of a slice. Its lines are told in order, whether they could not be read or
// were refused.
func (r *ImportReport) count(s *slice) {
	bad := s.bad
	for i, is := range s.results {
		for len(bad) > 0 && bad[0].Line < s.lines[i] {
			r.refuse(bad[0])
			bad = bad[1:]
		}
		switch row := s.rows[i]; {
		case is.Refused != nil:
			r.refuse(ImportError{s.lines[i], sentence(is.Refused)})
		case !is.Made && is.Joined == 0:
			r.Unchanged++
		case is.Made && row.Type != nil:
			r.ThingTypes++
		case is.Made && row.Group != nil:
			r.ThingGroups++
		case is.Made && row.Thing != nil:
			r.Things++
		}
		r.Memberships += is.Joined
	}
	for _, e := range bad {
		r.refuse(e)
	}
}

func (r *ImportReport) refuse(e ImportError) {
	r.Refused++
	if len(r.Errors) < maxReasons {
		r.Errors = append(r.Errors, e)
	}
}

func sentence(err error) string {
	if known, ok := errors.AsType[*muster.Error](err); ok {
		return known.Message
	}
	return err.Error()
}

// lines reads lines, leaving out empty ones. A line that is too long is passed over and said to be bad.
type lines struct {
	r      *bufio.Reader
	number int    // of the line, from 1
	text   []byte // good until next is called again
	bad    error  // what is wrong with the line
	err    error  // why there are no more, if that is not the end
	long   []byte
}

func (l *lines) next() bool {
	for l.err == nil {
		text, err := l.r.ReadSlice('\n')
		l.bad = nil
		if errors.Is(err, bufio.ErrBufferFull) {
			text, err = l.rest(text)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			l.err = err
			return false
		}
		if len(text) > 0 {
			l.number++
		}
		if l.text = bytes.TrimSpace(text); len(l.text) > 0 || l.bad != nil {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// rest reads on in a line that is longer than the buffer.
func (l *lines) rest(begin []byte) (text []byte, err error) {
	l.long = append(l.long[:0], begin...)
	for {
		text, err = l.r.ReadSlice('\n')
		if len(l.long)+len(text) > maxLine {
			l.bad = muster.Errorf(muster.Invalid, "The line is longer than %d bytes", maxLine)
		} else {
			l.long = append(l.long, text...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err
		}
	}
}
