package sdk_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"muster/test/process"
)

// A device is a connection of one of Eclipse's MQTT clients, and what has come by it.
type connection interface {
	// subscribe returns the granted QoS of each filter; 0x80 and above is a refusal.
	subscribe(t *testing.T, qos byte, filters ...string) []byte
	// publish returns an error when the server refuses or hangs up.
	publish(topic, payload string, qos byte) error
	disconnect()
}

// A message is one that has come.
type message struct {
	topic   string
	payload string
	qos     byte
}

// member reads a member of the payload by its path, "execution.jobId"; nil if there is none.
func (m message) member(t *testing.T, path string) any {
	t.Helper()
	var at any
	if err := json.Unmarshal([]byte(m.payload), &at); err != nil {
		t.Fatalf("%s: %q is not JSON: %v", m.topic, m.payload, err)
	}
	for name := range strings.SplitSeq(path, ".") {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	return at
}

// An mqttDevice is a connection with its inbox.
type mqttDevice struct {
	connection
	inbox chan message
	lost  chan error
	kept  bool // the server had the session
}

// An mqttDial says how to connect.
type mqttDial struct {
	version  int // 4 or 5
	url      string
	id       string
	lasting  bool // the session outlives the connection
	tls      *tls.Config
	protocol string // ALPN to ask for
	willTo   string
}

// dial connects, or tells why not.
func (d mqttDial) dial(ctx context.Context) (*mqttDevice, error) {
	c := &mqttDevice{inbox: make(chan message, 1000), lost: make(chan error, 10)}
	if d.tls != nil && d.protocol != "" {
		d.tls = d.tls.Clone()
		d.tls.NextProtos = []string{d.protocol}
	}
	var err error
	if d.version == 5 {
		err = c.dial5(ctx, d)
	} else {
		err = c.dial3(d)
	}
	return c, err
}

func (d mqttDial) connect(t *testing.T) *mqttDevice {
	t.Helper()
	c, err := d.dial(t.Context())
	if err != nil {
		t.Fatalf("%+v: %v", d, err)
	}
	t.Cleanup(c.disconnect)
	return c
}

func (d mqttDial) refused(t *testing.T) error {
	t.Helper()
	c, err := d.dial(t.Context())
	if err == nil {
		c.disconnect()
		t.Fatalf("%s was let in at %s", d.id, d.url)
	}
	return err
}

// await is the next message of a topic; what comes before is put aside.
func (c *mqttDevice) await(t *testing.T, topic string) message {
	t.Helper()
	late := time.After(process.Patience)
	var others []string
	for {
		select {
		case m := <-c.inbox:
			if m.topic == topic {
				return m
			}
			others = append(others, m.topic+" "+m.payload)
		case err := <-c.lost:
			t.Fatalf("waiting for %s: the connection is lost: %v", topic, err)
		case <-late:
			t.Fatalf("nothing on %s, but %q", topic, others)
		}
	}
}

// ask publishes a request with a token, and returns the answer to it.
func (c *mqttDevice) ask(t *testing.T, topic, body, answer string) message {
	t.Helper()
	token := topic + "#" + answer
	if body == "" {
		body = "{}"
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatal(err)
	}
	object["clientToken"] = token
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.publish(topic, string(text), 1); err != nil {
		t.Fatalf("%s: %v", topic, err)
	}
	m := c.await(t, topic+"/"+answer)
	if got := m.member(t, "clientToken"); got != token {
		t.Errorf("%s has the token %v, not %s", m.topic, got, token)
	}
	return m
}

// quiet sends a message around and requires that nothing else has come before it.
func (c *mqttDevice) quiet(t *testing.T, marker string) {
	t.Helper()
	if granted := c.subscribe(t, 1, marker); granted[0] > 1 {
		t.Fatalf("%s is refused: %v", marker, granted)
	}
	if err := c.publish(marker, "done", 1); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.until(t, marker) {
		t.Errorf("got %s %s", m.topic, m.payload)
	}
}

// until returns what comes before a message of the topic.
func (c *mqttDevice) until(t *testing.T, topic string) (before []message) {
	t.Helper()
	late := time.After(process.Patience)
	for {
		select {
		case m := <-c.inbox:
			if m.topic == topic {
				return before
			}
			before = append(before, m)
		case err := <-c.lost:
			t.Fatalf("waiting for %s: the connection is lost: %v", topic, err)
		case <-late:
			t.Fatalf("nothing on %s, but %v", topic, before)
		}
	}
}

// MQTT 3.1.1

type connection3 struct{ paho3.Client }

func (c *mqttDevice) dial3(d mqttDial) error {
	o := paho3.NewClientOptions().AddBroker(d.url).SetClientID(d.id).SetProtocolVersion(4).SetCleanSession(!d.lasting).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(process.Patience).SetWriteTimeout(process.Patience).SetOrderMatters(true)
	if d.tls != nil {
		o.SetTLSConfig(d.tls)
	}
	if d.willTo != "" {
		o.SetWill(d.willTo, "will", 1, false)
	}
	o.SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
		c.inbox <- message{m.Topic(), string(m.Payload()), m.Qos()}
	})
	o.SetConnectionLostHandler(func(_ paho3.Client, err error) { c.lost <- err })
	client := paho3.NewClient(o)
	c.connection = connection3{client}
	token := client.Connect().(*paho3.ConnectToken)
	if !token.WaitTimeout(process.Patience) {
		return errors.New("no CONNACK")
	}
	c.kept = token.SessionPresent()
	return token.Error()
}

