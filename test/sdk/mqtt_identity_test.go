package sdk_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"muster/test/process"
)

// guarded is a server that asks devices for certificates, with things "lamp" and "thief".
func guarded(t *testing.T, flags ...string) (*process.Process, certificates, sdk) {
	t.Helper()
	certs := certify(t, "lamp", "thief")
	server := process.Launch(t, append(certs.flags(), append([]string{"--store", "memory"}, flags...)...)...)
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	cloud.thing(t, "lamp")
	cloud.thing(t, "thief")
	return server, certs, cloud
}

// TestMQTTThief has a device that has a good certificate try to get at what is another's.
func TestMQTTThief(t *testing.T) {
	t.Parallel()
	server, certs, cloud := guarded(t)
	mqtts := "ssl://" + server.Addrs["mqtts"]
	inBothVersions(t, func(t *testing.T, version int) {
		job := map[int]string{4: "fw3", 5: "fw5"}[version]
		lampDial := mqttDial{version: version, url: mqtts, id: "lamp-" + job, tls: certs.of(t, "lamp")}
		thiefDial := mqttDial{version: version, url: mqtts, id: "thief-" + job, tls: certs.of(t, "thief")}
		lamp, thief := lampDial.connect(t), thiefDial.connect(t)
		same(t, "lamp may hear of itself", lamp.subscribe(t, 1, "$aws/things/lamp/jobs/#")[0], 1)

		for _, filter := range []string{"$aws/things/lamp/jobs/#", "$aws/things/+/jobs/#", "$aws/things/+/jobs/notify", "$aws/things/#",
			"$aws/#", "$aws/+/lamp/jobs/notify", "$share/g/$aws/things/lamp/jobs/#", "$share/g/$aws/things/+/jobs/#",
			"$aws/things/lamp/#", "$aws/things/thief", "$aws/things/thie/#", "$aws/things/thief+/jobs", "$aws/events/#", "$aws/events/jobExecution/+/succeeded"} {
			if granted := thief.trySubscribe(filter); granted != 0 && granted < 0x80 {
				t.Errorf("the thief was granted %s: %#x", filter, granted)
			}
			if thief.isLost() {
				thief = thiefDial.connect(t) // a filter that is none ends a connection
			}
		}
		// These match no topic that begins with $.
		for _, filter := range []string{"#", "+/things/lamp/jobs/notify", "$share/g/#"} {
			if granted := thief.trySubscribe(filter); granted > 1 {
				t.Errorf("%s: %#x", filter, granted)
			}
		}
		same(t, "the thief may hear of itself", thief.subscribe(t, 1, "$aws/things/thief/jobs/#")[0], 1)

		cloud.job(t, job, "arn:aws:iot:us-east-1:123456789012:thing/lamp")
		lamp.await(t, "$aws/things/lamp/jobs/notify")
		lamp.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
		thief.quiet(t, "loot/"+job)

		for _, topic := range []string{"$aws/things/lamp/jobs/get", "$aws/things/lamp/jobs/start-next", "$aws/things/lamp/jobs/" + job + "/update",
			"$aws/things/lamp/jobs/notify", "$aws/events/job/" + job + "/completed", "$aws/things/lamp/shadow/update", "$SYS/x"} {
			err := thief.publish(topic, `{"status":"SUCCEEDED"}`, 1)
			if err == nil && !thief.isLost() {
				t.Errorf("the thief could publish to %s", topic)
			}
			if thief.isLost() || err != nil {
				thief = thiefDial.connect(t)
			}
		}
		thiefDial.willTo = "$aws/things/lamp/jobs/" + job + "/update"
		thiefDial.refused(t)
		if e := cloud.execution(t, "lamp", job); e.Status != "QUEUED" {
			t.Errorf("the lamp's execution is %s", e.Status)
		}
		same(t, "the lamp does its work", lamp.ask(t, "$aws/things/lamp/jobs/"+job+"/update", `{"status":"SUCCEEDED"}`, "accepted").qos, 1)
	})
}

// trySubscribe asks for one filter; 0x80 stands for a connection that was ended over it.
func (c *mqttDevice) trySubscribe(filter string) byte {
	switch c := c.connection.(type) {
	case connection3:
		token := c.Subscribe(filter, 1, nil)
		if !token.WaitTimeout(process.Patience) || token.Error() != nil {
			return 0x80
		}
		granted, _ := token.(interface{ Result() map[string]byte })
		return granted.Result()[filter]
	case connection5:
		ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
		defer cancel()
		return c.try(ctx, filter)
	}
	return 0x80
}

