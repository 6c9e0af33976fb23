package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// merge adds up the reference by stack, as the text that stackText makes.
func (r *reference) merge(q Query) map[string]int64 {
	sums := map[string]*big.Int{}
	for _, p := range r.all {
		if p.start < q.From || p.start >= q.To || p.typ != q.Type.Profile || !matchLabels(q.Matchers, p.labels) {
			continue
		}
		c := slices.IndexFunc(p.types, func(t profiles.ValueType) bool { return t.Type == q.Type.Sample })
		for _, s := range p.samples {
			if !s.counts(q) {
				continue
			}
			v := big.NewInt(s.values[c])
			if q.Type.Kind() == profiles.Gauge {
				v.Mul(v, big.NewInt(p.covered))
			}
			key := strings.Join(s.stack, ";") + "|" + s.label
			if sums[key] == nil {
				sums[key] = new(big.Int)
			}
			sums[key].Add(sums[key], v)
		}
	}
	out := map[string]int64{}
	for key, v := range sums {
		if q.Type.Kind() == profiles.Gauge { // half up; the values are not negative
			v.Mul(v, big.NewInt(2)).Add(v, big.NewInt(q.To-q.From)).Div(v, big.NewInt(2*(q.To-q.From)))
		}
		if v.Sign() != 0 {
			out[key] = v.Int64()
		}
	}
	return out
}

// counts reports whether q selects the sample of a profile that it selects.
func (s *sample) counts(q Query) bool {
	under := func(re *regexp.Regexp) bool { return re != nil && slices.ContainsFunc(s.stack, re.MatchString) }
	job := labels.EmptyLabels()
	if s.label != "" {
		job = labels.FromStrings("job", s.label)
	}
	return matchLabels(q.Samples, job) && (q.Focus == nil || under(q.Focus)) && !under(q.Ignore)
}

// span returns the number of profiles that q selects, their earliest start and their latest end.
func (r *reference) span(q Query) (n int, first, last int64) {
	for _, p := range r.all {
		if p.start < q.From || p.start >= q.To || p.typ != q.Type.Profile || !matchLabels(q.Matchers, p.labels) {
			continue
		}
		if n++; n == 1 || p.start < first {
			first = p.start
		}
		last = max(last, p.end)
	}
	return n, first, last
}

// byStack turns a merge's result into the reference's form.
func byStack(t testing.TB, r *profiles.Stacks) map[string]int64 {
	out := map[string]int64{}
	s := r.Symbols
	for i, id := range r.IDs {
		st := s.Stacks[id]
		var names []string
		for n := st.Node; n != 0; n = s.Nodes[n].Parent {
			for _, l := range s.Lines[s.Locations[s.Nodes[n].Location].Lines.Lo:s.Locations[s.Nodes[n].Location].Lines.Hi] {
				names = append(names, s.Strings[s.Functions[l.Function].Name])
			}
		}
		label := ""
		for _, l := range s.Labels[s.LabelSets[st.LabelSet].Lo:s.LabelSets[st.LabelSet].Hi] {
			label = s.Strings[l.Str]
		}
		key := strings.Join(names, ";") + "|" + label
		if _, twice := out[key]; twice {
			t.Errorf("stack %s is in the result twice", key)
		}
		out[key] = r.Values[i]
	}
	return out
}

// difference names up to three stacks whose values differ.
func difference(got, want map[string]int64) string {
	var out []string
	for _, m := range []map[string]int64{got, want} {
		for key := range m {
			if got[key] != want[key] && len(out) < 3 {
				out = append(out, fmt.Sprintf("%s: %d, want %d", key, got[key], want[key]))
			}
		}
	}
	return strings.Join(out, "; ")
}

var modelTypes = []profiles.Type{
	{Profile: "cpu", Sample: "cpu"}, {Profile: "cpu", Sample: "samples"}, {Profile: "heap", Sample: "alloc_space"},
	{Profile: "heap", Sample: "inuse_space"}, {Profile: "heap", Sample: "inuse_objects"},
}

