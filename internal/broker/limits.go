package broker

import (
	"math"
	"sync"
	"time"
)

// Limits bounds what a client may ask of the broker and make it hold. A zero field takes the default
// beside it; where "none" is offered, a negative field means no limit.
type Limits struct {
	// Formats: what is longer is refused.
	Topic         int // bytes of a topic or filter: 256
	Slashes       int // slashes in a topic or filter, without $share/group/: 7; never more than 30
	Payload       int // bytes: 128 KiB
	Packet        int // bytes of a packet, told to MQTT 5 clients: 146 KiB
	ClientID      int // bytes: 128
	Filters       int // per SUBSCRIBE or UNSUBSCRIBE: 8
	Subscriptions int // per client: 50

	// Flow.
	Unacknowledged int           // QoS 1 messages under way, each way: 100
	TopicAliases   int           // each way: 8; negative: none
	KeepAliveMin   time.Duration // 30 s, for MQTT 5, which can be told
	KeepAliveMax   time.Duration // 1200 s, also for a client that asks for no keep-alive
	SessionExpiry  time.Duration // the longest a session outlives its connection: 1 h; negative: no cap
	MessageExpiry  time.Duration // the longest message expiry taken from a client: 604 800 s; negative: no cap
	ConnectTimeout time.Duration // from accept to CONNECT, TLS included: 10 s
	WriteTimeout   time.Duration // a socket that takes nothing for this long is closed: 30 s

	// What is held for one client.
	Queue      int // QoS 1 messages waiting or unacknowledged: 1,000; the oldest waiting one gives way
	QueueBytes int // and their bytes: 1 MiB
	Buffer     int // bytes on their way to a slow socket: 256 KiB; QoS 0 beyond is dropped, QoS 1 waits in the queue

	// What is held for all.
	Retained      int // retained messages: 100,000
	RetainedBytes int // and their bytes: 64 MiB
	Held          int // bytes of queued messages in memory, all clients together: 1 GiB; beyond, queues count as full
	Sessions      int // sessions, connected or away: 4,000,000
	Connections   int // at once: none

	// Rates, all off unless set.
	PublishRate float64 // publishes per second per connection, in and out together
	ByteRate    float64 // payload bytes per second per connection, in and out together
	ConnectRate float64 // CONNECTs per second of one client id
}

func (l Limits) withDefaults() Limits {
	number := func(p *int, d int) {
		switch {
		case *p == 0:
			*p = d
		case *p < 0:
			*p = math.MaxInt32
		}
	}
	span := func(p *time.Duration, d time.Duration) {
		switch {
		case *p == 0:
			*p = d
		case *p < 0:
			*p = math.MaxInt64
		}
	}
	number(&l.Topic, 256)
	number(&l.Slashes, 7)
	number(&l.Payload, 128<<10)
	number(&l.Packet, 146<<10)
	number(&l.ClientID, 128)
	number(&l.Filters, 8)
	number(&l.Subscriptions, 50)
	number(&l.Unacknowledged, 100)
	number(&l.Queue, 1000)
	number(&l.QueueBytes, 1<<20)
	number(&l.Buffer, 256<<10)
	number(&l.Retained, 100_000)
	number(&l.RetainedBytes, 64<<20)
	number(&l.Held, 1<<30)
	number(&l.Sessions, 4_000_000)
	number(&l.Connections, math.MaxInt32)
	switch {
	case l.TopicAliases == 0:
		l.TopicAliases = 8
	case l.TopicAliases < 0:
		l.TopicAliases = 0
	}
	l.TopicAliases = min(l.TopicAliases, 255)
	l.Slashes = min(l.Slashes, maxLevels-1)
	l.Topic = min(l.Topic, 65535)
	l.Packet = min(l.Packet, maxRemaining)
	l.Unacknowledged = min(l.Unacknowledged, 65535)
	l.Queue = max(l.Queue, l.Unacknowledged)
	span(&l.KeepAliveMin, 30*time.Second)
	span(&l.KeepAliveMax, 1200*time.Second)
	span(&l.SessionExpiry, time.Hour)
	span(&l.MessageExpiry, 604800*time.Second)
	span(&l.ConnectTimeout, 10*time.Second)
	span(&l.WriteTimeout, 30*time.Second)
	l.KeepAliveMin = min(l.KeepAliveMin, 65535*time.Second)
	l.KeepAliveMax = min(l.KeepAliveMax, 65535*time.Second)
	l.ConnectTimeout = min(l.ConnectTimeout, time.Hour)
	l.WriteTimeout = min(l.WriteTimeout, time.Hour)
	return l
}

