package awsapi

import (
	"fmt"
	"strings"
	"testing"
)

// The table of data-plane.md §6, row by row, each by every door that can make the change. What is published then is
// notify, notify-next, both, or nothing, and each payload is compared whole; notices.mqtt tells the same as a story.
func TestNoticesByEveryDoor(t *testing.T) {
	const (
		arn     = `"targets":["arn:aws:iot:us-east-1:123456789012:thing/p"]`
		publish = "publish $aws/things/p/jobs/"
		device  = "device POST /things/p/jobs/"
	)
	job := func(id, more string) string {
		return `PUT /jobs/` + id + ` {` + arn + `,"document":"{\"job\":\"` + id + `\"}"` + more + `}`
	}
	// Executions as notices show them. Time stands still at t but where a case moves it.
	const t0 = 1735689600
	summary := func(id string, version int, started bool, number int, at int64) string {
		s := fmt.Sprintf(`{"jobId":"%s","queuedAt":%d,`, id, at)
		if started {
			s += fmt.Sprintf(`"startedAt":%d,`, at)
		}
		return s + fmt.Sprintf(`"lastUpdatedAt":%d,"versionNumber":%d,"executionNumber":%d}`, at, version, number)
	}
	queued := func(id string) string { return summary(id, 1, false, 1, t0) }
	started := func(id string) string { return summary(id, 2, true, 1, t0) }
	list := func(inProgress, queued string) string {
		var parts []string
		if inProgress != "" {
			parts = append(parts, `"IN_PROGRESS":[`+inProgress+`]`)
		}
		if queued != "" {
			parts = append(parts, `"QUEUED":[`+queued+`]`)
		}
		return fmt.Sprintf("~ $aws/things/p/jobs/notify {\"timestamp\":%d,\"jobs\":{%s}}\n", t0, strings.Join(parts, ","))
	}
	next := func(id, status, times string, version int) string {
		if id == "" {
			return fmt.Sprintf("~ $aws/things/p/jobs/notify-next {\"timestamp\":%d}\n", t0)
		}
		return fmt.Sprintf("~ $aws/things/p/jobs/notify-next {\"timestamp\":%d,\"execution\":{\"jobId\":\"%s\",\"status\":\"%s\",\"queuedAt\":%d,%s\"lastUpdatedAt\":%d,\"versionNumber\":%d,\"executionNumber\":1,\"jobDocument\":{\"job\":\"%s\"}}}\n",
			t0, id, status, t0, times, t0, version, id)
	}
	nextQueued := func(id string) string { return next(id, "QUEUED", "", 1) }
	nextStarted := func(id string) string { return next(id, "IN_PROGRESS", fmt.Sprintf(`"startedAt":%d,`, t0), 2) }
	idle := list("", "") + next("", "", "", 0)

	for _, c := range []struct {
		change string
		given  []string          // acts before
		doors  map[string]string // the change, by door
		told   string
	}{
		{"new execution, list was empty", nil, map[string]string{
			"control plane": job("a", "") + "\ntick",
			"group":         `PUT /thing-groups/addThingToThingGroup {"thingGroupName":"site","thingName":"p"}` + "\ntick",
		}, list("", queued("a")) + nextQueued("a")},
		{"new execution behind others", []string{job("z", ""), "tick"}, map[string]string{
			"control plane": job("a", "") + "\ntick",
			"group":         `PUT /thing-groups/addThingToThingGroup {"thingGroupName":"site","thingName":"p"}` + "\ntick",
		}, list("", queued("z")+","+queued("a"))},
		{"first one QUEUED to IN_PROGRESS", []string{job("a", ""), "tick", job("b", ""), "tick"}, map[string]string{
			"MQTT, start-next": publish + "start-next",
			"MQTT, update":     publish + `a/update {"status":"IN_PROGRESS"}`,
			"HTTP, $next":      "device PUT /things/p/jobs/$next {}",
			"HTTP, update":     device + `a {"status":"IN_PROGRESS"}`,
			"HTTPS publish":    `device POST /topics/$aws%2Fthings%2Fp%2Fjobs%2Fstart-next {}`,
		}, ""},
		{"another QUEUED to IN_PROGRESS and thereby first", []string{job("a", ""), "tick", job("b", ""), "tick"}, map[string]string{
			"MQTT": publish + `b/update {"status":"IN_PROGRESS"}`,
			"HTTP": device + `b {"status":"IN_PROGRESS"}`,
		}, nextStarted("b")},
		{"another QUEUED to IN_PROGRESS behind one in progress", []string{job("a", ""), "tick", job("b", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT": publish + `b/update {"status":"IN_PROGRESS"}`,
			"HTTP": device + `b {"status":"IN_PROGRESS"}`,
		}, ""},
		{"details, step timer, IN_PROGRESS again", []string{job("a", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT, details":    publish + `a/update {"status":"IN_PROGRESS","statusDetails":{"p":"1"}}`,
			"MQTT, timer":      publish + `a/update {"status":"IN_PROGRESS","stepTimeoutInMinutes":5}`,
			"MQTT, start-next": publish + `start-next {"stepTimeoutInMinutes":5}`,
			"HTTP, details":    device + `a {"status":"IN_PROGRESS","statusDetails":{"p":"1"}}`,
			"HTTP, timer":      device + `a {"status":"IN_PROGRESS","stepTimeoutInMinutes":5}`,
		}, ""},
		{"first one ends, others remain", []string{job("a", ""), "tick", job("b", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT, SUCCEEDED":        publish + `a/update {"status":"SUCCEEDED"}`,
			"MQTT, REJECTED":         publish + `a/update {"status":"REJECTED"}`,
			"HTTP, FAILED":           device + `a {"status":"FAILED"}`,
			"HTTPS publish":          `device POST /topics/$aws%2Fthings%2Fp%2Fjobs%2Fa%2Fupdate {"status":"SUCCEEDED"}`,
			"cancelled by force":     "PUT /things/p/jobs/a/cancel?force=true {}",
			"job cancelled by force": "PUT /jobs/a/cancel?force=true {}\ntick",
			"deleted by force":       "DELETE /things/p/jobs/a/executionNumber/1?force=true",
			"job deleted by force":   "DELETE /jobs/a?force=true\ntick",
		}, list("", queued("b")) + nextQueued("b")},
		{"the only one goes", []string{job("a", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT":                   publish + `a/update {"status":"SUCCEEDED"}`,
			"HTTP":                   device + `a {"status":"FAILED"}`,
			"cancelled by force":     "PUT /things/p/jobs/a/cancel?force=true {}",
			"job cancelled by force": "PUT /jobs/a/cancel?force=true {}\ntick",
			"thing deleted":          "DELETE /things/p",
		}, idle},
		{"the only one goes with its group", []string{`PUT /thing-groups/addThingToThingGroup {"thingGroupName":"site","thingName":"p"}`, "tick"}, map[string]string{
			"thing leaves":  `PUT /thing-groups/removeThingFromThingGroup {"thingGroupName":"site","thingName":"p"}` + "\ntick",
			"groups of it":  `PUT /thing-groups/updateThingGroupsForThing {"thingName":"p","thingGroupsToRemove":["site"]}` + "\ntick",
			"group deleted": "DELETE /thing-groups/site\ntick",
		}, idle},
		{"a non-first one goes", []string{job("a", ""), "tick", job("b", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT":          publish + `b/update {"status":"SUCCEEDED"}`,
			"HTTP":          device + `b {"status":"REJECTED"}`,
			"cancelled":     "PUT /things/p/jobs/b/cancel {}",
			"job cancelled": "PUT /jobs/b/cancel {}\ntick",
			"job deleted":   "DELETE /jobs/b?force=true\ntick",
		}, list(started("a"), "")},
		{"the description of a job", []string{job("a", ""), "tick"}, map[string]string{
			"control plane": `PATCH /jobs/a {"description":"new"}`,
		}, ""},
		{"FAILED with a retry left, behind another", []string{job("a", `,"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"ALL","numberOfRetries":2}]}`), "tick", job("b", ""), "tick", publish + "start-next"}, map[string]string{
			"MQTT": publish + `a/update {"status":"FAILED"}`,
			"HTTP": device + `a {"status":"FAILED"}`,
		}, list("", queued("b")+","+summary("a", 1, false, 2, t0)) + nextQueued("b")},
		{"what is refused", []string{job("a", ""), "tick"}, map[string]string{
			"MQTT": publish + `a/update {"status":"SUCCEEDED","expectedVersion":7}`,
		}, ""},
	} {
		for door, change := range c.doors {
			t.Run(c.change+"/"+door, func(t *testing.T) {
				f := newSite(t)
				f.act("things p")
				f.act("POST /thing-groups/site {}")
				if strings.Contains(change+strings.Join(c.given, ""), "thingGroup") || strings.Contains(change, "thing-groups") {
					f.act(`PUT /jobs/a {"targets":["arn:aws:iot:us-east-1:123456789012:thinggroup/site"],"document":"{\"job\":\"a\"}","targetSelection":"CONTINUOUS"}`)
				}
				do := func(acts string) (told string) {
					for act := range strings.SplitSeq(acts, "\n") {
						if ask, ok := strings.CutPrefix(act, "publish"); ok {
							_, rest, _ := strings.Cut(f.ask(ask), "\n")
							told += rest
						} else {
							told += f.act(act)
						}
					}
					return told
				}
				do(strings.Join(append([]string{"tick"}, c.given...), "\n"))
				if told := do(change); told != c.told {
					t.Errorf("told\n%swant\n%s", told, c.told)
				}
			})
		}
	}
}