// verify compares random ranges, answered in all three ways, with the reference.
func (e *env) verify(r *reference, rng *rand.Rand, from, to int64, rounds int) {
	e.t.Helper()
	for range rounds {
		a, b := from+rng.Int64N(to-from), from+rng.Int64N(to-from)
		if rng.IntN(3) == 0 { // on the edges of windows
			a, b = windowStart(a, 60_000), windowStart(b, 60_000)
		}
		q := Query{Type: modelTypes[rng.IntN(len(modelTypes))], From: min(a, b), To: max(a, b) + 1}
		if e.grain > 0 {
			q.From, q.To = windowStart(q.From, e.grain), windowStart(q.To, e.grain)+e.grain
		}
		switch rng.IntN(3) {
		case 0:
			q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchEqual, "service_name", "cart"))
		case 1:
			q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchRegexp, "service_version", "v1|v7"))
		}
		switch rng.IntN(6) {
		case 0:
			q.Samples = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", fmt.Sprintf("job%d", rng.IntN(3)))}
		case 1:
			q.Samples = []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotRegexp, "job", "job0|job2")}
		case 2:
			q.Focus = regexp.MustCompile(fmt.Sprintf(`\.f%d$`, rng.IntN(6)))
		case 3:
			q.Ignore = regexp.MustCompile(fmt.Sprintf(`^pay\.|f%d$`, rng.IntN(6)))
		}
		want := r.merge(q)
		for _, use := range []sumUse{sumsAuto, sumsNever, sumsAlways} {
			e.store.sumUse = use
			got, err := e.store.Merge(context.Background(), q)
			must(e.t, err)
			if n, first, last := r.span(q); got.Stats.Profiles != n || got.Stats.First != first || got.Stats.Last != last {
				e.t.Fatalf("merge of %s %v in [%d, %d), sums %d: has %d profiles of [%d, %d), want %d of [%d, %d)",
					q.Type, q.Matchers, q.From, q.To, use, got.Stats.Profiles, got.Stats.First, got.Stats.Last, n, first, last)
			}
			if g := byStack(e.t, got); !maps.Equal(g, want) {
				e.t.Fatalf("merge of %s %v in [%d, %d), sums %d: got %d stacks, want %d, different: %s", q.Type, q.Matchers, q.From, q.To, use, len(g), len(want), difference(g, want))
			}
		}
		e.store.sumUse = sumsAuto
		e.verifySeries(q, r.total(q))
	}
}

// total is the reference's answer to Series: without the rounding that each stack of a merge has.
func (r *reference) total(q Query) float64 {
	sum := new(big.Int)
	for _, p := range r.all {
		if p.start < q.From || p.start >= q.To || p.typ != q.Type.Profile || !matchLabels(q.Matchers, p.labels) {
			continue
		}
		c := slices.IndexFunc(p.types, func(t profiles.ValueType) bool { return t.Type == q.Type.Sample })
		for _, s := range p.samples {
			if !s.counts(q) {
				continue
			}
			v := big.NewInt(s.values[c])
			if q.Type.Kind() == profiles.Gauge {
				v.Mul(v, big.NewInt(p.covered))
			}
			sum.Add(sum, v)
		}
	}
	f, _ := new(big.Float).SetInt(sum).Float64()
	if q.Type.Kind() == profiles.Gauge {
		f /= float64(q.To - q.From)
	}
	return f
}

func (e *env) verifySeries(q Query, want float64) {
	e.t.Helper()
	got, err := e.store.Series(context.Background(), SeriesQuery{Query: q, Step: max(1, (q.To-q.From)/7), By: []string{"service_version"}, Top: 1})
	must(e.t, err)
	total, points := 0.0, 0.0
	for _, s := range got {
		total += s.Total
		for _, v := range s.Values {
			points += v
		}
	}
	if math.Abs(total-want) > want*1e-9 {
		e.t.Fatalf("series of %s in [%d, %d) total %f, want %f", q.Type, q.From, q.To, total, want)
	}
	if q.Type.Kind() == profiles.Interval && points > total {
		e.t.Fatalf("series of %s has points of %f in all, more than its total %f", q.Type, points, total)
	}
}

