package awsapi

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi/jobsdata"
	"muster/internal/awsapi/wire"
)

// A Publication is a message for subscribers, or for the one client that asked.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
	// Properties is what MQTT 5 has beside; nil: nothing.
	Properties *Properties
}

// What the MQTT decoder and encoder of the generated shapes look like.
type (
	mqttInput interface {
		wire.Input
		DecodeMQTT(payload []byte) (clientToken *string, err error)
	}
	mqttOutput interface {
		AppendMQTT(b []byte, clientToken *string, timestamp int64) []byte
	}
)

// mqttCodes is the table of codes in rejected answers (data-plane.md §5). What no kind stands for are
// the two that say that there is no request at all.
var mqttCodes = map[muster.Kind]string{
	muster.Internal:          "InternalError",
	muster.Invalid:           "InvalidRequest",
	muster.NotFound:          "ResourceNotFound",
	muster.VersionMismatch:   "VersionMismatch",
	muster.InvalidTransition: "InvalidStateTransition",
	muster.Terminal:          "TerminalStateReached",
	muster.Throttled:         "RequestThrottled",
	muster.Unavailable:       "InternalError",
}

const (
	codeInvalidTopic = "InvalidTopic"
	codeInvalidJSON  = "InvalidJson"
)

// A topicError refuses a topic of the jobs namespace that no operation has.
type topicError struct{ topic string }

func (e *topicError) Error() string {
	return "There is no operation at topic " + e.topic
}

// MQTT serves what a client published below $aws/things/{thing}/jobs/. There, mine is true: the message
// must not be routed to anybody, and the answer goes to the client alone, subscribed or not; its QoS is
// for the door to choose. Elsewhere mine is false and nothing was done.
//
// identity is the thing that the client is known to be, empty for one that may act for every thing. A
// client that acts for another thing than its own is rejected as InvalidRequest, for the table of codes
// has none for it, whether or not the other thing exists.
func (a *API) MQTT(ctx context.Context, identity muster.ThingName, topic string, payload []byte) (answer Publication, mine bool) {
	d, mine := a.topics.parse(topic)
	if !mine {
		return answer, false
	}
	c := call{API: a, region: a.config.Region, namespace: d.namespace}
	var began time.Time
	c.ctx, began = a.config.Observer.Begin(ctx, nil)
	token, out, err := c.serveTopic(identity, topic, &d, payload)
	watched := Request{Plane: wire.Data, Door: DoorMQTT, Result: resultOf(err), Err: err}
	if d.route != nil {
		watched.Operation = d.route.Name
	}
	a.config.Observer.End(c.ctx, began, &watched)
	now := a.engine.Now().Seconds()
	b := make([]byte, 0, 256)
	if err == nil {
		return Publication{Topic: topic + acceptedSuffix, Payload: out.AppendMQTT(b, token, now)}, true
	}
	return Publication{Topic: topic + rejectedSuffix, Payload: a.appendRejection(b, topic, token, now, err)}, true
}

// serveTopic goes the way of every request: who are you, where to, what do you say, then the operation
// (design §7). The client token is returned beside an error too.
func (c *call) serveTopic(identity muster.ThingName, topic string, d *deviceTopic, payload []byte) (token *string, out mqttOutput, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	var in mqttInput = &jobsdata.GetPendingJobExecutionsInput{} // of which only the client token is read
	if d.route != nil {
		in = d.route.input().(mqttInput)
		if err := in.Bind(d.label, noQuery, noHeader); err != nil {
			return nil, nil, err
		}
	}
	token, malformed := in.DecodeMQTT(payload)
	var syntax *wire.SyntaxError
	if errors.As(malformed, &syntax) {
		token = nil // whatever was read of it, it was not JSON
	}
	switch {
	case identity != "" && string(identity) != d.thing:
		return token, nil, muster.Errorf(muster.Invalid, "This client is thing %s and cannot act for thing %s", identity, d.thing)
	case d.route == nil:
		return token, nil, &topicError{topic}
	}
	if err := c.limits.admit(d.route.Operation); err != nil {
		return token, nil, err
	}
	if err := c.limits.enter(c.ctx, d.route.Operation); err != nil {
		return token, nil, err
	}
	defer c.limits.leave(d.route.Operation)
	if malformed != nil {
		return token, nil, malformed
	}
	if err := in.Validate(); err != nil {
		return token, nil, err
	}
	if d.namespaced {
		if err := c.checkNamespace(d); err != nil {
			return token, nil, err
		}
	}
	answer, err := d.route.handle(c, in)
	if err != nil {
		return token, nil, err
	}
	return token, answer.(mqttOutput), nil
}

func noQuery(string) (string, bool) { return "", false }
func noHeader(string) string        { return "" }

// checkNamespace finds a job that a namespaced topic names to be of that namespace.
func (c *call) checkNamespace(d *deviceTopic) error {
	if err := validNamespace("The namespace of the topic", d.namespace); err != nil {
		return err
	}
	if d.job == next {
		return nil
	}
	job, err := c.engine.DescribeJob(c.ctx, muster.JobID(d.job))
	var known *muster.Error
	switch {
	case err != nil && (!errors.As(err, &known) || known.Kind != muster.NotFound):
		return err
	case err != nil || job.Namespace != d.namespace:
		return muster.Errorf(muster.NotFound, "Thing %s has no execution of job %s in namespace %s", d.thing, d.job, d.namespace)
	}
	return nil
}

func validNamespace(what, name string) error {
	if name == "" || len(name) > maxNamespace || strings.ContainsFunc(name, notInNamespace) {
		return muster.Errorf(muster.Invalid, "%s is %q; it must be 1 to %d of a-z, A-Z, 0-9, _ and -", what, name, maxNamespace)
	}
	return nil
}

func notInNamespace(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// appendRejection appends the payload of a rejected answer.
func (a *API) appendRejection(b []byte, topic string, token *string, now int64, err error) []byte {
	code, message, state := "", err.Error(), (*muster.Execution)(nil)
	var noTopic *topicError
	var syntax *wire.SyntaxError
	switch {
	case errors.As(err, &noTopic):
		code = codeInvalidTopic
	case errors.As(err, &syntax):
		code = codeInvalidJSON
	default:
		e := refusal(err)
		code, message = mqttCodes[e.Kind], shown(e)
		if code == "" {
			code = mqttCodes[muster.Internal]
		}
		if e.Kind == muster.VersionMismatch || e.Kind == muster.InvalidTransition {
			state = e.Execution
		}
		if code == mqttCodes[muster.Internal] && !errors.Is(err, context.Canceled) {
			a.log.Error("request failed", "topic", topic, "code", code, "error", err)
		}
	}
	b = append(b, '{')
	if token != nil {
		b = append(wire.AppendString(append(b, `"clientToken":`...), *token), ',')
	}
	b = append(b, `"code":"`...)
	b = append(b, code...)
	b = wire.AppendString(append(b, `","message":`...), message)
	b = wire.AppendInt(append(b, `,"timestamp":`...), now)
	if state != nil {
		b = executionState(*state).AppendJSON(append(b, `,"executionState":`...))
	}
	return append(b, '}')
}
