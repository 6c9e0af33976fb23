package receive

import (
	"bytes"
	"net/http/httptest"
	"os"
	"testing"

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
	decode := testing.Benchmark(func(b *testing.B) {
		for i := range b.N {
			if _, err := dec.Decode(bodies[i%len(bodies)], profiles.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, single1("service=cart&type=cpu&start=now-10s", bytes.Clone(bodies[i%len(bodies)])))
		if w.Code != 200 {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
		i++
		m.got = m.got[:0]
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(decode.NsPerOp()), "x-decode")
}
