package store

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own, all named sonde_store_*. They count whether or not there is a registry.
type metrics struct {
	pushes         prometheus.Counter
	duplicates     prometheus.Counter
	failures       prometheus.Counter
	limited        prometheus.Counter
	profiles       prometheus.Counter
	samples        prometheus.Counter
	segmentSeconds prometheus.Histogram
	segmentBytes   prometheus.Counter
	compactions    *prometheus.CounterVec
	blockBytes     prometheus.Counter
	expired        *prometheus.CounterVec
	unreadable     prometheus.Counter
	downsampled    *prometheus.CounterVec
	garbage        prometheus.Counter
	querySeconds   prometheus.Histogram
	readBytes      prometheus.Counter
	all            []prometheus.Collector
}

func newMetrics(s *Store) *metrics {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sonde", Subsystem: "store", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sonde", Subsystem: "store", Name: name, Help: help}, []string{label})
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sonde", Subsystem: "store", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 3, 11)})
		m.all = append(m.all, h)
		return h
	}
	m.pushes = counter("pushes_total", "Pushes stored.")
	m.duplicates = counter("duplicates_total", "Pushes refused because their key was stored before.")
	m.failures = counter("push_failures_total", "Pushes that could not be stored.")
	m.limited = counter("limited_total", "Pushes refused because a service has too many series.")
	m.profiles = counter("profiles_total", "Profiles stored.")
	m.samples = counter("samples_total", "Samples in the profiles stored.")
	m.segmentSeconds = histogram("segment_write_seconds", "Time to encode, write and register a segment.")
	m.segmentBytes = counter("segment_bytes_total", "Bytes written in segments.")
	m.compactions = vec("compactions_total", "Compactions by result: done, conflict, failed.", "result")
	m.blockBytes = counter("block_bytes_total", "Bytes written in blocks.")
	m.expired = vec("expired_blocks_total", "Segments and blocks dropped by retention, by reason: age, size.", "reason")
	m.downsampled = vec("downsampled_blocks_total", "Blocks that retention added up or merged, by reason: age, size, merge.", "reason")
	m.unreadable = counter("unreadable_blobs_total", "Segments and blocks that queries could not read and left out.")
	m.garbage = counter("deleted_blobs_total", "Blobs deleted: garbage and orphans.")
	m.querySeconds = histogram("merge_seconds", "Time of a merge.")
	m.readBytes = counter("read_bytes_total", "Bytes that queries read from blobs.")
	m.all = append(m.all, newUsageCollector(s))
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range m.all {
		if err := r.Register(c); err != nil {
			m.unregister(r)
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

// usageCollector reads the catalogue when it is scraped: live bytes and how far compaction lags.
type usageCollector struct {
	store                                        *Store
	bytes, blobs, profiles, lag, waiting, behind *prometheus.Desc
}

func newUsageCollector(s *Store) *usageCollector {
	return &usageCollector{
		store:    s,
		bytes:    prometheus.NewDesc("sonde_store_live_bytes", "Bytes of live segments and blocks.", nil, nil),
		blobs:    prometheus.NewDesc("sonde_store_live_blobs", "Live segments and blocks.", []string{"kind"}, nil),
		profiles: prometheus.NewDesc("sonde_store_live_profiles", "Profiles in live segments and blocks.", nil, nil),
		lag:      prometheus.NewDesc("sonde_store_compaction_lag_seconds", "Age of the oldest segment that is not compacted.", nil, nil),
		waiting:  prometheus.NewDesc("sonde_store_compaction_waiting_bytes", "Bytes of segments that are not compacted.", nil, nil),
		behind:   prometheus.NewDesc("sonde_store_compaction_behind_seconds", "How much longer the oldest segment has waited than it should: 0 where compaction keeps up.", nil, nil),
	}
}

func (c *usageCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.bytes, c.blobs, c.profiles, c.lag, c.waiting, c.behind} {
		ch <- d
	}
}

func (c *usageCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	u, err := c.store.Usage(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.bytes, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.bytes, float64(u.Bytes))
	gauge(c.blobs, float64(u.Segments), "segment")
	gauge(c.blobs, float64(u.Blocks), "block")
	gauge(c.profiles, float64(u.Profiles))
	gauge(c.lag, u.Backlog.Oldest.Seconds())
	gauge(c.waiting, float64(u.Backlog.Bytes))
	gauge(c.behind, u.Backlog.Behind.Seconds())
}
