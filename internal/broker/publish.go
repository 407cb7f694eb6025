package broker

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// onPublish obeys a PUBLISH: resolves, checks, lets it be intercepted or routes it, and acknowledges.
func (c *Client) onPublish(first byte, p []byte) *Refusal {
	b := c.b
	var d publish
	if bad := decodePublish(&d, first, p, c.Version, inPublish); bad != nil {
		return bad
	}
	if d.qos == 2 {
		return refuse(QoSNotSupported, "QoS 2") // [MQTT-3.2.2-11]
	}
	topic, bad := c.resolve(&d)
	if bad != nil {
		return bad
	}
	now := b.now()
	switch {
	case len(d.payload) > b.limits.Payload:
		return refuse(PacketTooLarge, "payload is too large")
	case d.retain && topic[0] == '$':
		return refuse(RetainNotSupported, "no retained messages below $")
	case d.props.utf8 && !utf8.Valid(d.payload):
		return c.decline(&d, PayloadFormatInvalid, "payload is not UTF-8")
	case b.hooks.Publish != nil && !b.hooks.Publish(c, topic):
		return c.decline(&d, NotAuthorized, "") // [MQTT3-3.3.5-2]
	}
	if wait := c.rates.take(len(d.payload), now); wait > 0 {
		if !c.flush() {
			return nil
		}
		<-time.After(wait) // nothing is read meanwhile, so the client is slowed down
		now = b.now()
	}
	m := &Message{Topic: topic, Payload: d.payload, QoS: d.qos, Retain: d.retain, borrowed: true}
	d.props.into(m)
	if d.props.has(pMessageExpiry) {
		m.Expires = now.Add(min(time.Duration(d.props.expiry)*time.Second, b.limits.MessageExpiry) + instant)
	}
	if b.intercepts(topic) && c.intercept(m, d.id) {
		return nil
	}
	r := b.route(m, c.s)
	if b.hooks.Published != nil {
		b.hooks.Published(m)
	}
	if err := r.wait(b, "publish", c.ID); err != nil {
		// [MQTT-4.3.2-4] [MQTT3-4.3.2-2]: no PUBACK for what could not be accepted
		return c.decline(&d, UnspecifiedError, "message not stored")
	}
	if d.qos == 0 {
		return nil
	}
	code := Success
	switch {
	case r.full:
		code = QuotaExceeded
	case r.receivers == 0:
		code = NoMatchingSubscribers
	}
	// [MQTT-3.3.4-1] [MQTT3-3.3.4-1], after the fact [MQTT-4.3.2-4] [MQTT3-4.3.2-2], in order [MQTT-4.6.0-2] [MQTT3-4.6.0-2]. What comes
	// with the same identifier from now on is another message, DUP or not [MQTT-4.3.2-5].
	c.acknowledge(d.id, code, "")
	return nil
}

// resolve returns the topic of a PUBLISH, by its alias if need be.
func (c *Client) resolve(d *publish) (string, *Refusal) {
	alias := int(d.props.alias)
	if alias > c.b.limits.TopicAliases {
		return "", refuse(TopicAliasInvalid, "topic alias is too large") // [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18]
	}
	if len(d.topic) == 0 && alias > 0 {
		if alias > len(c.aliases) || c.aliases[alias-1] == "" {
			return "", violation("topic alias is not known") // [MQTT-3.3.2-7]
		}
		return c.aliases[alias-1], nil // [MQTT-3.3.2-12]
	}
	t := view(d.topic)
	if t == "" || t != c.topic {
		switch {
		case t == "" && c.Version == V5:
			return "", violation("neither topic nor alias") // [MQTT-3.3.2-8]
		case !validTopic(t) || !c.b.limits.fits(t):
			return "", refuse(TopicNameInvalid, "topic is not valid or too long")
		}
		c.topic = string(d.topic)
	}
	if alias > 0 {
		if c.aliases == nil {
			c.aliases = make([]string, c.b.limits.TopicAliases)
		}
		c.aliases[alias-1] = c.topic
	}
	return c.topic, nil
}

