package storm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"muster/test/device"
	"muster/test/process"
)

// A member is a device of a crowd. It hears of what is next, does it, and keeps in mind what it was told last.
type member struct {
	*crowd
	name    string
	version byte
	random  *rand.Rand
	conn    *device.Conn
	token   int
	notices int              // that have come on this connection
	work    map[string]*task // by job and execution number

	next atomic.Pointer[string] // the job it was told last is next, empty for none; nil while it does not know
}

// task is what a device knows of one execution.
type task struct {
	version int64
	maybe   bool // a report was sent whose answer was not seen, or was that the server cannot say
	// late is the version at which such a report was sent, 0 for none: what a node that died had sent to the database may be
	// done after another node was asked how things stand.
	late    int64
	verdict string
	ended   bool
}

// errTired says that an answer was not to be waited for any longer.
var errTired = errors.New("no answer")

func (m *member) live() {
	for {
		p := m.door()
		if p == nil {
			return
		}
		m.next.Store(nil)
		m.notices = 0
		err := m.connect(p.Addrs["mqtt"])
		var bad wrong
		if errors.As(err, &bad) {
			m.failed.Store(true)
			m.t.Errorf("%s: %s", m.name, bad.what)
			return
		}
	}
}

func (m *member) connect(at string) error {
	raw, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	m.conn = device.New(raw, m.version)
	defer m.conn.Reset()
	m.patience(process.Patience)
	stop := context.AfterFunc(m.ctx, func() { raw.Close() })
	defer stop()
	if _, err := m.conn.Hello(m.name, false); err != nil {
		return err
	}
	if err := m.conn.Subscribe(m.heard, m.topic("#")); err != nil {
		return err
	}
	for {
		if err := m.learn(); err != nil {
			return err
		}
		for next := *m.next.Load(); next != "" && next != untouched; next = *m.next.Load() {
			if err := m.work1(); err != nil {
				return err
			}
		}
		m.patience(12 * process.Patience)
		p, err := m.conn.Next()
		if err == nil && p.Kind == device.Message {
			err = m.heard(p)
		}
		if err != nil {
			return err
		}
		m.patience(process.Patience)
	}
}

func (m *member) patience(d time.Duration) { m.conn.SetDeadline(time.Now().Add(d)) }

func (m *member) topic(rest string) string { return "$aws/things/" + m.name + "/jobs/" + rest }

func (m *member) heard(p device.Packet) error {
	if bytes.HasSuffix(p.Topic, []byte("/notify-next")) {
		var a reply
		if err := json.Unmarshal(p.Payload, &a); err != nil {
			return wrong{fmt.Sprintf("%s: %v", p.Payload, err)}
		}
		m.notices++
		m.next.Store(&a.Execution.JobID)
	}
	return m.conn.Ack(p)
}

type reply struct {
	ClientToken   string
	Code, Message string
	// ExecutionState is the state as it is, with a refusal of an update.
	ExecutionState struct {
		Status        string
		VersionNumber int64
	}
	Execution struct {
		JobID           string
		Status          string
		VersionNumber   int64
		ExecutionNumber int64
	}
}

// ask makes a request again until the server can answer it.
func (m *member) ask(what, members string) (a reply, err error) {
	for {
		m.token++
		m.patience(process.Patience)
		token := fmt.Sprint(m.name, "-", m.token)
		topic := m.topic(what)
		if _, err := m.conn.Publish(topic, fmt.Appendf(nil, `{"clientToken":%q%s}`, token, members)); err != nil {
			return a, err
		}
		for a.ClientToken != token {
			p, err := m.conn.Next()
			if err != nil {
				return a, err
			}
			if p.Kind != device.Message {
				continue
			}
			if rest, ok := bytes.CutPrefix(p.Topic, []byte(topic+"/")); ok && (string(rest) == "accepted" || string(rest) == "rejected") {
				a = reply{}
				if err := json.Unmarshal(p.Payload, &a); err != nil {
					return a, wrong{fmt.Sprintf("%s: %v: %s", p.Topic, err, p.Payload)}
				}
			}
			if err := m.heard(p); err != nil {
				return a, err
			}
		}
		if a.Code != "RequestThrottled" && a.Code != "InternalError" {
			return a, nil
		}
		if a.Code == "InternalError" && strings.HasSuffix(what, "/update") {
			return a, errTired
		}
	}
}

