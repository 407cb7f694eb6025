package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/engine"
)

// PlacePrefix is what the names of the settings begin with that say how far hooks have read the feed.
const PlacePrefix = "webhook/place/"

// Where the store keeps what is here, by the hook's id.
const (
	hookSetting  = "webhook/hook/"
	placeSetting = PlacePrefix
	deadSetting  = "webhook/dead/" // and the event's id
)

const (
	// lookAgain is how often hooks are read again: another process may have changed them.
	lookAgain = 10 * time.Second
	// askAgain is how often is asked whose they are.
	askAgain = time.Second
)

// Options are what a Service is made of.
type Options struct {
	Engine *engine.Engine
	API    *awsapi.API
	Log    *slog.Logger
	Now    func() time.Time // real time, of signatures
	// Owns says whether this process is the one that delivers for a hook, and goes on saying so until it returns false.
	// nil: it always is.
	Owns func(hook string) bool
	// Pause is how long to wait after an attempt, the first of which is 1, has failed. nil: a second, twice as long each time, up to
	// five minutes.
	Pause func(attempt int) time.Duration
	Agent string // User-Agent
}

// A Service keeps hooks and delivers to them. Its methods may be called from any goroutine.
type Service struct {
	Options
	client *http.Client
	wake   chan struct{} // hooks have changed

	mu       sync.Mutex
	running  map[string]*runner
	known    map[string]Hook // as they were last read
	counters struct{ delivered, failed, dead atomic.Uint64 }
}

// New makes a service. Run delivers.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Owns == nil {
		o.Owns = func(string) bool { return true }
	}
	if o.Pause == nil {
		o.Pause = pause
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxAtOnce
	s := &Service{Options: o, wake: make(chan struct{}, 1), running: map[string]*runner{}}
	s.client = &http.Client{Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

func pause(attempt int) time.Duration {
	return min(longestPause, time.Second<<min(attempt-1, 16))
}

// Run delivers until ctx ends.
func (s *Service) Run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	defer s.stopAll()
	again, ask := time.NewTicker(lookAgain), time.NewTicker(askAgain)
	defer again.Stop()
	defer ask.Stop()
	for {
		if err := s.reconcile(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("webhooks cannot be read; they will be tried again", "error", err)
		}
		for moved := false; !moved; {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
				moved = true
			case <-again.C:
				moved = true
			case <-ask.C:
				moved = s.handedOver()
			}
		}
	}
}

// handedOver says whether a hook has become this process's, or another's.
func (s *Service) handedOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range s.known {
		if !h.Paused && s.Owns(id) != (s.running[id] != nil) {
			return true
		}
	}
	return false
}

// reconcile runs what should run, as it should.
func (s *Service) reconcile(ctx context.Context) error {
	hooks, err := s.hooks(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = hooks
	for id, r := range s.running {
		if h, ok := hooks[id]; !ok || h.Updated != r.hook.Updated || h.Paused || !s.Owns(id) {
			r.stop()
			delete(s.running, id)
		}
	}
	for id, h := range hooks {
		if s.running[id] == nil && !h.Paused && s.Owns(id) {
			s.running[id] = s.start(ctx, h)
		}
	}
	return nil
}

func (s *Service) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		r.cancel()
	}
	for id, r := range s.running {
		r.stop()
		delete(s.running, id)
	}
}

func (s *Service) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Service) hooks(ctx context.Context) (map[string]Hook, error) {
	rows, err := s.Engine.Settings(ctx, hookSetting)
	if err != nil {
		return nil, err
	}
	hooks := map[string]Hook{}
	for id, text := range rows {
		var h Hook
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			s.Log.Error("a webhook cannot be read and is left out", "webhook", id, "error", err)
			continue
		}
		hooks[id] = h
	}
	return hooks, nil
}

func notThere(id string) error { return muster.Errorf(muster.NotFound, "There is no webhook %q", id) }

// Create makes a hook that hears of what happens from now on. An empty id or secret is made up; the answer is the only one
// that has the secret.
func (s *Service) Create(ctx context.Context, h Hook) (Hook, error) {
	if h.ID == "" {
		h.ID = uuid.NewString()
	}
	if h.Secret == "" {
		h.Secret = newSecret()
	}
	h.Attempts = cmp.Or(h.Attempts, DefaultAttempts)
	if err := h.check(); err != nil {
		return Hook{}, err
	}
	all, err := s.hooks(ctx)
	if err != nil {
		return Hook{}, err
	}
	if _, exists := all[h.ID]; !exists && len(all) >= MaxHooks {
		return Hook{}, muster.Errorf(muster.LimitExceeded, "There are %d webhooks, and no more are allowed", MaxHooks)
	}
	place, err := s.API.StreamEnd(ctx)
	if err != nil {
		return Hook{}, err
	}
	// The place comes first: a hook without one would begin with all that is kept.
	if _, exists := all[h.ID]; !exists {
		if err := s.Engine.SetSetting(ctx, placeSetting+h.ID, place); err != nil {
			return Hook{}, err
		}
	}
	err = s.Engine.ChangeSetting(ctx, hookSetting+h.ID, func(text string, now muster.Time) (string, error) {
		if text != "" {
			return "", muster.Errorf(muster.AlreadyExists, "A webhook %q exists already", h.ID)
		}
		h.Created, h.Updated = now, now
		b, err := json.Marshal(h)
		return string(b), err
	})
	if err != nil {
		return Hook{}, err
	}
	s.changed()
	return h, nil
}

