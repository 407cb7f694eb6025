package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"muster"
	"muster/internal/store"
	"muster/internal/store/storetest"
	"muster/test/postgres"
)

// fleet fills a store with jobs in every state.
func fleet(t *testing.T, s *running) {
	t.Helper()
	var lines strings.Builder
	lines.WriteString(`{"thingType":{"thingTypeName":"lamp","searchableAttributes":["site"]}}
{"thingGroup":{"thingGroupName":"house"}}
{"thingGroup":{"thingGroupName":"attic","parentGroupName":"house","attributes":{"floor":"2"}}}
`)
	for i := 9; i >= 0; i-- { // not the order of names
		fmt.Fprintf(&lines, `{"thing":{"thingName":"t%d","thingTypeName":"lamp","attributes":{"site":"s%d"},"thingGroupNames":["%s"]}}`+"\n", i, i, []string{"house", "attic"}[i%2])
	}
	want(t, "POST", s.url+"/_muster/import", lines.String(), 200)
	job := func(id, targets, more string) {
		t.Helper()
		var arns []string
		for target := range strings.FieldsSeq(targets) {
			arns = append(arns, `"arn:aws:iot:us-east-1:123456789012:`+target+`"`)
		}
		want(t, "PUT", s.url+"/jobs/"+id, `{"targets":[`+strings.Join(arns, ",")+`],"document":"{\"for\":\"`+id+`\"}"`+more+`}`, 200)
	}
	want(t, "PUT", s.url+"/job-templates/plan", `{"description":"d","document":"{}"}`, 200)
	want(t, "POST", s.url+"/thing-types/lamp/deprecate", `{}`, 200)
	job("deleting-one", "thing/t1 thing/t2", "")
	job("retried", "thing/t3", `,"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"ALL","numberOfRetries":3}]}`)
	job("timed", "thing/t4", `,"timeoutConfig":{"inProgressTimeoutInMinutes":60}`)
	job("done", "thing/t5", `,"tags":[{"Key":"team","Value":"a"}]`)
	job("canceled", "thing/t6 thing/t7", "")
	job("ever", "thinggroup/attic", `,"targetSelection":"CONTINUOUS"`)
	job("later", "thing/t8", `,"schedulingConfig":{"startTime":"2026-02-01 10:00","endTime":"2026-03-01 10:00","endBehavior":"CANCEL"}`)
	job("windowed", "thinggroup/attic", `,"targetSelection":"CONTINUOUS","schedulingConfig":{"maintenanceWindows":[{"startTime":"cron(0 3 * * ? *)","durationInMinutes":60}]}`)
	job("slow", "thinggroup/house", `,"jobExecutionsRolloutConfig":{"maximumPerMinute":2}`)
	advance(t, s, "2m")
	report(t, s, "t3", "retried", "IN_PROGRESS")
	want(t, "POST", s.url+"/things/t3/jobs/retried", `{"status":"FAILED","statusDetails":{"why":"é <&>"}}`, 200)
	report(t, s, "t4", "timed", "IN_PROGRESS")
	report(t, s, "t5", "done", "SUCCEEDED")
	want(t, "PUT", s.url+"/jobs/canceled/cancel", `{"comment":"no"}`, 200)
	want(t, "DELETE", s.url+"/things/t1/jobs/deleting-one/executionNumber/1?force=true", "", 200)
	advance(t, s, "1s")
}

// rolled is how many executions a job has.
func rolled(t *testing.T, s *running, job string) int {
	t.Helper()
	return strings.Count(want(t, "GET", s.url+"/jobs/"+job+"/things?maxResults=100", "", 200), `"thingArn"`)
}

