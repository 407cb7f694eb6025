package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"muster"
	"muster/internal/store"
	"muster/internal/store/pebblestore"
	"muster/internal/store/pgstore"
	"muster/test/postgres"
)

var update = flag.Bool("update", false, "rewrite the histories in testdata")

// A teller replays a history: each line that is not indented is an act, the indented lines below it
// are what was told because of it.
type teller struct {
	t     *testing.T
	open  func() (store.Store, error)
	store store.Store
	clock *ManualClock
	*Engine
	fed muster.Place
	out strings.Builder
}

// start is when every history begins.
var start = muster.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

func newTeller(t *testing.T) *teller { return newTellerOver(t, inMemory()) }

// inMemory opens an embedded store, the same one each time.
func inMemory() func() (store.Store, error) {
	fs := vfs.NewMem()
	return func() (store.Store, error) { return pebblestore.Open(pebblestore.Options{Dir: "store", FS: fs}) }
}

func newTellerOver(t *testing.T, open func() (store.Store, error)) *teller {
	h := &teller{t: t, open: open}
	h.begin(start)
	t.Cleanup(func() { h.store.Close() })
	return h
}

// begin opens the store and an engine over it, at the beginning of a history and after a restart in it.
func (h *teller) begin(at muster.Time) {
	s, err := h.open()
	if err != nil {
		h.t.Fatal(err)
	}
	clock, err := NewManualClock(h.t.Context(), s, at)
	if err != nil {
		h.t.Fatal(err)
	}
	h.store, h.clock, h.Engine = s, clock, New(s, Options{Clock: clock})
}

func TestHistories(t *testing.T) { histories(t, newTeller, *update) }

// Histories go the same way over PostgreSQL.
func TestHistoriesInPostgres(t *testing.T) {
	histories(t, func(t *testing.T) *teller {
		url := postgres.URL(t)
		return newTellerOver(t, func() (store.Store, error) { return pgstore.Open(pgstore.Options{URL: url, Manual: true}) })
	}, false)
}

func histories(t *testing.T, begin func(*testing.T) *teller, update bool) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no histories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h := begin(t)
			for line := range strings.Lines(string(text)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "  ") {
					continue
				}
				fmt.Fprintln(&h.out, line)
				if line != "" && !strings.HasPrefix(line, "#") {
					h.act(strings.Fields(line))
				}
			}
			if err := h.store.Check(context.Background(), func(problem string) { t.Error("check:", problem) }); err != nil {
				t.Error(err)
			}
			if got := h.out.String(); update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("the history went another way:\n%s", firstDifference(string(text), got))
			}
		})
	}
}

// settleNow settles what waits to be settled behind the feed, if it is done so there.
func settleNow(t testing.TB, g *Engine) {
	g.ticking.Lock()
	defer g.ticking.Unlock()
	if _, err := g.settle(context.Background()); err != nil {
		t.Error(err)
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range g {
		if i >= len(w) || w[i] != g[i] {
			old := "(end)"
			if i < len(w) {
				old = w[i]
			}
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, old, g[i])
		}
	}
	return "the file goes on after the history ended"
}

func (h *teller) say(format string, args ...any) { fmt.Fprintf(&h.out, "  "+format+"\n", args...) }

