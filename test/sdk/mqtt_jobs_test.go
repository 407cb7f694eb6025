package sdk_test

import (
	"bytes"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/test/process"
)

// TestMQTTJobs takes a job from notice to end over MQTT, in both versions and over TCP and WebSocket.
func TestMQTTJobs(t *testing.T) {
	t.Parallel()
	server := process.Launch(t, "--store", "memory")
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	inBothVersions(t, func(t *testing.T, version int) {
		for over, url := range map[string]string{"tcp": "tcp://" + server.Addrs["mqtt"], "ws": "ws://" + server.Addrs["http"] + "/mqtt"} {
			t.Run(over, func(t *testing.T) {
				t.Parallel()
				name := "pump-" + over + map[int]string{4: "-3", 5: "-5"}[version]
				mqttJob(t, cloud, mqttDial{version: version, url: url}, name)
			})
		}
	})
}

func mqttJob(t *testing.T, cloud sdk, d mqttDial, thing string) {
	arn := cloud.thing(t, thing)
	jobs, job := "$aws/things/"+thing+"/jobs/", "fw-"+thing
	d.id = thing
	device := d.connect(t)
	d.id = thing + "-other"
	other := d.connect(t)
	for _, c := range []*mqttDevice{device, other} {
		for _, granted := range c.subscribe(t, 1, jobs+"#", jobs+"notify") {
			same(t, "granted QoS", granted, 1)
		}
	}

	none := device.ask(t, jobs+"get", "", "accepted")
	same(t, "inProgressJobs of nobody", len(none.member(t, "inProgressJobs").([]any)), 0)

	cloud.job(t, job, arn)
	listed := device.await(t, jobs+"notify").member(t, "jobs.QUEUED").([]any)
	same(t, "jobs in notify", len(listed), 1)
	first := device.await(t, jobs+"notify-next")
	same(t, "next", first.member(t, "execution.jobId"), any(job))
	same(t, "its document", first.member(t, "execution.jobDocument.operation"), any("update"))

	started := device.ask(t, jobs+"start-next", `{"statusDetails":{"step":"1"}}`, "accepted")
	same(t, "started", started.member(t, "execution.jobId"), any(job))
	same(t, "its version", started.member(t, "execution.versionNumber"), any(2.0))
	same(t, "QoS of the answer", started.qos, 1)

	half := device.ask(t, jobs+job+"/update", `{"status":"IN_PROGRESS","statusDetails":{"step":"2"},"expectedVersion":2,"includeJobExecutionState":true}`, "accepted")
	same(t, "its details", half.member(t, "executionState.statusDetails.step"), any("2"))
	same(t, "its version", half.member(t, "executionState.versionNumber"), any(3.0))

	for _, c := range []struct{ code, topic, body string }{
		{"VersionMismatch", job + "/update", `{"status":"SUCCEEDED","expectedVersion":"9"}`},
		{"InvalidStateTransition", job + "/update", `{"status":"QUEUED"}`},
		{"InvalidRequest", job + "/update", `{"status":"DONE"}`},
		{"InvalidRequest", "start-next", `{"stepTimeoutInMinutes":0}`},
		{"ResourceNotFound", "none/get", ""},
		{"ResourceNotFound", job + "/get", `{"executionNumber":2}`},
		{"InvalidTopic", job + "/what", ""},
		{"InvalidTopic", "notify", ""},
	} {
		m := device.ask(t, jobs+c.topic, c.body, "rejected")
		same(t, "code of "+c.topic+" "+c.body, m.member(t, "code"), any(c.code))
		if c.code == "VersionMismatch" || c.code == "InvalidStateTransition" {
			same(t, "state", m.member(t, "executionState.status"), any("IN_PROGRESS"))
		}
	}
	if err := device.publish(jobs+"get", `{"clientToken":`, 1); err != nil {
		t.Fatal(err)
	}
	same(t, "code of what is no JSON", device.await(t, jobs+"get/rejected").member(t, "code"), any("InvalidJson"))

	if err := device.publish(jobs+job+"/update", `{"status":"SUCCEEDED","clientToken":"end","includeJobExecutionState":true}`, 1); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{job + "/update/accepted", "notify", "notify-next"} {
		select {
		case m := <-device.inbox:
			for m.topic == jobs+"notify" && topic != "notify" || m.topic == jobs+"notify-next" && m.member(t, "execution") != nil {
				m = <-device.inbox // of the beginning, by the other filter
			}
			same(t, "in order", m.topic, jobs+topic)
		case err := <-device.lost:
			t.Fatal(err)
		}
	}
	cloud.awaitJob(t, job, types.JobStatusCompleted)

	nothing := device.ask(t, jobs+"$next/get", "", "accepted")
	same(t, "next of nothing", nothing.member(t, "execution"), nil)
	gone := device.ask(t, jobs+job+"/get", "", "rejected")
	same(t, "code", gone.member(t, "code"), any("TerminalStateReached"))
	again := device.ask(t, jobs+job+"/update", `{"status":"SUCCEEDED"}`, "rejected")
	same(t, "code", again.member(t, "code"), any("InvalidStateTransition"))

	// The other one has heard the notices and none of the answers.
	if granted := other.subscribe(t, 1, "done/"+thing); granted[0] != 1 {
		t.Fatal(granted)
	}
	if err := other.publish("done/"+thing, "", 1); err != nil {
		t.Fatal(err)
	}
	for _, m := range other.until(t, "done/"+thing) {
		if m.topic != jobs+"notify" && m.topic != jobs+"notify-next" {
			t.Errorf("another client got %s", m.topic)
		}
	}
}

