package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Config configures a Telemetry.
type Config struct {
	Service  string // what this program is called where OTEL_SERVICE_NAME does not say it
	Version  string
	Instance string // tells this process apart from others; "": nothing does
	Gatherer prometheus.Gatherer
	Logger   *slog.Logger                // says what cannot be sent, once a minute; nil: nobody
	Getenv   func(string) (string, bool) // nil: os.LookupEnv. Exporters read the rest of the environment themselves
}

const (
	shutdownTime = 5 * time.Second // for what is still to be sent at the end
	complainTime = time.Minute     // between two lines of the log about what cannot be sent
)

// Telemetry sends traces and metrics.
type Telemetry struct {
	traces  *sdktrace.TracerProvider // nil: none
	metrics *sdkmetric.MeterProvider // nil: none
	once    sync.Once
	closed  error
}

// signal is one of the kinds of telemetry.
type signal struct{ upper, exporter string }

var (
	traces  = signal{"TRACES", "OTEL_TRACES_EXPORTER"}
	metrics = signal{"METRICS", "OTEL_METRICS_EXPORTER"}
)

// environment reads variables; one that is empty is not set.
type environment func(string) (string, bool)

func (e environment) get(name string) string {
	v, _ := e(name)
	return strings.TrimSpace(v)
}

// first returns the first of variables that is set.
func (e environment) first(names ...string) string {
	for _, n := range names {
		if v := e.get(n); v != "" {
			return v
		}
	}
	return ""
}

// wants reports whether s is to be sent, and by which protocol.
func (e environment) wants(s signal) (protocol string, ok bool, err error) {
	if strings.EqualFold(e.get("OTEL_SDK_DISABLED"), "true") || e.first("OTEL_EXPORTER_OTLP_"+s.upper+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return "", false, nil
	}
	if x := e.get(s.exporter); x == "none" {
		return "", false, nil
	} else if x != "" && x != "otlp" {
		return "", false, fmt.Errorf("%s is %.32q: want otlp or none", s.exporter, x)
	}
	protocol = e.first("OTEL_EXPORTER_OTLP_"+s.upper+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch protocol {
	case "", "http/protobuf":
		return "http/protobuf", true, nil
	case "grpc":
		return protocol, true, nil
	}
	return "", false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %.32q: want grpc or http/protobuf", protocol)
}

// New returns a Telemetry as the environment wants it; nil where it wants none.
func New(ctx context.Context, cfg Config) (_ *Telemetry, err error) {
	env := environment(os.LookupEnv)
	if cfg.Getenv != nil {
		env = cfg.Getenv
	}
	forTraces, sendTraces, err := env.wants(traces)
	if err != nil {
		return nil, fmt.Errorf("send own telemetry: %w", err)
	}
	forMetrics, sendMetrics, err := env.wants(metrics)
	if err != nil {
		return nil, fmt.Errorf("send own telemetry: %w", err)
	}
	if !sendTraces && !sendMetrics {
		return nil, nil
	}
	if cfg.Logger != nil {
		otel.SetErrorHandler(newComplainer(cfg.Logger))
	}
	res, err := resourceOf(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("send own telemetry: %w", err)
	}
	t := &Telemetry{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("send own telemetry: %w", err), t.Close())
		}
	}()
	if sendTraces {
		exporter, err := traceExporter(ctx, forTraces)
		if err != nil {
			return nil, err
		}
		t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	}
	if sendMetrics {
		exporter, err := metricExporter(ctx, forMetrics)
		if err != nil {
			return nil, err
		}
		reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(cfg.Gatherer))))
		t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
	}
	return t, nil
}

func traceExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func metricExporter(ctx context.Context, protocol string) (sdkmetric.Exporter, error) {
	if protocol == "grpc" {
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}

// resourceOf describes this process. What the environment says wins.
func resourceOf(ctx context.Context, cfg Config) (*resource.Resource, error) {
	attributes := []attribute.KeyValue{attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version)}
	if cfg.Instance != "" {
		attributes = append(attributes, attribute.String("service.instance.id", cfg.Instance))
	}
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(), resource.WithProcessRuntimeName(), resource.WithProcessRuntimeVersion(),
		resource.WithAttributes(attributes...), resource.WithFromEnv())
}

// quiet are paths that are asked for all the time, by machines, and say nothing.
var quiet = []string{"/livez", "/readyz", "/metrics"}

// Handler has each request to next make a span, named by the pattern that answered it.
func (t *Telemetry) Handler(next http.Handler) http.Handler {
	if t == nil || t.traces == nil {
		return next
	}
	return otelhttp.NewHandler(next, "request", otelhttp.WithTracerProvider(t.traces), otelhttp.WithMeterProvider(noop.NewMeterProvider()), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithFilter(func(r *http.Request) bool { return !slices.Contains(quiet, r.URL.Path) }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
			if r.Pattern == "" || strings.HasPrefix(r.Pattern, r.Method+" ") {
				return strings.TrimSpace(r.Method + " " + strings.TrimPrefix(r.Pattern, r.Method+" "))
			}
			return r.Method + " " + r.Pattern
		}))
}

// Run waits for the end of ctx, then sends what is left.
func (t *Telemetry) Run(ctx context.Context) error {
	<-ctx.Done()
	if err := t.Close(); err != nil {
		otel.Handle(err) // who does not take telemetry is no reason to fail
	}
	return nil
}

// Close sends what is left, and ends. It may be called twice.
func (t *Telemetry) Close() error {
	if t == nil {
		return nil
	}
	t.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		var errs []error
		if t.traces != nil {
			errs = append(errs, t.traces.Shutdown(ctx))
		}
		if t.metrics != nil {
			errs = append(errs, t.metrics.Shutdown(ctx))
		}
		if err := errors.Join(errs...); err != nil {
			t.closed = fmt.Errorf("send the last of own telemetry: %w", err)
		}
	})
	return t.closed
}

// complainer logs what goes wrong, not more than once in complainTime.
type complainer struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

func newComplainer(log *slog.Logger) *complainer { return &complainer{log: log} }

// Handle implements otel.ErrorHandler.
func (c *complainer) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.last.IsZero() || now.Sub(c.last) >= complainTime {
		c.last = now
		c.log.Warn("cannot send own telemetry", "error", err)
	}
}
