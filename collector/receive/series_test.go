package receive

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// kept is what came of metrics and lines, as text.
type kept struct {
	mu     sync.Mutex
	err    error
	series []string
	lines  []string
}

func (k *kept) AppendSeries(_ context.Context, bs ...series.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	for _, b := range bs {
		for _, s := range b.Samples {
			v := fmt.Sprint(s.V)
			if s.H != nil {
				v = s.H.String()
			}
			k.series = append(k.series, fmt.Sprintf("%s %s %d", series.Merge(b.Process, s.Labels), v, s.T))
		}
	}
	return nil
}

func (k *kept) AppendLines(_ context.Context, c wire.LinesChunk) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	zr, err := gzip.NewReader(bytes.NewReader(c.Gzip))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(zr); err != nil {
		return err
	}
	if text.Len() != c.TextBytes {
		return fmt.Errorf("%d bytes, said to be %d", text.Len(), c.TextBytes)
	}
	k.lines = append(k.lines, fmt.Sprintf("%s %s %d %q", c.Process, c.Source, c.Count, &text))
	return nil
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// metricsPart is a part with one counter and one histogram, as encode says whether with own labels that follow.
func metricsPart(t testing.TB, own ...string) []byte {
	t.Helper()
	name := func(name string) labels.Labels {
		return labels.FromStrings(append([]string{"__name__", name}, own...)...)
	}
	b := &series.Batch{Samples: []series.Sample{{Labels: name("process_cpu_seconds_total"), T: testNow.UnixMilli(), V: 1.5},
		{Labels: name("go_gc_pauses_seconds"), T: testNow.UnixMilli(), H: &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 0.25,
			CustomValues: []float64{0.1, 0.2}, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{2, 1}}}}}
	msg, err := series.Encode(b, false)
	if err != nil {
		t.Fatal(err)
	}
	return zipped(t, msg)
}

const gcLines = "gc 1 @0.010s 1%: 0+0+0 ms clock\ngc 2 @0.020s 1%: 0+0+0 ms clock\n"

// withExtras adds metrics and lines to a window.
func (w *window) withExtras(t testing.TB) *window {
	w.meta["metrics"] = "metrics"
	w.meta["lines"] = []map[string]any{{"part": "lines", "source": "stderr", "from": testNow.UnixMilli() - 10, "to": testNow.UnixMilli(), "count": 2}}
	return w.part("metrics", metricsPart(t)).part("lines", zipped(t, []byte(gcLines)))
}

var (
	wantSeries = []string{`{__name__="process_cpu_seconds_total", service_instance_id="` + testInstance + `", service_name="cart", service_version="v1"} 1.5 1795241480000`,
		`{__name__="go_gc_pauses_seconds", service_instance_id="` + testInstance + `", service_name="cart", service_version="v1"} {count:3, sum:0.25, [-Inf,0.1]:2, (0.1,0.2]:1} 1795241480000`}
	wantLines = []string{`{service_instance_id="` + testInstance + `", service_name="cart", service_version="v1"} stderr 2 ` + fmt.Sprintf("%q", gcLines)}
)

func withKept(k *kept) func(*Config) { return func(c *Config) { c.Series, c.Lines = k, k } }

func TestPushMetricsAndLines(t *testing.T) {
	m, k := new(memory), new(kept)
	h, mux, _ := newTest(t, m, withKept(k))
	if rec, a := do(t, mux, newWindow(t, 1, true).withExtras(t).request(t)); rec.Code != 200 || a.Status != "ok" {
		t.Fatalf("%d %+v", rec.Code, a)
	}
	if !slices.Equal(k.series, wantSeries) || !slices.Equal(k.lines, wantLines) || len(m.got) != 1 {
		t.Errorf("series %q\nlines %q\n%d pushes", k.series, k.lines, len(m.got))
	}
	// Of a window that comes again they are appended again: the answer to the first may have been lost before they were.
	if _, a := do(t, mux, newWindow(t, 1, true).withExtras(t).request(t)); a.Status != "duplicate" || len(k.series) != 4 || len(k.lines) != 2 {
		t.Errorf("%+v, %d series, %d lines", a, len(k.series), len(k.lines))
	}
	// Metrics alone are a window too, as of an agent whose profiling is off.
	w := newWindow(t, 2, false).withExtras(t)
	w.meta["profiles"], w.parts = []any{}, w.parts[1:]
	if rec, a := do(t, mux, w.request(t)); rec.Code != 200 || len(k.series) != 6 || len(m.got) != 2 {
		t.Errorf("%d %+v, %d series, %d pushes", rec.Code, a, len(k.series), len(m.got))
	}
	if got := testutil.ToFloat64(h.metrics.samples.WithLabelValues("kept")); got != 6 {
		t.Errorf("%v samples counted", got)
	}
	if left, all := h.budget.left.Load(), h.inflight(); left != all || !h.decoding.TryAcquire(all) {
		t.Errorf("%d of %d bytes of the budget came back", left, all)
	}
}

