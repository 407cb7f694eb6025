package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// grace is how much later than a plain copy a shared one may come, when brokers of a cluster pass it on.
const grace = 2 * time.Second

// ErrNotShared says that sharing is asked for and does not work.
var ErrNotShared = errors.New("the broker does not deliver requests to shared subscriptions")

// probe sends a message around over a connection of its own: brokers may take a subscription and a publish and deliver
// nothing, for their access lists say nothing to the client, and some deliver nothing of $aws/… to shared subscriptions. It
// finds out how requests are to be subscribed, and which version is spoken.
func (r *Remote) probe(ctx context.Context) (shared bool, version byte, err error) {
	version = r.o.Version
	if version == 0 {
		version = V5
	}
	name := random()
	topic := r.o.Probe + "/" + name
	c, _, err := r.dial(ctx, r.o.ClientID+"-probe", version, 0)
	if err != nil {
		return false, 0, err
	}
	came := make(chan string, 16)
	c.catch = func(d *publish) {
		select {
		case came <- string(d.topic):
		default:
		}
	}
	c.start()
	defer c.goodbye()
	if err := c.ask(ctx, tSubscribe, []string{topic + "/plain"}); err != nil {
		return false, 0, err
	}
	var noShare error
	if r.o.Sharing != ShareOff {
		// Its own group, or others of the same would get it.
		noShare = c.ask(ctx, tSubscribe, []string{sharePrefix + r.o.Group + "-" + name + "/" + topic + "/shared"})
		if c.ended() {
			// Rather than refuse, 3.1.1 brokers may hang up; the next attempt must not meet the same.
			return false, 0, fmt.Errorf("the broker has hung up on a shared subscription; it may have none: %w", noShare)
		}
	}
	c.r.mu.Lock()
	for _, kind := range []string{"/shared", "/plain"} {
		o := outgoing{m: &Message{Topic: topic + kind}, topic: topic + kind, qos: min(1, c.maxQoS), id: c.identifier()}
		c.out = o.append(c.out, c.version)
	}
	c.kick()
	c.r.mu.Unlock()

	late := time.NewTimer(r.o.Patience)
	defer late.Stop()
	plain := false
	for !plain || r.o.Sharing != ShareOff && noShare == nil && !shared {
		select {
		case got := <-came:
			if strings.HasSuffix(got, "/plain") {
				plain = true
				late.Reset(min(grace, r.o.Patience))
			} else {
				shared = true
			}
			continue
		case <-late.C:
		case <-c.closing:
			return false, 0, c.err
		case <-ctx.Done():
			return false, 0, ctx.Err()
		}
		break
	}
	switch {
	case !plain:
		return false, 0, fmt.Errorf("the broker has not delivered what was published to %s: does it let this client publish and subscribe there?", topic)
	case !shared && r.o.Sharing == ShareOn:
		return false, 0, errors.Join(ErrNotShared, noShare)
	}
	return shared, c.version, nil
}
