package broker

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// A SessionStore keeps sessions, their waiting messages, and retained messages across restarts. What keys
// and values mean is the broker's own business.
//
// The broker gathers what many connections want kept and makes one Write of it at a time, so an
// implementation need not gather again.
type SessionStore interface {
	// Write makes all changes durable together, or none, and then returns.
	Write(ctx context.Context, changes []Change) error
	// Scan calls fn with every entry whose key begins with prefix, in the byte order of keys, until fn
	// returns an error, and returns that. It sees every Write that has returned. Key and value belong to
	// fn only until it returns.
	Scan(ctx context.Context, prefix []byte, fn func(key, value []byte) error) error
}

// A Change sets the value of a key, or removes the key when Value is nil. Keys are at most 64 KiB, values
// as long as the longest packet.
type Change struct{ Key, Value []byte }

// MemoryStore is a SessionStore for tests: what one broker kept, the next one finds.
type MemoryStore struct {
	mu      sync.Mutex
	entries map[string][]byte
	Writes  int // calls of Write, so far
	// Fail, when set, is asked before each Write.
	Fail func([]Change) error
}

func (s *MemoryStore) Write(_ context.Context, changes []Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Writes++
	if s.Fail != nil {
		if err := s.Fail(changes); err != nil {
			return err
		}
	}
	if s.entries == nil {
		s.entries = map[string][]byte{}
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(s.entries, string(c.Key))
		} else {
			s.entries[string(c.Key)] = bytes.Clone(c.Value)
		}
	}
	return nil
}

func (s *MemoryStore) Scan(_ context.Context, prefix []byte, fn func(key, value []byte) error) error {
	s.mu.Lock()
	var found []Change
	for k, v := range s.entries {
		if strings.HasPrefix(k, string(prefix)) {
			found = append(found, Change{[]byte(k), v})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b Change) int { return bytes.Compare(a.Key, b.Key) })
	for _, c := range found {
		if err := fn(c.Key, c.Value); err != nil {
			return err
		}
	}
	return nil
}

// Len returns how many entries the store holds.
func (s *MemoryStore) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}
