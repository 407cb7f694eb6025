package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/test/postgres"
)

// TestMain lets the test binary be its own child, as the program is.
func TestMain(m *testing.M) {
	if childMain(os.Args) {
		return
	}
	os.Exit(m.Run())
}

func TestDetailsAreJSONOfTheRightSize(t *testing.T) {
	a, b := appendDetails(nil, 1), appendDetails(nil, 2)
	if len(a) != detailsSize || !json.Valid(a) {
		t.Errorf("%d bytes: %s", len(a), a)
	}
	if bytes.Equal(a, b) {
		t.Error("all details are alike: a compressing store would be flattered")
	}
}

func TestThingNamesSortAsNumbers(t *testing.T) {
	for n, want := range map[int]string{0: "thing-0000000", 42: "thing-0000042", 9_999_999: "thing-9999999"} {
		if got := string(appendThing(nil, n)); got != want {
			t.Errorf("thing %d is %q, want %q", n, got, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	var low, high histogram
	for i := 1; i <= 900; i++ {
		low.add(time.Duration(i) * time.Microsecond)
	}
	for i := 901; i <= 1000; i++ {
		high.add(time.Duration(i) * time.Microsecond)
	}
	low.merge(&high)
	for q, want := range map[float64]time.Duration{0.50: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		got := low.quantile(q)
		if off := float64(got-want) / float64(want); off < -0.01 || off > 0.04 {
			t.Errorf("quantile %v = %v, want about %v", q, got, want)
		}
	}
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 63, 64, 1000, time.Second, 10 * time.Minute} {
		if b := bucketOf(d); bucketTop(b) < d || b > 0 && bucketTop(b-1) >= d {
			t.Errorf("%v falls into bucket %d, which ends at %v", d, b, bucketTop(b))
		}
	}
	low.add(time.Hour) // beyond the last bucket, and still counted
	if low.count != 1001 {
		t.Errorf("counted %d", low.count)
	}
}

// steps drives a store through every kind of update and checks its answers.
func steps(t *testing.T, do doUpdate) {
	t.Helper()
	for want := int64(2); want <= 8; want++ {
		if v, err := do(0, 3, want-1, appendDetails(nil, uint64(want))); err != nil || v != want {
			t.Fatalf("update to version %d: version %d, %v", want, v, err)
		}
	}
	if _, err := do(0, 3, 2, nil); err == nil || !strings.Contains(err.Error(), "expected version 2") {
		t.Errorf("a stale version: %v", err)
	}
	if v, err := do(0, 4, 0, nil); err != nil || v != 2 {
		t.Errorf("no expected version: version %d, %v", v, err)
	}
	if _, err := do(0, 99, 0, nil); err == nil {
		t.Error("a thing without an execution was updated")
	}
}

func TestRawlogSteps(t *testing.T) {
	l, err := openRawlog(t.TempDir(), 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	steps(t, ask(l.queue, newCalls(1)))
}

func TestNaiveSteps(t *testing.T) {
	dir := t.TempDir()
	n, err := openNaive(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.load(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	steps(t, ask(n.queue, newCalls(1)))
	if want := [statuses]int64{8, 2, 0}; n.counts != want {
		t.Errorf("counts %v, want %v", n.counts, want)
	}
	if err := n.recount(); err != nil {
		t.Error(err)
	}
	if got := n.keys(t); got != 10+10+10+int(statuses) {
		t.Errorf("%d keys: an index kept what it should have dropped", got)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err = openNaive(dir); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if v, err := ask(n.queue, newCalls(1))(0, 3, 8, nil); err != nil || v != 9 {
		t.Errorf("after reopening: version %d, %v", v, err)
	}
}

func (n *naive) keys(t *testing.T) (count int) {
	it, err := n.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		count++
	}
	return count
}

// TestCallersNeverConflict runs more callers than the slices divide into.
func TestCallersNeverConflict(t *testing.T) {
	n, err := openNaive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	const things, callers = 50, 7
	if err := n.load(t.Context(), things); err != nil {
		t.Fatal(err)
	}
	svc := &naiveService{naive: n, things: things, fleet: newFleet(things)}
	s, err := svc.Call(t.Context(), Request{Op: "update", Callers: callers, Seconds: 0.05})
	if err != nil {
		t.Fatal(err)
	}
	if s[Operations] == 0 || s[PerSecond] == 0 || s[BytesPerOp] < detailsSize || s[P99] < s[P50] {
		t.Errorf("sample %v", s)
	}
	if err := n.recount(); err != nil {
		t.Error(err)
	}
	if _, err := svc.Call(t.Context(), Request{Op: "dance"}); err == nil {
		t.Error("an unknown request was answered")
	}
}

func TestReopenAfterKill(t *testing.T) {
	b := testBench(t)
	m := b.naiveReopen()
	if err := m.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := m.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s[Seconds] <= 0 || s[OpenOnly] <= 0 || s[OpenOnly] > s[Seconds] {
			t.Errorf("sample %v", s)
		}
	}
}

func testBench(t *testing.T) *Bench {
	t.Helper()
	b, err := newBench(t.TempDir(), 200, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestChildrenThatCannotStart(t *testing.T) {
	for name, s := range map[string]Settings{
		"naive":   {Dir: "/dev/null/nowhere"},
		"no such": {},
		"rawlog":  {Dir: "/dev/null/nowhere"},
	} {
		if c, err := startChild(t.Context(), name, s); err == nil {
			c.Kill()
			t.Errorf("%s started", name)
		}
	}
}

// TestProgram runs every row once, small, as main does.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out.json")
	var out, log bytes.Buffer
	args := []string{"-rounds", "1", "-seconds", "0.05", "-things", "1000", "-dir", dir, "-json", file}
	if err := run(t.Context(), args, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if strings.Contains(out.String(), string(Failed)) {
		t.Errorf("%s", out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	b := &Bench{Things: 1000}
	if len(got.Rows) != len(rows(b)) || got.Machine.Cores == 0 {
		t.Errorf("JSON: %s", text)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestProgramRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"-run xyzzy":  "no row matches",
		"-run (":      "missing closing",
		"-rounds 0":   "must be positive",
		"-things 0":   "must lie between",
		"extra":       "unexpected argument",
		"-no-such":    "not defined",
		"-seconds -1": "must be positive",
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// The yardstick of PostgreSQL and what is held against it keep their counters.
func TestDatabaseUpdates(t *testing.T) {
	b := testBench(t)
	b.cluster = postgres.Start(t)
	for _, m := range []*Meter{b.batchedUpdates(8), b.nodeUpdates(1, 8), b.nodeUpdates(3, 8)} {
		if err := m.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := m.Run(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", m.Name, err)
			}
			if s[Operations] == 0 || s[batchSize] < 0.5 || s[batchSize] > 8 || s[walPerOp] < detailsSize || s[tripsPerOp] > 4 || s[statementsPerOp] <= s[tripsPerOp] {
				t.Errorf("%s: sample %v", m.Name, s)
			}
		}
	}
}
