//go:build unix

package bench_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/bench"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

const (
	replicas   = 60
	flameLimit = 5 // ms of CPU of a flame graph over half an hour
)

// BenchmarkQuery measures requests of the real API handler, up to the last byte of the answer (a recorder takes it, uncompressed), warm, on one service of 60
// instances over half an hour, 7,200 profiles of each type. live is the state of a running collector whose last push was just now: old blocks, young ones and
// segments; settled is when all is compacted.
//
//	go test ./internal/bench -run '^$' -bench 'Query/live/flame' -benchtime 1x
func BenchmarkQuery(b *testing.B) {
	const windows = 120
	c := openCollector(b, b.TempDir(), bench.Epoch, nil)
	sendReplicas(b, c, bench.NewReplicas(b, replicas, "cpu", "heap"), windows)
	end := bench.Epoch + (windows+1)*bench.ReplicaPeriod
	b.Run("live", func(b *testing.B) { halfHour(b, c, end) })
	c.settle(end)
	b.Run("settled", func(b *testing.B) { halfHour(b, c, end) })
}

// sendReplicas stores windows of replicas and compacts as the clock goes on.
func sendReplicas(t testing.TB, c *collector, r *bench.Replicas, windows int) {
	t.Helper()
	for w := range windows {
		c.clock.set(bench.Epoch + int64(w+1)*bench.ReplicaPeriod)
		r.Send(t, w, func(w bench.Window) error {
			p := store.Push{Key: catalog.Key{Instance: w.Instance, Window: w.Number}}
			for i, data := range w.Profiles {
				p.Profiles = append(p.Profiles, store.Profile{Labels: w.Labels, Type: w.Types[i], Start: w.Start, End: w.End, Data: data})
			}
			return c.store.Append(context.Background(), p)
		})
		c.compact()
	}
}

func halfHour(b *testing.B, c *collector, end int64) {
	const minute = int64(60_000)
	from := bench.Epoch
	for _, q := range []struct {
		name, path string
		more       url.Values
		limit      float64 // ms
	}{
		{"flame-cpu", "flamegraph", url.Values{"type": {"cpu"}}, flameLimit},
		{"flame-inuse", "flamegraph", url.Values{"type": {"heap:inuse_space"}}, flameLimit},
		{"flame-alloc", "flamegraph", url.Values{"type": {"heap:alloc_space"}}, flameLimit},
		{"top-cpu", "top", url.Values{"type": {"cpu"}}, 0},
		{"series-total", "series", url.Values{"type": {"cpu"}, "step": {"15s"}}, 0},
		{"series-by-instance", "series", url.Values{"type": {"cpu"}, "step": {"15s"}, "by": {"service_instance_id"}, "top": {"100"}}, 0},
		{"label-values", "labels/service_instance_id/values", nil, 0},
		{"types", "types", nil, 0},
		{"diff-2x10m", "diff", url.Values{"type": {"cpu"}, "from": {stamp(end - 10*minute)}, "base_from": {stamp(end - 20*minute)}, "base_to": {stamp(end - 10*minute)}}, 0},
		{"pprof", "profile", url.Values{"type": {"cpu"}}, 0},
	} {
		b.Run(q.name, func(b *testing.B) {
			path := request(q.path, from, end, q.more)
			for b.Loop() {
				size := len(c.answer(path))
				d := bench.PerCall(b, func() { c.answer(path) })
				bench.AtMost(b, milliseconds(d), "ms", q.limit)
				b.ReportMetric(float64(size), "B-answer")
			}
		})
	}
}

func stamp(ms int64) string { return strconv.FormatInt(ms, 10) }

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// request returns the path of a query about the replicas; more overrides its parameters.
func request(path string, from, to int64, more url.Values) string {
	q := url.Values{"query": {`{service_name="` + bench.ReplicaService + `"}`}, "from": {stamp(from)}, "to": {stamp(to)}}
	for k, v := range more {
		q[k] = v
	}
	return "/api/v1/" + path + "?" + q.Encode()
}
