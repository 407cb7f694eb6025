package engine

import (
	"context"
	"slices"

	"muster"
	"muster/internal/store"
)

// NewJob is what CreateJob carries. Exactly one of Document, DocumentSource, Template and Managed
// says where the document comes from.
type NewJob struct {
	ID          muster.JobID
	Targets     []muster.Target
	Selection   muster.Selection
	Description string
	Namespace   string

	Document       *string
	DocumentSource string
	Template       muster.TemplateID
	Managed        *ManagedRef
	TemplateARN    string // as given, to be shown again

	Parameters                 muster.Pairs
	Settings                   muster.Settings // what is given overrides a template
	Scheduling                 *SchedulingInput
	DestinationPackageVersions []string
	Tags                       muster.Pairs
}

// ManagedRef names a managed template; Version "" is the default version.
type ManagedRef struct{ Name, Version string }

// SchedulingInput is schedulingConfig as it came.
type SchedulingInput struct {
	Start, End, EndBehavior string
	Windows                 []muster.Window
}

// CreateJob makes a job. It answers before anything is rolled out: the time it takes does not depend
// on how many things the targets hold.
func (g *Engine) CreateJob(ctx context.Context, n NewJob) (result muster.Job, err error) {
	job, doc, err := g.prepareJob(ctx, n)
	if err != nil {
		return muster.Job{}, err
	}
	err = g.update(ctx, store.Keys{Jobs: []muster.JobID{n.ID}}, func(tx store.Tx, now muster.Time) error {
		if err := g.freeJob(tx, n.ID); err != nil {
			return err
		}
		if err := checkTargets(tx, job.Targets, "targets"); err != nil {
			return err
		}
		result = g.beginJob(tx, job, doc, n.Tags, now)
		return nil
	})
	if err != nil {
		return muster.Job{}, err
	}
	g.rouse()
	return result, nil
}

// freeJob says whether another job may be made, of that id.
func (g *Engine) freeJob(tx store.Reader, id muster.JobID) error {
	if _, exists := tx.Job(id); exists {
		return taken(muster.RefJob, string(id), "Job %s already exists", id)
	}
	if n := tx.JobCount(muster.JobScheduled) + tx.JobCount(muster.JobInProgress); n >= g.limits.ActiveJobs {
		return muster.Errorf(muster.LimitExceeded, "There are %d active jobs; at most %d are allowed", n, g.limits.ActiveJobs)
	}
	return nil
}

// beginJob stores a job that was checked and sets going what it does by itself.
func (g *Engine) beginJob(tx store.Tx, made muster.Job, doc muster.Document, tags muster.Pairs, now muster.Time) muster.Job {
	made.Seq = tx.NextSeq()
	made.Created, made.Updated = now, now
	made.Status, made.Rolling = muster.JobInProgress, true
	if s := made.Scheduling; s != nil {
		if s.StartAt > now || made.Windowed() {
			made.Status, made.Rolling = muster.JobScheduled, false
		}
		tx.Put(store.Deadline{Due: now, Kind: store.Schedule, Subject: string(made.ID), Cursor: jobCursor(&made)})
	}
	if made.Rolling {
		g.admit(tx, &made, now)
	}
	putJob(tx, &made, now)
	tx.Put(store.Document{Job: made.ID, Document: doc})
	if tags != "" {
		tx.Put(store.Tags{Of: muster.Ref{Kind: muster.RefJob, Name: string(made.ID)}, Tags: tags})
	}
	return made
}

