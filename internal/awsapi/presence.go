package awsapi

import "strings"

// A Presence is a client that has connected or gone, subscribed or unsubscribed. These events are always on (events-and-limits.md §1);
// the door that has the connections publishes them if anybody listens.
type Presence struct {
	ClientID  string
	At        int64  // milliseconds since 1970, of real time
	Session   string // names this connection
	Principal string // who the client is: a certificate, an access key, or what stands for nobody
	IP        string // empty: not known
	Version   int64  // counts the connects and disconnects of a client id
}

// A Departure is why a client has gone.
type Departure struct {
	ByClient bool   // it said that it goes
	Reason   string // such as CLIENT_INITIATED_DISCONNECT, CONNECTION_LOST, DUPLICATE_CLIENTID, SERVER_INITIATED_DISCONNECT
}

type presenceBody struct {
	ClientID  string `json:"clientId"`
	Timestamp int64  `json:"timestamp"`
	EventType string `json:"eventType"`
	Session   string `json:"sessionIdentifier"`
	Principal string `json:"principalIdentifier"`
	IP        string `json:"ipAddress,omitempty"`
	ByClient  *bool  `json:"clientInitiatedDisconnect,omitempty"`
	Reason    string `json:"disconnectReason,omitempty"`
	Version   int64  `json:"versionNumber"`
}

type subscriptionBody struct {
	ClientID  string   `json:"clientId"`
	Timestamp int64    `json:"timestamp"`
	EventType string   `json:"eventType"`
	Session   string   `json:"sessionIdentifier"`
	Principal string   `json:"principalIdentifier"`
	Topics    []string `json:"topics"`
}

// Subscribed is the event of a client that has subscribed filters, or given them up.
func (p Presence) Subscribed(filters []string, up bool) (event Publication, ok bool) {
	what := map[bool]string{true: "subscribed", false: "unsubscribed"}[up]
	if !p.inTopic() {
		return event, false
	}
	body := subscriptionBody{p.ClientID, p.At, what, p.Session, p.Principal, filters}
	return Publication{Topic: eventsPrefix + "subscriptions/" + what + "/" + p.ClientID, Payload: marshal(body), QoS: 1}, true
}

// inTopic says whether the client's id can be a level of a topic.
func (p Presence) inTopic() bool {
	return p.ClientID != "" && !strings.ContainsAny(p.ClientID, "+#\x00")
}

// Connected is the event of a client that has connected. ok is false for one whose id cannot be in a topic.
func (p Presence) Connected() (event Publication, ok bool) { return p.event("connected", nil) }

// Disconnected is the event of a client that has gone.
func (p Presence) Disconnected(d Departure) (event Publication, ok bool) {
	return p.event("disconnected", &d)
}

func (p Presence) event(what string, d *Departure) (event Publication, ok bool) {
	if !p.inTopic() {
		return event, false
	}
	body := presenceBody{p.ClientID, p.At, what, p.Session, p.Principal, p.IP, nil, "", p.Version}
	if d != nil {
		body.ByClient, body.Reason = &d.ByClient, d.Reason
	}
	return Publication{Topic: eventsPrefix + "presence/" + what + "/" + p.ClientID, Payload: marshal(body), QoS: 1}, true
}
