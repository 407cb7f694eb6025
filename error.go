package muster

import "fmt"

// A Kind says what sort of refusal an Error is. Each door dresses a kind in its own words and
// status codes; the sentence stays the same.
type Kind uint8

const (
	Internal          Kind = iota // a fault of the server; the sentence is for the log only
	Invalid                       // the request breaks a rule; nothing changed
	NotFound                      // what the request names does not exist
	AlreadyExists                 // the name is taken by something different
	Conflict                      // a template of that name exists
	VersionMismatch               // expectedVersion is not the current version
	InvalidTransition             // the state does not allow the change
	Terminal                      // the execution has ended
	LimitExceeded                 // a quota is used up
	Throttled                     // too many requests
	Unavailable                   // the server cannot promise durability now; try again
)

var kindNames = [...]string{"Internal", "Invalid", "NotFound", "AlreadyExists", "Conflict", "VersionMismatch",
	"InvalidTransition", "Terminal", "LimitExceeded", "Throttled", "Unavailable"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", k)
}

// An Error is a kind and a sentence that whoever made the request can act on.
type Error struct {
	Kind    Kind
	Message string
	// Execution is the execution as it stands, with VersionMismatch and InvalidTransition of a report.
	Execution *Execution
	// Resource names what already exists, as kind and name, with AlreadyExists and Conflict.
	Resource Ref
	// Cause is what lies below an Internal or Unavailable error. It is logged, never shown.
	Cause error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error of a kind.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}
