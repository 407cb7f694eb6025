package awsapi

import (
	"slices"
	"strings"
)

const (
	thingsPrefix    = "$aws/things/"
	jobsLevel       = "jobs/"
	namespaceLevel  = "namespace-"
	maxNamespace    = 64
	acceptedSuffix  = "/accepted"
	rejectedSuffix  = "/rejected"
	notifyLevel     = "notify"
	notifyNextLevel = "notify-next"
)

// A deviceTopic is a topic below $aws/things/{thing}/jobs/, taken apart.
type deviceTopic struct {
	thing string
	job   string // a job id or $next, where the operation is about one
	// namespace is that of a Greengrass topic; namespaced says that it is one, whatever the namespace.
	namespace  string
	namespaced bool
	route      *route // nil: no operation has this topic
}

// topics are the routes that devices reach over MQTT, by what their Topic column says.
type topics map[string]*route

func newTopics() topics {
	t := topics{}
	for i := range routes {
		if r := &routes[i]; r.Topic != "" {
			t[r.Topic] = r
		}
	}
	return t
}

// RequestFilters are the filters that match the topics of requests, Greengrass's among them, and no answer: for
// a broker that is not told which publishes are requests.
func (a *API) RequestFilters() (filters []string) {
	for topic := range a.topics {
		levels := strings.ReplaceAll(topic, "{jobId}", "+")
		filters = append(filters, thingsPrefix+"+/"+levels)
		if of, verb, ok := strings.Cut(levels, "/+/"); ok {
			filters = append(filters, thingsPrefix+"+/"+of+"/+/+/"+verb) // + is a namespace
		}
	}
	slices.Sort(filters)
	return filters
}

// ThingOf is the thing that a topic below $aws/things/ is about; empty: it is not there.
func ThingOf(topic string) string {
	rest, ok := strings.CutPrefix(topic, thingsPrefix)
	if !ok {
		return ""
	}
	thing, _, _ := strings.Cut(rest, "/")
	return thing
}

// parse takes a topic apart; mine is false for one that is not below $aws/things/{thing}/jobs/.
//
// The number of levels decides and the last one names the operation, so that things and jobs may have
// any name: the thing is always the third level, and of jobs/get/get the job is "get" (data-plane.md §4).
func (t topics) parse(topic string) (d deviceTopic, mine bool) {
	rest, ok := strings.CutPrefix(topic, thingsPrefix)
	if !ok {
		return d, false
	}
	if d.thing, rest, ok = strings.Cut(rest, "/"); !ok {
		return d, false
	}
	if rest, ok = strings.CutPrefix(rest, jobsLevel); !ok {
		return d, false
	}
	first, rest, more := strings.Cut(rest, "/")
	if !more {
		d.route = t.of("jobs/", first)
		return d, true
	}
	verb, rest, more := strings.Cut(rest, "/")
	if more {
		var namespace string
		if namespace, ok = strings.CutPrefix(verb, namespaceLevel); !ok || strings.Contains(rest, "/") {
			return d, true
		}
		d.namespace, d.namespaced, verb = namespace, true, rest
	}
	d.job, d.route = first, t.of("jobs/{jobId}/", verb)
	return d, true
}

// of finds a route by the levels before its last one, and that one. A label is no name for a level.
func (t topics) of(before, last string) *route {
	if len(last) > len("start-next") {
		return nil
	}
	return t[before+last]
}

// label is what the topic says for a path label of the operation.
func (d *deviceTopic) label(name string) string {
	if name == "jobId" {
		return d.job
	}
	return d.thing
}

// jobsTopic is a topic that belongs to a thing's jobs.
func jobsTopic(thing, level string) string { return thingsPrefix + thing + "/jobs/" + level }
