package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/internal/awsapi"
)

const (
	maxStreams   = 256              // readers of events at once
	heartbeat    = 15 * time.Second // a reader hears at least this often
	stalled      = 10 * time.Second // a reader that takes longer for a piece is cut
	streamRetry  = time.Second      // after which a reader that was cut should come again
	streamResume = "Last-Event-ID"
)

// streams are the readers of events.
type streams struct {
	open     atomic.Int64
	cut      atomic.Uint64
	leaving  chan struct{} // closed when the server stops
	leave    sync.Once
	beat     time.Duration
	patience time.Duration
}

func newStreams() *streams {
	return &streams{leaving: make(chan struct{}), beat: heartbeat, patience: stalled}
}

func (s *streams) stats() (open int, cut uint64) { return int(s.open.Load()), s.cut.Load() }

// end sends readers away: they come again, here or elsewhere, and go on where they were.
func (s *streams) end() { s.leave.Do(func() { close(s.leaving) }) }

// filterOf reads ?job=…&thing=…&group=…&type=…, each of them as often as one likes.
func filterOf(q url.Values) (f awsapi.EventFilter, err error) {
	for name, values := range q {
		switch name {
		case "job":
			f.Jobs = namesOf[muster.JobID](values)
		case "thing":
			f.Things = namesOf[muster.ThingName](values)
		case "group":
			f.Groups = namesOf[muster.GroupName](values)
		case "type":
			f.Types = values
		case "after":
		default:
			return f, muster.Errorf(muster.Invalid, "There is no filter %q: it is job, thing, group or type, or after", name)
		}
	}
	return f, f.Check()
}

func namesOf[N ~string](values []string) (names []N) {
	for _, v := range values {
		names = append(names, N(v))
	}
	return names
}

// serveEvents is GET /_muster/events: what happens, as server-sent events, from now on or from where the reader was. The id of
// an event is where to go on.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	filter, err := filterOf(r.URL.Query())
	if err == nil {
		err = s.readable(r)
	}
	place := r.Header.Get(streamResume)
	if place == "" {
		place = r.URL.Query().Get("after")
	}
	if err == nil && place == "" {
		place, err = s.api.StreamEnd(r.Context())
	} else if err == nil {
		if err = s.api.CheckPlace(r.Context(), place); err != nil {
			if known, ok := errors.AsType[*muster.Error](err); ok && known.Kind == muster.Invalid {
				err = muster.Errorf(muster.Invalid, "%s %q is not the id of an event of this server", streamResume, place)
			}
		}
	}
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	if s.streams.open.Add(1) > maxStreams {
		s.streams.open.Add(-1)
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d clients read events already; no more may", maxStreams))
		return
	}
	defer s.streams.open.Add(-1)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that gather answers must not
	out := &eventWriter{w: w, control: http.NewResponseController(w), patience: s.streams.patience, now: s.now}
	_ = out.control.SetReadDeadline(time.Time{}) // the request is read; the connection is watched for its end
	fmt.Fprintf(&out.text, "retry: %d\n", streamRetry.Milliseconds())
	out.id(place)
	if err := s.streamEvents(r.Context(), place, &filter, out); errors.Is(err, errStalled) {
		s.streams.cut.Add(1)
		s.log.Info("a reader of events was cut: it does not read", "request", h.Get(awsapi.RequestIDHeader), "error", err)
	}
}

// streamEvents writes events until the reader or the server goes.
func (s *Server) streamEvents(ctx context.Context, place string, filter *awsapi.EventFilter, out *eventWriter) error {
	grown, stop := s.engine.Changes()
	defer stop()
	beat := time.NewTicker(s.streams.beat)
	defer beat.Stop()
	if err := out.flush(); err != nil {
		return err
	}
	told := place
	missed := func() error { return out.event("gap", "", awsapi.Gap("event "+place)) }
	for {
		next, more, err := s.api.Stream(ctx, place, filter, missed, func(e *awsapi.StreamEvent) error {
			told = e.Place
			return out.event("", e.Place, e.Payload)
		})
		if err != nil {
			return err // also of the store: the reader comes again
		}
		place = next
		if more {
			if err := out.flush(); err != nil {
				return err
			}
			select {
			case <-s.streams.leaving:
				return nil
			default:
				continue
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.streams.leaving:
			return nil
		case <-grown:
		case <-beat.C:
			out.text.WriteString(": still here\n")
			if told != place {
				out.id(place) // nothing for this reader has happened since; it need not look through it again
				told = place
			}
			out.text.WriteString("\n")
			if err := out.flush(); err != nil {
				return err
			}
		}
	}
}

var errStalled = errors.New("the client takes nothing")

// An eventWriter writes server-sent events, some together.
type eventWriter struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	now      func() time.Time
	text     strings.Builder
}

// piece is how much is gathered.
const piece = 16 << 10

func (w *eventWriter) id(place string) {
	w.text.WriteString("id: ")
	w.text.WriteString(place)
	w.text.WriteString("\n")
}

// event writes one event. data has no line breaks.
func (w *eventWriter) event(name, place string, data []byte) error {
	if name != "" {
		w.text.WriteString("event: " + name + "\n")
	}
	if place != "" {
		w.id(place)
	}
	w.text.WriteString("data: ")
	w.text.Write(data)
	w.text.WriteString("\n\n")
	if w.text.Len() < piece {
		return nil
	}
	return w.flush()
}

// flush sends what is gathered, and gives the client some time to take it.
func (w *eventWriter) flush() error {
	if w.text.Len() == 0 {
		return nil
	}
	if err := w.control.SetWriteDeadline(w.now().Add(w.patience)); err != nil {
		return err
	}
	_, err := w.w.Write([]byte(w.text.String()))
	w.text.Reset()
	if err == nil {
		err = w.control.Flush()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	return nil
}
