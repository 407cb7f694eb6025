package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"muster"
	"muster/internal/engine"
)

func reported(t *testing.T, answer string) ImportReport {
	t.Helper()
	var r ImportReport
	if err := json.Unmarshal([]byte(answer), &r); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return r
}

const mixed = `{"thingType":{"thingTypeName":"lamp"}}
{"thingGroup":{"thingGroupName":"house"}}

{"thingGroup":{"thingGroupName":"hall","parentGroupName":"house"}}
{"thing":{"thingName":"a","thingTypeName":"lamp","attributes":{"site":"north"},"thingGroupNames":["hall"]}}
{"thing":{"thingName":"b"}}
{"membership":{"thingName":"b","thingGroupName":"house"}}
`

func TestImport(t *testing.T) {
	s := start(t, Config{})
	url := s.url + "/_muster/import"
	first := want(t, "POST", url, mixed, 200)
	if want := `{"lines":6,"things":2,"thingTypes":1,"thingGroups":2,"memberships":2,"unchanged":0,"refused":0,"errors":[]}`; strings.TrimSpace(first) != want {
		t.Errorf("got  %swant %s", first, want)
	}
	if r := reported(t, want(t, "POST", url, mixed, 200)); r.Unchanged != 6 || r.Things+r.Memberships+r.Refused != 0 {
		t.Errorf("again: %+v", r)
	}
	want(t, "GET", s.url+"/things/a", "", 200, `"thingTypeName":"lamp"`, `"site":"north"`)
	want(t, "GET", s.url+"/thing-groups/hall/things", "", 200, `"a"`)
	want(t, "GET", s.url+"/things/b/thing-groups", "", 200, `"house"`)
}

const flawed = `{"thing":{"thingName":"good"}}
{"thing":{"thingName":"no good"}}
nonsense
{"thing":{"thingName":"homeless","thingGroupNames":["none"]}}
{"thing":{"thingName":"good","attributes":{"other":"1"}}}
{"thing":{"thingName":"last"}}`

func TestImportNamesBadLinesAndGoesOn(t *testing.T) {
	s := start(t, Config{})
	r := reported(t, want(t, "POST", s.url+"/_muster/import", flawed, 200))
	if r.Lines != 6 || r.Things != 2 || r.Refused != 4 {
		t.Errorf("%+v", r)
	}
	for i, line := range []int{2, 3, 4, 5} {
		if len(r.Errors) != 4 || r.Errors[i].Line != line {
			t.Fatalf("the refused lines are %+v", r.Errors)
		}
	}
	want(t, "GET", s.url+"/things/last", "", 200)
	// A line is taken as a whole: without its group the thing is not made either.
	want(t, "GET", s.url+"/things/homeless", "", 404)
}

func TestAtomicImport(t *testing.T) {
	s := start(t, Config{})
	url := s.url + "/_muster/import?atomic=true"
	r := reported(t, want(t, "POST", url, flawed, 400))
	if r.Things != 0 || r.Refused != 4 || len(r.Errors) != 4 {
		t.Errorf("%+v", r)
	}
	want(t, "GET", s.url+"/things/good", "", 404)
	if r := reported(t, want(t, "POST", url, mixed, 200)); r.Things != 2 || r.Memberships != 2 {
		t.Errorf("%+v", r)
	}
	want(t, "GET", s.url+"/things/a", "", 200)
	want(t, "POST", s.url+"/_muster/import?atomic=perhaps", mixed, 400, "true or false")
}

