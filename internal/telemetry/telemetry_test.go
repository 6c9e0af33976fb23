package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// backend takes OTLP over HTTP and keeps the names of what it gets.
type backend struct {
	mu       sync.Mutex
	spans    []string
	metrics  []string
	services []string
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body = zr
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(raw)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, rs := range td.ResourceSpans().All() {
			if v, ok := rs.Resource().Attributes().Get("service.name"); ok {
				b.services = append(b.services, v.Str())
			}
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					b.spans = append(b.spans, s.Name())
				}
			}
		}
	case "/v1/metrics":
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(raw)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					b.metrics = append(b.metrics, m.Name())
				}
			}
		}
	}
}

// env sets variables for this test only, for exporters read the environment themselves.
func env(t *testing.T, kv ...string) {
	t.Helper()
	for i := 0; i < len(kv); i += 2 {
		t.Setenv(kv[i], kv[i+1])
	}
}

func TestTelemetry(t *testing.T) {
	b := &backend{}
	srv := httptest.NewServer(b)
	defer srv.Close()
	env(t, "OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL, "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	reg := prometheus.NewRegistry()
	pushes := prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_pushes_total", Help: "Pushes."})
	reg.MustRegister(pushes)
	pushes.Inc()
	tel, err := New(t.Context(), Config{Service: "sonde", Version: "v9", Instance: "i1", Gatherer: reg})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/builds/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	h := tel.Handler(mux)
	for _, path := range []string{"/api/v1/builds/secret", "/livez", "/metrics"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tel.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := tel.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.spans, []string{"GET /api/v1/builds/{id}"}) || !slices.Equal(b.services, []string{"sonde"}) {
		t.Errorf("spans %q of %q", b.spans, b.services)
	}
	if !slices.Contains(b.metrics, "sonde_pushes_total") {
		t.Errorf("metrics %q", b.metrics)
	}
}

// TestOff: without an endpoint nothing is made.
func TestOff(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, vars := range map[string]map[string]string{
		"nothing is set": {}, "disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"no exporters": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
	} {
		tel, err := New(t.Context(), Config{Service: "sonde", Getenv: lookup(vars)})
		if err != nil || tel != nil {
			t.Errorf("%s: %v, error %v", name, tel, err)
		}
		mux := http.NewServeMux()
		if tel.Handler(mux) != http.Handler(mux) || tel.Close() != nil {
			t.Errorf("%s: it does something", name)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, before %d", after, before)
	}
}

func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// TestWants: each signal has an endpoint, an exporter and a protocol of its own.
func TestWants(t *testing.T) {
	for _, tt := range []struct {
		vars            map[string]string
		traces, metrics string // the protocol, "" where it is not sent
		err             string
	}{
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, traces: "http/protobuf", metrics: "http/protobuf"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, traces: "http/protobuf"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://a:4317", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, metrics: "grpc"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_EXPORTER": "none"}, metrics: "grpc"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, err: "http/json"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "zipkin"}, err: "zipkin"},
		{vars: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": " "}},
	} {
		e := environment(lookup(tt.vars))
		forTraces, _, err := e.wants(traces)
		forMetrics, _, errMetrics := e.wants(metrics)
		if err := errors.Join(err, errMetrics); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: error %v", tt.vars, err)
		}
		if tt.err == "" && (forTraces != tt.traces || forMetrics != tt.metrics) {
			t.Errorf("%v: traces %q, metrics %q", tt.vars, forTraces, forMetrics)
		}
	}
}

// TestUnreachable: a backend that is away costs a line in the log and nothing else.
func TestUnreachable(t *testing.T) {
	env(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces", "OTEL_EXPORTER_OTLP_TIMEOUT", "200")
	var log bytes.Buffer
	tel, err := New(t.Context(), Config{Service: "sonde", Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /x", func(http.ResponseWriter, *http.Request) {})
	w := httptest.NewRecorder()
	tel.Handler(mux).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x", nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Run(ctx); err != nil || w.Code != http.StatusOK {
		t.Errorf("error %v, status %d", err, w.Code)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "cannot send own telemetry") {
		t.Errorf("the log says %s", &log)
	}
}

func TestComplainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newComplainer(slog.New(slog.NewTextHandler(&log, nil)))
		for range 100 {
			c.Handle(errors.New("away"))
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in 100 s, want 2", n)
		}
	})
}
