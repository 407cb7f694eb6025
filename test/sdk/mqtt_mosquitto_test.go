package sdk_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"
)

// TestMosquitto works a job with the command line clients of Mosquitto, over mutual TLS.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	sub, pub, rr := need(t, "mosquitto_sub"), need(t, "mosquitto_pub"), need(t, "mosquitto_rr")
	server, certs, cloud := guarded(t)
	host, port, err := net.SplitHostPort(server.Addrs["mqtts"])
	if err != nil {
		t.Fatal(err)
	}
	inBothVersions(t, func(t *testing.T, version int) {
		job := map[int]string{4: "fw3", 5: "fw5"}[version]
		things := "$aws/things/lamp/jobs/"
		run := func(client string, args ...string) string {
			t.Helper()
			args = append([]string{"-h", host, "-p", port, "-V", map[int]string{4: "mqttv311", 5: "mqttv5"}[version], "-q", "1",
				"--cafile", certs.file("ca.pem"), "--cert", certs.file("lamp.pem"), "--key", certs.file("lamp.key")}, args...)
			out, err := exec.CommandContext(t.Context(), client, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s %v: %v\n%s", client, args, err, out)
			}
			return string(out)
		}
		// A session that lasts is made first, so that nothing is missed.
		lasting := []string{"-i", "lamp-" + job, "-c", "-t", things + "notify-next"}
		if version == 5 {
			lasting = append(lasting, "-x", "600")
		}
		run(sub, append(lasting, "-E")...)
		cloud.job(t, job, "arn:aws:iot:us-east-1:123456789012:thing/lamp")
		if out := run(sub, append(lasting, "-C", "1", "-W", "10")...); !strings.Contains(out, `"execution"`) {
			t.Errorf("notify-next: %s", out)
		}
		ask := func(topic, answer, message, says string) {
			t.Helper()
			out := run(rr, "-i", "lamp-rr-"+job, "-t", things+topic, "-e", things+topic+"/"+answer, "-m", message, "-W", "10")
			if !strings.Contains(out, says) {
				t.Errorf("%s: %s", topic, out)
			}
		}
		ask(job+"/get", "accepted", "", `"status":"QUEUED"`)
		ask("start-next", "accepted", `{"statusDetails":{"step":"download"}}`, `"versionNumber":2`)
		// Who only publishes never sees the answer; the report counts all the same.
		run(pub, "-i", "lamp-pub-"+job, "-t", things+job+"/update", "-m", `{"status":"IN_PROGRESS","statusDetails":{"step":"install"},"expectedVersion":2}`)
		ask(job+"/get", "accepted", "{}", `"statusDetails":{"step":"install"}`)
		ask(job+"/update", "rejected", `{"status":"SUCCEEDED","expectedVersion":2}`, `"code":"VersionMismatch"`)
		ask(job+"/update", "rejected", `{"status":"QUEUED"}`, `"code":"InvalidStateTransition"`)
		ask(job+"/update", "rejected", `{"status":"DONE"}`, `"code":"InvalidRequest"`)
		ask(job+"/update", "rejected", `{"status":`, `"code":"InvalidJson"`)
		ask("none/get", "rejected", "", `"code":"ResourceNotFound"`)
		ask(job+"/what", "rejected", "", `"code":"InvalidTopic"`)
		ask(job+"/update", "accepted", `{"status":"SUCCEEDED","expectedVersion":3,"clientToken":"c"}`, `"clientToken":"c"`)
		ask(job+"/get", "rejected", "", `"code":"TerminalStateReached"`)
		cloud.await(t, "lamp", job, "SUCCEEDED")
	})
}
