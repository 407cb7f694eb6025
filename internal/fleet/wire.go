package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A wire is how one device speaks with its service. An error that is no *Refused means that nobody knows what became
// of the request; the wire is then of no use any more until it is opened again.
type wire interface {
	open() error
	next() (*execution, error)                     // DescribeJobExecution of $next, without the document; nil: nothing is pending
	startNext() (*execution, error)                // nil: nothing is pending
	update(job string, r report) error             // UpdateJobExecution
	twice(job string, r report) [2]error           // the same, sent twice without waiting in between
	rest(until time.Time, wake bool) (bool, error) // waits; if it may be woken, true when something was notified
	noticed() (*execution, bool)                   // what the last notice said, once
	close(politely bool)
}

// An execution is what a device is told of one.
type execution struct {
	JobID   string `json:"jobId"`
	Status  string `json:"status"`
	Number  int64  `json:"executionNumber"`
	Version int64  `json:"versionNumber"`
}

// A report is the body of an update.
type report struct {
	status   string
	number   int64 // of the execution
	expected int64 // version
	step, of int
	reason   string
}

// append appends it as JSON. What is in it has nothing to be quoted.
func (r report) append(b []byte, token uint32) []byte {
	b = append(append(append(b, `{"status":"`...), r.status...), `","expectedVersion":`...)
	b = strconv.AppendInt(b, r.expected, 10)
	b = strconv.AppendInt(append(b, `,"executionNumber":`...), r.number, 10)
	b = strconv.AppendInt(append(b, `,"statusDetails":{"step":"`...), int64(r.step), 10)
	b = strconv.AppendInt(append(b, `/`...), int64(r.of), 10)
	if r.reason != "" {
		b = append(append(b, `","reason":"`...), r.reason...)
	}
	b = append(b, `"}`...)
	if token != 0 {
		b = appendToken(append(b, ','), token)
	}
	return append(b, '}')
}

func appendToken(b []byte, token uint32) []byte {
	b = strconv.AppendUint(append(b, `"clientToken":"`...), uint64(token), 10)
	return append(b, '"')
}

// An answer is what comes back, in either form.
type answer struct {
	ClientToken string     `json:"clientToken"`
	Code        string     `json:"code"`
	Message     string     `json:"message"`
	Execution   *execution `json:"execution"`
	State       *struct {
		Status  string `json:"status"`
		Version int64  `json:"versionNumber"`
	} `json:"executionState"`
}

// Refused is a request that the service understood and refused. It changed nothing.
type Refused struct {
	Code, Message string
	Version       int64 // of the execution, if the refusal says
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Message) }

// Codes of MQTT; HTTP's are translated to them.
const (
	codeVersion   = "VersionMismatch"
	codeState     = "InvalidStateTransition"
	codeTerminal  = "TerminalStateReached"
	codeNotFound  = "ResourceNotFound"
	codeThrottled = "RequestThrottled"
	codeInternal  = "InternalError"
)

func (a *answer) refusal() *Refused {
	r := &Refused{Code: a.Code, Message: a.Message}
	if a.State != nil {
		r.Version = a.State.Version
	}
	return r
}

func decode(payload []byte) (a answer, err error) {
	if len(payload) > 0 {
		err = json.Unmarshal(payload, &a)
	}
	return a, err
}

// answerPatience is how long a device waits for an answer before it takes its connection for dead.
const answerPatience = 30 * time.Second

var errNoAnswer = errors.New("no answer came")
