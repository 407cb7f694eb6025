package storm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/test/line"
	"muster/test/postgres"
	"muster/test/process"
)

const batchThings = 8

// How a node ends, and what is under way with it.
const (
	killed  = "killed"
	stopped = "stopped"
	delayed = "stopped, and what it sent arrives late"
)

// TestStoppedInTheMiddle ends or stops a node at each moment of a transaction in which it writes what devices report: it holds the
// rows and does not know it yet, it has written, it is committed and does not know it yet. Its devices go to the other
// node, which has to answer them soon and truly, whatever becomes of the transaction.
func TestStoppedInTheMiddle(t *testing.T) {
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	database := postgres.Start(t)
	t.Run("moment", func(t *testing.T) {
		for _, moment := range []line.Moment{line.Loaded, line.Written, line.Committed} {
			for _, end := range []string{killed, stopped, delayed} {
				if end == delayed && moment != line.Written {
					continue // an answer to who is stopped waits in its own machine as well as on the way
				}
				url := database.Database(t)
				t.Run(fmt.Sprint(moment, ", ", end), func(t *testing.T) {
					t.Parallel()
					stopInTheMiddle(t, url, moment, end)
					if out, err := exec.Command(binary, "check", url).CombinedOutput(); err != nil {
						t.Errorf("muster check: %v\n%s", err, out)
					}
				})
			}
		}
	})
	if strings.Contains(database.Log(), "deadlock detected") {
		t.Error("there were deadlocks")
	}
}

func stopInTheMiddle(t *testing.T, url string, moment line.Moment, end string) {
	l, far := line.New(t, url)
	a, b := process.Launch(t, "--store", far), process.Launch(t, "--store", url)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * batchThings}, Timeout: 6 * process.Patience}
	defer client.CloseIdleConnections()
	atA, atB := &fleet{url: a.URL, client: client}, &fleet{url: b.URL, client: client}
	populateBatch(t, atB)

	versions := make([]int64, batchThings) // acknowledged, by whichever node
	for i := range versions {
		versions[i] = 1
		if status, answer, err := reportTo(atA, i, 1, "first"); err != nil || status != 200 {
			t.Fatal(status, answer, err)
		}
		versions[i] = 2
	}
	mark := "second"
	if moment == line.Loaded {
		mark = "first"
	}
	held, release := l.Hold(moment, mark)
	defer release()
	answers := make([]int, batchThings) // of the node that is stopped, 0 for none
	var under sync.WaitGroup
	for i := range versions {
		under.Go(func() { answers[i], _, _ = reportTo(atA, i, 2, "second") })
	}
	select {
	case <-held:
	case <-time.After(process.Patience):
		t.Fatal("no transaction came to the moment")
	}
	switch end {
	case killed:
		a.Kill()
		release()
	case stopped:
		a.Freeze()
		release()
	default:
		a.Freeze()
	}
	// The devices find out how things stand, and report on.
	var asked sync.WaitGroup
	for i := range versions {
		asked.Go(func() {
			for late := time.Now().Add(3 * process.Patience); ; {
				version, err := versionAt(atB, i)
				if err == nil {
					if version != 2 && version != 3 {
						t.Errorf("%s is in version %d after 2 was acknowledged and one more asked for", batchThing(i), version)
						return
					}
					status, answer, err := reportTo(atB, i, version, "third")
					switch {
					case err == nil && status == 200:
						versions[i] = version + 1
						return
					case err == nil && status != 503 && status != 500 && !(status == 409 && version == 2): // what was under way may be done meanwhile
						t.Errorf("%s, expecting version %d: %d %s", batchThing(i), version, status, answer)
						return
					}
				}
				if time.Now().After(late) {
					t.Errorf("%s was not served by the node that was left", batchThing(i))
					return
				}
			}
		})
	}
	asked.Wait()
	if t.Failed() {
		return
	}
	if end != killed {
		process.Eventually(t, "the node that was stopped is taken for dead", func() bool {
			return (&crowd{ctx: t.Context()}).count(url, `SELECT count(*) FROM node WHERE ended`) > 0
		})
		a.Thaw()
		release()
	}
	under.Wait()
	for i, status := range answers {
		switch {
		case status == 200 && versions[i] != 4:
			t.Errorf("%s was told by the node that was stopped that version 3 is kept, and the other one made version %d after it", batchThing(i), versions[i])
		case status != 200 && status != 0 && status != 503 && status != 500 && status != 409:
			t.Errorf("the node that was stopped answered %d", status)
		}
	}
	last := atB
	if end != killed { // it goes on as if nothing had been
		last = atA
	}
	for i, want := range versions {
		process.Eventually(t, "the thing is served in the end", func() bool {
			status, answer, err := reportTo(last, i, want, "fourth")
			if err != nil || status == 503 {
				return false
			}
			if status != 200 {
				t.Fatalf("%s, expecting version %d: %d %s", batchThing(i), want, status, answer)
			}
			return true
		})
	}
	if end != killed {
		a.Stop(t)
	}
	b.Stop(t)
}

func batchThing(i int) string { return fmt.Sprintf("pump-%d", i) }

// populateBatch registers things and gives each an execution.
func populateBatch(t *testing.T, f *fleet) {
	var lines strings.Builder
	fmt.Fprintln(&lines, `{"thingGroup":{"thingGroupName":"pumps"}}`)
	for i := range batchThings {
		fmt.Fprintf(&lines, `{"thing":{"thingName":%q,"thingGroupNames":["pumps"]}}`+"\n", batchThing(i))
	}
	if status, body, err := f.ask("POST", "/_muster/import", lines.String()); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	if status, body, err := f.ask("PUT", "/jobs/job", `{"document":"{}","targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/pumps"]}`); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	process.Eventually(t, "the job is rolled out", func() bool {
		for i := range batchThings {
			if version, err := versionAt(f, i); err != nil || version != 1 {
				return false
			}
		}
		return true
	})
}

func reportTo(f *fleet, i int, expected int64, mark string) (status int, answer string, err error) {
	return f.ask("POST", "/things/"+batchThing(i)+"/jobs/job", fmt.Sprintf(`{"status":"IN_PROGRESS","expectedVersion":%d,"statusDetails":{"mark":%q}}`, expected, mark))
}

func versionAt(f *fleet, i int) (int64, error) {
	status, answer, err := f.ask("GET", "/control/"+batchThing(i)+"/jobs/job", "")
	if err != nil {
		return 0, err
	}
	var v struct{ Execution struct{ VersionNumber int64 } }
	if status != 200 {
		return 0, fmt.Errorf("%d %s", status, answer)
	}
	err = json.Unmarshal([]byte(answer), &v)
	return v.Execution.VersionNumber, err
}
