package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.opentelemetry.io/collector/pdata/pmetric"
	otelattr "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"

	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/receive"
	metricseries "github.com/sonde-io/sonde/collector/series"
)

// seriesSink keeps what it is given, as lines of labels and value.
type seriesSink struct {
	mu    sync.Mutex
	lines []string
	fail  error
}

func (s *seriesSink) AppendSeries(_ context.Context, batches ...metricseries.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, b := range batches {
		for _, x := range b.Samples {
			value := fmt.Sprint(x.V)
			if x.H != nil {
				value = fmt.Sprintf("schema %d count %v sum %v", x.H.Schema, x.H.Count, x.H.Sum)
			}
			s.lines = append(s.lines, metricseries.Merge(b.Process, x.Labels).String()+" "+value)
		}
	}
	slices.Sort(s.lines)
	return nil
}

func (s *seriesSink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.lines
	s.lines = nil
	return out
}

func newMetricsServer(t testing.TB, l receive.Limits) (*httptest.Server, *seriesSink) {
	t.Helper()
	to := &seriesSink{}
	rc := receive.New(receive.Config{Sink: &sink{}, Processes: noProcesses{}, Limits: l})
	mux := http.NewServeMux()
	New(Config{Receive: rc, Metrics: intake.New(intake.Config{Series: to})}).Register(mux)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = &http.Protocols{}
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, to
}

