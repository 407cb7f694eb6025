package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// A ConnectRequest is what Hooks.Connect decides on.
type ConnectRequest struct {
	ClientID    string // as asked for; empty if the broker is to choose
	Version     byte
	Username    string
	HasUsername bool
	Password    []byte
	CleanStart  bool
	KeepAlive   time.Duration
	Will        *Message // nil: none
	User        []User   // user properties
	Remote      net.Addr
	TLS         *tls.ConnectionState // nil: none
	Conn        ConnInfo
}

// onConnect reads the CONNECT, asks who it is, finds the session and answers.
func (c *Client) onConnect(body []byte, info ConnInfo) *Refusal {
	b := c.b
	k, bad := decodeConnect(body)
	c.Version = k.version
	if k.version != V5 {
		c.Version = V311
	}
	c.reasons = !k.props.has(pRequestProblem) || k.props.problem
	now := b.now()
	given := k.clientID != ""
	if bad == nil {
		bad = c.examine(k)
	}
	if bad == nil && b.arrivals.rate > 0 && !b.arrivals.admit(c.ID, now) {
		bad = refuse(ConnectionRateExceeded, "too many connections of this client id")
	}
	if bad == nil {
		bad = c.authenticate(k, info)
	}
	if bad == nil && k.will != nil {
		bad = c.examineWill(k.will)
	}
	var present bool
	if bad == nil {
		c.rates = newRates(&b.limits, now)
		present, bad = b.attach(c, k)
	}
	if bad != nil {
		// Closed [MQTT-3.1.4-1] [MQTT-3.1.4-2] [MQTT-3.2.2-7] [MQTT3-3.2.2-5], nothing that follows being read
		// [MQTT-3.1.4-6] [MQTT3-3.1.4-5], with a word where there is one for it [MQTT-3.2.2-8] [MQTT3-3.2.2-6], except
		// that 3.1.1 has none for what is no CONNECT [MQTT3-3.1.4-1].
		silent := k.version == 0 || k.version == V311 && (bad.Code == MalformedPacket || bad.Code == ProtocolError)
		if !silent {
			c.conn.Write(appendRefusal(nil, k.version, bad, c.reasons && len(bad.Reason)+16 < k.props.maxOutgoing())) // [MQTT-3.2.2-19]
		}
		return bad
	}
	if bad = c.welcome(k, present, given); bad != nil {
		c.will = nil
		b.leave(c)
	}
	return bad
}

// welcome lets c in.
func (c *Client) welcome(k *connect, present, given bool) *Refusal {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing {
		return refuse(c.code, c.reason)
	}
	// The first packet [MQTT-3.2.0-1] [MQTT3-3.2.0-1] [MQTT-3.1.4-5] [MQTT3-3.1.4-4], and the only CONNACK [MQTT-3.2.0-2].
	ack := c.appendConnack(*outs.Get().(*[]byte), k, present, given)
	if len(ack) > c.maxPacket { // [MQTT-3.1.2-24]
		c.closing = true
		return refuse(PacketTooLarge, "CONNACK is larger than the client's maximum")
	}
	c.out = ack
	c.ready = true
	c.release()
	s.pump() // [MQTT-4.4.0-1] [MQTT3-4.4.0-1]: what was under way first, with the identifiers it had
	return nil
}

// examine checks what needs nobody's opinion.
func (c *Client) examine(k *connect) *Refusal {
	l := &c.b.limits
	switch {
	case len(k.clientID) > l.ClientID:
		return refuse(ClientIDNotValid, "client id is too long") // [MQTT-3.1.3-8] [MQTT3-3.1.3-9]
	case k.clientID == "" && k.version == V311 && !k.cleanStart:
		return refuse(ClientIDNotValid, "") // [MQTT3-3.1.3-7] [MQTT3-3.1.3-8]
	case k.props.authMethod != "":
		return refuse(BadAuthMethod, "no enhanced authentication") // [MQTT-4.12.0-1]
	}
	c.ID = k.clientID // of any characters [MQTT-3.1.3-5] [MQTT3-3.1.3-5]
	if c.ID == "" {
		c.ID = "auto-" + rand.Text() // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT3-3.1.3-6]
	}
	c.keepAlive = l.keepAlive(k.version, time.Duration(k.keepAlive)*time.Second)
	c.window = l.window(k.props.receiveMax)
	c.maxPacket = k.props.maxOutgoing()
	c.aliasMax = min(int(k.props.aliasMax), l.TopicAliases)
	c.sessionUp = k.props.sessionExpiry > 0
	return nil
}

func (c *Client) authenticate(k *connect, info ConnInfo) *Refusal {
	hook := c.b.hooks.Connect
	if hook == nil {
		return nil
	}
	q := &ConnectRequest{
		ClientID: k.clientID, Version: k.version, Username: k.username, HasUsername: k.hasUser, Password: k.password,
		CleanStart: k.cleanStart, KeepAlive: time.Duration(k.keepAlive) * time.Second, User: k.props.user,
		Remote: c.Remote, TLS: info.TLS, Conn: info,
	}
	if k.will != nil {
		q.Will = k.will.m
	}
	ctx, cancel := context.WithTimeout(c.b.ctx, c.b.limits.ConnectTimeout)
	defer cancel()
	identity, err := hook(ctx, q)
	if err == nil {
		c.Identity = identity
		return nil
	}
	var bad *Refusal
	if errors.As(err, &bad) {
		return bad
	}
	c.b.log.Debug("client not authenticated", "client", k.clientID, "remote", c.Remote, "error", err)
	return refuse(NotAuthorized, "")
}