// TestBatchMetrics has records that are about no process, whose series carry their labels, and one of a known process.
func TestBatchMetrics(t *testing.T) {
	m, k := new(memory), new(kept)
	h, mux, _ := newTest(t, m, withKept(k))
	own := []string{"service_instance_id", testInstance, "service_name", "cart", "service_version", "v1"}
	bare := func() *window {
		w := newWindow(t, 1, false)
		for _, name := range []string{"instance", "window", "process_hash"} {
			delete(w.meta, name)
		}
		w.meta["profiles"], w.parts = []any{}, nil
		return w
	}
	many := bare()
	many.meta["metrics"] = "metrics"
	many.part("metrics", metricsPart(t, own...))
	said := bare()
	said.meta["lines"] = []map[string]any{{"part": "l", "source": "stderr", "from": testNow.UnixMilli() - 10, "to": testNow.UnixMilli(), "count": 2,
		"labels": map[string]string{"service_instance_id": testInstance, "service_name": "cart", "service_version": "v1"}}}
	said.part("l", zipped(t, []byte(gcLines)))
	nobodys := bare()
	nobodys.meta["lines"] = []map[string]any{{"part": "l", "source": "stderr", "from": testNow.UnixMilli() - 10, "to": testNow.UnixMilli(), "count": 2}}
	nobodys.part("l", zipped(t, []byte(gcLines)))
	broken := bare()
	broken.meta["metrics"] = "metrics"
	broken.part("metrics", []byte("nothing"))
	_, a := doBatch(t, mux, encode(many.record(t), said.record(t), nobodys.record(t), broken.record(t), bare().record(t), newWindow(t, 1, true).withExtras(t).record(t), many.record(t)))
	if got := statuses(a); !slices.Equal(got, []string{"ok", "ok", "refused 422", "refused 422", "refused 422", "ok", "ok"}) {
		t.Fatalf("%v", a)
	}
	if want := slices.Concat(wantSeries, wantSeries, wantSeries); !slices.Equal(k.series, want) || !slices.Equal(k.lines, slices.Concat(wantLines, wantLines)) || len(m.got) != 1 {
		t.Errorf("series %q\nlines %q\n%d pushes", k.series, k.lines, len(m.got))
	}
	if left, all := h.budget.left.Load(), h.inflight(); left != all || !h.decoding.TryAcquire(all) || len(h.working) != 0 {
		t.Errorf("%d of %d bytes of the budget came back", left, all)
	}
}

