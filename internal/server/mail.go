package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster/internal/awsapi"
	"muster/internal/broker"
	"muster/internal/store"
)

// mail carries what the clients of this node publish, and what is told of their comings and goings, to the clients of
// others: by the feed, some at a time. It is sent while anybody but this node is there to read it, as far as there is room;
// topics below $aws/things are each node's own affair.
type mail struct {
	store store.Shared
	log   *slog.Logger

	mu      sync.Mutex
	waiting []store.Message
	lost    int
	wake    chan struct{}
}

const (
	mailWaiting = 4096 // messages that may wait; further ones do not reach other nodes
	mailAtOnce  = 256
)

func newMail(s store.Shared, log *slog.Logger) *mail {
	return &mail{store: s, log: log, wake: make(chan struct{}, 1)}
}

func (m *mail) published(p *broker.Message) {
	m.send(store.Message{Topic: p.Topic, Payload: string(p.Payload), QoS: p.QoS})
}

func (m *mail) tell(p awsapi.Publication) {
	m.send(store.Message{Topic: p.Topic, Payload: string(p.Payload), QoS: p.QoS})
}

func (m *mail) send(x store.Message) {
	m.mu.Lock()
	if len(m.waiting) < mailWaiting {
		m.waiting = append(m.waiting, x)
	} else {
		m.lost++
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run sends what waits until ctx ends.
func (m *mail) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		for m.some(ctx) {
		}
	}
}

// some sends some of what waits, and reports whether there is more.
func (m *mail) some(ctx context.Context) bool {
	m.mu.Lock()
	n := min(len(m.waiting), mailAtOnce)
	batch := m.waiting[:n:n]
	m.waiting = m.waiting[n:]
	lost := m.lost
	m.lost = 0
	m.mu.Unlock()
	if lost > 0 {
		m.log.Warn("messages of clients did not reach the other nodes: too many at once", "messages", lost)
	}
	if n == 0 {
		return false
	}
	if m.store.Lonely() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := m.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		for _, x := range batch {
			tx.Put(x)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		m.log.Warn("messages of clients did not reach the other nodes", "messages", n, "error", err)
	}
	return true
}
