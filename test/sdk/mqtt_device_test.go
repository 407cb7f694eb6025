package sdk_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	"muster/test/process"
)

// findDeviceSDK finds the node that has the device SDK beside it.
func findDeviceSDK() (string, error) {
	if _, err := os.Stat("js/node_modules/aws-iot-device-sdk-v2/package.json"); err != nil {
		return "", errors.New("test/sdk/js has no AWS IoT Device SDK")
	}
	return exec.LookPath("node")
}

// TestDeviceSDK works jobs with the AWS IoT Device SDK v2 as it is: with certificates on the port of MQTT and, by
// ALPN, on that of HTTPS; and over WebSocket under signatures.
func TestDeviceSDK(t *testing.T) {
	t.Parallel()
	node := need(t, "device SDK")
	certs := certify(t, "lamp")
	server := process.Launch(t, append(certs.flags(), signed(t)...)...)
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	arn := cloud.thing(t, "lamp")
	// One after the other: they are all the same device.
	for job, c := range map[string]struct{ mode, door string }{
		"v3": {"3.1.1", "mqtts"}, "v3-alpn": {"3.1.1", "https"}, "v5": {"5", "mqtts"}, "v5-alpn": {"5", "https"}, "ws": {"websocket", "https"},
	} {
		t.Run(job, func(t *testing.T) {
			cloud.job(t, job, arn)
			cloud.await(t, "lamp", job, "QUEUED")
			_, port, err := net.SplitHostPort(server.Addrs[c.door])
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), node, "device.mjs")
			cmd.Dir = "js"
			cmd.Env = append(clientEnv(t, admin), "MUSTER_HOST=localhost", "MUSTER_PORT="+port, "MUSTER_MODE="+c.mode,
				"MUSTER_CERTS="+certs.dir, "MUSTER_THING=lamp", "MUSTER_JOB="+job)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			cloud.await(t, "lamp", job, "SUCCEEDED")
		})
	}
}
