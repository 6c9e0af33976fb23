package profiles

import (
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// cpuPerProfile runs each over every input b.N times and returns the time per input.
func cpuPerProfile(b *testing.B, inputs [][]byte, each func(data []byte)) float64 {
	start := time.Now()
	for range b.N {
		for _, in := range inputs {
			each(in)
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(b.N*len(inputs))
}

// BenchmarkDecode reports the decoder's and the interning's time as ratios of what the same bytes cost to gunzip and of google/pprof's decoder.
func BenchmarkDecode(b *testing.B) {
	_, data := readCorpus(b, 10)
	raws := make([][]byte, len(data))
	for i := range data {
		var err error
		if raws[i], err = Gunzip(nil, data[i], 64<<20); err != nil {
			b.Fatal(err)
		}
	}
	var buf []byte
	var p Profile
	var ids []uint32
	b.ResetTimer()
	gunzip := cpuPerProfile(b, data, func(in []byte) { buf, _ = Gunzip(buf[:0], in, 64<<20) })
	google := cpuPerProfile(b, raws, func(in []byte) {
		if _, err := profile.ParseUncompressed(in); err != nil {
			b.Fatal(err)
		}
	})
	decode := cpuPerProfile(b, raws, func(in []byte) {
		if err := p.Decode(in, Limits{}); err != nil {
			b.Fatal(err)
		}
	})
	s := NewSymbols()
	both := cpuPerProfile(b, raws, func(in []byte) {
		if err := p.Decode(in, Limits{}); err != nil {
			b.Fatal(err)
		}
		ids = s.AddProfile(&p, ids)
	})
	b.ReportMetric(decode/google, "decode/google")
	b.ReportMetric(decode/gunzip, "decode/gunzip")
	b.ReportMetric((both-decode)/gunzip, "intern/gunzip")
	b.ReportMetric((gunzip+both)/(gunzip+google), "all/(gunzip+google)")
	b.ReportMetric(decode/1e3, "decode-µs")
	b.ReportMetric(gunzip/1e3, "gunzip-µs")
	b.ReportMetric((both-decode)/1e3, "intern-µs")
}
