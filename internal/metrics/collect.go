package metrics

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"muster"
	"muster/internal/awsapi"
	"muster/internal/broker"
	"muster/internal/engine"
	"muster/internal/meter"
	"muster/internal/store/pebblestore"
	"muster/internal/store/pgstore"
	"muster/internal/webhook"
)

// Sources are where the numbers come from. They are asked at each scrape.
type Sources struct {
	Requests *Requests
	API      *awsapi.API
	Engine   *engine.Engine
	Broker   func() broker.Stats // nil: the broker is somebody else's, and so are its numbers
	Webhooks *webhook.Service
	// Of Store and Database one is nil, or both are: it is an embedded store, a database, or counts nothing.
	Store    func() pebblestore.Stats
	Database func() pgstore.Stats
	Health   func() error // of the store
	Streams  func() (open int, cut uint64)
	Now      func() time.Time // real time
	Version  string
}

// Handler serves what Prometheus scrapes.
func Handler(s Sources) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{s})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorHandling: promhttp.ContinueOnError})
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("muster_"+name, help, labels, nil)
}

var (
	build = describe("build_info", "1, with the version of the server.", "version", "go_version")

	requestsTotal   = describe("requests_total", "Requests answered.", "plane", "operation", "door", "result")
	requestDuration = describe("request_duration_seconds", "From the request's arrival to its answer being made.", "plane", "operation", "door")
	requestsNow     = describe("requests_in_flight", "Requests of the data plane under way.")
	requestsMost    = describe("requests_in_flight_limit", "How many there may be; 0: any number.")

	transitions = describe("execution_transitions_total", "Job executions that went from a status to another; none: created, or deleted.", "from", "to")
	jobs        = describe("jobs", "Jobs by status.", "status")
	pending     = describe("executions_pending", "Job executions that are QUEUED or IN_PROGRESS.")
	things      = describe("things", "Registered things.")

	storeUp         = describe("store_up", "1 while the store can promise durability.")
	storeUpdates    = describe("store_updates_total", "Updates written.")
	storeBatches    = describe("store_batch_size", "Updates that share one commit.")
	storeSyncs      = describe("store_sync_duration_seconds", "What waiting for the disk took, per commit; with PostgreSQL, for it to write and to commit.")
	storeWaits      = describe("store_queue_wait_seconds", "What the first update of a commit waited for the writer.")
	storeQueue      = describe("store_queue_length", "Updates that wait for the writer.")
	storeStatements = describe("store_statements_total", "Statements given to the database.")
	storeTrips      = describe("store_round_trips_total", "How often the database was asked and waited for.")
	storeDeadlocks  = describe("store_deadlocks_total", "Transactions done again because they and others waited for each other.")
	storeLog        = describe("store_log_bytes_total", "Bytes written to the log.")
	storeFlushed    = describe("store_flushed_bytes_total", "Bytes written to tables from memory.")
	storeCompact    = describe("store_compacted_bytes_total", "Bytes written to tables from tables.")
	storeDiskSize   = describe("store_disk_bytes", "Size of the store's directory.")

	feedEntries = describe("feed_entries_total", "Entries of the feed that were told.")
	feedFacts   = describe("feed_facts_total", "Facts of this process in them.")
	feedDelay   = describe("feed_delay_seconds", "From a commit to its notices and events being handed on.")
	feedLag     = describe("feed_lag_seconds", "Age of the oldest commit that is not told yet; 0: all are.")
	feedMissed  = describe("feed_missed_total", "Times the feed was cut off before it was told.")
	notices     = describe("notices_total", "Notices handed on to devices that listen.", "kind")
	events      = describe("events_total", "Messages below $aws/events/ handed on.")

	connections   = describe("mqtt_connections", "MQTT connections, by whatever port.")
	sessions      = describe("mqtt_sessions", "MQTT sessions, of clients that are away too.")
	subscriptions = describe("mqtt_subscriptions", "MQTT subscriptions.")
	retained      = describe("mqtt_retained_messages", "Retained messages.")
	dropped       = describe("mqtt_messages_dropped_total", "Messages not delivered for want of room or right.")
	slow          = describe("mqtt_slow_clients_total", "Connections ended because their clients did not read.")

	deadlines = describe("deadlines_total", "What fell due and was worked on, in whole or a slice.", "kind")
	due       = describe("deadlines_due", "What is due and not done yet, as far as one look goes (512).")
	lateness  = describe("deadline_lateness_seconds", "How long after their moment timers and schedules acted.")
	ticks     = describe("loop_ticks_total", "Rounds of the loop that found something to do.")
	failures  = describe("loop_failures_total", "Rounds of the loop that failed, to be tried again.")

	streams    = describe("event_streams", "Readers of /_muster/events.")
	streamsCut = describe("event_streams_cut_total", "Readers of /_muster/events that were cut because they did not read.")

	hooks      = describe("webhooks", "Webhooks that this process delivers for.")
	deliveries = describe("webhook_deliveries_total", "Attempts to deliver an event, and events that became dead letters.", "result")
	hookQueue  = describe("webhook_queue_length", "Events read for webhooks and not delivered yet.")
	hookLag    = describe("webhook_lag_seconds", "How long the event that waits longest for a webhook has waited; 0: none waits.")
	hookDead   = describe("webhook_dead_letters", "Events that webhooks have not taken, waiting for somebody to look.")
)

type collector struct{ Sources }

