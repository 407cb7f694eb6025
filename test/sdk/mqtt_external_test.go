package sdk_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"muster/test/postgres"
	"muster/test/process"
)

// A mosquitto is a broker of its own, on a port of loopback that stays over restarts.
type mosquitto struct {
	t      *testing.T
	binary string
	dir    string
	port   string
	cmd    *exec.Cmd
	said   *os.File
}

// freePort is a port that nobody has now. Mosquitto cannot choose one by itself.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// startMosquitto starts the broker that Debian has, with nothing but what is given and a listener.
func startMosquitto(t *testing.T, config func(port string) string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, binary: need(t, "mosquitto"), dir: t.TempDir(), port: freePort(t)}
	text := fmt.Sprintf("persistence true\npersistence_location %s/\n%s", m.dir, config(m.port))
	if os.Geteuid() == 0 {
		text = "user root\n" + text // or it would give up the right to read its files
	}
	if err := os.WriteFile(filepath.Join(m.dir, "conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		m.end(syscall.SIGKILL)
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			t.Logf("what mosquitto said:\n%s", log)
		}
	})
	return m
}

func openMosquitto(t *testing.T) *mosquitto {
	return startMosquitto(t, func(port string) string {
		return "listener " + port + " 127.0.0.1\nallow_anonymous true\n"
	})
}

