package coverage

import (
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
)

// ReceiverConfig configures a Receiver. Catalog is required.
type ReceiverConfig struct {
	Catalog    Store
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Receiver takes the reports of other nodes: POST /api/v1/coverage.
type Receiver struct {
	cfg     ReceiverConfig
	reports *prometheus.CounterVec
}

// NewReceiver returns a Receiver.
func NewReceiver(cfg ReceiverConfig) *Receiver {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{cfg: cfg, reports: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_coverage_reports_total",
		Help: "Reports of nodes on the Go programs that run there, by what became of them: stored, refused, failed."}, []string{"result"})}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(r.reports)
	}
	return r
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e := r.take(w, req)
	switch {
	case e == nil:
		r.reports.WithLabelValues("stored").Inc()
		reply.JSON(w, map[string]string{"status": "ok"})
	case e.Status >= 500:
		r.reports.WithLabelValues("failed").Inc()
		r.cfg.Logger.Error("cannot store a node's report", "error", e.Message, "cause", e.Cause)
		reply.Fail(w, e)
	default:
		r.reports.WithLabelValues("refused").Inc()
		reply.Fail(w, e)
	}
}

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) *reply.Error {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxEncoded))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the report is too large", Limit: "max_coverage_bytes", Max: MaxEncoded}
		}
		return reply.Errorf(http.StatusBadRequest, "read report: %v", err)
	}
	rep, err := Decode(data)
	if err != nil {
		return reply.Errorf(http.StatusUnprocessableEntity, "read report: %v", err)
	}
	encoded, err := rep.Encode()
	if err == nil {
		// By this collector's clock: a node whose clock is wrong is not silent.
		err = r.cfg.Catalog.PutExpected(req.Context(), catalog.Expected{Node: rep.Node, Report: encoded})
	}
	if errors.Is(err, catalog.ErrTooMany) {
		return &reply.Error{Status: http.StatusTooManyRequests, Message: "more nodes report than are kept", Limit: "max_coverage_nodes", Max: catalog.MaxNodes, RetryAfter: 600,
			Hint: "what a node reported is forgotten after a day", Cause: err}
	}
	if err != nil {
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot store the report now", RetryAfter: 5, Cause: err}
	}
	return nil
}
