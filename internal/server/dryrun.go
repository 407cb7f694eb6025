package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"muster"
	"muster/internal/engine"
)

const (
	maxDryRunBody = 1 << 20
	// dryRunJob stands for the id of a job that was not given one.
	dryRunJob = "dry-run"
)

// dryRun is what POST /_muster/dry-run answers.
type dryRun struct {
	Now      string      `json:"now"`
	JobID    string      `json:"jobId,omitempty"`
	Targeted targetsView `json:"targeted"`
	Bounded  string      `json:"bounded,omitempty"` // why not everything was played through
	Waits    string      `json:"waits,omitempty"`   // why it would not begin at once
	Assumes  struct {
		Success  float64 `json:"successPercent"`
		Duration string  `json:"duration"`
		Text     string  `json:"text"`
	} `json:"assumes"`
	Windows  []windowView `json:"windows"`
	Aborts   []abortView  `json:"aborts"`
	Earliest outcomeView  `json:"earliest"`
	Expected outcomeView  `json:"expected"`
	Moments  []momentView `json:"moments"`
	Curve    []minuteView `json:"curve"`
	CurveCut bool         `json:"curveCut,omitempty"`
}

type targetsView struct {
	Things     int64    `json:"things"`
	AtLeast    bool     `json:"atLeast,omitempty"`
	QueuedWork int64    `json:"withQueuedWork"`
	Samples    []string `json:"samples"`
	Rehearsed  int64    `json:"rehearsed"`
}

type windowView struct {
	Opens  string `json:"opens"`
	Closes string `json:"closes"`
}

type abortView struct {
	FailureType string  `json:"failureType"`
	Percentage  float64 `json:"thresholdPercentage"`
	MinExecuted int64   `json:"minNumberOfExecutedThings"`
	First       int64   `json:"failuresIfNoneSucceeds"`
	Last        int64   `json:"failuresIfAllOthersSucceeded"`
	Text        string  `json:"text"`
}

type outcomeView struct {
	At         string           `json:"at"`
	Status     string           `json:"status"`
	Finished   bool             `json:"finished"` // everything that was to be reached is over
	Held       string           `json:"held,omitempty"`
	Aborted    string           `json:"aborted,omitempty"`
	Executions map[string]int64 `json:"executions"`
}

type momentView struct {
	At   string `json:"at"`
	Text string `json:"text"`
}

type minuteView struct {
	Minute   string           `json:"minute"`
	Queued   int64            `json:"queued"`
	Ended    map[string]int64 `json:"ended,omitempty"`
	InFlight int64            `json:"inFlight"`
	Notified int64            `json:"notified"`
}

// serveDryRun takes the body of a CreateJob, and in the query what to assume of devices:
// ?success=97.5&duration=10m. With retryFailed=JOB it plays what retry-failed would make of that job, without a body. A jobId in the query, or in the body as the AWS CLI writes it, is looked at too.
func (s *Server) serveDryRun(w http.ResponseWriter, r *http.Request) {
	body, err := s.admitted(r, maxDryRunBody)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	text, err := io.ReadAll(io.LimitReader(body, maxDryRunBody+1))
	if err != nil || len(text) > maxDryRunBody {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("The body must be read to its end and have at most %d bytes", maxDryRunBody))
		return
	}
	assume, err := assumptions(r.URL.Query())
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	if parent := r.URL.Query().Get("retryFailed"); parent != "" {
		if len(bytes.TrimSpace(text)) > 0 {
			refuse(w, http.StatusBadRequest, "With retryFailed the job is that of what failed; there must be no body")
			return
		}
		d, err := s.engine.DryRunRetry(r.Context(), muster.JobID(parent), assume)
		if err != nil {
			s.refuseFor(w, err)
			return
		}
		reply(w, http.StatusOK, viewDryRun(d, string(d.Job.ID)))
		return
	}
	var named struct {
		JobID string `json:"jobId"`
	}
	_ = json.Unmarshal(text, &named) // what is no JSON is refused in a moment
	id := cmp.Or(r.URL.Query().Get("jobId"), named.JobID)
	job, err := s.api.ParseCreateJob(r, cmp.Or(id, dryRunJob), text)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	job.ID = muster.JobID(id)
	d, err := s.engine.DryRun(r.Context(), job, assume)
	if err != nil {
		s.refuseFor(w, err)
		return
	}
	reply(w, http.StatusOK, viewDryRun(d, id))
}

