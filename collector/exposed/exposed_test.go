package exposed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/profiles/store"
)

func TestMain(m *testing.M) { os.Exit(discovertest.Main(m)) }

var process = labels.FromStrings("service_name", "cart", "service_instance_id", "i1")

func all([]byte) bool { return true }

// lines are the samples of a batch as text, sorted.
func lines(b series.Batch) []string {
	var out []string
	for _, s := range b.Samples {
		v := fmt.Sprint(s.V)
		if s.H != nil {
			v = s.H.String()
		}
		out = append(out, s.Labels.String()+" "+v)
	}
	slices.Sort(out)
	return out
}

// program is a registry as programs have it: the runtime's metrics, a native histogram, a summary, a classic histogram with an exemplar.
func program(t testing.TB) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	native := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "promhttp_native_seconds", Help: "Native.", NativeHistogramBucketFactor: 1.1}, []string{"code"})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "promhttp_classic_seconds", Help: "Classic.", Buckets: []float64{0.5, 5, 1e6}})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "promhttp_summary_seconds", Help: "Summary.", Objectives: map[float64]float64{0.5: 0.05, 1: 0}})
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promhttp_requests_total", Help: `With "quotes" and \ and # signs.`}, []string{"path"})
	reg.MustRegister(native, classic, summary, counter, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "app_orders", Help: "Not kept."}, func() float64 { return 7 }))
	for _, v := range []float64{0.25, 0.5, 3} {
		native.WithLabelValues("200").Observe(v)
		classic.(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": "a } b"})
		summary.Observe(v)
	}
	counter.WithLabelValues(`/a "b"} # {x="y"} 1`).(prometheus.ExemplarAdder).AddWithExemplar(5, prometheus.Labels{"trace_id": "c"})
	return reg
}

// TestForms reads one program's metrics in all three forms.
func TestForms(t *testing.T) {
	reg := program(t)
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, EnableOpenMetricsTextCreatedSamples: true})
	get := func(accept string) series.Batch {
		t.Helper()
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		f, err := formOf(w.Header().Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		families, err := decode(w.Body.Bytes(), f, func(name []byte) bool { return !strings.HasPrefix(string(name), "app_") })
		if err != nil {
			t.Fatalf("%s: %v", w.Header().Get("Content-Type"), err)
		}
		b, left, err := convert(families, process, 1000, 5000)
		if err != nil || left != 0 {
			t.Fatalf("%d left out, %v", left, err)
		}
		return b
	}
	byForm := map[string]series.Batch{"text": get("text/plain"), "OpenMetrics": get("application/openmetrics-text;version=1.0.0"), "protobuf": get(accept)}
	const stable = `{__name__="promhttp_classic_seconds_bucket", le="+Inf"} 3
{__name__="promhttp_classic_seconds_bucket", le="0.5"} 2
{__name__="promhttp_classic_seconds_bucket", le="1e+06"} 3
{__name__="promhttp_classic_seconds_bucket", le="5.0"} 3
{__name__="promhttp_classic_seconds_count"} 3
{__name__="promhttp_classic_seconds_sum"} 3.75
{__name__="promhttp_requests_total", path="/a \"b\"} # {x=\"y\"} 1"} 5
{__name__="promhttp_summary_seconds", quantile="0.5"} 0.5
{__name__="promhttp_summary_seconds", quantile="1.0"} 3
{__name__="promhttp_summary_seconds_count"} 3
{__name__="promhttp_summary_seconds_sum"} 3.75`
	for form, b := range byForm {
		got := lines(b)
		for want := range strings.SplitSeq(stable, "\n") {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no %s", form, want)
			}
		}
		names := map[string]series.Sample{}
		for _, s := range b.Samples {
			names[s.Labels.Get("__name__")] = s
		}
		if s := names["go_gc_pauses_seconds"]; s.H == nil || s.H.Schema != -53 {
			t.Errorf("%s: go_gc_pauses_seconds %+v, want a native histogram with custom buckets", form, s)
		}
		if s := names["go_goroutines"]; s.V < 1 {
			t.Errorf("%s: go_goroutines %v", form, s.V)
		}
		for name := range names {
			if strings.HasSuffix(name, "_created") || strings.HasPrefix(name, "app_") {
				t.Errorf("%s: %s", form, name)
			}
		}
	}
	i := slices.IndexFunc(byForm["protobuf"].Samples, func(s series.Sample) bool { return s.Labels.Get("__name__") == "promhttp_native_seconds" })
	if i < 0 {
		t.Fatal("no native histogram in protobuf")
	}
	if h := byForm["protobuf"].Samples[i].H; h == nil || h.Schema < 0 || h.Count != 3 || math.Abs(h.Sum-3.75) > 1e-9 {
		t.Errorf("native histogram %v", h)
	}
}

