package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Stores that measurements begin with are made once and copied: a copy shares
// the tables, which never change.

const (
	thingsSeed = "things" // registered things in groups, no job
	liveSeed   = "live"   // and a job that has queued an execution for each
	timedSeed  = "timed"  // and another that is in progress on each, with a timer
)

// seed returns the directory of a store that is closed and at rest.
func (b *Bench) seed(ctx context.Context, name string) (dir string, err error) {
	if dir := b.seeds[name]; dir != "" {
		return dir, nil
	}
	var ops []Request
	switch name {
	case thingsSeed:
		dir, ops = filepath.Join(b.Dir, "seed-"+name), []Request{{Op: "import"}, {Op: "settle"}}
		err = os.Mkdir(dir, 0o755)
	case liveSeed:
		dir, err = b.sow(ctx, "seed-"+name, thingsSeed)
		ops = []Request{{Op: "rollout", Job: naiveJob}, {Op: "settle"}}
	case timedSeed:
		dir, err = b.sow(ctx, "seed-"+name, liveSeed)
		ops = []Request{{Op: "time"}, {Op: "settle"}}
	default:
		err = fmt.Errorf("no seed is called %q", name)
	}
	if err != nil {
		return "", err
	}
	c, err := startChild(ctx, "engine", Settings{Dir: dir, Things: b.Things})
	if err != nil {
		return "", err
	}
	defer c.Kill()
	for _, op := range ops {
		if _, err := c.Call(op); err != nil {
			return "", err
		}
	}
	if err := c.Close(); err != nil {
		return "", err
	}
	b.seeds[name] = dir
	return dir, nil
}

// sow makes a directory with a copy of a seed.
func (b *Bench) sow(ctx context.Context, name, seed string) (string, error) {
	from, err := b.seed(ctx, seed)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Dir, name)
	return dir, copyStore(from, dir)
}

// engine returns the engine service called key, starting it on a copy of a seed
// if it is not yet running.
func (b *Bench) engine(ctx context.Context, key, seed string) (*Child, error) {
	if c := b.children[key]; c != nil {
		return c, nil
	}
	dir, err := b.sow(ctx, key, seed)
	if err != nil {
		return nil, err
	}
	return b.adopt(ctx, key, "engine", Settings{Dir: dir, Things: b.Things})
}

// copyStore copies the directory of a store that nobody uses. Tables are
// linked; everything else is written to by whoever opens the copy.
func copyStore(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		src, dst := filepath.Join(from, f.Name()), filepath.Join(to, f.Name())
		if strings.HasSuffix(f.Name(), ".sst") && os.Link(src, dst) == nil {
			continue
		}
		if err := copyFile(src, dst); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
