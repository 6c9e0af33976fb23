package otelspan

import (
	"context"
	"runtime/pprof"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// The names by which profiles and spans find each other; Pyroscope's libraries and Grafana use them too.
const (
	LabelSpanID   = "span_id"
	LabelTraceID  = "trace_id"
	LabelSpanName = "span_name"

	AttributeProfileID = attribute.Key("pyroscope.profile.id")
)

// maxName is the most bytes of a span's name that become a label. The agent takes 1024.
const maxName = 256

// provider hands out tracers that label.
type provider struct{ trace.TracerProvider }

// NewTracerProvider returns a TracerProvider whose spans are those of tp, and label what runs within them.
func NewTracerProvider(tp trace.TracerProvider) trace.TracerProvider { return &provider{tp} }

// Tracer returns tp's tracer, with labels.
func (p *provider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return &tracer{p.TracerProvider.Tracer(name, opts...)}
}

type tracer struct{ trace.Tracer }

// Start starts a span and, where it is the first of its trace in this process, labels the goroutine with it until End. The context has the tracer's own span in it, so that whoever
// takes it from there finds what it expects.
func (t *tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	first := isFirst(ctx, opts)
	inner, s := t.Tracer.Start(ctx, name, opts...)
	if !first {
		return inner, s
	}
	labels := make([]string, 0, 6)
	if name != "" {
		labels = append(labels, LabelSpanName, short(name))
	}
	if sc := s.SpanContext(); sc.IsSampled() {
		id := sc.SpanID().String()
		labels = append(labels, LabelSpanID, id, LabelTraceID, sc.TraceID().String())
		s.SetAttributes(AttributeProfileID.String(id))
	}
	if len(labels) == 0 {
		return inner, s
	}
	inner = pprof.WithLabels(inner, pprof.Labels(labels...))
	pprof.SetGoroutineLabels(inner)
	return inner, &span{Span: s, before: ctx}
}

// isFirst reports whether a span that is started in ctx is the first of its trace in this process.
func isFirst(ctx context.Context, opts []trace.SpanStartOption) bool {
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsValid() || parent.IsRemote() {
		return true
	}
	config := trace.NewSpanStartConfig(opts...)
	return config.NewRoot()
}

// span gives the labels back at its end.
type span struct {
	trace.Span
	before context.Context // with the labels that the goroutine had
	ended  atomic.Bool
}

// End ends the span. Another call does nothing to the labels.
func (s *span) End(opts ...trace.SpanEndOption) {
	s.Span.End(opts...)
	if !s.ended.Swap(true) {
		pprof.SetGoroutineLabels(s.before)
	}
}

// short cuts a name that is too long for a label.
func short(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.ToValidUTF8(name, "")
}
