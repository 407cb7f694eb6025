package operate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"go.yaml.in/yaml/v3"
)

// A File is what somebody wants to be there: documents in YAML or JSON, separated by ---. A document with a jobId is a job
// as CreateJob takes it, one with a jobTemplateId a template as CreateJobTemplate takes it, one with a thingGroupName a
// group and its members.
type File struct {
	Groups    []Group
	Templates []iot.CreateJobTemplateInput
	Jobs      []iot.CreateJobInput
}

// A Group is a thing group as a file describes it.
type Group struct {
	ThingGroupName  string
	ParentGroupName string
	Description     *string
	Attributes      map[string]string
	Things          []string // members
}

// Read reads a file. Members that the calls do not have are refused.
func Read(r io.Reader) (*File, error) {
	f := new(File)
	dec := yaml.NewDecoder(r)
	for n := 1; ; n++ {
		var doc map[string]any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if doc == nil {
			continue
		}
		if err := f.take(doc); err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
	}
	if len(f.Groups)+len(f.Templates)+len(f.Jobs) == 0 {
		return nil, errors.New("the file describes nothing")
	}
	return f, nil
}

func (f *File) take(doc map[string]any) error {
	has := func(member string) bool { _, ok := doc[member]; return ok }
	switch {
	case has("jobId"):
		if err := readable(doc); err != nil {
			return err
		}
		var in iot.CreateJobInput
		if err := strictly(doc, &in); err != nil {
			return err
		}
		if in.JobId == nil || *in.JobId == "" || len(in.Targets) == 0 {
			return errors.New("a job needs a jobId and targets")
		}
		f.Jobs = append(f.Jobs, in)
	case has("jobTemplateId"):
		if err := readable(doc); err != nil {
			return err
		}
		var in iot.CreateJobTemplateInput
		if err := strictly(doc, &in); err != nil {
			return err
		}
		if in.JobTemplateId == nil || *in.JobTemplateId == "" {
			return errors.New("a template needs a jobTemplateId")
		}
		f.Templates = append(f.Templates, in)
	case has("thingGroupName"):
		var g Group
		if err := strictly(doc, &g); err != nil {
			return err
		}
		if g.ThingGroupName == "" {
			return errors.New("a group needs a thingGroupName")
		}
		slices.Sort(g.Things)
		g.Things = slices.Compact(g.Things)
		f.Groups = append(f.Groups, g)
	default:
		return errors.New("it is none of: a job (jobId), a template (jobTemplateId), a group (thingGroupName)")
	}
	return nil
}

// readable turns what a person writes into what the calls take: the document of a job may be a mapping, and so may tags.
func readable(doc map[string]any) error {
	if d, ok := doc["document"]; ok {
		if _, text := d.(string); !text {
			b, err := json.Marshal(d)
			if err != nil {
				return fmt.Errorf("document cannot be written as JSON: %w", err)
			}
			doc["document"] = string(b)
		}
	}
	if tags, ok := doc["tags"].(map[string]any); ok {
		var list []map[string]any
		for _, key := range sorted(tags) {
			list = append(list, map[string]any{"key": key, "value": fmt.Sprint(tags[key])})
		}
		doc["tags"] = list
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// strictly decodes a document, naming what does not belong.
func strictly(doc map[string]any, into any) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err = dec.Decode(into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		name, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
		if unknown {
			return fmt.Errorf("there is no member %s", name)
		}
	}
	return err
}
