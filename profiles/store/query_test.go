package store

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// fact is one sample of one profile, as a naive store would keep it.
type fact struct {
	labels              labels.Labels
	profile             int // number
	start, end, covered int64
	stack               []string // leaf first
	sample              map[string]string
	value               int64
}

// facts is that store, of one type of profile with one interval and one gauge column.
type facts struct {
	rng *rand.Rand
	all [2][]fact // by column: alloc_space, inuse_space
	n   int
}

// push makes a profile of a random process that starts at start.
func (f *facts) push(service string, instance int, start, end int64) Profile {
	p := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_space", Unit: "bytes"}}, Period: 512 << 10}
	ls := labels.FromStrings(serviceLabel, service, "service_instance_id", strconv.Itoa(instance), "service_version", fmt.Sprintf("v%d", instance%2), "zone", "a")
	f.n++
	covered := min(end-start, 300_000)
	for range f.rng.IntN(30) {
		sample := map[string]string{}
		var sl []profiles.SampleLabel
		if f.rng.IntN(6) == 0 {
			sample["account"] = string(rune('A' + f.rng.IntN(3)))
			sl = append(sl, profiles.SampleLabel{Key: "account", Str: sample["account"]})
		}
		if f.rng.IntN(6) == 0 {
			n := int64(16 << f.rng.IntN(3))
			sample["bytes"] = strconv.FormatInt(n, 10)
			sl = append(sl, profiles.SampleLabel{Key: "bytes", Num: n, Unit: "bytes", Numeric: true})
		}
		if f.rng.IntN(3) == 0 {
			sample["span_id"], sample["trace_id"] = fmt.Sprintf("%016x", f.rng.IntN(9)), fmt.Sprintf("%032x", f.rng.IntN(3))
			sl = append(sl, profiles.SampleLabel{Key: "span_id", Str: sample["span_id"]}, profiles.SampleLabel{Key: "trace_id", Str: sample["trace_id"]})
		}
		lo, at := uint32(len(p.LocationIDs)), uint32(len(p.Labels))
		var stack []string
		for range 1 + f.rng.IntN(2) {
			name := fmt.Sprintf("main.f%d", f.rng.IntN(4))
			stack = append(stack, name)
			p.Functions = append(p.Functions, profiles.Function{Name: name, SystemName: name})
			p.Lines = append(p.Lines, profiles.Line{Function: uint32(len(p.Functions) - 1), Line: 1})
			n := uint32(len(p.Lines))
			p.Locations = append(p.Locations, profiles.Location{Lines: profiles.Span{Lo: n - 1, Hi: n}})
			p.LocationIDs = append(p.LocationIDs, n-1)
		}
		p.Labels = append(p.Labels, sl...)
		p.Samples = append(p.Samples, profiles.Sample{Locations: profiles.Span{Lo: lo, Hi: uint32(len(p.LocationIDs))}, Labels: profiles.Span{Lo: at, Hi: uint32(len(p.Labels))}})
		for c := range f.all {
			v := f.rng.Int64N(1_000_000) * (f.rng.Int64N(3) - 1)
			if f.rng.IntN(50) == 0 {
				v = f.rng.Int64N(1 << 62)
			}
			p.Values = append(p.Values, v)
			f.all[c] = append(f.all[c], fact{ls, f.n, start, end, covered, stack, sample, v})
		}
	}
	return Profile{Labels: ls, Type: "heap", Start: start, End: end, Data: p}
}

// want returns the facts that q selects.
func (f *facts) want(q *Query) (out []fact) {
	column := 0
	if q.Type.Sample == "inuse_space" {
		column = 1
	}
	for _, x := range f.all[column] {
		matches := func(re *regexp.Regexp) bool { return slices.ContainsFunc(x.stack, re.MatchString) }
		keep := x.start >= q.From && x.start < q.To && matchLabels(q.Matchers, x.labels)
		keep = keep && (q.Focus == nil || matches(q.Focus)) && (q.Ignore == nil || !matches(q.Ignore))
		for _, m := range q.Samples {
			keep = keep && m.Matches(x.sample[m.Name])
		}
		if keep {
			out = append(out, x)
		}
	}
	return out
}

// sums adds up facts by a key, those of a gauge times the time they stand for.
func sums(fs []fact, gauge bool, key func(x *fact) string) map[string]*big.Int {
	out := map[string]*big.Int{}
	for i := range fs {
		x := &fs[i]
		v := big.NewInt(x.value)
		if gauge {
			v.Mul(v, big.NewInt(x.covered))
		}
		k := key(x)
		if out[k] == nil {
			out[k] = new(big.Int)
		}
		out[k].Add(out[k], v)
	}
	return out
}

// means divides sums of a gauge by width, and leaves out what is 0.
func means(sums map[string]*big.Int, gauge bool, width int64) map[string]int64 {
	out := map[string]int64{}
	for k, v := range sums {
		i := int128{Lo: new(big.Int).And(v, new(big.Int).SetUint64(1<<64-1)).Uint64(), Hi: new(big.Int).Rsh(v, 64).Int64()}
		n, _ := i.Int64()
		if gauge {
			n, _ = i.DivRound(width)
		}
		if n != 0 {
			out[k] = n
		}
	}
	return out
}

