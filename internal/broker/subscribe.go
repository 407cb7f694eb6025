package broker

import "slices"

// onSubscribe obeys a SUBSCRIBE: grants what may be granted, keeps it, and says so in one SUBACK before the
// retained messages. Several filters are as several packets with one SUBACK [MQTT-3.8.4-5] [MQTT3-3.8.4-4], which has a code for each
// [MQTT-3.8.4-6] [MQTT3-3.8.4-5], in their order [MQTT-3.9.3-1] [MQTT3-3.9.3-1].
func (c *Client) onSubscribe(p []byte) *Refusal {
	q, bad := decodeSubscribe(p, c.Version)
	if bad != nil {
		return bad
	}
	if len(q.filters)+10 > c.maxPacket {
		return refuse(PacketTooLarge, "SUBACK would be larger than the client's maximum") // [MQTT-3.1.2-24]
	}
	b, s := c.b, c.s
	codes := make([]byte, len(q.filters)) // one for each, in their order
	shares := make([]string, len(q.filters))
	fresh := make([]bool, len(q.filters))
	for i := range q.filters {
		shares[i], codes[i] = c.allow(&q.filters[i], len(q.filters))
	}
	s.mu.Lock()
	if s.client != c {
		s.mu.Unlock()
		return nil // the session has moved on
	}
	var changed bool
	for i, w := range q.filters {
		if codes[i] >= 0x80 {
			continue
		}
		at := s.find(shares[i], w.filter)
		if at >= 0 { // [MQTT-3.8.4-3] [MQTT3-3.8.4-3]: replaced, and no message lost [MQTT-3.8.4-4]
			s.subs[at].opts, s.subs[at].id = w.opts, q.subID
			changed = true
			continue
		}
		if len(s.subs) >= b.limits.Subscriptions {
			codes[i] = c.failure(QuotaExceeded)
			continue
		}
		u := &subscription{s: s, filter: w.filter, id: q.subID, opts: w.opts}
		if cap(s.subs) == len(s.subs) {
			s.subs = slices.Grow(s.subs, 3)
		}
		s.subs = append(s.subs, u)
		b.index.add(u, shares[i])
		changed, fresh[i] = true, true
	}
	var kept *batch
	if changed && s.stores() {
		kept = b.journal.put(sessionKey(s.id), entry{value: s.record()}, true)
	}
	s.mu.Unlock()
	if err := kept.wait(); err != nil {
		b.log.Error("subscriptions not stored", "client", c.ID, "error", err)
		c.undo(q, shares, fresh, codes)
	}
	s.mu.Lock()
	if !c.closing {
		p := c.sink()
		*p = appendCodes(*p, tSuback, c.Version, q.id, codes) // [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT3-3.8.4-1] [MQTT3-3.8.4-2]
	}
	s.mu.Unlock()
	for i, w := range q.filters {
		// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT3-3.3.1-6]; none for shared ones
		if codes[i] < 0x80 && shares[i] == "" && (w.opts.retaining() == 0 || w.opts.retaining() == 1 && fresh[i]) {
			c.sendRetained(w, q.subID)
		}
	}
	if told := b.hooks.Subscribed; told != nil {
		var granted []string
		for i, w := range q.filters {
			switch {
			case codes[i] >= 0x80:
			case shares[i] != "":
				granted = append(granted, sharePrefix+shares[i]+"/"+w.filter)
			default:
				granted = append(granted, w.filter)
			}
		}
		if granted != nil {
			told(c, granted)
		}
	}
	return nil
}