// The rehearsal finds what the import would refuse because of lines above, not only of what is stored.
func TestAtomicImportSeesTheLinesAbove(t *testing.T) {
	s := start(t, Config{})
	want(t, "POST", s.url+"/thing-groups/stored", "{}", 200)
	var deep strings.Builder
	for i := range muster.MaxGroupDepth + 1 {
		fmt.Fprintf(&deep, `{"thingGroup":{"thingGroupName":"d%d","parentGroupName":"%s"}}`+"\n", i, []string{"stored", fmt.Sprintf("d%d", i-1)}[min(i, 1)])
	}
	var children strings.Builder
	for i := range muster.MaxChildren + 1 {
		fmt.Fprintf(&children, `{"thingGroup":{"thingGroupName":"c%d","parentGroupName":"stored"}}`+"\n", i)
	}
	for name, c := range map[string]struct {
		text string
		bad  int
	}{
		"too deep":          {deep.String(), muster.MaxGroupDepth},
		"too many children": {children.String(), muster.MaxChildren + 1},
		"two of a hierarchy": {`{"thingGroup":{"thingGroupName":"sub","parentGroupName":"stored"}}
{"thing":{"thingName":"x","thingGroupNames":["stored"]}}
{"membership":{"thingName":"x","thingGroupName":"sub"}}`, 3},
		"defined twice": {`{"thing":{"thingName":"x","attributes":{"a":"1"}}}
{"thing":{"thingName":"x","attributes":{"a":"2"}}}`, 2},
		"refused, then made": {`{"thing":{"thingName":"x","thingGroupNames":["none"]}}
{"thing":{"thingName":"x"}}`, 1},
	} {
		rehearsed := reported(t, want(t, "POST", s.url+"/_muster/import?atomic=true", c.text, 400))
		if len(rehearsed.Errors) == 0 || rehearsed.Errors[0].Line != c.bad {
			t.Errorf("%s: %+v; line %d should be refused", name, rehearsed, c.bad)
		}
		other := start(t, Config{})
		want(t, "POST", other.url+"/thing-groups/stored", "{}", 200)
		if real := reported(t, want(t, "POST", other.url+"/_muster/import", c.text, 200)); fmt.Sprint(real.Errors) != fmt.Sprint(rehearsed.Errors) {
			t.Errorf("%s: the rehearsal says %v, the import %v", name, rehearsed.Errors, real.Errors)
		}
	}
}

// Slices overtake each other only where that cannot be seen.
func TestImportInManySlices(t *testing.T) {
	const n = 5*engine.ImportSlice + 7
	var text strings.Builder
	text.WriteString(`{"thingGroup":{"thingGroupName":"all"}}` + "\n")
	for i := range n {
		fmt.Fprintf(&text, `{"thing":{"thingName":"t%d"}}`+"\n", i)
	}
	for i := range n {
		fmt.Fprintf(&text, `{"membership":{"thingName":"t%d","thingGroupName":"all"}}`+"\n", i)
		if i%1000 == 500 {
			text.WriteString("bad\n")
		}
	}
	s := start(t, Config{Store: "pebble:" + filepath.Join(t.TempDir(), "data")})
	r := reported(t, want(t, "POST", s.url+"/_muster/import", text.String(), 200))
	if r.Things != n || r.Memberships != n || r.Refused != 5 {
		r.Errors = r.Errors[:min(len(r.Errors), 3)]
		t.Errorf("%+v", r)
	}
	for i := 1; i < len(r.Errors); i++ {
		if r.Errors[i].Line <= r.Errors[i-1].Line {
			t.Errorf("refused lines are out of order: %v", r.Errors)
		}
	}
}

func TestImportExplainsTheFirstThousand(t *testing.T) {
	s := start(t, Config{})
	r := reported(t, want(t, "POST", s.url+"/_muster/import", strings.Repeat("bad\n", 2500), 200))
	if r.Lines != 2500 || r.Refused != 2500 || len(r.Errors) != maxReasons || r.Errors[999].Line != 1000 {
		t.Errorf("%d lines, %d refused, %d explained", r.Lines, r.Refused, len(r.Errors))
	}
}

