package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/bits"
	"unicode/utf8"

	"muster"
	"muster/internal/store"
)

// exportVersion is that of the lines of an export. A file of a newer one is refused.
const exportVersion = 1

// The values of the member "muster", which the first line of an export has, and the last.
const (
	exportBegins = "export"
	exportEnds   = "end"
)

// An exportLine is one line of an export: the first, one row, or the last. Lines of things, types, groups and
// memberships are lines of a bulk import too; what only a full export needs of them a bulk import passes over.
// Times are milliseconds since 1970.
type exportLine struct {
	Muster   string           `json:"muster,omitempty"`
	Version  int              `json:"version,omitempty"`  // of the first line
	Counts   map[string]int64 `json:"counts,omitempty"`   // of the last line, as are the rest: lines by kind
	Sequence uint64           `json:"sequence,omitempty"` // what the store's sequence has come to
	Digest   digest           `json:"digest,omitzero"`    // over all lines between the first and the last

	Type      *typeLine        `json:"thingType,omitempty"`
	Group     *groupLine       `json:"thingGroup,omitempty"`
	Thing     *thingLine       `json:"thing,omitempty"`
	Member    *memberLine      `json:"membership,omitempty"`
	Template  *muster.Template `json:"template,omitempty"`
	Job       *muster.Job      `json:"job,omitempty"`
	Document  *documentLine    `json:"document,omitempty"`
	Tags      *tagsLine        `json:"tags,omitempty"`
	Setting   *settingLine     `json:"setting,omitempty"`
	Execution *executionLine   `json:"execution,omitempty"`
	Spent     *spentLine       `json:"spent,omitempty"`
	Deadline  *deadlineLine    `json:"deadline,omitempty"`
}

type (
	typeLine struct {
		Name         muster.TypeName `json:"thingTypeName"`
		ID           string          `json:"thingTypeId,omitempty"`
		Description  string          `json:"thingTypeDescription,omitempty"`
		Searchable   []string        `json:"searchableAttributes,omitempty"`
		Created      muster.Time     `json:"created,omitempty"`
		Deprecated   bool            `json:"deprecated,omitempty"`
		DeprecatedAt muster.Time     `json:"deprecatedAt,omitempty"`
	}
	groupLine struct {
		Name        muster.GroupName `json:"thingGroupName"`
		ID          string           `json:"thingGroupId,omitempty"`
		Parent      muster.GroupName `json:"parentGroupName,omitempty"`
		Description string           `json:"thingGroupDescription,omitempty"`
		Attributes  muster.Pairs     `json:"attributes,omitempty"`
		Version     int64            `json:"version"`
		Created     muster.Time      `json:"created,omitempty"`
		Sequence    uint64           `json:"sequence"`
	}
	thingLine struct {
		Name         muster.ThingName `json:"thingName"`
		ID           string           `json:"thingId,omitempty"`
		Type         muster.TypeName  `json:"thingTypeName,omitempty"`
		Attributes   muster.Pairs     `json:"attributes,omitempty"`
		BillingGroup string           `json:"billingGroupName,omitempty"`
		Version      int64            `json:"version"`
	}
	memberLine struct {
		Thing    muster.ThingName `json:"thingName"`
		Group    muster.GroupName `json:"thingGroupName"`
		Sequence uint64           `json:"sequence"`
	}
	documentLine struct {
		Job    muster.JobID `json:"jobId"`
		Text   bytesText    `json:"document"`
		Source bytesText    `json:"source,omitempty"`
	}
	tagsLine struct {
		Kind muster.RefKind `json:"kind"`
		Name string         `json:"name"`
		Tags muster.Pairs   `json:"tags"`
	}
	settingLine struct {
		Name  bytesText `json:"name"`
		Value bytesText `json:"value"`
	}
	executionLine struct {
		Job               muster.JobID     `json:"jobId"`
		Thing             muster.ThingName `json:"thingName"`
		Number            int64            `json:"number"`
		Sequence          uint64           `json:"sequence"`
		Status            string           `json:"status"`
		ForceCanceled     bool             `json:"forceCanceled,omitempty"`
		Attempt           int32            `json:"attempt,omitempty"`
		TimedOutRetries   int32            `json:"timedOutRetries,omitempty"`
		Version           int64            `json:"version"`
		QueuedAt          muster.Time      `json:"queuedAt"`
		StartedAt         muster.Time      `json:"startedAt,omitempty"`
		UpdatedAt         muster.Time      `json:"updatedAt"`
		Details           muster.Pairs     `json:"details,omitempty"`
		InProgressTimeout muster.Time      `json:"inProgressTimeoutAt,omitempty"`
		StepTimeout       muster.Time      `json:"stepTimeoutAt,omitempty"`
	}
	spentLine struct {
		Job    muster.JobID     `json:"jobId"`
		Thing  muster.ThingName `json:"thingName"`
		Number int64            `json:"number"`
	}
	deadlineLine struct {
		Due     muster.Time        `json:"due"`
		Kind    store.DeadlineKind `json:"kind"`
		Subject string             `json:"subject"`
		Cursor  bytesText          `json:"cursor,omitempty"`
	}
)

