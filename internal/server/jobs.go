package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"muster"
)

const (
	maxActBody = 4 << 10
	maxWhy     = 1024
)

// jobID is what an id must look like: it may become that of a new job.
var jobID = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// jobView is what the acts on a job answer.
type jobView struct {
	JobID     string    `json:"jobId"`
	Status    string    `json:"status"`
	Held      *heldView `json:"held,omitempty"`
	RetryOf   string    `json:"retryOf,omitempty"`
	RetriedBy []string  `json:"retriedBy,omitempty"`
}

type heldView struct {
	Since  string `json:"since"`
	By     string `json:"by"` // operator, or gate: the one after a stage
	Reason string `json:"reason,omitempty"`
}

func viewJob(job *muster.Job) jobView {
	v := jobView{JobID: string(job.ID), Status: job.Status.String()}
	if h := job.Held; h != nil && job.Status.Active() {
		v.Held = &heldView{Since: stamp(h.Since), By: "operator", Reason: h.Why}
		if h.ByGate {
			v.Held.By = "gate"
		}
	}
	if job.RetryOf != nil {
		v.RetryOf = string(job.RetryOf.Job)
	}
	for _, id := range job.RetriedBy {
		v.RetriedBy = append(v.RetriedBy, string(id))
	}
	return v
}

// anAct is what an act on a job may be told; every member can be left out.
type anAct struct {
	Reason string `json:"reason"` // hold
	JobID  string `json:"jobId"`  // retry-failed: of the new job
}

// actOn serves POST /_muster/jobs/{id}/hold, /resume and /retry-failed.
func (s *Server) actOn(do func(r *http.Request, id muster.JobID, in anAct) (muster.Job, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := s.admitted(r, maxActBody)
		if err != nil {
			s.refuseFor(w, err)
			return
		}
		text, err := io.ReadAll(io.LimitReader(body, maxActBody+1))
		if err != nil || len(text) > maxActBody {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("The body must be read to its end and have at most %d bytes", maxActBody))
			return
		}
		var in anAct
		if text = bytes.TrimSpace(text); len(text) > 0 {
			dec := json.NewDecoder(bytes.NewReader(text))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&in); err != nil {
				refuse(w, http.StatusBadRequest, `The body must be empty, or {"reason":"…"} to hold a job, or {"jobId":"…"} to try again what failed`)
				return
			}
		}
		job, err := do(r, muster.JobID(r.PathValue("id")), in)
		if err != nil {
			s.refuseFor(w, err)
			return
		}
		reply(w, http.StatusOK, viewJob(&job))
	}
}

func (s *Server) hold(r *http.Request, id muster.JobID, in anAct) (muster.Job, error) {
	if len(in.Reason) > maxWhy {
		return muster.Job{}, muster.Errorf(muster.Invalid, "reason has %d bytes; at most %d are allowed", len(in.Reason), maxWhy)
	}
	return s.engine.HoldJob(r.Context(), id, in.Reason)
}

func (s *Server) resume(r *http.Request, id muster.JobID, _ anAct) (muster.Job, error) {
	return s.engine.ResumeJob(r.Context(), id)
}

func (s *Server) retryFailed(r *http.Request, id muster.JobID, in anAct) (muster.Job, error) {
	if in.JobID != "" && !jobID.MatchString(in.JobID) {
		return muster.Job{}, muster.Errorf(muster.Invalid, "jobId is %q; it must have 1 to 64 letters, digits, _ and -", in.JobID)
	}
	return s.engine.RetryFailed(r.Context(), id, muster.JobID(in.JobID))
}
