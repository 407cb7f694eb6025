package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
)

// Backup makes a checkpoint: tables are linked where the file system can, the log is copied. A store
// in RAM is written to the operating system's disk.
func (s *Store) Backup(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	err := s.open()
	last := s.last
	s.mu.RUnlock()
	if err == nil {
		err = s.Health()
	}
	if err != nil {
		return err
	}
	if last != nil {
		<-last.done
	}
	to := s.fs.FS
	if s.opts.Memory {
		to = vfs.Default
	}
	if _, err := to.Stat(dir); err == nil {
		return muster.Errorf(muster.AlreadyExists, "The backup directory %s exists already", dir)
	}
	if err := s.backup(to, dir); err != nil {
		return &muster.Error{Kind: muster.Unavailable, Message: fmt.Sprintf("The backup to %s failed", dir), Cause: err}
	}
	return s.Health()
}

func (s *Store) backup(to vfs.FS, dir string) error {
	if !s.opts.Memory {
		return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
	}
	const staged = "backup"
	if err := s.db.Checkpoint(staged, pebble.WithFlushedWAL()); err != nil {
		return err
	}
	_, err := vfs.Clone(s.fs.FS, to, staged, dir)
	if rerr := s.fs.FS.RemoveAll(staged); err == nil {
		err = rerr
	}
	return err
}
