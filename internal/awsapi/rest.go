package awsapi

import (
	"net/http"
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
)

// wantsREST reports whether an unsigned request to the data plane asks for the documented REST form:
// its Accept must name application/json explicitly (design §2).
func (a *API) wantsREST(r *http.Request) bool {
	switch a.config.REST {
	case RESTNever:
		return false
	case RESTAlways:
		return true
	}
	for _, accept := range r.Header.Values("Accept") {
		for accept != "" {
			var media string
			media, accept, _ = strings.Cut(accept, ",")
			media, _, _ = strings.Cut(media, ";")
			if strings.EqualFold(strings.TrimSpace(media), "application/json") {
				return true
			}
		}
	}
	return false
}

// A membered output can be appended without its braces.
type membered interface{ AppendMembers([]byte) []byte }

// appendRESTAnswer appends {"success":true,"data":{…}}: what AWS's answer has, and the id and time of
// the execution it is about.
func (c *call) appendRESTAnswer(b []byte, out wire.Output) []byte {
	b = append(b, `{"success":true,"data":{`...)
	if c.execution.Job != "" {
		b = append(b, `"id":`...)
		b = wire.AppendString(b, string(c.execution.Job))
		b = append(b, `,"created_at":"`...)
		b = c.execution.QueuedAt.Time().Truncate(time.Second).AppendFormat(b, time.RFC3339)
		b = append(b, `",`...)
	}
	if m, ok := out.(membered); ok {
		b = m.AppendMembers(b)
	}
	return append(wire.Close(b, '}'), '}')
}

// appendRESTError appends {"success":false,"error":{…}}.
func appendRESTError(b []byte, code, message string, e *muster.Execution) []byte {
	b = append(b, `{"success":false,"error":{"code":"`...)
	b = append(b, code...)
	b = append(b, `","message":`...)
	b = wire.AppendString(b, message)
	if e != nil {
		b = append(b, `,"executionState":`...)
		b = executionState(*e).AppendJSON(b)
	}
	return append(b, "}}"...)
}
