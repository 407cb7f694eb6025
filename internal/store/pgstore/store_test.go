package pgstore

import (
	"log/slog"
	"testing"

	"muster/internal/store"
	"muster/internal/store/storetest"
	"muster/test/postgres"
)

func TestMain(m *testing.M) { postgres.Main(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Backend{
		Open: func(t testing.TB) (store.Store, func() store.Store) {
			o := Options{URL: postgres.URL(t), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
			s := open(t, o)
			return s, func() store.Store {
				if err := s.Close(); err != nil {
					t.Fatalf("close: %v", err)
				}
				s = open(t, o)
				return s
			}
		},
	})
}

// open opens a store that is closed when the test ends.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
