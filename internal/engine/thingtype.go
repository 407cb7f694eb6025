package engine

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"muster"
	"muster/internal/store"
)

func noType(name muster.TypeName) error {
	return muster.Errorf(muster.NotFound, "Thing type %s does not exist", name)
}

// CreateThingType makes a thing type. The same request again is no error.
func (g *Engine) CreateThingType(ctx context.Context, t muster.ThingType, tags muster.Pairs) (result muster.ThingType, err error) {
	if err := checkTags(tags); err != nil {
		return t, err
	}
	err = g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		result, _, err = createThingType(tx, t, tags, now)
		return err
	})
	return result, err
}

func createThingType(tx store.Tx, t muster.ThingType, tags muster.Pairs, now muster.Time) (result muster.ThingType, made bool, err error) {
	if len(t.Searchable) > muster.MaxSearchable {
		return t, false, muster.Errorf(muster.Invalid, "searchableAttributes has %d entries; at most %d are allowed", len(t.Searchable), muster.MaxSearchable)
	}
	if old, exists := tx.ThingType(t.Name); exists {
		if old.Description == t.Description && slices.Equal(old.Searchable, t.Searchable) {
			return old, false, nil
		}
		return old, false, taken(muster.RefType, string(t.Name), "Thing type %s already exists with other properties", t.Name)
	}
	t.ID, t.Created = uuid.NewString(), now
	tx.Put(store.ThingType{ThingType: t})
	tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefType, Name: string(t.Name)}, Tags: tags})
	return t, true, nil
}

// DescribeThingType finds a thing type.
func (g *Engine) DescribeThingType(ctx context.Context, name muster.TypeName) (result muster.ThingType, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		var ok bool
		if result, ok = tx.ThingType(name); !ok {
			return noType(name)
		}
		return nil
	})
	return result, err
}

func (g *Engine) changeType(ctx context.Context, name muster.TypeName, fn func(muster.ThingType, muster.Time) (muster.ThingType, error)) error {
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		t, ok := tx.ThingType(name)
		if !ok {
			return noType(name)
		}
		t, err := fn(t, now)
		if err != nil {
			return err
		}
		tx.Put(store.ThingType{ThingType: t})
		return nil
	})
}

// UpdateThingType replaces the properties that are given.
func (g *Engine) UpdateThingType(ctx context.Context, name muster.TypeName, description *string, searchable []string) error {
	if len(searchable) > muster.MaxSearchable {
		return muster.Errorf(muster.Invalid, "searchableAttributes has %d entries; at most %d are allowed", len(searchable), muster.MaxSearchable)
	}
	return g.changeType(ctx, name, func(t muster.ThingType, _ muster.Time) (muster.ThingType, error) {
		if description != nil {
			t.Description = *description
		}
		if searchable != nil {
			t.Searchable = searchable
		}
		return t, nil
	})
}

// DeprecateThingType sets or, with undo, takes back the deprecation.
func (g *Engine) DeprecateThingType(ctx context.Context, name muster.TypeName, undo bool) error {
	return g.changeType(ctx, name, func(t muster.ThingType, now muster.Time) (muster.ThingType, error) {
		if !undo && !t.Deprecated {
			t.DeprecatedAt = now
		}
		t.Deprecated = !undo
		if undo {
			t.DeprecatedAt = 0
		}
		return t, nil
	})
}

// DeleteThingType deletes a deprecated thing type that no thing has.
func (g *Engine) DeleteThingType(ctx context.Context, name muster.TypeName) error {
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		t, ok := tx.ThingType(name)
		if !ok {
			return noType(name)
		}
		if !t.Deprecated {
			return muster.Errorf(muster.Invalid, "Thing type %s is not deprecated; deprecate it before deleting it", name)
		}
		for after := ""; ; {
			things, next, err := tx.Things(store.ThingFilter{Type: name}, store.Page{After: after, Limit: 1})
			if err != nil {
				return err
			}
			if len(things) > 0 {
				return muster.Errorf(muster.Invalid, "Thing type %s is the type of things, %s among them; give them another type first", name, things[0].Name)
			}
			if after = next; next == "" {
				break
			}
		}
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefType, Name: string(name)}})
		tx.Delete(store.ThingType{ThingType: t})
		return nil
	})
}

// ListThingTypes lists thing types by name; name "" means all.
func (g *Engine) ListThingTypes(ctx context.Context, name muster.TypeName, p Page) (types []muster.ThingType, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		if name == "" {
			types, next, err = tx.ThingTypes(p)
			return err
		}
		if t, ok := tx.ThingType(name); ok { // an unknown name is an empty list: the operation models no NotFound
			types = []muster.ThingType{t}
		}
		return nil
	})
	return types, next, err
}
