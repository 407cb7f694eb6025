package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A report is one run, as JSON has it. It explains itself: what the yardsticks
// are, and what each target is about.
type report struct {
	At         time.Time         `json:"at"`
	Machine    machine           `json:"machine"`
	Rounds     int               `json:"rounds"`
	Seconds    float64           `json:"seconds"`
	Things     int               `json:"things"`
	Only       string            `json:"only,omitempty"` // the rows that were asked for, empty: all
	Compared   string            `json:"compared"`
	Yardsticks map[string]string `json:"yardsticks"`
	Targets    map[string]string `json:"targets"`
	Rows       []Result          `json:"rows"`
}

const comparedMeans = "x: the row's median divided by the yardstick's, of rounds that ran next to each other; +: the row's minus the yardstick's; " +
	"without either: the row's own figure. low..high is the same of single rounds. Verdicts: met, good (met what care alone would reach), NOT MET; - only informs"

// yardsticks are the ceilings and the naive ways that rows are held against.
var yardsticks = map[string]string{
	"Y1":   "raw log: a map in RAM and a preallocated log, group commit, fdatasync before the answer",
	"Y2":   "naive Pebble: a record, two indexes and counters per update, pipelined group commit",
	"Y3":   "empty handler: net/http that reads the body and writes a canned answer of the same size",
	"Y4":   "MQTT echo: Muster's own broker that answers an update with a canned accepted, no engine",
	"Y4r":  "bare loop: a goroutine per connection that speaks just enough MQTT",
	"Y5":   "batched statement: PostgreSQL, group commit by one statement over arrays, sharded counters, two connections",
	"peer": "moto, an emulator in Python that keeps jobs in memory",
}

// targets are what is claimed, by id.
var targets = map[string]string{
	"P1":  "update decided and durable, by the engine",
	"P2":  "bytes written per update, feed included",
	"P3":  "HTTP UpdateJobExecution, durable",
	"P4":  "HTTP DescribeJobExecution and GetPendingJobExecutions",
	"P5":  "MQTT update to accepted, durable, QoS 1",
	"P6":  "MQTT echo, server CPU per trip",
	"P7":  "memory per idle MQTT connection with three subscriptions",
	"P8":  "CreateJob of a job for a million things",
	"P9":  "all its executions queued, durable, notices out",
	"P10": "update latency while that goes on, and while a million timers fall due",
	"P11": "descriptions and pages of a job of a million",
	"P12": "RAM per execution",
	"P13": "disk per execution of a finished job",
	"P14": "ready after kill -9 with a million live executions",
	"P15": "PostgreSQL: update durable, one node",
	"P16": "PostgreSQL: three nodes against one",
	"P17": "notify-next at the device after CreateJob",
	"P18": "start empty, idle memory, size of the binary",
	"P19": "10,000 devices that come back at once over TLS",
	"P20": "calls per second beside a peer",
}

func (r report) writeHead(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s\n%s, %d rounds of %v s, %s things\n\n", r.Machine, r.At.Format(time.RFC3339), r.Rounds, r.Seconds, thousands(int64(r.Things)))
	return err
}

// writeResults prints the table, what its columns mean, and what it has nothing of.
func (r report) writeResults(w io.Writer) error {
	if err := writeTable(w, r.Rows); err != nil {
		return err
	}
	used := map[string]bool{}
	measured := map[string]bool{}
	count := map[Verdict]int{}
	for _, row := range r.Rows {
		name, _, _ := strings.Cut(row.Yardstick, " ")
		used[name], used[row.ID] = true, true
		if row.Verdict != Skipped {
			measured[row.ID] = true
		}
		count[row.Verdict]++
	}
	if used["moto"] {
		used["peer"] = true
	}
	fmt.Fprintf(w, "\ncompared: %s.\n", r.Compared)
	for _, name := range slices.Sorted(maps.Keys(r.Yardsticks)) {
		if used[name] {
			fmt.Fprintf(w, "%s: %s.\n", name, r.Yardsticks[name])
		}
	}
	fmt.Fprintf(w, "\n%d met, %d good, %d not met, %d failed, %d skipped.\n", count[Met], count[GoodFor], count[NotMet], count[Failed], count[Skipped])
	for _, id := range targetIDs(r.Targets) {
		if !measured[id] && r.Only == "" {
			fmt.Fprintf(w, "not measured: %s, %s\n", id, r.Targets[id])
		}
	}
	return nil
}

// targetIDs are P1, P2 and so on, by number.
func targetIDs(targets map[string]string) []string {
	number := func(id string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(id, "P"))
		return n
	}
	return slices.SortedFunc(maps.Keys(targets), func(a, b string) int { return number(a) - number(b) })
}

// showFile prints what a run has written as JSON.
func showFile(w io.Writer, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := r.writeHead(w); err != nil {
		return err
	}
	return r.writeResults(w)
}
