// Package metrics is the time series database of a collector: Prometheus' tsdb in the data directory, its PromQL engine and its HTTP API under /prometheus.
//
//	s, err := metrics.Open(ctx, metrics.Config{Dir: …, Settings: cfg.Metrics})
//	s.Register(mux)
//	err = s.Run(ctx)
//	err = s.Close()
//
// It owns DATA/metrics: tsdb's blocks, head and write-ahead log as Prometheus writes them (promtool reads them), and metadata.json with what is known of names.
//
// What an ack means: AppendSeries and the write endpoints return once the samples are written to the write-ahead log, which is with the kernel then: they survive kill -9 of the collector.
// The log is not synced for each: a loss of power costs what the kernel had not written, some seconds. Appending is idempotent by (series, time), so what is not acknowledged is sent again.
// Samples up to a day old (out_of_order) are taken in any order, so that a sidecar's spool fits in; what is older than that, more than ten minutes in the future, or of a series over
// max_series is left out and counted in sonde_metrics_dropped_samples_total, and is no error: to send it again would not help. No service may have more series than are still free of
// max_series. Ended ends the series of processes that ended with staleness markers; Delete deletes those of a service or of an instance.
//
// Series carry the labels of their process, and job and instance (series.WithTarget). Store is safe for concurrent use; Close may be called twice. Only this package and those below it
// import tsdb, promql, rules, notifier, storage and web of Prometheus; it imports no part of a collector but series and reply.
package metrics
