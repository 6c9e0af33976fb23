package otelspan_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sonde-io/sonde/agent/otelspan"
)

// tracer returns a tracer of the real SDK, wrapped, and what it records.
func tracer(t testing.TB, opts ...sdktrace.TracerProviderOption) (trace.Tracer, *tracetest.SpanRecorder) {
	recorded := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(recorded))...)
	t.Cleanup(func() {
		if err := tp.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return otelspan.NewTracerProvider(tp).Tracer("test"), recorded
}

// labelsOf returns the labels that ctx carries.
func labelsOf(ctx context.Context) map[string]string {
	out := map[string]string{}
	pprof.ForLabels(ctx, func(k, v string) bool { out[k] = v; return true })
	return out
}

var labelLine = regexp.MustCompile(`(?m)^# labels: (.*)$`)

// goroutineLabels returns the labels of the goroutine that calls it, as a goroutine profile shows them.
//
//go:noinline
func goroutineLabels(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(block, "otelspan_test.goroutineLabels") {
			if m := labelLine.FindStringSubmatch(block); m != nil {
				return m[1]
			}
			return ""
		}
	}
	t.Fatalf("this goroutine is not in its profile:\n%s", b.String())
	return ""
}

func remote(sampled bool) context.Context {
	flags := trace.TraceFlags(0).WithSampled(sampled)
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags}))
}

func TestWhoIsLabelled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		parent bool // in the process
		opts   []trace.SpanStartOption
		off    bool // sampling
		want   string
	}{
		{name: "a root", ctx: context.Background(), want: "name and ids"},
		{name: "a remote parent", ctx: remote(true), want: "name and ids"},
		{name: "a remote parent that is not sampled", ctx: remote(false), off: true, want: "name"},
		{name: "a root that is not sampled", ctx: context.Background(), off: true, want: "name"},
		{name: "a span below", ctx: context.Background(), parent: true, want: "its parent's"},
		{name: "a new root below", ctx: context.Background(), parent: true, opts: []trace.SpanStartOption{trace.WithNewRoot()}, want: "name and ids"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sampler := sdktrace.AlwaysSample()
			if tc.off {
				sampler = sdktrace.NeverSample()
			}
			tr, recorded := tracer(t, sdktrace.WithSampler(sampler))
			ctx := tc.ctx
			if tc.parent {
				var parent trace.Span
				ctx, parent = tr.Start(ctx, "parent")
				defer parent.End()
			}
			above := labelsOf(ctx)
			ctx, span := tr.Start(ctx, "POST /checkout", tc.opts...)
			sc := span.SpanContext()
			want := map[string]string{"span_name": "POST /checkout"}
			switch tc.want {
			case "name and ids":
				want["span_id"], want["trace_id"] = sc.SpanID().String(), sc.TraceID().String()
			case "its parent's":
				want = above
			}
			if got := labelsOf(ctx); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the context has %v, want %v", got, want)
			}
			if got := goroutineLabels(t); strings.Count(got, ":") != len(want) || !strings.Contains(got, want["span_name"]) || !strings.Contains(got, want["span_id"]) {
				t.Errorf("the goroutine has %s, want %v", got, want)
			}
			span.End()
			for _, s := range recorded.Ended() {
				id := ""
				for _, kv := range s.Attributes() {
					if kv.Key == otelspan.AttributeProfileID {
						id = kv.Value.AsString()
					}
				}
				if linked := tc.want == "name and ids"; linked != (id == s.SpanContext().SpanID().String()) {
					t.Errorf("the span's profile is %q", id)
				}
			}
		})
	}
}

// TestEndGivesLabelsBack: those of the context before, whatever is nested, and once only.
func TestEndGivesLabelsBack(t *testing.T) {
	tr, _ := tracer(t)
	pprof.Do(context.Background(), pprof.Labels("tenant", "a"), func(ctx context.Context) {
		before := goroutineLabels(t)
		outer, first := tr.Start(ctx, "outer")
		if got := labelsOf(outer); got["tenant"] != "a" || got["span_name"] != "outer" {
			t.Errorf("within the span %v", got)
		}
		within := goroutineLabels(t)
		_, second := tr.Start(outer, "batch", trace.WithNewRoot())
		second.End()
		if got := goroutineLabels(t); got != within {
			t.Errorf("after the inner span %s, want %s", got, within)
		}
		first.End()
		if got := goroutineLabels(t); got != before {
			t.Errorf("after the span %s, want %s", got, before)
		}
		_, other := tr.Start(ctx, "next")
		now := goroutineLabels(t)
		first.End() // as a defer after an early End does
		if got := goroutineLabels(t); got != now {
			t.Errorf("a second End leaves %s, want %s", got, now)
		}
		other.End()
	})
}

// TestGoroutinesInherit: what a request starts is labelled too.
func TestGoroutinesInherit(t *testing.T) {
	tr, _ := tracer(t)
	_, span := tr.Start(context.Background(), "fan out")
	var wg sync.WaitGroup
	var got string
	wg.Go(func() { got = goroutineLabels(t) })
	wg.Wait()
	span.End()
	if !strings.Contains(got, span.SpanContext().SpanID().String()) {
		t.Errorf("the goroutine has %s", got)
	}
}

// TestTheSpanIsTheSDKs: whoever takes the span from the context finds the SDK's own, which counts its children.
func TestTheSpanIsTheSDKs(t *testing.T) {
	tr, recorded := tracer(t)
	ctx, root := tr.Start(context.Background(), "root")
	if _, ok := trace.SpanFromContext(ctx).(sdktrace.ReadWriteSpan); !ok {
		t.Errorf("the context has a %T", trace.SpanFromContext(ctx))
	}
	_, child := tr.Start(ctx, "child")
	child.SetAttributes(attribute.Int("n", 1))
	child.End()
	root.End()
	ended := recorded.Ended()
	if len(ended) != 2 || ended[1].ChildSpanCount() != 1 || ended[0].Parent().SpanID() != root.SpanContext().SpanID() {
		t.Errorf("recorded %v", ended)
	}
}

func TestNames(t *testing.T) {
	tr, _ := tracer(t)
	ctx, span := tr.Start(context.Background(), strings.Repeat("ä", 1000))
	span.End()
	if name := labelsOf(ctx)["span_name"]; name != strings.Repeat("ä", 128) {
		t.Errorf("a long name becomes %d bytes", len(name))
	}
	ctx, span = tr.Start(context.Background(), "")
	span.End()
	if _, ok := labelsOf(ctx)["span_name"]; ok {
		t.Error("an empty name becomes a label")
	}
}

func TestManyAtOnce(t *testing.T) {
	tr, recorded := tracer(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				ctx, span := tr.Start(context.Background(), fmt.Sprint("worker ", i))
				if labelsOf(ctx)["span_id"] != span.SpanContext().SpanID().String() {
					t.Error("another span's labels")
				}
				span.End()
			}
		})
	}
	wg.Wait()
	if n := len(recorded.Ended()); n != 800 {
		t.Errorf("%d spans, want 800", n)
	}
}

func BenchmarkSpan(b *testing.B) {
	tp := sdktrace.NewTracerProvider()
	for name, tp := range map[string]trace.TracerProvider{"bare": tp, "labelled": otelspan.NewTracerProvider(tp)} {
		b.Run(name, func(b *testing.B) {
			tr := tp.Tracer("bench")
			b.ReportAllocs()
			for b.Loop() {
				_, span := tr.Start(context.Background(), "POST /checkout")
				span.End()
			}
		})
	}
}
