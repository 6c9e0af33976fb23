package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// TestSeenFunctions compares with a naive store, over segments, blocks and blocks of blocks, in all ways to use rollups.
func TestSeenFunctions(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	f := &facts{rng: rng}
	e := newEnv(t, nil)
	from, to := epoch, epoch+3*3_600_000
	for at := from; at < to; at += 1_800_000 {
		for i := range 6 {
			var ps []Profile
			for s := at + int64(i)*1000; s < at+1_800_000; {
				end := s + 30_000 + rng.Int64N(60_000)
				ps = append(ps, f.push([]string{"cart", "shop"}[i%2], i, s, end))
				s = end
			}
			must(t, e.store.Append(t.Context(), Push{Profiles: ps}))
		}
		e.clock.set(at + 1_800_000)
		if at%3_600_000 == 0 {
			must(t, e.store.Compact(t.Context(), false))
		}
	}
	f.compareSeen(t, e.store, from, to)
	settle(t, e, to)
	f.compareSeen(t, e.store, from, to)
}

func (f *facts) compareSeen(t *testing.T, s *Store, from, to int64) {
	t.Helper()
	for range 20 {
		q := f.randomQuery(from, to)
		q.Samples, q.Focus, q.Ignore = nil, nil, nil
		by := []string{"", "service_instance_id", "service_version"}[f.rng.IntN(3)]
		// Number 7 is f1 and f2, number 9 is nobody.
		match := func(name string) []int {
			switch name {
			case "main.f1":
				return []int{1, 7}
			case "main.f2":
				return []int{7}
			case "main.none":
				return []int{9}
			}
			return nil
		}
		type span struct{ first, last int64 }
		want := map[string]span{}
		for _, x := range f.want(&q) {
			if x.value == 0 {
				continue
			}
			for _, name := range x.stack {
				for _, n := range match(name) {
					key := fmt.Sprint(n, " ", x.labels.Get(by))
					w, ok := want[key]
					if !ok {
						w.first = x.start
					}
					want[key] = span{min(w.first, x.start), max(w.last, x.start)}
				}
			}
		}
		for _, use := range []sumUse{sumsAuto, sumsNever, sumsAlways} {
			s.sumUse = use
			what := fmt.Sprintf("%s %v [%d, %d) by %q sums %d", q.Type, q.Matchers, q.From-epoch, q.To-epoch, by, use)
			got, err := s.SeenFunctions(t.Context(), FunctionsQuery{Query: q, Match: match, By: by})
			must(t, err)
			if len(got) != len(want) {
				t.Fatalf("%s: %d seen, want %d: %v", what, len(got), len(want), got)
			}
			for _, g := range got {
				w, ok := want[fmt.Sprint(g.Function, " ", g.By)]
				if !ok || g.First > w.first || g.First < w.first-60_000 || g.Last <= w.last || g.Last > w.last+60_000 {
					t.Fatalf("%s: %d of %q seen in [%d, %d), want starts from %d to %d", what, g.Function, g.By, g.First-epoch, g.Last-epoch, w.first-epoch, w.last-epoch)
				}
			}
		}
	}
	s.sumUse = sumsAuto
}

// TestSeenFunctionsOfMany is about more processes than have room for every minute of a week.
func TestSeenFunctionsOfMany(t *testing.T) {
	e := newEnv(t, nil)
	const processes = 600
	week := int64(7 * 24 * 3_600_000)
	var ps []Profile
	for i := range processes {
		p := &profiles.Profile{
			SampleTypes: []profiles.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, Functions: []profiles.Function{{Name: "main.f"}}, Lines: []profiles.Line{{}},
			Locations: []profiles.Location{{Lines: profiles.Span{Lo: 0, Hi: 1}}}, LocationIDs: []uint32{0}, Samples: []profiles.Sample{{Locations: profiles.Span{Lo: 0, Hi: 1}}}, Values: []int64{1},
		}
		ps = append(ps, Profile{Labels: labels.FromStrings(serviceLabel, "cart", "service_instance_id", strconv.Itoa(i)), Type: "cpu", Start: epoch, End: epoch + 10_000, Data: p})
	}
	must(t, e.store.Append(t.Context(), Push{Profiles: ps}))
	q := FunctionsQuery{Query: Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: epoch - week/2, To: epoch + week/2}, By: "service_instance_id",
		Match: func(string) []int { return []int{0} }}
	got, err := e.store.SeenFunctions(t.Context(), q)
	must(t, err)
	if len(got) != processes || slices.ContainsFunc(got, func(s SeenFunction) bool {
		return s.First > epoch || s.Last <= epoch || s.Last-s.First > 2*3_600_000
	}) {
		t.Errorf("%d seen, such as %+v; want %d to the hour", len(got), got[:min(len(got), 1)], processes)
	}
	if _, err := e.store.SeenFunctions(t.Context(), FunctionsQuery{Query: Query{From: 1, To: 1}}); err == nil {
		t.Error("an empty range is answered")
	}
	limited := newEnv(t, func(c *Config) { c.QueryMemory = 1000 })
	must(t, limited.store.Append(t.Context(), Push{Profiles: ps}))
	var le *LimitError
	if _, err := limited.store.SeenFunctions(t.Context(), q); !errors.As(err, &le) || le.Limit != "query_memory" {
		t.Errorf("over its memory: %v", err)
	}
}
