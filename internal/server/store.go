package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster"
	"muster/internal/engine"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
	"muster/internal/store/pgstore"
)

// openStore opens the store at an address, or makes one.
func openStore(address string, o storeOptions) (store.Store, error) {
	kind, rest, _ := strings.Cut(address, ":")
	switch {
	case address == "memory":
		return openPebble(pebblestore.Options{Memory: true, Logger: o.log, OnBatch: o.onBatch})
	case kind == "pebble" && rest != "":
		return openPebble(pebblestore.Options{Dir: filepath.Clean(rest), Logger: o.log, OnBatch: o.onBatch})
	case kind == "postgres" || kind == "postgresql":
		s, err := pgstore.Open(pgstore.Options{URL: address, Manual: o.manual, Aside: o.aside, Logger: o.log, OnBatch: o.onBatch})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("%q is not the address of a store: it is memory, pebble:DIR or postgres://…", address)
}

// storeOptions are what a store is opened for.
type storeOptions struct {
	manual bool // the clock is moved by hand
	aside  bool // no part of the background work is done here
	log    *slog.Logger
	// onBatch is told of commits; nil: nobody is.
	onBatch func(store.Batch)
}

func inPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

func openPebble(o pebblestore.Options) (store.Store, error) {
	s, err := pebblestore.Open(o)
	if err != nil {
		return nil, err // not s: a nil pointer in an interface is not nil
	}
	return s, nil
}

// openKept opens a store that must be there: a directory, or pebble: and one, that belongs to no running server; or a
// database, which servers may be using.
func openKept(address string, log *slog.Logger) (store.Store, error) {
	if inPostgres(address) {
		return openStore(address, storeOptions{aside: true, log: log})
	}
	dir := strings.TrimPrefix(address, "pebble:")
	if strings.Contains(dir, "://") || dir == "memory" {
		return nil, fmt.Errorf("%s is not the directory of a store", address)
	}
	// Opening would make a store where there is none.
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("there is no store in %s: %w", dir, err)
	}
	if !slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), "MANIFEST-") }) {
		return nil, fmt.Errorf("there is no store in %s: the directory has none of its files", dir)
	}
	return openStore("pebble:"+dir, storeOptions{log: log})
}

// withKept does something with the store of a stopped server.
func withKept(address string, log *slog.Logger, do func(store.Store) error) error {
	s, err := openKept(address, log)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// Check verifies the store of a stopped server and reports each problem as a sentence. An error says
// that it could not be checked.
func Check(ctx context.Context, address string, log *slog.Logger, problem func(string)) error {
	return withKept(address, log, func(s store.Store) error { return s.Check(ctx, problem) })
}

// Backup copies the store of a stopped server to a directory that does not exist yet.
func Backup(ctx context.Context, address, dir string, log *slog.Logger) error {
	return withKept(address, log, func(s store.Store) error { return backup(ctx, s, dir) })
}

func backup(ctx context.Context, s store.Store, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return muster.Errorf(muster.AlreadyExists, "%s exists already; a backup goes to a directory of its own", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return muster.Errorf(muster.Invalid, "The directory above %s cannot be made: %v", dir, err)
	}
	return s.Backup(ctx, dir)
}

// Import takes JSON lines into the store of a stopped server, as POST /_muster/import does into a
// running one. A store that does not exist is made.
func Import(ctx context.Context, dir string, r io.Reader, whole bool, log *slog.Logger) (ImportReport, error) {
	if !inPostgres(dir) {
		dir = "pebble:" + strings.TrimPrefix(dir, "pebble:")
	}
	s, err := openStore(dir, storeOptions{aside: true, log: log})
	if err != nil {
		return ImportReport{}, err
	}
	e := engine.New(s, engine.Options{Clock: &engine.SystemClock{}, Log: log})
	report, err := importLines(ctx, e, r, whole)
	return report, errors.Join(err, s.Close())
}
