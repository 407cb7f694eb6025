package main

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A countingFS counts what a store hands to the file system, by what for: the
// log, and tables, which are what flushes and compactions write. It sees what
// the store's own figures do not: what is flushed while the store closes.
type countingFS struct {
	vfs.FS
	log, tables atomic.Uint64
}

func newCountingFS() *countingFS { return &countingFS{FS: vfs.Default} }

func (c *countingFS) written() uint64 { return c.log.Load() + c.tables.Load() }

func (c *countingFS) count(name string, f vfs.File, err error) (vfs.File, error) {
	switch {
	case err != nil:
		return nil, err
	case strings.HasSuffix(name, ".log"):
		return &countedFile{f, &c.log}, nil
	case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
		return &countedFile{f, &c.tables}, nil
	}
	return f, nil
}

func (c *countingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	return c.count(name, f, err)
}

func (c *countingFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(old, name, category)
	return c.count(name, f, err)
}

type countedFile struct {
	vfs.File
	to *atomic.Uint64
}

func (f *countedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.to.Add(uint64(n))
	return n, err
}

func (f *countedFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.to.Add(uint64(n))
	return n, err
}
