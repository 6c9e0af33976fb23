package trigger

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	watched prometheus.Gauge
	kept    prometheus.Gauge
	looks   prometheus.Counter
	busy    prometheus.Counter
	taken   *prometheus.CounterVec
	failed  *prometheus.CounterVec
	claims  *prometheus.CounterVec
	skipped prometheus.Counter
	kills   prometheus.Counter
	exits   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		watched: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_trigger_processes", Help: "Processes that triggers watch."}),
		kept:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_trigger_kept_bytes", Help: "Bytes of captures that are kept in memory for the case that their process is killed."}),
		looks:   counter("sonde_trigger_looks_total", "Looks at processes."),
		busy:    counter("sonde_trigger_busy_seconds_total", "Time that looks at processes took."),
		taken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_trigger_captures_total", Help: "Captures that triggers took, those that were not delivered included."}, []string{"kind"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_trigger_failures_total", Help: "Captures that triggers could not take."}, []string{"kind"}),
		claims: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_trigger_claims_total", Help: "Claims of triggers by their answer: granted, denied, error."}, []string{"answer"}),
		skipped: counter("sonde_trigger_skipped_total", "Actions and events left out because there were too many."),
		kills:   counter("sonde_trigger_oom_kills_total", "Watched processes that the kernel killed for their memory."),
		exits:   counter("sonde_trigger_exits_total", "Watched processes that ended otherwise."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.watched, m.kept, m.looks, m.busy, m.taken, m.failed, m.claims, m.skipped, m.kills, m.exits} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
