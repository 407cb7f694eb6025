// Package trace tells an OpenTelemetry collector what the server does: a span for each request, each commit of the store
// and each round of the loop. Without a collector there is no Tracer, and nothing of this runs.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"muster/internal/awsapi"
	"muster/internal/engine"
	"muster/internal/store"
)

// tracesPath is where OTLP over HTTP takes traces, below the endpoint.
const tracesPath = "/v1/traces"

// A Tracer makes spans and sends them, some at a time, without anybody waiting for it. What the collector does not take in time
// is dropped.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	parents  propagation.TraceContext
	now      func() time.Time
}

// New makes a tracer that sends to an OTLP endpoint, such as http://localhost:4318. What else there is to say comes from the
// variables that OpenTelemetry names: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and so on.
func New(ctx context.Context, endpoint, version string, now func() time.Time, log *slog.Logger) (*Tracer, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an OTLP endpoint: it is a URL such as http://localhost:4318", endpoint)
	}
	if !strings.HasSuffix(u.Path, tracesPath) {
		u.Path = strings.TrimSuffix(u.Path, "/") + tracesPath
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("traces cannot be sent to %s: %w", endpoint, err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "muster"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		log.Warn("what the environment says of this service is not all understood", "error", err)
	}
	t := &Tracer{now: now, provider: sdk.NewTracerProvider(sdk.WithBatcher(&reporter{SpanExporter: exporter, log: log}), sdk.WithResource(about))}
	t.tracer = t.provider.Tracer("muster")
	return t, nil
}

// A reporter logs that spans could not be sent, once until they can again.
type reporter struct {
	sdk.SpanExporter
	log    *slog.Logger
	failed bool // only the batcher calls
}

// ExportSpans sends spans. The error ends here: otherwise OpenTelemetry would write to standard error.
func (r *reporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && !r.failed {
		r.log.Warn("spans cannot be sent, and are dropped until they can", "error", err)
	} else if err == nil && r.failed {
		r.log.Info("spans are sent again")
	}
	r.failed = err != nil
	return nil
}

// Close sends what is left, for as long as ctx allows.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Begin begins the span of a request, below the one that its header names. The header is nil where there is none.
func (t *Tracer) Begin(ctx context.Context, h http.Header, at time.Time) context.Context {
	if h != nil {
		ctx = t.parents.Extract(ctx, propagation.HeaderCarrier(h))
	}
	ctx, _ = t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(at))
	return ctx
}

// End ends the span of a request.
func (t *Tracer) End(ctx context.Context, r *awsapi.Request, at time.Time) {
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		name := r.Operation
		if name == "" {
			name = "other"
		}
		span.SetName(name)
		span.SetAttributes(attribute.String("rpc.method", name), attribute.String("muster.plane", r.Plane.String()),
			attribute.String("muster.door", r.Door.String()), attribute.String("muster.result", r.Result.String()))
		if r.ID != "" {
			span.SetAttributes(attribute.String("aws.request_id", r.ID))
		}
		if r.Result == awsapi.Internal || r.Result == awsapi.Unavailable {
			span.SetStatus(codes.Error, r.Err.Error())
		}
	}
	span.End(trace.WithTimestamp(at))
}

// Batch is a span for a commit of the store.
func (t *Tracer) Batch(b store.Batch) {
	end := t.now()
	_, span := t.tracer.Start(context.Background(), "store commit", trace.WithTimestamp(end.Add(-b.Took)), trace.WithAttributes(
		attribute.Int("muster.updates", b.Updates), attribute.Int("muster.bytes", b.Bytes), attribute.Float64("muster.sync_ms", float64(b.Sync)/float64(time.Millisecond))))
	if b.Err != nil {
		span.SetStatus(codes.Error, b.Err.Error())
	}
	span.End(trace.WithTimestamp(end))
}

// Tick is a span for a round of the loop, if it found something to do.
func (t *Tracer) Tick(ctx context.Context) func(engine.Tick) {
	began := t.now()
	return func(k engine.Tick) {
		if k.Deadlines == 0 && k.Err == nil {
			return
		}
		_, span := t.tracer.Start(ctx, "loop tick", trace.WithTimestamp(began), trace.WithAttributes(attribute.Int("muster.deadlines", k.Deadlines)))
		if k.Err != nil {
			span.SetStatus(codes.Error, k.Err.Error())
		}
		span.End(trace.WithTimestamp(t.now()))
	}
}
