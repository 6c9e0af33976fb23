// Package promenc writes metrics as a Prometheus remote-write 1.0 WriteRequest (https://prometheus.io/docs/specs/prw/remote_write_spec/), not compressed, and gives the metrics of
// runtime/metrics the names that Prometheus' Go client gives them.
//
// It owns the few field numbers of prompb's messages that a writer needs. Histograms become native ones with custom buckets (schema -53): the runtime's own bounds, and the counts of
// those buckets only that have any. It imports the standard library only; tests of the collector read what it writes with Prometheus' own code.
package promenc
