// Package wire is what the generated AWS shapes stand on: a JSON reader and
// appenders without reflection, the constraints of the service models, and
// the errors that tell a client which member is wrong, in AWS's words.
//
// It knows no operation and no rule about jobs; it refuses to guess, so a
// value that is neither right nor one of the few leniencies named here is an
// error that names the member.
package wire

import "strings"

// Plane says which of AWS's two services an operation belongs to. Some paths
// exist in both.
type Plane uint8

const (
	Control Plane = iota + 1 // service iot: the operator's side
	Data                     // service iot-jobs-data: the device's side
)

func (p Plane) String() string {
	switch p {
	case Control:
		return "control"
	case Data:
		return "data"
	}
	return "unknown"
}

// Operation is the HTTP binding of one modelled operation.
type Operation struct {
	Name   string // as the model spells it, for instance CreateJob
	Method string
	Path   string // URI template, for instance /things/{thingName}/jobs/$next
	Plane  Plane
	Status int  // HTTP status of a successful answer
	Built  bool // false: modelled by AWS, no shapes here
	Body   bool // some input members travel in a JSON body
	Answer bool // false: a successful answer has no body
}

// Input is implemented by every generated ...Input type. The order of use is
// Bind, DecodeJSON, Validate: names first, then JSON, then constraints.
type Input interface {
	// Bind fills the members that travel in the path, the query and headers.
	// label returns a decoded path label; query and header look values up.
	Bind(label func(name string) string, query func(name string) (string, bool), header func(name string) string) error
	// DecodeJSON fills the members that travel in the body. It does nothing
	// for an operation without such members.
	DecodeJSON(body []byte) error
	// Validate returns nil or Violations.
	Validate() error
}

// Output is implemented by every generated ...Output type.
type Output interface {
	AppendJSON(b []byte) []byte
	DecodeJSON(body []byte) error
}

// Ptr returns a pointer to v, for filling optional members.
func Ptr[T any](v T) *T { return &v }

// Pair is one entry of a Map.
type Pair struct{ Key, Value string }

// Map is a map of strings that keeps its order. nil is absent; empty but not
// nil is an empty object.
type Map []Pair

// Get returns the value of key.
func (m Map) Get(key string) (string, bool) {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value, true
		}
	}
	return "", false
}

// String renders m as AWS's messages do: {a=1, b=2}.
func (m Map) String() string {
	var s strings.Builder
	s.WriteByte('{')
	for i, p := range m {
		if i > 0 {
			s.WriteString(", ")
		}
		// A message shows only the beginning; do not build the rest.
		if s.Len() > 4*maxShown {
			break
		}
		s.WriteString(p.Key)
		s.WriteByte('=')
		s.WriteString(p.Value)
	}
	s.WriteByte('}')
	return s.String()
}
