package engine

import (
	"context"

	"muster"
	"muster/internal/store"
)

func noTemplate(id muster.TemplateID) error {
	return muster.Errorf(muster.NotFound, "Job template %s does not exist", id)
}

// NewTemplate is what CreateJobTemplate carries. The document comes from Job, or from one of Document
// and DocumentSource.
type NewTemplate struct {
	muster.Template
	Job    muster.JobID
	Inline *string
	Tags   muster.Pairs
}

// CreateTemplate makes a template of a job, or of a document and settings. What is given beside a job
// overrides what the job has.
func (g *Engine) CreateTemplate(ctx context.Context, n NewTemplate) (muster.Template, error) {
	t := n.Template
	if err := checkTags(n.Tags); err != nil {
		return t, err
	}
	if n.Job != "" {
		if n.Inline != nil || t.DocumentSource != "" {
			return t, muster.Errorf(muster.Invalid, "document and documentSource cannot be given together with jobArn")
		}
		v, err := g.DescribeJob(ctx, n.Job)
		if err != nil {
			return t, err
		}
		doc, err := g.Document(ctx, n.Job)
		if err != nil {
			return t, err
		}
		t.Document, t.DocumentSource = doc.Text, v.DocumentSource
		t.Settings = overlay(v.Settings, t.Settings)
		if t.Windows == nil && v.Scheduling != nil {
			t.Windows = v.Scheduling.Windows
		}
		if t.DestinationPackageVersions == nil {
			t.DestinationPackageVersions = v.DestinationPackageVersions
		}
	} else {
		if (n.Inline == nil) == (t.DocumentSource == "") {
			return t, muster.Errorf(muster.Invalid, "Exactly one of document, documentSource and jobArn must be given")
		}
		doc, err := g.newDocument(ctx, NewJob{Document: n.Inline, DocumentSource: t.DocumentSource})
		if err != nil {
			return t, err
		}
		t.Document = doc.Text
	}
	if err := t.Settings.Check(g.limits.PerMinute); err != nil {
		return t, err
	}
	if len(t.DestinationPackageVersions) > muster.MaxPackageVersions {
		return t, muster.Errorf(muster.Invalid, "destinationPackageVersions has %d entries; at most %d are allowed", len(t.DestinationPackageVersions), muster.MaxPackageVersions)
	}
	if err := muster.CheckWindows("maintenanceWindows", t.Windows); err != nil {
		return t, err
	}
	err := g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		if _, exists := tx.Template(t.ID); exists {
			err := muster.Errorf(muster.Conflict, "Job template %s already exists", t.ID)
			err.Resource = muster.Ref{Kind: muster.RefTemplate, Name: string(t.ID)}
			return err
		}
		all, _, err := tx.Templates(store.Page{Limit: muster.MaxTemplates})
		if err != nil {
			return err
		}
		if len(all) >= muster.MaxTemplates {
			return muster.Errorf(muster.LimitExceeded, "There are %d job templates; at most %d are allowed", len(all), muster.MaxTemplates)
		}
		made := t
		made.Created = now
		tx.Put(store.Template{Template: made})
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefTemplate, Name: string(t.ID)}, Tags: n.Tags})
		t = made
		return nil
	})
	return t, err
}

// DescribeTemplate finds a template.
func (g *Engine) DescribeTemplate(ctx context.Context, id muster.TemplateID) (t muster.Template, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		var ok bool
		if t, ok = tx.Template(id); !ok {
			return noTemplate(id)
		}
		return nil
	})
	return t, err
}

// DeleteTemplate deletes a template; jobs made from it are not touched.
func (g *Engine) DeleteTemplate(ctx context.Context, id muster.TemplateID) error {
	return g.update(ctx, store.Keys{}, func(tx store.Tx, now muster.Time) error {
		t, ok := tx.Template(id)
		if !ok {
			return noTemplate(id)
		}
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefTemplate, Name: string(id)}})
		tx.Delete(store.Template{Template: t})
		return nil
	})
}

// ListTemplates lists templates by id.
func (g *Engine) ListTemplates(ctx context.Context, p Page) (templates []muster.Template, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		templates, next, err = tx.Templates(p)
		return err
	})
	return templates, next, err
}
