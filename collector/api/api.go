package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Store is what queries read; *store.Store is one.
type Store interface {
	Merge(ctx context.Context, q store.Query) (*profiles.Stacks, error)
	Estimate(ctx context.Context, q store.Query) (*store.Estimate, error)
	MergeEven(ctx context.Context, q store.Query, e *store.Estimate) (*profiles.Stacks, error)
	EachWindow(ctx context.Context, q store.Query, width int64, fn func(w store.Window) error) error
	Series(ctx context.Context, q store.SeriesQuery) ([]store.Series, error)
	Services(ctx context.Context, from, to int64) ([]store.ServiceInfo, error)
	LabelNames(ctx context.Context, q store.Query) ([]string, error)
	LabelValues(ctx context.Context, name string, q store.Query) ([]string, error)
	Types(ctx context.Context, q store.Query) ([]store.TypeInfo, error)
	Usage(ctx context.Context) (store.Usage, error)
}

// Catalog is what queries read of the catalogue; catalog.Catalog is one.
type Catalog interface {
	Processes(ctx context.Context, f catalog.ProcessFilter) ([]catalog.Process, error)
	FleetProcesses(ctx context.Context, since int64, limit int) ([]catalog.FleetProcess, error)
	ProcessLabels(ctx context.Context, instances []string, maxBytes int) (map[string]labels.Labels, error)
	Expected(ctx context.Context, since int64, limit, maxBytes int) ([]catalog.Expected, error)
	Versions(ctx context.Context, since, before int64) ([]catalog.ServiceVersion, error)
	Modules(ctx context.Context, service string, limit int) ([]string, error)
	Events(ctx context.Context, f catalog.EventFilter) ([]catalog.Event, error)
	AddEvents(ctx context.Context, es []catalog.Event) error
	PutBuilds(ctx context.Context, bs []catalog.Build) error
	Build(ctx context.Context, id string) (catalog.Build, error)
	BuildIDs(ctx context.Context, prefix string, limit int) ([]string, error)
	BuildHeads(ctx context.Context) ([]catalog.BuildHead, error)
	BuildUses(ctx context.Context, build string, since int64, limit int) ([]catalog.BuildUse, error)
	BuildsWith(ctx context.Context, path string) ([]catalog.BuildModule, error)
}

// Discovery is what the machine's own discovery adds to the catalogue's processes.
type Discovery interface {
	Processes() []catalog.Process
	Summary() string
}

// Config configures a Handler. Store and Catalog are required.
type Config struct {
	Store      Store
	Catalog    Catalog
	Discovery  Discovery             // nil: no discovery
	Concurrent int                   // queries at once, the next wait; 0: 8
	Timeout    time.Duration         // of a query, its waiting included; 0: 30 s
	Version    string                // of the collector
	Started    time.Time             // of the collector
	MaxAge     time.Duration         // retention, for status; 0: none
	MaxBytes   int64                 // retention, for status; 0: none
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Handler answers queries.
type Handler struct {
	cfg      Config
	slots    chan struct{}
	modules  moduleCache
	fleetNow fleetCache
	duration *prometheus.HistogramVec
	requests *prometheus.CounterVec
	cut      prometheus.Counter
	told     *prometheus.CounterVec
}

// New returns a Handler.
func New(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = 8
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	h := &Handler{cfg: cfg, slots: make(chan struct{}, cfg.Concurrent)}
	h.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_query_requests_total", Help: "Queries by endpoint and HTTP status."}, []string{"endpoint", "code"})
	h.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sonde_query_duration_seconds", Help: "Time to answer a query, its waiting included.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"endpoint"})
	h.cut = prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_query_fleet_cut_total", Help: "Views of the fleet that left out processes beyond the 150,000 that were seen last."})
	h.told = newEventCounter()
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(h.requests, h.duration, h.cut, h.told)
	}
	return h
}

