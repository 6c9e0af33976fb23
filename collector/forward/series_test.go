package forward

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

// measured is what is read of process i at t: n series.
func measured(i, n int, t int64) series.Batch {
	b := series.Batch{Process: labels.FromStrings("service_name", "cart", "service_namespace", "shop", "service_instance_id", instance(i))}
	for j := range n {
		b.Samples = append(b.Samples, series.Sample{Labels: labels.FromStrings("__name__", "process_open_fds", "n", fmt.Sprint(j)), T: t, V: float64(j)})
	}
	return b
}

// TestForwardSeries keeps the metrics and lines of many processes while the upstream is away: all arrive, in their order, with the labels of their processes.
func TestForwardSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.down = errRefused
		s := start(t, u, faultfs.New(), nil)
		const processes, rounds = 300, 8
		var want []string
		for round := range rounds {
			var bs []series.Batch
			now := time.Now().UnixMilli()
			for i := range processes {
				bs = append(bs, measured(i, 10, now))
				for j := range 10 {
					want = append(want, fmt.Sprintf(`{__name__="process_open_fds", instance="%s", job="shop/cart", n="%d", service_instance_id="%s", service_name="cart", service_namespace="shop"} %d %d`,
						instance(i), j, instance(i), j, now))
				}
			}
			if err := s.AppendSeries(t.Context(), bs...); err != nil {
				t.Fatal(err)
			}
			if round == rounds/2 {
				u.set(func() { u.down = nil })
			}
			pass(15 * time.Second)
		}
		var text bytes.Buffer
		zip := gzip.NewWriter(&text)
		fmt.Fprint(zip, "gc 1 @0.010s 1%: 0+0+0 ms clock\n")
		if err := zip.Close(); err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixMilli()
		if err := s.AppendLines(t.Context(), wire.LinesChunk{Process: measured(1, 0, 0).Process, Source: "stderr", From: now, To: now, Count: 1, Gzip: text.Bytes(), TextBytes: 32}); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		s.stop()
		if !slices.Equal(u.series, want) {
			t.Errorf("%d samples, want %d: %.300q", len(u.series), len(want), u.series)
		}
		if want := []string{`{service_instance_id="` + instance(1) + `", service_name="cart", service_namespace="shop"} stderr 1`}; !slices.Equal(u.lines, want) {
			t.Errorf("lines %q, want %q", u.lines, want)
		}
		if len(u.procs)+len(u.keys) != 0 {
			t.Errorf("the catalogue was told of %v %v", u.procs, u.keys)
		}
		if got := testutil.ToFloat64(s.metrics.samples.WithLabelValues("kept")); got != float64(len(want)) {
			t.Errorf("%v samples counted", got)
		}
	})
}

// TestSeriesRecords are as large as a collector takes, whatever is in them.
func TestSeriesRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		s := start(t, u, faultfs.New(), func(c *Config) { c.Limits.LabelValueBytes = 1 << 20 })
		long := measured(0, 3000, time.Now().UnixMilli())
		for i := range long.Samples {
			long.Samples[i].Labels = labels.NewBuilder(long.Samples[i].Labels).Set("text", strings.Repeat("x", 1000)).Labels()
		}
		giant := measured(1, 1, time.Now().UnixMilli())
		giant.Samples[0].Labels = labels.FromStrings("__name__", "a", "text", strings.Repeat("x", wire.MaxMetricsBytes))
		if err := s.AppendSeries(t.Context(), long, giant, measured(2, 30_000, time.Now().UnixMilli())); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if len(u.series) != 33_000 {
			t.Errorf("%d samples arrived, want 33000", len(u.series))
		}
		if got := testutil.ToFloat64(s.metrics.samples.WithLabelValues("dropped")); got != 1 {
			t.Errorf("%v samples dropped, want 1", got)
		}
		s.stop()
		if st := s.spool.Stats(); st.Appended < 6 {
			t.Errorf("%d records", st.Appended)
		}
	})
}

// TestSeriesOfFullSpool says in a gap what was dropped.
func TestSeriesOfFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.down = errRefused
		s := start(t, u, faultfs.New(), func(c *Config) { c.SpoolBytes = spool.MinBytes })
		for range 400 {
			b := measured(0, 1, time.Now().UnixMilli())
			for range 4 {
				sample := b.Samples[0]
				sample.Labels = labels.NewBuilder(sample.Labels).Set("text", noise()).Labels()
				b.Samples = append(b.Samples, sample)
			}
			if err := s.AppendSeries(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
		}
		u.set(func() { u.down = nil })
		pass(30 * time.Minute)
		s.stop()
		if len(u.events) == 0 || u.events[0].Kind != "gap" {
			t.Errorf("events %v", u.events)
		}
	})
}

// TestRelayedMetrics are an agent's, which the sidecar keeps and sends as they came.
func TestRelayedMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		s := start(t, u, faultfs.New(), nil)
		pushed := time.Now().UnixMilli()
		process := `{"labels":{"service_name":"cart"},"pid":7}`
		zipped := func(b []byte) []byte {
			var buf bytes.Buffer
			w := gzip.NewWriter(&buf)
			w.Write(b)
			w.Close()
			return buf.Bytes()
		}
		b := series.Batch{Samples: []series.Sample{{Labels: labels.FromStrings("__name__", "go_goroutines"), T: pushed, V: 12}}}
		msg, err := series.Encode(&b, false)
		if err != nil {
			t.Fatal(err)
		}
		meta := fmt.Sprintf(`{"v":1,"instance":%q,"window":1,"start":%d,"end":%d,"process_hash":%q,"process":%s,"profiles":[],"metrics":"metrics","lines":[{"part":"l","source":"stderr","from":%[2]d,"to":%[3]d,"count":1}]}`,
			instance(7), pushed-15000, pushed, hashOf(process), process)
		var body bytes.Buffer
		mw := multipart.NewWriter(&body)
		for _, p := range []struct {
			name string
			data []byte
		}{{"meta", []byte(meta)}, {"l", zipped([]byte("gc 1 @0.1s\n"))}, {"metrics", zipped(msg)}} {
			w, err := mw.CreateFormField(p.name)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(p.data)
		}
		mw.Close()
		r := httptest.NewRequest("POST", "/api/v1/push", &body)
		r.Header.Set("Content-Type", mw.FormDataContentType())
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		pass(time.Minute)
		wantSeries := []string{fmt.Sprintf(`{__name__="go_goroutines", service_instance_id="%s", service_name="cart"} 12 %d`, instance(7), pushed)}
		wantLines := []string{fmt.Sprintf(`{service_instance_id="%s", service_name="cart"} stderr 1`, instance(7))}
		if !slices.Equal(u.series, wantSeries) || !slices.Equal(u.lines, wantLines) {
			t.Errorf("series %q, lines %q", u.series, u.lines)
		}
	})
}
