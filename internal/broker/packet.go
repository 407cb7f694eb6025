package broker

import "fmt"

// The control packets, by the upper four bits of the first byte.
const (
	tConnect     = 1
	tConnack     = 2
	tPublish     = 3
	tPuback      = 4
	tPubrec      = 5
	tPubrel      = 6
	tPubcomp     = 7
	tSubscribe   = 8
	tSuback      = 9
	tUnsubscribe = 10
	tUnsuback    = 11
	tPingreq     = 12
	tPingresp    = 13
	tDisconnect  = 14
	tAuth        = 15
)

// Protocol versions, as CONNECT names them.
const (
	V311 = 4
	V5   = 5
)

// A Code is an MQTT 5 reason code. A 3.1.1 client is told the nearest thing its version has.
type Code byte

// The reason codes that the broker sends or understands.
const (
	Success                Code = 0x00
	GrantedQoS1            Code = 0x01
	DisconnectWithWill     Code = 0x04
	NoMatchingSubscribers  Code = 0x10
	NoSubscriptionExisted  Code = 0x11
	UnspecifiedError       Code = 0x80
	MalformedPacket        Code = 0x81
	ProtocolError          Code = 0x82
	ImplementationError    Code = 0x83
	UnsupportedVersion     Code = 0x84
	ClientIDNotValid       Code = 0x85
	BadCredentials         Code = 0x86
	NotAuthorized          Code = 0x87
	ServerUnavailable      Code = 0x88
	ServerBusy             Code = 0x89
	Banned                 Code = 0x8A
	ServerShuttingDown     Code = 0x8B
	BadAuthMethod          Code = 0x8C
	KeepAliveTimeout       Code = 0x8D
	SessionTakenOver       Code = 0x8E
	TopicFilterInvalid     Code = 0x8F
	TopicNameInvalid       Code = 0x90
	ReceiveMaximumExceeded Code = 0x93
	TopicAliasInvalid      Code = 0x94
	PacketTooLarge         Code = 0x95
	MessageRateTooHigh     Code = 0x96
	QuotaExceeded          Code = 0x97
	AdministrativeAction   Code = 0x98
	PayloadFormatInvalid   Code = 0x99
	RetainNotSupported     Code = 0x9A
	QoSNotSupported        Code = 0x9B
	ConnectionRateExceeded Code = 0x9F
	MaximumConnectTime     Code = 0xA0
)

// A Refusal is an error with the reason code to tell the client. Hooks.Connect returns one to choose the
// code; Reason goes to an MQTT 5 client that wants reasons.
type Refusal struct {
	Code   Code
	Reason string
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return fmt.Sprintf("reason code 0x%02X", byte(r.Code))
	}
	return fmt.Sprintf("%s (0x%02X)", r.Reason, byte(r.Code))
}

func refuse(code Code, reason string) *Refusal { return &Refusal{code, reason} }

func malformed(reason string) *Refusal { return refuse(MalformedPacket, reason) }

func violation(reason string) *Refusal { return refuse(ProtocolError, reason) }

// A User is one MQTT 5 user property. Order and repetition are kept.
type User struct{ Key, Value string }

// connect is a CONNECT packet as read. Its byte slices belong to the read buffer.
type connect struct {
	version    byte
	cleanStart bool
	keepAlive  uint16
	clientID   string
	username   string
	hasUser    bool
	password   []byte
	will       *will
	props      props
}

// subscribe is a SUBSCRIBE packet as read.
type subscribe struct {
	id      uint16
	subID   uint32
	filters []wanted
}

// wanted is one filter of a SUBSCRIBE with its options byte.
type wanted struct {
	filter string
	opts   options
}

// options is the options byte of a subscription: QoS, no local, retain as published, retain handling.
type options byte

func (o options) qos() byte       { return byte(o) & 3 }
func (o options) noLocal() bool   { return o&4 != 0 }
func (o options) asPub() bool     { return o&8 != 0 }
func (o options) retaining() byte { return byte(o) >> 4 & 3 }
