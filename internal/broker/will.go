package broker

import "time"

// will is what is published when a connection ends without a goodbye.
type will struct {
	m       *Message
	delay   uint32 // seconds after the connection
	expiry  uint32 // of the message, from its publication
	expires bool
}

// publishWill publishes the will of a client that has gone, if there is one. It passes where any publish of
// that client's would; whether the client may publish there was settled when it connected.
// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT3-3.1.2-8] [MQTT3-3.1.2-10]: once. Where there is none, none is [MQTT3-3.1.2-12].
func (b *Broker) publishWill(c *Client, w *will) {
	if w == nil {
		return
	}
	m := *w.m // retained as it says [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT3-3.1.2-16] [MQTT3-3.1.2-17], its properties in order [MQTT-3.1.3-10]
	if w.expires {
		m.Expires = b.now().Add(time.Duration(w.expiry)*time.Second + instant)
	}
	if b.intercepts(m.Topic) {
		if c.Identity == nil && b.hooks.Connect != nil {
			b.log.Warn("will dropped: whose it was is not known after a restart", "client", c.ID, "topic", m.Topic)
			return
		}
		if b.hooks.Intercept(c, &m) {
			return
		}
	}
	b.route(&m, nil).wait(b, "will", c.ID)
}