// prepareJob checks everything that needs no look at other jobs, and gets the document.
func (g *Engine) prepareJob(ctx context.Context, n NewJob) (job muster.Job, doc muster.Document, err error) {
	job = muster.Job{ID: n.ID, Targets: uniqueTargets(n.Targets), Selection: n.Selection, Description: n.Description, Namespace: n.Namespace,
		Settings: n.Settings, TemplateARN: n.TemplateARN, Parameters: n.Parameters,
		DestinationPackageVersions: n.DestinationPackageVersions, DocumentSource: n.DocumentSource}
	var windows []muster.Window
	if n.Template != "" {
		t, err := g.DescribeTemplate(ctx, n.Template)
		if err != nil {
			return job, doc, err
		}
		if n.Document != nil || n.DocumentSource != "" {
			return job, doc, muster.Errorf(muster.Invalid, "document and documentSource cannot be given together with jobTemplateArn")
		}
		doc.Text, job.DocumentSource = t.Document, t.DocumentSource
		job.Settings = overlay(t.Settings, n.Settings)
		windows = t.Windows
		if job.Description == "" {
			job.Description = t.Description
		}
		if job.DestinationPackageVersions == nil {
			job.DestinationPackageVersions = t.DestinationPackageVersions
		}
	} else if doc, err = g.newDocument(ctx, n); err != nil {
		return job, doc, err
	}
	if n.Parameters != "" && n.Managed == nil {
		return job, doc, muster.Errorf(muster.Invalid, "documentParameters can only be given with the jobTemplateArn of a managed template")
	}
	if len(job.Targets) > muster.MaxTargets {
		return job, doc, muster.Errorf(muster.Invalid, "targets names %d targets; at most %d are allowed", len(job.Targets), muster.MaxTargets)
	}
	if len(job.DestinationPackageVersions) > muster.MaxPackageVersions {
		return job, doc, muster.Errorf(muster.Invalid, "destinationPackageVersions has %d entries; at most %d are allowed", len(job.DestinationPackageVersions), muster.MaxPackageVersions)
	}
	if err := checkAnyTags(n.Tags); err != nil {
		return job, doc, err
	}
	if job.Extras, err = muster.ParseExtras(n.Tags); err != nil {
		return job, doc, err
	}
	if err := job.Settings.Check(g.limits.PerMinute); err != nil {
		return job, doc, err
	}
	if n.Scheduling == nil && len(windows) > 0 {
		n.Scheduling = &SchedulingInput{Windows: windows}
	}
	if s := n.Scheduling; s != nil {
		if len(s.Windows) == 0 {
			s.Windows = windows
		}
		job.Scheduling, err = muster.ParseScheduling(s.Start, s.End, s.EndBehavior, s.Windows, n.Selection, g.clock.Now())
	}
	return job, doc, err
}

// newDocument gets the document of a job or template from where the request says.
func (g *Engine) newDocument(ctx context.Context, n NewJob) (doc muster.Document, err error) {
	given := 0
	for _, is := range []bool{n.Document != nil, n.DocumentSource != "", n.Managed != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return doc, muster.Errorf(muster.Invalid, "Exactly one of document, documentSource and jobTemplateArn must be given, not %d of them", given)
	}
	switch {
	case n.Document != nil:
		doc.Text = *n.Document
	case n.Managed != nil:
		t, ok := muster.ManagedTemplateNamed(n.Managed.Name, n.Managed.Version)
		if !ok {
			return doc, muster.Errorf(muster.NotFound, "Managed job template %s version %s does not exist", n.Managed.Name, n.Managed.Version)
		}
		doc.Source = t.Document
		if doc.Text, err = t.Fill(n.Parameters); err != nil {
			return doc, err
		}
	default:
		if g.docs == nil {
			return doc, muster.Errorf(muster.Invalid, "documentSource is %s, but no document sources are configured", n.DocumentSource)
		}
		if doc.Text, err = g.docs.Fetch(ctx, n.DocumentSource); err != nil {
			return doc, err
		}
	}
	return doc, muster.CheckDocument(doc.Text)
}

// overlay is base with everything that over gives.
func overlay(base, over muster.Settings) muster.Settings {
	if over.Presign != nil {
		base.Presign = over.Presign
	}
	if over.Rollout != nil {
		base.Rollout = over.Rollout
	}
	if over.Abort != nil {
		base.Abort = over.Abort
	}
	if over.Timeout != nil {
		base.Timeout = over.Timeout
	}
	if over.Retry != nil {
		base.Retry = over.Retry
	}
	return base
}

