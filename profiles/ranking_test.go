package profiles

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// syntheticFleet makes windows of a minute of a fleet of CPU profiles: a fixed set of stacks whose samples are drawn anew for each window, at 100 samples a
// second of CPU, while the number of processes and their load go up and down. slower multiplies the rate of stacks that end in the function.
type syntheticFleet struct {
	symbols *Symbols
	ids     []uint32
	rates   []float64 // samples a process-minute
	leaf    []string
}

func newSyntheticFleet(seed uint64) *syntheticFleet {
	rng := rand.New(rand.NewPCG(seed, 1))
	columns := map[string][]int64{}
	for i := range 120 {
		stack := "main.main"
		for d := range 2 + rng.IntN(6) {
			stack += fmt.Sprintf(";shop.example/p%d.F%d", d, rng.IntN(4+d*3))
		}
		columns[fmt.Sprintf("%s;lib.example/leaf.G%d", stack, i%40)] = []int64{1}
	}
	p := testProfile([]ValueType{{"cpu", "nanoseconds"}}, columns)
	f := &syntheticFleet{symbols: NewSymbols()}
	f.ids = f.symbols.AddProfile(p, nil)
	for _, s := range p.Samples {
		f.rates = append(f.rates, math.Exp(rng.NormFloat64()*1.5))
		l := p.Locations[p.LocationIDs[s.Locations.Lo]]
		f.leaf = append(f.leaf, p.Functions[p.Lines[l.Lines.Lo].Function].Name)
	}
	return f
}

// window returns one window of so many processes.
func (f *syntheticFleet) window(rng *rand.Rand, processes int, slow string, by float64) *Stacks {
	s := &Stacks{Type: Type{"cpu", "cpu", "nanoseconds"}, Symbols: f.symbols, End: 60_000}
	values := map[uint32]int64{}
	load := 0.9 + 0.2*rng.Float64()
	for i, id := range f.ids {
		rate := f.rates[i] * load * float64(processes)
		if f.leaf[i] == slow {
			rate *= by
		}
		values[id] += poisson(rng, rate) * 10e6
	}
	for _, id := range sortedIDs(values) {
		s.IDs, s.Values = append(s.IDs, id), append(s.Values, values[id])
	}
	s.Stats = MergeStats{Profiles: processes, Series: processes, CoveredMs: int64(processes) * 60_000}
	return s
}

