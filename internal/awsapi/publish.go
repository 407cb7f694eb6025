package awsapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"muster"
	"muster/internal/awsapi/wire"
)

// Limits of what is published (events-and-limits.md §2, MQTT broker).
const (
	maxPayload = 128 << 10
	maxTopic   = 256
	maxSlashes = 7
)

// Properties are what MQTT 5 says of a message beside its payload.
type Properties struct {
	UTF8            bool // the payload is text
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte        // nil: none
	Expiry          time.Duration // after which nobody needs it; 0: never
	User            []UserProperty
}

// A UserProperty is a name and a value that mean something to users only.
type UserProperty struct{ Name, Value string }

// topicsPath is where messages are published by HTTPS. The models of the two planes do not have it: it is
// the operation Publish of a third service, iotdata.
const topicsPath = "/topics/"

// publishes reports whether a request is to publish, and the topic as the path has it.
func (h *handler) publishes(r *http.Request, rawPath string) (rawTopic string, ok bool) {
	rawTopic, ok = strings.CutPrefix(rawPath, topicsPath)
	return rawTopic, ok && r.Method == http.MethodPost && h.pin != wire.Control
}

// servePublish is POST /topics/{topic}. The topic may have its slashes encoded or not. What is published to
// the topics of a thing's jobs is a request like any other, answered to nobody, for there is no connection
// to answer to (data-plane.md §4). Other topics of the service's own are refused.
func (h *handler) servePublish(c *call, r *http.Request, rawTopic string, device bool) (a answer) {
	a = answer{operation: "Publish", plane: wire.Data, answers: true, out: published(c.request)}
	payload, err := readBody(r)
	if err != nil {
		a.err = err
		return a
	}
	// What a device may publish is decided by the topic.
	if a.err = h.Authorize(r, payload, wire.Data, false); a.err != nil && !device {
		return a
	}
	if h.config.Publish == nil {
		a.err = &AuthError{Status: http.StatusNotImplemented, Type: "NotImplementedException", Message: "This server has no MQTT broker to publish to"}
		return a
	}
	m := Publication{Payload: payload}
	if m.Topic, a.err = topicOf(rawTopic); a.err != nil {
		return a
	}
	if len(payload) > maxPayload {
		a.err = &AuthError{Status: http.StatusRequestEntityTooLarge, Type: "InvalidRequestException",
			Message: fmt.Sprintf("The payload has %d bytes; at most %d are allowed", len(payload), maxPayload)}
		return a
	}
	if a.err = m.read(r); a.err != nil {
		return a
	}
	if _, mine := h.MQTT(c.ctx, c.thing, m.Topic, payload); mine {
		return a
	}
	if m.Topic[0] == '$' {
		a.err = &AuthError{Status: http.StatusForbidden, Type: "ForbiddenException", Message: "Topic " + m.Topic + " is reserved"}
		return a
	}
	a.err = h.config.Publish(c.ctx, m)
	return a
}

// topicOf reads the topic of a path.
func topicOf(raw string) (string, error) {
	topic, err := url.PathUnescape(raw)
	switch {
	case err != nil || !utf8.ValidString(topic):
		return "", muster.Errorf(muster.Invalid, "The topic %q is not encoded as a path should be", raw)
	case topic == "" || strings.ContainsAny(topic, "+#\x00"):
		return "", muster.Errorf(muster.Invalid, "The topic %q must have at least one character and none of +, # and NUL", topic)
	case len(topic) > maxTopic || strings.Count(topic, "/") > maxSlashes:
		return "", muster.Errorf(muster.Invalid, "The topic has %d bytes and %d slashes; at most %d and %d are allowed", len(topic), strings.Count(topic, "/"), maxTopic, maxSlashes)
	}
	return topic, nil
}

// read takes from the query and the headers what goes with the message.
func (m *Publication) read(r *http.Request) error {
	query, err := queryOf(r.URL)
	if err != nil {
		return err
	}
	qos, err := wire.QueryInt32(query, "qos", "qos")
	switch {
	case err != nil:
		return err
	case qos != nil && *qos != 0 && *qos != 1:
		return muster.Errorf(muster.Invalid, "qos is %d; it must be 0 or 1", *qos)
	case qos != nil:
		m.QoS = byte(*qos)
	}
	retain, err := wire.QueryBool(query, "retain", "retain")
	if err != nil {
		return err
	}
	m.Retain = is(retain)

	p := Properties{ContentType: text(wire.QueryString(query, "contentType")), ResponseTopic: text(wire.QueryString(query, "responseTopic"))}
	if p.ResponseTopic != "" && strings.ContainsAny(p.ResponseTopic, "+#\x00") {
		return muster.Errorf(muster.Invalid, "responseTopic is %q; it must be a topic without wildcards", p.ResponseTopic)
	}
	expiry, err := wire.QueryInt64(query, "messageExpiry", "messageExpiry")
	switch {
	case err != nil:
		return err
	case expiry != nil && (*expiry < 0 || *expiry > 1<<32-1):
		return muster.Errorf(muster.Invalid, "messageExpiry is %d; it must be a number of seconds from 0 to 4294967295", *expiry)
	case expiry != nil:
		p.Expiry = time.Duration(*expiry) * time.Second
	}
	switch format := r.Header.Get("X-Amz-Mqtt5-Payload-Format-Indicator"); format {
	case "", "UNSPECIFIED_BYTES":
	case "UTF8_DATA":
		p.UTF8 = true
	default:
		return muster.Errorf(muster.Invalid, "payloadFormatIndicator is %q; it must be UNSPECIFIED_BYTES or UTF8_DATA", format)
	}
	if data := r.Header.Get("X-Amz-Mqtt5-Correlation-Data"); data != "" {
		if p.CorrelationData, err = base64.StdEncoding.DecodeString(data); err != nil {
			return muster.Errorf(muster.Invalid, "correlationData is %q, which is not base64", data)
		}
	}
	if p.User, err = userProperties(r.Header.Get("X-Amz-Mqtt5-User-Properties")); err != nil {
		return err
	}
	if p.UTF8 || p.ContentType != "" || p.ResponseTopic != "" || p.CorrelationData != nil || expiry != nil || p.User != nil {
		m.Properties = &p
	}
	return nil
}

// userProperties reads a header that is JSON in base64: a list of objects, whose members are the properties.
func userProperties(header string) (all []UserProperty, err error) {
	if header == "" {
		return nil, nil
	}
	refused := muster.Errorf(muster.Invalid, "userProperties must be a JSON array of objects with string values, in base64")
	data, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, refused
	}
	var list []muster.Pairs // which keep the order of an object's members
	if json.Unmarshal(data, &list) != nil {
		return nil, refused
	}
	for _, object := range list {
		for name, value := range object.All() {
			all = append(all, UserProperty{name, value})
		}
	}
	return all, nil
}

// published is what Publish answers: the id of the request.
type published string

// AppendJSON appends what AWS answers; clients read nothing but the status.
func (p published) AppendJSON(b []byte) []byte {
	b = wire.AppendString(append(b, `{"message":"OK","traceId":`...), string(p))
	return append(b, '}')
}

// DecodeJSON does nothing: nobody reads this answer back.
func (published) DecodeJSON([]byte) error { return nil }
