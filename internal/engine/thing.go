package engine

import (
	"context"

	"github.com/google/uuid"

	"muster"
	"muster/internal/store"
)

func noThing(name muster.ThingName) error {
	return muster.Errorf(muster.NotFound, "Thing %s does not exist", name)
}

// CreateThing registers a thing. The same request again is no error; another one for the same name is.
func (g *Engine) CreateThing(ctx context.Context, t muster.Thing) (result muster.Thing, err error) {
	err = g.update(ctx, store.Keys{Things: []muster.ThingName{t.Name}}, func(tx store.Tx, now muster.Time) error {
		result, _, err = createThing(tx, t)
		return err
	})
	return result, err
}

func createThing(tx store.Tx, t muster.Thing) (result muster.Thing, made bool, err error) {
	if old, exists := tx.Thing(t.Name); exists {
		if old.Type == t.Type && same(old.Attributes, t.Attributes) && old.BillingGroup == t.BillingGroup {
			return old, false, nil
		}
		return old, false, taken(muster.RefThing, string(t.Name), "Thing %s already exists with other attributes, type or billing group", t.Name)
	}
	if err := muster.CheckAttributes(t.Type, t.Attributes); err != nil {
		return t, false, err
	}
	if err := usableType(tx, t.Type); err != nil {
		return t, false, err
	}
	t.ID, t.Version = uuid.NewString(), 1
	tx.Put(store.Thing{Thing: t})
	return t, true, nil
}

// taken is the refusal of a name that something different has.
func taken(kind muster.RefKind, name, format string, args ...any) error {
	err := muster.Errorf(muster.AlreadyExists, format, args...)
	err.Resource = muster.Ref{Kind: kind, Name: name}
	return err
}

// same reports whether two lists of pairs say the same, in whatever order.
func same(a, b muster.Pairs) bool {
	if a == b {
		return true
	}
	if a.Len() != b.Len() {
		return false
	}
	for k, v := range a.All() {
		if w, ok := b.Get(k); !ok || v != w {
			return false
		}
	}
	return true
}

func usableType(tx store.Reader, name muster.TypeName) error {
	if name == "" {
		return nil
	}
	t, ok := tx.ThingType(name)
	if !ok {
		return muster.Errorf(muster.NotFound, "Thing type %s does not exist", name)
	}
	if t.Deprecated {
		return muster.Errorf(muster.Invalid, "Thing type %s is deprecated; no thing can be given it", name)
	}
	return nil
}

// DescribeThing finds a thing.
func (g *Engine) DescribeThing(ctx context.Context, name muster.ThingName) (result muster.Thing, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		var ok bool
		if result, ok = tx.Thing(name); !ok {
			return noThing(name)
		}
		return nil
	})
	return result, err
}

// A ThingPatch is what UpdateThing carries; what is nil stays.
type ThingPatch struct {
	Attributes *muster.Pairs
	Merge      bool // lay Attributes over the present ones instead of replacing them
	Type       muster.TypeName
	RemoveType bool
	Expected   *int64
}

// UpdateThing changes a thing.
func (g *Engine) UpdateThing(ctx context.Context, name muster.ThingName, p ThingPatch) error {
	if p.RemoveType && p.Type != "" {
		return muster.Errorf(muster.Invalid, "thingTypeName and removeThingType cannot be given together")
	}
	return g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		t, ok := tx.Thing(name)
		if !ok {
			return noThing(name)
		}
		if err := expect(p.Expected, t.Version, "thing", string(name)); err != nil {
			return err
		}
		if p.RemoveType {
			t.Type = ""
		} else if p.Type != "" && p.Type != t.Type {
			if err := usableType(tx, p.Type); err != nil {
				return err
			}
			t.Type = p.Type
		}
		if p.Attributes != nil {
			base := muster.Pairs("")
			if p.Merge {
				base = t.Attributes
			}
			t.Attributes = base.Merge(*p.Attributes)
		}
		if err := muster.CheckAttributes(t.Type, t.Attributes); err != nil {
			return err
		}
		t.Version++
		tx.Put(store.Thing{Thing: t})
		return nil
	})
}

func expect(expected *int64, version int64, noun, name string) error {
	if expected != nil && *expected != version {
		return muster.Errorf(muster.VersionMismatch, "Expected version %d of %s %s but found version %d", *expected, noun, name, version)
	}
	return nil
}

// DeleteThing removes a thing from the registry and from its groups, and its pending executions with
// it; executions that are over stay in their jobs' history. A thing that does not exist is no error.
func (g *Engine) DeleteThing(ctx context.Context, name muster.ThingName, expected *int64) error {
	return g.update(ctx, store.Keys{Things: []muster.ThingName{name}}, func(tx store.Tx, now muster.Time) error {
		t, ok := tx.Thing(name)
		if !ok {
			return nil
		}
		if err := expect(expected, t.Version, "thing", string(name)); err != nil {
			return err
		}
		q, _ := tx.Queue(name)
		q.Thing = name
		for len(q.Executions) > 0 {
			e := q.Executions[0]
			after := e.Remove(now)
			if job, ok := tx.Job(e.Job); ok {
				// What the job has ended already ends as the job says.
				if settled, present := job.Settle(e); present && settled.Status.Terminal() {
					after = settled
				}
			}
			q = keep(tx, q, now, muster.Change{Before: e, After: after})
		}
		for _, m := range tx.GroupsOf(name) {
			tx.Delete(store.Member{Membership: m})
		}
		tx.Delete(store.Thing{Thing: t})
		return nil
	})
}

// ListThings lists things.
func (g *Engine) ListThings(ctx context.Context, f ThingFilter, p Page) (things []muster.Thing, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		things, next, err = tx.Things(f, p)
		return err
	})
	return things, next, err
}
