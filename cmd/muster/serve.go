package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"muster/internal/server"
)

// groups are the headings of the flags.
var groups = []kong.Group{
	{Key: "listen", Title: "Where to listen:", Description: "An address is HOST:PORT, :PORT or PORT; port 0 is any free one. Without a host it means this machine alone as long as the listener does not find out who connects, and every interface otherwise."},
	{Key: "broker", Title: "Which MQTT broker to attach to, with --mqtt external:"},
	{Key: "store", Title: "What to keep, and where:"},
	{Key: "auth", Title: "Who may ask:"},
	{Key: "aws", Title: "What to look like:"},
	{Key: "documents", Title: "Where job documents come from:"},
	{Key: "log", Title: "What to tell:"},
	{Key: "sign", Title: "How to sign, for a server that asks for it:"},
	{Key: "plan", Title: "What devices do:"},
	{Key: "wire", Title: "How devices connect:"},
}

type serveCmd struct {
	HTTP      string `name:"http" group:"listen" placeholder:"ADDRESS" default:":8080" env:"MUSTER_HTTP" help:"Plain HTTP, both planes (default ${default}; empty for none)."`
	Control   string `name:"http-control" group:"listen" placeholder:"ADDRESS" env:"MUSTER_HTTP_CONTROL" help:"Plain HTTP for the control plane alone: operators."`
	Data      string `name:"http-data" group:"listen" placeholder:"ADDRESS" env:"MUSTER_HTTP_DATA" help:"Plain HTTP for the data plane alone: devices."`
	HTTPS     string `name:"https" group:"listen" placeholder:"ADDRESS" env:"MUSTER_HTTPS" help:"HTTP over TLS, both planes."`
	HTTPSData string `name:"https-data" group:"listen" placeholder:"ADDRESS" env:"MUSTER_HTTPS_DATA" help:"HTTP over TLS for the data plane alone: devices with certificates, as on AWS's port 8443."`
	MQTT      string `name:"mqtt" group:"listen" placeholder:"ADDRESS" default:":1883" env:"MUSTER_MQTT" help:"Plain MQTT, which asks nobody who they are (default ${default}; empty for none). It is also spoken over WebSocket at /mqtt of HTTP. external: by a broker that runs elsewhere."`
	MQTTS     string `name:"mqtts" group:"listen" placeholder:"ADDRESS" env:"MUSTER_MQTTS" help:"MQTT over TLS, such as :8883; with --client-ca each client must show a certificate."`
	TLSCert   string `group:"listen" placeholder:"FILE" env:"MUSTER_TLS_CERT" help:"Certificate chain for --https, --https-data and --mqtts, PEM. Read again when it changes."`
	TLSKey    string `group:"listen" placeholder:"FILE" env:"MUSTER_TLS_KEY" help:"Its private key, PEM."`
	Insecure  bool   `group:"listen" env:"MUSTER_INSECURE" help:"Let other machines in although nothing authenticates: everybody who can reach the port may act for every device."`
	AddrFile  string `group:"listen" placeholder:"FILE" env:"MUSTER_ADDR_FILE" help:"Write the addresses to FILE as JSON once they are open, such as {\"http\":\"127.0.0.1:43211\"}."`

	Broker  brokerFlags `embed:""`
	Metrics string      `group:"listen" placeholder:"ADDRESS" env:"MUSTER_METRICS" help:"Metrics for Prometheus and health, for anybody who reaches the address: numbers only. /metrics is also where the control plane is, and asks there for what the control plane asks for."`
	Pprof   string      `group:"listen" placeholder:"ADDRESS" env:"MUSTER_PPROF" help:"Profiles of Go, below /debug/pprof/; on loopback only."`
	OTLP    string      `name:"otlp" group:"log" placeholder:"URL" env:"MUSTER_OTLP,OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" help:"Send traces to a collector that speaks OTLP over HTTP, such as http://localhost:4318 (default: nothing is traced)."`

	Store string `group:"store" placeholder:"STORE" default:"pebble:./muster-data" env:"MUSTER_STORE" help:"pebble:DIR keeps everything in a directory, postgres://USER:PASSWORD@HOST/DATABASE in PostgreSQL, where several servers may share it; memory forgets at the end (default ${default})."`

	Retention time.Duration `name:"retention" group:"store" placeholder:"DURATION" default:"17520h" env:"MUSTER_RETENTION" help:"How long jobs that are over are kept, such as 720h (default ${default}, which is 730 days)."`
	Clock     string        `group:"store" placeholder:"real|manual[:TIME]" default:"real" env:"MUSTER_CLOCK" help:"manual: jobs live by a clock that stands still until POST /_muster/clock moves it, for tests; it starts now or at TIME, in RFC 3339 (default ${default})."`

	Auth        string `group:"auth" enum:"none,sigv4" placeholder:"none|sigv4" default:"none" env:"MUSTER_AUTH" help:"none, or sigv4: requests must be signed as for AWS (default ${default})."`
	Credentials string `group:"auth" placeholder:"FILE" env:"MUSTER_CREDENTIALS" help:"Access keys for --auth sigv4, JSON: {\"keys\":[{\"accessKeyId\":\"…\",\"secretAccessKey\":\"…\",\"planes\":[\"data\"],\"readOnly\":false}]}. Read again when it changes."`

	ClientCA    string `name:"client-ca" group:"auth" placeholder:"FILE" env:"MUSTER_CLIENT_CA" help:"Authorities that sign the certificates of devices: a PEM file, or a directory of .pem, .crt and .cer. A device may use the data plane, and $aws/things/{its name}/, for itself alone. Read again when it changes, as are the next two."`
	ClientThing string `name:"client-thing" group:"auth" placeholder:"cn|uri:PREFIX|file:FILE" default:"cn" env:"MUSTER_CLIENT_THING" help:"How a certificate names its thing: by its common name, by a SAN URI that begins with PREFIX, or by a file {\"things\":{\"FINGERPRINT or common name\":\"thing\"}} (default ${default})."`
	ClientDeny  string `name:"client-deny" group:"auth" placeholder:"FILE" env:"MUSTER_CLIENT_DENY" help:"Certificates of devices that are not taken any more: SHA-256 fingerprints, one on a line, or PEM."`

	Account  string `group:"aws" placeholder:"ID" default:"123456789012" env:"MUSTER_ACCOUNT" help:"Account of all ARNs (default ${default})."`
	Region   string `group:"aws" placeholder:"NAME" default:"us-east-1" env:"MUSTER_REGION" help:"Region of ARNs and signatures (default ${default})."`
	Endpoint string `group:"aws" placeholder:"HOST[:PORT]" env:"MUSTER_ENDPOINT" help:"What DescribeEndpoint answers (default: the host that was asked)."`
	REST     string `name:"rest" group:"aws" enum:"auto,always,never" placeholder:"auto|always|never" default:"auto" env:"MUSTER_REST" help:"When device operations answer in the plain REST form: auto, for unsigned requests that accept application/json; always, for unsigned ones; never (default ${default})."`

	ThrottleReads   float64 `name:"throttle-data-reads" group:"aws" placeholder:"N" env:"MUSTER_THROTTLE_DATA_READS" help:"DescribeJobExecution and GetPendingJobExecutions per second, all devices together; AWS has 200 (default: no limit)."`
	ThrottleWrites  float64 `name:"throttle-data-writes" group:"aws" placeholder:"N" env:"MUSTER_THROTTLE_DATA_WRITES" help:"StartNextPendingJobExecution and UpdateJobExecution per second, all devices together; AWS has 200 (default: no limit)."`
	ThrottleControl float64 `name:"throttle-control" group:"aws" placeholder:"N" env:"MUSTER_THROTTLE_CONTROL" help:"Each operation of the control plane per second; AWS has 10 for those of jobs (default: no limit)."`

	MaxRolloutRate    int64 `name:"max-rollout-rate" group:"aws" placeholder:"N" default:"1000" env:"MUSTER_MAX_ROLLOUT_RATE" help:"Highest maximumPerMinute and baseRatePerMinute that a job may ask for (default ${default}, as AWS)."`
	MaxActiveJobs     int   `name:"max-active-jobs" group:"aws" placeholder:"N" default:"100000" env:"MUSTER_MAX_ACTIVE_JOBS" help:"Jobs that are SCHEDULED or IN_PROGRESS (default ${default}, as AWS)."`
	MaxConcurrentJobs int   `name:"max-concurrent-jobs" group:"aws" placeholder:"N" env:"MUSTER_MAX_CONCURRENT_JOBS" help:"Jobs that roll out at the same time; further ones wait for their turn, and one whose maintenance window opens meanwhile is canceled, as AWS does. AWS has 500 (default: any number)."`

	MaxRequests      int     `name:"max-data-requests" group:"aws" placeholder:"N" default:"4096" env:"MUSTER_MAX_DATA_REQUESTS" help:"Requests of devices under way at once, by HTTP and MQTT together; those beyond wait a few seconds and are then told to come again (default ${default}; -1: no bound)."`
	ThrottleConnects float64 `name:"throttle-connects" group:"aws" placeholder:"N" env:"MUSTER_THROTTLE_CONNECTS" help:"New connections of MQTT and TLS per second; those beyond wait in the system's queue (default: no limit, but no more handshakes at once than the CPUs can do; -1: not even that)."`
	ThrottlePublish  float64 `name:"throttle-publishes" group:"aws" placeholder:"N" env:"MUSTER_THROTTLE_PUBLISHES" help:"Messages per second of one MQTT connection, both ways; AWS has 100 (default: no limit)."`

	DocumentsDir   string `group:"documents" placeholder:"DIR" env:"MUSTER_DOCUMENTS_DIR" help:"Directory that a documentSource may name files of."`
	S3Endpoint     string `name:"s3-endpoint" group:"documents" placeholder:"URL" env:"MUSTER_S3_ENDPOINT,AWS_ENDPOINT_URL_S3" help:"Object store that speaks S3 (default: AWS)."`
	S3Region       string `name:"s3-region" group:"documents" placeholder:"NAME" env:"MUSTER_S3_REGION,AWS_REGION,AWS_DEFAULT_REGION" help:"Its region (default: --region)."`
	S3AccessKeyID  string `name:"s3-access-key-id" group:"documents" placeholder:"ID" env:"MUSTER_S3_ACCESS_KEY_ID,AWS_ACCESS_KEY_ID" help:"Key with which documents are read and URLs for devices are signed. Without it S3 is not used."`
	S3SecretKey    string `name:"s3-secret-access-key" group:"documents" placeholder:"SECRET" env:"MUSTER_S3_SECRET_ACCESS_KEY,AWS_SECRET_ACCESS_KEY" help:"Its secret. Better given by the environment: flags can be seen by others."`
	S3SessionToken string `name:"s3-session-token" group:"documents" placeholder:"TOKEN" env:"MUSTER_S3_SESSION_TOKEN,AWS_SESSION_TOKEN" help:"Its session token, if it has one."`

	LogFormat string `group:"log" enum:"text,json" placeholder:"text|json" default:"text" env:"MUSTER_LOG_FORMAT" help:"text or json (default ${default})."`
	LogLevel  string `group:"log" enum:"debug,info,warn,error" placeholder:"LEVEL" default:"info" env:"MUSTER_LOG_LEVEL" help:"debug (every request), info, warn or error (default ${default})."`
}

