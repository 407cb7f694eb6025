package awsapi

import (
	"slices"
	"strings"
	"testing"
)

// What is subscribed at somebody else's broker matches every request and no answer: Muster would answer itself.
func TestRequestFilters(t *testing.T) {
	a := &API{topics: newTopics()}
	filters := a.RequestFilters()
	if want := []string{
		"$aws/things/+/jobs/+/+/get",
		"$aws/things/+/jobs/+/+/update",
		"$aws/things/+/jobs/+/get",
		"$aws/things/+/jobs/+/update",
		"$aws/things/+/jobs/get",
		"$aws/things/+/jobs/start-next",
	}; !slices.Equal(filters, want) {
		t.Errorf("%q", filters)
	}
	matches := func(topic string) bool {
		return slices.ContainsFunc(filters, func(filter string) bool {
			levels := strings.Split(topic, "/")
			for i, level := range strings.Split(filter, "/") {
				if i == len(levels) || level != "+" && level != levels[i] {
					return false
				}
			}
			return len(levels) == strings.Count(filter, "/")+1
		})
	}
	for _, request := range []string{"get", "start-next", "$next/get", "get/get", "fw/update", "$next/namespace-a/get", "fw/namespace-a/update"} {
		topic := jobsTopic("lamp", request)
		if d, mine := a.topics.parse(topic); !mine || d.route == nil || !matches(topic) {
			t.Errorf("%s is a request", topic)
		}
		for _, answer := range []string{acceptedSuffix, rejectedSuffix} {
			if matches(topic + answer) {
				t.Errorf("%s is none", topic+answer)
			}
		}
	}
	for _, topic := range []string{"notify", "notify-next", "notify-namespace-a"} {
		if matches(jobsTopic("lamp", topic)) {
			t.Errorf("%s is none", topic)
		}
	}
	if got := ThingOf("$aws/things/lamp/jobs/get") + ThingOf("$aws/events/job/fw/completed") + ThingOf("hall"); got != "lamp" {
		t.Error(got)
	}
}