// never is a session expiry of "no end". MQTT 5, 3.1.2.11.2
const never = math.MaxUint32

// expiry caps a client's session expiry interval.
func (l *Limits) expiry(seconds uint32) uint32 {
	if l.SessionExpiry == math.MaxInt64 {
		return seconds
	}
	return min(seconds, uint32(min(l.SessionExpiry/time.Second, never)))
}

// keepAlive returns the interval that holds for a client that asked for asked.
func (l *Limits) keepAlive(version byte, asked time.Duration) time.Duration {
	switch {
	case asked == 0 || asked > l.KeepAliveMax:
		return l.KeepAliveMax
	case asked < l.KeepAliveMin && version == V5:
		// A 3.1.1 client cannot be told of another interval, so its own holds. [MQTT3-3.1.2-24]
		return l.KeepAliveMin
	}
	return asked
}

// bucket is a token bucket that holds one second's worth. The zero bucket with a zero rate never refuses.
type bucket struct {
	rate   float64
	tokens float64
	last   time.Time
}

func newBucket(rate float64, now time.Time) bucket {
	return bucket{rate: rate, tokens: max(rate, 1), last: now}
}

// take takes n tokens, going into debt, and returns how long until the debt is paid.
func (k *bucket) take(n float64, now time.Time) time.Duration {
	if k.rate <= 0 {
		return 0
	}
	k.tokens = min(max(k.rate, 1), k.tokens+now.Sub(k.last).Seconds()*k.rate)
	k.last = now
	k.tokens -= n
	if k.tokens >= 0 {
		return 0
	}
	return time.Duration(-k.tokens / k.rate * float64(time.Second))
}

// rates are one connection's buckets; nil when no rate is set.
type rates struct {
	mu       sync.Mutex
	messages bucket
	bytes    bucket
}

func newRates(l *Limits, now time.Time) *rates {
	if l.PublishRate <= 0 && l.ByteRate <= 0 {
		return nil
	}
	return &rates{messages: newBucket(l.PublishRate, now), bytes: newBucket(l.ByteRate, now)}
}

// take accounts for a publish of size bytes and returns how long the connection has to pause.
func (r *rates) take(size int, now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.messages.take(1, now), r.bytes.take(float64(size), now))
}

// room reports whether a QoS 0 message may go out now, and accounts for it if so.
func (r *rates) room(size int, now time.Time) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range []*bucket{&r.messages, &r.bytes} {
		if k.rate > 0 && k.tokens+now.Sub(k.last).Seconds()*k.rate < 0 {
			return false
		}
	}
	r.messages.take(1, now)
	r.bytes.take(float64(size), now)
	return true
}

// arrivals limits how often one client id connects. It forgets ids that have been quiet for a second's worth.
type arrivals struct {
	mu   sync.Mutex
	rate float64
	by   map[string]*bucket
}

// admit reports whether id may connect now.
func (a *arrivals) admit(id string, now time.Time) bool {
	if a.rate <= 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.by[id]
	if k == nil {
		if a.by == nil {
			a.by = map[string]*bucket{}
		}
		if len(a.by) >= 10_000 {
			for id, k := range a.by {
				if now.Sub(k.last).Seconds()*a.rate >= 1 {
					delete(a.by, id)
				}
			}
		}
		fresh := newBucket(a.rate, now)
		k = &fresh
		a.by[id] = k
	}
	if k.tokens+now.Sub(k.last).Seconds()*k.rate < 1 {
		return false
	}
	k.take(1, now)
	return true
}