// lineOf is a row as a line.
func lineOf(row store.Row) (l exportLine, kind string, err error) {
	switch r := row.(type) {
	case store.ThingType:
		l.Type = &typeLine{r.Name, r.ID, r.Description, r.Searchable, r.Created, r.Deprecated, r.DeprecatedAt}
	case store.Group:
		l.Group = &groupLine{r.Name, r.ID, r.Parent, r.Description, r.Attributes, r.Version, r.Created, r.Seq}
	case store.Thing:
		l.Thing = &thingLine{r.Name, r.ID, r.Type, r.Attributes, r.BillingGroup, r.Version}
	case store.Member:
		l.Member = &memberLine{r.Membership.Thing, r.Membership.Group, r.Seq}
	case store.Template:
		l.Template = &r.Template
	case store.Job:
		l.Job = r.Job
	case store.Document:
		l.Document = &documentLine{r.Job, bytesText(r.Text), bytesText(r.Source)}
	case store.Tags:
		l.Tags = &tagsLine{r.Of.Kind, r.Of.Name, r.Tags}
	case store.Setting:
		l.Setting = &settingLine{bytesText(r.Name), bytesText(r.Value)}
	case store.Execution:
		l.Execution = &executionLine{r.Job, r.Thing, r.Number, r.Seq, r.Status.String(), r.ForceCanceled, r.Attempt, r.TimedOutRetries, r.Version,
			r.QueuedAt, r.StartedAt, r.UpdatedAt, r.Details, r.InProgressTimeout, r.StepTimeout}
	case store.Spent:
		l.Spent = &spentLine{r.Job, r.Thing, r.Number}
	case store.Deadline:
		l.Deadline = &deadlineLine{r.Due, r.Kind, r.Subject, bytesText(r.Cursor)}
	default:
		return l, "", muster.Errorf(muster.Internal, "there is no line for a row of kind %T", row)
	}
	return l, l.kind(), nil
}

