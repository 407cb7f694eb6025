package awsapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi/wire"
)

// maxBody is more than any request of the models needs.
const maxBody = 1 << 20

// RequestIDHeader names the id of a request in its answer and in the logs.
const RequestIDHeader = "X-Amzn-Requestid"

type handler struct {
	*API
	pin wire.Plane
}

// Handler serves the operations of one plane, or with 0 of both: then who signed, or the host that
// was asked, decides on the paths that both planes have (design §4). It must see the path as the
// client wrote it: no mux before it may clean it.
func (a *API) Handler(pin wire.Plane) http.Handler { return &handler{a, pin} }

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	values := new([3]string) // of the headers below, in one piece
	id := NewRequestID()
	header := w.Header()
	values[0] = id
	header[RequestIDHeader] = values[0:1:1]
	buffer := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buffer) < 1<<16 {
			buffers.Put(buffer)
		}
	}()
	c := call{API: h.API, region: h.config.Region, host: r.Host, request: id}
	var began time.Time
	c.ctx, began = h.config.Observer.Begin(r.Context(), r.Header)
	a := h.serve(&c, r)
	var body []byte
	switch {
	case a.err != nil:
		a.status, a.typ, body = c.dress(&a, (*buffer)[:0])
		if a.status >= 500 && a.status != http.StatusNotImplemented {
			h.log.Error("request failed", "request", id, "operation", a.operation, "status", a.status, "error", a.err)
		}
	case a.rest:
		a.status, body = http.StatusOK, c.appendRESTAnswer((*buffer)[:0], a.out)
	default:
		a.status = http.StatusOK
		if a.out != nil && a.answers {
			body = a.out.AppendJSON((*buffer)[:0])
		}
	}
	watched := Request{Operation: a.operation, Plane: a.plane, Result: resultOf(a.err), ID: id, Err: a.err}
	if a.rest {
		watched.Door = DoorREST
	}
	h.config.Observer.End(c.ctx, began, &watched)
	header["Content-Type"] = jsonType
	values[1] = strconv.Itoa(len(body))
	header["Content-Length"] = values[1:2:2]
	if a.typ != "" {
		values[2] = a.typ
		header["X-Amzn-Errortype"] = values[2:3:3]
	}
	w.WriteHeader(a.status)
	w.Write(body)
	if body != nil {
		*buffer = body
	}
}

var jsonType = []string{"application/json"}

// NewRequestID is a random UUID. It is no secret, so it need not come from the system's source.
func NewRequestID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // of RFC 9562
	return id.String()
}

// An answer is what became of a request, before it is written.
type answer struct {
	operation string
	plane     wire.Plane
	rest      bool
	answers   bool // the operation has an answer body
	out       wire.Output
	err       error
	status    int
	typ       string
}

// serve goes the way of every request: who are you, where to, what do you say, then the operation
// (design §7).
func (h *handler) serve(c *call, r *http.Request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	device := false
	if h.config.Device != nil {
		var err error
		if c.thing, device, err = h.config.Device(r); err != nil {
			return answer{err: err}
		}
	}
	rawPath := r.URL.EscapedPath()
	if topic, ok := h.publishes(r, rawPath); ok {
		return h.servePublish(c, r, topic, device)
	}
	m, found := h.router.find(r.Method, rawPath)
	scope, signed := Scope(r)
	e := h.choose(m, r, scope, signed)
	if device {
		e = m.data
	}
	if e != nil {
		a.operation, a.plane, a.answers = e.op.Name, e.op.Plane, e.op.Answer
		a.rest = e.op.Plane == wire.Data && e.jobs() && !signed && !device && h.wantsREST(r)
	}
	body, err := readBody(r)
	if err != nil {
		a.err = err
		return a
	}
	if device {
		err = c.admitDevice(e, m)
	} else {
		err = h.authorize(r, body, e)
	}
	if err != nil {
		a.err = err
		return a
	}
	if !found || e == nil {
		a.err = &AuthError{Status: http.StatusNotFound, Type: "UnknownOperationException", Message: "There is no operation " + r.Method + " " + rawPath}
		return a
	}
	if e.route == nil {
		a.err = &AuthError{Status: http.StatusNotImplemented, Type: "NotImplementedException", Message: e.op.Name + " is not implemented"}
		return a
	}
	if err := h.limits.admit(e.op); err != nil {
		a.err = err
		return a
	}
	if a.err = h.limits.enter(c.ctx, e.op); a.err != nil {
		return a
	}
	defer h.limits.leave(e.op)
	if h.config.Auth == nil && signed && scope.Region != "" {
		// A lab: the region that the client believes in is the region of its ARNs (design §4).
		c.region = scope.Region
	}
	in := e.route.input()
	if err := in.DecodeJSON(body); err != nil {
		a.err = err
		return a
	}
	query, err := queryOf(r.URL)
	if err != nil {
		a.err = err
		return a
	}
	if err := in.Bind(func(name string) string { return e.label(m.labels, name) }, query, r.Header.Get); err != nil {
		a.err = err
		return a
	}
	if err := in.Validate(); err != nil {
		a.err = err
		return a
	}
	if a.err = c.readNamespace(e, query); a.err != nil {
		return a
	}
	a.out, a.err = e.route.handle(c, in)
	return a
}

