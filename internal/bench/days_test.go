//go:build unix

package bench_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"testing"

	"github.com/sonde-io/sonde/internal/bench"
)

// BenchmarkDays measures requests about one service of 60 instances over a day whose profiles are there raw, and over 30 days of which the 29 older ones are sums by
// minute, against the flame graph over the last half hour of the same data: CPU profiles, the real API handler up to the last byte of the answer, warm.
//
//	go test ./internal/bench -run '^$' -bench Days -benchtime 1x -timeout 40m
func BenchmarkDays(b *testing.B) {
	end := bench.DaysStart + bench.Day
	const minute = int64(60_000)
	cpu := url.Values{"type": {"cpu"}}
	flame := func(back int64) string { return request("flamegraph", end-back, end, cpu) }
	measure := func(b *testing.B, c *collector, path string) float64 {
		return milliseconds(bench.PerCall(b, func() { c.answer(path) }))
	}
	b.Run("day", func(b *testing.B) {
		c := openCollector(b, bench.Days(b, bench.DayData), end, nil)
		function := url.Values{"type": {"cpu"}, "focus": {c.someFunction(request("top", end-30*minute, end, cpu))}}
		by := url.Values{"type": {"cpu"}, "focus": function["focus"], "by": {"service_instance_id"}, "top": {"100"}}
		half, whole := measure(b, c, flame(30*minute)), measure(b, c, flame(bench.Day))
		for _, q := range []struct {
			name, path string
			than       float64 // ms
			unit       string
			limit      float64
		}{
			{"flame-30m", flame(30 * minute), 1, "x-1ms", flameLimit},
			{"flame-24h", flame(bench.Day), half, "x-flame-30m", 3},
			{"function-24h", request("series", end-bench.Day, end, function), whole, "x-flame-24h", 3},
			{"function-24h-by-instance", request("series", end-bench.Day, end, by), whole, "x-flame-24h", 3},
			{"series-24h", request("series", end-bench.Day, end, cpu), whole, "x-flame-24h", 0},
			{"diff-2x10m", request("diff", end-10*minute, end, url.Values{"type": {"cpu"}, "base_from": {stamp(end - 20*minute)}, "base_to": {stamp(end - 10*minute)}}), half, "x-flame-30m", 0},
			{"pprof-24h", request("profile", end-bench.Day, end, cpu), whole, "x-flame-24h", 0},
			{"label-values-24h", request("labels/service_instance_id/values", end-bench.Day, end, nil), whole, "x-flame-24h", 0},
		} {
			b.Run(q.name, func(b *testing.B) {
				for b.Loop() {
					ms := measure(b, c, q.path)
					bench.AtMost(b, ms/q.than, q.unit, q.limit)
					b.ReportMetric(ms, "ms")
				}
			})
		}
	})
	b.Run("month", func(b *testing.B) {
		c := openCollector(b, bench.Days(b, bench.MonthData), end, nil)
		half := measure(b, c, flame(30*minute))
		for _, q := range []struct {
			name  string
			back  int64
			limit float64
		}{{"flame-24h", bench.Day, 3}, {"flame-30d", 30 * bench.Day, 10}} {
			b.Run(q.name, func(b *testing.B) {
				var flameGraph struct{ Stats struct{ Profiles int64 } }
				c.must(json.Unmarshal(c.answer(flame(q.back)), &flameGraph))
				if want := replicas * q.back / bench.ReplicaPeriod; flameGraph.Stats.Profiles != want {
					b.Fatalf("the flame graph is of %d profiles, want %d", flameGraph.Stats.Profiles, want)
				}
				for b.Loop() {
					ms := measure(b, c, flame(q.back))
					bench.AtMost(b, ms/half, "x-flame-30m", q.limit)
					b.ReportMetric(ms, "ms")
				}
			})
		}
	})
}

// someFunction returns a pattern for one of the functions that a request for a table names.
func (c *collector) someFunction(path string) string {
	var top struct{ Rows []struct{ Function string } }
	c.must(json.Unmarshal(c.answer(path), &top))
	if len(top.Rows) < 10 {
		c.t.Fatalf("GET %s: %d functions", path, len(top.Rows))
	}
	return "^" + regexp.QuoteMeta(top.Rows[9].Function) + "$"
}