// row is a line as a row, nil if it is none that can be.
func (l *exportLine) row() store.Row {
	switch {
	case l.Type != nil:
		t := l.Type
		return store.ThingType{ThingType: muster.ThingType{Name: t.Name, ID: t.ID, Description: t.Description, Searchable: t.Searchable,
			Created: t.Created, Deprecated: t.Deprecated, DeprecatedAt: t.DeprecatedAt}}
	case l.Group != nil:
		g := l.Group
		return store.Group{Group: muster.Group{Name: g.Name, ID: g.ID, Seq: g.Sequence, Parent: g.Parent, Description: g.Description,
			Attributes: g.Attributes, Version: g.Version, Created: g.Created}}
	case l.Thing != nil:
		t := l.Thing
		return store.Thing{Thing: muster.Thing{Name: t.Name, ID: t.ID, Type: t.Type, Attributes: t.Attributes, BillingGroup: t.BillingGroup, Version: t.Version}}
	case l.Member != nil:
		return store.Member{Membership: muster.Membership{Group: l.Member.Group, Thing: l.Member.Thing, Seq: l.Member.Sequence}}
	case l.Template != nil:
		return store.Template{Template: *l.Template}
	case l.Job != nil:
		return store.Job{Job: l.Job}
	case l.Document != nil:
		return store.Document{Job: l.Document.Job, Document: muster.Document{Text: string(l.Document.Text), Source: string(l.Document.Source)}}
	case l.Tags != nil:
		return store.Tags{Of: muster.Ref{Kind: l.Tags.Kind, Name: l.Tags.Name}, Tags: l.Tags.Tags}
	case l.Setting != nil:
		return store.Setting{Name: string(l.Setting.Name), Value: string(l.Setting.Value)}
	case l.Execution != nil:
		e := l.Execution
		status, ok := muster.ParseStatus(e.Status)
		if !ok {
			return nil
		}
		return store.Execution{Execution: muster.Execution{Job: e.Job, Thing: e.Thing, Number: e.Number, Seq: e.Sequence, Status: status,
			ForceCanceled: e.ForceCanceled, Attempt: e.Attempt, TimedOutRetries: e.TimedOutRetries, Version: e.Version, QueuedAt: e.QueuedAt,
			StartedAt: e.StartedAt, UpdatedAt: e.UpdatedAt, Details: e.Details, InProgressTimeout: e.InProgressTimeout, StepTimeout: e.StepTimeout}}
	case l.Spent != nil:
		return store.Spent{Job: l.Spent.Job, Thing: l.Spent.Thing, Number: l.Spent.Number}
	case l.Deadline != nil:
		return store.Deadline{Due: l.Deadline.Due, Kind: l.Deadline.Kind, Subject: l.Deadline.Subject, Cursor: string(l.Deadline.Cursor)}
	}
	return nil
}

// kind is the member that a row's line has.
func (l *exportLine) kind() string {
	switch {
	case l.Type != nil:
		return "thingType"
	case l.Group != nil:
		return "thingGroup"
	case l.Thing != nil:
		return "thing"
	case l.Member != nil:
		return "membership"
	case l.Template != nil:
		return "template"
	case l.Job != nil:
		return "job"
	case l.Document != nil:
		return "document"
	case l.Tags != nil:
		return "tags"
	case l.Setting != nil:
		return "setting"
	case l.Execution != nil:
		return "execution"
	case l.Spent != nil:
		return "spent"
	case l.Deadline != nil:
		return "deadline"
	}
	return ""
}

// A bytesText is text, or what is not UTF-8 as {"base64":"…"}.
type bytesText string

func (t bytesText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(t))})
}

func (t *bytesText) UnmarshalJSON(v []byte) error {
	if len(v) > 0 && v[0] == '"' {
		return json.Unmarshal(v, (*string)(t))
	}
	var raw struct {
		Base64 []byte `json:"base64"`
	}
	err := json.Unmarshal(v, &raw)
	*t = bytesText(raw.Base64)
	return err
}

// A digest is the sum, modulo 2^256, of the SHA-256 of every line without its end: two files with the same lines in another
// order have the same.
type digest [4]uint64 // the least first

func (d *digest) add(line []byte) {
	h := sha256.Sum256(line)
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], binary.BigEndian.Uint64(h[24-8*i:]), carry)
	}
}

func (d digest) String() string {
	var b []byte
	for i := range d {
		b = binary.BigEndian.AppendUint64(b, d[3-i])
	}
	return hex.EncodeToString(b)
}

// MarshalText writes the digest as 64 hexadecimal digits.
func (d digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 32 {
		return muster.Errorf(muster.Invalid, "%q is not a digest of 64 hexadecimal digits", text)
	}
	for i := range d {
		d[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return nil
}
