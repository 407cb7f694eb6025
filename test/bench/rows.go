package main

import "fmt"

// rows is everything that is claimed, in the order of the table. Rows that
// share both meters share their measurements. Rows named Y only show the
// yardsticks, and rows without a target only inform: they are neither met nor
// missed.
func rows(b *Bench) []Row {
	var all []Row
	for _, part := range [][]Row{b.yardstickRows(), b.updateRows(), b.deviceRows(), b.mqttRows(), b.jobRows(), b.disturbedRows(), b.sizeRows(), b.startRows(), b.fleetRows(), b.clusterRows(), b.peerRows()} {
		all = append(all, part...)
	}
	return all
}

func (b *Bench) yardstickRows() []Row {
	raw64, raw512 := b.rawlog(64), b.rawlog(512)
	naive64, naive512 := b.naiveUpdates(64), b.naiveUpdates(512)
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
		{ID: "Y3", What: "empty handler, 64 connections",
			Figure: PerSecond, Unit: "/s", Measure: empty},
		{ID: "Y3", What: "empty handler, server CPU per request",
			Figure: CPUPerOp, Unit: "us", Measure: empty, LowerIsBetter: true},
	}
}

// updateRows are P1 and P2. Y2 takes executions round in a circle, two index
// keys changed at each step; Muster's go from QUEUED to IN_PROGRESS and then
// stay there, the details new each time.
func (b *Bench) updateRows() []Row {
	const yardstick = "Y2 naive Pebble"
	var rows []Row
	for _, callers := range []int{64, 512} {
		measure, against := b.engineUpdates(callers), b.naiveUpdates(callers)
		rows = append(rows,
			Row{ID: "P1", What: fmt.Sprintf("engine, reports, %d callers", callers), Yardstick: yardstick,
				Figure: PerSecond, Unit: "/s", Measure: measure, Against: against, Good: 1.3, Target: 2.5},
			Row{ID: "P1", What: fmt.Sprintf("engine, CPU per report, %d callers", callers), Yardstick: yardstick,
				Figure: CPUPerOp, Unit: "us", Measure: measure, Against: against, LowerIsBetter: true},
			Row{ID: "P1", What: fmt.Sprintf("engine, p99, %d callers", callers), Yardstick: yardstick,
				Figure: P99, Unit: "ms", Measure: measure, Against: against, LowerIsBetter: true},
			Row{ID: "P2", What: fmt.Sprintf("bytes written per report, feed included, %d callers", callers), Yardstick: yardstick,
				Figure: BytesPerOp, Unit: "B", Measure: measure, Against: against, Good: 0.8, Target: 0.5, LowerIsBetter: true})
	}
	return rows
}

// deviceRows are P3 and P4.
func (b *Bench) deviceRows() []Row {
	const yardstick = "Y3 empty handler"
	server := &deviceServer{b: b}
	update, emptyUpdate := server.updates()
	describe, emptyDescribe := server.queries("describe", "/jobs/"+naiveJob)
	pending, emptyPending := server.queries("pending", "/jobs")
	rows := []Row{
		{ID: "P3", What: "HTTP UpdateJobExecution", Measure: update, Against: emptyUpdate, Good: 0.45, Target: 0.6},
		{ID: "P4", What: "HTTP DescribeJobExecution", Measure: describe, Against: emptyDescribe, Good: 0.55, Target: 0.7},
		{ID: "P4", What: "HTTP GetPendingJobExecutions", Measure: pending, Against: emptyPending, Good: 0.55, Target: 0.7},
	}
	for i := range rows {
		rows[i].Yardstick, rows[i].Figure, rows[i].Unit = yardstick, PerSecond, "/s"
	}
	for _, r := range rows {
		rows = append(rows, Row{ID: r.ID, What: r.What + ", server CPU", Yardstick: yardstick, Figure: CPUPerOp, Unit: "us",
			Measure: r.Measure, Against: r.Against, LowerIsBetter: true})
	}
	return rows
}