// decline refuses a message: an MQTT 5 client learns it from the PUBACK, any other by the end of the connection.
func (c *Client) decline(d *publish, code Code, reason string) *Refusal {
	if c.Version == V311 || d.qos == 0 {
		return refuse(code, reason)
	}
	c.acknowledge(d.id, code, reason)
	return nil
}

// acknowledge answers with one of the codes that a PUBACK may have. [MQTT-3.4.2-1]
func (c *Client) acknowledge(id uint16, code Code, reason string) {
	if !c.reasons || len(reason)+12 > c.maxPacket {
		reason = "" // [MQTT-3.1.2-29] [MQTT-3.4.2-2]; and no user property [MQTT-3.4.2-3]
	}
	c.s.mu.Lock()
	if !c.closing {
		p := c.sink()
		*p = appendAck(*p, c.Version, id, code, reason)
	}
	c.s.mu.Unlock()
}

func (b *Broker) intercepts(topic string) bool {
	return b.hooks.Intercept != nil && strings.HasPrefix(topic, b.hooks.InterceptPrefix)
}

// intercept offers m to the hook. Answers come to lie behind the PUBACK and before what others send meanwhile;
// all of it leaves in one write.
func (c *Client) intercept(m *Message, id uint16) (handled bool) {
	s := c.s
	s.mu.Lock()
	if len(c.out) > 0 && !c.writing {
		// The answer to the request before this one need not wait for this one's.
		c.writing = true
		c.write()
	}
	if c.closing {
		s.mu.Unlock()
		return true
	}
	c.hold = true
	s.mu.Unlock()
	handled = c.b.hooks.Intercept(c, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closing {
		return handled
	}
	if handled && m.QoS > 0 {
		c.hold = false
		p := c.sink()
		*p = appendAck(*p, c.Version, id, Success, "")
	}
	c.release()
	if len(s.waiting) > 0 {
		s.pump()
	}
	return handled
}

// routed is what became of a message.
type routed struct {
	receivers int
	full      bool // was to be retained, and could not be
	batches   []*batch
}

func (r *routed) add(k *batch) {
	if k != nil && (len(r.batches) == 0 || r.batches[len(r.batches)-1] != k) {
		r.batches = append(r.batches, k)
	}
}

// wait waits until all that has to be durable is.
func (r *routed) wait(b *Broker, what, client string) error {
	for _, k := range r.batches {
		if err := k.wait(); err != nil {
			b.log.Error("message not stored", "what", what, "client", client, "error", err)
			return err
		}
	}
	return nil
}

var matches = sync.Pool{New: func() any { s := make([]*subscription, 0, 16); return &s }}

// route retains m if it says so, and delivers it to whoever subscribes it. from is the publisher's session, or nil.
// [MQTT-4.5.0-1] [MQTT3-4.5.0-1]
func (b *Broker) route(m *Message, from *session) *routed {
	r := &routed{}
	if m.Retain { // else what is retained stays as it is [MQTT-3.3.1-8] [MQTT3-3.3.1-12]
		k, ok := b.retained.keep(m)
		r.full = !ok
		r.add(k)
	}
	p := matches.Get().(*[]*subscription)
	list, several := b.index.match((*p)[:0], m.Topic, m.QoS)
	if several && len(list) > 1 {
		slices.SortFunc(list, func(x, y *subscription) int { return cmp.Compare(x.s.number, y.s.number) })
	}
	r.receivers = len(list)
	for i := 0; i < len(list); {
		n := i + 1
		for n < len(list) && list[n].s == list[i].s {
			n++
		}
		r.add(list[i].s.deliver(m, list[i:n], from))
		i = n
	}
	clear(list)
	if cap(list) <= 1024 {
		*p = list[:0]
		matches.Put(p)
	}
	return r
}
