package broker

import (
	"slices"
	"time"
)

// A Message is what is published. Once given to the broker it must not be changed.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool

	// What MQTT 5 says of a message; 3.1.1 clients never see it.
	UTF8            bool      // the payload is UTF-8 text
	Expires         time.Time // the moment it is of no more use; zero: never
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil: none
	User            []User

	borrowed bool // payload lies in a connection's read buffer
	size     int32
}

// overhead is what holding a message costs beside its bytes.
const overhead = 256

// weight is what m counts against the bounds on what is held.
func (m *Message) weight() int {
	if m.size == 0 {
		n := overhead + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
		for _, u := range m.User {
			n += 32 + len(u.Key) + len(u.Value)
		}
		m.size = int32(n)
	}
	return int(m.size)
}

// own gives m a payload of its own, so that it may outlive the packet it came in.
func (m *Message) own() {
	if m.borrowed {
		m.Payload = slices.Clone(m.Payload)
		m.borrowed = false
	}
	m.weight()
}

func (m *Message) expired(now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}
