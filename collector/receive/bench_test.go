package receive

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/testcorpus"
	"github.com/sonde-io/sonde/profiles"
)

// BenchmarkProfile answers pushes of real profiles with a sink that stores nothing, and reports its time as a ratio of what
// decompressing and decoding the same bytes takes.
func BenchmarkProfile(b *testing.B) {
	var bodies [][]byte
	for i, f := range testcorpus.Files(b) {
		if i%10 != 0 || f.Type != "cpu" && f.Type != "heap" {
			continue
		}
		body, err := os.ReadFile(f.Path)
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	m := new(memory)
	_, mux, _ := newTest(b, m, nil)
	var dec profiles.Decoder
	var decode, handle time.Duration
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		body := bodies[i%len(bodies)]
		start := time.Now()
		if _, err := dec.Decode(body, profiles.Limits{}); err != nil {
			b.Fatal(err)
		}
		decoded := time.Now()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, single1("service=cart&type=cpu&start=now-10s", body))
		handle += time.Since(decoded)
		decode += decoded.Sub(start)
		if w.Code != 200 {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
		m.got = m.got[:0]
	}
	// Taken in turns, so that a machine that is busy elsewhere slows both.
	b.ReportMetric(float64(handle)/float64(decode), "x-decode")
}

// BenchmarkMetrics pushes what an agent has to say in metrics: 100 series, two readings each. samples/s is without the store.
func BenchmarkMetrics(b *testing.B) {
	batch := &series.Batch{}
	for i := range 100 {
		ls := labels.FromStrings("__name__", fmt.Sprintf("go_metric_%d_total", i))
		for t := range int64(2) {
			batch.Samples = append(batch.Samples, series.Sample{Labels: ls, T: testNow.UnixMilli() + t, V: float64(i)})
		}
	}
	msg, err := series.Encode(batch, false)
	if err != nil {
		b.Fatal(err)
	}
	_, mux, _ := newTest(b, new(memory), func(c *Config) { c.Series = nowhere{} })
	w := newWindow(b, 1, true)
	w.meta["metrics"], w.meta["profiles"], w.parts = "metrics", []any{}, nil
	body := w.part("metrics", zipped(b, msg)).body(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if rec, a := do(b, mux, pushRequest(bytes.NewReader(body), w.boundary)); rec.Code != 200 {
			b.Fatal(a)
		}
	}
	b.ReportMetric(float64(b.N*len(batch.Samples))/b.Elapsed().Seconds(), "samples/s")
}

// nowhere takes metrics and forgets them.
type nowhere struct{}

func (nowhere) AppendSeries(context.Context, ...series.Batch) error { return nil }