// allow returns the share name and the reason code of a filter, and settles its QoS.
func (c *Client) allow(w *wanted, n int) (share string, code byte) {
	b := c.b
	if w.opts.qos() == 2 {
		w.opts = w.opts&^3 | 1 // taken [MQTT-3.2.2-10], and granted less [MQTT-3.8.4-7] [MQTT3-3.8.4-6]
	}
	share, inner, ok := SplitShare(w.filter)
	switch {
	case n > b.limits.Filters:
		return "", c.failure(QuotaExceeded)
	case !ok || !validFilter(inner) || !b.limits.fits(inner) || len(share) > b.limits.Topic:
		return "", c.failure(TopicFilterInvalid)
	case b.hooks.Subscribe != nil && !b.hooks.Subscribe(c, inner):
		return "", c.failure(NotAuthorized)
	}
	w.filter = inner
	return share, w.opts.qos()
}

// failure is how a SUBACK says no. [MQTT-3.9.3-2] [MQTT3-3.9.3-2]
func (c *Client) failure(code Code) byte {
	if c.Version == V311 {
		return 0x80
	}
	return byte(code)
}

// find returns where s has a subscription, or -1. mu is held. [MQTT-3.10.4-1] [MQTT3-3.10.4-1]: character by
// character.
func (s *session) find(share, filter string) int {
	return slices.IndexFunc(s.subs, func(u *subscription) bool {
		return u.filter == filter && (u.group == nil) == (share == "") && (share == "" || u.group.name == share)
	})
}

// unsubscribe removes the subscription at a place.
func (s *session) unsubscribe(at int) {
	s.b.index.remove(s.subs[at])
	s.subs = slices.Delete(s.subs, at, at+1)
}

// undo takes back subscriptions that could not be kept.
func (c *Client) undo(q subscribe, shares []string, fresh []bool, codes []byte) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range codes {
		if codes[i] >= 0x80 {
			continue
		}
		codes[i] = c.failure(UnspecifiedError)
		if at := s.find(shares[i], q.filters[i].filter); at >= 0 && fresh[i] && !s.dead {
			s.unsubscribe(at)
		}
	}
	if s.stores() && !s.dead {
		s.b.journal.put(sessionKey(s.id), entry{value: s.record()}, false)
	}
}

// onUnsubscribe obeys an UNSUBSCRIBE.
func (c *Client) onUnsubscribe(p []byte) *Refusal {
	id, filters, bad := decodeUnsubscribe(p, c.Version)
	if bad != nil {
		return bad
	}
	if len(filters)+10 > c.maxPacket {
		return refuse(PacketTooLarge, "UNSUBACK would be larger than the client's maximum") // [MQTT-3.1.2-24]
	}
	s := c.s
	codes := make([]byte, len(filters))
	s.mu.Lock()
	if s.client != c {
		s.mu.Unlock()
		return nil
	}
	var gone []string
	for i, f := range filters {
		share, inner, ok := SplitShare(f)
		switch at := s.find(share, inner); {
		case !ok || !validFilter(inner):
			codes[i] = byte(TopicFilterInvalid)
		case at < 0:
			codes[i] = byte(NoSubscriptionExisted)
		default:
			// [MQTT-3.10.4-2] [MQTT3-3.10.4-2]: nothing more is added. What is under way is completed [MQTT-3.10.4-3] [MQTT3-3.10.4-3].
			s.unsubscribe(at)
			gone = append(gone, f)
		}
	}
	var kept *batch
	if gone != nil && s.stores() {
		kept = c.b.journal.put(sessionKey(s.id), entry{value: s.record()}, true)
	}
	s.mu.Unlock()
	if err := kept.wait(); err != nil {
		c.b.log.Error("subscriptions not stored", "client", c.ID, "error", err)
	}
	if c.Version == V311 {
		codes = nil
	}
	s.mu.Lock()
	if !c.closing {
		p := c.sink()
		// [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
		// [MQTT3-3.10.4-4] [MQTT3-3.10.4-5] [MQTT3-3.10.4-6]
		*p = appendCodes(*p, tUnsuback, c.Version, id, codes)
	}
	s.mu.Unlock()
	if told := c.b.hooks.Unsubscribed; told != nil && gone != nil {
		told(c, gone)
	}
	return nil
}
