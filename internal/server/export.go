package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/engine"
	"muster/internal/store"
	"muster/internal/webhook"
)

// An ExportReport says what an export has, or what was imported of one.
type ExportReport struct {
	Counts map[string]int64 // lines by kind
	Digest string           // of the lines, whatever their order
}

// Export writes everything that the store of a stopped server holds, or a database, as JSON lines.
func Export(ctx context.Context, address string, w io.Writer, log *slog.Logger) (report ExportReport, err error) {
	err = withKept(address, log, func(s store.Store) error {
		report, err = export(ctx, s, w)
		return err
	})
	return report, err
}

func export(ctx context.Context, s store.Store, to io.Writer) (ExportReport, error) {
	w := bufio.NewWriterSize(to, 1<<20)
	end := exportLine{Muster: exportEnds, Counts: map[string]int64{}}
	report := ExportReport{Counts: end.Counts}
	write := func(l *exportLine) ([]byte, error) {
		b, err := json.Marshal(l)
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return b, err
	}
	if _, err := write(&exportLine{Muster: exportBegins, Version: exportVersion}); err != nil {
		return report, err
	}
	err := s.Dump(ctx, func(row store.Row) error {
		if seq, ok := row.(store.Seq); ok {
			end.Sequence = uint64(seq)
			return nil
		}
		if setting, ok := row.(store.Setting); ok && ofProcess(setting.Name) {
			return nil
		}
		l, kind, err := lineOf(engine.Portable(row))
		if err != nil {
			return err
		}
		line, err := write(&l)
		end.Counts[kind]++
		end.Digest.add(line)
		return err
	})
	if err == nil {
		_, err = write(&end)
	}
	report.Digest = end.Digest.String()
	return report, errors.Join(err, w.Flush())
}

// ofProcess reports whether a setting means something only to the processes that use the store it is in: who is
// where, and places in its feed.
func ofProcess(setting string) bool {
	for _, prefix := range []string{awsapi.ToldPrefix, hostPrefix, leavePrefix, webhook.PlacePrefix} {
		if strings.HasPrefix(setting, prefix) {
			return true
		}
	}
	return false
}

// IsExport looks whether what follows is an export of everything.
func IsExport(r *bufio.Reader) bool {
	const begin = `{"muster":`
	head, _ := r.Peek(len(begin))
	return string(head) == begin
}

// maxExportLine bounds a line: a setting may be a retained message.
const maxExportLine = 64 << 20

// Load takes an export of everything into an empty store, which is made if there is none, and then compares what the
// store holds with the file. A store that was made for it is removed when that fails.
func Load(ctx context.Context, address string, r io.Reader, log *slog.Logger) (report ExportReport, err error) {
	dir := ""
	if !inPostgres(address) {
		dir = strings.TrimPrefix(address, "pebble:")
		address = "pebble:" + dir
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			dir = ""
		}
	}
	in := &exportReader{lines: bufio.NewScanner(r), counts: map[string]int64{}}
	in.lines.Buffer(make([]byte, 0, 1<<16), maxExportLine)
	if err := in.begin(); err != nil {
		return report, err
	}
	s, err := openStore(address, storeOptions{aside: true, log: log})
	if err != nil {
		return report, err
	}
	err = load(ctx, s, in)
	failed := err != nil
	if failed && dir == "" && s.Health() != nil {
		err = fmt.Errorf("%w; %s is half filled now and can only be thrown away", err, address)
	}
	err = errors.Join(err, s.Close())
	if failed && dir != "" {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return ExportReport{in.counts, in.digest.String()}, err
}

func load(ctx context.Context, s store.Store, in *exportReader) error {
	if err := s.Load(ctx, in.next); err != nil {
		return err
	}
	loaded, err := export(ctx, s, io.Discard)
	if err != nil {
		return fmt.Errorf("what was imported cannot be read again; throw the store away: %w", err)
	}
	if loaded.Digest != in.digest.String() || !maps.Equal(loaded.Counts, in.counts) {
		return muster.Errorf(muster.Internal, "The store does not hold what the file has; throw it away. It has %v, digest %s; the file %v, digest %s",
			loaded.Counts, loaded.Digest, in.counts, in.digest)
	}
	return nil
}

// An exportReader reads the lines of an export and verifies them as it comes to the end.
type exportReader struct {
	lines  *bufio.Scanner
	number int // of the line
	counts map[string]int64
	digest digest
	over   bool
}

// line is the next line that is not empty.
func (r *exportReader) line() ([]byte, bool) {
	for r.lines.Scan() {
		r.number++
		if text := bytes.TrimSpace(r.lines.Bytes()); len(text) > 0 {
			return text, true
		}
	}
	return nil, false
}

func (r *exportReader) bad(format string, args ...any) error {
	return muster.Errorf(muster.Invalid, "Line %d: %s", r.number, fmt.Sprintf(format, args...))
}

// begin reads the first line.
func (r *exportReader) begin() error {
	text, ok := r.line()
	var l exportLine
	switch {
	case !ok:
		return errors.Join(muster.Errorf(muster.Invalid, "The file is empty"), r.lines.Err())
	case json.Unmarshal(text, &l) != nil || l.Muster != exportBegins || l.Version < 1:
		return r.bad("this is not how an export begins")
	case l.Version > exportVersion:
		return r.bad("the export has version %d, which is of a newer version of Muster; this one knows versions up to %d", l.Version, exportVersion)
	}
	return nil
}

// next is the next row. The last one, the sequence, is given when everything is verified.
func (r *exportReader) next() (store.Row, bool, error) {
	if r.over {
		return nil, false, nil
	}
	text, ok := r.line()
	if !ok {
		if err := r.lines.Err(); err != nil {
			return nil, false, r.bad("the export cannot be read on: %v", err)
		}
		return nil, false, r.bad("the export ends here, without its last line: it is cut off")
	}
	var l exportLine
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, false, r.bad("%v", err)
	}
	if l.Muster != "" {
		return r.end(&l)
	}
	row := l.row()
	if row == nil {
		return nil, false, r.bad("this is not a line of an export")
	}
	r.counts[l.kind()]++
	r.digest.add(text)
	return row, true, nil
}

func (r *exportReader) end(l *exportLine) (store.Row, bool, error) {
	r.over = true
	switch {
	case l.Muster != exportEnds:
		return nil, false, r.bad("this is the first line of an export, in the middle of one")
	case !maps.Equal(l.Counts, r.counts) && len(l.Counts)+len(r.counts) > 0:
		return nil, false, r.bad("the export is damaged: it has the lines %v, and should have %v", r.counts, l.Counts)
	case l.Digest != r.digest:
		return nil, false, r.bad("the export is damaged: its lines have the digest %s, and should have %s", r.digest, l.Digest)
	}
	if _, more := r.line(); more {
		return nil, false, r.bad("there is something behind the last line of the export")
	}
	if err := r.lines.Err(); err != nil {
		return nil, false, err
	}
	return store.Seq(l.Sequence), true, nil
}