// TestModel pushes intervals and gauges of processes that come and go, some of them late, compacts, deletes, loses the catalogue and reopens at random, lets
// what it has grow old, with some of it pinned, and compares every answer with the naive reference.
func TestModel(t *testing.T) {
	seeds := uint64(4)
	switch {
	case testing.Short():
		seeds = 1
	case longTests:
		seeds = 100
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			e := newEnv(t, func(c *Config) { c.MaxAge, c.MinuteAge, c.HourAge = 3*day, 6*day, 300*day })
			r := &reference{}
			type process struct {
				service, name string
				window        uint64
				at            int64
			}
			var live []*process
			spawn := func(at int64) {
				live = append(live, &process{[]string{"cart", "checkout", "pay"}[rng.IntN(3)], fmt.Sprintf("i%d-%d", seed, len(live)), 0, at})
			}
			now := epoch
			for range 6 {
				spawn(now)
			}
			for step := range 160 {
				now += 15_000 + rng.Int64N(120_000)
				e.clock.set(now)
				if step%20 == 0 {
					live[rng.IntN(len(live))] = live[len(live)-1]
					spawn(now) // a process was replaced
				}
				for range 1 + rng.IntN(5) {
					p := live[rng.IntN(len(live))]
					start, end := p.at, p.at+1+rng.Int64N(40_000)
					if rng.IntN(20) == 0 {
						end = start + 400_000 // beyond the staleness
					}
					if rng.IntN(10) == 0 { // a spool from before
						start -= rng.Int64N(4 * 3_600_000)
						end = start + 15_000
					} else {
						p.at = max(end, now-rng.Int64N(60_000))
					}
					p.window++
					push, samples := randomPush(rng, p.service, p.name, p.window, start, end)
					must(t, e.store.Append(t.Context(), push))
					r.add(push, samples, 300_000)
					if rng.IntN(30) == 0 {
						if err := e.store.Append(t.Context(), push); !errors.Is(err, catalog.ErrDuplicate) {
							t.Fatalf("second push: got %v, want ErrDuplicate", err)
						}
					}
				}
				switch rng.IntN(12) {
				case 0:
					must(t, e.store.Compact(t.Context(), true))
				case 1, 2:
					must(t, e.store.Compact(t.Context(), false))
				case 3:
					e.reopen()
				}
				if rng.IntN(40) == 0 {
					r = e.deleteSome(r, rng, now)
				}
				if rng.IntN(60) == 0 {
					for _, p := range e.rebuild().Problems {
						t.Errorf("rebuild: %s: %s", p.Blob, p.What)
					}
				}
				if step%10 == 9 {
					e.verify(r, rng, epoch-4*3_600_000, now+60_000, 6)
				}
			}
			must(t, e.store.Compact(t.Context(), true))
			e.verify(r, rng, epoch-4*3_600_000, now+60_000, 40)
			e.check()
			e.grow(r, rng, now)
		})
	}
}

// deleteSome deletes what a service or an instance has in some range, and returns what is left.
func (e *env) deleteSome(r *reference, rng *rand.Rand, now int64) *reference {
	d := Deletion{Service: []string{"cart", "checkout"}[rng.IntN(2)], From: now - rng.Int64N(4*3_600_000), To: now + 1}
	if rng.IntN(2) == 0 && len(r.all) > 0 {
		d.Service, d.Instance = "", r.all[rng.IntN(len(r.all))].labels.Get(instanceLabel)
	}
	_, err := e.store.Delete(context.Background(), d)
	must(e.t, err)
	e.clock.set(now + 10) // what comes later has a later id
	return r.without(func(service, instance string, at int64) bool {
		return (d.Service == "" || service == d.Service) && (d.Instance == "" || instance == d.Instance) && at >= d.From && at < d.To
	})
}

// grow lets the days pass: raw profiles become minutes and then hours, but for what is pinned.
func (e *env) grow(r *reference, rng *rand.Rand, now int64) {
	e.t.Helper()
	const hour = 3_600_000
	pin := catalog.Pin{Selector: `{service_name="pay"}`, Type: "cpu", Start: windowStart(now, hour) - hour, End: windowStart(now, hour)} // whole windows: what is added up of others is in none of them
	_, err := e.store.Pin(context.Background(), pin)
	must(e.t, err)
	from, to := epoch-4*3_600_000, now+60_000
	for range 9 {
		e.clock.set(e.clock.Now().Add(day).UnixMilli())
		must(e.t, e.store.Compact(context.Background(), false))
		must(e.t, e.store.Clean(context.Background()))
		e.grain = 0
		for _, b := range e.blobs() {
			e.grain = max(e.grain, b.Resolution)
		}
		e.verify(r, rng, from, to, 5)
	}
	if e.grain != 3_600_000 {
		e.t.Errorf("after nine days the coarsest blocks have %d ms, want hours", e.grain)
	}
	e.grain = 0
	q := Query{Type: modelTypes[0], Matchers: equal("service_name", "pay"), From: pin.Start + 1 + rng.Int64N(hour/3), To: pin.End - 1 - rng.Int64N(hour/3)}
	got, err := e.store.Merge(context.Background(), q)
	must(e.t, err)
	if d := difference(byStack(e.t, got), r.merge(q)); d != "" {
		e.t.Errorf("what is pinned is not as it came: %s", d)
	}
	e.check()
}