func TestRefusedExtras(t *testing.T) {
	encoded := func(b series.Batch) []byte {
		msg, err := series.Encode(&b, false)
		if err != nil {
			t.Fatal(err)
		}
		return zipped(t, msg)
	}
	of := func(ls ...string) []byte {
		return encoded(series.Batch{Samples: []series.Sample{{Labels: labels.FromStrings(ls...), T: testNow.UnixMilli()}}})
	}
	many := series.Batch{Samples: make([]series.Sample, wire.MaxMetricSamples+1)}
	for i := range many.Samples {
		many.Samples[i] = series.Sample{Labels: labels.FromStrings("__name__", "a"), T: int64(i + 1)}
	}
	wide := []string{"__name__", "a"}
	for i := range 100 {
		wide = append(wide, fmt.Sprintf("l%02d", i), "x")
	}
	line := func(w *window, name string, value any) { w.meta["lines"].([]map[string]any)[0][name] = value }
	for _, tt := range []struct {
		name   string
		change func(w *window)
		status int
		want   string
		limit  string
	}{
		{"not gzip", func(w *window) { w.parts[1].data = []byte("x") }, 422, "metrics: not gzip", ""},
		{"not metrics", func(w *window) { w.parts[1].data = zipped(t, []byte("\xff\xff")) }, 422, "remote-write", ""},
		{"cut", func(w *window) { w.parts[1].data = w.parts[1].data[:20] }, 400, "metrics", ""},
		{"no name", func(w *window) { w.parts[1].data = of("a", "b") }, 422, "without a name", ""},
		{"not UTF-8", func(w *window) { w.parts[1].data = of("__name__", "a", "b", "\xff") }, 422, "not UTF-8", ""},
		{"long name", func(w *window) { w.parts[1].data = of("__name__", "a", strings.Repeat("n", 129), "x") }, 422, "too long", "max_label_name_bytes"},
		{"long value", func(w *window) { w.parts[1].data = of("__name__", "a", "b", strings.Repeat("n", 1025)) }, 422, "too long", "max_label_value_bytes"},
		{"many labels", func(w *window) { w.parts[1].data = of(wide...) }, 422, "max_labels", "max_labels"},
		{"many samples", func(w *window) { w.parts[1].data = encoded(many) }, 422, "max_metric_samples", "max_metric_samples"},
		{"a bomb", func(w *window) { w.parts[1].data = zipped(t, make([]byte, 2<<20)) }, 413, "metrics: too many", "max_metrics_bytes"},
		{"empty series", func(w *window) { w.parts[1].data = zipped(t, bytes.Repeat([]byte{0x0a, 0}, 1<<19)) }, 422, "without a name", ""},
		{"metrics missing", func(w *window) { w.parts = w.parts[:1] }, 422, "lists 3 parts, 1 came", ""},
		{"one name twice", func(w *window) { w.meta["metrics"] = "cpu" }, 422, `"cpu" is listed twice`, ""},
		{"named meta", func(w *window) { w.meta["metrics"] = "meta" }, 422, "cannot name a part", ""},
		{"many parts of lines", func(w *window) { w.meta["lines"] = make([]map[string]any, 65) }, 422, "parts of lines", "max_lines_parts"},
		{"no source", func(w *window) { line(w, "source", "") }, 422, "source", ""},
		{"no lines", func(w *window) { line(w, "count", 0) }, 422, "count 0", ""},
		{"backwards", func(w *window) { line(w, "from", testNow.UnixMilli()+5) }, 422, "not after start", ""},
		{"other count", func(w *window) { line(w, "count", 3) }, 422, "3 lines, 2 came", ""},
		{"unended line", func(w *window) { w.parts[2].data = zipped(t, []byte("a\nb\nc")) }, 422, "line break", ""},
		{"a bomb of lines", func(w *window) { w.parts[2].data = zipped(t, make([]byte, 2<<20)) }, 413, "too many", "max_lines_bytes"},
		{"labels of nobody", func(w *window) { line(w, "labels", map[string]string{"a": "b"}) }, 422, "service_name", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, k := new(memory), new(kept)
			h, mux, _ := newTest(t, m, withKept(k))
			w := newWindow(t, 1, true).withExtras(t)
			tt.change(w)
			rec, a := do(t, mux, w.request(t))
			if rec.Code != tt.status || !strings.Contains(a.Error, tt.want) || a.Limit != tt.limit || tt.limit != "" && a.Max == 0 {
				t.Errorf("answer %d %+v, want %d with %q, limit %q", rec.Code, a, tt.status, tt.want, tt.limit)
			}
			if len(m.got)+len(k.series)+len(k.lines) != 0 {
				t.Error("something was kept")
			}
			if left, all := h.budget.left.Load(), h.inflight(); left != all || !h.decoding.TryAcquire(all) {
				t.Errorf("%d of %d bytes of the budget came back", left, all)
			}
		})
	}
}

