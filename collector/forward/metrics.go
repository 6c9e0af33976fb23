package forward

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/forward/spool"
)

type metrics struct {
	keepErrors  prometheus.Counter
	samples     *prometheus.CounterVec
	batches     *prometheus.CounterVec
	failures    prometheus.Counter
	sent        *prometheus.CounterVec
	sentBytes   prometheus.Counter
	refused     *prometheus.CounterVec
	lastArrived atomic.Int64 // Unix ms
}

// register makes the metrics. What the spool counts is read from it.
func (f *Forwarder) register() {
	m := &f.metrics
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m.keepErrors = counter("sonde_forward_keep_errors_total", "Pushes that could not be kept in the spool.")
	m.samples = vec("sonde_forward_samples_total", "Samples of series of this machine, by what became of them; dropped: larger than what is taken at once.", "result")
	m.batches = vec("sonde_forward_batches_total", "Batches that the upstream answered, by HTTP status.", "code")
	m.failures = counter("sonde_forward_failures_total", "Batches that did not arrive and were, or will be, sent again.")
	m.sent = vec("sonde_forward_pushes_total", "Pushes that the upstream answered, by result; later: refused for now; unknown: sent again with the process object.", "result")
	m.sentBytes = counter("sonde_forward_sent_bytes_total", "Bytes of batches that arrived.")
	m.refused = vec("sonde_forward_refused_total", "Pushes that the upstream refused for good, by HTTP status.", "code")
	if f.cfg.Registerer == nil {
		return
	}
	f.cfg.Registerer.MustRegister(m.keepErrors, m.samples, m.batches, m.failures, m.sent, m.sentBytes, m.refused)
	gauge := func(name, help string, read func(s spool.Stats) float64) {
		f.cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return read(f.spool.Stats()) }))
	}
	total := func(name, help string, read func(s spool.Stats) float64) {
		f.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return read(f.spool.Stats()) }))
	}
	gauge("sonde_spool_bytes", "Bytes of the spool on disk.", func(s spool.Stats) float64 { return float64(s.Bytes) })
	gauge("sonde_spool_limit_bytes", "Most bytes of the spool (spool_bytes).", func(s spool.Stats) float64 { return float64(s.MaxBytes) })
	gauge("sonde_spool_segments", "Files of the spool.", func(s spool.Stats) float64 { return float64(s.Files) })
	gauge("sonde_spool_waiting", "Pushes in the spool that the upstream does not have.", func(s spool.Stats) float64 { return float64(s.Waiting) })
	gauge("sonde_spool_oldest_seconds", "About how long the oldest push in the spool has waited; 0: none waits.", func(s spool.Stats) float64 {
		if s.Oldest == 0 {
			return 0
		}
		return max(0, float64(f.cfg.Now().UnixMilli()-s.Oldest)/1000)
	})
	total("sonde_spool_appended_total", "Pushes taken into the spool.", func(s spool.Stats) float64 { return float64(s.Appended) })
	total("sonde_spool_dropped_total", "Pushes dropped because the spool was full.", func(s spool.Stats) float64 { return float64(s.DroppedFull) })
	total("sonde_spool_damaged_total", "Pushes that could not be read back.", func(s spool.Stats) float64 { return float64(s.DamagedPushes) })
	total("sonde_spool_damaged_bytes_total", "Bytes of the spool that hold no record.", func(s spool.Stats) float64 { return float64(s.DamagedBytes) })
	total("sonde_spool_torn_bytes_total", "Bytes cut off the ends of files at the start.", func(s spool.Stats) float64 { return float64(s.TornBytes) })
	total("sonde_spool_writes_total", "Writes, each with a sync.", func(s spool.Stats) float64 { return float64(s.Writes) })
	total("sonde_spool_write_failures_total", "Writes and syncs that failed.", func(s spool.Stats) float64 { return float64(s.Failures) })
	total("sonde_spool_write_seconds_total", "Time of writes and syncs.", func(s spool.Stats) float64 { return s.SyncSeconds })
	f.cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_forward_up", Help: "1 while the upstream takes what is sent."}, func() float64 {
		if f.Down() {
			return 0
		}
		return 1
	}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_forward_last_arrived_timestamp_seconds", Help: "When a batch arrived last, Unix time; 0: never."},
		func() float64 { return float64(m.lastArrived.Load()) / 1000 }))
}
