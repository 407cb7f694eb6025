package server

import (
	"net/http"

	"muster"
	"muster/internal/engine"
)

// explanation is what GET /_muster/jobs/{id}/explain and …/things/{name}/explain answer.
type explanation struct {
	Now string `json:"now"`
	jobView
	Stages     *stageView       `json:"stages,omitempty"`
	Executions map[string]int64 `json:"executions,omitempty"` // of the whole job, by status
	ThingName  string           `json:"thingName,omitempty"`
	Execution  *executionView   `json:"execution,omitempty"`
	Reasons    []reasonView     `json:"reasons"`
}

type stageView struct {
	Stage   int    `json:"stage"` // the present one, from 1; 0: the targets are not counted yet
	Of      int    `json:"of"`
	Targets int64  `json:"targets"`
	Bakes   string `json:"bakesUntil,omitempty"`
}

type executionView struct {
	Number   int64  `json:"executionNumber"`
	Status   string `json:"status"`
	Version  int64  `json:"versionNumber"`
	Retry    int32  `json:"retryAttempt"`
	QueuedAt string `json:"queuedAt"`
}

type reasonView struct {
	Code    string `json:"code"`
	Things  int64  `json:"things"`
	AtLeast bool   `json:"atLeast,omitempty"` // things were not counted to the end
	Until   string `json:"until,omitempty"`
	JobID   string `json:"jobId,omitempty"`
	Text    string `json:"text"`
}

func (s *Server) serveExplain(w http.ResponseWriter, r *http.Request) {
	s.explain(w, r, func() (engine.Explanation, error) {
		return s.engine.Explain(r.Context(), muster.JobID(r.PathValue("id")))
	})
}

func (s *Server) serveExplainThing(w http.ResponseWriter, r *http.Request) {
	s.explain(w, r, func() (engine.Explanation, error) {
		return s.engine.ExplainThing(r.Context(), muster.JobID(r.PathValue("id")), muster.ThingName(r.PathValue("name")))
	})
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request, look func() (engine.Explanation, error)) {
	if err := s.readable(r); err != nil {
		s.refuseFor(w, err)
		return
	}
	x, err := look()
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	out := explanation{Now: stamp(x.Now), jobView: viewJob(x.Job), Executions: countsView(x.Counts), ThingName: string(x.Thing), Reasons: []reasonView{}}
	if x.Job.Staged() {
		out.Stages = &stageView{Of: len(x.Job.Extras.Stages)}
		if p := x.Job.Progress; p != nil {
			out.Stages.Stage, out.Stages.Targets, out.Stages.Bakes = p.Stage+1, p.Targets, maybe(x.Job.Bakes())
		}
	}
	if e := x.Execution; e != nil {
		out.Execution = &executionView{Number: e.Number, Status: e.Status.String(), Version: e.Version, Retry: e.Attempt, QueuedAt: stamp(e.QueuedAt)}
	}
	for _, why := range x.Reasons {
		out.Reasons = append(out.Reasons, reasonView{Code: string(why.Code), Things: why.Things, AtLeast: why.AtLeast, Until: maybe(why.Until), JobID: string(why.Job), Text: why.Text})
	}
	reply(w, http.StatusOK, out)
}

// countsView leaves out what there is none of.
func countsView(c muster.Counts) map[string]int64 {
	out := map[string]int64{}
	for status := muster.Queued; status < muster.NumStatus; status++ {
		if n := c[status]; n != 0 {
			out[status.String()] = n
		}
	}
	return out
}

// maybe is a time that is absent when there is none.
func maybe(t muster.Time) string {
	if t == 0 {
		return ""
	}
	return stamp(t)
}
