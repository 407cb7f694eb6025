package main

import (
	"cmp"
	"errors"
	"os"
	"strings"

	"muster/internal/server"
)

// externalBroker is what --mqtt says in place of an address.
const externalBroker = "external"

// brokerFlags say which broker to attach to, and how.
type brokerFlags struct {
	URLs         []string `name:"mqtt-broker" group:"broker" placeholder:"URL" env:"MUSTER_MQTT_BROKER" help:"Where it is: mqtts://HOST[:PORT], mqtt://, wss:// or ws://. Several, separated by commas, are tried in turn."`
	Username     string   `name:"mqtt-username" group:"broker" placeholder:"NAME" env:"MUSTER_MQTT_USERNAME" help:"User name that the broker asks for."`
	Password     string   `name:"mqtt-password" group:"broker" placeholder:"SECRET" env:"MUSTER_MQTT_PASSWORD" help:"Its password. Better given by the environment or a file: flags can be seen by others."`
	PasswordFile string   `name:"mqtt-password-file" group:"broker" placeholder:"FILE" env:"MUSTER_MQTT_PASSWORD_FILE" help:"File of the password. It and the next three are read for each connection."`
	CA           string   `name:"mqtt-ca" group:"broker" placeholder:"FILE" env:"MUSTER_MQTT_CA" help:"Authorities of the broker's certificate, PEM (default: the system's)."`
	Cert         string   `name:"mqtt-cert" group:"broker" placeholder:"FILE" env:"MUSTER_MQTT_CERT" help:"Certificate to show to the broker, PEM."`
	Key          string   `name:"mqtt-key" group:"broker" placeholder:"FILE" env:"MUSTER_MQTT_KEY" help:"Its private key, PEM."`
	ClientID     string   `name:"mqtt-client-id" group:"broker" placeholder:"ID" env:"MUSTER_MQTT_CLIENT_ID" help:"Client id of this node, which no other may have and which stays over restarts (default: muster- and the name of this machine)."`
	Share        string   `name:"mqtt-share" group:"broker" enum:"auto,on,off" placeholder:"auto|on|off" default:"auto" env:"MUSTER_MQTT_SHARE" help:"Whether several nodes share the requests, by shared subscriptions. auto finds out whether the broker delivers them so; off: one node at a time serves, and the broker keeps requests for it while it restarts (default ${default})."`
	Group        string   `name:"mqtt-group" group:"broker" placeholder:"NAME" default:"muster" env:"MUSTER_MQTT_GROUP" help:"Group of the shared subscriptions, the same for all nodes of one Muster (default ${default})."`
	Version      string   `name:"mqtt-version" group:"broker" enum:"auto,5,3.1.1" placeholder:"auto|5|3.1.1" default:"auto" env:"MUSTER_MQTT_VERSION" help:"Version of MQTT. auto: 5 where the broker speaks it (default ${default})."`
	InFlight     int      `name:"mqtt-in-flight" group:"broker" placeholder:"N" default:"256" env:"MUSTER_MQTT_IN_FLIGHT" help:"Requests taken from the broker at a time; the others wait there (default ${default})."`
}

// broker is what the flags say, and nil if MQTT is spoken inside.
func (c *serveCmd) broker() (*server.Broker, error) {
	f := &c.Broker
	switch {
	case c.MQTT != externalBroker && (len(f.URLs) > 0 || f.Username != "" || f.Password != "" || f.PasswordFile != "" || f.CA != "" || f.Cert != "" || f.Key != "" || f.ClientID != ""):
		return nil, errors.New("--mqtt-broker and what goes with it attach to another broker: say --mqtt external too")
	case c.MQTT != externalBroker:
		return nil, nil
	case len(f.URLs) == 0:
		return nil, errors.New("--mqtt external needs to know where the broker is: --mqtt-broker mqtts://HOST:PORT")
	case c.MQTTS != "":
		return nil, errors.New("--mqtts listens for MQTT, which with --mqtt external is the other broker's: give one of the two")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "1"
	}
	return &server.Broker{URLs: f.URLs, Username: f.Username, Password: f.Password, PasswordFile: f.PasswordFile, CA: f.CA, Cert: f.Cert, Key: f.Key,
		ClientID: cmp.Or(f.ClientID, "muster-"+host), Share: f.Share, Group: f.Group, Version: f.Version, InFlight: f.InFlight}, nil
}

func (f *brokerFlags) where() string { return strings.Join(f.URLs, ", ") }
