package peers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pprofile"
)

// BenchmarkOTLP converts what the eBPF profiler sends of a busy node: 2,000 samples of 50 processes, stacks of 30 frames. Decoding is apart from what is made of it.
func BenchmarkOTLP(b *testing.B) {
	r := newRequest()
	var stacks, processes []int32
	for i := range 200 {
		names := make([]string, 30)
		for k := range names {
			names[k] = fmt.Sprintf("function_%d_%d", k, i>>(k/6))
		}
		stacks = append(stacks, r.stack(strings.Join(names, ";")))
	}
	for i := range 50 {
		processes = append(processes, r.attribute("process.pid", i))
	}
	p := r.profile(r.resource("service.name", "cart"), "samples", "count", time.Now())
	for i := range 2000 {
		r.sample(p, stacks[i%len(stacks)], 1, processes[i%len(processes)])
	}
	body := r.proto(b)
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if _, err := costOfProto(body); err != nil {
				b.Fatal(err)
			}
			if _, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	pd, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(body)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("convert", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := newConverter(pd, limits())
			if err := c.convert(); err != nil || len(c.items) != 50 {
				b.Fatal(err, len(c.items))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/sample")
	})
}
