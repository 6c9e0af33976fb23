package otelspan_test

import (
	"context"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sonde-io/sonde/agent/otelspan"
)

func ExampleNewTracerProvider() {
	tp := sdktrace.NewTracerProvider() // with your exporter
	otel.SetTracerProvider(otelspan.NewTracerProvider(tp))

	_, span := otel.Tracer("cart").Start(context.Background(), "POST /checkout")
	defer span.End()
}