// Register adds the endpoints to mux.
func (h *Handler) Register(mux *http.ServeMux) {
	for _, e := range []struct {
		path  string
		serve endpoint
	}{
		{"services", h.services},
		{"labels", h.labels},
		{"labels/{name}/values", h.labelValues},
		{"types", h.types},
		{"series", h.series},
		{"flamegraph", h.flamegraph},
		{"top", h.top},
		{"diff", h.diff},
		{"callers", h.callers},
		{"samplelabels", h.sampleLabels},
		{"ranking", h.ranking},
		{"profile", h.profile},
		{"processes", h.processes},
		{"coverage", h.coverage},
		{"events", h.events},
		{"builds", h.builds},
		{"builds/{id}", h.build},
		{"builds/diff", h.buildDiff},
		{"builds/with", h.buildsWith},
		{"status", h.status},
	} {
		mux.Handle("GET /api/v1/"+e.path, h.handle(e.path, e.serve))
	}
	mux.Handle("POST /api/v1/builds", h.handle("builds", h.addBuild))
	mux.Handle("POST /api/v1/events", h.handle("events", h.addEvent))
	mux.HandleFunc("GET /api/v1/", func(w http.ResponseWriter, r *http.Request) {
		reply.Fail(w, reply.Errorf(http.StatusNotFound, "no such endpoint: %.200s", r.URL.Path))
	})
}

// endpoint computes an answer: a value for JSON, or a file.
type endpoint func(ctx context.Context, r *http.Request) (any, error)

// file is an answer that is not JSON.
type file struct {
	contentType, name string
	data              []byte
}

// jsonAppender is an answer that is too long for a general encoder.
type jsonAppender interface{ AppendJSON([]byte) []byte }

// handle wraps what all endpoints share: the bounds on queries at once and on their time, metrics and errors.
func (h *Handler) handle(name string, serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer, err := h.bounded(r, serve)
		status := http.StatusOK
		f, isFile := answer.(file)
		own, writesItself := answer.(jsonAppender)
		switch {
		case err != nil:
			e := h.refusal(r, err)
			status = e.Status
			reply.Fail(w, e)
		case isFile:
			writeFile(w, f)
		case writesItself:
			reply.Raw(w, own.AppendJSON(nil))
		default:
			reply.JSON(w, answer)
		}
		h.requests.WithLabelValues(name, strconv.Itoa(status)).Inc()
		h.duration.WithLabelValues(name).Observe(time.Since(start).Seconds())
	})
}

func (h *Handler) bounded(r *http.Request, serve endpoint) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "too many queries at once", Limit: "max_concurrent_queries", Max: int64(cap(h.slots)), RetryAfter: 1}
	}
	answer, err := serve(ctx, r)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "the query took too long", Limit: "query_timeout", Max: h.cfg.Timeout.Milliseconds(),
			RetryAfter: 1, Hint: "a shorter range, a narrower selector, or a higher query_timeout (max is in milliseconds)", Cause: err}
	}
	return answer, err
}

// statusClientGone is what proxies log for a client that did not wait; nobody reads the answer.
const statusClientGone = 499

func (h *Handler) refusal(r *http.Request, err error) *reply.Error {
	e, ok := errors.AsType[*reply.Error](err)
	le, limit := errors.AsType[*store.LimitError](err)
	switch {
	case ok:
	case limit:
		e = &reply.Error{Status: http.StatusUnprocessableEntity, Message: le.Error(), Limit: le.Limit, Max: le.Max, Got: le.Got,
			Hint: "a narrower selector or a shorter range; of series also fewer labels in by, or a larger step", Cause: err}
	case r.Context().Err() != nil:
		e = &reply.Error{Status: statusClientGone, Message: "the request was given up", Cause: err}
	default:
		e = &reply.Error{Status: http.StatusInternalServerError, Message: "internal error", Hint: "the collector's log has the details", Cause: err}
	}
	level := slog.LevelDebug
	if e.Status >= 500 {
		level = slog.LevelError
	}
	h.cfg.Logger.Log(r.Context(), level, "query failed", "path", r.URL.Path, "query", r.URL.RawQuery, "status", e.Status, "error", e.Message, "cause", e.Cause)
	return e
}

func writeFile(w http.ResponseWriter, f file) {
	hd := w.Header()
	hd.Set("Content-Type", f.contentType)
	hd.Set("Content-Length", strconv.Itoa(len(f.data)))
	hd.Set("Cache-Control", "no-store")
	hd.Set("X-Content-Type-Options", "nosniff")
	if f.name != "" {
		hd.Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
	}
	// A client that is gone is nobody to tell.
	_, _ = w.Write(f.data)
}