func (m *mosquitto) start() {
	m.t.Helper()
	var err error
	if m.said, err = os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.cmd = exec.Command(m.binary, "-c", filepath.Join(m.dir, "conf"))
	m.cmd.Stdout, m.cmd.Stderr = m.said, m.said
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	process.Eventually(m.t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+m.port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (m *mosquitto) end(signal os.Signal) {
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Signal(signal)
	m.cmd.Wait()
	m.said.Close()
	m.cmd = nil
}

func (m *mosquitto) device(version int, id string, lasting bool) mqttDial {
	return mqttDial{version: version, url: "tcp://127.0.0.1:" + m.port, id: id, lasting: lasting}
}

// attachedTo are the flags of a server that has no broker of its own.
func (m *mosquitto) attachedTo(version int, more ...string) []string {
	return append([]string{"--mqtt", "external", "--mqtt-broker", "mqtt://127.0.0.1:" + m.port, "--mqtt-client-id", "muster-1",
		"--mqtt-version", map[int]string{4: "3.1.1", 5: "5"}[version]}, more...)
}

func ready(t *testing.T, url string) (ok bool, says string) {
	t.Helper()
	r, err := http.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode == http.StatusOK, string(text)
}

func awaitReady(t *testing.T, url string, want bool) {
	t.Helper()
	process.Eventually(t, fmt.Sprintf("readyz is %v", want), func() bool { got, _ := ready(t, url); return got == want })
}

// TestExternalBroker takes a job from notice to end over Mosquitto.
func TestExternalBroker(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto")
	inBothVersions(t, func(t *testing.T, version int) {
		m := openMosquitto(t)
		server := process.Launch(t, append(m.attachedTo(version), "--store", "memory")...)
		t.Cleanup(func() { server.Stop(t) })
		awaitReady(t, server.URL, true)
		if server.Addrs["mqtt"] != "" {
			t.Errorf("a broker runs inside too: %v", server.Addrs)
		}
		cloud := newSDK(t, server.URL, admin)
		must(cloud.control.UpdateEventConfigurations(t.Context(), &iot.UpdateEventConfigurationsInput{EventConfigurations: map[string]types.Configuration{
			"JOB": {Enabled: true}, "JOB_EXECUTION": {Enabled: true}}}))(t)
		arn := cloud.thing(t, "lamp")
		d, follower := m.device(version, "lamp", false).connect(t), m.device(version, "dashboard", false).connect(t)
		jobs := "$aws/things/lamp/jobs/"
		d.subscribe(t, 1, jobs+"#")
		follower.subscribe(t, 1, "$aws/events/#")

		d.ask(t, jobs+"get", "", "accepted")
		cloud.job(t, "fw", arn)
		same(t, "jobs in notify", len(d.await(t, jobs+"notify").member(t, "jobs.QUEUED").([]any)), 1)
		same(t, "next", d.await(t, jobs+"notify-next").member(t, "execution.jobDocument.operation"), any("update"))
		same(t, "started", d.ask(t, jobs+"start-next", "", "accepted").member(t, "execution.versionNumber"), any(2.0))
		mismatch := d.ask(t, jobs+"fw/update", `{"status":"SUCCEEDED","expectedVersion":9}`, "rejected")
		same(t, "code", mismatch.member(t, "code"), any("VersionMismatch"))
		d.ask(t, jobs+"fw/update", `{"status":"SUCCEEDED","expectedVersion":2}`, "accepted")
		same(t, "jobs left", len(d.await(t, jobs+"notify").member(t, "jobs").(map[string]any)), 0)
		same(t, "next", d.await(t, jobs+"notify-next").member(t, "execution"), nil)
		same(t, "event", follower.await(t, "$aws/events/jobExecution/fw/succeeded").member(t, "thingArn"), any(arn))
		follower.await(t, "$aws/events/job/fw/completed")

		// What is no request gets no answer here; nobody but the broker sees it.
		d.ask(t, jobs+"$next/get", "", "accepted")
		// Greengrass's topics have one level more.
		cloud.create(t, &iot.CreateJobInput{JobId: aws.String("gg"), Targets: []string{arn}, Document: aws.String(`{"a":1}`), NamespaceId: aws.String("aws-gg-deployment")})
		d.await(t, jobs+"notify-namespace-aws-gg-deployment")
		d.ask(t, jobs+"$next/namespace-aws-gg-deployment/get", "", "accepted")

		r, err := http.Post(server.URL+"/topics/hall%2Flight?qos=1", "application/octet-stream", bytes.NewReader([]byte("on")))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		same(t, "publish by HTTP", r.StatusCode, 200)
	})
}

// TestExternalMosquittoClients does the same with the command line clients.
func TestExternalMosquittoClients(t *testing.T) {
	t.Parallel()
	sub, rr, pub := need(t, "mosquitto_sub"), need(t, "mosquitto_rr"), need(t, "mosquitto_pub")
	m := openMosquitto(t)
	server := process.Launch(t, append(m.attachedTo(5), "--store", "memory")...)
	t.Cleanup(func() { server.Stop(t) })
	awaitReady(t, server.URL, true)
	cloud := newSDK(t, server.URL, admin)
	arn := cloud.thing(t, "lamp")
	run := func(client string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), client, append([]string{"-h", "127.0.0.1", "-p", m.port, "-q", "1"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", client, args, err, out)
		}
		return string(out)
	}
	lasting := []string{"-i", "lamp", "-c", "-V", "mqttv311", "-t", "$aws/things/lamp/jobs/notify-next"}
	run(sub, append(lasting, "-E")...)
	cloud.job(t, "fw", arn)
	if out := run(sub, append(lasting, "-C", "1", "-W", "10")...); !strings.Contains(out, `"execution"`) {
		t.Errorf("notify-next: %s", out)
	}
	topic := "$aws/things/lamp/jobs/fw/get"
	if out := run(rr, "-t", topic, "-e", topic+"/accepted", "-m", `{"clientToken":"c"}`, "-W", "10"); !strings.Contains(out, `"clientToken":"c"`) {
		t.Errorf("get: %s", out)
	}
	run(pub, "-t", "$aws/things/lamp/jobs/fw/update", "-m", `{"status":"SUCCEEDED"}`)
	cloud.await(t, "lamp", "fw", types.JobExecutionStatusSucceeded)
}

// TestExternalBrokerRestarts has the broker go and come: what was to be told is told, and requests are served again.
func TestExternalBrokerRestarts(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto")
	inBothVersions(t, func(t *testing.T, version int) {
		for name, signal := range map[string]os.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := openMosquitto(t)
				server := process.Launch(t, append(m.attachedTo(version), "--store", "memory")...)
				defer server.Stop(t)
				awaitReady(t, server.URL, true)
				cloud := newSDK(t, server.URL, admin)
				arn := cloud.thing(t, "lamp")
				dial := m.device(version, "lamp", true)
				c := dial.connect(t)
				c.subscribe(t, 1, "$aws/things/lamp/jobs/#")
				c.ask(t, "$aws/things/lamp/jobs/get", "", "accepted")
				c.disconnect()

				m.end(signal)
				awaitReady(t, server.URL, false)
				if _, says := ready(t, server.URL); !strings.Contains(says, "Not attached to the MQTT broker") || strings.Contains(says, "127.0.0.1") {
					t.Errorf("readyz: %s", says)
				}
				cloud.job(t, "fw", arn)
				cloud.await(t, "lamp", "fw", types.JobExecutionStatusQueued)
				m.start()
				c = dial.connect(t)
				if signal == syscall.SIGTERM { // who was away has its session, and is told
					same(t, "the session is there", c.kept, true)
					same(t, "next", c.await(t, "$aws/things/lamp/jobs/notify-next").member(t, "execution.jobId"), any("fw"))
				} else { // the broker has forgotten its sessions, as it does when it is killed
					c.subscribe(t, 1, "$aws/things/lamp/jobs/#")
				}
				awaitReady(t, server.URL, true)
				c.ask(t, "$aws/things/lamp/jobs/fw/update", `{"status":"SUCCEEDED"}`, "accepted")
				cloud.await(t, "lamp", "fw", types.JobExecutionStatusSucceeded)
			})
		}
	})
}

