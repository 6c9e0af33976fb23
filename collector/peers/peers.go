package peers

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// Config configures a Handler. Receive is required.
type Config struct {
	Receive    *receive.Handler
	Binaries   *binaries.Store       // names frames that come as addresses, and takes uploads; nil: they stay addresses
	Metrics    Metrics               // takes metrics; nil: their endpoints are not there
	Registerer prometheus.Registerer // nil: no metrics
}

// Handler answers the senders of other systems.
type Handler struct {
	cfg      Config
	symbols  profiles.Symbolizer // nil: none
	once     once
	sessions sessions
	metrics  *metrics

	uploading chan struct{} // a place for each binary that comes
	listing   chan struct{} // a place for each list of functions that comes
}

// The paths of the endpoints that others define.
const (
	ingestPath = "/ingest"
	pushPath   = "/push.v1.PusherService/Push"
	otlpPath   = "/v1development/profiles"
	exportPath = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
)

// New returns a Handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, metrics: newMetrics(cfg.Registerer), uploading: make(chan struct{}, uploads), listing: make(chan struct{}, listUploads)}
	if cfg.Binaries != nil {
		h.symbols = cfg.Binaries
	}
	h.sessions.metrics = h.metrics
	if cfg.Registerer != nil && cfg.Binaries != nil {
		cfg.Registerer.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_binaries_bytes", Help: "Bytes of the binaries that name frames."}, func() float64 { return float64(cfg.Binaries.Bytes()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sonde_binaries_wanted", Help: "Binaries that frames asked for and that are not known."},
				func() float64 { return float64(cfg.Binaries.Wanted()) }))
	}
	return h
}

// Register adds the endpoints to mux.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.Handle("POST "+ingestPath, h.cfg.Receive.Peer("ingest", plain, h.ingest))
	mux.Handle("POST "+pushPath, h.cfg.Receive.Peer("pyroscope_push", rpc, h.push))
	mux.Handle("POST "+otlpPath, h.cfg.Receive.Peer("otlp_http", otlpHTTP, h.otlp))
	mux.Handle("POST "+exportPath, h.cfg.Receive.Peer("otlp_grpc", rpc, h.otlp))
	if h.cfg.Metrics != nil {
		h.registerMetrics(mux)
	}
	if h.cfg.Binaries != nil {
		mux.Handle("PUT /api/v1/binaries", http.HandlerFunc(h.putBinary))
		mux.Handle("GET /api/v1/binaries", http.HandlerFunc(h.listBinaries))
	}
}

// metrics counts what receive's do not.
type metrics struct {
	duplicates prometheus.Counter
	stripped   *prometheus.CounterVec
	gaps       prometheus.Counter
	rejected   prometheus.Counter
	named      prometheus.Counter
}

// newMetrics registers the counters.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_peer_duplicates_total", Help: "Requests of other systems' senders that had been stored before, by their content."}),
		stripped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_peer_labels_stripped_total",
			Help: "Labels of other systems' senders that were left out: of processes and of samples."}, []string{"of"}),
		gaps:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_peer_gaps_total", Help: "Cumulative profiles of other systems' senders from which nothing could be subtracted: the first ones, and those after a loss."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_peer_profiles_rejected_total", Help: "Profiles left out of requests of which the rest was stored."}),
		named:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_peer_frames_named_total", Help: "Places in code that came as addresses and were named as they came."}),
	}
	if reg != nil {
		reg.MustRegister(m.duplicates, m.stripped, m.gaps, m.rejected, m.named)
	}
	return m
}

// contextOf returns the context of a request, which ends when its client goes.
func contextOf(p *receive.Peer) context.Context { return p.Request().Context() }
