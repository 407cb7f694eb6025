package engine

import (
	"context"
	"strings"

	"muster"
	"muster/internal/store"
)

// checkTags says whether tags may be given by a user, to anything but a job.
func checkTags(tags muster.Pairs) error {
	if err := checkAnyTags(tags); err != nil {
		return err
	}
	for k := range tags.All() {
		if muster.IsExtra(k) {
			return muster.Errorf(muster.Invalid, "tag key %s begins with %s; such tags are settings of jobs, and only a job can have them", k, muster.TagPrefix)
		}
	}
	return nil
}

// checkJobTags is checkTags for a job, whose tags may be settings.
func checkJobTags(tags muster.Pairs) error {
	if err := checkAnyTags(tags); err != nil {
		return err
	}
	for k, v := range tags.All() {
		if err := muster.CheckExtra(k, v); err != nil {
			return err
		}
	}
	return nil
}

func checkAnyTags(tags muster.Pairs) error {
	if n := tags.Len(); n > muster.MaxTags {
		return muster.Errorf(muster.Invalid, "tags has %d entries; at most %d are allowed", n, muster.MaxTags)
	}
	for k := range tags.All() {
		if len(k) >= 4 && strings.EqualFold(k[:4], "aws:") {
			return muster.Errorf(muster.Invalid, "tag key %s begins with aws:, which is reserved", k)
		}
	}
	return nil
}

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

// Tag adds tags to a resource; a key it has gets the new value. Settings among the tags of a job were
// read when it was created: a later one changes nothing but the tag (design §7).
func (g *Engine) Tag(ctx context.Context, r muster.Ref, tags muster.Pairs) error {
	check := checkTags
	if r.Kind == muster.RefJob {
		check = checkJobTags
	}
	if err := check(tags); err != nil {
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
