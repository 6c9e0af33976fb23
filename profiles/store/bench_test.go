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

// BenchmarkSeenFunctions asks which of 500 functions ran in half an hour of 60 instances, by instance and minute, beside a merge of the same: where none of them is in the
// service, where one hardly ever runs, and where one is on every stack.
//
//	go test ./profiles/store -run '^$' -bench SeenFunctions -benchtime 1x
func BenchmarkSeenFunctions(b *testing.B) {
	const instances, windows = 60, 120
	r := bench.NewReplicas(b, instances, "cpu")
	e := newEnv(b, nil)
	for w := range windows {
		e.clock.set(bench.Epoch + int64(w+1)*bench.ReplicaPeriod)
		r.Send(b, w, appendReplicas(b, e.store))
	}
	settle(b, e, bench.Epoch+(windows+1)*bench.ReplicaPeriod)
	q := Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: bench.Epoch, To: bench.Epoch + 31*60_000,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, serviceLabel, bench.ReplicaService)}}
	merged, err := e.store.Merge(b.Context(), q)
	must(b, err)
	top := profiles.NewTop(merged, nil, profiles.TopOptions{Limit: -1})
	rare, common := top.Rows[0], top.Rows[0]
	for _, row := range top.Rows {
		if row.Total < rare.Total {
			rare = row
		}
		if row.Total > common.Total {
			common = row
		}
	}
	merge := bench.PerCall(b, func() {
		_, err := e.store.Merge(b.Context(), q)
		must(b, err)
	})
	for _, c := range []struct{ name, function string }{{"none", "example.com/nobody.F"}, {"rare", rare.Function}, {"common", common.Function}} {
		b.Run(c.name, func(b *testing.B) {
			wanted := map[string][]int{c.function: {499}}
			for i := range 499 {
				wanted["example.com/nobody.F"+string(rune('a'+i))] = []int{i}
			}
			var seen []SeenFunction
			ask := func() {
				var err error
				seen, err = e.store.SeenFunctions(b.Context(), FunctionsQuery{Query: q, By: "service_instance_id", Match: func(name string) []int { return wanted[name] }})
				must(b, err)
			}
			for b.Loop() {
				ask()
			}
			took := bench.PerCall(b, ask)
			b.ReportMetric(float64(took.Nanoseconds())/1e6, "ms-seen")
			b.ReportMetric(float64(merge.Nanoseconds())/1e6, "ms-merge")
			b.ReportMetric(float64(len(seen)), "seen")
		})
	}
}
