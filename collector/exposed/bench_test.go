package exposed

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// BenchmarkScrape reads the metrics of a program that has 5,000 series of its own beside those that are kept.
//
//	go test -run xxx -bench Scrape -benchtime 1s ./collector/exposed
func BenchmarkScrape(b *testing.B) {
	reg := program(b)
	own := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders."}, []string{"customer"})
	reg.MustRegister(own)
	for i := range 5000 {
		own.WithLabelValues(fmt.Sprint("customer-", i)).Inc()
	}
	m, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	for _, ask := range []string{"text/plain", accept} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", ask)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		f, err := formOf(w.Header().Get("Content-Type"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run([]string{"text", "openmetrics", "protobuf"}[f], func(b *testing.B) {
			b.SetBytes(int64(w.Body.Len()))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				families, err := decode(w.Body.Bytes(), f, m.keeps)
				if err != nil {
					b.Fatal(err)
				}
				got, _, err := convert(families, process, 1, 5000)
				if err != nil {
					b.Fatal(err)
				}
				n = len(got.Samples)
			}
			b.ReportMetric(float64(n), "samples")
		})
	}
}