func sortedIDs(values map[uint32]int64) []uint32 {
	var ids []uint32
	for id, v := range values {
		if v != 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func poisson(rng *rand.Rand, rate float64) (n int64) {
	for t := rng.ExpFloat64(); t < rate; t += rng.ExpFloat64() {
		n++
	}
	return n
}

func (f *syntheticFleet) rank(t *testing.T, rng *rand.Rand, windows int, value, slow string, by float64) *Ranking {
	t.Helper()
	r := NewRanker(RankOptions{Value: value, Limit: -1})
	for range windows {
		for side, s := range []*Stacks{f.window(rng, 20+rng.IntN(3), "", 1), f.window(rng, 35+rng.IntN(3), slow, by)} {
			factor, err := NormalizeInterval.Factor(Side{Stacks: s})
			if err != nil {
				t.Fatal(err)
			}
			if side == 0 {
				r.AddBase(s, factor)
			} else {
				r.Add(s, factor)
			}
		}
	}
	return r.Ranking()
}

func TestRankingFindsThePlantedRegression(t *testing.T) {
	for seed := range uint64(8) {
		f := newSyntheticFleet(seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		for _, value := range []string{RankSelf, RankTotal} {
			r := f.rank(t, rng, 30, value, "lib.example/leaf.G7", 1.6)
			if top := r.Rows[0]; top.Function != "lib.example/leaf.G7" || top.Q > 0.01 || top.T < 0 || math.Abs(top.Now/top.Base-1.6) > 0.4 {
				t.Errorf("seed %d, %s: first is %+v", seed, value, top)
			}
			if r.Windows != 30 || r.BaseWindows != 30 || r.Note != "" || r.Functions != len(r.Rows) {
				t.Errorf("%d windows, base %d, %d functions, %q", r.Windows, r.BaseWindows, r.Functions, r.Note)
			}
		}
	}
}

// TestRankingOfEqualFleets counts false alarms: of equal fleets no more than one test in twenty may have p < 0.05, and no more than one ranking in twenty anything with q < 0.05.
// The load that all functions of a window share makes the tests of one ranking depend on each other, so the bounds leave room.
func TestRankingOfEqualFleets(t *testing.T) {
	tests, alarms, loud := 0, 0, 0
	const rankings = 40
	for seed := range uint64(rankings) {
		r := newSyntheticFleet(seed).rank(t, rand.New(rand.NewPCG(seed, 3)), 16, RankSelf, "", 1)
		for _, row := range r.Rows {
			if row.Base == 0 && row.Now == 0 {
				continue // never a leaf
			}
			tests++
			if row.P < 0.05 {
				alarms++
			}
		}
		if r.Rows[0].Q < 0.05 {
			loud++
		}
	}
	if share := float64(alarms) / float64(tests); share > 0.06 || share < 0.01 {
		t.Errorf("%d of %d tests of equal fleets (%.3f) have p < 0.05", alarms, tests, share)
	}
	if loud > rankings/10 {
		t.Errorf("%d of %d rankings of equal fleets have something with q < 0.05", loud, rankings)
	}
}

func TestRankingSaysWhereItKnowsLittle(t *testing.T) {
	f := newSyntheticFleet(1)
	rng := rand.New(rand.NewPCG(1, 4))
	one := NewRanker(RankOptions{})
	one.Add(f.window(rng, 3, "", 1), 1)
	one.AddBase(f.window(rng, 3, "", 1), 1)
	if r := one.Ranking(); r.Note == "" || r.Rows[0].P != 1 || r.Rows[0].Log10P != 0 {
		t.Errorf("one window a side: %q, %+v", r.Note, r.Rows[0])
	}
	// Two equal windows a side with one sample of a function that the base has not: by the variance of the windows alone that would be certain.
	few := NewRanker(RankOptions{})
	for range 2 {
		few.Add(testStacks("cpu", map[string]int64{"main.main": 10e6}), 1)
		few.AddBase(&Stacks{Type: Type{"cpu", "cpu", "nanoseconds"}, Symbols: NewSymbols()}, 1)
	}
	if r := few.Ranking(); r.Note == "" || r.Rows[0].P < 0.1 {
		t.Errorf("two windows a side: %q, %+v", r.Note, r.Rows[0])
	}
	if r := NewRanker(RankOptions{}).Ranking(); len(r.Rows) != 0 || r.Rows == nil || r.Note == "" {
		t.Errorf("no windows: %+v", r)
	}
}

// TestRankingCountsAsTopDoes compares the means with NewTop's self and total: with one factor and equal windows they are the same numbers, recursion counted once.
func TestRankingCountsAsTopDoes(t *testing.T) {
	s := testStacks("cpu", before)
	want := map[string][2]int64{}
	for _, row := range NewTop(s, nil, TopOptions{Limit: -1}).Rows {
		want[row.Function] = [2]int64{row.Total, row.Self}
	}
	for i, value := range []string{RankTotal, RankSelf} {
		r := NewRanker(RankOptions{Value: value, Limit: -1})
		r.Add(s, 1)
		r.Add(s, 1)
		r.AddBase(testStacks("cpu", after), 1) // another table of symbols between two windows of the first
		r.Add(s, 1)
		got := r.Ranking()
		for _, row := range got.Rows {
			if w := want[row.Function]; float64(w[i]) != row.Now {
				t.Errorf("%s of %s: %g, want %d", value, row.Function, row.Now, w[i])
			}
		}
		if len(got.Rows) < len(want) {
			t.Errorf("%d functions, want %d at least", len(got.Rows), len(want))
		}
	}
}

func TestRankWindow(t *testing.T) {
	const m = int64(60_000)
	for _, c := range [][3]int64{{15 * m, 15 * m, m}, {60 * m, 60 * m, 2 * m}, {1440 * m, 1440 * m, 60 * m}, {1440 * m, 60 * m, 2 * m}, {30 * 1440 * m, 30 * 1440 * m, 1440 * m}, {m, m, m}} {
		if got := RankWindow(c[0], c[1]); got != c[2] {
			t.Errorf("ranges of %d and %d minutes: windows of %d s, want %d s", c[0]/m, c[1]/m, got/1000, c[2]/1000)
		}
	}
}
