//go:build unix

package store

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/bench"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// appendReplicas stores what replicas send.
func appendReplicas(t testing.TB, s *Store) func(bench.Window) error {
	return func(w bench.Window) error {
		p := Push{Key: catalog.Key{Instance: w.Instance, Window: w.Number}}
		for i, data := range w.Profiles {
			p.Profiles = append(p.Profiles, Profile{Labels: w.Labels, Type: w.Types[i], Start: w.Start, End: w.End, Data: data})
		}
		return s.Append(t.Context(), p)
	}
}

// BenchmarkMerge measures merges of one service of 60 instances over half an hour, per sample of the raw profiles in the range, against one addition to a random
// 64-bit number in 1 MB: raw as if there were no sums, query as a query runs it. 30m and 25m-ragged are long ranges, the others small ones, for which
// little is read of each series. Ranges start and end between minutes, where nothing is added up beforehand, but for the first and those of whole minutes, which is what a range
// such as now-5m is made. A query's time includes the look-up in the catalogue and everything else but the
// making of a view.
//
//	go test ./profiles/store -run '^$' -bench Merge -benchtime 1x
func BenchmarkMerge(b *testing.B) {
	const instances, windows = 60, 120
	r := bench.NewReplicas(b, instances, "cpu", "heap")
	e := newEnv(b, nil)
	for w := range windows {
		e.clock.set(bench.Epoch + int64(w+1)*bench.ReplicaPeriod)
		r.Send(b, w, appendReplicas(b, e.store))
		if w%4 == 3 {
			must(b, e.store.Compact(b.Context(), false))
		}
	}
	settle(b, e, bench.Epoch+(windows+1)*bench.ReplicaPeriod)
	const second, minute = int64(1000), int64(60_000)
	for _, c := range []struct {
		name     string
		instance string
		from, to int64 // after the epoch
		limit    float64
	}{
		{"30m", "", 0, 31 * minute, 6},
		{"25m-ragged", "", 2*minute + 7*second, 27*minute + 7*second, 6},
		{"5m-whole-minutes", "", 10 * minute, 15 * minute, 12},
		{"1m-whole-minute", "", 10 * minute, 11 * minute, 12},
		{"5m", "", 10*minute + 7*second, 15*minute + 7*second, 12},
		{"1m", "", 10*minute + 7*second, 11*minute + 7*second, 12},
		{"5m-one-instance", r.Instance(7), 10*minute + 7*second, 15*minute + 7*second, 12},
	} {
		for _, id := range []string{"cpu", "heap:alloc_space", "heap:inuse_space"} {
			typ, err := profiles.ParseType(id)
			must(b, err)
			q := Query{Type: typ, From: bench.Epoch + c.from, To: bench.Epoch + c.to, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, serviceLabel, bench.ReplicaService)}}
			if c.instance != "" {
				q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchEqual, "service_instance_id", c.instance))
			}
			b.Run(c.name+"/"+id, func(b *testing.B) {
				for b.Loop() {
					mergeFigures(b, e.store, q, c.limit)
				}
			})
		}
	}
}

func mergeFigures(b *testing.B, s *Store, q Query, limit float64) {
	defer func() { s.sumUse = sumsAuto }()
	merge := func() *profiles.Stacks {
		r, err := s.Merge(b.Context(), q)
		must(b, err)
		return r
	}
	add := bench.RandomAdd(b)
	s.sumUse = sumsNever
	samples := float64(merge().Stats.Samples)
	raw := bench.PerCall(b, func() { merge() })
	s.sumUse = sumsAuto
	auto := bench.PerCall(b, func() { merge() })
	add = (add + bench.RandomAdd(b)) / 2
	bench.AtMost(b, float64(raw.Nanoseconds())/samples/add, "x-add-raw", limit)
	bench.AtMost(b, float64(auto.Nanoseconds())/samples/add, "x-add-query", limit)
	b.ReportMetric(float64(raw.Nanoseconds())/samples, "ns/sample-raw")
	b.ReportMetric(float64(auto.Nanoseconds())/1e3, "µs-query")
	b.ReportMetric(add, "ns-add")
	b.ReportMetric(samples, "samples")
}
