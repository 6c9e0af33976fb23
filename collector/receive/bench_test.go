package receive

import (
	"net/http/httptest"
	"os"
	"testing"
	"time"

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
