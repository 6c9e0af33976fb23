package profiles

import (
	"slices"
	"strings"
	"testing"
)

// TestFactors normalizes two processes' worth of values by hand.
func TestFactors(t *testing.T) {
	stacks := func(id, unit string, value int64, stats MergeStats) *Stacks {
		s := testStacks(id, map[string]int64{"main.main": value}) // over 10 s
		s.Type.Unit, s.Stats = unit, stats
		return s
	}
	// Two processes that were profiled for 10 s each, using half a core each while they were.
	two := MergeStats{Profiles: 2, Series: 2, CoveredMs: 20_000}
	// The same processes, scraped: CPU profiles of 1 s each.
	scraped := stacks("cpu", "nanoseconds", 1e9, MergeStats{Profiles: 2, Series: 2, CoveredMs: 2_000})
	allocs, heap := stacks("heap:alloc_space", "bytes", 4000, two), stacks("heap:inuse_space", "bytes", 4000, two)
	for _, c := range []struct {
		n    Normalization
		s    *Stacks
		want float64 // of the value 4000
		per  string
	}{
		{NormalizeNone, allocs, 4000, ""},
		{NormalizeShare, allocs, 1, "of the side's total"},
		{NormalizeInterval, allocs, 200, "per second of process time"},
		{NormalizeInstance, allocs, 2000, "per process that was seen"},
		{NormalizeCPU, allocs, 400, "per second of CPU"}, // 20 s of process time at half a core are 10 s of CPU
		{NormalizeInterval, heap, 2000, "per process"},   // a mean of 4000 of two processes
		{NormalizeInstance, heap, 2000, "per process"},
		{NormalizeCPU, heap, 4000, "per core in use"}, // together they use one core
	} {
		f, err := c.n.Factor(Side{Stacks: c.s, CPU: scraped})
		if got := f * 4000; err != nil || !near(got, c.want, 1e-12) {
			t.Errorf("%s of %s: %g, %v, want %g", c.n, c.s.Type, got, err, c.want)
		}
		if got := c.n.Per(c.s.Type); got != c.per {
			t.Errorf("%s of %s is %q, want %q", c.n, c.s.Type, got, c.per)
		}
	}
}

func TestScale(t *testing.T) {
	side := func(value, covered int64) Side {
		s := testStacks("cpu", map[string]int64{"main.main": value})
		s.Stats = MergeStats{Profiles: 1, Series: 1, CoveredMs: covered}
		return Side{Stacks: s}
	}
	empty := Side{Stacks: &Stacks{Type: Type{Profile: "cpu", Sample: "cpu"}}}
	if s := NewScale(NormalizeInterval, side(5, 1000), side(5, 4000)); s.Now != 1 || s.Base != 0.25 || s.Missing != "" || s.Per == "" {
		t.Errorf("%+v", s)
	}
	// A side without anything says nothing about the scale.
	if s := NewScale(NormalizeInterval, side(5, 2000), empty); s.Now != 0.5 || s.Base != 0.5 || s.Missing != "" {
		t.Errorf("%+v", s)
	}
	if s := NewScale(NormalizeShare, empty, empty); s.Now != 1 || s.Base != 1 || s.Missing != "" {
		t.Errorf("%+v", s)
	}
	// What is not there is named, and nothing is scaled by half of what is needed.
	if s := NewScale(NormalizeInterval, side(5, 2000), side(5, 0)); s.Now != 1 || s.Base != 1 || s.Normalize != NormalizeNone || !strings.HasPrefix(s.Missing, "base: ") {
		t.Errorf("%+v", s)
	}
	if s := NewScale(NormalizeCPU, side(5, 2000), side(5, 2000)); !strings.Contains(s.Missing, "range: normalize per CPU second: there is no CPU profile") || !strings.Contains(s.Missing, "; base: ") {
		t.Errorf("%+v", s)
	}
}

func TestParseNormalization(t *testing.T) {
	for _, n := range Normalizations {
		if got, err := ParseNormalization(string(n)); err != nil || got != n {
			t.Errorf("%s: %s, %v", n, got, err)
		}
	}
	if _, err := ParseNormalization("rate"); err == nil {
		t.Error("rate is none")
	}
}

// TestScaleChoosesWhatIsLarge compares a range with a base of ten times the time: what is large in the base only for that is not what a capped view keeps.
func TestScaleChoosesWhatIsLarge(t *testing.T) {
	now := testStacks("cpu", map[string]int64{"main.small": 10, "main.new": 30})
	base := testStacks("cpu", map[string]int64{"main.small": 100, "main.new": 1})
	scale := &Scale{Normalize: NormalizeInterval, Now: 1, Base: 0.1}
	for _, c := range []struct {
		scale *Scale
		want  string
	}{{nil, "main.small"}, {scale, "main.new"}} {
		if top := NewTop(now, base, TopOptions{Limit: 1, Scale: c.scale}); top.Rows[0].Function != c.want || top.Scale != c.scale || *top.BaseTotal != 101 {
			t.Errorf("top with %v: %+v", c.scale, top)
		}
		f := NewFlame(now, base, FlameOptions{MaxNodes: 3, Scale: c.scale})
		if !slices.Contains(f.Names, c.want) || f.Scale != c.scale || f.Nodes != 3 {
			t.Errorf("flame with %v: %q", c.scale, f.Names)
		}
	}
	if got := baseRatio(10).of(1 << 62); got != 1<<63-1 {
		t.Errorf("%d", got)
	}
}