// Alter changes a hook. What is being delivered is broken off and comes again.
func (s *Service) Alter(ctx context.Context, id string, c Change) (h Hook, err error) {
	err = s.Engine.ChangeSetting(ctx, hookSetting+id, func(text string, now muster.Time) (string, error) {
		h = Hook{}
		if text == "" {
			return "", notThere(id)
		}
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			return "", err
		}
		set(&h.URL, c.URL)
		set(&h.Secret, c.Secret)
		set(&h.Attempts, c.Attempts)
		set(&h.Paused, c.Paused)
		set(&h.Filter, c.Filter)
		h.Updated = max(now, h.Updated+1) // it names the version
		if err := h.check(); err != nil {
			return "", err
		}
		b, err := json.Marshal(h)
		return string(b), err
	})
	s.changed()
	return h.shown(), err
}

func set[T any](at, to *T) {
	if to != nil {
		*at = *to
	}
}

// Remove removes a hook and its dead letters.
func (s *Service) Remove(ctx context.Context, id string) error {
	err := s.Engine.ChangeSetting(ctx, hookSetting+id, func(text string, _ muster.Time) (string, error) {
		if text == "" {
			return "", notThere(id)
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	if r := s.running[id]; r != nil {
		r.stop() // it must not write where it was any more
		delete(s.running, id)
	}
	s.mu.Unlock()
	s.changed()
	letters, err := s.Engine.Settings(ctx, deadSetting+id+"/")
	for event := range letters {
		err = errors.Join(err, s.Engine.SetSetting(ctx, deadSetting+id+"/"+event, ""))
	}
	return errors.Join(err, s.Engine.SetSetting(ctx, placeSetting+id, ""))
}

// A State is a hook and how it goes. Only the process that delivers for it knows how it goes.
type State struct {
	Hook
	Here      bool        `json:"deliversHere"`
	Waiting   int         `json:"waiting"`               // read and not delivered yet, at most 256
	Dead      int         `json:"deadLetters"`           // at most 1000; then delivery rests
	Failing   string      `json:"failing,omitempty"`     // why the last attempt failed; empty: it did not
	Delivered muster.Time `json:"deliveredAt,omitempty"` // when an event was last taken, since the start of the process
}

// List lists hooks by id.
func (s *Service) List(ctx context.Context) ([]State, error) {
	hooks, err := s.hooks(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]State, 0, len(hooks))
	for _, id := range slices.Sorted(maps.Keys(hooks)) {
		state, err := s.state(ctx, hooks[id])
		if err != nil {
			return nil, err
		}
		all = append(all, state)
	}
	return all, nil
}

// Get finds a hook.
func (s *Service) Get(ctx context.Context, id string) (State, error) {
	h, err := s.hook(ctx, id)
	if err != nil {
		return State{}, err
	}
	return s.state(ctx, h)
}

func (s *Service) hook(ctx context.Context, id string) (h Hook, err error) {
	text, err := s.Engine.Setting(ctx, hookSetting+id)
	switch {
	case err != nil:
		return h, err
	case text == "":
		return h, notThere(id)
	}
	return h, json.Unmarshal([]byte(text), &h)
}

func (s *Service) state(ctx context.Context, h Hook) (State, error) {
	letters, err := s.Engine.Settings(ctx, deadSetting+h.ID+"/")
	if err != nil {
		return State{}, err
	}
	state := State{Hook: h.shown(), Dead: len(letters)}
	s.mu.Lock()
	r := s.running[h.ID]
	s.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		state.Here, state.Waiting, state.Failing, state.Delivered = true, r.waiting, r.failing, r.delivered
	}
	return state, nil
}

// Stats are numbers to show.
type Stats struct {
	Hooks, Waiting, Dead    int // that this process delivers for
	Delivered, Failed, Lost uint64
	Oldest                  time.Time // when the event that waits longest was read; zero: none waits
}

// Stats returns how it goes.
func (s *Service) Stats() Stats {
	out := Stats{Delivered: s.counters.delivered.Load(), Failed: s.counters.failed.Load(), Lost: s.counters.dead.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		r.mu.Lock()
		out.Hooks++
		out.Waiting += r.waiting
		out.Dead += r.dead
		if !r.oldest.IsZero() && (out.Oldest.IsZero() || r.oldest.Before(out.Oldest)) {
			out.Oldest = r.oldest
		}
		r.mu.Unlock()
	}
	return out
}
