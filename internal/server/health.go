package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"time"

	"muster"
)

const (
	lookEvery = time.Second      // the store is asked how it is
	readEvery = 10 * time.Second // files of credentials and certificates are compared
)

// healthz says that the process is alive, nothing more: restarting it would not make the disk larger.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n")
}

// readyz says whether requests should be sent here.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	type answer struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}
	switch err := s.look(); {
	case err != nil:
		reply(w, http.StatusServiceUnavailable, answer{Reason: reason(err)})
	case s.messenger.health() != nil:
		reply(w, http.StatusServiceUnavailable, answer{Reason: reason(s.messenger.health())})
	case s.stopping.Load():
		reply(w, http.StatusServiceUnavailable, answer{Reason: "The server is stopping"})
	default:
		reply(w, http.StatusOK, answer{Ready: true})
	}
}

// look asks the store whether it can promise durability, and logs when that changes.
func (s *Server) look() error {
	err := s.store.Health()
	if unwell := err != nil; s.unwell.Swap(unwell) != unwell {
		if unwell {
			s.log.Error("nothing is acknowledged any more: the store cannot promise that it would be kept", "error", err)
		} else {
			s.log.Info("the store is well again")
		}
	}
	return err
}

// watch looks at what changes without anybody asking: how the store is, and the files of credentials and certificates.
func (s *Server) watch(ctx context.Context) {
	look, read := time.NewTicker(lookEvery), time.NewTicker(readEvery)
	defer look.Stop()
	defer read.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.look()
		case <-read.C:
			// Each logs what is wrong itself, once.
			_ = s.Reload()
			if s.mqtt != nil {
				s.mqtt.sessions.tidy()
			}
		}
	}
}

// reason is the sentence of an error, and of what lies below it only what the operating system said:
// anybody may read it.
func reason(err error) string {
	sentence := "The store is not well"
	var known *muster.Error
	if errors.As(err, &known) {
		sentence = known.Message
	}
	var cause syscall.Errno
	if errors.As(err, &cause) {
		sentence += ": " + cause.Error()
	}
	return sentence
}
