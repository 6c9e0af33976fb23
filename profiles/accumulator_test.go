package profiles

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestAccumulatorIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	edges := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, 1 << 32, -1 << 40, 12345}
	pick := func() int64 {
		if r.IntN(2) == 0 {
			return edges[r.IntN(len(edges))]
		}
		return int64(r.Uint64()) >> r.IntN(64)
	}
	for range 2000 {
		var a Accumulator
		want := new(big.Int)
		for range r.IntN(6) {
			v, w := pick(), pick()
			switch r.IntN(3) {
			case 0:
				a.Add(3, v)
				want.Add(want, big.NewInt(v))
			case 1:
				a.AddWeighted(3, v, w>>1)
				want.Add(want, new(big.Int).Mul(big.NewInt(v), big.NewInt(w>>1)))
			case 2:
				a.AddWide(3, Int128{Hi: v >> 8, Lo: uint64(w)})
				wide := new(big.Int).Lsh(big.NewInt(v>>8), 64)
				want.Add(want, wide.Add(wide, new(big.Int).SetUint64(uint64(w))))
			}
		}
		div := max(1, pick()&math.MaxInt64)
		got, saturated := a.Value(3, div)
		exp, cut := roundedQuotient(want, div)
		if got != exp || saturated != cut {
			t.Fatalf("%v / %d = %d (saturated %v), want %d (%v)", want, div, got, saturated, exp, cut)
		}
	}
}

// roundedQuotient is the specification: n / div, half away from zero, cut to an int64.
func roundedQuotient(n *big.Int, div int64) (int64, bool) {
	twice := new(big.Int).Lsh(new(big.Int).Abs(n), 1)
	twice.Add(twice, big.NewInt(div))
	q := twice.Quo(twice, new(big.Int).Lsh(big.NewInt(div), 1))
	if n.Sign() < 0 {
		q.Neg(q)
	}
	if q.IsInt64() {
		return q.Int64(), false
	}
	if q.Sign() < 0 {
		return math.MinInt64, true
	}
	return math.MaxInt64, true
}

// profileOf is a profile of type typ with one sample per stack, written as "root;leaf" with the values of its columns.
func profileOf(t *testing.T, types []ValueType, stacks map[string][]int64, period int64) *Profile {
	t.Helper()
	p := testProfile(types, stacks)
	p.Period = period
	return p
}

func TestBuilderAddsIntervalsAndIntegratesGauges(t *testing.T) {
	cpu := []ValueType{{"samples", "count"}, {"cpu", "nanoseconds"}}
	b := NewBuilder(Type{Profile: "cpu", Sample: "cpu"}, 0, 20_000)
	for range 2 {
		if err := b.Add(profileOf(t, cpu, map[string][]int64{"main.main;main.work": {3, 30}, "main.main": {1, 10}}, 10), 1, 10_000); err != nil {
			t.Fatal(err)
		}
	}
	s := b.Stacks()
	if got := flatValues(s); len(got) != 2 || got["main.main;main.work"] != 60 || got["main.main"] != 20 {
		t.Errorf("two intervals: %v", got)
	}
	if s.Type.Unit != "nanoseconds" || s.Stats != (MergeStats{Profiles: 2, Samples: 4, CoveredMs: 20_000, Period: 10}) || s.Total() != 80 {
		t.Errorf("type %+v, stats %+v, total %d", s.Type, s.Stats, s.Total())
	}

	// A heap of 100 GB held for 10 s of a range of 20 s is 50 GB on the mean; the two processes that ran one after the other are one heap.
	heap := []ValueType{{"inuse_space", "bytes"}}
	const gb = 100e9
	b = NewBuilder(Type{Profile: "heap", Sample: "inuse_space"}, 0, 40_000_000)
	for _, ms := range []int64{10_000_000, 10_000_000, 0} {
		if err := b.Add(profileOf(t, heap, map[string][]int64{"main.leak": {gb}}, 0), 0, ms); err != nil {
			t.Fatal(err)
		}
	}
	if got := flatValues(b.Stacks()); got["main.leak"] != gb/2 {
		t.Errorf("mean heap: %v", got)
	}
}

func TestBuilderRefusesAColumnThatIsNotThere(t *testing.T) {
	p := profileOf(t, []ValueType{{"a", "count"}}, map[string][]int64{"f": {1}}, 0)
	b := NewBuilder(Type{Profile: "a", Sample: "b"}, 0, 1)
	if err := b.Add(p, p.Column("b"), 1); err == nil {
		t.Error("column -1 is accepted")
	}
	if err := b.Add(p, 0, -1); err == nil {
		t.Error("a negative duration is accepted")
	}
}
