package intake

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	promremote "github.com/prometheus/prometheus/storage/remote"

	"github.com/sonde-io/sonde/collector/series"
)

// Config configures an Intake. Series is required.
type Config struct {
	Series     series.Appender
	Appendable storage.Appendable    // of the database, which takes exemplars too; nil (a sidecar): everything goes through Series, without exemplars
	Registerer prometheus.Registerer // nil: no metrics
}

// Intake takes metrics.
type Intake struct {
	series     series.Appender
	appendable storage.Appendable // nil: none
	write      http.Handler
	metrics    *metrics
}

// New returns an Intake.
func New(cfg Config) *Intake {
	in := &Intake{series: cfg.Series, appendable: cfg.Appendable, metrics: newMetrics(cfg.Registerer)}
	to := cfg.Appendable
	if to == nil {
		to = appendable{cfg.Series}
	}
	reg := cfg.Registerer
	if reg == nil {
		reg = prometheus.NewRegistry() // the handler counts in it, whatever is wanted
	}
	// It logs each sample that is wrong; that is counted.
	in.write = promremote.NewWriteHandler(slog.New(slog.DiscardHandler), reg, to, remote.MessageTypes{remote.WriteV1MessageType, remote.WriteV2MessageType}, false, false, true)
	return in
}

// RemoteWrite answers remote-write. The size of the body, and what it takes once it is decoded, is to be bounded before.
func (in *Intake) RemoteWrite() http.Handler { return in.write }

// metrics counts what comes.
type metrics struct {
	points   prometheus.Counter
	rejected *prometheus.CounterVec
}

// Why a data point of OTLP is left out.
const (
	reasonDelta      = "delta"
	reasonAttributes = "attributes"
	reasonBuckets    = "buckets"
	reasonInvalid    = "invalid"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		points: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_otlp_points_total", Help: "Data points of metrics that came by OTLP and were taken."}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_otlp_points_rejected_total",
			Help: "Data points of metrics that came by OTLP and were left out: delta (temporality), attributes (more than max_point_attributes, or max_point_attribute_bytes), buckets (more than max_buckets), invalid."}, []string{"reason"}),
	}
	for _, reason := range []string{reasonDelta, reasonAttributes, reasonBuckets, reasonInvalid} {
		m.rejected.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(m.points, m.rejected)
	}
	return m
}
