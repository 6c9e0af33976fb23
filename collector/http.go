package collector

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sonde-io/sonde/collector/api"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/peers"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/listen"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/web"
)

// The bounds of one label; over them 422.
const (
	maxLabelNameBytes  = 128
	maxLabelValueBytes = 1024
)

// openHTTP makes the handlers and opens the listener, so that an address that is taken is an error of starting.
func (p *parts) openHTTP(ctx context.Context) error {
	mux, err := p.routes()
	if err != nil {
		return err
	}
	p.observe(mux)
	l, err := listen.Open(ctx, p.cfg.policy(), p.log)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, l.Close)
	p.serve = func(ctx context.Context) error { return p.serveOn(ctx, l, mux) }
	return nil
}

// observe sets the handler: mux, with what logs requests, catches panics, and makes spans of them.
func (p *parts) observe(mux http.Handler) {
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_http_panics_total", Help: "Requests whose handler panicked."})
	p.registry.MustRegister(panics)
	p.handler = p.telemetry.Handler(observe(p.log, panics, mux))
}

// serveOn answers requests until ctx ends, then drains.
func (p *parts) serveOn(ctx context.Context, l *listen.Listener, mux *http.ServeMux) error {
	p.say("listening on "+l.URL(), "listening", "url", l.URL(), "token", l.HasToken())
	if p.opts.Ready != nil {
		p.opts.Ready(l.Addr().String())
	}
	stop := context.AfterFunc(ctx, func() {
		p.ready.draining.Store(true)
		p.log.Info("draining", "deadline", p.cfg.ShutdownTimeout.D())
	})
	defer stop()
	return l.Serve(ctx, p.handler, listen.Serving{Exempt: open4all(mux), Logger: p.log, Deadline: p.cfg.ShutdownTimeout.D()})
}

// The patterns that need no token: probes, and the page itself, which holds no data and has to be there to ask for the token.
const (
	livezPattern  = "GET /livez"
	readyzPattern = "GET /readyz"
	webPattern    = "/"
)

// open4all returns which requests need no token, by the pattern that will answer them: paths can be written in many ways.
func open4all(mux *http.ServeMux) func(*http.Request) bool {
	return func(r *http.Request) bool {
		_, pattern := mux.Handler(r)
		return pattern == livezPattern || pattern == readyzPattern || pattern == webPattern
	}
}

// attaching is the store for what comes from elsewhere: events of ends get the captures that were taken before.
type attaching struct {
	store    *store.Store
	captures *capture.Broker
}

// Append implements receive.Sink.
func (a attaching) Append(ctx context.Context, p store.Push) error {
	if len(p.Events) > 0 {
		p.Events = a.captures.Attach(ctx, p.Events)
	}
	return a.store.Append(ctx, p)
}

func (p *parts) routes() (*http.ServeMux, error) {
	c := p.cfg
	mux := http.NewServeMux()
	p.receive = receive.New(receive.Config{Sink: attaching{p.store, p.captures}, Processes: p.cat, Seen: p.cat.PutProcesses, Settings: p.rules.settings, Series: p.metrics, Lines: p.lines, Logger: p.log, Registerer: p.registry, Limits: receive.Limits{
		BodyBytes: int64(c.MaxBodyBytes), DecompressedBytes: int64(c.Limits.MaxDecompressedBytes), Samples: c.Limits.MaxSamples, Labels: c.Limits.MaxLabels, LabelNameBytes: maxLabelNameBytes,
		LabelValueBytes: maxLabelValueBytes, Concurrent: c.Limits.MaxConcurrentPushes, MaxAge: c.longestRaw()}})
	p.receive.Register(mux)
	others := peers.New(peers.Config{Receive: p.receive, Binaries: p.binaries, Registerer: p.registry,
		Metrics: intake.New(intake.Config{Series: p.metrics, Appendable: p.metrics.Appendable(), Registerer: p.registry})})
	others.Register(mux)
	others.RegisterFunctions(mux)
	mux.Handle("POST /api/v1/coverage", coverage.NewReceiver(coverage.ReceiverConfig{Catalog: p.cat, Logger: p.log, Registerer: p.registry}))
	if !c.Captures.Disabled {
		capture.Register(mux, p.captures, p.log)
	}

	queries := http.NewServeMux()
	queryAPI := api.New(api.Config{Store: p.store, Catalog: p.cat, Discovery: p.gather.scraper, Concurrent: c.MaxConcurrentQueries, Timeout: c.QueryTimeout.D(), Version: p.opts.Version,
		Started: p.started, MaxAge: c.RetentionAge.D(), MaxBytes: int64(c.RetentionSize), Logger: p.log, Registerer: p.registry})
	queryAPI.Register(queries)
	queryAPI.RegisterLines(queries, p.cat)
	queryAPI.RegisterPGO(queries, p.cat, p.binaries)
	for _, tell := range []string{"POST /api/v1/builds", "POST /api/v1/events", "POST /api/v1/vulns"} {
		mux.Handle(tell, queries)
	}
	if err := p.measured.register(mux, queries); err != nil {
		return nil, err
	}
	queryAPI.RegisterKeeping(mux, p.store, p.backups)
	queryAPI.RegisterCaptures(mux, p.captures)
	compress, err := compressed()
	if err != nil {
		return nil, fmt.Errorf("make compression: %w", err)
	}
	mux.Handle("GET /api/v1/", compress(queries))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		reply.Fail(w, reply.Errorf(http.StatusNotFound, "no such endpoint: %s %.200s", r.Method, r.URL.Path))
	})

	mux.HandleFunc(livezPattern, alive)
	mux.Handle(readyzPattern, &p.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{Registry: p.registry, Timeout: 10 * time.Second}))
	mux.Handle(webPattern, web.Handler())
	return mux, nil
}