// Help is what muster serve --help says below the flags' summary.
func (*serveCmd) Help() string {
	return `Every flag can be given as a variable: --http-data is MUSTER_HTTP_DATA.

SIGINT and SIGTERM stop the server once the requests it has are answered, for at most ten seconds; a second signal ends it at once. SIGHUP reads credentials and certificates again; they are also read when they change, within ten seconds.`
}

func (c *serveCmd) config(log *slog.Logger) (server.Config, error) {
	switch {
	case c.HTTP == "" && c.Control == "" && c.Data == "" && c.HTTPS == "" && c.HTTPSData == "" && c.MQTT == "" && c.MQTTS == "":
		return server.Config{}, errors.New("there is nothing to listen on: give one of --http, --http-control, --http-data, --https, --https-data, --mqtt and --mqtts")
	case c.speaksTLS() && (c.TLSCert == "" || c.TLSKey == ""):
		return server.Config{}, errors.New("--https, --https-data and --mqtts need a certificate and its key: --tls-cert FILE --tls-key FILE (muster cert makes some to try)")
	case c.ClientCA != "" && !c.speaksTLS():
		return server.Config{}, errors.New("--client-ca is for TLS: give one of --mqtts, --https-data and --https too")
	case c.ClientCA == "" && (c.ClientDeny != "" || c.ClientThing != "" && c.ClientThing != "cn"):
		return server.Config{}, errors.New("--client-deny and --client-thing need the authorities of the certificates: --client-ca FILE")
	case c.MaxRolloutRate < 1 || c.MaxActiveJobs < 1 || c.MaxConcurrentJobs < 0:
		return server.Config{}, errors.New("--max-rollout-rate and --max-active-jobs must be at least 1, --max-concurrent-jobs at least 0, which is any number")
	case c.Auth == "sigv4" && c.Credentials == "":
		return server.Config{}, errors.New("--auth sigv4 needs access keys: --credentials FILE")
	case c.Auth == "none" && c.Credentials != "":
		return server.Config{}, errors.New("--credentials is given, but --auth is none: say --auth sigv4 to ask for signatures")
	}
	outside, err := c.broker()
	if err != nil {
		return server.Config{}, err
	}
	inside := c.MQTT
	if outside != nil {
		inside = ""
	}
	config := server.Config{
		HTTP: c.HTTP, Control: c.Control, Data: c.Data, HTTPS: c.HTTPS, HTTPSData: c.HTTPSData, MQTT: inside, MQTTS: c.MQTTS, Broker: outside, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Insecure: c.Insecure,
		Store: c.Store, Account: c.Account, Region: c.Region, Credentials: c.Credentials, REST: c.REST, Endpoint: c.Endpoint,
		Metrics: c.Metrics, Pprof: c.Pprof, OTLP: c.OTLP, Version: version(),
		DocumentsDir: c.DocumentsDir, Log: log, Clock: c.Clock, Retention: c.Retention,
		Limits:   server.Limits{PerMinute: c.MaxRolloutRate, ActiveJobs: c.MaxActiveJobs, ConcurrentJobs: c.MaxConcurrentJobs},
		ClientCA: c.ClientCA, ClientThing: c.ClientThing, ClientDeny: c.ClientDeny, Connects: c.ThrottleConnects, Publishes: c.ThrottlePublish,
		Throttle: server.Throttle{Concurrent: c.MaxRequests, DataReads: c.ThrottleReads, DataWrites: c.ThrottleWrites, Control: c.ThrottleControl},
	}
	if c.S3AccessKeyID != "" {
		config.S3 = &server.S3{Endpoint: c.S3Endpoint, Region: c.S3Region,
			AccessKeyID: c.S3AccessKeyID, SecretAccessKey: c.S3SecretKey, SessionToken: c.S3SessionToken}
	} else if c.S3Endpoint != "" {
		log.Warn("an S3 endpoint without keys is not used", "endpoint", c.S3Endpoint)
	}
	return config, nil
}

