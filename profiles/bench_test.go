//go:build unix

package profiles

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// cpuTime returns the CPU time that the process has used: on a busy machine wall time says nothing.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuPerProfile runs each over every input b.N times and returns the CPU time per input in nanoseconds, garbage collection included.
func cpuPerProfile(b *testing.B, inputs [][]byte, each func(data []byte)) float64 {
	runtime.GC()
	start := cpuTime(b)
	for range b.N {
		for _, in := range inputs {
			each(in)
		}
	}
	return float64(cpuTime(b)-start) / float64(b.N*len(inputs))
}

// BenchmarkDecode reports the decoder's and the interning's time in CPU as ratios of what the same bytes cost to gunzip and of google/pprof's decoder.
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
	for _, in := range raws { // the first sight of each stack is another matter
		if err := p.Decode(in, Limits{}); err != nil {
			b.Fatal(err)
		}
		ids = s.AddProfile(&p, ids)
	}
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

// BenchmarkDelta reports the CPU time of subtracting one capture from the next, beside that of decoding it.
func BenchmarkDelta(b *testing.B) {
	files, data := readCorpus(b, 1)
	var p Profile
	var raws [][]byte
	deltas := map[string]*Delta{}
	var of []*Delta
	for i, f := range files {
		if f.Type != "heap" || len(raws) == 100 {
			continue
		}
		raw, err := Gunzip(nil, data[i], 64<<20)
		if err != nil {
			b.Fatal(err)
		}
		if deltas[f.Service] == nil {
			deltas[f.Service] = NewDelta("heap")
		}
		raws, of = append(raws, raw), append(of, deltas[f.Service])
	}
	b.ResetTimer()
	decode := cpuPerProfile(b, raws, func(in []byte) {
		if err := p.Decode(in, Limits{}); err != nil {
			b.Fatal(err)
		}
	})
	i := 0
	both := cpuPerProfile(b, raws, func(in []byte) {
		if err := p.Decode(in, Limits{}); err != nil {
			b.Fatal(err)
		}
		if _, err := of[i%len(of)].Next(&p); err != nil && !errors.Is(err, ErrReset) { // each round starts anew
			b.Fatal(err)
		}
		i++
	})
	b.ReportMetric((both-decode)/decode, "delta/decode")
	b.ReportMetric((both-decode)/1e3, "delta-µs")
}