// TestExternalMusterRestarts has Muster go and come: the broker keeps what devices ask meanwhile.
func TestExternalMusterRestarts(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto")
	inBothVersions(t, func(t *testing.T, version int) {
		for name, end := range map[string]func(*process.Process){
			"stopped": func(p *process.Process) { p.Stop(t) }, "killed": func(p *process.Process) { p.Kill() },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := openMosquitto(t)
				// A 3.1.1 session has no expiry, so it is kept only where nobody shares.
				flags := m.attachedTo(version, "--mqtt-share", "off", "--store", "pebble:"+filepath.Join(t.TempDir(), "data"))
				server := process.Launch(t, flags...)
				awaitReady(t, server.URL, true)
				cloud := newSDK(t, server.URL, admin)
				arn := cloud.thing(t, "lamp")
				cloud.job(t, "fw", arn)
				cloud.await(t, "lamp", "fw", types.JobExecutionStatusQueued)
				c := m.device(version, "lamp", false).connect(t)
				c.subscribe(t, 1, "$aws/things/lamp/jobs/fw/update/+")
				end(server)
				for i := range 50 {
					body := fmt.Sprintf(`{"status":"IN_PROGRESS","statusDetails":{"step":"%d"},"clientToken":"%d"}`, i, i)
					if err := c.publish("$aws/things/lamp/jobs/fw/update", body, 1); err != nil {
						t.Fatal(err)
					}
				}
				server = process.Launch(t, flags...)
				defer server.Stop(t)
				for i := range 50 {
					answer := c.await(t, "$aws/things/lamp/jobs/fw/update/accepted")
					same(t, "token, in order", answer.member(t, "clientToken"), any(fmt.Sprint(i)))
				}
				cloud = newSDK(t, server.URL, admin)
				same(t, "the last one", cloud.execution(t, "lamp", "fw").StatusDetails.DetailsMap["step"], "49")
			})
		}
	})
}

// TestExternalShare names what Mosquitto 2.0.11 does not do, rather than wait for requests that never come.
func TestExternalShare(t *testing.T) {
	t.Parallel()
	m := openMosquitto(t)
	server := process.Launch(t, append(m.attachedTo(5, "--mqtt-share", "on"), "--store", "memory")...)
	t.Cleanup(func() { server.Stop(t) })
	process.Eventually(t, "it is shared, or it is said why not", func() bool {
		ok, says := ready(t, server.URL)
		return ok || strings.Contains(says, "does not deliver requests to shared subscriptions")
	})
}