func TestSliceFollows(t *testing.T) {
	thing := func(name, group string) engine.ImportRow {
		return engine.ImportRow{Thing: &muster.Thing{Name: muster.ThingName(name), Type: "lamp"}, Groups: []muster.GroupName{muster.GroupName(group)}}
	}
	group := func(name, parent string) engine.ImportRow {
		return engine.ImportRow{Group: &muster.Group{Name: muster.GroupName(name), Parent: muster.GroupName(parent)}}
	}
	member := func(name, group string) engine.ImportRow {
		return engine.ImportRow{Member: &muster.Membership{Thing: muster.ThingName(name), Group: muster.GroupName(group)}}
	}
	for _, c := range []struct {
		name          string
		before, after engine.ImportRow
		follows       bool
	}{
		{"things of a type and a group", thing("a", "g"), thing("b", "g"), false},
		{"the same thing", thing("a", "g"), thing("a", "h"), true},
		{"a thing after its group", group("g", ""), thing("a", "g"), true},
		{"a thing after its type", engine.ImportRow{Type: &muster.ThingType{Name: "lamp"}}, thing("a", "g"), true},
		{"a group after a thing that used it", thing("a", "g"), group("g", ""), true},
		{"a child after its parent", group("g", ""), group("c", "g"), true},
		{"siblings", group("c", "g"), group("d", "g"), true},
		{"groups", group("g", ""), group("h", ""), false},
		{"a membership after its thing", thing("a", "g"), member("a", "h"), true},
		{"memberships of a thing", member("a", "g"), member("a", "h"), true},
		{"memberships of a group", member("a", "g"), member("b", "g"), false},
		{"a type and a group of one name", engine.ImportRow{Type: &muster.ThingType{Name: "x"}}, group("x", ""), false},
	} {
		before, after := newSlice(), newSlice()
		before.add(1, c.before)
		after.add(2, c.after)
		if got := after.follows(before); got != c.follows {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestLines(t *testing.T) {
	fits, long := strings.Repeat("x", maxLine-1), strings.Repeat("x", maxLine)
	in := lines{r: bufio.NewReaderSize(strings.NewReader("one\r\n\n  \ntwo\n"+fits+"\n"+long+"\nlast"), 16)}
	var got []string
	for in.next() {
		show := string(in.text)
		switch {
		case in.bad != nil:
			show = "too long"
		case show == fits:
			show = "fits"
		}
		got = append(got, fmt.Sprintf("%d %s", in.number, show))
	}
	if want := []string{"1 one", "4 two", "5 fits", "6 too long", "7 last"}; !slices.Equal(got, want) || in.err != nil {
		t.Errorf("got %v, %v; want %v", got, in.err, want)
	}
}

func TestImportThatBreaksOff(t *testing.T) {
	broken := io.MultiReader(strings.NewReader(mixed), &failing{errors.New("cut")})
	taken := 0
	r, err := take(t.Context(), broken, 1, func(_ context.Context, rows []engine.ImportRow) ([]engine.ImportResult, error) {
		taken += len(rows)
		return make([]engine.ImportResult, len(rows)), nil
	})
	if err == nil || taken != 0 || r.Lines != 6 {
		t.Errorf("%d rows were taken, %+v, %v", taken, r, err)
	}
	failed := errors.New("full")
	_, err = take(t.Context(), strings.NewReader(strings.Repeat(mixed, 1000)), inFlight, func(context.Context, []engine.ImportRow) ([]engine.ImportResult, error) {
		return nil, failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("the store's error became %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

func TestSignedImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	keys := `{"keys":[{"accessKeyId":"ADMIN","secretAccessKey":"s1"},{"accessKeyId":"DEVICE","secretAccessKey":"s2","planes":["data"]}]}`
	if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{HTTP: "127.0.0.1:0", Credentials: file})
	send := func(id, secret, hash string) int {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/_muster/import", strings.NewReader(mixed))
		if err != nil {
			t.Fatal(err)
		}
		length := req.ContentLength
		if id != "" {
			if hash == unsignedPayload {
				req.Header.Set("X-Amz-Content-Sha256", hash)
				req.ContentLength = 0 // it is not signed either
			}
			if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, req, hash, "iot", "us-east-1", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		req.ContentLength = length
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, c := range []struct {
		name             string
		id, secret, hash string
		want             int
	}{
		{"unsigned", "", "", "", 403},
		{"signed with a wrong key", "ADMIN", "s2", unsignedPayload, 403},
		{"signed without the body", "ADMIN", "s1", unsignedPayload, 200},
		{"of a device", "DEVICE", "s2", sum(mixed), 403},
		{"signed with another body", "ADMIN", "s1", sum("other"), 403},
		{"signed with the body", "ADMIN", "s1", sum(mixed), 200},
	} {
		if got := send(c.id, c.secret, c.hash); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	want(t, "GET", s.url+"/readyz", "", 200)
}
