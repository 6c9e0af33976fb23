// Package otelspan joins OpenTelemetry's spans with profiles: a wrapped TracerProvider labels what runs within a span, and the span says where its profile is.
//
//	otel.SetTracerProvider(otelspan.NewTracerProvider(tp))
//
// The first span of a trace in this process (a root, or one whose parent is remote) sets the pprof labels span_name and, where it is sampled, span_id and trace_id, on its goroutine and
// on those that it starts; the spans below it are part of it and change nothing. The sampled span gets the attribute pyroscope.profile.id, its own id, by which Grafana and others find
// the samples that carry it. The profiles of package agent show the labels, as do those of any other profiler that reads the runtime's.
//
// End gives the goroutine the labels back that the context of Start had. It has to be called on the span that Start returned and on the goroutine that called Start, as with a defer; on
// another one that goroutine's labels are replaced, and the first keeps those of the span. A goroutine that outlives the span keeps its labels too. A name that the span is given later
// does not reach the labels.
//
// Everything here is safe for concurrent use. It is a module of its own: importing the agent alone requires nothing.
package otelspan
