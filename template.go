package muster

// TemplateID is 1..64 of [a-zA-Z0-9_-].
type TemplateID string

// A Template is a job document with settings, kept for later jobs. It never changes.
type Template struct {
	ID                         TemplateID
	Description                string
	Document                   string
	DocumentSource             string
	Settings                   Settings
	Windows                    []Window // control-plane.md: top level in a template, inside schedulingConfig in a job
	DestinationPackageVersions []string
	Created                    Time
}

// MaxTemplates is the number of templates an account may have.
const MaxTemplates = 100

// A Ref names something that can be tagged or that an error speaks of.
type Ref struct {
	Kind RefKind
	Name string
}

// A RefKind is the resource word of an ARN.
type RefKind string

const (
	RefJob      RefKind = "job"
	RefTemplate RefKind = "jobtemplate"
	RefThing    RefKind = "thing"
	RefGroup    RefKind = "thinggroup"
	RefType     RefKind = "thingtype"
)