func TestKeptLines(t *testing.T) {
	for in, want := range map[string]string{
		"# TYPE go_x counter\ngo_x 1\n# TYPE app_y gauge\napp_y 2\n# TYPE go_h histogram\n": "go_x 1\n# TYPE go_h histogram\n",
		"# HELP go_x Text.\r\n# EOF\n#\n\ngo_x{a=\"b\"} 1 # {t=\"1\"} 5 6\n":                "go_x{a=\"b\"} 1\n",
		"# TYPE go_x info\n# UNIT go_x seconds\ngo_x_info{v=\"}\\\"{ # \"} 1 1234.5\n":      "go_x_info{v=\"}\\\"{ # \"} 1\n",
		"go_x 1 1234.5 # {} 1\ngo_x_created 5\n":                                            "go_x 1\n",
		"{\"go_x.y\",a=\"b\"} 3 4.5\n{\"app\"} 1\n":                                         "{\"go_x.y\",a=\"b\"} 3\n",
		"go_x{a=\"never closed 1\n":                                                         "go_x{a=\"never closed 1\n",
		"go_x":                                                                              "go_x\n",
	} {
		got := string(keptLines([]byte(in), true, func(name []byte) bool { return strings.HasPrefix(string(name), "go_") }))
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestHostile answers what no honest program does.
func TestHostile(t *testing.T) {
	spoof := "go_goroutines{service_instance_id=\"other\",instance=\"i2\",job=\"x\"} 1\n"
	families, err := decode([]byte(spoof), formText, all)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := convert(families, process, 1, 10)
	if want := `{__name__="go_goroutines", exported_instance="i2", exported_job="x", exported_service_instance_id="other"} 1`; err != nil || len(b.Samples) != 1 || lines(b)[0] != want {
		t.Errorf("%q, %v, want %s", lines(b), err, want)
	}
	long := "go_a{b=\"" + strings.Repeat("x", 2000) + "\"} 1\ngo_b 2\n"
	families, err = decode([]byte(long), formText, all)
	if err != nil {
		t.Fatal(err)
	}
	if b, left, err := convert(families, process, 1, 10); err != nil || left != 1 || len(b.Samples) != 1 {
		t.Errorf("%q, %d left out, %v", lines(b), left, err)
	}
	if _, _, err := convert(families, process, 1, 0); !errors.As(err, new(*limitError)) {
		t.Errorf("too many samples: %v", err)
	}
	for _, text := range []string{"go_a{", "go_a 1 2 3\n", "# TYPE go_a gauge\n# TYPE go_a gauge\n", "go_a x\n"} {
		if _, err := decode([]byte(text), formText, all); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, msg := range []string{"\x05", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x02\xff\xff"} {
		if got, err := decode([]byte(msg), formProtobuf, all); err == nil && len(got) > 0 && got[0].GetName() != "" {
			t.Errorf("%q is %v", msg, got)
		}
	}
	for _, ct := range []string{"text/html; charset=utf-8", "", "application/json", "application/vnd.google.protobuf; proto=x; encoding=delimited", ";"} {
		if _, err := formOf(ct); !errors.Is(err, errNoMetrics) {
			t.Errorf("content type %q: %v", ct, err)
		}
	}
	wrong := &dto.Histogram{SampleCount: new(uint64), PositiveSpan: []*dto.BucketSpan{{Offset: new(int32), Length: ptr(uint32(math.MaxUint32))}}, PositiveDelta: []int64{1}}
	if native(wrong) != nil {
		t.Error("a histogram whose spans disagree with its buckets")
	}
	falls := &dto.Histogram{SampleCount: ptr(uint64(3)), Bucket: []*dto.Bucket{{UpperBound: ptr(1.0), CumulativeCount: ptr(uint64(3))}, {UpperBound: ptr(2.0), CumulativeCount: ptr(uint64(2))}}}
	if custom(falls) != nil {
		t.Error("a histogram whose counts fall")
	}
}

func ptr[T any](v T) *T { return &v }

const memstats = `alloc: 1.36MB (1428632 bytes)
total-alloc: 1.36MB (1428632 bytes)
lookups: 0
mallocs: 1513
heap-released: 512 bytes
next-gc: when heap-alloc >= 4.00MB (4194304 bytes)
last-gc: 2026-11-21 19:00:00 +0000 UTC
gc-pause-total: 1.5ms
gc-pause-end: 1795241480000000000
num-gc: 7
gc-cpu-fraction: 0.01
enable-gc: true
`

func TestGopsSamples(t *testing.T) {
	got, err := gopsSamples(nil, []byte(memstats), 5)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = gopsSamples(got, []byte("goroutines: 12\nOS threads: 9\nGOMAXPROCS: 2\nnum CPU: 2\n"), 5); err != nil {
		t.Fatal(err)
	}
	want := []string{`{__name__="go_gc_duration_seconds_count"} 7`, `{__name__="go_gc_duration_seconds_sum"} 0.0015`, `{__name__="go_goroutines"} 12`, `{__name__="go_memstats_alloc_bytes"} 1.428632e+06`,
		`{__name__="go_memstats_alloc_bytes_total"} 1.428632e+06`, `{__name__="go_memstats_heap_released_bytes"} 512`, `{__name__="go_memstats_last_gc_time_seconds"} 1.79524148e+09`,
		`{__name__="go_memstats_mallocs_total"} 1513`, `{__name__="go_memstats_next_gc_bytes"} 4.194304e+06`, `{__name__="go_sched_gomaxprocs_threads"} 2`, `{__name__="go_threads"} 9`}
	if got := lines(series.Batch{Samples: got}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, bad := range []string{"", "hello", "alloc: many bytes\n", "gc-pause-total: soon\n", "mallocs: -1\n"} {
		if got, err := gopsSamples(nil, []byte(bad), 5); err == nil || len(got) != 0 {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// kept is an appender that writes down what it takes.
type kept struct {
	mu    sync.Mutex
	names map[string]map[string]float64 // by instance
}

func (k *kept) AppendSeries(_ context.Context, bs ...series.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range bs {
		of := b.Process.Get("service_instance_id")
		if k.names == nil {
			k.names = map[string]map[string]float64{}
		}
		if k.names[of] == nil {
			k.names[of] = map[string]float64{}
		}
		for _, s := range b.Samples {
			k.names[of][s.Labels.Get("__name__")] = s.V
		}
	}
	return nil
}

func (k *kept) of(instance string) map[string]float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.names[instance]
}

type noProfiles struct{}

func (noProfiles) Append(context.Context, store.Push) error { return nil }

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestManager gathers from a server with metrics, one without, one that answers a page, and a real gops agent.
func TestManager(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.Handle("/metrics", promhttp.HandlerFor(program(t), promhttp.HandlerOpts{}))
	served := httptest.NewServer(mux)
	defer served.Close()
	bare := httptest.NewServer(http.HandlerFunc(pprof.Index))
	defer bare.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>hello</html>") }))
	defer page.Close()
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"HOME=" + t.TempDir()}}, "-gops")
	scanner, err := discover.New(discover.Config{Host: "testhost", Rules: discover.Rules{AllowExes: []string{os.TempDir() + "/sonde-target*/target"}},
		AgentSeen: func(_ string, _, _ uint64, pids []int) bool { return pids[0] != proc.PID }})
	if err != nil {
		t.Fatal(err)
	}
	defer scanner.Close()
	sm, err := scrape.New(scrape.Config{Sink: noProfiles{}, Scanner: scanner, ScanPeriod: 50 * time.Millisecond, CPUDuration: -1, Period: time.Hour, Host: "testhost"})
	if err != nil {
		t.Fatal(err)
	}
	target := func(s *httptest.Server, instance string) scrape.Target {
		return scrape.Target{Service: instance, Instance: instance, URL: s.URL + "/debug/pprof"}
	}
	if err := sm.SetTargets([]scrape.Target{target(served, "served"), target(bare, "bare"), target(page, "page")}); err != nil {
		t.Fatal(err)
	}
	k, reg := new(kept), prometheus.NewRegistry()
	m, err := New(Config{Source: sm, Series: k, Every: 200 * time.Millisecond, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { sm.Run(ctx) })
	running.Go(func() { m.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); running.Wait() })
	defer stop()
	gopsInstance := ""
	until(t, "the gops agent", func() bool {
		for _, e := range sm.Endpoints() {
			if e.Metrics == "" {
				gopsInstance = e.Instance
			}
		}
		return k.of(gopsInstance)["go_goroutines"] > 0
	})
	until(t, "the metrics", func() bool { return k.of("served")["go_goroutines"] > 0 })
	until(t, "those without", func() bool { return testutil.ToFloat64(m.metrics.scrapes.WithLabelValues("http", "absent")) >= 2 })
	if !m.Given("served", "process_open_fds") || m.Given("served", "process_threads") || m.Given("bare", "process_open_fds") || m.Given(gopsInstance, "process_open_fds") {
		t.Error("which process_* a target gives itself")
	}
	stop()
	if got := k.of(gopsInstance); got["go_memstats_heap_sys_bytes"] < 1<<20 || got["go_threads"] < 1 || got["go_info"] != 1 {
		t.Errorf("of the gops agent: %v", got)
	}
	if _, ok := k.of("served")["app_orders"]; ok || len(k.of("bare"))+len(k.of("page")) != 0 {
		t.Errorf("kept what was not asked for: %v %v", k.of("bare"), k.of("page"))
	}
	if n := testutil.ToFloat64(m.metrics.scrapes.WithLabelValues("http", "absent")); n != 2 {
		t.Errorf("%v requests of targets without metrics, want one each", n)
	}
	if stacks := discovertest.Leaked("collector/exposed"); stacks != "" {
		t.Errorf("goroutines left behind:\n%s", stacks)
	}
}

// TestMetricsOfRealPrograms gathers from one that has pprof and its metrics on two ports, as one that was found and as one that is listed, and from one that has metrics only.
func TestMetricsOfRealPrograms(t *testing.T) {
	start := func(name string, args ...string) *discovertest.Process {
		return discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"OTEL_SERVICE_NAME=" + name}}, args...)
	}
	split, only, late := start("split", "-pprof=127.0.0.1:0", "-metrics=127.0.0.1:0"), start("only", "-metrics=127.0.0.1:0"), start("late", "-metrics=127.0.0.1:0")
	listed := start("listed", "-pprof=127.0.0.1:0", "-metrics=127.0.0.1:0")
	var byAgent atomic.Bool
	scanner, err := discover.New(discover.Config{Host: "testhost", Rules: discover.Rules{AllowExes: []string{os.TempDir() + "/sonde-target*/target"}},
		AgentSeen: func(_ string, _, _ uint64, pids []int) bool {
			switch pids[0] {
			case split.PID, only.PID:
				return false
			case late.PID:
				return byAgent.Load()
			}
			return true // other tests' processes are not ours, and the listed one is to be reached as one of another machine
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer scanner.Close()
	managers := map[string]*scrape.Manager{}
	for name, s := range map[string]*discover.Scanner{"found": scanner, "listed": nil} {
		if managers[name], err = scrape.New(scrape.Config{Sink: noProfiles{}, Scanner: s, ScanPeriod: 50 * time.Millisecond, CPUDuration: -1, Period: time.Hour, Host: "testhost"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := managers["listed"].SetTargets([]scrape.Target{{Service: "listed", Instance: "listed", URL: "http://" + listed.Addrs["pprof"] + "/debug/pprof", MetricsURL: "http://" + listed.Addrs["metrics"] + "/metrics"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	has := map[string]func(service string) bool{}
	for name, sm := range managers {
		k := new(kept)
		m, err := New(Config{Source: sm, Series: k, Every: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { sm.Run(ctx) })
		running.Go(func() { m.Run(ctx) })
		has[name] = func(service string) bool {
			return slices.ContainsFunc(sm.Endpoints(), func(e scrape.Endpoint) bool {
				return e.Labels.Get("service_name") == service && k.of(e.Instance)["go_goroutines"] > 0
			})
		}
	}
	for _, service := range []string{"split", "only", "late"} {
		until(t, "go_goroutines of "+service, func() bool { return has["found"](service) })
	}
	until(t, "go_goroutines of the listed one", func() bool { return has["listed"]("listed") })
	byAgent.Store(true)
	until(t, "the agent to take over", func() bool {
		return !slices.ContainsFunc(managers["found"].Endpoints(), func(e scrape.Endpoint) bool { return e.Labels.Get("service_name") == "late" })
	})
	if es := managers["found"].Endpoints(); len(es) != 2 {
		t.Errorf("%d endpoints, want those of split and only", len(es))
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{Keep: []string{"go_["}}); err == nil || !strings.Contains(err.Error(), "go_[") {
		t.Errorf("error %v", err)
	}
	m, err := New(Config{Keep: []string{"a.*", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if !m.keeps([]byte("abc")) || m.keeps([]byte("go_x")) || m.keeps([]byte("bc")) || m.keeps([]byte("xa")) || !m.keeps([]byte("abc")) {
		t.Error("keep")
	}
}

// FuzzDecode reads any bytes in any form: what comes out can be sent on.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("# TYPE go_x histogram\ngo_x_bucket{le=\"1\"} 2\ngo_x_bucket{le=\"+Inf\"} 3\ngo_x_sum 4\ngo_x_count 3\n"), 0)
	f.Add([]byte("go_x{a=\"b\"} 1 12.5 # {t=\"1\"} 5 6\n# EOF\n"), 1)
	f.Add([]byte("\x0e\x0a\x04go_x\x18\x01\x22\x04\x12\x02\x09\x00"), 2)
	f.Fuzz(func(t *testing.T, b []byte, which int) {
		families, err := decode(b, form(((which%3)+3)%3), all)
		if err != nil {
			return
		}
		batch, _, err := convert(families, process, 1, 1000)
		if err != nil {
			return
		}
		msg, err := series.Encode(&batch, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := series.Decode(msg, series.Limits{}); err != nil {
			t.Fatalf("what was read cannot be sent: %v", err)
		}
		gopsSamples(nil, b, 1)
	})
}