// holds is what a stored stopped server's store shows, but for where its lists were left and what belongs to its process.
func holds(t *testing.T, address string) string {
	t.Helper()
	var text string
	if err := withKept(address, slog.New(slog.DiscardHandler), func(s store.Store) error {
		text = storetest.Digest(t, s)
		return s.Check(t.Context(), func(p string) { t.Errorf("%s: %s", address, p) })
	}); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "setting {Name:mqtt/told") && !strings.HasPrefix(line, "deadline ") && !strings.HasPrefix(line, "next due ") { // these are in the export's digest
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func exported(t *testing.T, address string) (string, ExportReport) {
	t.Helper()
	var file bytes.Buffer
	report, err := Export(t.Context(), address, &file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return file.String(), report
}

func moved(t *testing.T, from, to string) {
	t.Helper()
	file, was := exported(t, from)
	if _, err := Load(t.Context(), to, strings.NewReader(file), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, is := exported(t, to); fmt.Sprint(is) != fmt.Sprint(was) {
		t.Errorf("exported %v, and from there %v", was, is)
	}
	a, b := strings.Split(holds(t, from), "\n"), strings.Split(holds(t, to), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("%s has\n%s\nwhere %s has\n%s", from, a[i], to, b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("%s shows %d lines, %s %d", from, len(a), to, len(b))
	}
}

func TestAStoreMovesToPostgresAndBack(t *testing.T) {
	first, database, second := filepath.Join(t.TempDir(), "first"), postgres.URL(t), filepath.Join(t.TempDir(), "second")
	serve := func(address string) *running {
		t.Helper()
		if !inPostgres(address) {
			address = "pebble:" + address
		}
		return start(t, Config{Store: address, Clock: "manual:2026-01-01T00:00:00Z"})
	}
	s := serve(first)
	fleet(t, s)
	begun := rolled(t, s, "slow")
	if begun == 0 || begun == 10 {
		t.Fatalf("the rollout has come to %d of 10 things", begun)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	moved(t, first, database)

	s = serve(database)
	advance(t, s, "2m") // the rollout goes on
	if now := rolled(t, s, "slow"); now <= begun || now == 10 {
		t.Errorf("the rollout has come to %d things, and had to %d before it moved", now, begun)
	}
	if listed := want(t, "GET", s.url+"/jobs", "", 200); strings.Index(listed, `"slow"`) > strings.Index(listed, `"retried"`) {
		t.Errorf("the newest job is not the first: %s", listed)
	}
	// A queued execution is started and finished.
	want(t, "PUT", s.url+"/things/t2/jobs/$next", `{}`, 200, `"deleting-one"`)
	report(t, s, "t2", "deleting-one", "SUCCEEDED")
	advance(t, s, "1s")
	want(t, "GET", s.url+"/jobs/deleting-one", "", 200, `"COMPLETED"`)
	want(t, "GET", s.url+"/things/t3/jobs/retried?executionNumber=2", "", 200, `"QUEUED"`)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	moved(t, database, second)

	s = serve(second)
	advance(t, s, "2h") // a timer fires, the rollout ends
	want(t, "GET", s.url+"/things/t4/jobs/timed", "", 410)
	if now := rolled(t, s, "slow"); now != 10 {
		t.Errorf("the rollout ended with %d things", now)
	}
	want(t, "POST", s.url+"/_muster/import", `{"thing":{"thingName":"fresh","thingGroupNames":["attic"]}}`, 200, `"things":1`)
	advance(t, s, "1h30m") // joined: the CONTINUOUS job reaches it; the window opens
	want(t, "GET", s.url+"/things/fresh/jobs/ever", "", 200, `"QUEUED"`)
	want(t, "GET", s.url+"/jobs/windowed", "", 200, `"IN_PROGRESS"`)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	holds(t, second)
}

func TestAnExportThatIsNotWholeIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := start(t, Config{Store: "pebble:" + dir, Clock: "manual:2026-01-01T00:00:00Z"})
	fleet(t, s)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	file, _ := exported(t, dir)
	all := strings.SplitAfter(strings.TrimSuffix(file, "\n"), "\n")
	n := len(all)
	if n < 50 {
		t.Fatalf("only %d lines: %s", n, file)
	}
	whole := func(lines ...string) string { return strings.Join(lines, "") }
	for _, c := range []struct{ name, file, says string }{
		{"cut off between lines", whole(all[:n-1]...), "Line " + strconv.Itoa(n-1) + ": the export ends here, without its last line: it is cut off"},
		{"cut off within a line", file[:len(file)/2], "Line "},
		{"without a line", whole(append(append([]string{}, all[:10]...), all[11:]...)...), "damaged: it has the lines"},
		{"with another line", strings.Replace(file, `"site":"s5"`, `"site":"s6"`, 1), "damaged: its lines have the digest"},
		{"of a newer version", strings.Replace(file, `"version":1`, `"version":2`, 1), "version 2, which is of a newer version of Muster"},
		{"with something behind", file + "{}\n", "something behind the last line"},
		{"twice", file + file, "something behind the last line"},
		{"with a stranger", whole(all[0], `{"lamp":{}}`+"\n", whole(all[1:]...)), "Line 2: this is not a line of an export"},
		{"of nothing", "", "The file is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, to := range []string{filepath.Join(t.TempDir(), "made"), postgres.URL(t)} {
				_, err := Load(t.Context(), to, strings.NewReader(c.file), slog.New(slog.DiscardHandler))
				known, ok := errors.AsType[*muster.Error](err)
				if !ok || known.Kind != muster.Invalid || !strings.Contains(known.Message, c.says) {
					t.Errorf("%s: got %v, want %q", to, err, c.says)
				}
				if inPostgres(to) { // nothing is kept
					if _, report := exported(t, to); len(report.Counts) > 0 {
						t.Errorf("the database has %v", report.Counts)
					}
				} else if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the store is still there: %v", err)
				}
			}
		})
	}
	t.Run("into a store with something", func(t *testing.T) {
		_, err := Load(t.Context(), dir, strings.NewReader(file), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "not empty, it has things") || strings.Contains(err.Error(), "half filled") {
			t.Errorf("got %v", err)
		}
		if again, _ := exported(t, dir); again != file {
			t.Errorf("the store has changed")
		}
	})
	t.Run("into a directory that is there", func(t *testing.T) {
		to := t.TempDir()
		_, err := Load(t.Context(), to, strings.NewReader(whole(all[:n-1]...)), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "half filled now and can only be thrown away") {
			t.Errorf("got %v", err)
		}
		if s, err := openStore("pebble:"+to, storeOptions{}); err == nil || !strings.Contains(err.Error(), "half filled") {
			t.Errorf("it opens: %v %v", s, err)
		}
	})
}

// The lines of things, types, groups and memberships are those of a bulk import.
func TestAnExportHoldsABulkImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := start(t, Config{Store: "pebble:" + dir, Clock: "manual:2026-01-01T00:00:00Z"})
	fleet(t, s)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	file, _ := exported(t, dir)
	if !IsExport(bufio.NewReader(strings.NewReader(file))) || IsExport(bufio.NewReader(strings.NewReader(mixed))) {
		t.Errorf("an export and a bulk import are not told apart")
	}
	var bulk strings.Builder
	for line := range strings.Lines(file) {
		for _, kind := range []string{"thing", "thingType", "thingGroup", "membership"} {
			if strings.HasPrefix(line, `{"`+kind+`"`) {
				bulk.WriteString(line)
			}
		}
	}
	o := start(t, Config{})
	want(t, "POST", o.url+"/_muster/import", bulk.String(), 200, `"lines":23,"things":10,"thingTypes":1,"thingGroups":2,"memberships":10,"unchanged":0,"refused":0`)
}
