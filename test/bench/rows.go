package main

import "fmt"

// rows is everything that is claimed, in the order of the table. Rows that
// share both meters share their measurements. Rows named Y only show the
// yardsticks: without a target they are neither met nor missed.
func rows(b *Bench) []Row {
	raw64, raw512 := b.rawlog(64), b.rawlog(512)
	naive64, naive512 := b.naiveUpdates(64), b.naiveUpdates(512)
	load, reopen := b.naiveLoad(), b.naiveReopen()
	empty := b.httpEmpty(64, nil)

	return []Row{
		{ID: "Y2", What: "naive Pebble, updates, 64 callers", Yardstick: "Y1 raw log",
			Figure: PerSecond, Unit: "/s", Measure: naive64, Against: raw64},
		{ID: "Y2", What: "naive Pebble, CPU per update, 64 callers", Yardstick: "Y1 raw log",
			Figure: CPUPerOp, Unit: "us", Measure: naive64, Against: raw64, LowerIsBetter: true},
		{ID: "Y2", What: "naive Pebble, p99, 64 callers", Yardstick: "Y1 raw log",
			Figure: P99, Unit: "ms", Measure: naive64, Against: raw64, LowerIsBetter: true},
		{ID: "Y2", What: "naive Pebble, bytes written per update, 64 callers", Yardstick: "Y1 raw log",
			Figure: BytesPerOp, Unit: "B", Measure: naive64, Against: raw64, LowerIsBetter: true},
		{ID: "Y2", What: "naive Pebble, updates, 512 callers", Yardstick: "Y1 raw log",
			Figure: PerSecond, Unit: "/s", Measure: naive512, Against: raw512},
		{ID: "Y2", What: fmt.Sprintf("naive Pebble, load %s", thousands(int64(b.Things))),
			Figure: PerSecond, Unit: "/s", Measure: load},
		{ID: "Y2", What: "naive Pebble, ready after SIGKILL",
			Figure: Seconds, Unit: "s", Measure: reopen, LowerIsBetter: true},
		{ID: "Y3", What: "empty handler, 64 connections",
			Figure: PerSecond, Unit: "/s", Measure: empty},
		{ID: "Y3", What: "empty handler, server CPU per request",
			Figure: CPUPerOp, Unit: "us", Measure: empty, LowerIsBetter: true},
	}
}