// TestExternalIdentity keeps to the access list in deploy/: devices are their certificates, to the broker.
func TestExternalIdentity(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto")
	certs := certify(t, "lamp", "pump", "muster", "dashboard")
	list, err := filepath.Abs("../../deploy/mosquitto/acl")
	if err != nil {
		t.Fatal(err)
	}
	m := startMosquitto(t, func(port string) string {
		return fmt.Sprintf("listener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nuse_identity_as_username true\nacl_file %s\n",
			port, certs.file("ca.pem"), certs.file("server.pem"), certs.file("server.key"), list)
	})
	server := process.Launch(t, "--store", "memory", "--mqtt", "external", "--mqtt-broker", "mqtts://localhost:"+m.port,
		"--mqtt-ca", certs.file("ca.pem"), "--mqtt-cert", certs.file("muster.pem"), "--mqtt-key", certs.file("muster.key"))
	t.Cleanup(func() { server.Stop(t) })
	awaitReady(t, server.URL, true)
	cloud := newSDK(t, server.URL, admin)
	arn := cloud.thing(t, "lamp")
	cloud.thing(t, "pump")
	inBothVersions(t, func(t *testing.T, version int) {
		as := func(thing string) *mqttDevice {
			c := mqttDial{version: version, url: "ssl://127.0.0.1:" + m.port, id: fmt.Sprint(thing, version), tls: certs.of(t, thing)}.connect(t)
			return c
		}
		lamp, pump := as("lamp"), as("pump")
		lamp.subscribe(t, 1, "$aws/things/lamp/jobs/#")
		pump.subscribe(t, 1, "$aws/things/+/jobs/#")
		job := fmt.Sprint("fw", version)
		cloud.job(t, job, arn)
		lamp.await(t, "$aws/things/lamp/jobs/notify")
		lamp.ask(t, "$aws/things/lamp/jobs/"+job+"/get", "", "accepted")
		_ = pump.publish("$aws/things/lamp/jobs/"+job+"/update", `{"status":"FAILED"}`, 1) // refused or ignored
		lamp.ask(t, "$aws/things/lamp/jobs/"+job+"/update", `{"status":"SUCCEEDED"}`, "accepted")
		cloud.await(t, "lamp", job, types.JobExecutionStatusSucceeded)
		pump.ask(t, "$aws/things/pump/jobs/get", "", "accepted")
		for len(pump.inbox) > 0 {
			if got := <-pump.inbox; !strings.HasPrefix(got.topic, "$aws/things/pump/") {
				t.Errorf("the pump hears %s", got.topic)
			}
		}
	})
	// Who may not publish there is told so.
	stranger := process.Launch(t, "--store", "memory", "--mqtt", "external", "--mqtt-broker", "mqtts://localhost:"+m.port, "--mqtt-version", "5",
		"--mqtt-ca", certs.file("ca.pem"), "--mqtt-cert", certs.file("dashboard.pem"), "--mqtt-key", certs.file("dashboard.key"))
	t.Cleanup(func() { stranger.Stop(t) })
	process.Eventually(t, "readyz says why", func() bool {
		_, says := ready(t, stranger.URL)
		return strings.Contains(says, "not authorized")
	})
}

// TestExternalNodes has two nodes over one PostgreSQL at a broker that does not share: one of them answers and tells, and
// the other takes over when it dies, whichever it was.
func TestExternalNodes(t *testing.T) {
	t.Parallel()
	m := openMosquitto(t)
	store := postgres.Start(t).Database(t)
	launch := func(id string) *process.Process {
		node := process.Launch(t, append(m.attachedTo(5, "--mqtt-client-id", id), "--store", store)...)
		awaitReady(t, node.URL, true)
		return node
	}
	a, b := launch("muster-a"), launch("muster-b")
	c := m.device(5, "lamp", false).connect(t)
	c.subscribe(t, 1, "$aws/things/lamp/jobs/get/accepted", "$aws/things/lamp/jobs/notify")
	arn := newSDK(t, a.URL, admin).thing(t, "lamp")
	asked := 0
	// answered asks once, and says whether there is one answer.
	answered := func() bool {
		asked++
		token := fmt.Sprintf(`"clientToken":"%d"`, asked)
		if err := c.publish("$aws/things/lamp/jobs/get", "{"+token+"}", 1); err != nil {
			t.Fatal(err)
		}
		answers := 0
		for late := time.After(200 * time.Millisecond); ; {
			select {
			case got := <-c.inbox:
				if strings.Contains(got.payload, token) {
					answers++
				}
			case <-late:
				return answers == 1
			}
		}
	}
	works := func(node *process.Process, job string) {
		t.Helper()
		late := time.After(time.Minute)
		for inTurn := 0; inTurn < 3; { // a lease has to be seen to be over, and the one that takes over to be alone
			if inTurn++; !answered() {
				inTurn = 0
			}
			select {
			case <-late:
				t.Fatalf("%s: within a minute nobody answers, or several do", job)
			default:
			}
		}
		newSDK(t, node.URL, admin).job(t, job, arn)
		process.Eventually(t, "the device is told of "+job, func() bool {
			for len(c.inbox) > 0 {
				if got := <-c.inbox; got.topic == "$aws/things/lamp/jobs/notify" && strings.Contains(got.payload, job) {
					return true
				}
			}
			return false
		})
	}
	works(a, "both")
	a.Kill()
	works(b, "without-a")
	a = launch("muster-a")
	works(b, "both-again")
	b.Kill()
	works(a, "without-b")
	a.Stop(t)
}
