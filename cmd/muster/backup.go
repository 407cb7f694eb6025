package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"muster/internal/server"
)

type backupCmd struct {
	Store string `arg:"" help:"What to copy: the URL of a running server (http://127.0.0.1:8080), or the directory of a stopped one."`
	Dir   string `arg:"" help:"Where to: a directory that does not exist yet. A running server writes it on its own disk."`
	signing
}

// Run makes a backup.
func (c *backupCmd) Run(ctx context.Context, w world) error {
	// A server has another working directory.
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	if !strings.Contains(c.Store, "://") {
		if err := server.Backup(ctx, c.Store, dir, warnings(w)); err != nil {
			if strings.HasSuffix(sentence(err), "in use by another process") {
				return fmt.Errorf("%s; to copy the store of a running server give its URL: muster backup http://127.0.0.1:8080 %s", sentence(err), c.Dir)
			}
			return err
		}
		fmt.Fprintf(w.stdout, "backup written to %s\n", dir)
		return nil
	}
	ask, err := json.Marshal(map[string]string{"dir": dir})
	if err != nil {
		return err
	}
	answer, err := c.post(ctx, c.Store, "/_muster/backup", "application/json", bytes.NewReader(ask))
	if err != nil {
		return err
	}
	if answer.status != http.StatusOK {
		return answer.refusal()
	}
	fmt.Fprintf(w.stdout, "backup written to %s, on the server's disk\n", dir)
	return nil
}
