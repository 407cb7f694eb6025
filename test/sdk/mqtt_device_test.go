package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
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

// deviceSDK runs one journey of the device SDK; it is told when the device listens.
func deviceSDK(t *testing.T, node, addr string, listening func(), env ...string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*process.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "device.mjs")
	cmd.Dir = "js"
	cmd.Env = append(append(clientEnv(t, admin), "MUSTER_HOST=localhost", "MUSTER_PORT="+port, "MUSTER_THING=lamp"), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err == nil && line == "listening\n" {
		listening()
	}
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, rest, &said)
	}
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
			made := false
			deviceSDK(t, node, server.Addrs[c.door], func() { cloud.job(t, job, arn); made = true },
				"MUSTER_MODE="+c.mode, "MUSTER_CERTS="+certs.dir, "MUSTER_JOB="+job)
			if !made {
				t.Fatal("it did not listen")
			}
			cloud.await(t, "lamp", job, "SUCCEEDED")
		})
	}
}

// TestDeviceSDKThrottled lets it ask for more than it may.
func TestDeviceSDKThrottled(t *testing.T) {
	t.Parallel()
	node := need(t, "device SDK")
	certs := certify(t, "lamp")
	server := process.Launch(t, append(certs.flags(), append(signed(t), "--throttle-data-reads", "2")...)...)
	t.Cleanup(func() { server.Stop(t) })
	newSDK(t, server.URL, admin).thing(t, "lamp")
	for _, mode := range []string{"3.1.1", "5"} {
		t.Run(mode, func(t *testing.T) {
			deviceSDK(t, node, server.Addrs["mqtts"], func() {}, "MUSTER_MODE="+mode, "MUSTER_CERTS="+certs.dir, "MUSTER_JOB=none", "MUSTER_THROTTLED=1")
		})
	}
}

// TestREADMEDevice does what the README says for the device SDK for JavaScript, but for the port and the directory.
func TestREADMEDevice(t *testing.T) {
	t.Parallel()
	node := need(t, "device SDK")
	certs := certify(t, "pump1")
	server := process.Launch(t, append(certs.flags(), "--store", "memory")...)
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	cloud.job(t, "fw-43", cloud.thing(t, "pump1"))
	cloud.await(t, "pump1", "fw-43", "QUEUED")
	_, port, err := net.SplitHostPort(server.Addrs["mqtts"])
	if err != nil {
		t.Fatal(err)
	}
	script := fenced(readme(t, "and for JavaScript, `npm install aws-iot-device-sdk-v2`", "Their older clients"), "js")
	ctx, cancel := context.WithTimeout(t.Context(), 6*process.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--input-type=module", "-")
	cmd.Dir, cmd.Stdin = "js", strings.NewReader(strings.NewReplacer("8883", port, "muster-certs/", certs.dir+"/").Replace(script))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	cloud.await(t, "pump1", "fw-43", "SUCCEEDED")
}