func (h *teller) act(words []string) {
	ctx := context.Background()
	args, opts := split(words)
	var err error
	switch cmd := args[0]; cmd {
	case "thing":
		for _, name := range args[1:] {
			_, err = h.CreateThing(ctx, muster.Thing{Name: muster.ThingName(name), Type: muster.TypeName(opts["type"])})
		}
	case "group":
		_, err = h.CreateGroup(ctx, muster.Group{Name: muster.GroupName(args[1]), Parent: muster.GroupName(opts["in"])}, "")
	case "join", "leave", "move":
		for _, name := range args[2:] {
			group := muster.GroupName(args[1])
			switch thing := muster.ThingName(name); cmd {
			case "join":
				err = h.AddToGroup(ctx, group, thing)
			case "leave":
				err = h.RemoveFromGroup(ctx, group, thing)
			default:
				err = h.UpdateGroupsOfThing(ctx, thing, []muster.GroupName{group}, []muster.GroupName{muster.GroupName(opts["from"])})
			}
		}
	case "delete-thing":
		err = h.DeleteThing(ctx, muster.ThingName(args[1]), nil)
	case "delete-group":
		err = h.DeleteGroup(ctx, muster.GroupName(args[1]), nil)
	case "job":
		document := `{"operation":"test"}`
		n := NewJob{ID: muster.JobID(args[1]), Document: &document, Targets: targets(args[2:])}
		if opts["selection"] == "continuous" {
			n.Selection = muster.Continuous
		}
		if opts["timeout"] != "" {
			d, _ := time.ParseDuration(opts["timeout"])
			n.Settings.Timeout = &muster.Timeout{InProgress: d}
		}
		if opts["start"]+opts["end"]+opts["behavior"]+opts["window"] != "" {
			n.Scheduling = &SchedulingInput{Start: opts["start"], End: opts["end"], EndBehavior: opts["behavior"]}
			if cron, minutes, ok := strings.Cut(opts["window"], "/"); ok {
				n.Scheduling.Windows = []muster.Window{{Start: "cron(" + strings.ReplaceAll(cron, "_", " ") + ")", Duration: muster.Minutes(*number(minutes))}}
			}
		}
		n.Settings.Rollout = rolloutOf(opts)
		n.Tags = tagsOf(opts)
		for _, failure := range []string{"FAILED", "TIMED_OUT", "ALL"} {
			if n0 := number(opts["retry-"+failure]); n0 != nil {
				n.Settings.Retry = append(n.Settings.Retry, muster.RetryCriterion{FailureType: failure, Retries: *n0})
			}
		}
		if failure, rest, ok := strings.Cut(opts["abort"], "/"); ok {
			percent, least, _ := strings.Cut(rest, "/")
			p, _ := strconv.ParseFloat(percent, 64)
			n.Settings.Abort = []muster.AbortCriterion{{FailureType: failure, Percentage: p, MinExecuted: *number(least)}}
		}
		_, err = h.CreateJob(ctx, n)
	case "associate":
		_, err = h.AssociateTargets(ctx, muster.JobID(args[1]), targets(args[2:]), "")
	case "cancel-job":
		_, err = h.CancelJob(ctx, muster.JobID(args[1]), opts["force"] != "", "", "")
	case "hold-job":
		_, err = h.HoldJob(ctx, muster.JobID(args[1]), strings.Join(args[2:], " "))
	case "resume-job":
		_, err = h.ResumeJob(ctx, muster.JobID(args[1]))
	case "retry-failed":
		var made muster.Job
		if made, err = h.RetryFailed(ctx, muster.JobID(args[1]), muster.JobID(opts["as"])); err == nil {
			h.say("job %s", made.ID)
		}
	case "delete-job":
		err = h.DeleteJob(ctx, muster.JobID(args[1]), opts["force"] != "")
	case "report":
		status, _ := muster.ParseStatus(args[3])
		r := muster.Report{Status: status, ExpectedVersion: number(opts["expect"]), Step: step(opts["step"]), Details: detailsOf(opts["details"])}
		if n := number(opts["number"]); n != nil {
			r.Number = *n
		}
		_, err = h.Report(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), r)
	case "start-next":
		var e muster.Execution
		var ok bool
		if e, ok, err = h.StartNext(ctx, muster.ThingName(args[1]), Start{Step: step(opts["step"]), Details: detailsOf(opts["details"])}); err == nil {
			h.answer(e, ok)
		}
	case "next":
		var e muster.Execution
		var ok bool
		if e, ok, err = h.DescribeNext(ctx, muster.ThingName(args[1])); err == nil {
			h.answer(e, ok)
		}
	case "describe":
		var e muster.Execution
		if e, err = h.DescribeForDevice(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), 0); err == nil {
			h.answer(e, true)
		}
	case "pending":
		var all []muster.Execution
		if all, err = h.Pending(ctx, muster.ThingName(args[1])); err == nil {
			h.say("pending %s", list(all))
		}
	case "executions":
		var rows []muster.Execution
		if rows, _, err = h.ExecutionsOfJob(ctx, muster.JobID(args[1]), 0, Page{Limit: 100}); err == nil {
			for _, e := range rows {
				h.say("%s %s#%d %s v%d", e.Thing, e.Job, e.Number, e.Status, e.Version)
			}
		}
	case "cancel":
		err = h.CancelExecution(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), opts["force"] != "", number(opts["expect"]), nil)
	case "delete":
		err = h.DeleteExecution(ctx, muster.ThingName(args[1]), muster.JobID(args[2]), *number(args[3]), opts["force"] != "")
	case "advance":
		d, parse := time.ParseDuration(args[1])
		if parse != nil {
			h.t.Fatal(parse)
		}
		err = h.Advance(ctx, h.clock.Now().Add(d))
	case "explain":
		err = h.explain(args[1:])
	case "tick":
		_, err = h.Tick(ctx)
	case "status":
		var v JobView
		if v, err = h.DescribeJob(ctx, muster.JobID(args[1])); err == nil {
			h.say("%s %s%s", v.ID, v.Status, counts(v.Counts))
			if v.ReasonCode != "" {
				h.say("because %s: %s", v.ReasonCode, v.Comment)
			}
		}
	default:
		var ok bool
		if ok, err = h.rarely(cmd, args, opts); !ok {
			h.t.Fatalf("the history says %q, which is no act", cmd)
		}
	}
	var known *muster.Error
	switch {
	case errors.As(err, &known) && known.Execution != nil:
		h.say("error %s: %s (%s v%d)", known.Kind, known.Message, known.Execution.Status, known.Execution.Version)
	case errors.As(err, &known):
		h.say("error %s: %s", known.Kind, known.Message)
	case err != nil:
		h.t.Fatal(err)
	}
	h.told()
}