// isLost says whether the server has hung up.
func (c *mqttDevice) isLost() bool {
	switch c := c.connection.(type) {
	case connection3:
		return !c.IsConnectionOpen()
	case connection5:
		select {
		case <-c.Done():
			return true
		default:
		}
	}
	return false
}

// A device must not come under the name, or the session, of another.
func TestMQTTClientIDs(t *testing.T) {
	t.Parallel()
	server, certs, _ := guarded(t)
	inBothVersions(t, func(t *testing.T, version int) {
		session := map[int]string{4: "agent3", 5: "agent5"}[version]
		as := func(thing, id string) mqttDial {
			return mqttDial{version: version, url: "ssl://" + server.Addrs["mqtts"], id: id, lasting: true, tls: certs.of(t, thing)}
		}
		as("thief", "lamp").refused(t) // a thing of that name is registered
		lamp := as("lamp", session).connect(t)
		same(t, "granted", lamp.subscribe(t, 1, "$aws/things/lamp/jobs/#")[0], 1)
		as("thief", session).refused(t) // while it is connected
		if lamp.isLost() {
			t.Error("the thief's attempt ended the lamp's connection")
		}
		lamp.disconnect()
		as("thief", session).refused(t) // and while it is away
		lamp = as("lamp", session).connect(t)
		same(t, "the session is there", lamp.kept, true)
	})
}

// Nobody gets in without a certificate, or with one of another authority.
func TestMQTTNobody(t *testing.T) {
	t.Parallel()
	server, certs, _ := guarded(t)
	strangers := certify(t, "lamp")
	forged := certs.of(t, "")
	forged.Certificates = strangers.of(t, "lamp").Certificates
	inBothVersions(t, func(t *testing.T, version int) {
		for name, d := range map[string]mqttDial{
			"no certificate":    {url: "ssl://" + server.Addrs["mqtts"], tls: certs.of(t, "")},
			"another authority": {url: "ssl://" + server.Addrs["mqtts"], tls: forged},
			"none, by ALPN":     {url: "ssl://" + server.Addrs["https"], tls: certs.of(t, ""), protocol: "x-amzn-mqtt-ca"},
			"forged, by ALPN":   {url: "ssl://" + server.Addrs["https"], tls: forged, protocol: "x-amzn-mqtt-ca"},
			"forged, WebSocket": {url: "wss://" + server.Addrs["https"] + "/mqtt", tls: forged},
		} {
			d.version, d.id = version, "lamp"
			if c, err := d.dial(t.Context()); err == nil && !c.isLost() {
				t.Errorf("%s: let in", name)
				c.disconnect()
			}
		}
	})
}

// The port of HTTPS speaks MQTT to who asks for it, and HTTP to everybody else.
func TestALPN(t *testing.T) {
	t.Parallel()
	server, certs, _ := guarded(t)
	inBothVersions(t, func(t *testing.T, version int) {
		for _, d := range []mqttDial{
			{url: "ssl://" + server.Addrs["https"], protocol: "x-amzn-mqtt-ca"},
			{url: "ssl://" + server.Addrs["https"], protocol: "mqtt"},
			{url: "ssl://" + server.Addrs["mqtts"], protocol: "x-amzn-mqtt-ca"},
			{url: "ssl://" + server.Addrs["mqtts"]},
			{url: "wss://" + server.Addrs["https"] + "/mqtt"},
		} {
			d.version, d.tls = version, certs.of(t, "lamp")
			c := d.connect(t)
			c.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
			if granted := c.trySubscribe("$aws/things/thief/jobs/#"); granted < 0x80 {
				t.Errorf("%s %s: another's topics are granted", d.url, d.protocol)
			}
		}
	})
	for _, port := range []string{"https", "https-data"} {
		for _, protocol := range []string{"", "http/1.1", "h2", "x-amzn-http-ca"} {
			config := certs.of(t, "lamp")
			if protocol != "" {
				config.NextProtos = []string{protocol}
			}
			status, body := httpsGet(t, config, server.Addrs[port], "/things/lamp/jobs")
			if status != 200 {
				t.Errorf("%s with %q: %d %s", port, protocol, status, body)
			}
			status, body = httpsGet(t, config, server.Addrs[port], "/things/thief/jobs")
			if status != 403 {
				t.Errorf("%s with %q, another's: %d %s", port, protocol, status, body)
			}
		}
	}
}

