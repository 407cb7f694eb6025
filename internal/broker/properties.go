package broker

import "math"

// The MQTT 5 properties, by identifier.
const (
	pPayloadFormat   = 1
	pMessageExpiry   = 2
	pContentType     = 3
	pResponseTopic   = 8
	pCorrelationData = 9
	pSubscriptionID  = 11
	pSessionExpiry   = 17
	pAssignedID      = 18
	pServerKeepAlive = 19
	pAuthMethod      = 21
	pAuthData        = 22
	pRequestProblem  = 23
	pWillDelay       = 24
	pRequestResponse = 25
	pReasonString    = 31
	pReceiveMaximum  = 33
	pTopicAliasMax   = 34
	pTopicAlias      = 35
	pMaximumQoS      = 36
	pRetainAvailable = 37
	pUser            = 38
	pMaximumPacket   = 39
)

// propSet is a set of property identifiers.
type propSet uint64

func setOf(ids ...uint) propSet {
	var s propSet
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

// Which properties a client may send, by packet. MQTT 5, 2.2.2.2
var (
	inConnect = setOf(pSessionExpiry, pReceiveMaximum, pMaximumPacket, pTopicAliasMax, pRequestResponse,
		pRequestProblem, pUser, pAuthMethod, pAuthData)
	inWill = setOf(pWillDelay, pPayloadFormat, pMessageExpiry, pContentType, pResponseTopic, pCorrelationData, pUser)
	// [MQTT-3.3.4-6]: a client sends no subscription identifier.
	inPublish     = setOf(pPayloadFormat, pMessageExpiry, pTopicAlias, pResponseTopic, pCorrelationData, pUser, pContentType)
	inStored      = inPublish | setOf(pSubscriptionID)
	inSubscribe   = setOf(pSubscriptionID, pUser)
	inUnsubscribe = setOf(pUser)
	inAck         = setOf(pReasonString, pUser)
	inDisconnect  = setOf(pSessionExpiry, pReasonString, pUser)
)

// props is what a packet's properties said. What was not there is zero.
type props struct {
	seen           propSet
	utf8           bool
	problem        bool // request problem information; meaningful when seen
	alias          uint16
	receiveMax     uint16
	aliasMax       uint16
	expiry         uint32
	sessionExpiry  uint32
	willDelay      uint32
	maxPacket      uint32
	subIDs         []uint32
	contentType    string
	responseTopic  string
	authMethod     string
	correlation    []byte
	hasCorrelation bool
	user           []User
}

func (p *props) has(id uint) bool { return p.seen&(1<<id) != 0 }

func (p *props) subID() uint32 {
	if len(p.subIDs) == 0 {
		return 0
	}
	return p.subIDs[0]
}

// read reads the property length and the properties, each of which has to be in allowed.
func (p *props) read(r *reader, allowed propSet) {
	n := int(r.varint()) // [MQTT-2.2.2-1]: there even when it is zero
	if n == 0 || r.bad != nil {
		return
	}
	q := reader{p: r.take(n)}
	if r.bad != nil {
		return
	}
	for q.bad == nil && len(q.p) > 0 {
		p.one(&q, allowed)
	}
	if q.bad != nil {
		r.fail(q.bad)
	}
}

func (p *props) one(r *reader, allowed propSet) {
	id := r.varint()
	if id > 42 || allowed&(1<<id) == 0 {
		r.fail(malformed("property does not belong here"))
		return
	}
	bit := propSet(1) << id
	if p.seen&bit != 0 && id != pUser && !(id == pSubscriptionID && allowed == inStored) {
		r.fail(violation("property given twice"))
		return
	}
	p.seen |= bit
	switch id {
	case pPayloadFormat:
		p.utf8 = p.flag(r)
	case pMessageExpiry:
		p.expiry = r.uint32()
	case pContentType:
		p.contentType = r.text() // [MQTT-3.3.2-19]
	case pResponseTopic:
		p.responseTopic = r.text() // [MQTT-3.3.2-13]
		if r.bad == nil && !validTopic(p.responseTopic) {
			r.fail(refuse(TopicNameInvalid, "response topic")) // [MQTT-3.3.2-14]
		}
	case pCorrelationData:
		p.correlation, p.hasCorrelation = r.binary(), true
	case pSubscriptionID:
		v := r.varint()
		if v == 0 && r.bad == nil {
			r.fail(violation("subscription identifier is zero"))
		}
		p.subIDs = append(p.subIDs, v)
	case pSessionExpiry:
		p.sessionExpiry = r.uint32()
	case pAuthMethod:
		p.authMethod = r.text()
	case pAuthData:
		r.binary()
	case pRequestProblem:
		p.problem = p.flag(r)
	case pRequestResponse:
		p.flag(r)
	case pWillDelay:
		p.willDelay = r.uint32()
	case pReasonString:
		r.text()
	case pReceiveMaximum:
		if p.receiveMax = r.uint16(); p.receiveMax == 0 && r.bad == nil {
			r.fail(violation("receive maximum is zero"))
		}
	case pTopicAliasMax:
		p.aliasMax = r.uint16()
	case pTopicAlias:
		p.alias = r.uint16()
		if p.alias == 0 && r.bad == nil {
			r.fail(refuse(TopicAliasInvalid, "topic alias is zero")) // [MQTT-3.3.2-8]
		}
	case pUser:
		p.user = append(p.user, User{r.text(), r.text()}) // [MQTT-1.5.7-1]
	case pMaximumPacket:
		if p.maxPacket = r.uint32(); p.maxPacket == 0 && r.bad == nil {
			r.fail(violation("maximum packet size is zero"))
		}
	}
}

// flag reads a byte that has to be 0 or 1.
func (p *props) flag(r *reader) bool {
	b := r.byte()
	if b > 1 {
		r.fail(violation("property is neither 0 nor 1"))
	}
	return b == 1
}

// into copies what a publish or a will says of its message.
func (p *props) into(m *Message) {
	m.UTF8 = p.utf8
	m.ContentType = p.contentType
	m.ResponseTopic = p.responseTopic
	if p.hasCorrelation {
		m.CorrelationData = append(make([]byte, 0, len(p.correlation)), p.correlation...)
	}
	m.User = p.user
}

// maxOutgoing is the largest packet a client takes.
func (p *props) maxOutgoing() int {
	if !p.has(pMaximumPacket) {
		return math.MaxInt32
	}
	return int(min(p.maxPacket, math.MaxInt32))
}
