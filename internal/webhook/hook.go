// Package webhook delivers what the feed tells to HTTP receivers: signed, in order for each job, again and again until they
// take it. What a receiver will not take is kept as a dead letter for somebody to look at. It reads events as the AWS face
// renders them, keeps its own in the engine's settings, and knows nothing of who may ask: that is the door's.
package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/internal/awsapi"
)

// Bounds.
const (
	MaxHooks   = 64
	MaxDead    = 1000 // dead letters of one hook; when they are full, delivery rests until somebody makes room
	maxWaiting = 256  // events of one hook in memory
	maxAhead   = 8192 // how many events may be delivered before one that a receiver does not take
	maxAtOnce  = 8    // requests of one hook under way
	maxURL     = 2048
	minSecret  = 16
	maxSecret  = 256
	// DefaultAttempts take about half an hour.
	DefaultAttempts = 15
	maxAttempts     = 100
	patience        = 10 * time.Second // for an answer
	longestPause    = 5 * time.Minute
)

// A Hook is a receiver and what it wants to hear.
type Hook struct {
	ID       string             `json:"id"`
	URL      string             `json:"url"`
	Secret   string             `json:"secret,omitempty"` // signs; shown when it is made and never again
	Filter   awsapi.EventFilter `json:"filter"`
	Attempts int                `json:"attempts"` // before an event becomes a dead letter
	Paused   bool               `json:"paused"`
	Created  muster.Time        `json:"createdAt"` // milliseconds
	Updated  muster.Time        `json:"lastUpdatedAt"`
}

// A Change is what to change of a hook; nil fields stay. Filters are replaced together.
type Change struct {
	URL      *string             `json:"url"`
	Secret   *string             `json:"secret"`
	Attempts *int                `json:"attempts"`
	Paused   *bool               `json:"paused"`
	Filter   *awsapi.EventFilter `json:"filter"`
}

// check says what is wrong with a hook.
func (h *Hook) check() error {
	u, err := url.Parse(h.URL)
	switch {
	case h.ID == "" || len(h.ID) > 64 || strings.ContainsFunc(h.ID, notInID):
		return muster.Errorf(muster.Invalid, "id %q must be 1 to 64 of a-z, A-Z, 0-9, _ and -", h.ID)
	case h.URL == "":
		return muster.Errorf(muster.Invalid, "url is missing")
	case len(h.URL) > maxURL:
		return muster.Errorf(muster.Invalid, "url has %d bytes; at most %d are allowed", len(h.URL), maxURL)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "":
		return muster.Errorf(muster.Invalid, "url %q must be an http or https URL with a host and without a fragment", h.URL)
	case u.User != nil:
		return muster.Errorf(muster.Invalid, "url must not hold a user name or password: the receiver knows the sender by the signature")
	case len(h.Secret) < minSecret || len(h.Secret) > maxSecret:
		return muster.Errorf(muster.Invalid, "secret has %d bytes; it must have %d to %d", len(h.Secret), minSecret, maxSecret)
	case h.Attempts < 1 || h.Attempts > maxAttempts:
		return muster.Errorf(muster.Invalid, "attempts is %d; it must be 1 to %d", h.Attempts, maxAttempts)
	}
	return h.Filter.Check()
}

func notInID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// newSecret has 130 bits.
func newSecret() string { return "whsec_" + rand.Text() }

// shown is the hook without its secret.
func (h Hook) shown() Hook {
	h.Secret = ""
	return h
}

// A DeadLetter is an event that its receiver would not take.
type DeadLetter struct {
	ID       string          `json:"eventId"`
	Topic    string          `json:"topic"`
	Job      muster.JobID    `json:"jobId,omitempty"`
	Attempts int             `json:"attempts"`
	Reason   string          `json:"reason"` // of the last attempt
	Failed   muster.Time     `json:"failedAt"`
	Event    json.RawMessage `json:"event"`
}

// Headers of a delivery.
const (
	SignatureHeader = "Muster-Signature"
	EventHeader     = "Muster-Event-Id"
	TopicHeader     = "Muster-Topic"
	AttemptHeader   = "Muster-Attempt"
)

// Sign is the signature of a body sent at a moment: t=SECONDS,v1=HEX, where HEX is the HMAC-SHA256 of SECONDS, a full stop and
// the body under the secret.
func Sign(secret string, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(seconds))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