// mqttRows are P5, P6 and P7.
func (b *Bench) mqttRows() []Row {
	const yardstick = "Y4 MQTT echo"
	server := &mqttServer{b: b}
	var rows []Row
	for _, conns := range []int{100, 1000} {
		measure, against := server.updates(conns)
		rows = append(rows,
			Row{ID: "P5", What: fmt.Sprintf("MQTT update to accepted, %d connections", conns), Yardstick: yardstick,
				Figure: PerSecond, Unit: "/s", Measure: measure, Against: against, Good: 0.5, Target: 0.65},
			Row{ID: "P5", What: fmt.Sprintf("MQTT update, server CPU, %d connections", conns), Yardstick: yardstick,
				Figure: CPUPerOp, Unit: "us", Measure: measure, Against: against, LowerIsBetter: true},
			Row{ID: "P5", What: fmt.Sprintf("MQTT update, p99, %d connections", conns), Yardstick: yardstick,
				Figure: P99, Unit: "ms", Measure: measure, Against: against, LowerIsBetter: true})
	}
	for _, conns := range []int{100, 1000} {
		rows = append(rows, Row{ID: "P6", What: fmt.Sprintf("MQTT echo, server CPU per trip, %d connections", conns), Yardstick: "Y4r bare loop",
			Figure: CPUPerOp, Unit: "us", Measure: b.echoMeter("Y4 MQTT echo", "broker", conns), Against: b.echoMeter("Y4r bare loop", "bare", conns),
			Good: 2, Target: 1.5, LowerIsBetter: true})
	}
	plain, barePlain := b.idle(false)
	secure, bareSecure := b.idle(true)
	return append(rows,
		Row{ID: "P7", What: "memory per idle connection, plain", Yardstick: "Y4r bare loop", Figure: connKB, Unit: "KB",
			Measure: plain, Against: barePlain, Compare: Plain, Good: 16, Target: 12, LowerIsBetter: true},
		Row{ID: "P7", What: "memory per idle connection, TLS", Yardstick: "Y4r bare loop", Figure: connKB, Unit: "KB",
			Measure: secure, Against: bareSecure, Compare: Plain, Good: 52, Target: 42, LowerIsBetter: true})
}

// fleetRows are P17 and P19: what many devices at once have to wait for.
func (b *Bench) fleetRows() []Row {
	told := (&crowd{b: b}).meter()
	connected := thousands(int64(b.many(listeners))) + " connected"
	rows := []Row{
		{ID: "P17", What: "notify-next after CreateJob, the first 1,000, " + connected, Figure: toldFirstMS, Unit: "ms",
			Measure: told, Good: 300, Target: 100, LowerIsBetter: true},
		{ID: "P17", What: "notify-next after CreateJob, p99, " + connected, Figure: P99, Unit: "ms",
			Measure: told, Good: 300, Target: 300, LowerIsBetter: true},
	}
	h := &herd{b: b, size: herdSize(b)}
	back, shake := h.meters()
	n := thousands(int64(h.size))
	return append(rows,
		Row{ID: "P19", What: n + " come back at once over TLS and report, none fails", Yardstick: "handshakes alone", Figure: Seconds, Unit: "s",
			Measure: back, Against: shake, Good: 1.5, Target: 1.2, LowerIsBetter: true},
		Row{ID: "P19", What: "... server CPU for each", Yardstick: "handshakes alone", Figure: CPUPerOp, Unit: "us",
			Measure: back, Against: shake, LowerIsBetter: true})
}

// jobRows are P8, P9 and P11: what a job of everything costs.
func (b *Bench) jobRows() []Row {
	large, small := b.engineCreate(allGroup), b.engineCreate(smallGroup)
	rollout, load := b.engineRollout(), b.naiveLoad()
	n := thousands(int64(b.Things))
	rows := []Row{
		{ID: "P8", What: "CreateJob answers, group of " + n, Figure: createdMS, Unit: "ms",
			Measure: large, Against: small, Compare: Plain, Yardstick: "group of 1,000", Good: 1000, Target: 100, LowerIsBetter: true},
		{ID: "P8", What: "... the slowest of " + fmt.Sprint(perRollout), Yardstick: "group of 1,000", Figure: slowestMS, Unit: "ms",
			Measure: large, Against: small, LowerIsBetter: true},
		{ID: "P8", What: "... the median", Yardstick: "group of 1,000", Figure: createdMS, Unit: "ms",
			Measure: large, Against: small, Good: 3, Target: 1.5, LowerIsBetter: true},
		{ID: "P9", What: "all " + n + " queued, durable, told", Yardstick: "Y2 bulk load", Figure: PerSecond, Unit: "/s",
			Measure: rollout, Against: load, Good: 0.3, Target: 0.5},
		{ID: "P9", What: "... CPU per execution", Yardstick: "Y2 bulk load", Figure: CPUPerOp, Unit: "us",
			Measure: rollout, Against: load, LowerIsBetter: true},
		{ID: "P11", What: "DescribeJob of " + n, Yardstick: "of 100", Figure: describeUS, Unit: "us",
			Measure: b.engineDescribe(spreadJob), Against: b.engineDescribe(smallJob("QUEUED"))},
	}
	for _, status := range []string{"", "QUEUED", "IN_PROGRESS", "SUCCEEDED"} {
		of, like := status, status
		if status == "" {
			of, like = "any status", "QUEUED"
		}
		rows = append(rows, Row{ID: "P11", What: "page of 100 " + of + ", worst place in " + n, Yardstick: "in 100", Figure: pageUS, Unit: "us",
			Measure: b.enginePages(spreadJob, status), Against: b.enginePages(smallJob(like), status)})
	}
	for i := range rows {
		if rows[i].ID == "P11" {
			rows[i].Good, rows[i].Target, rows[i].LowerIsBetter = 3, 1.5, true
		}
	}
	return rows
}