// Describe says nothing: what comes depends on what there is.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// A sink takes numbers.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// histogram shows values of a unit of which there are scale in one of Prometheus's.
func (s sink) histogram(d *prometheus.Desc, h meter.Snapshot, scale float64, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Bounds))
	for i, b := range h.Bounds {
		buckets[float64(b)/scale] = h.Counts[i]
	}
	s <- prometheus.MustNewConstHistogram(d, h.Count, float64(h.Sum)/scale, buckets, labels...)
}

const (
	seconds = float64(time.Second)
	pieces  = 1
)

// Collect asks all sources.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := sink(ch)
	out.gauge(build, 1, c.Version, runtime.Version())
	c.requests(out)
	c.store(out)
	c.feed(out)
	c.loop(out)

	if c.Broker != nil {
		b := c.Broker()
		out.gauge(connections, float64(b.Connections))
		out.gauge(sessions, float64(b.Sessions))
		out.gauge(subscriptions, float64(b.Subscriptions))
		out.gauge(retained, float64(b.Retained))
		out.counter(dropped, uint64(b.Dropped))
		out.counter(slow, uint64(b.Slow))
	}

	open, cut := c.Streams()
	out.gauge(streams, float64(open))
	out.counter(streamsCut, cut)

	w := c.Webhooks.Stats()
	out.gauge(hooks, float64(w.Hooks))
	out.gauge(hookQueue, float64(w.Waiting))
	out.gauge(hookDead, float64(w.Dead))
	out.counter(deliveries, w.Delivered, "delivered")
	out.counter(deliveries, w.Failed, "failed")
	out.counter(deliveries, w.Lost, "dead")
	lag := 0.0
	if !w.Oldest.IsZero() {
		lag = c.Now().Sub(w.Oldest).Seconds()
	}
	out.gauge(hookLag, lag)
}

func (c *collector) requests(out sink) {
	one := func(plane, name string, r *requests) {
		for door := awsapi.Door(0); door < awsapi.NumDoors; door++ {
			for result := awsapi.Result(0); result < awsapi.NumResults; result++ {
				if n := r.results[door][result].Load(); n > 0 {
					out.counter(requestsTotal, n, plane, name, door.String(), result.String())
				}
			}
			if h := r.took[door].Snapshot(); h.Count > 0 {
				out.histogram(requestDuration, h, seconds, plane, name, door.String())
			}
		}
	}
	for op, r := range c.Requests.of {
		one(op.plane.String(), op.name, r)
	}
	one("", "other", c.Requests.other)
	s := c.API.Stats()
	out.gauge(requestsNow, float64(s.RequestsUnderWay))
	out.gauge(requestsMost, float64(s.MaxRequestsUnderWay))
}

func (c *collector) store(out sink) {
	up := 1.0
	if c.Health() != nil {
		up = 0
	}
	out.gauge(storeUp, up)
	if c.Database != nil {
		s := c.Database()
		out.commits(s.CommitStats, s.Waiting)
		out.counter(storeStatements, s.Statements)
		out.counter(storeTrips, s.Trips)
		out.counter(storeDeadlocks, s.Deadlocks)
	}
	if c.Store == nil {
		return
	}
	s := c.Store()
	out.gauge(pending, float64(s.Live))
	out.gauge(things, float64(s.Things))
	out.commits(s.CommitStats, s.Waiting)
	out.counter(storeLog, s.WALBytes)
	out.counter(storeFlushed, s.Flushed)
	out.counter(storeCompact, s.Compacted)
	out.gauge(storeDiskSize, float64(s.DiskBytes))
}

func (s sink) commits(c meter.CommitStats, waiting int) {
	s.counter(storeUpdates, c.Updates)
	s.histogram(storeBatches, c.BatchSizes, pieces)
	s.histogram(storeSyncs, c.Syncs, seconds)
	s.histogram(storeWaits, c.Waits, seconds)
	s.gauge(storeQueue, float64(waiting))
}

func (c *collector) feed(out sink) {
	s := c.API.Stats()
	for t, n := range s.Transitions {
		out.counter(transitions, n, status(t.From), status(t.To))
	}
	out.counter(feedEntries, s.Entries)
	out.counter(feedFacts, s.Facts)
	out.histogram(feedDelay, s.Delay, seconds)
	out.counter(feedMissed, s.Missed)
	out.counter(notices, s.Notify, "notify")
	out.counter(notices, s.NotifyNext, "notify_next")
	out.counter(events, s.Events)
	lag := 0.0
	if s.Untold != 0 {
		lag = max(0, c.Engine.Now().Sub(s.Untold).Seconds())
	}
	out.gauge(feedLag, lag)
}

func status(s muster.Status) string {
	if s == muster.NoStatus {
		return "none"
	}
	return s.String()
}

func (c *collector) loop(out sink) {
	s := c.Engine.Stats()
	for kind, n := range s.Worked {
		out.counter(deadlines, n, kind)
	}
	out.gauge(due, float64(s.Due))
	out.histogram(lateness, s.Lateness, seconds)
	out.counter(ticks, s.Ticks)
	out.counter(failures, s.Failures)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var counts map[muster.JobStatus]int
	if c.Engine.Look(ctx, func(l engine.Glance) { counts = l.JobCounts() }) == nil { // else store_up tells
		for st, n := range counts {
			out.gauge(jobs, float64(n), st.String())
		}
	}
}