func (c connection3) subscribe(t *testing.T, qos byte, filters ...string) (granted []byte) {
	t.Helper()
	wanted := map[string]byte{}
	for _, f := range filters {
		wanted[f] = qos
	}
	token := c.SubscribeMultiple(wanted, nil).(*paho3.SubscribeToken)
	if !token.WaitTimeout(process.Patience) {
		t.Fatalf("no SUBACK for %v", filters)
	}
	for _, f := range filters {
		granted = append(granted, token.Result()[f])
	}
	return granted
}

func (c connection3) publish(topic, payload string, qos byte) error {
	token := c.Publish(topic, qos, false, payload)
	if !token.WaitTimeout(process.Patience) {
		return errors.New("no PUBACK")
	}
	return token.Error()
}

func (c connection3) disconnect() { c.Disconnect(100) }

// MQTT 5

type connection5 struct{ *paho5.Client }

func (c *mqttDevice) dial5(ctx context.Context, d mqttDial) error {
	conn, err := d.open(ctx)
	if err != nil {
		return err
	}
	client := paho5.NewClient(paho5.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: process.Patience,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			c.inbox <- message{p.Packet.Topic, string(p.Packet.Payload), p.Packet.QoS}
			return true, nil
		}},
		OnServerDisconnect: func(p *paho5.Disconnect) { c.lost <- errors.New("disconnected by the server") },
		OnClientError:      func(err error) { c.lost <- err },
	})
	connect := &paho5.Connect{ClientID: d.id, KeepAlive: 60, CleanStart: !d.lasting}
	if d.lasting {
		connect.Properties = &paho5.ConnectProperties{SessionExpiryInterval: new(uint32(3600))}
	}
	if d.willTo != "" {
		connect.WillMessage = &paho5.WillMessage{Topic: d.willTo, Payload: []byte("will"), QoS: 1}
	}
	ack, err := client.Connect(ctx, connect)
	if err != nil {
		return err
	}
	c.connection, c.kept = connection5{client}, ack.SessionPresent
	return nil
}

// open opens what MQTT is spoken over.
func (d mqttDial) open(ctx context.Context) (net.Conn, error) {
	to, err := url.Parse(d.url)
	if err != nil {
		return nil, err
	}
	switch to.Scheme {
	case "tcp":
		return new(net.Dialer).DialContext(ctx, "tcp", to.Host)
	case "ssl":
		return (&tls.Dialer{Config: d.tls}).DialContext(ctx, "tcp", to.Host)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: d.tls}}
	conn, _, err := websocket.Dial(ctx, d.url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: client})
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}

func (c connection5) subscribe(t *testing.T, qos byte, filters ...string) []byte {
	t.Helper()
	s := &paho5.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho5.SubscribeOptions{Topic: f, QoS: qos})
	}
	ack, err := c.Subscribe(t.Context(), s)
	if ack == nil {
		t.Fatalf("no SUBACK for %v: %v", filters, err)
	}
	return ack.Reasons
}

// try asks for one filter; 0x80 stands for no answer.
func (c connection5) try(ctx context.Context, filter string) byte {
	ack, _ := c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: 1}}})
	if ack == nil {
		return 0x80
	}
	return ack.Reasons[0]
}

func (c connection5) publish(topic, payload string, qos byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	ack, err := c.Publish(ctx, &paho5.Publish{Topic: topic, Payload: []byte(payload), QoS: qos})
	if err == nil && ack != nil && ack.ReasonCode >= 0x80 {
		err = errors.New("PUBACK with a refusal")
	}
	return err
}

func (c connection5) disconnect() { _ = c.Disconnect(&paho5.Disconnect{}) }

// inBothVersions runs a journey with MQTT 3.1.1 and with 5.
func inBothVersions(t *testing.T, journey func(t *testing.T, version int)) {
	for name, version := range map[string]int{"3.1.1": 4, "5": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			journey(t, version)
		})
	}
}

// certificates are what muster cert has made in a directory.
type certificates struct{ dir string }

// certify makes an authority, a server's certificate and those of things.
func certify(t *testing.T, things ...string) certificates {
	t.Helper()
	c := certificates{filepath.Join(t.TempDir(), "certs")}
	c.make(t, "server")
	c.make(t, "device", things...)
	return c
}

func (c certificates) make(t *testing.T, what string, names ...string) {
	t.Helper()
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, slices.Concat([]string{"cert", what, "--dir", c.dir}, names)...).CombinedOutput(); err != nil {
		t.Fatalf("muster cert %s: %v\n%s", what, err, out)
	}
}

func (c certificates) file(name string) string { return filepath.Join(c.dir, name) }

// flags are those of a server that wants certificates on all ports that can ask for them.
func (c certificates) flags() []string {
	return []string{"--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", "--https-data", "127.0.0.1:0",
		"--tls-cert", c.file("server.pem"), "--tls-key", c.file("server.key"), "--client-ca", c.file("ca.pem")}
}

// of is the TLS of a thing; of nobody, if it has no name.
func (c certificates) of(t *testing.T, thing string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(c.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	config.RootCAs.AppendCertsFromPEM(text)
	if thing != "" {
		pair, err := tls.LoadX509KeyPair(c.file(thing+".pem"), c.file(thing+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}