// told prints what the feed has since the last act.
func (h *teller) told() {
	settleNow(h.t, h.Engine)
	entries, err := h.store.Feed(context.Background(), h.fed, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	at := muster.Time(0)
	for _, entry := range entries {
		if entry.Missed {
			h.t.Errorf("the feed jumps from %s to %d", h.fed, entry.Seq)
		}
		h.fed = entry.Place
		for _, f := range entry.Facts {
			if f.Kind != muster.FactExecution {
				continue
			}
			if entry.At != at && entry.At != start {
				h.say("at %s", entry.At.Time().Format("Jan 2 15:04:05.999"))
			}
			at = entry.At
			h.say("%s %s#%d %s -> %s v%d%s", f.Thing, f.Job, f.Number, orNone(f.From), orNone(f.To), f.Version, map[bool]string{true: " forced"}[f.Forced])
			if f.Notice.List {
				all, _ := h.Pending(context.Background(), f.Thing)
				h.say("notify %s %s", f.Thing, list(all))
			}
			if f.Notice.Next {
				e, ok, _ := h.DescribeNext(context.Background(), f.Thing)
				h.say("notify-next %s %s", f.Thing, one(e, ok))
			}
		}
	}
}

func (h *teller) answer(e muster.Execution, ok bool) { h.say("answer %s", one(e, ok)) }

func one(e muster.Execution, ok bool) string {
	if !ok {
		return "none"
	}
	return fmt.Sprintf("%s#%d %s v%d", e.Job, e.Number, e.Status, e.Version)
}

func list(all []muster.Execution) string {
	if len(all) == 0 {
		return "none"
	}
	var parts []string
	for _, e := range all {
		parts = append(parts, fmt.Sprintf("%s#%d:%s", e.Job, e.Number, e.Status))
	}
	return strings.Join(parts, " ")
}

func orNone(s muster.Status) string {
	if s == muster.NoStatus {
		return "none"
	}
	return s.String()
}

func counts(c muster.Counts) string {
	var b strings.Builder
	for s := muster.Queued; s < muster.NumStatus; s++ {
		if c[s] != 0 {
			fmt.Fprintf(&b, " %s=%d", s, c[s])
		}
	}
	return b.String()
}

func split(words []string) (args []string, opts map[string]string) {
	opts = map[string]string{}
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			opts[name] = value
		} else if w == "force" || w == "continuous" {
			opts[map[string]string{"force": "force", "continuous": "selection"}[w]] = w
		} else {
			args = append(args, w)
		}
	}
	return args, opts
}

func targets(words []string) (out []muster.Target) {
	for _, w := range words {
		if group, ok := strings.CutPrefix(w, "@"); ok {
			out = append(out, muster.Target{Group: muster.GroupName(group)})
		} else {
			out = append(out, muster.Target{Thing: muster.ThingName(w)})
		}
	}
	return out
}

func number(s string) *int64 {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return &n
}

// rolloutOf reads max=N and base=N factor=F notified=N succeeded=N.
func rolloutOf(opts map[string]string) *muster.Rollout {
	if opts["max"]+opts["base"] == "" {
		return nil
	}
	r := &muster.Rollout{}
	if n := number(opts["max"]); n != nil {
		r.MaximumPerMinute = *n
	}
	if base := number(opts["base"]); base != nil {
		r.Exponential = &muster.ExponentialRate{BasePerMinute: *base}
		r.Exponential.Factor, _ = strconv.ParseFloat(opts["factor"], 64)
		if n := number(opts["notified"]); n != nil {
			r.Exponential.Notified = *n
		}
		if n := number(opts["succeeded"]); n != nil {
			r.Exponential.Succeeded = *n
		}
	}
	return r
}

// tagsOf reads queued=MINUTES stages=5/30m,100 gate=PERCENT inflight=N.
func tagsOf(opts map[string]string) muster.Pairs {
	var b muster.PairsBuilder
	for name, key := range map[string]string{"queued": muster.TagQueuedTimeout, "stages": muster.TagStages,
		"gate": muster.TagStageMaxFailed, "inflight": muster.TagMaxInFlight} {
		if v, ok := opts[name]; ok {
			b.Set(key, strings.ReplaceAll(v, ",", " "))
		}
	}
	return b.Pairs()
}

func step(s string) muster.StepTimer {
	if s == "" {
		return muster.StepTimer{}
	}
	return muster.StepTimer{Set: true, Minutes: *number(s)}
}

func detailsOf(s string) *muster.Pairs {
	if s == "" {
		return nil
	}
	name, value, _ := strings.Cut(s, ":")
	p := muster.MakePairs(name, value)
	return &p
}
