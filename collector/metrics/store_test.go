package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/series"
)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "metrics")
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func process(service, instance string) labels.Labels {
	return labels.FromStrings("service_name", service, "service_namespace", "shop", "service_instance_id", instance)
}

func sample(name string, at time.Time, v float64, ls ...string) series.Sample {
	return series.Sample{Labels: labels.FromStrings(append([]string{"__name__", name}, ls...)...), T: at.UnixMilli(), V: v}
}

// pauses is a histogram as the agent makes it of runtime/metrics.
func pauses(at time.Time, counts ...float64) series.Sample {
	h := &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, CustomValues: []float64{0.001, 0.01, 0.1}, PositiveSpans: []histogram.Span{{Length: uint32(len(counts))}}, PositiveBuckets: counts}
	for _, n := range counts {
		h.Count += n
	}
	return series.Sample{Labels: labels.FromStrings("__name__", "go_gc_pauses_seconds"), T: at.UnixMilli(), H: h}
}

func appendAll(t testing.TB, s *Store, bs ...series.Batch) {
	t.Helper()
	if err := s.AppendSeries(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
}

// ask returns the answer to a query as one line for each series.
func ask(t testing.TB, s *Store, expr string, at time.Time) (out []string) {
	t.Helper()
	res, err := s.Query(t.Context(), expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	for _, x := range res {
		out = append(out, fmt.Sprintf("%s %v", x.Labels, x.Points[0].V))
	}
	return out
}

func wantLines(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestAppendSeries(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	s := open(t, Config{Dir: dir})
	now := time.Now().Truncate(time.Second)
	cart := series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("go_goroutines", now.Add(-10*time.Second), 7), sample("go_goroutines", now, 9), pauses(now.Add(-time.Minute), 1, 1), pauses(now, 4, 1, 5)},
		Metadata: []series.Metadata{{Name: "cart_orders_total", Type: model.MetricTypeCounter, Help: "Orders."}}}
	rule := series.Batch{Samples: []series.Sample{sample("orders:rate5m", now, 0.5, "job", "theirs")}}
	own := series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("up", now, 1, "job", "mine")}}
	for range 3 { // a repeat changes nothing
		appendAll(t, s, cart, rule, own)
	}
	want := func(s *Store) {
		t.Helper()
		wantLines(t, "gauge", ask(t, s, "go_goroutines", now), `{__name__="go_goroutines", instance="i1", job="shop/cart", service_instance_id="i1", service_name="cart", service_namespace="shop"} 9`)
		wantLines(t, "count", ask(t, s, "count_over_time(go_goroutines[1m])", now), `{instance="i1", job="shop/cart", service_instance_id="i1", service_name="cart", service_namespace="shop"} 2`)
		wantLines(t, "job of a series", ask(t, s, `{job=~"theirs|mine"}`, now), `{__name__="orders:rate5m", job="theirs"} 0.5`, `{__name__="up", instance="i1", job="mine", service_instance_id="i1", service_name="cart", service_namespace="shop"} 1`)
		res, err := s.Query(t.Context(), `histogram_quantile(0.9, sum(increase(go_gc_pauses_seconds[2m])))`, now)
		if err != nil || len(res) != 1 || res[0].Points[0].V < 0.01 || res[0].Points[0].V > 0.1 {
			t.Errorf("p90 of pauses is %v, error %v", res, err)
		}
		if m, ok := s.meta.get("cart_orders_total"); !ok || m.Help != "Orders." {
			t.Errorf("metadata is %v", m)
		}
	}
	want(s)
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(reasonDuplicate)); got != 0 {
		t.Errorf("%v duplicates were counted: equal samples are none", got)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AppendSeries(t.Context(), cart); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	want(open(t, Config{Dir: dir}))
}

func TestLeftOut(t *testing.T) {
	s := open(t, Config{Settings: Settings{MaxSeries: 20, OutOfOrder: model.Duration(24 * time.Hour)}})
	now := time.Now().Truncate(time.Second)
	var many []series.Sample
	for i := range 12 {
		many = append(many, sample("many", now, float64(i), "n", fmt.Sprint(i)))
	}
	appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: many})
	wantLines(t, "series", ask(t, s, "count(many)", now), "{} 10")
	bad := series.Sample{Labels: many[0].Labels, T: now.Add(time.Second).UnixMilli(), H: &histogram.FloatHistogram{Count: 5, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1}}}
	appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{
		sample("many", now.Add(-time.Hour), 1, "n", "0"),    // a spool's
		sample("many", now.Add(-30*time.Hour), 1, "n", "0"), // too old
		sample("many", now.Add(time.Hour), 1, "n", "0"),
		sample("many", now, 100, "n", "0"), // another value
		sample("many", time.UnixMilli(math.MinInt64), 1, "n", "0"), bad,
		sample("many", now.Add(time.Second), 2, "n", "1"), // is taken all the same
	}})
	wantLines(t, "after", ask(t, s, `many{n="1"}[10s]`, now.Add(time.Second))[:1], `{__name__="many", instance="i1", job="shop/cart", n="1", service_instance_id="i1", service_name="cart", service_namespace="shop"} 1`)
	wantLines(t, "out of order", ask(t, s, `count_over_time(many{n="0"}[2h])`, now.Add(time.Second))[:1], `{instance="i1", job="shop/cart", n="0", service_instance_id="i1", service_name="cart", service_namespace="shop"} 2`)
	for reason, want := range map[string]float64{reasonMaxSeries: 2, reasonTooOld: 2, reasonFuture: 1, reasonInvalid: 1} {
		if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(reason)); got != want {
			t.Errorf("%s: %v left out, want %v", reason, got, want)
		}
	}
}

