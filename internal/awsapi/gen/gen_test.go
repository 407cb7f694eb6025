package main

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const tinyModel = `{
 "operations": {
  "PutLamp": {"name":"PutLamp","http":{"method":"PUT","requestUri":"/lamps/{lampId}"},"input":{"shape":"PutLampRequest"},"output":{"shape":"PutLampResponse"}},
  "BuyLamp": {"name":"BuyLamp","http":{"method":"POST","requestUri":"/shop","responseCode":201}}
 },
 "shapes": {
  "PutLampRequest": {"type":"structure","required":["lampId","mode"],"members":{
   "mode":{"shape":"Mode"}, "lampId":{"shape":"LampId","location":"uri","locationName":"lampId"},
   "dryRun":{"shape":"Flag","location":"querystring","locationName":"isDryRun"}, "labels":{"shape":"Labels"}, "bulbs":{"shape":"Bulbs"}, "rooms":{"shape":"Rooms"}}},
  "PutLampResponse": {"type":"structure","members":{"lampArn":{"shape":"Text"},"litAt":{"shape":"Time"},"bulbs":{"shape":"Bulbs"}}},
  "LampId": {"type":"string","min":1,"max":8,"pattern":"[a-z-]+"},
  "Mode": {"type":"string","enum":["ON","HALF_ON"]},
  "Text": {"type":"string"}, "Flag": {"type":"boolean"}, "Time": {"type":"timestamp"}, "Watts": {"type":"integer","min":0,"max":100},
  "Labels": {"type":"map","key":{"shape":"LampId"},"value":{"shape":"Text"}},
  "Rooms": {"type":"map","key":{"shape":"Mode"},"value":{"shape":"Room"}},
  "Room": {"type":"structure","members":{"lit":{"shape":"Flag"}}},
  "Bulbs": {"type":"list","member":{"shape":"Bulb"},"min":1},
  "Bulb": {"type":"structure","required":["watts"],"members":{"watts":{"shape":"Watts"}}}
 }
}`

var tinyService = service{
	pkg: "lamps", doc: "Package lamps is a test.", plane: "Control",
	nouns:   []noun{{"lamp", "PutLamp"}},
	amend:   map[string]amendment{"Text": {max: 5}},
	aliases: map[string]string{"PutLampInput.mode": "LIT=ON"},
}

