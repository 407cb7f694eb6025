package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A Step is one thing that a plan does.
type Step struct {
	Sign    string // +, ~ or -/+ for what is replaced
	What    string
	Details []string
	do      []func(context.Context) error
}

// A Plan is the way from what is there to what a file wants.
type Plan struct {
	Steps []Step
	// Wrong is what cannot be done; with it nothing is. Notes is what one should know.
	Wrong, Notes []string
}

// A planner looks at what is there. Its client stands in no exported signature: the linker would keep all of its operations.
type planner struct {
	control *iot.Client
	prune   bool
	plan    Plan
	made    map[string]bool // groups that the plan makes
}

// MakePlan compares a file with what is there, and changes nothing. With prune members that the file does not name leave their groups.
func MakePlan(ctx context.Context, control *iot.Client, f *File, prune bool) (*Plan, error) {
	p := &planner{control: control, prune: prune, made: map[string]bool{}}
	for i := range f.Groups {
		if err := p.group(ctx, &f.Groups[i]); err != nil {
			return nil, fmt.Errorf("group %s: %w", f.Groups[i].ThingGroupName, err)
		}
	}
	for i := range f.Templates {
		if err := p.template(ctx, &f.Templates[i]); err != nil {
			return nil, fmt.Errorf("template %s: %w", *f.Templates[i].JobTemplateId, err)
		}
	}
	for i := range f.Jobs {
		if err := p.job(ctx, &f.Jobs[i]); err != nil {
			return nil, fmt.Errorf("job %s: %w", *f.Jobs[i].JobId, err)
		}
	}
	return &p.plan, nil
}

// Do does what the plan says, telling of each step that is done. It stops at the first error; the same file can be planned again.
func (p *Plan) Do(ctx context.Context, done func(Step)) error {
	for _, s := range p.Steps {
		for _, do := range s.do {
			if err := do(ctx); err != nil {
				return fmt.Errorf("%s %s: %w", s.Sign, s.What, err)
			}
		}
		done(s)
	}
	return nil
}

func (p *planner) wrong(format string, args ...any) {
	p.plan.Wrong = append(p.plan.Wrong, fmt.Sprintf(format, args...))
}

func (p *planner) add(s *Step) {
	if len(s.do) > 0 {
		p.plan.Steps = append(p.plan.Steps, *s)
	}
}

func (s *Step) detail(format string, args ...any) {
	s.Details = append(s.Details, fmt.Sprintf(format, args...))
}

// missing says whether an error is that there is no such thing.
func missing(err error) bool {
	_, none := errors.AsType[*types.ResourceNotFoundException](err)
	return none
}

// differs compares a member that a file gives with what is there. What the file does not say may be anything.
func (s *Step) differs(name string, wanted, is any) bool {
	w := plain(wanted)
	if w == nil || covers(w, plain(is)) {
		return false
	}
	s.detail("%s: %s -> %s", name, brief(plain(is)), brief(w))
	return true
}

// plain is a value of the SDK as the wire names it, without what is not said.
func plain(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // inputs are data
	}
	var x any
	if err := json.Unmarshal(text, &x); err != nil {
		panic(err)
	}
	return strip(x)
}

func strip(x any) any {
	switch x := x.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range x {
			if v = strip(v); v != nil {
				out[strings.ToLower(k[:1])+k[1:]] = v
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		for i := range x {
			x[i] = strip(x[i])
		}
		if len(x) == 0 {
			return nil
		}
	case string:
		if x == "" {
			return nil
		}
	}
	return x
}

// covers says whether all that is wanted is there.
func covers(wanted, is any) bool {
	switch w := wanted.(type) {
	case map[string]any:
		m, ok := is.(map[string]any)
		for k, v := range w {
			if !ok || !covers(v, m[k]) {
				return false
			}
		}
		return true
	case []any:
		l, ok := is.([]any)
		if !ok || len(l) != len(w) {
			return false
		}
		for i := range w {
			if !covers(w[i], l[i]) {
				return false
			}
		}
		return true
	}
	return wanted == is
}

// longestBrief is as much of a value as a plan shows.
const longestBrief = 200

func brief(x any) string {
	if x == nil {
		return "none"
	}
	text, err := json.Marshal(x)
	if err != nil {
		panic(err)
	}
	if len(text) > longestBrief {
		return string(text[:longestBrief]) + "…"
	}
	return string(text)
}

// sameJSON says whether two texts are the same document.
func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return reflect.DeepEqual(x, y)
}