func TestRange(t *testing.T) {
	s := open(t, Config{Settings: Settings{MaxQuerySamples: 1000}})
	from := time.Now().Add(-time.Hour).Truncate(time.Minute)
	b := series.Batch{Process: process("cart", "i1")}
	for i := range 61 {
		b.Samples = append(b.Samples, sample("c_total", from.Add(time.Duration(i)*time.Minute), float64(i*60)))
	}
	appendAll(t, s, b)
	res, err := s.Range(t.Context(), "rate(c_total[5m])", from.Add(10*time.Minute), from.Add(20*time.Minute), 5*time.Minute)
	if err != nil || len(res) != 1 || len(res[0].Points) != 3 || res[0].Points[2].T != from.Add(20*time.Minute).UnixMilli() || math.Abs(res[0].Points[2].V-1) > 1e-9 {
		t.Errorf("got %v, error %v", res, err)
	}
	for expr, status := range map[string]int{"rate(c_total": 400, `"text"`: 400, "c_total + on() group_left {__name__=~'c_total|d'} ^ {job=~'.+'}[": 400, "count_over_time(c_total[1h:1s])": 422} {
		_, err := s.Query(t.Context(), expr, time.Now())
		if e, ok := errors.AsType[*reply.Error](err); !ok || e.Status != status {
			t.Errorf("%s: error %v, want status %d", expr, err, status)
		}
	}
	if _, err := s.Range(t.Context(), "1", from, from, 0); err == nil {
		t.Error("a range without steps is no error")
	}
}

// TestCloseEndsAll: a store that is closed leaves no goroutine behind.
func TestCloseEndsAll(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Register(http.NewServeMux()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("x", time.Now(), 1)}})
	ask(t, s, "x", time.Now())
	cancel()
	running.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("there were %d goroutines, and are\n%s", before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestTogether has everything run at once, for the race detector.
func TestTogether(t *testing.T) {
	s := open(t, Config{Settings: Settings{MaxConcurrentQueries: 2}})
	now := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var runs, work sync.WaitGroup
	runs.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for g := range 4 {
		work.Go(func() {
			for i := range 50 {
				b := series.Batch{Process: process("cart", fmt.Sprint(g%2)), Samples: []series.Sample{sample("x", now.Add(time.Duration(i)*time.Second), float64(i), "g", fmt.Sprint(g))}}
				if err := s.AppendSeries(ctx, b, b); err != nil {
					t.Error(err)
				}
				if _, err := s.Query(ctx, "sum(x)", now); err != nil {
					t.Error(err)
				}
			}
			s.targets.forget(time.Now())
		})
	}
	work.Wait()
	wantLines(t, "samples", ask(t, s, "sum(count_over_time(x[1m]))", now.Add(50*time.Second)), "{} 200")
	cancel()
	runs.Wait()
}

func TestSnapshot(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	nothing := filepath.Join(t.TempDir(), "nothing")
	if err := s.Snapshot(nothing); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "copy of nothing", ask(t, open(t, Config{Dir: nothing}), "x", now))
	appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("x", now, 3), sample("x", now.Add(-3*time.Hour), 2)}, Metadata: []series.Metadata{{Name: "x", Help: "X."}}})
	dir := filepath.Join(t.TempDir(), "copy")
	if err := s.Snapshot(dir); err != nil {
		t.Fatal(err)
	}
	copied := open(t, Config{Dir: dir})
	wantLines(t, "copy", ask(t, copied, "sum(x)", now), "{} 3")
	wantLines(t, "copy of what came late", ask(t, copied, "sum(sum_over_time(x[4h]))", now), "{} 5")
	if m, _ := copied.meta.get("x"); m.Help != "X." {
		t.Errorf("metadata of the copy: %v", m)
	}
}
