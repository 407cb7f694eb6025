package awsapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"muster"
)

const oneJob = `PUT /jobs/%s {"targets":["arn:aws:iot:us-east-1:123456789012:thing/lamp"],"document":"{}"}`

func (f *site) job(id string) { f.act(strings.Replace(oneJob, "%s", id, 1)) }

func topicsOf(tape []Publication) (topics []string) {
	for _, p := range tape {
		topics = append(topics, p.Topic)
	}
	return topics
}

// What could not be published comes again, all of it, and events come with the same ids; what was
// published does not come again.
func TestTellingAgain(t *testing.T) {
	f := newSite(t)
	f.act("things lamp")
	f.act(`PATCH /event-configurations {"eventConfigurations":{"JOB_EXECUTION":{"Enabled":true},"JOB":{"Enabled":true}}}`)
	f.job("a")
	f.act("tick")
	if _, err := f.engine.Report(t.Context(), "lamp", "a", muster.Report{Status: muster.Succeeded}); err != nil {
		t.Fatal(err)
	}

	publish, told := f.follower.publish, f.follower.told
	var refused []Publication
	f.follower.publish = func(_ context.Context, all []Publication) error {
		refused = append(refused, all...)
		return errors.New("nobody is there")
	}
	if _, err := f.follower.step(t.Context()); err == nil || f.follower.told != told {
		t.Fatal("the feed went on", err)
	}
	f.follower.publish = publish
	if more, err := f.follower.step(t.Context()); err != nil || !more {
		t.Fatal(more, err)
	}
	want := []string{"$aws/things/lamp/jobs/notify", "$aws/things/lamp/jobs/notify-next", "$aws/events/jobExecution/a/succeeded", "$aws/events/job/a/completed"}
	if got := topicsOf(f.tape); !slices.Equal(got, want) {
		t.Errorf("published to %v", got)
	}
	if len(refused) != len(f.tape) {
		t.Fatalf("%d at first, %d again", len(refused), len(f.tape))
	}
	ids := map[string]bool{}
	for i := range refused {
		if string(refused[i].Payload) != string(f.tape[i].Payload) {
			t.Errorf("%s\nthen\n%s", refused[i].Payload, f.tape[i].Payload)
		}
		var e struct{ EventID string }
		if json.Unmarshal(refused[i].Payload, &e); e.EventID != "" {
			ids[e.EventID] = true
		}
	}
	if len(ids) != 2 {
		t.Errorf("event ids %v", ids)
	}
	f.tape = nil
	if more, err := f.follower.step(t.Context()); err != nil || more || len(f.tape) > 0 {
		t.Error("something is told twice", f.tape, err)
	}
}

