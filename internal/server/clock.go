package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"muster"
	"muster/internal/engine"
)

// maxClockBody bounds what a move of the clock may say.
const maxClockBody = 4 << 10

// clock makes the engine's clock from the configuration.
func (s *Server) clock() (engine.Clock, error) {
	kind, at, given := strings.Cut(s.config.Clock, ":")
	switch {
	case s.config.Clock == "" || s.config.Clock == "real":
		return &engine.SystemClock{}, nil
	case kind != "manual":
		return nil, fmt.Errorf("the clock is real, manual or manual:TIME, not %q", s.config.Clock)
	}
	start := s.now()
	if given {
		var err error
		if start, err = time.Parse(time.RFC3339, at); err != nil {
			return nil, fmt.Errorf("the clock cannot start at %q: give a time such as 2026-01-02T15:04:05Z", at)
		}
	}
	return engine.NewManualClock(context.Background(), s.store, muster.At(start))
}

// clockView is what GET and POST /_muster/clock answer.
type clockView struct {
	Now     string `json:"now"`
	Manual  bool   `json:"manual"`
	NextDue string `json:"nextDue,omitempty"` // when something falls due; absent when nothing does
}

func (s *Server) serveClock(w http.ResponseWriter, r *http.Request) {
	if err := s.readable(r); err != nil {
		s.refuseFor(w, err)
		return
	}
	s.showClock(w, r)
}

func (s *Server) showClock(w http.ResponseWriter, r *http.Request) {
	next, err := s.engine.NextDue(r.Context())
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	v := clockView{Now: stamp(s.engine.Now()), Manual: s.engine.Manual()}
	if next != 0 {
		v.NextDue = stamp(next)
	}
	reply(w, http.StatusOK, v)
}

func stamp(t muster.Time) string { return t.Time().Format("2006-01-02T15:04:05.999Z07:00") }

// moveClock moves a manual clock: {"advance":"72h"}, {"set":"2026-01-02T15:04:05Z"}, or {"next":true} to the
// moment at which something falls due next. It answers when everything that fell due is done.
func (s *Server) moveClock(w http.ResponseWriter, r *http.Request) {
	body, err := s.admitted(r, maxClockBody)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	var in struct {
		Advance string `json:"advance"`
		Set     string `json:"set"`
		Next    bool   `json:"next"`
	}
	dec := json.NewDecoder(io.LimitReader(body, maxClockBody))
	dec.DisallowUnknownFields()
	const usage = `The body must be {"advance":"72h"}, {"set":"2026-01-02T15:04:05Z"} or {"next":true}`
	if err := dec.Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, usage)
		return
	}
	to := s.engine.Now()
	switch {
	case in.Advance != "" && in.Set == "" && !in.Next:
		d, err := time.ParseDuration(in.Advance)
		if err != nil || d < 0 {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("advance is %q; it must be a duration such as 90s or 72h", in.Advance))
			return
		}
		to = to.Add(d)
	case in.Set != "" && in.Advance == "" && !in.Next:
		t, err := time.Parse(time.RFC3339, in.Set)
		if err != nil {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("set is %q; it must be a time such as 2026-01-02T15:04:05Z", in.Set))
			return
		}
		to = muster.At(t)
	case in.Next && in.Advance == "" && in.Set == "":
		next, err := s.engine.NextDue(r.Context())
		if err != nil {
			s.refuseFor(w, err)
			return
		}
		to = max(to, next) // nothing due: it stays
	default:
		refuse(w, http.StatusBadRequest, usage)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // years may pass
	err = s.engine.Advance(r.Context(), to)
	if err == nil {
		err = s.api.Told(r.Context()) // whoever moves the clock looks at what devices hear of it
	}
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	s.showClock(w, r)
}
