package peers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/collector/metrics/intake"
	metricseries "github.com/sonde-io/sonde/collector/series"
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

// discard takes series and counts them.
type discard struct{ samples int }

func (d *discard) AppendSeries(_ context.Context, batches ...metricseries.Batch) error {
	for _, b := range batches {
		d.samples += len(b.Samples)
	}
	return nil
}

// BenchmarkOTLPMetrics decodes and converts what OpenTelemetry's runtime instrumentation sends of 50 processes through a Collector, ten metrics each, with ten of the programs' own.
func BenchmarkOTLPMetrics(b *testing.B) {
	md := pmetric.NewMetrics()
	for i := range 50 {
		rm := md.ResourceMetrics().AppendEmpty()
		for k, v := range map[string]string{"service.name": "cart", "service.instance.id": fmt.Sprint("i", i), "host.name": "n1", "k8s.pod.name": fmt.Sprint("cart-", i), "telemetry.sdk.name": "opentelemetry"} {
			rm.Resource().Attributes().PutStr(k, v)
		}
		ms := rm.ScopeMetrics().AppendEmpty().Metrics()
		for k, name := range []string{"go.memory.limit", "go.memory.allocated", "go.goroutine.count", "go.processor.limit", "go.config.gogc", "process.memory.usage", "process.cpu.time", "go.memory.allocations",
			"go.memory.gc.goal", "process.thread.count", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			m := ms.AppendEmpty()
			m.SetName(name)
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
			p.SetIntValue(int64(k))
			p.Attributes().PutStr("http.route", "/pay")
		}
	}
	body, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
	if err != nil {
		b.Fatal(err)
	}
	to := &discard{}
	in := intake.New(intake.Config{Series: to})
	process := func(attributes map[string]string) (labels.Labels, error) {
		o := newOrigin(attributes)
		return labels.FromMap(o.labels), nil
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := metricsRequest.costOf(body); err != nil {
			b.Fatal(err)
		}
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := in.KeepOTLP(b.Context(), md, process); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(to.samples)/b.Elapsed().Seconds(), "samples/s")
}
