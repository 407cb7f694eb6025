package engine

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every sentence of the contract's state-machine.md §6 to §12, and which test holds it: a history that has
// it as a comment (`# §7: stops at SUCCEEDED`), or the Go test that is named here, or, where Muster is
// different on purpose, the words in docs/differences.md that say so.
var clauses = []struct{ text, test, differs string }{
	// Timers.
	{text: "§6: the in-progress timer is set by CreateJob, UpdateJob or a template"},
	{text: "§6: the in-progress timer is of 1 to 10080 minutes", test: "TestSettings"},
	{text: "§6: the in-progress timer starts when the execution becomes IN_PROGRESS; its value is then fixed"},
	{text: "§6: the in-progress timer is never reset; a new attempt starts anew"},
	{text: "§6: UpdateJob's timeout applies to executions that become IN_PROGRESS later"},
	{text: "§6: the step timer is set by StartNext and by Update"},
	{text: "§6: the step timer is of 1 to 10080 minutes; -1 cancels it", test: "TestReportCheck"},
	{text: "§6: each new value discards the old step timer and starts afresh from now"},
	{text: "§6: -1 removes the step timer"},
	{text: "§6: an update without the member leaves the step timer running"},
	{text: "§6: the deadline is the earlier of both; a step timer cannot extend the in-progress bound", test: "TestStepTimerCannotOutlastTheInProgressTimer"},
	{text: "§6: the docs' picture: 12:12, 12:15, 12:20"},
	{text: "§6: on firing: TIMED_OUT, notices, retry evaluation"},
	{text: "§6: on firing: abort evaluation"},
	{text: "§6: a timer may fire late"},
	{text: "§6: approximateSecondsBeforeTimedOut is the seconds to the deadline, not below 0"},
	{text: "§6: a terminal update before the timer has fired wins, even past the deadline"},
	{text: "§6: no timer runs in QUEUED: it can be QUEUED for ever"},
	{text: "§6: a step timer given with a terminal status is ignored"},
	{text: "§6: timers survive a restart; overdue ones fire then"},
	// Retries.
	{text: "§7: 1 or 2 entries, 0 to 10 retries each, 10 in all, ALL alone", test: "TestSettings"},
	{text: "§7: FAILED and TIMED_OUT are tried again"},
	{text: "§7: never REJECTED, REMOVED or CANCELED"},
	{text: "§7: the finished one stays in history; the new one is QUEUED, next number, version 1, no details, new queuedAt"},
	{text: "§7: immediately"},
	{text: "§7: or at the next window's start"},
	{text: "§7: ALL is one budget for both types"},
	{text: "§7: FAILED and TIMED_OUT have separate counters"},
	{text: "§7: stops at SUCCEEDED"},
	{text: "§7: stops at the budget"},
	{text: "§7: stops on CancelJob: queued retries are canceled, none made"},
	{text: "§7: stops on abort: queued retries are canceled, none made"},
	{text: "§7: stops when the thing leaves the target"},
	{text: "§7: stops when the job is deleted"},
	{text: "§7: retries occur until endTime, then endBehavior rules"},
	{text: "§7: step-timer timeouts count too"},
	{text: "§7: TIMED_OUT is tried again only if there is a timeout"},
	{text: "§7: leaving and rejoining the group resets the counter"},
	{text: "§7: UpdateJob may set retries; lowering to 0 stops them"},
	{text: "§7: the job is not complete while a retry is pending"},
	{text: "§7: jobProcessDetails counts executions, attempts included"},
	{text: "§7: abort counts a thing once, by its latest attempt, when no retry is left"},
	// Scheduling.
	{text: "§8: startTime as YYYY-MM-DD HH:MM or ISO 8601", test: "TestMoments"},
	{text: "§8: startTime is 30 minutes to a year from now", test: "TestParseScheduling"},
	{text: "§8: without startTime the job starts now"},
	{text: "§8: a job has no executions before its startTime"},
	{text: "§8: endTime is 30 minutes after the start to two years from now", test: "TestParseScheduling"},
	{text: "§8: endBehavior is STOP_ROLLOUT unless given, and only goes with endTime"},
	{text: "§8: endBehavior STOP_ROLLOUT: what is queued goes on"},
	{text: "§8: endBehavior CANCEL: what is queued is canceled"},
	{text: "§8: endBehavior FORCE_CANCEL: what is in progress, too"},
	{text: "§8: maintenanceWindows are for CONTINUOUS jobs only"},
	{text: "§8: a window is a cron expression of 1 to 256 characters and 1 to 1430 minutes", test: "TestParseScheduling"},
	{text: "§8: scheduledJobRollouts are the next 7 window starts"},
	{text: "§8: cron fields, their ranges, names and wildcards", test: "TestCronComes"},
	{text: "§8: exactly one of day-of-month and day-of-week is ?", test: "TestCronRefused"},
	{text: "§8: 3#2 is the second Tuesday, 3W the nearest weekday, L the last", test: "TestCronComes"},
	{text: "§8: a window that closes stops the rollout"},
	{text: "§8: a window that closes hides what is queued and keeps it"},
	{text: "§8: what is in progress when a window closes goes on to its end"},
	{text: "§8: retries wait for the next window"},
	{text: "§8: between windows the job is SCHEDULED"},
	// Rollout.
	{text: "§9: maximumPerMinute executions a minute"},
	{text: "§9: maximumPerMinute is 1 to 1000, default 1000", test: "TestPerMinute"},
	{text: "§9: exponential: the base rate times the factor to the k, at most maximumPerMinute"},
	{text: "§9: k counts cumulatively: 50, 100 after 1000, 200 after 2000, 400 after 3000", test: "TestPerMinute"},
	{text: "§9: k counts notified things: executions that were created"},
	{text: "§9: or things that SUCCEEDED"},
	{text: "§9: base 1 to 1000, factor 1.1 to 5 with one decimal, one criterion of at least 1", test: "TestSettings"},
	{text: "§9: processingTargets are the targets still being rolled out; isConcurrent meanwhile"},
	{text: "§9: rate limits only apply to the initial population; later joiners get theirs at once"},
	{text: "§9: at 500 concurrent jobs no further rollout proceeds"},
	{text: "§9: at 500 concurrent jobs no further rollout proceeds, unless asked for", differs: "Concurrent jobs"},
	{text: "§9: a group stands for its own things and those of its child groups"},
	{text: "§9: one execution per thing however many targets contain it"},
	{text: "§9: small jobs may be rolled out instantly"},
	{text: "§9: never faster than the configured rate", test: "TestStorm"},
	{text: "§9: never faster than the configured rate, at any rate", test: "TestPaceAtEveryRate"},
	// Abort.
	{text: "§10: entries: failureType, a percentage above 0 to 100 with two decimals, at least 1 thing", test: "TestSettings"},
	{text: "§10: evaluated after every execution that ends"},
	{text: "§10: executed are things whose execution SUCCEEDED, FAILED, was REJECTED or TIMED_OUT", test: "TestAbort"},
	{text: "§10: bad are those whose status is the failureType"},
	{text: "§10: ALL is FAILED, REJECTED and TIMED_OUT"},
	{text: "§10: not below minNumberOfExecutedThings"},
	{text: "§10: met when the share reaches the threshold"},
	{text: "§10: as CancelJob without force: QUEUED are CANCELED, IN_PROGRESS untouched"},
	{text: "§10: any one entry suffices"},
	{text: "§10: reasonCode and comment are filled in"},
	// Groups and the registry.
	{text: "§11: a thing that is added gets an execution, even after all others finished; SNAPSHOT: nothing"},
	{text: "§11: a thing that is removed: REMOVED, no retries; SNAPSHOT: nothing"},
	{text: "§11: a thing that is added again: a new execution, a new number, retries reset; SNAPSHOT: nothing"},
	{text: "§11: AssociateTargets rolls out to new targets; SNAPSHOT: refused"},
	{text: "§11: at most 100 targets in all"},
	{text: "§11: things of dynamic groups", differs: "ynamic"},
	{text: "§11: a deleted target group: its things count as removed; SNAPSHOT: nothing"},
	{text: "§11: a membership that changed just before CreateJob is seen"},
	{text: "§11: jobs that are SCHEDULED, CANCELED or deleted: nothing"},
	// Counters.
	{text: "§12: processingTargets and eight counters"},
	{text: "§12: DescribeJob returns all eight, 0 included", test: "TestCLIClock"},
}

var clauseLine = regexp.MustCompile(`(?m)^# (§\d+: .+)$`)

// TestClauses: no sentence without a test, and no history that speaks of a sentence that is not in the list.
func TestClauses(t *testing.T) {
	named := map[string]string{} // by which history
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, m := range clauseLine.FindAllStringSubmatch(read(t, file), -1) {
			named[m[1]] = file
		}
	}
	tests := ""
	for _, dir := range []string{"../../*_test.go", "*_test.go", "../../test/sdk/*_test.go"} {
		files, err := filepath.Glob(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			tests += read(t, file)
		}
	}
	differences := read(t, "../../docs/differences.md")
	var all []string
	for _, c := range clauses {
		if slices.Contains(all, c.text) {
			t.Errorf("twice in the list: %s", c.text)
		}
		all = append(all, c.text)
		switch {
		case named[c.text] != "":
		case c.test != "" && strings.Contains(tests, "func "+c.test+"("):
		case c.differs != "" && strings.Contains(differences, c.differs):
		default:
			t.Errorf("no test holds %q", c.text)
		}
	}
	for text, file := range named {
		if !slices.Contains(all, text) {
			t.Errorf("%s names %q, which is not in the list", file, text)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
