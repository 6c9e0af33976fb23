// Package telemetry sends this program's own traces and metrics by OTLP where the environment says where to, as OpenTelemetry specifies it; where it does not, nothing is made and nothing
// is paid.
//
//	t, err := telemetry.New(ctx, telemetry.Config{Service: "sonde", Version: version, Instance: id, Gatherer: registry, Logger: log}) // nil: off
//	handler = t.Handler(handler)
//	err = t.Run(ctx)
//
// What switches it on: OTEL_EXPORTER_OTLP_ENDPOINT for both signals, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and OTEL_EXPORTER_OTLP_METRICS_ENDPOINT for one. What is understood besides:
// OTEL_SDK_DISABLED, OTEL_{TRACES,METRICS}_EXPORTER=otlp|none, OTEL_EXPORTER_OTLP_[SIGNAL_]{PROTOCOL,HEADERS,TIMEOUT,COMPRESSION,CERTIFICATE,INSECURE,…}, OTEL_TRACES_SAMPLER[_ARG],
// OTEL_METRIC_EXPORT_INTERVAL, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_…. The protocol is http/protobuf unless grpc is asked for.
//
// Traces are spans of requests (otelhttp); metrics are what /metrics says, through OpenTelemetry's bridge: one registry, two ways out.
//
// A nil *Telemetry is one that is off; its methods do nothing. Safe for concurrent use. The package imports nothing of ours.
package telemetry
