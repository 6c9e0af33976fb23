package scrape

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	profiles  *prometheus.CounterVec
	errors    *prometheus.CounterVec
	gaps      *prometheus.CounterVec
	rivals    prometheus.Counter
	targets   prometheus.Gauge
	processes *prometheus.GaugeVec
	scan      prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		profiles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_scrape_profiles_total", Help: "Profiles scraped and stored."}, []string{"type"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_scrape_errors_total", Help: "Captures that failed."}, []string{"type"}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sonde_scrape_gaps_total", Help: "Intervals without a profile, by cause: baseline, reset, capture, store, interrupted (by a capture on demand)."}, []string{"cause"}),
		rivals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sonde_scrape_rivals_total", Help: "CPU profiles not taken because someone else was taking one."}),
		targets: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sonde_scrape_targets", Help: "Targets being scraped, static ones included."}),
		processes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sonde_discover_processes", Help: "Go processes found in the last scan, by state."}, []string{"state"}),
		scan: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sonde_discover_scan_seconds", Help: "Duration of scans, probes included.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.profiles, m.errors, m.gaps, m.rivals, m.targets, m.processes, m.scan} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