// examineWill holds a will against what its publish would be held against.
func (c *Client) examineWill(w *will) *Refusal {
	l := &c.b.limits
	switch {
	case w.m.QoS > 1:
		return refuse(QoSNotSupported, "will of QoS 2") // [MQTT-3.2.2-12]
	case !l.fits(w.m.Topic):
		return refuse(TopicNameInvalid, "will topic is too long")
	case len(w.m.Payload) > l.Payload:
		return refuse(PacketTooLarge, "will is too large")
	case w.m.Retain && w.m.Topic[0] == '$':
		return refuse(RetainNotSupported, "no retained messages below $") // [MQTT-3.2.2-13]
	case c.b.hooks.Publish != nil && !c.b.hooks.Publish(c, w.m.Topic):
		return refuse(NotAuthorized, "will topic")
	}
	w.expiry = uint32(min(uint64(w.expiry), uint64(l.MessageExpiry/time.Second)))
	return nil
}

// attach gives c its session, which it takes over from whoever has it. When it returns the session is stored,
// if it is one that lasts.
func (b *Broker) attach(c *Client, k *connect) (present bool, bad *Refusal) {
	expiry := k.props.sessionExpiry
	if k.version == V311 {
		if expiry = never; k.cleanStart {
			expiry = 0 // [MQTT3-3.1.2-6]
		}
	}
	expiry = b.limits.expiry(expiry)
	c.will = k.will // [MQTT-3.1.2-7] [MQTT3-3.1.2-8]
	c.hold = true

	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return false, refuse(ServerShuttingDown, "")
	}
	s := b.sessions[c.ID] // [MQTT-3.1.3-2] [MQTT3-3.1.3-2]
	var last *will
	var orphans []element
	from := s
	gone := absent(s) // whose will it is, when nobody is displaced
	if s != nil {
		s.mu.Lock()
		if displaced := s.client; displaced != nil {
			// [MQTT-3.1.4-3] [MQTT3-3.1.4-2]
			displaced.shut(SessionTakenOver, "another connection has this client id")
			last, orphans = s.away(displaced)
			gone = displaced
		}
		switch {
		case s.dead:
		case k.cleanStart:
			// [MQTT-3.1.4-4] [MQTT-3.1.2-4] [MQTT3-3.1.4-3] [MQTT3-3.1.2-6]; a will that waits is due with its session's end
			if s.will != nil {
				last = s.will
			}
			orphans = s.end()
		}
		if s.dead {
			s.mu.Unlock()
			s = nil
		}
	}
	if s == nil {
		if len(b.sessions) >= b.limits.Sessions {
			b.mu.Unlock()
			b.adopt(from, orphans)
			b.publishWill(gone, last)
			return false, refuse(QuotaExceeded, "too many sessions")
		}
		b.number++ // [MQTT-3.1.2-6] [MQTT3-3.1.2-4]: a new one where there is none
		s = &session{b: b, id: c.ID, number: b.number}
		s.mu.Lock()
		b.sessions[c.ID] = s
	} else {
		present = true // [MQTT-3.1.2-5] [MQTT3-3.1.2-4]
		for _, t := range []*time.Timer{s.ending, s.willing} {
			if t != nil {
				t.Stop()
			}
		}
		s.ending, s.willing, s.will = nil, nil, nil // [MQTT-3.1.3-9]: no will if it is back in time
	}
	s.expiry = expiry
	s.client, c.s, s.identity = c, s, c.Identity
	s.online.Store(true)
	s.lastID = 0
	var kept *batch
	if b.journal != nil && present {
		s.load(true)
	}
	if b.journal != nil && (present || expiry > 0) {
		// A session that did not last until now must be known before it is promised; one that did is.
		kept = b.journal.put(sessionKey(s.id), entry{value: s.record()}, !present)
		if present {
			kept = nil
		}
	}
	s.mu.Unlock()
	b.mu.Unlock()

	b.adopt(from, orphans)
	b.publishWill(gone, last)
	if err := kept.wait(); err != nil {
		b.log.Error("session not stored", "client", c.ID, "error", err)
		c.will = nil
		b.leave(c)
		return false, refuse(ServerUnavailable, "")
	}
	return present, nil
}

// appendConnack appends the CONNACK that lets c in.
func (c *Client) appendConnack(b []byte, k *connect, present, given bool) []byte {
	var session byte
	if present {
		session = 1 // [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]
	}
	if c.Version == V311 {
		return append(b, tConnack<<4, 2, session, 0)
	}
	l := &c.b.limits
	p := make([]byte, 0, 64)
	if asked := k.props.sessionExpiry; c.s.expiry != asked {
		p = binary.BigEndian.AppendUint32(append(p, pSessionExpiry), c.s.expiry)
	}
	p = binary.BigEndian.AppendUint16(append(p, pReceiveMaximum), uint16(l.Unacknowledged))
	p = append(p, pMaximumQoS, 1) // [MQTT-3.2.2-9]
	p = binary.BigEndian.AppendUint32(append(p, pMaximumPacket), uint32(l.Packet))
	if !given {
		p = appendTextProp(p, pAssignedID, c.ID) // [MQTT-3.2.2-16]
	}
	// No response information [MQTT-3.1.2-28], user property [MQTT-3.2.2-20] or authentication method [MQTT-4.12.0-6].
	if l.TopicAliases > 0 {
		p = binary.BigEndian.AppendUint16(append(p, pTopicAliasMax), uint16(l.TopicAliases))
	}
	if c.keepAlive != time.Duration(k.keepAlive)*time.Second {
		p = binary.BigEndian.AppendUint16(append(p, pServerKeepAlive), uint16(c.keepAlive/time.Second)) // else the client's own holds [MQTT-3.2.2-22]
	}
	b = appendVarint(append(b, tConnack<<4), 2+varintSize(len(p))+len(p))
	b = appendVarint(append(b, session, byte(Success)), len(p))
	return append(b, p...)
}
