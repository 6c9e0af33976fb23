package receive

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
)

type metrics struct {
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	refused    *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	profiles   *prometheus.CounterVec
	duplicates prometheus.Counter
	agent      *prometheus.CounterVec
	records    *prometheus.CounterVec
	samples    *prometheus.CounterVec
	lines      *prometheus.CounterVec
}

// knownTypes bounds the values of the metrics' type label: anybody may push any type.
var knownTypes = map[string]bool{"cpu": true, "heap": true, "goroutine": true, "mutex": true, "block": true, "goroutineleak": true, "threadcreate": true, "wall": true}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_requests_total", Help: "Pushes by endpoint and HTTP status."}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sonde_push_duration_seconds", Help: "Time to answer a push, the durable write included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"endpoint"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_refused_total", Help: "Pushes refused, by the limit they passed or the status they got."}, []string{"reason"}),
		bytes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_bytes_total", Help: "Bytes of profiles received, as sent and decompressed."}, []string{"form"}),
		profiles: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_profiles_total", Help: "Profiles stored, by type."},
			[]string{"type"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_push_duplicates_total", Help: "Pushes that had been stored before."}),
		agent:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_agent_losses_total", Help: "What agents said they lost: windows dropped, windows failed, labels stripped."}, []string{"what"}),
	}
	m.records = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_batch_records_total", Help: "Records of batches, by what became of them."}, []string{"status"})
	m.samples = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_metric_samples_total", Help: "Samples of series in pushes, by what became of them; dropped: nobody keeps metrics here."},
		[]string{"status"})
	m.lines = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_push_lines_total", Help: "Lines in pushes, by what became of them; dropped: nobody keeps lines here."}, []string{"status"})
	if reg != nil {
		reg.MustRegister(m.samples, m.lines, m.records, m.requests, m.duration, m.refused, m.bytes, m.profiles, m.duplicates, m.agent)
	}
	return m
}

func (m *metrics) observe(endpoint string, status int, d time.Duration) {
	m.requests.WithLabelValues(endpoint, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(endpoint).Observe(d.Seconds())
}

func (m *metrics) refuse(e *reply.Error) {
	reason := e.Limit
	if reason == "" {
		reason = strconv.Itoa(e.Status)
	}
	m.refused.WithLabelValues(reason).Inc()
}

func (m *metrics) stored(profileType string) {
	if !knownTypes[profileType] {
		profileType = "other"
	}
	m.profiles.WithLabelValues(profileType).Inc()
}

// losses adds what an agent lost since its last push; its figures count from its start.
func (m *metrics) losses(before, now wire.Stats) {
	m.agent.WithLabelValues("windows_dropped").Add(float64(max(0, now.WindowsDropped-before.WindowsDropped)))
	m.agent.WithLabelValues("windows_failed").Add(float64(max(0, now.WindowsFailed-before.WindowsFailed)))
	m.agent.WithLabelValues("labels_stripped").Add(float64(max(0, now.LabelsStripped-before.LabelsStripped)))
}