// An answer comes to who asked, subscribed or not.
func TestMQTTUnsubscribedAnswer(t *testing.T) {
	t.Parallel()
	server := process.Launch(t, "--store", "memory")
	t.Cleanup(func() { server.Stop(t) })
	newSDK(t, server.URL, admin).thing(t, "lamp")
	inBothVersions(t, func(t *testing.T, version int) {
		c := mqttDial{version: version, url: "tcp://" + server.Addrs["mqtt"]}.connect(t)
		m := c.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
		same(t, "QoS", m.qos, 0)
	})
}

// TestMQTTSessionOverRestart lets a device be away while the server goes, comes, and has something to tell.
func TestMQTTSessionOverRestart(t *testing.T) {
	t.Parallel()
	inBothVersions(t, func(t *testing.T, version int) {
		for name, end := range map[string]func(*process.Process){
			"stopped": func(p *process.Process) { p.Stop(t) }, "killed": func(p *process.Process) { p.Kill() },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				store := "pebble:" + filepath.Join(t.TempDir(), "data")
				server := process.Launch(t, "--store", store)
				cloud := newSDK(t, server.URL, admin)
				arn := cloud.thing(t, "lamp")
				d := mqttDial{version: version, url: "tcp://" + server.Addrs["mqtt"], id: "lamp", lasting: true}
				c := d.connect(t)
				same(t, "granted", c.subscribe(t, 1, "$aws/things/lamp/jobs/notify-next")[0], 1)
				c.disconnect()
				cloud.job(t, "fw", arn)
				cloud.await(t, "lamp", "fw", types.JobExecutionStatusQueued)
				end(server)

				server = process.Launch(t, "--store", store)
				defer server.Stop(t)
				d.url = "tcp://" + server.Addrs["mqtt"]
				c = d.connect(t)
				same(t, "the session is there", c.kept, true)
				same(t, "next", c.await(t, "$aws/things/lamp/jobs/notify-next").member(t, "execution.jobId"), any("fw"))
			})
		}
	})
}

// TestMQTTFromHTTP publishes by HTTP what arrives by MQTT.
func TestMQTTFromHTTP(t *testing.T) {
	t.Parallel()
	server := process.Launch(t, "--store", "memory")
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	cloud.job(t, "fw", cloud.thing(t, "lamp"))
	c := mqttDial{version: 5, url: "tcp://" + server.Addrs["mqtt"]}.connect(t)
	c.subscribe(t, 1, "hall/#", "$aws/things/lamp/jobs/#")
	post := func(path, body string, status int) {
		t.Helper()
		r, err := http.Post(server.URL+path, "application/octet-stream", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		same(t, path, r.StatusCode, status)
	}
	post("/topics/hall%2Flight?qos=1", "on", 200)
	same(t, "payload", c.await(t, "hall/light").payload, "on")
	post("/topics/%24aws/events/job/fw/completed", "{}", 403)
	cloud.await(t, "lamp", "fw", types.JobExecutionStatusQueued)
	post("/topics/%24aws/things/lamp/jobs/fw/update?qos=1", `{"status":"SUCCEEDED"}`, 200)
	cloud.await(t, "lamp", "fw", types.JobExecutionStatusSucceeded)
	post("/topics/hall%2Fend?qos=1", "", 200)
	for _, m := range c.until(t, "hall/end") {
		if m.topic != "$aws/things/lamp/jobs/notify" && m.topic != "$aws/things/lamp/jobs/notify-next" {
			t.Errorf("the answer to a request by HTTP went to %s", m.topic)
		}
	}
}
