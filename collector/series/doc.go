// Package series is the form in which metrics travel between whoever reads them (the agent's windows, scraped /metrics, /proc and cgroups, GODEBUG's lines, gops, OTLP, rules over
// profiles) and the time series database: Samples of one process in a Batch, taken by an Appender.
//
// It owns the model, its encoding as a Prometheus remote-write 1.0 WriteRequest (https://prometheus.io/docs/specs/prw/remote_write_spec/), and the vocabulary: the names of
// client_golang's collectors, to which runtime/metrics and OpenTelemetry's go.* and process.* names are mapped. A series is known by its labels: those of its process (service_name,
// service_instance_id, …), its own, and __name__. Appending is idempotent by (series, time): a repeat changes nothing, so nobody has to number metrics.
//
// It may import Prometheus' model packages and prompb, and nothing of ours.
package series
