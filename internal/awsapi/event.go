package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/engine"
)

const eventsPrefix = "$aws/events/"

// An event is one message below $aws/events/ (events-and-limits.md §1). What the fact does not say is
// filled in by load; body is then rendered.
type event struct {
	topic string
	head  *eventHead
	load  func(engine.Glance) // may be nil
	body  any
}

func (e *event) look(l engine.Glance) {
	if e.load != nil {
		e.load(l)
	}
}

func (e *event) publications(context.Context) []Publication {
	return []Publication{{Topic: eventsPrefix + e.topic, Payload: marshal(e.body), QoS: 1}}
}

// marshal leaves alone what only HTML minds.
func marshal(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // only plain structures are given
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// eventHead is what every event begins with.
type eventHead struct {
	EventType string `json:"eventType"`
	EventID   string `json:"eventId"`
	Timestamp int64  `json:"timestamp"` // seconds of jobs and executions, milliseconds of the registry
	Operation string `json:"operation"`
}

// eventSpace makes the ids of events. They derive from where the feed tells of the event, so that what
// comes again after a crash comes with the same id.
var eventSpace = uuid.MustParse("5f2a1c1e-0b0e-4b43-9a0f-2d6a6b0c8f11")

// eventID is the id of the event that a fact is the reason for. The time keeps the first entries of two
// stores apart, the topic the events of one fact.
func eventID(entry *muster.Entry, index int, topic string) string {
	name := strconv.FormatUint(uint64(entry.Writer), 10) + "/" + strconv.FormatUint(entry.Seq, 10) + "/" + strconv.Itoa(index) + "/" + strconv.FormatInt(int64(entry.At), 10) + "/" + topic
	return uuid.NewSHA1(eventSpace, []byte(name)).String()
}

// A cause is the fact that gives events to tell, and those there are so far.
type cause struct {
	*telling
	entry *muster.Entry
	index int
	fact  *muster.Fact
}

// event notes the events that a fact gives to tell, as far as they are on and anybody listens.
func (t *telling) event(entry *muster.Entry, index int, batch []muster.Entry) {
	c := &cause{t, entry, index, &entry.Facts[index]}
	switch c.fact.Kind {
	case muster.FactExecution:
		c.executionEvent()
	case muster.FactJob:
		c.jobEvent()
	case muster.FactThing:
		c.thingEvents()
	case muster.FactThingType:
		c.typeEvent()
	case muster.FactGroup:
		c.groupEvents(batch)
	case muster.FactMembership:
		c.membershipEvent(batch)
	}
}

// head begins an event, if anybody listens for it.
func (c *cause) head(eventType, operation, topic string) (h eventHead, wanted bool) {
	if !c.listening(eventsPrefix + topic) {
		return h, false
	}
	return eventHead{EventType: eventType, EventID: eventID(c.entry, c.index, topic), Operation: operation}, true
}

func (c *cause) add(e *event) { c.matters = append(c.matters, e) }

// executionOperation is what a change of an execution is called. AWS tells of the ends only; of the others who asks for
// all of them.
func executionOperation(f *muster.Fact) (operation string, end bool) {
	switch {
	case f.Job == "":
		return "", false // only a notice
	case f.To == muster.NoStatus && f.From != muster.NoStatus:
		return "deleted", true
	case f.From != f.To:
		return strings.ToLower(f.To.String()), f.To.Terminal()
	}
	return "updated", false
}

// An executionBody is the payload of an event about an execution.
type executionBody struct {
	eventHead
	JobID         muster.JobID `json:"jobId"`
	ThingARN      string       `json:"thingArn"`
	Status        string       `json:"status"`
	StatusDetails muster.Pairs `json:"statusDetails,omitempty"`
}

func (c *cause) executionEvent() {
	f := c.fact
	operation, end := executionOperation(f)
	if !c.on[iot.EventTypeJobExecution] || operation == "" || !end && !c.all {
		return
	}
	deleted, status := f.To == muster.NoStatus, f.To
	if deleted {
		status = f.From // what it was before
	}
	topic := "jobExecution/" + string(f.Job) + "/" + operation
	head, wanted := c.head("JOB_EXECUTION", operation, topic)
	if !wanted {
		return
	}
	body := &executionBody{eventHead: head, JobID: f.Job, ThingARN: c.plain().arn(muster.RefThing, string(f.Thing)), Status: status.String(), StatusDetails: f.Details}
	at := c.entry.At
	c.add(&event{topic: topic, head: &body.eventHead, body: body, load: func(l engine.Glance) {
		body.Timestamp = l.Now.Seconds()
		e, ok := l.Execution(f.Thing, f.Job, f.Number)
		switch {
		case ok && !deleted && (end || e.Version == f.Version):
			body.Timestamp, body.StatusDetails = e.UpdatedAt.Seconds(), e.Details
		case !end && at != 0:
			body.Timestamp = at.Seconds() // it has gone on since, and its details with it
		}
	}})
}

// plain is a call of nobody's, for ARNs.
func (a *API) plain() *call { return &call{API: a, region: a.config.Region} }

// A jobBody is the payload of an event about a job.
type jobBody struct {
	eventHead
	JobID       muster.JobID `json:"jobId"`
	Status      string       `json:"status"`
	Selection   string       `json:"targetSelection"`
	Targets     []string     `json:"targets"`
	Description string       `json:"description"`
	Comment     string       `json:"comment,omitempty"`
	Completed   muster.Time  `json:"completedAt,omitempty"` // milliseconds, these three
	Created     muster.Time  `json:"createdAt"`
	Updated     muster.Time  `json:"lastUpdatedAt"`
	Process     *jobProcess  `json:"jobProcessDetails,omitempty"`
}

// A jobProcess is what became of a completed job's executions.
type jobProcess struct {
	Canceled  int64 `json:"numberOfCanceledThings"`
	Rejected  int64 `json:"numberOfRejectedThings"`
	Failed    int64 `json:"numberOfFailedThings"`
	Removed   int64 `json:"numberOfRemovedThings"`
	Succeeded int64 `json:"numberOfSucceededThings"`
}

func (c *cause) jobEvent() {
	if !c.on[iot.EventTypeJob] {
		return
	}
	before, after, ok := rows[muster.Job](c)
	if !ok {
		return
	}
	operation := jobOperation(&before, &after)
	status := strings.ToUpper(operation)
	if operation == "" && c.all {
		operation, status = jobChange(&before, &after), after.Status.String()
	}
	job := &after
	if operation == "deleted" {
		job = &before
	}
	topic := "job/" + c.fact.Name + "/" + operation
	head, wanted := c.head("JOB", operation, topic)
	if operation == "" || !wanted {
		return
	}
	body := &jobBody{eventHead: head, JobID: job.ID, Status: status, Selection: job.Selection.String(),
		Targets: c.plain().targetARNs(job.Targets), Description: job.Description, Created: job.Created, Updated: job.Updated}
	body.Timestamp = job.Updated.Seconds()
	switch operation {
	case "completed":
		body.Completed, body.Process = job.Completed, &jobProcess{}
	case "cancellation_in_progress", "deletion_in_progress", "deleted":
		body.Comment = job.Comment
	}
	c.add(&event{topic: topic, head: &body.eventHead, body: body, load: func(l engine.Glance) {
		if operation == "deleted" {
			body.Timestamp = l.Now.Seconds() // the row tells when it began
		}
		if body.Process != nil {
			n := l.Counts(job.ID)
			*body.Process = jobProcess{n[muster.Canceled], n[muster.Rejected], n[muster.Failed], n[muster.Removed], n[muster.Succeeded]}
		}
	}})
}

// jobOperation is what a change of a job's row means, empty when it is no event. A cancel and a delete are
// two: when they begin and when the sweep is through.
func jobOperation(before, after *muster.Job) string {
	sweeping := func(j *muster.Job) bool { return j.Status == muster.JobCanceled && j.Sweeping }
	switch {
	case before.Status == muster.NoJobStatus:
		return "" // made
	case after.Status == muster.NoJobStatus:
		return "deleted"
	case after.Status == muster.JobDeleting && before.Status != muster.JobDeleting:
		return "deletion_in_progress"
	case after.Status == muster.JobCompleted && before.Status != muster.JobCompleted:
		return "completed"
	case sweeping(after) && !sweeping(before):
		return "cancellation_in_progress"
	case sweeping(before) && after.Status == muster.JobCanceled && !after.Sweeping:
		return "canceled"
	}
	return ""
}

// jobChange is what the other changes of a job are called, of which AWS tells nothing; empty for those that only the engine
// knows of, such as how far a rollout has come.
func jobChange(before, after *muster.Job) string {
	switch {
	case before.Status == muster.NoJobStatus:
		return "created"
	case after.Status != before.Status:
		return strings.ToLower(after.Status.String())
	case (after.Held == nil) != (before.Held == nil):
		if after.Held != nil {
			return "held"
		}
		return "resumed"
	case before.Updated != after.Updated:
		return "updated"
	}
	return ""
}

// rows are what a fact says of its row, before and after; the zero value stands for no row. ok is false
// when it cannot be read, which is logged: the feed goes on.
func rows[T any](c *cause) (before, after T, ok bool) {
	for _, side := range []struct {
		text string
		row  *T
	}{{c.fact.Before, &before}, {c.fact.After, &after}} {
		if side.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(side.text), side.row); err != nil {
			c.log.Error("a fact of the feed cannot be read; its events are left out", "entry", c.entry.Place, "name", c.fact.Name, "error", err)
			return before, after, false
		}
	}
	return before, after, true
}
