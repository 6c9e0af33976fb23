package capture

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	ended   *prometheus.CounterVec
	claims  *prometheus.CounterVec
	refused *prometheus.CounterVec
	start   prometheus.Histogram
	running prometheus.Gauge
	waiting prometheus.Gauge
	polls   prometheus.Gauge
	stored  prometheus.Gauge
	bytes   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_captures_total", Help: "Captures that ended, by kind and state: done, failed, expired, shadow."}, []string{"kind", "state"}),
		claims: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_capture_claims_total", Help: "Claims of triggers, by what was answered: granted, taken, limit, shadow."}, []string{"answer"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_captures_refused_total", Help: "Captures and polls refused, by the limit that was passed, or invalid."}, []string{"limit"}),
		start: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sonde_capture_start_seconds", Help: "Time from asking for a capture to its hand-out.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}),
		running: gauge("sonde_captures_running", "Captures that executors have now."),
		waiting: gauge("sonde_captures_waiting", "Captures that wait for their turn."),
		polls:   gauge("sonde_capture_polls", "Open polls of executors."),
		stored:  gauge("sonde_captures_stored", "Captures that are stored."),
		bytes:   gauge("sonde_captures_stored_bytes", "Bytes of stored captures."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.ended, m.claims, m.refused, m.start, m.running, m.waiting, m.polls, m.stored, m.bytes} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
