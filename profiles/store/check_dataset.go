package store

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// dataset verifies the dataset of one service. What cannot be read ends it, or the series at hand.
func (c *checker) dataset(ctx context.Context, service string) {
	ds, err := c.f.dataset(service)
	if err != nil {
		c.report("%v", err)
		return
	}
	stacks := 0
	if syms, err := c.f.loadSymbols(ds); err != nil {
		c.report("%v", err)
	} else {
		stacks = len(syms.Stacks)
	}
	got := catalog.Dataset{Service: service, MinStart: math.MaxInt64, MaxStart: math.MinInt64, MaxEnd: math.MinInt64}
	var prev *series
	for i := range ds.series {
		si := &ds.series[i]
		got.MinStart, got.MaxStart, got.MaxEnd = min(got.MinStart, si.minStart), max(got.MaxStart, si.maxStart), max(got.MaxEnd, si.maxEnd)
		got.Profiles += int64(si.profiles)
		got.Types = append(got.Types, si.Type)
		this := &series{labels: si.Labels, typ: si.Type, columns: si.Columns}
		if prev != nil && compareSeries(prev, this) >= 0 {
			c.report("dataset %s: series index: series %d is not after the one before it", service, i)
		}
		prev = this
		if si.Labels.Get(serviceLabel) != service {
			c.report("dataset %s: series index: series %d is of service %q", service, i, si.Labels.Get(serviceLabel))
		}
		if stacks > 0 {
			if err := c.series(ctx, si, stacks); err != nil {
				c.report("dataset %s: series %s %s: %v", service, si.Labels, si.Type, err)
			}
		}
	}
	slices.Sort(got.Types)
	got.Types = slices.Compact(got.Types)
	if w := ds.info.Dataset; got.MinStart != w.MinStart || got.MaxStart != w.MaxStart || got.MaxEnd != w.MaxEnd || got.Profiles != w.Profiles || !slices.Equal(got.Types, w.Types) {
		c.report("dataset %s: series index: it amounts to %+v, the footer says %+v", service, got, w)
	}
}

// series verifies a series' head, chunks and sums against each other.
func (c *checker) series(ctx context.Context, si *seriesInfo, stacks int) error {
	heads, err := c.f.readHeads(ctx, []selected{{info: si}}, true)
	if err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	h := heads[0]
	if n := h.len(); n == 0 || h.start[0] != si.minStart || h.start[n-1] != si.maxStart || slices.Max(h.end) != si.maxEnd {
		return fmt.Errorf("heads: times do not match the series index")
	}
	groups := groupsOf(si.Columns)
	for k, cols := range groups {
		if len(cols) == 0 {
			continue
		}
		ps, err := c.chunks(si, k, stacks)
		if err != nil {
			return fmt.Errorf("chunks: %w", err)
		}
		for i, p := range ps {
			if !slices.IsSortedFunc(p.stacks, func(a, b uint32) int { return int(int64(a) - int64(b)) }) {
				return fmt.Errorf("chunks: stacks of profile %d are not in order", i)
			}
			for n, col := range cols {
				var t int128
				for _, v := range p.values[n*len(p.stacks) : (n+1)*len(p.stacks)] {
					t = t.Add(profiles.Int128From(v))
				}
				if t != h.totals[col][i] {
					return fmt.Errorf("heads: total of profile %d, column %d does not match its values", i, col)
				}
			}
		}
		for i, sum := range si.sums {
			if sum == nil {
				continue
			}
			if err := c.sums(sum, sumSizes[i], h, ps, profiles.Kind(k), len(cols), stacks); err != nil {
				return fmt.Errorf("sums of %d ms: %w", sumSizes[i], err)
			}
		}
	}
	return nil
}

// chunks decodes all profiles of one group.
func (c *checker) chunks(si *seriesInfo, kind, stacks int) ([]rows[int64], error) {
	var r chunkReader
	var out []rows[int64]
	for i := range si.chunks {
		g := &si.chunks[i].groups[kind]
		if g.rows == 0 {
			out = append(out, make([]rows[int64], si.chunks[i].profiles)...)
			continue
		}
		b, err := c.f.bytes(g.span(len(g.columns) - 1))
		if err == nil {
			err = r.open(g, b, si.chunks[i].profiles, stacks)
		}
		columns := make([][]int64, len(g.columns))
		for j := range columns {
			if err == nil {
				columns[j], err = r.decodeValues(g, b, j, nil)
			}
		}
		if err != nil {
			return nil, err
		}
		out = r.stacks.profileMajor(columns, si.chunks[i].profiles, nil, out)
	}
	return out, nil
}

// sums adds up a group's rows anew and compares.
func (c *checker) sums(sum *sumInfo, size int64, h *head, ps []rows[int64], kind profiles.Kind, columns, stacks int) error {
	w := windowsOf(h, size)
	if w.len() != sum.windows {
		return fmt.Errorf("there are %d windows, %d follow from the heads", sum.windows, w.len())
	}
	var s summer
	want := s.sum(w, h, ps, kind, columns)
	var t transposer
	transpose(&t, want)
	g := &sum.groups[kind]
	if g.rows != len(t.profile) {
		return fmt.Errorf("there are %d rows, %d follow from the chunks", g.rows, len(t.profile))
	}
	if g.rows == 0 {
		return nil
	}
	b, err := c.f.bytes(g.span(len(g.columns) - 1))
	var r chunkReader
	if err == nil {
		err = r.open(g, b, sum.windows, stacks)
	}
	if err != nil {
		return err
	}
	if !slices.Equal(r.stacks.stacks, t.stacks) || !slices.Equal(r.stacks.counts, t.counts) || !slices.Equal(r.stacks.profile, t.profile) {
		return fmt.Errorf("stacks do not match the chunks")
	}
	var expect []int128
	for i := range columns {
		if err := r.decodeSums(g, b, i, w.covered); err != nil {
			return err
		}
		expect = gather(&t, want, i, expect)
		if !slices.Equal(r.sums, expect) {
			return fmt.Errorf("column %d does not match the chunks", i)
		}
	}
	return nil
}