// TestExtrasNotKept has the sender try again, and stores nothing of the push that would make it a duplicate.
func TestExtrasNotKept(t *testing.T) {
	m, k := new(memory), &kept{err: errors.New("broken disk")}
	_, mux, _ := newTest(t, m, withKept(k))
	rec, a := do(t, mux, newWindow(t, 1, true).withExtras(t).request(t))
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" || len(m.got) != 0 {
		t.Errorf("%d %+v, %d pushes stored", rec.Code, a, len(m.got))
	}
	k.err = nil
	if _, a := do(t, mux, newWindow(t, 1, true).withExtras(t).request(t)); a.Status != "ok" || len(k.series) != 2 || len(k.lines) != 1 {
		t.Errorf("%+v, %q %q", a, k.series, k.lines)
	}
	h, mux, _ := newTest(t, new(memory), nil)
	if rec, _ := do(t, mux, newWindow(t, 1, true).withExtras(t).request(t)); rec.Code != 200 || testutil.ToFloat64(h.metrics.samples.WithLabelValues("dropped")) != 2 ||
		testutil.ToFloat64(h.metrics.lines.WithLabelValues("dropped")) != 2 {
		t.Errorf("%d where nobody keeps metrics", rec.Code)
	}
}

// FuzzExtras pushes any bytes as metrics and lines: the answer is one, and all that was borrowed comes back.
func FuzzExtras(f *testing.F) {
	f.Add(metricsPart(f), zipped(f, []byte(gcLines)), 2, true)
	f.Add(zipped(f, bytes.Repeat([]byte{0x0a, 0}, 999)), zipped(f, []byte("\n")), 1, false)
	f.Fuzz(func(t *testing.T, metrics, lines []byte, count int, compress bool) {
		if compress {
			metrics, lines = zipped(t, metrics), zipped(t, lines)
		}
		m, k := new(memory), new(kept)
		h, mux, _ := newTest(t, m, withKept(k))
		w := newWindow(t, 1, true).withExtras(t)
		w.parts[1].data, w.parts[2].data = metrics, lines
		w.meta["lines"].([]map[string]any)[0]["count"] = count
		w.boundary = "a-boundary-that-nobody-guesses"
		rec, a := do(t, mux, w.request(t))
		if rec.Code == 200 && len(k.lines) != 1 || rec.Code >= 500 || rec.Code != 200 && len(m.got) != 0 {
			t.Fatalf("%d %+v, %q", rec.Code, a, k.lines)
		}
		if left, all := h.budget.left.Load(), h.inflight(); left != all || !h.decoding.TryAcquire(all) {
			t.Fatalf("%d of %d bytes of the budget came back", left, all)
		}
	})
}

// TestGoldenMetrics reads what the agent writes: its encoder and this reader know nothing of each other.
func TestGoldenMetrics(t *testing.T) {
	m, k := new(memory), new(kept)
	_, mux, _ := newTest(t, m, withKept(k))
	rec, a := do(t, mux, pushRequest(bytes.NewReader(golden(t, "push-metrics.multipart")), goldenBoundary))
	if rec.Code != 200 || len(m.got) != 1 {
		t.Fatalf("%d %+v", rec.Code, a)
	}
	got := strings.Join(k.series, "\n") + "\n"
	name := filepath.Join("testdata", "golden-metrics.txt")
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the golden push has\n%s\nwant\n%s", got, want)
	}
}

// TestGoldenEnd: an agent that takes its leave ended when it was seen last, by the same clock.
func TestGoldenEnd(t *testing.T) {
	m := new(memory)
	_, mux, _ := newTest(t, m, withKept(new(kept)))
	for _, name := range []string{"push-metrics.multipart", "push-last.multipart"} {
		if rec, a := do(t, mux, pushRequest(bytes.NewReader(golden(t, name)), goldenBoundary)); rec.Code != 200 {
			t.Fatalf("%s: %d %+v", name, rec.Code, a)
		}
	}
	last := m.got[1]
	if len(m.got[0].events) != 0 || len(last.events) != 1 {
		t.Fatalf("events %+v, %+v", m.got[0].events, last.events)
	}
	if e := last.events[0]; e.Kind != exitEvent || e.Service != "cart" || e.Time != last.process.LastSeen || e.Attrs["instance"] != last.process.Instance || e.Attrs["by"] != "agent" ||
		e.Text != "cart closed its agent after 8m40s" {
		t.Errorf("event %+v of %+v", e, last.process)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")
