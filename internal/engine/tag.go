package engine

import (
	"context"

	"muster"
	"muster/internal/store"
)

// tagged says whether a resource exists and can carry tags.
func tagged(tx store.Reader, r muster.Ref) error {
	switch r.Kind {
	case muster.RefJob:
		if _, ok := tx.Job(muster.JobID(r.Name)); !ok {
			return noJob(muster.JobID(r.Name))
		}
	case muster.RefTemplate:
		if _, ok := tx.Template(muster.TemplateID(r.Name)); !ok {
			return noTemplate(muster.TemplateID(r.Name))
		}
	case muster.RefGroup:
		if _, ok := tx.Group(muster.GroupName(r.Name)); !ok {
			return noGroup(muster.GroupName(r.Name))
		}
	case muster.RefType:
		if _, ok := tx.ThingType(muster.TypeName(r.Name)); !ok {
			return noType(muster.TypeName(r.Name))
		}
	default:
		return muster.Errorf(muster.Invalid, "resourceArn names a %s, which cannot be tagged; jobs, job templates, thing groups and thing types can", r.Kind)
	}
	return nil
}

// Tag adds tags to a resource; a key it has gets the new value.
func (g *Engine) Tag(ctx context.Context, r muster.Ref, tags muster.Pairs) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		if err := tagged(tx, r); err != nil {
			return err
		}
		var b muster.PairsBuilder
		for _, list := range []muster.Pairs{tx.Tags(r), tags} {
			for k, v := range list.All() {
				b.Set(k, v)
			}
		}
		all := b.Pairs()
		if n := all.Len(); n > muster.MaxTags {
			return muster.Errorf(muster.LimitExceeded, "The resource would have %d tags; at most %d are allowed", n, muster.MaxTags)
		}
		tx.Put(store.Tags{Of: r, Tags: all})
		return nil
	})
}

// Untag removes tags; keys that the resource does not have are no error.
func (g *Engine) Untag(ctx context.Context, r muster.Ref, keys []string) error {
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		if err := tagged(tx, r); err != nil {
			return err
		}
		tx.Put(store.Tags{Of: r, Tags: tx.Tags(r).Without(keys...)})
		return nil
	})
}

// Tags returns a resource's tags.
func (g *Engine) Tags(ctx context.Context, r muster.Ref) (tags muster.Pairs, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		if err := tagged(tx, r); err != nil {
			return err
		}
		tags = tx.Tags(r)
		return nil
	})
	return tags, err
}
