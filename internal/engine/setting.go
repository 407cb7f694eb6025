package engine

import (
	"context"
	"strings"

	"muster"
	"muster/internal/store"
)

// Setting is a value that a reader of the feed or a door keeps in the store, by name; empty when there
// is none. Names have a slash in them, so that they are not those of the engine itself.
func (g *Engine) Setting(ctx context.Context, name string) (value string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		value = tx.Setting(name)
		return nil
	})
	return value, err
}

// ChangeSetting replaces a setting by what fn makes of it, at a moment. fn may run more than once.
func (g *Engine) ChangeSetting(ctx context.Context, name string, fn func(value string, now muster.Time) (string, error)) error {
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		value, err := fn(tx.Setting(name), now)
		if err != nil {
			return err
		}
		tx.Put(store.Setting{Name: name, Value: value})
		return nil
	})
}

// SetSetting sets a setting; the empty value removes it.
func (g *Engine) SetSetting(ctx context.Context, name, value string) error {
	return g.ChangeSetting(ctx, name, func(string, muster.Time) (string, error) { return value, nil })
}

// Settings are the settings whose names begin with a prefix, by name without it.
func (g *Engine) Settings(ctx context.Context, prefix string) (map[string]string, error) {
	all := map[string]string{}
	for page := (store.Page{Limit: settingsPage}); ; {
		var rows []store.Setting
		var next string
		err := g.store.View(ctx, func(tx store.Reader) (err error) {
			rows, next, err = tx.Settings(prefix, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			all[strings.TrimPrefix(row.Name, prefix)] = row.Value
		}
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}

// settingsPage is how many settings are read at one moment: writers may wait for that.
const settingsPage = 500
