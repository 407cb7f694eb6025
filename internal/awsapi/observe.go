package awsapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"muster"
	"muster/internal/awsapi/wire"
)

// A Door is how a request came.
type Door uint8

const (
	DoorHTTP Door = iota // in AWS's form
	DoorREST             // in the documented REST form
	DoorMQTT
	NumDoors
)

func (d Door) String() string { return [NumDoors]string{"http", "rest", "mqtt"}[d] }

// A Result is what became of a request, as coarse as somebody who watches needs it.
type Result uint8

const (
	OK             Result = iota
	Invalid               // the request is wrong
	Denied                // who asks is unknown, or may not
	NotFound              // the thing, job or operation is not there
	Conflict              // it contradicts what there is: a version, a transition, a name
	Throttled             // too much is asked
	NotImplemented        // AWS has the operation
	Unavailable           // the store cannot promise durability
	Internal              // a fault of the server's
	Gone                  // the client went away first
	NumResults
)

func (r Result) String() string {
	return [NumResults]string{"ok", "invalid", "denied", "not_found", "conflict", "throttled", "not_implemented", "unavailable", "internal", "gone"}[r]
}

// A Request is one that has been answered, for who watches.
type Request struct {
	// Operation and Plane are those of a served operation; Operation is empty when there was none.
	Operation string
	Plane     wire.Plane
	Door      Door
	Result    Result
	ID        string // of a request by HTTP
	Err       error  // nil if Result is OK
}

// An Observer is told of every request to an operation, on its way: it must return at once.
type Observer interface {
	// Begin is told that a request has come, with its header if it came by HTTP, and returns the context it goes on
	// with, and when it began.
	Begin(ctx context.Context, h http.Header) (context.Context, time.Time)
	// End is told what became of it, when its answer is made and before it is sent.
	End(ctx context.Context, began time.Time, r *Request)
}

// nobody watches.
type nobody struct{}

func (nobody) Begin(ctx context.Context, _ http.Header) (context.Context, time.Time) {
	return ctx, time.Time{}
}
func (nobody) End(context.Context, time.Time, *Request) {}

// resultOf sorts an error.
func resultOf(err error) Result {
	if err == nil {
		return OK
	}
	var refused *AuthError
	if errors.As(err, &refused) {
		switch refused.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return Denied
		case http.StatusNotFound:
			return NotFound
		case http.StatusNotImplemented:
			return NotImplemented
		}
		return Invalid
	}
	var syntax *wire.SyntaxError
	var topic *topicError
	switch {
	case errors.Is(err, context.Canceled):
		return Gone
	case errors.As(err, &topic):
		return NotFound
	case errors.As(err, &syntax):
		return Invalid
	}
	switch refusal(err).Kind {
	case muster.Internal:
		return Internal
	case muster.Unavailable:
		return Unavailable
	case muster.Throttled:
		return Throttled
	case muster.NotFound:
		return NotFound
	case muster.Invalid:
		return Invalid
	}
	return Conflict
}