// httpsGet asks once over HTTP/2 or 1.1, as the configuration says. Go's own transport does not know AWS's names.
func httpsGet(t *testing.T, config *tls.Config, addr, path string) (int, string) {
	t.Helper()
	config = config.Clone() // the transport adds what it speaks
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: len(config.NextProtos) == 1 && config.NextProtos[0] == "h2"}
	if len(config.NextProtos) == 1 && config.NextProtos[0] == "x-amzn-http-ca" {
		transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "x-amzn-http-ca" {
				t.Errorf("negotiated %q", got)
			}
			return struct{ net.Conn }{conn}, nil
		}
	}
	client := &http.Client{Transport: transport, Timeout: process.Patience}
	defer client.CloseIdleConnections()
	r, err := client.Get("https://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// The data plane over HTTPS knows devices by their certificates, and has nothing else for them.
func TestHTTPSIdentity(t *testing.T) {
	t.Parallel()
	server, certs, cloud := guarded(t)
	cloud.job(t, "fw", "arn:aws:iot:us-east-1:123456789012:thing/lamp")
	cloud.await(t, "lamp", "fw", "QUEUED")
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/things/lamp/jobs/fw", 403},
		{"GET", "/things/lamp/jobs/$next", 403},
		{"GET", "/things/nobody/jobs/fw", 403}, // whether it exists is not told
		{"PUT", "/things/lamp/jobs/$next", 403},
		{"POST", "/things/lamp/jobs/fw", 403},
		{"POST", "/topics/%24aws/things/lamp/jobs/fw/update", 200}, // rejected, answered to nobody
		{"POST", "/topics/%24aws/events/x", 403},
		{"POST", "/topics/hall", 200},
		{"GET", "/jobs/fw", 403},
		{"POST", "/things/other", 403},
		{"GET", "/things/thief/jobs", 200},
		{"GET", "/things/thief/jobs/fw", 404},
	} {
		for _, port := range []string{"https", "https-data"} {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: certs.of(t, "thief")}, Timeout: process.Patience}
			r, err := http.NewRequest(c.method, "https://"+server.Addrs[port]+c.path, strings.NewReader(`{"status":"SUCCEEDED"}`))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			client.CloseIdleConnections()
			same(t, port+" "+c.method+" "+c.path, answer.StatusCode, c.status)
		}
	}
	if e := cloud.execution(t, "lamp", "fw"); e.Status != "QUEUED" {
		t.Errorf("the lamp's execution is %s", e.Status)
	}
	// The port of devices asks everybody for a certificate.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: certs.of(t, "")}, Timeout: process.Patience}
	if r, err := client.Get("https://" + server.Addrs["https-data"] + "/things/lamp/jobs"); err == nil {
		r.Body.Close()
		t.Errorf("without a certificate: %d", r.StatusCode)
	}
}

// Under signatures, MQTT over WebSocket takes a presigned URL, and nothing less.
func TestMQTTPresigned(t *testing.T) {
	t.Parallel()
	server := process.Launch(t, signed(t)...)
	t.Cleanup(func() { server.Stop(t) })
	cloud := newSDK(t, server.URL, admin)
	cloud.thing(t, "lamp")
	ws := "ws://" + server.Addrs["http"] + "/mqtt"
	inBothVersions(t, func(t *testing.T, version int) {
		for name, k := range map[string]key{"admin": admin, "device": device} {
			c := mqttDial{version: version, url: presigned(t, ws, k, "iotdevicegateway")}.connect(t)
			c.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
			if granted := c.subscribe(t, 1, "$aws/things/+/jobs/notify"); granted[0] != 1 {
				t.Errorf("%s: %v", name, granted)
			}
		}
		look := mqttDial{version: version, url: presigned(t, ws, reader, "iotdevicegateway")}.connect(t)
		look.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
		if err := look.publish("hall", "x", 1); err == nil && !look.isLost() {
			t.Error("a read-only key could publish")
		}
		for name, to := range map[string]string{"unsigned": ws, "a stranger's": presigned(t, ws, stranger, "iotdevicegateway"),
			"an impostor's": presigned(t, ws, impostor, "iotdevicegateway"), "for another service": presigned(t, ws, admin, "iotdata")} {
			t.Log(name)
			mqttDial{version: version, url: to}.refused(t)
		}
	})
}

func presigned(t *testing.T, to string, k key, service string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	uri, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, r, empty, service, "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}
