package profiles

import (
	"math"
	"slices"
)

// Accumulator adds up values per stack id in 128 bits: a heap of 100 GB held for a day is 8.6e18 byte-milliseconds, nearly all that 63
// bits hold, and a fleet has many. Sums are exact, so they do not depend on the order in which parts come. The zero value is ready. Not safe for concurrent use.
type Accumulator struct{ sums []Int128 }

// Grow makes room for the ids below n, so that adding to them allocates nothing.
func (a *Accumulator) Grow(n int) {
	if more := n - len(a.sums); more > 0 {
		a.sums = append(a.sums, make([]Int128, more)...)
	}
}

// Add adds v to the sum of id.
func (a *Accumulator) Add(id uint32, v int64) { a.AddWide(id, Int128From(v)) }

// AddWeighted adds v × ms to the sum of id.
func (a *Accumulator) AddWeighted(id uint32, v, ms int64) { a.AddWide(id, Mul128(v, ms)) }

// AddWide adds v to the sum of id.
func (a *Accumulator) AddWide(id uint32, v Int128) {
	if int(id) >= len(a.sums) {
		a.Grow(max(int(id)+1, 2*len(a.sums)))
	}
	a.sums[id] = a.sums[id].Add(v)
}

// Value returns the sum of id divided by div (> 0), rounded half away from zero. Where that is no int64 it is cut to the nearest, and saturated is true.
func (a *Accumulator) Value(id uint32, div int64) (v int64, saturated bool) {
	if int(id) >= len(a.sums) {
		return 0, false
	}
	return a.sums[id].DivRound(div)
}

func saturate(negative bool) int64 {
	if negative {
		return math.MinInt64
	}
	return math.MaxInt64
}

// addSaturated returns a + b, cut to what an int64 holds.
func addSaturated(a, b int64) int64 {
	if s := a + b; (s > a) == (b > 0) {
		return s
	}
	return saturate(a < 0)
}

// Stacks returns the sums as the result of a merge of type t over [start, end) Unix ms: those of an interval type as they are, those
// of a gauge, which were added with AddWeighted in milliseconds, divided by the range. Sums of 0 are left out.
func (a *Accumulator) Stacks(t Type, s *Symbols, start, end int64) *Stacks {
	div := int64(1)
	if t.Kind() == Gauge {
		div = max(end-start, 1)
	}
	n := min(len(a.sums), len(s.Stacks))
	out := &Stacks{Type: t, Symbols: s, Start: start, End: end}
	for id := range uint32(n) {
		v, cut := a.sums[id].DivRound(div)
		out.Stats.Saturated = out.Stats.Saturated || cut
		if v != 0 {
			out.IDs, out.Values = append(out.IDs, id), append(out.Values, v)
		}
	}
	out.IDs, out.Values = slices.Clip(out.IDs), slices.Clip(out.Values)
	return out
}