// stackKey is a stack with its labels but those of spans.
func stackKey(stack []string, sample map[string]string) string {
	return strings.Join(stack, ";") + "|" + sample["account"] + "|" + sample["bytes"]
}

func stacksOf(r *profiles.Stacks) map[string]int64 {
	out := map[string]int64{}
	s := r.Symbols
	for i, id := range r.IDs {
		var stack []string
		for n := s.Stacks[id].Node; n != 0; n = s.Nodes[n].Parent {
			stack = append(stack, s.Strings[s.Functions[s.Lines[s.Locations[s.Nodes[n].Location].Lines.Lo].Function].Name])
		}
		set := s.LabelSets[s.Stacks[id].LabelSet]
		out[stackKey(stack, map[string]string{"account": sampleLabel(s, set, "account"), "bytes": sampleLabel(s, set, "bytes")})] += r.Values[i]
	}
	return out
}

// randomQuery selects at random.
func (f *facts) randomQuery(from, to int64) Query {
	pick := func(n int) bool { return f.rng.IntN(n) == 0 }
	a, b := from+f.rng.Int64N(to-from), from+f.rng.Int64N(to-from)
	if pick(2) {
		size := []int64{60_000, 600_000, 3_600_000}[f.rng.IntN(3)]
		a, b = windowStart(a, size), windowStart(b, size)
	}
	q := Query{Type: profiles.Type{Profile: "heap", Sample: []string{"alloc_space", "inuse_space"}[f.rng.IntN(2)]}, From: min(a, b), To: max(a, b) + 1}
	match := func(t labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(t, name, value)
	}
	if pick(2) {
		q.Matchers = append(q.Matchers, match(labels.MatchEqual, serviceLabel, "cart"))
	}
	if pick(3) {
		q.Matchers = append(q.Matchers, match(labels.MatchNotEqual, "service_version", "v0"))
	}
	if pick(4) {
		q.Matchers = append(q.Matchers, match(labels.MatchRegexp, "service_instance_id", "1|2|5"))
	}
	if pick(6) {
		q.Matchers = append(q.Matchers, match(labels.MatchNotEqual, "service_instance_id", "nobody"))
	}
	if pick(3) {
		q.Samples = append(q.Samples, match(labels.MatchRegexp, "account", []string{"A|B", "", "C"}[f.rng.IntN(3)]))
	}
	if pick(4) {
		q.Samples = append(q.Samples, match(labels.MatchEqual, "bytes", "32"))
	}
	if pick(4) {
		q.Samples = append(q.Samples, match(labels.MatchEqual, "trace_id", fmt.Sprintf("%032x", f.rng.IntN(4))))
	}
	if pick(6) {
		q.Samples = append(q.Samples, match(labels.MatchRegexp, "span_id", "0.*[0-4]"))
	}
	if pick(3) {
		q.Focus = regexp.MustCompile("f[12]$")
	}
	if pick(3) {
		q.Ignore = regexp.MustCompile("^main.f3$")
	}
	return q
}

// TestQueries compares merges, series and windows of random selections with a naive store, over segments, blocks and blocks of blocks, in all ways to use rollups.
func TestQueries(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	f := &facts{rng: rng}
	e := newEnv(t, nil)
	from, to := epoch, epoch+5*3_600_000
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for at := from; at < to; at += 1_800_000 {
		for i := range 7 {
			service := []string{"cart", "shop"}[i%2]
			var ps []Profile
			for s := at + int64(i)*1000; s < at+1_800_000; {
				end := s + 5000 + rng.Int64N(20_000)
				ps = append(ps, f.push(service, i, s, end))
				s = end
			}
			must(t, e.store.Append(t.Context(), Push{Profiles: ps}))
		}
		e.clock.set(at + 1_800_000)
		if at%3_600_000 == 0 {
			must(t, e.store.Compact(t.Context(), false))
		}
	}
	f.compare(t, e.store, from, to, rounds)
	settle(t, e, to)
	samples := f.compare(t, e.store, from, to, rounds)
	if samples[sumsAuto]*4 > samples[sumsNever]*3 || samples[sumsAlways]*10 > samples[sumsNever]*9 {
		t.Errorf("%d values added up, %d without rollups, %d with their smallest windows: rollups are hardly used", samples[sumsAuto], samples[sumsNever], samples[sumsAlways])
	}
	for _, resolution := range []int64{60_000, 3_600_000} {
		blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
		must(t, err)
		for _, service := range []string{"cart", "shop"} {
			of := slices.DeleteFunc(slices.Clone(blocks), func(b catalog.Block) bool { return b.Datasets[0].Service != service })
			must(t, e.store.cleaning(t.Context(), func(ctx context.Context) error { return e.store.downsample(ctx, of, resolution, 240*time.Hour) }))
		}
		f.coarsen(resolution)
		f.compare(t, e.store, from, to, rounds)
	}
}

