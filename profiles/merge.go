package profiles

import "fmt"

// Column returns the column of p whose sample type is sample, -1 where there is none.
func (p *Profile) Column(sample string) int {
	for i, t := range p.SampleTypes {
		if t.Type == sample {
			return i
		}
	}
	return -1
}

// Builder merges profiles that are at hand (files, captures) into Stacks: what the store does for what it holds. Intervals add up,
// gauges are integrated over the time each stands for. Not safe for concurrent use.
type Builder struct {
	typ        Type
	start, end int64
	symbols    *Symbols
	acc        Accumulator
	ids        []uint32
	stats      MergeStats
}

// NewBuilder returns a Builder for type t over the range [start, end) Unix ms, by which a gauge is divided. The range of an interval type only describes.
func NewBuilder(t Type, start, end int64) *Builder {
	return &Builder{typ: t, start: start, end: end, symbols: NewSymbols()}
}

// Add adds column of p. ms is the time that p stands for, in milliseconds (≥ 0): the weight of a gauge, and what MergeStats.CoveredMs counts. p may be reused.
func (b *Builder) Add(p *Profile, column int, ms int64) error {
	if column < 0 || column >= p.Columns() {
		return fmt.Errorf("merge profile: no column %d, there are %d", column, p.Columns())
	}
	if ms < 0 {
		return fmt.Errorf("merge profile: negative duration of %d ms", ms)
	}
	b.ids = b.symbols.AddProfile(p, b.ids)
	gauge := b.typ.Kind() == Gauge
	n := p.Columns()
	for i, id := range b.ids {
		v := p.Values[i*n+column]
		if v == 0 {
			continue
		}
		if gauge {
			b.acc.AddWeighted(id, v, ms)
		} else {
			b.acc.Add(id, v)
		}
		b.stats.Samples++
	}
	if b.typ.Unit == "" {
		b.typ.Unit = p.SampleTypes[column].Unit
	}
	b.stats.Profiles++
	b.stats.CoveredMs += ms
	if p.Period != 0 {
		b.stats.Period = p.Period
	}
	return nil
}

// Stacks returns what was added so far. The result shares its symbols with the Builder: nothing may be added while it is in use.
func (b *Builder) Stacks() *Stacks {
	s := b.acc.Stacks(b.typ, b.symbols, b.start, b.end)
	saturated := s.Stats.Saturated
	s.Stats = b.stats
	s.Stats.Saturated = saturated
	return s
}

// Total returns the sum of all values, cut to what an int64 holds.
func (s *Stacks) Total() int64 {
	var acc Accumulator
	for _, v := range s.Values {
		acc.Add(0, v)
	}
	v, _ := acc.Value(0, 1)
	return v
}
