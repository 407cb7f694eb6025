package awsapi

import (
	"errors"
	"net/http"

	"muster"
	"muster/internal/awsapi/jobsdata"
	"muster/internal/awsapi/wire"
)

// An AuthError refuses a request before its operation is looked at.
type AuthError struct {
	Status  int
	Type    string // the shape name, such as UnrecognizedClientException
	Message string
}

func (e *AuthError) Error() string { return e.Type + ": " + e.Message }

// refusal turns whatever went wrong into an error of the domain.
func refusal(err error) *muster.Error {
	var known *muster.Error
	if errors.As(err, &known) {
		return known
	}
	var (
		syntax     *wire.SyntaxError
		wrongType  *wire.TypeError
		violations wire.Violations
	)
	if errors.As(err, &syntax) || errors.As(err, &wrongType) || errors.As(err, &violations) {
		return &muster.Error{Kind: muster.Invalid, Message: err.Error()}
	}
	return &muster.Error{Kind: muster.Internal, Message: "Internal error", Cause: err}
}

// A dress is how a kind of error looks on the AWS form of a plane.
type dress struct {
	status int
	typ    string
}

// dresses is the one table of errors on the wire (data-plane.md §1, control-plane.md §1).
var dresses = map[muster.Kind]struct{ control, data dress }{
	muster.Internal:          {dress{500, "InternalFailureException"}, dress{500, "InternalServerException"}},
	muster.Invalid:           {dress{400, "InvalidRequestException"}, dress{400, "InvalidRequestException"}},
	muster.NotFound:          {dress{404, "ResourceNotFoundException"}, dress{404, "ResourceNotFoundException"}},
	muster.AlreadyExists:     {dress{409, "ResourceAlreadyExistsException"}, dress{409, "ResourceAlreadyExistsException"}},
	muster.Conflict:          {dress{409, "ConflictException"}, dress{409, "ConflictException"}},
	muster.VersionMismatch:   {dress{409, "VersionConflictException"}, dress{409, "InvalidStateTransitionException"}},
	muster.InvalidTransition: {dress{409, "InvalidStateTransitionException"}, dress{409, "InvalidStateTransitionException"}},
	muster.Terminal:          {dress{410, "TerminalStateException"}, dress{410, "TerminalStateException"}},
	muster.LimitExceeded:     {dress{410, "LimitExceededException"}, dress{410, "LimitExceededException"}},
	muster.Throttled:         {dress{400, "ThrottlingException"}, dress{429, "ThrottlingException"}},
	muster.Unavailable:       {dress{503, "ServiceUnavailableException"}, dress{503, "ServiceUnavailableException"}},
}

func dressOf(k muster.Kind, p wire.Plane) dress {
	d, ok := dresses[k]
	if !ok {
		d = dresses[muster.Internal]
	}
	if p == wire.Data {
		return d.data
	}
	return d.control
}

// shown is the sentence a client gets: what lies below an internal error stays in the log.
func shown(e *muster.Error) string {
	switch {
	case e.Kind == muster.Internal:
		return "Internal error"
	case e.Kind == muster.Unavailable && e.Message == "":
		return "The service is unavailable"
	}
	return e.Message
}

// appendError appends the body of an error in AWS's form.
func (c *call) appendError(b []byte, e *muster.Error, plane wire.Plane) []byte {
	b = append(b, `{"message":`...)
	b = wire.AppendString(b, shown(e))
	if plane == wire.Data && e.Execution != nil {
		// The MQTT codes, which the error type cannot tell apart.
		b = append(b, `,"code":"`...)
		b = append(b, mqttCodes[e.Kind]...)
		b = append(b, '"')
		b = append(b, `,"executionState":`...)
		b = executionState(*e.Execution).AppendJSON(b)
	}
	if e.Resource.Name != "" {
		b = append(b, `,"resourceId":`...)
		b = wire.AppendString(b, e.Resource.Name)
		if e.Kind == muster.AlreadyExists {
			b = append(b, `,"resourceArn":`...)
			b = wire.AppendString(b, c.arn(e.Resource.Kind, e.Resource.Name))
		}
	}
	return append(b, '}')
}

func executionState(e muster.Execution) *jobsdata.JobExecutionState {
	v := &struct {
		jobsdata.JobExecutionState
		status  string
		version int64
	}{status: e.Status.String(), version: e.Version}
	v.JobExecutionState = jobsdata.JobExecutionState{Status: &v.status, StatusDetails: wireMap(e.Details), VersionNumber: &v.version}
	return &v.JobExecutionState
}

// restCodes is the error table of the documented REST form (design §2).
var restCodes = map[muster.Kind]struct {
	status int
	code   string
}{
	muster.Internal:          {http.StatusInternalServerError, "INTERNAL_ERROR"},
	muster.Invalid:           {http.StatusBadRequest, "VALIDATION_ERROR"},
	muster.NotFound:          {http.StatusNotFound, "NOT_FOUND"},
	muster.VersionMismatch:   {http.StatusConflict, "VERSION_MISMATCH"},
	muster.InvalidTransition: {http.StatusConflict, "INVALID_STATE_TRANSITION"},
	muster.Terminal:          {http.StatusGone, "TERMINAL_STATE"},
	muster.Throttled:         {http.StatusTooManyRequests, "THROTTLED"},
	muster.Unavailable:       {http.StatusServiceUnavailable, "UNAVAILABLE"},
}
