package perf

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	samples    *prometheus.CounterVec
	lost       prometheus.Counter
	malformed  prometheus.Counter
	endedEarly prometheus.Counter
	profiles   *prometheus.CounterVec
	gaps       *prometheus.CounterVec
	refused    *prometheus.CounterVec
	cpu        prometheus.Counter
	watched    prometheus.Gauge
	events     prometheus.Gauge
	rate       prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		samples:    vec("sonde_perf_samples_total", "Samples read, by what became of them: kept, dropped (not watched), cut (beyond the limit of stacks).", "fate"),
		lost:       counter("sonde_perf_lost_total", "Records for which the kernel's rings had no room."),
		malformed:  counter("sonde_perf_malformed_total", "Records that contradict themselves."),
		endedEarly: counter("sonde_perf_ended_early_total", "Processes that ended before they could be described or their binary opened."),
		profiles:   vec("sonde_perf_profiles_total", "Profiles taken by perf_event and stored.", "type"),
		gaps:       vec("sonde_perf_gaps_total", "Profiles that were not stored, by cause: queue, build, store.", "cause"),
		refused:    vec("sonde_perf_refused_total", "Processes that could not be watched, by cause: version, binary, rights, limit, gone.", "cause"),
		cpu:        counter("sonde_perf_cpu_seconds_total", "CPU time that the sampler took itself."),
		watched:    gauge("sonde_perf_watched", "Processes being watched."),
		events:     gauge("sonde_perf_events", "Open descriptors of perf events."),
		rate:       gauge("sonde_perf_rate_hertz", "Samples per second of CPU time, divided by the windows of which one is sampled."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.samples, m.lost, m.malformed, m.endedEarly, m.profiles, m.gaps, m.refused, m.cpu, m.watched, m.events, m.rate} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