func (c *serveCmd) speaksTLS() bool { return c.HTTPS != "" || c.HTTPSData != "" || c.MQTTS != "" }

// Run serves until a signal.
func (c *serveCmd) Run(ctx context.Context, w world) error {
	log := logger(w.stderr, c.LogFormat, c.LogLevel)
	config, err := c.config(log)
	if err != nil {
		return err
	}
	if c.AddrFile != "" {
		// Whoever waits for the file must not find the addresses of the run before.
		if err := os.Remove(c.AddrFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the old address file is in the way: %w", err)
		}
	}
	s, err := server.New(config)
	if err != nil {
		return err
	}
	if c.AddrFile != "" {
		if err := writeAddrs(c.AddrFile, s.Addrs()); err != nil {
			return errors.Join(fmt.Errorf("the addresses cannot be written: %w", err), s.Close())
		}
	}
	c.greet(w.stdout, log, s)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				if err := s.Reload(); err != nil {
					log.Error("what was to be read again stays as it was", "error", err)
				}
			}
		}
	}()
	return s.Run(ctx)
}

// greet tells a person, or a log that machines read, where the server is and who may come in.
func (c *serveCmd) greet(w io.Writer, log *slog.Logger, s *server.Server) {
	addrs := s.Addrs()
	access := c.access(s)
	if c.LogFormat == "json" {
		log.Info("listening", "addresses", addrs, "broker", c.Broker.where(), "store", c.storeShown(), "access", access, "version", version())
		return
	}
	fmt.Fprintf(w, "muster %s\n", version())
	for _, kind := range []struct{ name, scheme, says string }{
		{"http", "http", ""}, {"https", "https", ""}, {"control", "http", ": the control plane"}, {"data", "http", ": the data plane"},
		{"https-data", "https", ": the data plane"}, {"mqtt", "mqtt", ""}, {"mqtts", "mqtts", ""},
		{"metrics", "http", "/metrics"}, {"pprof", "http", "/debug/pprof/"},
	} {
		if at, ok := addrs[kind.name]; ok {
			here := reachable(at)
			if here != at {
				kind.says = ", and every other address of this machine" + kind.says
			}
			fmt.Fprintf(w, "  listen  %s://%s%s\n", kind.scheme, here, kind.says)
		}
	}
	if c.MQTT == externalBroker {
		fmt.Fprintf(w, "  mqtt    attached to %s, which knows who devices are\n", c.Broker.where())
	}
	data := "in memory: forgotten when the server stops"
	if dir, ok := strings.CutPrefix(c.Store, "pebble:"); ok {
		data = dir
	} else if c.Store != "memory" {
		data = c.storeShown()
	}
	fmt.Fprintf(w, "  data    %s\n  access  %s\n", data, access)
	for _, name := range []string{"http", "control"} {
		if at, ok := addrs[name]; ok {
			fmt.Fprintf(w, "  try     %saws iot create-thing --thing-name lamp --region %s --endpoint-url http://%s\n", c.dummyKeys(), c.Region, reachable(at))
			break
		}
	}
	fmt.Fprintln(w)
}

