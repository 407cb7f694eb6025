// Package awsapi is the AWS face of the engine: the route table, HTTP, MQTT's topics and payloads, the
// notices and events that follow the feed, the documented REST form, the conversion between AWS's
// shapes and Muster's, the error table and signatures. It decides nothing about jobs: it decodes, asks the
// engine, and dresses the answer.
package awsapi

import (
	"context"
	"log/slog"
	"net/http"

	"muster"
	"muster/internal/awsapi/wire"
	"muster/internal/engine"
	"muster/internal/meter"
)

// RESTMode says when the documented REST form is spoken (design §2).
type RESTMode string

const (
	RESTAuto   RESTMode = "auto"   // unsigned requests whose Accept names application/json
	RESTAlways RESTMode = "always" // every unsigned request to the data plane
	RESTNever  RESTMode = "never"
)

// Config is what the face needs to know. The zero value serves account 123456789012 in us-east-1
// without authentication.
type Config struct {
	Account string
	Region  string
	REST    RESTMode
	// Auth verifies signatures; nil: requests are anonymous and a signature is only read for its scope.
	Auth *SigV4
	// Endpoint is the host, or host:port, that DescribeEndpoint answers; empty: the Host of the request.
	Endpoint string
	// Device says which thing a client has shown a certificate of; known is false for one that has shown none.
	// Such a client speaks to the data plane, and for its thing alone. nil: nobody shows certificates.
	Device func(*http.Request) (thing muster.ThingName, known bool, err error)
	// Delivery fills the placeholders of a document for one execution; nil leaves them.
	Delivery Delivery
	Throttle Throttle
	// Publish takes what came by HTTPS for subscribers, that is POST /topics/{topic}; nil refuses it as not
	// implemented. An error that is a *muster.Error is shown as its kind.
	Publish func(context.Context, Publication) error
	// Cursor names the setting that says how far this process has told the feed, where several do; one that is not set
	// yet begins at the feed's end. nil: it is the only one.
	Cursor func() string
	// Observer is told of every request; nil: nobody watches.
	Observer Observer
	Log      *slog.Logger
}

// Delivery fills what can only be filled when a document is handed to a device, such as presigned URLs.
type Delivery interface {
	// Fill returns the document text for an execution. Placeholders that it cannot fill stay.
	Fill(ctx context.Context, job *muster.Job, e muster.Execution, text string) string
}

// API serves both planes over one engine.
type API struct {
	engine *engine.Engine
	config Config
	log    *slog.Logger
	router router
	topics topics
	limits *limits
	events eventSwitches
	told   progress
	count  counters
	back   back
}

// New makes the face of an engine.
func New(e *engine.Engine, c Config) *API {
	if c.Account == "" {
		c.Account = "123456789012"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.REST == "" {
		c.REST = RESTAuto
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	a := &API{engine: e, config: c, log: c.Log, router: newRouter(), topics: newTopics(), limits: newLimits(c.Throttle), back: back{asked: make(chan struct{}, 1)}}
	a.count.delay.Over(meter.Latency)
	return a
}

// A call is one request on its way through the face.
type call struct {
	*API
	ctx    context.Context
	region string           // of ARNs: the one a lab's request was signed for, otherwise the configured one
	host   string           // as the client named it
	thing  muster.ThingName // that the client is known to be; empty: it may act for every thing
	// request is the id of an HTTP request.
	request string
	// namespace is that of an MQTT topic, or of a namespaceId; of the jobs of others $next knows nothing.
	namespace string
	// execution is the one the answer is about, for the REST form; its Job is empty when there is none.
	execution muster.Execution
}

// A route is an operation and what serves it. Topic is the MQTT topic below $aws/things/{thingName}/
// of the operations that devices may also ask over MQTT.
type route struct {
	wire.Operation
	Topic  string
	input  func() wire.Input
	handle func(*call, wire.Input) (wire.Output, error)
}

// on makes a route of a typed function.
func on[I any, P interface {
	*I
	wire.Input
}](operations []wire.Operation, name, topic string, fn func(*call, *I) (wire.Output, error)) route {
	for _, op := range operations {
		if op.Name == name {
			return route{Operation: op, Topic: topic,
				input:  func() wire.Input { return P(new(I)) },
				handle: func(c *call, in wire.Input) (wire.Output, error) { return fn(c, (*I)(in.(P))) }}
		}
	}
	panic("awsapi: " + name + " is not a modelled operation")
}
