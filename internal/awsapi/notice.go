package awsapi

import (
	"context"

	"muster"
	"muster/internal/awsapi/jobsdata"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
)

// A notice is what one thing is to be told of its queue: notify, notify-next, or both, as the queue is
// when it is looked at. That is never older than the fact that asked for the notice, so that one serves
// all facts of the thing that were read together (data-plane.md §6).
type notice struct {
	api       *API
	thing     muster.ThingName
	namespace string
	list      string // topic of notify; empty: the list is not told
	next      string // topic of notify-next

	shown []muster.Execution
	now   muster.Time
	job   *muster.Job // of the first
	text  string      // its document
}

func (n *notice) look(l engine.Glance) {
	n.now, n.shown, n.job, n.text = l.Now, l.Shown(n.thing, n.namespace), nil, ""
	if n.next == "" || len(n.shown) == 0 {
		return
	}
	n.job, _ = l.Job(n.shown[0].Job)
	doc, _ := l.Document(n.shown[0].Job)
	n.text = doc.Text
}

// publications are notify, then notify-next.
func (n *notice) publications(ctx context.Context) (all []Publication) {
	if n.list != "" {
		all = append(all, Publication{Topic: n.list, Payload: appendNotify(nil, n.shown, n.now), QoS: 1})
	}
	if n.next != "" {
		out := &jobsdata.DescribeJobExecutionOutput{}
		if len(n.shown) > 0 {
			text := n.text
			if n.api.config.Delivery != nil && muster.HasPlaceholders(text) {
				text = n.api.config.Delivery.Fill(ctx, n.job, n.shown[0], text)
			}
			out.Execution = executionShape(n.shown[0], n.now)
			out.Execution.JobDocument = &text
		}
		all = append(all, Publication{Topic: n.next, Payload: out.AppendMQTT(nil, nil, n.now.Seconds()), QoS: 1})
	}
	return all
}

// appendNotify appends the payload of notify: executions by status. A status without any has no key, for
// some clients take an empty list for work.
func appendNotify(b []byte, shown []muster.Execution, now muster.Time) []byte {
	b = append(wire.AppendEnvelope(b, nil, now.Seconds()), `"jobs":{`...)
	for _, status := range []muster.Status{muster.InProgress, muster.Queued} {
		some := false
		for i := range shown {
			if shown[i].Status != status {
				continue
			}
			if !some {
				some = true
				b = append(append(append(b, '"'), status.String()...), `":[`...)
			}
			summary := deviceSummary(&shown[i])
			b = append(summary.AppendJSON(b), ',')
		}
		if some {
			b = append(wire.Close(b, ']'), ',')
		}
	}
	return append(wire.Close(b, '}'), '}')
}

// notice notes what a fact gives a device to be told. What nobody listens for is not looked at.
func (t *telling) notice(f *muster.Fact) {
	if f.Notice.List {
		if topic := jobsTopic(string(f.Thing), notifyLevel); t.listening(topic) {
			t.noticeOf(f.Thing, "").list = topic
		}
	}
	if f.Notice.Next {
		if topic := jobsTopic(string(f.Thing), notifyNextLevel); t.listening(topic) {
			t.noticeOf(f.Thing, "").next = topic
		}
	}
	// The executions of a job with a namespace are never in the list that the notice bits compare. Theirs
	// changes when one comes or ends.
	if came, ended := f.From == muster.NoStatus, f.To == muster.NoStatus || f.To.Terminal(); f.Job == "" || came == ended {
		return
	}
	if namespace := t.namespaces[f.Job]; namespace != "" {
		if topic := jobsTopic(string(f.Thing), notifyLevel+"-"+namespaceLevel+namespace); t.listening(topic) {
			t.noticeOf(f.Thing, namespace).list = topic
		}
	}
}

type noticeKey struct {
	thing     muster.ThingName
	namespace string
}

// noticeOf is the one notice for a thing.
func (t *telling) noticeOf(thing muster.ThingName, namespace string) *notice {
	key := noticeKey{thing, namespace}
	n := t.notices[key]
	if n == nil {
		n = &notice{api: t.API, thing: thing, namespace: namespace}
		t.notices[key] = n
		t.matters = append(t.matters, n)
	}
	return n
}