// What happened to a thing while nobody followed is told once, as its queue is then.
func TestOneNoticeForAThing(t *testing.T) {
	f := newSite(t)
	f.act("things lamp fan")
	for _, id := range []string{"a", "b", "c"} {
		if _, err := f.engine.CreateJob(t.Context(), newJobFor(id, "lamp")); err != nil {
			t.Fatal(err)
		}
		if _, err := f.engine.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.engine.StartNext(t.Context(), "lamp", startNothing); err != nil {
		t.Fatal(err)
	}
	if _, err := f.engine.Report(t.Context(), "lamp", "a", muster.Report{Status: muster.Succeeded}); err != nil {
		t.Fatal(err)
	}
	want := `~ $aws/things/lamp/jobs/notify {"timestamp":1735689600,"jobs":{"QUEUED":[{"jobId":"b","queuedAt":1735689600,"lastUpdatedAt":1735689600,"versionNumber":1,"executionNumber":1},{"jobId":"c","queuedAt":1735689600,"lastUpdatedAt":1735689600,"versionNumber":1,"executionNumber":1}]}}
~ $aws/things/lamp/jobs/notify-next {"timestamp":1735689600,"execution":{"jobId":"b","status":"QUEUED","queuedAt":1735689600,"lastUpdatedAt":1735689600,"versionNumber":1,"executionNumber":1,"jobDocument":{}}}
`
	if got := f.drain(); got != want {
		t.Errorf("told\n%s", got)
	}
}

// Nobody is asked about topics that nothing is to be told on, and nothing is looked up when nobody listens.
func TestDeaf(t *testing.T) {
	f := newSite(t)
	f.deaf = true
	f.act("things lamp")
	f.job("a")
	f.act("tick")
	f.ask(" $aws/things/lamp/jobs/start-next")
	if want := []string{"$aws/things/lamp/jobs/notify", "$aws/things/lamp/jobs/notify-next"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked for %v", f.asked)
	}
	f.asked = nil
	f.act(`PATCH /event-configurations {"eventConfigurations":{"JOB_EXECUTION":{"Enabled":true}}}`)
	f.act("PUT /jobs/a/cancel?force=true")
	f.act("tick")
	want := []string{"$aws/things/lamp/jobs/notify", "$aws/things/lamp/jobs/notify-next", "$aws/events/jobExecution/a/canceled"}
	if !slices.Equal(f.asked, want) {
		t.Errorf("asked for %v", f.asked)
	}
}

// Follow tells what is committed while it waits, keeps how far it came when it ends, and goes on there.
func TestFollow(t *testing.T) {
	f := newSite(t)
	f.deaf = true // the site's own follower is not used
	tape := make(chan Publication, 100)
	follow := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			New(f.engine, f.config).Follow(ctx, func(_ context.Context, all []Publication) error {
				for _, p := range all {
					tape <- p
				}
				return nil
			}, func(topic string) bool { return strings.HasSuffix(topic, "/notify") })
		}()
		return func() { cancel(); <-ended }
	}
	jobs := func(name muster.ThingName, ids ...string) {
		t.Helper()
		for _, id := range ids {
			if _, err := f.engine.CreateJob(t.Context(), newJobFor(id, name)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.engine.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := f.engine.CreateThing(t.Context(), muster.Thing{Name: "lamp"}); err != nil {
		t.Fatal(err)
	}
	jobs("lamp", "a")
	stop := follow()
	if p := <-tape; !strings.Contains(string(p.Payload), `"a"`) {
		t.Errorf("told %s", p.Payload)
	}
	jobs("lamp", "b")
	if p := <-tape; !strings.Contains(string(p.Payload), `"b"`) {
		t.Errorf("told %s", p.Payload)
	}
	stop()
	jobs("lamp", "c", "d")
	stop = follow()
	if p := <-tape; !strings.Contains(string(p.Payload), `"d"`) {
		t.Errorf("after a restart %s was told", p.Payload)
	}
	jobs("lamp", "e")
	if p := <-tape; !strings.Contains(string(p.Payload), `"e"`) {
		t.Errorf("told %s; what was told before the restart should not come again", p.Payload)
	}
	stop()
	entries, err := f.engine.Feed(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	again := &follower{API: f.api}
	if err := again.begin(t.Context()); err != nil || again.told != entries[len(entries)-1].Place {
		t.Errorf("the cursor is at %s of %d, %v", again.told, len(entries), err)
	}
}

func TestPresence(t *testing.T) {
	p := Presence{ClientID: "pump1", At: 1573002230757, Session: "a466", Principal: "abc", IP: "192.0.2.1", Version: 3}
	for _, c := range []struct {
		event       func() (Publication, bool)
		topic, want string
	}{
		{p.Connected, "$aws/events/presence/connected/pump1", `{"clientId":"pump1","timestamp":1573002230757,"eventType":"connected","sessionIdentifier":"a466","principalIdentifier":"abc","ipAddress":"192.0.2.1","versionNumber":3}`},
		{func() (Publication, bool) { return p.Disconnected(Departure{Reason: "CONNECTION_LOST"}) }, "$aws/events/presence/disconnected/pump1",
			`{"clientId":"pump1","timestamp":1573002230757,"eventType":"disconnected","sessionIdentifier":"a466","principalIdentifier":"abc","ipAddress":"192.0.2.1","clientInitiatedDisconnect":false,"disconnectReason":"CONNECTION_LOST","versionNumber":3}`},
		{func() (Publication, bool) { return p.Subscribed([]string{"hall/#"}, true) }, "$aws/events/subscriptions/subscribed/pump1",
			`{"clientId":"pump1","timestamp":1573002230757,"eventType":"subscribed","sessionIdentifier":"a466","principalIdentifier":"abc","topics":["hall/#"]}`},
		{func() (Publication, bool) { return p.Subscribed([]string{"hall/#"}, false) }, "$aws/events/subscriptions/unsubscribed/pump1",
			`{"clientId":"pump1","timestamp":1573002230757,"eventType":"unsubscribed","sessionIdentifier":"a466","principalIdentifier":"abc","topics":["hall/#"]}`},
	} {
		if e, ok := c.event(); !ok || e.Topic != c.topic || string(e.Payload) != c.want || e.QoS != 1 {
			t.Errorf("%v %+v %s", ok, e, e.Payload)
		}
	}
	for _, id := range []string{"", "a/+", "#"} {
		if _, ok := (Presence{ClientID: id}).Connected(); ok {
			t.Errorf("client id %q is in a topic", id)
		}
	}
}

// Ten executions are shown, and five more of jobs that are in their maintenance window.
func TestHowManyAreShown(t *testing.T) {
	f := newSite(t)
	f.act("things lamp")
	f.act("POST /thing-groups/house {}")
	f.act(`PUT /thing-groups/addThingToThingGroup {"thingGroupName":"house","thingName":"lamp"}`)
	for i := range 12 {
		f.job("plain-" + string(rune('a'+i)))
		f.act("advance 1s")
	}
	for i := range 7 {
		f.act(`PUT /jobs/window-` + string(rune('a'+i)) + ` {"targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/house"],"document":"{}","targetSelection":"CONTINUOUS",` +
			`"schedulingConfig":{"startTime":"2025-01-01T00:45","endTime":"2025-02-01T00:00","endBehavior":"STOP_ROLLOUT","maintenanceWindows":[{"startTime":"cron(0 1 ? * WED *)","durationInMinutes":30}]}}`)
	}
	told := f.act("advance 1h")
	if plain, window := strings.Count(told, "plain-"), strings.Count(told, "window-"); plain != 10 || window != 5 {
		t.Errorf("%d and %d are told of:\n%s", plain, window, told)
	}
	answer := f.ask(" $aws/things/lamp/jobs/get")
	if plain, window := strings.Count(answer, "plain-"), strings.Count(answer, "window-"); plain != 10 || window != 5 {
		t.Errorf("%d and %d are pending:\n%s", plain, window, answer)
	}
}
