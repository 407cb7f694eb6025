package engine

import (
	"context"

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