// instruments are what OpenTelemetry's contrib/instrumentation/runtime makes, by the conventions.
func instruments(t testing.TB, m metric.Meter) {
	t.Helper()
	check := func(_ any, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	observe := func(n int64, kv ...otelattr.KeyValue) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(n, metric.WithAttributes(kv...))
			return nil
		}
	}
	check(m.Int64ObservableUpDownCounter("go.memory.used", metric.WithUnit("By"), metric.WithInt64Callback(observe(10, otelattr.String("go.memory.type", "stack"))),
		metric.WithInt64Callback(observe(90, otelattr.String("go.memory.type", "other")))))
	check(m.Int64ObservableUpDownCounter("go.memory.limit", metric.WithUnit("By"), metric.WithInt64Callback(observe(1<<30))))
	check(m.Int64ObservableCounter("go.memory.allocated", metric.WithUnit("By"), metric.WithInt64Callback(observe(1000))))
	check(m.Int64ObservableCounter("go.memory.allocations", metric.WithUnit("{allocation}"), metric.WithInt64Callback(observe(50))))
	check(m.Int64ObservableUpDownCounter("go.memory.gc.goal", metric.WithUnit("By"), metric.WithInt64Callback(observe(4<<20))))
	check(m.Int64ObservableUpDownCounter("go.goroutine.count", metric.WithUnit("{goroutine}"), metric.WithInt64Callback(observe(7))))
	check(m.Int64ObservableUpDownCounter("go.processor.limit", metric.WithUnit("{thread}"), metric.WithInt64Callback(observe(2))))
	check(m.Int64ObservableUpDownCounter("go.config.gogc", metric.WithUnit("%"), metric.WithInt64Callback(observe(100))))
	latency, err := m.Float64Histogram("go.schedule.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.001, 0.01))
	check(nil, err)
	latency.Record(t.Context(), 0.002)
	requests, err := m.Float64Histogram("cart.request.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(1))
	check(nil, err)
	requests.Record(t.Context(), 0.5, metric.WithAttributes(otelattr.String("http.route", "/pay")))
}

// TestOTLPMetrics has OpenTelemetry's own SDK send what its runtime instrumentation measures, by gRPC and by HTTP.
func TestOTLPMetrics(t *testing.T) {
	srv, to := newMetricsServer(t, limits())
	address := strings.TrimPrefix(srv.URL, "http://")
	overGRPC, err := otlpmetricgrpc.New(t.Context(), otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithEndpoint(address), otlpmetricgrpc.WithCompressor("gzip"))
	if err != nil {
		t.Fatal(err)
	}
	overHTTP, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithEndpoint(address), otlpmetrichttp.WithURLPath("/prometheus/api/v1/otlp/v1/metrics"),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	const process = `host_name="n1", %sservice_instance_id="i1", service_name="cart"%s}`
	line := func(name, before, after string) string {
		return fmt.Sprintf(`{__name__="`+name+`", `+process, before, after)
	}
	want := []string{
		line("go_goroutines", "", "") + " 7", line("go_sched_goroutines_goroutines", "", "") + " 7", line("go_gc_gogc_percent", "", "") + " 100",
		line("go_sched_gomaxprocs_threads", "", "") + " 2", line("go_gc_gomemlimit_bytes", "", "") + " 1.073741824e+09", line("go_gc_heap_goal_bytes", "", "") + " 4.194304e+06",
		line("go_gc_heap_allocs_bytes_total", "", "") + " 1000", line("go_gc_heap_allocs_objects_total", "", "") + " 50", line("go_memory_classes_heap_stacks_bytes", "", "") + " 10",
		`{__name__="go_memory_used_bytes", go_memory_type="other", ` + fmt.Sprintf(process, "", "") + " 90",
		line("go_sched_latencies_seconds", "", "") + " schema -53 count 1 sum 0.002",
		line("cart_request_duration_seconds_bucket", `http_route="/pay", le="1", `, "") + " 1", line("cart_request_duration_seconds_bucket", `http_route="/pay", le="+Inf", `, "") + " 1",
		line("cart_request_duration_seconds_count", `http_route="/pay", `, "") + " 1", line("cart_request_duration_seconds_sum", `http_route="/pay", `, "") + " 0.5",
	}
	slices.Sort(want)
	for name, exporter := range map[string]sdkmetric.Exporter{"gRPC": overGRPC, "HTTP": overHTTP} {
		t.Run(name, func(t *testing.T) {
			res := sdkresource.NewSchemaless(otelattr.String("service.name", "cart"), otelattr.String("service.instance.id", "i1"), otelattr.String("host.name", "n1"),
				otelattr.String("telemetry.sdk.name", "opentelemetry"), otelattr.String("process.command_line", "cart --password x"))
			provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
			instruments(t, provider.Meter("go.opentelemetry.io/contrib/instrumentation/runtime"))
			if err := provider.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := to.take(); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestOTLPMetricsRejected: what cannot be taken is told with its cure, and costs the rest nothing.
func TestOTLPMetricsRejected(t *testing.T) {
	srv, to := newMetricsServer(t, limits())
	body := `{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},{"key":"service.instance.id","value":{"stringValue":"i1"}}]},"scopeMetrics":[{"metrics":[
{"name":"good","gauge":{"dataPoints":[{"asInt":"3","timeUnixNano":"1795241460123000000"}]}},
{"name":"bad","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"asInt":"3","timeUnixNano":"1795241460123000000"},{"asInt":"4","timeUnixNano":"1795241470123000000"}]}}]}]}]}`
	post := func(body string) (int, string) {
		resp, err := http.Post(srv.URL+"/v1/metrics", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, text := post(body); code != 200 || !strings.Contains(text, `"rejectedDataPoints":"2"`) || !strings.Contains(text, "TEMPORALITY_PREFERENCE=cumulative") {
		t.Errorf("%d %s", code, text)
	}
	if got := to.take(); !slices.Equal(got, []string{`{__name__="good", service_instance_id="i1", service_name="cart"} 3`}) {
		t.Errorf("kept %q", got)
	}
	if code, text := post(`{"resourceMetrics":[{`); code != 400 {
		t.Errorf("no JSON: %d %s", code, text)
	}
	to.fail = errors.New("full")
	if code, text := post(body); code != 503 {
		t.Errorf("a store that fails: %d %s", code, text)
	}
}

// writeRequests are the same two series in both versions of remote-write.
func writeRequests(t testing.TB) (v1, v2 []byte) {
	t.Helper()
	now := time.Now().UnixMilli()
	v1, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "cart"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: now}}},
		{Labels: []prompb.Label{{Name: "__name__", Value: "go_goroutines"}, {Name: "job", Value: "cart"}}, Samples: []prompb.Sample{{Value: 7, Timestamp: now}}}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v2, err = (&writev2.Request{Symbols: []string{"", "__name__", "up", "job", "cart", "go_goroutines"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: now}}},
		{LabelsRefs: []uint32{1, 5, 3, 4}, Samples: []writev2.Sample{{Value: 7, Timestamp: now}}}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return v1, v2
}

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func TestRemoteWrite(t *testing.T) {
	l := limits()
	l.DecompressedBytes = 1 << 20
	srv, to := newMetricsServer(t, l)
	v1, v2 := writeRequests(t)
	post := func(path, contentType, encoding string, body []byte) (int, http.Header, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(b)
	}
	want := []string{`{__name__="go_goroutines", job="cart"} 7`, `{__name__="up", job="cart"} 1`}
	for _, path := range remoteWritePaths {
		if code, _, text := post(path, typeV1, "snappy", snappy.Encode(nil, v1)); code != 204 {
			t.Errorf("1.0: %d %s", code, text)
		}
		if got := to.take(); !slices.Equal(got, want) {
			t.Errorf("1.0: got %q", got)
		}
		code, header, text := post(path, typeV2, "snappy", snappy.Encode(nil, v2))
		if code != 204 || header.Get("X-Prometheus-Remote-Write-Samples-Written") != "2" {
			t.Errorf("2.0: %d %s, %v", code, text, header)
		}
		if got := to.take(); !slices.Equal(got, want) {
			t.Errorf("2.0: got %q", got)
		}
	}
	for name, tt := range map[string]struct {
		contentType, encoding string
		body                  []byte
		code                  int
		text                  string
	}{
		"not compressed":  {typeV1, "snappy", []byte("hello"), 400, "body"},
		"gzip":            {typeV1, "gzip", v1, 415, "snappy"},
		"another type":    {"text/plain", "snappy", snappy.Encode(nil, v1), 415, ""},
		"no message":      {typeV1, "snappy", snappy.Encode(nil, []byte("\xff\xff")), 400, "message"},
		"too large":       {typeV1, "snappy", snappy.Encode(nil, make([]byte, 1<<20+1)), 413, "max_decompressed_bytes is 1048576"},
		"a bomb":          {typeV1, "snappy", []byte("\xff\xff\xff\xff\x0f\x00"), 413, "max_decompressed_bytes"},
		"refs to nowhere": {typeV2, "snappy", snappy.Encode(nil, []byte{5<<3 | 2, 4, 1<<3 | 2, 2, 9, 9}), 400, ""},
	} {
		if code, _, text := post("/api/v1/write", tt.contentType, tt.encoding, tt.body); code != tt.code || !strings.Contains(text, tt.text) {
			t.Errorf("%s: %d %s, want %d with %q", name, code, text, tt.code, tt.text)
		}
	}
	to.fail = errors.New("full")
	if code, header, text := post("/api/v1/write", typeV1, "snappy", snappy.Encode(nil, v1)); code != 503 || header.Get("Retry-After") == "" {
		t.Errorf("a store that fails: %d %s, %v", code, text, header)
	}
}

// TestMetricsCostIsEnough: what a message is estimated to take is no less than what it takes.
func TestMetricsCostIsEnough(t *testing.T) {
	const n = 20_000
	many := func(path ...int) []byte {
		b := bytes.Repeat([]byte{byte(path[len(path)-1])<<3 | 2, 0}, n)
		for i := len(path) - 2; i >= 0; i-- {
			b = appendBytes(nil, path[i], b)
		}
		return b
	}
	otlp := func(b []byte) (any, error) { return (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(b) }
	write1 := func(b []byte) (any, error) {
		var r prompb.WriteRequest
		return &r, r.Unmarshal(b)
	}
	write2 := func(b []byte) (any, error) {
		var r writev2.Request
		return &r, r.Unmarshal(b)
	}
	for _, tt := range []struct {
		shape  *shape
		decode func([]byte) (any, error)
		paths  [][]int
	}{
		{metricsRequest, otlp, [][]int{{1}, {1, 1, 1}, {1, 2}, {1, 2, 1, 3}, {1, 2, 2}, {1, 2, 2, 5, 1}, {1, 2, 2, 7, 1}, {1, 2, 2, 9, 1}, {1, 2, 2, 10, 1}, {1, 2, 2, 11, 1}, {1, 2, 2, 12},
			{1, 2, 2, 5, 1, 5}, {1, 2, 2, 5, 1, 7}, {1, 2, 2, 9, 1, 9}, {1, 2, 2, 10, 1, 1}, {1, 2, 2, 11, 1, 6}}},
		{writeRequest, write1, [][]int{{1}, {1, 1}, {1, 2}, {1, 3}, {1, 3, 1}, {1, 4}, {1, 4, 8}, {1, 4, 11}, {3}}},
		{writeRequest, write2, [][]int{{4}, {5}, {5, 2}, {5, 3}, {5, 4}}},
	} {
		for _, path := range tt.paths {
			body := many(path...)
			cost, err := tt.shape.costOf(body)
			if err != nil {
				t.Fatal(err)
			}
			before := heapBytes()
			got, err := tt.decode(body)
			if err != nil {
				t.Fatalf("%v: %v", path, err)
			}
			took := heapBytes() - before
			runtime.KeepAlive(got)
			if took > cost {
				t.Errorf("%v: estimated %d bytes, it takes %d", path, cost, took)
			}
		}
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// checkingSeries refuses what the database would find invalid: a conversion must not make such a thing.
type checkingSeries struct{ t *testing.T }

func (s checkingSeries) AppendSeries(_ context.Context, batches ...metricseries.Batch) error {
	for _, b := range batches {
		for _, x := range b.Samples {
			all := metricseries.Merge(b.Process, x.Labels)
			if name, dup := all.HasDuplicateLabelNames(); dup || x.Labels.Get(model.MetricNameLabel) == "" {
				s.t.Errorf("labels %v (%s twice: %v)", all, name, dup)
			}
			if x.H != nil {
				if err := x.H.Validate(); err != nil {
					s.t.Errorf("histogram of %v: %v", all, err)
				}
			}
		}
	}
	return nil
}

// handleMetrics sends a request through all of the endpoints' code without a network.
func handleMetrics(t *testing.T, path string, header map[string]string, body []byte) {
	rc := receive.New(receive.Config{Sink: checkingSink{t}, Processes: noProcesses{},
		Limits: receive.Limits{BodyBytes: 1 << 20, DecompressedBytes: 4 << 20, Samples: 5000, Labels: 16, LabelNameBytes: 64, LabelValueBytes: 256, Concurrent: 4}})
	mux := http.NewServeMux()
	New(Config{Receive: rc, Metrics: intake.New(intake.Config{Series: checkingSeries{t}})}).Register(mux)
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+path, bytes.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func FuzzRemoteWrite(f *testing.F) {
	v1, v2 := writeRequests(f)
	f.Add(v1, false)
	f.Add(v2, true)
	f.Fuzz(func(t *testing.T, message []byte, second bool) {
		contentType := typeV1
		if second {
			contentType = typeV2
		}
		handleMetrics(t, "/api/v1/write", map[string]string{"Content-Type": contentType, "Content-Encoding": "snappy"}, snappy.Encode(nil, message))
	})
}

func FuzzOTLPMetrics(f *testing.F) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "cart")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	g := ms.AppendEmpty()
	g.SetName("go.goroutine.count")
	g.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(3)
	h := ms.AppendEmpty()
	h.SetName("go.schedule.duration")
	p := h.SetEmptyHistogram().DataPoints().AppendEmpty()
	h.Histogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p.BucketCounts().FromRaw([]uint64{1, 2})
	p.ExplicitBounds().FromRaw([]float64{1})
	p.SetCount(3)
	e := ms.AppendEmpty()
	e.SetName("x")
	x := e.SetEmptyExponentialHistogram().DataPoints().AppendEmpty()
	e.ExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	x.SetScale(3)
	x.SetCount(1)
	x.Positive().BucketCounts().FromRaw([]uint64{1})
	s := ms.AppendEmpty()
	s.SetName("y")
	s.SetEmptySummary().DataPoints().AppendEmpty().QuantileValues().AppendEmpty().SetQuantile(0.5)
	b, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
	if err != nil {
		f.Fatal(err)
	}
	j, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(md)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Add(j, true)
	f.Fuzz(func(t *testing.T, message []byte, inJSON bool) {
		contentType := "application/x-protobuf"
		if inJSON {
			contentType = "application/json"
		}
		handleMetrics(t, "/v1/metrics", map[string]string{"Content-Type": contentType}, message)
	})
}
