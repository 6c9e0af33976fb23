package profiles

import (
	"math"
	"math/bits"
	"slices"
)

// Accumulator adds up values per stack id in 128 bits: a heap of 100 GB held for a day is 8.6e18 byte-milliseconds, nearly all that 63
// bits hold, and a fleet has many. Sums are exact, so they do not depend on the order in which parts come. The zero value is ready. Not safe for concurrent use.
type Accumulator struct {
	lo []uint64
	hi []int64 // two's complement, with lo
}

// Grow makes room for the ids below n, so that adding to them allocates nothing.
func (a *Accumulator) Grow(n int) {
	if more := n - len(a.lo); more > 0 {
		a.lo = append(a.lo, make([]uint64, more)...)
		a.hi = append(a.hi, make([]int64, more)...)
	}
}

// Add adds v to the sum of id.
func (a *Accumulator) Add(id uint32, v int64) { a.AddWide(id, v>>63, uint64(v)) }

// AddWeighted adds v × ms to the sum of id.
func (a *Accumulator) AddWeighted(id uint32, v, ms int64) {
	hi, lo := bits.Mul64(uint64(v), uint64(ms))
	a.AddWide(id, int64(hi)-(v>>63)&ms-(ms>>63)&v, lo)
}

// AddWide adds the 128-bit number hi × 2^64 + lo to the sum of id.
func (a *Accumulator) AddWide(id uint32, hi int64, lo uint64) {
	if int(id) >= len(a.lo) {
		a.Grow(max(int(id)+1, 2*len(a.lo)))
	}
	sum, carry := bits.Add64(a.lo[id], lo, 0)
	a.lo[id] = sum
	a.hi[id] += hi + int64(carry)
}

// Wide returns the sum of id as hi × 2^64 + lo.
func (a *Accumulator) Wide(id uint32) (hi int64, lo uint64) {
	if int(id) >= len(a.lo) {
		return 0, 0
	}
	return a.hi[id], a.lo[id]
}

// Value returns the sum of id divided by div (> 0), rounded half away from zero. Where that is no int64 it is cut to the nearest, and saturated is true.
func (a *Accumulator) Value(id uint32, div int64) (v int64, saturated bool) {
	hi, lo := a.Wide(id)
	return divideWide(hi, lo, div)
}

func divideWide(hi int64, lo uint64, div int64) (int64, bool) {
	negative := hi < 0
	h, l := uint64(hi), lo
	if negative {
		var borrow uint64
		l, borrow = bits.Sub64(0, l, 0)
		h = -h - borrow
	}
	d := uint64(div)
	if h >= d {
		return saturate(negative), true
	}
	q, r := bits.Div64(h, l, d)
	if r >= d-r {
		if q++; q == 0 {
			return saturate(negative), true
		}
	}
	switch {
	case !negative && q <= math.MaxInt64:
		return int64(q), false
	case negative && q <= 1<<63:
		return -int64(q), false
	}
	return saturate(negative), true
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
	n := min(len(a.lo), len(s.Stacks))
	out := &Stacks{Type: t, Symbols: s, Start: start, End: end}
	for id := range uint32(n) {
		if a.lo[id] == 0 && a.hi[id] == 0 {
			continue
		}
		v, cut := divideWide(a.hi[id], a.lo[id], div)
		out.Stats.Saturated = out.Stats.Saturated || cut
		if v != 0 {
			out.IDs, out.Values = append(out.IDs, id), append(out.Values, v)
		}
	}
	out.IDs, out.Values = slices.Clip(out.IDs), slices.Clip(out.Values)
	return out
}