func uniqueTargets(in []muster.Target) []muster.Target {
	out := make([]muster.Target, 0, len(in))
	seen := make(map[muster.Target]bool, len(in))
	for _, t := range in {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

func checkTargets(tx store.Reader, targets []muster.Target, member string) error {
	for _, t := range targets {
		if t.Group != "" {
			if _, ok := tx.Group(t.Group); !ok {
				return muster.Errorf(muster.NotFound, "%s names thing group %s, which does not exist", member, t.Group)
			}
		} else if _, ok := tx.Thing(t.Thing); !ok {
			return muster.Errorf(muster.NotFound, "%s names thing %s, which does not exist", member, t.Thing)
		}
	}
	return nil
}

// JobView is a job with its counters.
type JobView struct {
	*muster.Job
	Counts muster.Counts
	// Processing are the targets that are still being rolled out.
	Processing []muster.Target
	// Now is the moment of the view.
	Now muster.Time
}

func noJob(id muster.JobID) error {
	return muster.Errorf(muster.NotFound, "Job %s does not exist", id)
}

// DescribeJob returns a job with its counters.
func (g *Engine) DescribeJob(ctx context.Context, id muster.JobID) (v JobView, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		v = JobView{Job: job, Counts: tx.Counts(id), Now: g.clock.Now()}
		if job.Rolling {
			v.Processing = job.Targets[min(job.RolledOut, len(job.Targets)):]
		}
		return nil
	})
	return v, err
}

// Document returns a job's document.
func (g *Engine) Document(ctx context.Context, id muster.JobID) (doc muster.Document, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		var ok bool
		if doc, ok = tx.Document(id); !ok {
			return noJob(id)
		}
		return nil
	})
	return doc, err
}

// A JobPatch is what UpdateJob carries; what is nil stays.
type JobPatch struct {
	Description *string
	Settings    muster.Settings
}

// UpdateJob changes the description and settings of an active job.
func (g *Engine) UpdateJob(ctx context.Context, id muster.JobID, p JobPatch) error {
	if err := p.Settings.Check(g.limits.PerMinute); err != nil {
		return err
	}
	return g.changeJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		if !job.Status.Active() {
			return job, muster.Errorf(muster.Invalid, "Job %s is %s; only a job that is IN_PROGRESS or SCHEDULED can be updated", id, job.Status)
		}
		if p.Description != nil {
			job.Description = *p.Description
		}
		job.Settings = overlay(job.Settings, p.Settings)
		job.Updated = now
		return job, nil
	})
}

// changeJob replaces a job row by what fn makes of it.
func (g *Engine) changeJob(ctx context.Context, id muster.JobID, fn func(store.Tx, muster.Job, muster.Time) (muster.Job, error)) error {
	err := g.update(ctx, store.Keys{Jobs: []muster.JobID{id}}, func(tx store.Tx, now muster.Time) error {
		job, ok := tx.Job(id)
		if !ok {
			return noJob(id)
		}
		next, err := fn(tx, *job, now)
		if err != nil {
			return err
		}
		putJob(tx, &next, now)
		return nil
	})
	if err == nil {
		g.rouse()
	}
	return err
}

// CancelJob cancels a job. What is queued, and with force what is in progress, is canceled from that
// moment on, though the sweep that stores it takes its time.
func (g *Engine) CancelJob(ctx context.Context, id muster.JobID, force bool, reason, comment string) (result muster.Job, err error) {
	err = g.changeJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		next, err := job.Cancel(force, reason, comment, now)
		if err != nil {
			return job, err
		}
		tx.Put(store.Deadline{Due: now, Kind: store.Sweep, Subject: string(id), Cursor: jobCursor(&job)})
		result = next
		return next, nil
	})
	return result, err
}

