package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// A herd of clients that come back at once asks for more handshakes than the CPUs can do. Done all together, each
// would take as long as all of them, so that clients give up and come again. So a bounded number are under way; who
// comes beyond waits, having sent its hello, and nobody counts that time against it.

const (
	// turnsPerCPU bounds the handshakes under way.
	turnsPerCPU = 256
	// turnFor is the longest that one counts. Its client may take longer to do its part, though a small device needs a second
	// or two; what that costs is memory, not CPU. It is also what a client can keep others waiting by doing nothing.
	turnFor = 3 * time.Second
	// helloTimeout bounds how long a client may take to begin, and finishTimeout to do its part once it has had its turn.
	helloTimeout  = 30 * time.Second
	finishTimeout = 30 * time.Second
	// turnPatience is how long one waits for its turn.
	turnPatience = 2 * time.Minute
)

// turns hold one for each handshake under way; nil: any number may be.
type turns chan struct{}

// A handshake is one client's way through TLS.
type handshake struct {
	turns turns
	late  *time.Timer // ends it
	ended <-chan struct{}

	mu    sync.Mutex
	taken bool // a place of turns is held
	over  *time.Timer
}

var errNoTurn = errors.New("no turn for this handshake")

func beginHandshake(t turns, raw net.Conn, ended <-chan struct{}) *handshake {
	return &handshake{turns: t, ended: ended, late: time.AfterFunc(helloTimeout, func() { raw.Close() })}
}

// take waits for the handshake's turn.
func (h *handshake) take() error {
	if !h.late.Stop() {
		return errNoTurn
	}
	if h.turns != nil {
		patience := time.NewTimer(turnPatience)
		defer patience.Stop()
		select {
		case h.turns <- struct{}{}:
		case <-patience.C:
			return errNoTurn
		case <-h.ended:
			return errNoTurn
		}
		h.mu.Lock()
		h.taken, h.over = true, time.AfterFunc(turnFor, h.leave)
		h.mu.Unlock()
	}
	h.late.Reset(finishTimeout)
	return nil
}

// leave gives the place back, once.
func (h *handshake) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		h.taken = false
		h.over.Stop()
		<-h.turns
	}
}

// end is called when the handshake is done, and reports whether that was in time.
func (h *handshake) end() (inTime bool) {
	h.leave()
	return h.late.Stop()
}

type handshakeKey struct{}

// inTurn makes handshakes of a configuration wait for their turn between the client's hello and the answer to it.
func inTurn(config *tls.Config) *tls.Config {
	config = config.Clone()
	choose := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if h, ok := hello.Context().Value(handshakeKey{}).(*handshake); ok {
			if err := h.take(); err != nil {
				return nil, err
			}
		}
		if choose == nil {
			return nil, nil
		}
		return choose(hello)
	}
	return config
}

func withHandshake(h *handshake) context.Context {
	return context.WithValue(context.Background(), handshakeKey{}, h)
}