func TestGenerate(t *testing.T) {
	files, err := generate(tinyService, []byte(tinyModel))
	if err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"operations.go": {
			header, "// Package lamps is a test.\npackage lamps",
			`{Name: "BuyLamp", Method: "POST", Path: "/shop", Plane: wire.Control, Status: 201, Built: false, Body: false, Answer: false},`,
			`{Name: "PutLamp", Method: "PUT", Path: "/lamps/{lampId}", Plane: wire.Control, Status: 200, Built: true, Body: true, Answer: true},`,
		},
		"enums.go": {`ModeOn = "ON"`, `ModeHalfOn = "HALF_ON"`},
		"rules.go": {
			"ruleLampID = wire.StringRule{Min: 1, Max: 8, Pattern: `[a-z-]+`, Match: class1.Some}",
			"class1 = wire.Class{Low: [4]uint64{0x200000000000, 0x7fffffe00000000, 0x0, 0x0}}",
			`ruleMode = wire.StringRule{Enum: []string{"ON", "HALF_ON"}}`, "ruleText = wire.StringRule{Max: 5}",
		},
		"lamp.go": {
			"Mode *string // required", "LampID string // path", "DryRun *bool // query isDryRun", "Labels wire.Map", "Bulbs []Bulb",
			"LampARN *string", "LitAt *time.Time",
			`in.LampID = label("lampId")`, `wire.QueryBool(query, "isDryRun", "dryRun")`,
			`*in.Mode == "LIT"`, `*in.Mode = "ON"`, `v.Required("mode")`, `ruleLampID.Check(v, "lampId", in.LampID)`,
			`wire.CheckMap(v, "labels", in.Labels, &ruleLampID, &ruleText)`,
			`v.CountAtLeast("bulbs", len(in.Bulbs), 1, func() string { return wire.ShowShapes("Bulb", len(in.Bulbs)) })`,
			"Rooms map[string]Room", "in.Rooms = map[string]Room{}", "key := string(r.Key()) var e Room if r.Object(key) { e.decode(r) r.Leave(key) } in.Rooms[key] = e",
			`wire.CheckKeys(v, "rooms", in.Rooms, &ruleMode)`, "for _, key := range slices.Sorted(maps.Keys(in.Rooms))", "b = append(e.AppendJSON(b), ',')",
			`v.AtMost("watts", *s.Watts, 100)`, `v.AtLeast("watts", *s.Watts, 0)`, `b = wire.AppendTime(b, *out.LitAt)`,
		},
	} {
		got := strings.Join(strings.Fields(string(files[name])), " ")
		for _, want := range wants {
			if !strings.Contains(got, strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
	for name := range files {
		if name != "operations.go" && name != "enums.go" && name != "rules.go" && name != "lamp.go" {
			t.Errorf("unexpected file %s", name)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		model, want string
	}{
		"a missing operation": {`{"operations":{}}`, "operation PutLamp is not in the model"},
		"a type it does not know": {strings.Replace(tinyModel, `"Text": {"type":"string"}`, `"Text": {"type":"blob"}`, 1),
			"no Go type for shape Labels"},
		"a missing amended shape": {strings.Replace(tinyModel, `"Text": {"type":"string"},`, ``, 1), "amended shape Text is not in the model"},
	} {
		svc := tinyService
		if name == "a missing operation" {
			svc.amend = nil
		}
		if _, err := generate(svc, []byte(c.model)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	for member, want := range map[string]string{
		"jobId": "JobID", "thingArn": "ThingARN", "presignedUrlConfig": "PresignedURLConfig", "Key": "Key", "mqtt5Configuration": "Mqtt5Configuration",
		"jobTemplateArn": "JobTemplateARN", "isConcurrent": "IsConcurrent", "JobID": "JobID", "identity": "Identity",
	} {
		if got := fieldName(member); got != want {
			t.Errorf("%s: got %s", member, got)
		}
	}
	if got := constName("JobStatus", "DELETION_IN_PROGRESS"); got != "JobStatusDeletionInProgress" {
		t.Error(got)
	}
}

// Tables must agree with what the pattern says as a regular expression.
func TestClassesAgreeWithRegularExpressions(t *testing.T) {
	for _, pattern := range []string{
		`[a-zA-Z0-9:_-]+`, `[^\p{C}]+`, `[^\p{C}]*`, `[\p{Graph}\x20]*`, `[\p{Upper}\p{Digit}_]+`, `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`,
		`[a-zA-Z0-9_.,@/:#=\[\]-]*`, `[a-zA-Z0-9:$.]+`, `[a-zA-Z0-9\-]+`, `[\w+=,.@-]+`, `^[\x21-\x7E]+$`, `^[0-9]*$`,
	} {
		branches, ok := parsePattern(pattern)
		if !ok || len(branches) != 1 || branches[0].set == nil {
			t.Errorf("%s is not read as a class", pattern)
			continue
		}
		set := branches[0].set
		re := regexp.MustCompile(`\A(?:` + goPattern(pattern) + `)\z`)
		if branches[0].empty != re.MatchString("") {
			t.Errorf("%s: empty string", pattern)
		}
		for r := rune(0); r < 0x3000; r++ {
			if got, want := set.has(r), re.MatchString(string(r)); got != want {
				t.Errorf("%s: %U is %t, want %t", pattern, r, got, want)
				break
			}
		}
	}
}

// has is what wire.Class does with the literal.
func (set *class) has(r rune) bool {
	if r < 256 {
		return set.low[r]
	}
	if set.allHigh {
		return true
	}
	in := false
	for _, name := range set.high {
		in = in || unicode.Is(unicode.Categories[name], r)
	}
	return in != set.negated
}

func TestPatternsThatAreNoClass(t *testing.T) {
	if !holdsAlways(`[\s\S]*`) || holdsAlways(`[\s\S]+`) || holdsAlways(`[\S]*`) {
		t.Error("what matches everything is not recognised")
	}
	if branches, ok := parsePattern(`[a-zA-Z0-9_-]+|^\$next`); !ok || len(branches) != 2 || branches[1].literal != "$next" {
		t.Errorf("alternatives: %+v", branches)
	}
	for _, pattern := range []string{`^[1-9]+.[0-9]+`, `(0x)?[a-fA-F0-9]+`, `[A-Za-z0-9+/]+={0,2}`, `^arn:[!-~]+$`, `a.c`} {
		if _, ok := parsePattern(pattern); ok {
			t.Errorf("%s needs a regular expression", pattern)
		}
		regexp.MustCompile(goPattern(pattern))
	}
}
