package awsapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"muster"
	"muster/internal/engine"
)

var startNothing = engine.Start{}

func newJobFor(id string, name muster.ThingName) engine.NewJob {
	document := "{}"
	return engine.NewJob{ID: muster.JobID(id), Targets: []muster.Target{{Thing: name}}, Document: &document}
}

// A topic that has an operation is made of what was read from it, and every one below jobs/ is ours.
func FuzzTopic(f *testing.F) {
	for _, topic := range []string{"$aws/things/t/jobs/get", "$aws/things/jobs/jobs/start-next", "$aws/things/t/jobs/$next/get", "$aws/things/t/jobs/j/update",
		"$aws/things/t/jobs/j/namespace-n/get", "$aws/things/t/jobs/", "$aws/things//jobs//get", "$aws/things/t/shadow/get", "$aws/things/t/jobs/get/get/accepted"} {
		f.Add(topic)
	}
	all := newTopics()
	f.Fuzz(func(t *testing.T, topic string) {
		d, mine := all.parse(topic)
		levels := strings.Split(topic, "/")
		if want := len(levels) >= 5 && levels[0] == "$aws" && levels[1] == "things" && levels[3] == "jobs"; mine != want {
			t.Fatalf("mine is %t", mine)
		}
		if d.route == nil {
			return
		}
		again := strings.Replace(thingsPrefix+d.thing+"/"+d.route.Topic, "{jobId}", d.job, 1)
		if d.namespaced {
			last := strings.LastIndexByte(again, '/')
			again = again[:last] + "/" + namespaceLevel + d.namespace + again[last:]
		}
		if again != topic || !mine {
			t.Errorf("%+v is of topic %s", d, again)
		}
	})
}

// Whatever a device sends, the answer is JSON with a code that the contract knows, a time, and the token
// that came.
func FuzzMQTT(f *testing.F) {
	for _, topic := range []string{"get", "start-next", "$next/get", "a/get", "a/update", "a/namespace-n/update", "notify"} {
		for _, payload := range []string{"", "{}", `{"clientToken":"t"}`, `{"clientToken":"t","status":"IN_PROGRESS","statusDetails":{"a":"b"}}`, `{"clientToken":5,"clientToken":"\ud83d\ude00"}`,
			`{"status":"SUCCEEDED","expectedVersion":"1"`, `[{"clientToken":"t"}]`, `{"stepTimeoutInMinutes":-1,"includeJobExecutionState":true,"includeJobDocument":true}`, "{\"clientToken\":\"\xff\"}"} {
			f.Add(topic, []byte(payload))
		}
	}
	site := newSite(f)
	for _, err := range []error{
		second(site.engine.CreateThing(f.Context(), muster.Thing{Name: "t"})),
		second(site.engine.CreateJob(f.Context(), newJobFor("a", "t"))),
		second(site.engine.Tick(f.Context())),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
	codes := []string{codeInvalidTopic, codeInvalidJSON}
	for _, code := range mqttCodes {
		codes = append(codes, code)
	}
	f.Fuzz(func(t *testing.T, below string, payload []byte) {
		topic := "$aws/things/t/jobs/" + below
		answer, mine := site.api.MQTT(t.Context(), "", topic, payload)
		if !mine || answer.Topic != topic+acceptedSuffix && answer.Topic != topic+rejectedSuffix {
			t.Fatalf("%t %s", mine, answer.Topic)
		}
		var got struct {
			ClientToken *string
			Code        string
			Message     string
			Timestamp   *int64
		}
		if err := json.Unmarshal(answer.Payload, &got); err != nil || got.Timestamp == nil || !utf8.Valid(answer.Payload) {
			t.Fatalf("%v in %s", err, answer.Payload)
		}
		if rejected := answer.Topic == topic+rejectedSuffix; rejected != slices.Contains(codes, got.Code) || rejected != (got.Message != "") || got.Code == "InternalError" {
			t.Fatalf("%s is answered by %s", payload, answer.Payload)
		}
		// The standard library takes a member's name in any case, so that only exact names can be compared.
		var sent map[string]json.RawMessage
		if json.Unmarshal(payload, &sent) != nil || !utf8.Valid(payload) || got.Code == codeInvalidJSON {
			return
		}
		var token *string
		if json.Unmarshal(sent["clientToken"], &token) != nil {
			token = nil
		}
		if (token == nil) != (got.ClientToken == nil) || token != nil && *token != *got.ClientToken {
			t.Errorf("%s is answered by %s", payload, answer.Payload)
		}
	})
}

func second[T any](_ T, err error) error { return err }