// coarsen leaves of the facts what sums by window tell: when the window started, and nothing of spans.
func (f *facts) coarsen(resolution int64) {
	for _, all := range f.all {
		for i := range all {
			x := &all[i]
			x.start = windowStart(x.start, resolution)
			x.sample = maps.Clone(x.sample)
			delete(x.sample, "span_id")
			delete(x.sample, "trace_id")
		}
	}
}

// compare returns the values that merges added up.
func (f *facts) compare(t *testing.T, s *Store, from, to int64, rounds int) map[sumUse]int {
	t.Helper()
	samples := map[sumUse]int{}
	for range rounds {
		q := f.randomQuery(from, to)
		want := f.want(&q)
		gauge := q.Type.Kind() == profiles.Gauge
		for _, use := range []sumUse{sumsAuto, sumsNever, sumsAlways} {
			s.sumUse = use
			what := fmt.Sprintf("%s %v %v focus %v ignore %v [%d, %d) sums %d", q.Type, q.Matchers, q.Samples, q.Focus, q.Ignore, q.From-epoch, q.To-epoch, use)
			r, err := s.Merge(t.Context(), q)
			must(t, err)
			if got, want := stacksOf(r), means(sums(want, gauge, func(x *fact) string { return stackKey(x.stack, x.sample) }), gauge, q.To-q.From); !maps.Equal(got, want) {
				t.Fatalf("merge of %s: %s", what, difference(got, want))
			}
			samples[use] += r.Stats.Samples
			f.compareSeries(t, s, q, what, want, gauge)
			f.compareWindows(t, s, q, what, want, gauge)
		}
	}
	s.sumUse = sumsAuto
	return samples
}

func (f *facts) compareSeries(t *testing.T, s *Store, q Query, what string, want []fact, gauge bool) {
	t.Helper()
	by := [][]string{nil, {"service_version"}, {"service_instance_id"}, {"sample.account", serviceLabel}, {"sample.bytes"}}[f.rng.IntN(5)]
	step := []int64{60_000, 600_000, 90_000, q.To - q.From, 3_600_000}[f.rng.IntN(5)]
	n := max(1, (q.To-q.From)/step)
	got, err := s.Series(t.Context(), SeriesQuery{Query: q, Step: step, By: by})
	must(t, err)
	group := func(x *fact) string {
		b := labels.NewBuilder(labels.EmptyLabels())
		for _, name := range by {
			if sample, ok := strings.CutPrefix(name, samplePrefix); ok {
				b.Set(name, x.sample[sample])
			} else {
				b.Set(name, x.labels.Get(name))
			}
		}
		return b.Labels().String()
	}
	points := sums(want, gauge, func(x *fact) string { return fmt.Sprint(group(x), (x.start-q.From)/step) })
	totals := sums(want, gauge, group)
	for _, g := range got {
		key := g.Labels.String()
		float := func(v *big.Int, width int64) float64 {
			if v == nil {
				return 0
			}
			out, _ := new(big.Float).SetInt(v).Float64()
			if gauge {
				out /= float64(width)
			}
			return out
		}
		near := func(a, b float64) bool { return a == b || (a-b)/b < 1e-9 && (b-a)/b < 1e-9 }
		if w := float(totals[key], q.To-q.From); !near(g.Total, w) {
			t.Fatalf("series of %s by %v step %d: %s has total %f, want %f", what, by, step, key, g.Total, w)
		}
		delete(totals, key)
		for i, v := range g.Values {
			if w := float(points[fmt.Sprint(key, i)], min(step, q.To-q.From)); !near(v, w) {
				t.Fatalf("series of %s by %v step %d: %s is %f at %d of %d, want %f", what, by, step, key, v, i, n, w)
			}
		}
	}
	for key, v := range totals {
		if v.Sign() != 0 {
			t.Fatalf("series of %s by %v step %d: no %s of %v", what, by, step, key, v)
		}
	}
}

func (f *facts) compareWindows(t *testing.T, s *Store, q Query, what string, want []fact, gauge bool) {
	t.Helper()
	width := []int64{60_000, 600_000, 420_000}[f.rng.IntN(3)]
	next := windowStart(q.From, width)
	err := s.EachWindow(t.Context(), q, width, func(w Window) error {
		if w.Start != next {
			return fmt.Errorf("window at %d, want %d", w.Start, next)
		}
		next += width
		lo, hi := max(w.Start, q.From), min(w.Start+width, q.To)
		var in []fact
		for _, x := range want {
			if x.start >= lo && x.start < hi {
				in = append(in, x)
			}
		}
		wanted := means(sums(in, gauge, func(x *fact) string { return stackKey(x.stack, x.sample) }), gauge, hi-lo)
		if got := stacksOf(w.Stacks); !maps.Equal(got, wanted) {
			return fmt.Errorf("window at %d: %s", w.Start, difference(got, wanted))
		}
		return nil
	})
	if err != nil || next < q.To {
		t.Fatalf("windows of %d of %s: ended at %d: %v", width, what, next, err)
	}
}