// storeShown is the store without the password that its address may have.
func (c *serveCmd) storeShown() string {
	if u, err := url.Parse(c.Store); err == nil && u.User != nil {
		return u.Redacted()
	}
	return c.Store
}

// access says who may come in.
func (c *serveCmd) access(s *server.Server) string {
	var known []string
	if s.Authenticates() {
		known = append(known, "requests must be signed with a key of "+c.Credentials)
	}
	if c.ClientCA != "" {
		known = append(known, "devices show certificates of "+c.ClientCA)
	}
	who := strings.Join(known, "; ")
	open := "nothing authenticates"
	if who != "" {
		open = who + "; elsewhere nothing authenticates"
	}
	switch {
	case s.Exposed():
		return open + " and other machines can connect: everybody who can may act for every device"
	case s.LoopbackOnly() && who == "":
		hint := "--auth sigv4 opens HTTP to others, --client-ca MQTT"
		if c.MQTT == externalBroker {
			hint = "--auth sigv4 opens it to others"
		}
		return open + ", so only this machine can connect (" + hint + ")"
	case s.Open():
		return open + ", so there only this machine can connect"
	}
	return who
}

// dummyKeys is what the AWS CLI must be given where nobody looks at its signatures.
func (c *serveCmd) dummyKeys() string {
	if c.Auth == "none" {
		return "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any "
	}
	return ""
}

// reachable is an address as a client on this machine would write it.
func reachable(at string) string {
	host, port, err := net.SplitHostPort(at)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return at
}

// writeAddrs writes the addresses in one step: a reader finds all of them or no file.
func writeAddrs(file string, addrs map[string]string) error {
	text, err := json.Marshal(addrs)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(text, '\n'))
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