func assumptions(q url.Values) (a engine.Assume, err error) {
	a = engine.DefaultAssume
	if text := q.Get("success"); text != "" {
		if a.Success, err = strconv.ParseFloat(text, 64); err != nil || !(a.Success >= 0 && a.Success <= 100) {
			return a, muster.Errorf(muster.Invalid, "success is %q; it must be a percentage between 0 and 100", text)
		}
	}
	if text := q.Get("duration"); text != "" {
		if a.Duration, err = time.ParseDuration(text); err != nil || a.Duration < 0 {
			return a, muster.Errorf(muster.Invalid, "duration is %q; it must be a duration such as 90s or 10m", text)
		}
	}
	return a, nil
}

func viewDryRun(d engine.DryRun, id string) dryRun {
	out := dryRun{Now: stamp(d.Now), JobID: id, Earliest: viewOutcome(d.Earliest), Expected: viewOutcome(d.Expected), CurveCut: d.CurveCut,
		Windows: []windowView{}, Aborts: []abortView{}, Moments: []momentView{}, Curve: []minuteView{}}
	out.Targeted = targetsView{Things: d.Things, AtLeast: d.More, QueuedWork: d.Busy, Rehearsed: d.Rehearsed, Samples: []string{}}
	for _, name := range d.Samples {
		out.Targeted.Samples = append(out.Targeted.Samples, string(name))
	}
	if d.Rehearsed < d.Things || d.More {
		out.Bounded = fmt.Sprintf("The first %d of the things were played through: the curve and both ends are those of a job for them alone", d.Rehearsed)
	}
	if d.Waits {
		out.Waits = "As many jobs as the server allows are rolling out now; the job would begin later by as long as it waits for its turn"
	}
	out.Assumes.Success, out.Assumes.Duration = d.Assumes.Success, d.Assumes.Duration.String()
	out.Assumes.Text = "Each device starts the job as soon as it is offered, whatever else it has queued; failures are spread evenly. The earliest end is that of devices that succeed in no time"
	for _, win := range d.Windows {
		out.Windows = append(out.Windows, windowView{stamp(win.Opens), stamp(win.Closes)})
	}
	for _, a := range d.Aborts {
		out.Aborts = append(out.Aborts, viewAbort(a, d.Things))
	}
	for _, m := range d.Moments {
		out.Moments = append(out.Moments, momentView{stamp(m.At), m.What})
	}
	for _, m := range d.Curve {
		out.Curve = append(out.Curve, minuteView{Minute: stamp(m.At), Queued: m.Made, Ended: countsView(m.Ended), InFlight: m.InFlight, Notified: m.Notified})
	}
	return out
}

func viewOutcome(o engine.Outcome) outcomeView {
	return outcomeView{At: stamp(o.At), Status: o.Status.String(), Finished: o.Ends, Held: o.Held, Aborted: o.Why, Executions: countsView(o.Counts)}
}

func viewAbort(a engine.AbortAt, things int64) abortView {
	c := a.Criterion
	v := abortView{FailureType: c.FailureType, Percentage: c.Percentage, MinExecuted: c.MinExecuted, First: a.First, Last: a.Last}
	switch {
	case a.First == 0 && a.Last == 0:
		v.Text = fmt.Sprintf("%d things are too few for this criterion ever to be met", things)
	default:
		v.Text = fmt.Sprintf("Aborts at %d failures (%s) if nothing succeeds, at %d of %d if all others have succeeded", a.First, c.FailureType, a.Last, things)
	}
	return v
}