// choose picks the operation of a path that one or both planes have.
func (h *handler) choose(m match, r *http.Request, scope CredentialScope, signed bool) *entry {
	switch {
	case h.pin == wire.Data || m.control == nil && h.pin == 0:
		return m.data
	case h.pin == wire.Control || m.data == nil:
		return m.control
	}
	if signed {
		switch scope.Service {
		case "iot", "execute-api":
			return m.control
		case "iot-jobs-data", "iotdata":
			return m.data
		}
	}
	if beginsWith(r.Host, "iot.") || beginsWith(r.Host, "iot-fips.") {
		return m.control
	}
	return m.data
}

// beginsWith compares without case.
func beginsWith(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// admitDevice says whether a client that has shown a device's certificate may ask for an operation: one of
// the data plane, for the thing that it is.
func (c *call) admitDevice(e *entry, m match) error {
	if e == nil {
		if m.control != nil {
			return forbidden("A client certificate is for the data plane, and %s is of the control plane", m.control.op.Name)
		}
		return nil // it is not found, whoever asks
	}
	if thing := e.label(m.labels, "thingName"); thing != string(c.thing) {
		return forbidden("This client is thing %s and cannot act for thing %s", c.thing, thing)
	}
	return nil
}

func forbidden(format string, args ...any) error {
	return &AuthError{Status: http.StatusForbidden, Type: "ForbiddenException", Message: fmt.Sprintf(format, args...)}
}

// authorize verifies the signature, when signatures are asked for, and what its key may do.
func (h *handler) authorize(r *http.Request, body []byte, e *entry) error {
	if h.config.Auth == nil {
		return nil
	}
	plane := h.pin
	readOnly := r.Method == http.MethodGet
	if e != nil {
		plane = e.op.Plane
	} else if plane == 0 {
		plane = wire.Control
	}
	return h.Authorize(r, body, plane, readOnly)
}

// Authorize verifies a request's signature and that its key may act on the plane. Without
// authentication everybody may.
func (a *API) Authorize(r *http.Request, body []byte, plane wire.Plane, readOnly bool) error {
	if a.config.Auth == nil {
		return nil
	}
	id, err := a.config.Auth.Verify(r, body)
	if err != nil {
		return err
	}
	return id.Allows(plane, readOnly)
}

func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 || r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge(r.ContentLength)
	}
	var body []byte
	if n := r.ContentLength; n > 0 {
		body = make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, muster.Errorf(muster.Invalid, "The body ended after fewer than the %d bytes announced", n)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "The body could not be read to its end")
	}
	if len(body) > maxBody {
		return nil, tooLarge(int64(len(body)))
	}
	return body, nil
}

func tooLarge(n int64) error {
	return &AuthError{Status: http.StatusRequestEntityTooLarge, Type: "InvalidRequestException",
		Message: fmt.Sprintf("The body has %d bytes or more; at most %d are allowed", n, maxBody)}
}

// queryOf looks up query parameters; a name given twice counts once, the first time. A query that cannot be
// read is refused whole: what was left out of it would count as not given.
func queryOf(u *url.URL) (func(string) (string, bool), error) {
	if u.RawQuery == "" {
		return func(string) (string, bool) { return "", false }, nil
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "The query cannot be read: %v", err)
	}
	return func(name string) (string, bool) {
		v, ok := q[name]
		if !ok {
			return "", false
		}
		return v[0], true
	}, nil
}

// dress writes an error in the form that the request asked for.
func (c *call) dress(a *answer, b []byte) (status int, typ string, body []byte) {
	var refused *AuthError
	if errors.As(a.err, &refused) {
		if a.rest {
			if refused.Status == http.StatusForbidden {
				// This form has no signature to be wrong: who asks is unknown.
				return http.StatusUnauthorized, "", appendRESTError(b, "UNAUTHORIZED", refused.Message, nil)
			}
			return refused.Status, "", appendRESTError(b, "VALIDATION_ERROR", refused.Message, nil)
		}
		b = append(b, `{"message":`...)
		return refused.Status, refused.Type, append(wire.AppendString(b, refused.Message), '}')
	}
	if errors.Is(a.err, context.Canceled) {
		// Nobody reads this; the log should not call it a fault.
		return 499, "RequestCanceled", append(b, `{"message":"The client went away"}`...)
	}
	e := refusal(a.err)
	if a.rest {
		d, ok := restCodes[e.Kind]
		if !ok {
			d = restCodes[muster.Internal]
		}
		return d.status, "", appendRESTError(b, d.code, shown(e), e.Execution)
	}
	d := dressOf(e.Kind, a.plane)
	return d.status, d.typ, c.appendError(b, e, a.plane)
}

// Operations says of every operation that AWS models whether it is served: what the documentation's
// coverage table is made of.
func Operations() (all []wire.Operation) {
	served := map[string]bool{}
	for _, r := range routes {
		served[r.Plane.String()+r.Name] = true
	}
	for _, entries := range newRouter().byShape {
		for _, e := range entries {
			op := e.op
			op.Built = served[op.Plane.String()+op.Name]
			all = append(all, op)
		}
	}
	return all
}