// disturbedRows are P10.
func (b *Bench) disturbedRows() (rows []Row) {
	n := thousands(int64(b.Things))
	calm := b.engineUpdates(disturbers)
	for _, d := range []struct{ what, worked, op, seed string }{
		{"while a job of " + n + " rolls out", "... executions made meanwhile", "disturb-rollout", liveSeed},
		{"while " + n + " timers fall due", "... executions timed out meanwhile", "disturb-timers", timedSeed},
	} {
		busy := b.engineDisturbed(d.what, d.op, d.seed)
		rows = append(rows,
			Row{ID: "P10", What: "p99 of reports, 64 callers, " + d.what, Yardstick: "without", Figure: P99, Unit: "ms",
				Measure: busy, Against: calm, Good: 10, Target: 4, LowerIsBetter: true},
			Row{ID: "P10", What: "... the longest of them", Yardstick: "without", Figure: Slowest, Unit: "ms",
				Measure: busy, Against: calm, LowerIsBetter: true},
			Row{ID: "P10", What: "... reports meanwhile", Yardstick: "without", Figure: PerSecond, Unit: "/s", Measure: busy, Against: calm},
			Row{ID: "P10", What: d.worked, Figure: workPerSecond, Unit: "/s", Measure: busy, Against: calm, Compare: Plain})
	}
	return rows
}

// sizeRows are P12 and P13.
func (b *Bench) sizeRows() []Row {
	sizes := (&sizer{b: b}).meter()
	rows := []Row{
		{ID: "P12", What: "RAM per execution that is queued", Figure: liveBytes, Good: 400, Target: 200},
		{ID: "P12", What: "RAM per execution in progress, 186-byte details", Figure: reportedBytes},
		{ID: "P12", What: "RAM per execution that is over, job still active", Figure: overBytes, Good: 8, Target: 2},
		{ID: "P12", What: "RAM per execution of a finished job", Figure: sealedBytes, Good: 8, Target: 2},
		{ID: "P13", What: "disk per execution of a finished job, 100-byte details", Figure: diskBytes, Good: 300, Target: 150},
	}
	for i := range rows {
		rows[i].Unit, rows[i].Measure, rows[i].LowerIsBetter = "B", sizes, true
	}
	return append(rows, Row{ID: "P13", What: "reports that end executions, 512 callers", Figure: PerSecond, Unit: "/s", Measure: sizes})
}

// startRows are P14 and P18.
func (b *Bench) startRows() []Row {
	empty := b.startEmpty()
	return []Row{
		{ID: "P14", What: "ready after SIGKILL, " + thousands(int64(b.Things)) + " live", Yardstick: "Y2 naive Pebble", Figure: Seconds, Unit: "s",
			Measure: b.engineReopen(), Against: b.naiveReopen(), Compare: Excess, Good: 4, Target: 1, LowerIsBetter: true},
		{ID: "P18", What: "start empty, until ready", Figure: startedMS, Unit: "ms", Measure: empty, Good: 300, Target: 100, LowerIsBetter: true},
		{ID: "P18", What: "idle memory", Figure: idleMiB, Unit: "MiB", Measure: empty, Good: 50, Target: 25, LowerIsBetter: true},
		{ID: "P18", What: "binary", Figure: binaryMB, Unit: "MB", Measure: empty, Good: 60, Target: 40, LowerIsBetter: true},
	}
}
