package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"muster"
	"muster/internal/broker"
	"muster/internal/store"
)

// sessionPrefix is what the names of the broker's settings begin with.
const sessionPrefix = "broker/"

// scanPage is how many rows are read of the store at one moment: writers may wait for that.
const scanPage = 500

// sessions keep what the broker has to remember as settings of the store, and with each session that lasts
// the thing whose it is: a device must not take over what belongs to another by coming under its client id.
type sessions struct {
	store store.Store
	now   func() time.Time

	mu     sync.Mutex
	kept   map[string]muster.ThingName // by client id, of sessions that are stored; empty: of nobody in particular
	claims map[string]*claim           // of those that are connected, or about to be
}

// A claim is a client id in use.
type claim struct {
	thing   muster.ThingName
	live    int       // connections that are up
	pending int       // that were let in and are not up yet
	at      time.Time // when the last one was let in
}

// stale says whether nobody is there any more. Who was let in may have failed without a word.
func (c *claim) stale(now time.Time) bool {
	return c.live <= 0 && (c.pending <= 0 || now.Sub(c.at) > claimFor)
}

// claimFor is how long somebody who was let in may take until the connection is up.
const claimFor = time.Minute

func newSessions(s store.Store, now func() time.Time) *sessions {
	return &sessions{store: s, now: now, kept: map[string]muster.ThingName{}, claims: map[string]*claim{}}
}

// The first byte of a stored value says whether an owner follows. A value is therefore never empty, which
// for a setting would mean that it is gone.
const (
	plainValue = "\x00"
	ownedValue = "\x01"
)

const sessionKey = 's' // begins the broker's keys of sessions; the client id follows

// Write makes changes durable together.
func (s *sessions) Write(ctx context.Context, changes []broker.Change) error {
	rows := make([]store.Setting, len(changes))
	owners := map[string]muster.ThingName{}
	for i, c := range changes {
		rows[i].Name = sessionPrefix + string(c.Key)
		id, isSession := sessionID(c.Key)
		switch {
		case c.Value == nil:
		case isSession:
			owner := s.ownerOf(id)
			owners[id] = owner
			rows[i].Value = ownedValue + string([]byte{byte(len(owner))}) + string(owner) + string(c.Value)
		default:
			rows[i].Value = plainValue + string(c.Value)
		}
	}
	err := s.store.Update(ctx, store.Keys{}, func(tx store.Tx) error {
		for _, row := range rows {
			if row.Value == "" {
				tx.Delete(row)
			} else {
				tx.Put(row)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if id, ok := sessionID(c.Key); ok {
			if owner, stored := owners[id]; stored {
				s.kept[id] = owner
			} else {
				delete(s.kept, id)
			}
		}
	}
	return nil
}

// Scan reads what is kept, some of it at a time.
func (s *sessions) Scan(ctx context.Context, prefix []byte, fn func(key, value []byte) error) error {
	page := store.Page{Limit: scanPage}
	for {
		var rows []store.Setting
		err := s.store.View(ctx, func(tx store.Reader) (err error) {
			rows, page.After, err = tx.Settings(sessionPrefix+string(prefix), page)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			key := []byte(strings.TrimPrefix(row.Name, sessionPrefix))
			value := row.Value[1:]
			if strings.HasPrefix(row.Value, ownedValue) && len(value) > 0 && len(value) > int(value[0]) {
				n := int(value[0])
				if id, ok := sessionID(key); ok {
					s.mu.Lock()
					s.kept[id] = muster.ThingName(value[1 : 1+n])
					s.mu.Unlock()
				}
				value = value[1+n:]
			}
			if err := fn(key, []byte(value)); err != nil {
				return err
			}
		}
		if page.After == "" {
			return nil
		}
	}
}

func sessionID(key []byte) (id string, ok bool) {
	if len(key) == 0 || key[0] != sessionKey {
		return "", false
	}
	return string(key[1:]), true
}

// ownerOf is whose session a client id stands for now: of who is connected, else of who was.
func (s *sessions) ownerOf(id string) muster.ThingName {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.claims[id]; c != nil {
		return c.thing
	}
	return s.kept[id]
}

// claim lets a thing in under a client id, unless the id is another's. The empty thing, who may act for all,
// may take any.
func (s *sessions) claim(id string, thing muster.ThingName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c := s.claims[id]
	if c != nil && c.stale(now) {
		c = nil
	}
	// Its own name is a thing's by right, whoever came under it before.
	if thing != "" && id != string(thing) {
		owner, taken := s.kept[id]
		if c != nil {
			owner, taken = c.thing, true
		}
		if taken && owner != thing {
			return false
		}
	}
	if c == nil {
		c = &claim{}
		s.claims[id] = c
	}
	c.thing, c.at = thing, now
	c.pending++
	return true
}

// up says that a connection is up, down that it has ended.
func (s *sessions) up(id string, thing muster.ThingName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.claims[id]
	if c == nil {
		c = &claim{thing: thing, at: s.now()} // the id is of the broker's choosing
		s.claims[id] = c
	}
	c.live++
	c.pending = max(0, c.pending-1)
	if _, kept := s.kept[id]; kept {
		s.kept[id] = thing
	}
}

func (s *sessions) down(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.claims[id]; c != nil {
		if c.live--; c.stale(s.now()) {
			delete(s.claims, id)
		}
	}
}

// tidy forgets claims of those who were let in and never came.
func (s *sessions) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for id, c := range s.claims {
		if c.stale(now) {
			delete(s.claims, id)
		}
	}
}