// DeleteJob deletes a job and its executions: at once for who asks, in the background for the store.
func (g *Engine) DeleteJob(ctx context.Context, id muster.JobID, force bool) error {
	return g.changeJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		next, err := job.Delete(force, now)
		if err != nil {
			return job, err
		}
		if n := tx.JobCount(muster.JobDeleting); n >= muster.MaxDeletingJobs {
			return job, muster.Errorf(muster.LimitExceeded, "%d jobs are being deleted; at most %d at a time", n, muster.MaxDeletingJobs)
		}
		tx.Put(store.Deadline{Due: now, Kind: store.Delete, Subject: string(id), Cursor: jobCursor(&job)})
		return next, nil
	})
}

// AssociateTargets adds thing groups to a CONTINUOUS job in progress.
func (g *Engine) AssociateTargets(ctx context.Context, id muster.JobID, groups []muster.Target, comment string) (result muster.Job, err error) {
	err = g.changeJob(ctx, id, func(tx store.Tx, job muster.Job, now muster.Time) (muster.Job, error) {
		if job.EndReached != 0 {
			return job, muster.Errorf(muster.Invalid, "Job %s has reached its endTime; nothing is rolled out any more", id)
		}
		if job.Selection != muster.Continuous || job.Status != muster.JobInProgress {
			return job, muster.Errorf(muster.Invalid, "Job %s is %s and %s; targets can only be added to a CONTINUOUS job that is IN_PROGRESS", id, job.Selection, job.Status)
		}
		for _, t := range groups {
			if t.Group == "" {
				return job, muster.Errorf(muster.Invalid, "targets names thing %s; only thing groups can be associated with a job", t.Thing)
			}
		}
		if err := checkTargets(tx, groups, "targets"); err != nil {
			return job, err
		}
		all := uniqueTargets(append(slices.Clone(job.Targets), groups...))
		if len(all) > muster.MaxTargets {
			return job, muster.Errorf(muster.LimitExceeded, "Job %s would have %d targets; at most %d are allowed", id, len(all), muster.MaxTargets)
		}
		if len(all) > len(job.Targets) {
			job.Targets = all
			if !job.Rolling {
				job.Rolling = true
				g.admit(tx, &job, now)
			}
		}
		if comment != "" {
			job.Comment = comment
		}
		job.Updated = now
		result = job
		return job, nil
	})
	return result, err
}

// A JobSummary is a row of ListJobs.
type JobSummary struct {
	*muster.Job
	GroupID string // of the only target, if that is a group
}

// ListJobs lists jobs, newest first. groupID may be given instead of the filter's group.
func (g *Engine) ListJobs(ctx context.Context, f JobFilter, groupID string, p Page) (rows []JobSummary, next string, err error) {
	err = g.store.View(ctx, func(tx store.Reader) error {
		if groupID != "" {
			name, ok := groupByID(tx, groupID)
			if !ok {
				return muster.Errorf(muster.NotFound, "There is no thing group with id %s", groupID)
			}
			if f.Group != "" && f.Group != name {
				return muster.Errorf(muster.Invalid, "thingGroupName %s and thingGroupId %s are not the same group", f.Group, groupID)
			}
			f.Group = name
		}
		if f.Group != "" {
			if _, ok := tx.Group(f.Group); !ok {
				return muster.Errorf(muster.NotFound, "Thing group %s does not exist", f.Group)
			}
		}
		jobs, token, err := tx.Jobs(f, p)
		if err != nil {
			return err
		}
		rows, next = make([]JobSummary, len(jobs)), token
		for i, job := range jobs {
			rows[i].Job = job
			if len(job.Targets) == 1 && job.Targets[0].Group != "" {
				if group, ok := tx.Group(job.Targets[0].Group); ok {
					rows[i].GroupID = group.ID
				}
			}
		}
		return nil
	})
	return rows, next, err
}