// learn asks what is next. A notice that came meanwhile is newer.
func (m *member) learn() error {
	if m.next.Load() != nil && m.notices > 0 {
		return nil
	}
	before := m.notices
	a, err := m.ask("$next/get", `,"includeJobDocument":false`)
	if err != nil {
		return err
	}
	if a.Code != "" {
		return wrong{"$next/get: " + a.Code + " " + a.Message}
	}
	if m.notices == before {
		m.next.Store(&a.Execution.JobID)
	}
	return nil
}

// work1 does what is next.
func (m *member) work1() error {
	before := m.notices
	a, err := m.ask("start-next", "")
	if err != nil {
		return err
	}
	if a.Code != "" {
		return wrong{"start-next: " + a.Code + " " + a.Message}
	}
	e := a.Execution
	if m.notices == before {
		m.next.Store(&e.JobID)
	}
	if e.JobID == "" {
		return nil
	}
	key := fmt.Sprintf("%s/%d", e.JobID, e.ExecutionNumber)
	w := m.work[key]
	if w == nil {
		w = &task{version: 2}
		m.work[key] = w
	}
	if e.JobID == untouched { // a job came between
		return nil
	}
	switch got := e.VersionNumber; {
	case w.ended:
		return wrong{key + " has ended, and is to be done again"}
	case e.Status != "IN_PROGRESS" || got != w.version && !(w.maybe && got == w.version+1):
		return wrong{fmt.Sprintf("%s is %s at version %d; %d was acknowledged", key, e.Status, got, w.version)}
	}
	w.version, w.maybe = e.VersionNumber, false
	for range m.random.IntN(3) {
		if over, err := m.report(e.JobID, e.ExecutionNumber, w, "IN_PROGRESS"); over || err != nil {
			return err
		}
	}
	verdict := "SUCCEEDED"
	if e.JobID == doomed || e.JobID == gradual && m.random.IntN(4) == 0 {
		verdict = "FAILED"
	}
	over, err := m.report(e.JobID, e.ExecutionNumber, w, verdict)
	if err == nil && !over {
		w.ended, w.verdict = true, verdict
	}
	return err
}

// report updates an execution; over says that it has ended otherwise meanwhile: with its job, or because the thing has left the group.
func (m *member) report(job string, number int64, w *task, status string) (over bool, err error) {
	w.maybe = true
	a, err := m.ask(job+"/update", fmt.Sprintf(`,"status":%q,"expectedVersion":%d,"executionNumber":%d,"statusDetails":{"v":"%d"}`, status, w.version, number, w.version+1))
	switch {
	case err != nil:
		w.late = w.version
		return false, err
	case w.late == w.version && (a.Code == "VersionMismatch" || a.Code == "TerminalStateReached" || a.Code == "InvalidStateTransition"):
		return true, nil // it asks again
	case job == doomed && (a.Code == "TerminalStateReached" || a.Code == "InvalidStateTransition" || a.Code == "VersionMismatch"):
		return true, nil
	case job == moving && a.ExecutionState.Status == "REMOVED" && a.ExecutionState.VersionNumber == w.version+1:
		return true, nil
	case a.Code != "":
		return false, wrong{fmt.Sprintf("%s/%d at version %d to %s: %s %s", job, number, w.version, status, a.Code, a.Message)}
	}
	w.version, w.maybe = w.version+1, false
	m.acked.Add(1)
	return false, nil
}
