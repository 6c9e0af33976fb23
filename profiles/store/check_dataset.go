package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

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
		if prev != nil && compareSeries(prev, this, ds.info.version) >= 0 {
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
	if stacks > 0 {
		for i := range ds.rollups {
			if err := c.rollup(ds, &ds.rollups[i], stacks); err != nil {
				c.report("dataset %s: rollups: rollup %d: %v", service, i, err)
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
	if si.sums != nil {
		return c.summed(si, stacks)
	}
	heads, err := c.f.readHeads(ctx, []selected{{info: si}}, true)
	if err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	h := heads[0]
	if n := h.len(); n == 0 || h.start[0] != si.minStart || h.start[n-1] != si.maxStart || slices.Max(h.end) != si.maxEnd {
		return fmt.Errorf("heads: times do not match the series index")
	}
	if err := c.spans(si, stacks); err != nil {
		return err
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
		for _, sum := range si.sums1 {
			if sum == nil {
				continue
			}
			if err := c.sums(sum, h, ps, profiles.Kind(k), len(cols), stacks); err != nil {
				return fmt.Errorf("sums of %d ms: %w", sum.size, err)
			}
		}
	}
	return nil
}

// summed verifies the sums of a series of a downsampled block against their heads.
func (c *checker) summed(si *seriesInfo, stacks int) error {
	u := newRollup(rollupInfo{Columns: si.Columns})
	var reader chunkReader
	if err := c.f.addSums(&reader, u, si.sums.size, si.sums, si.Columns, stacks, nil, nil); err != nil {
		return fmt.Errorf("sums: %w", err)
	}
	l := u.finest(si.sums.size)
	n, end := int64(0), int64(math.MinInt64)
	for i := range l.head.start {
		n, end = n+l.head.profiles[i], max(end, l.head.last[i])
	}
	if k := l.head.len(); k == 0 || l.head.start[0] != si.minStart || l.head.start[k-1] != si.maxStart || end != si.maxEnd || n != int64(si.profiles) {
		return fmt.Errorf("sums: heads do not match the series index")
	}
	for k, cols := range groupsOf(si.Columns) {
		r := &l.rows[k]
		for i, col := range cols {
			got := make([]int128, l.head.len())
			for j, w := range r.window {
				got[w] = got[w].Add(r.values[j*r.columns+i])
			}
			if !slices.Equal(got, l.head.totals[col]) {
				return fmt.Errorf("sums: totals of column %d do not match the values", col)
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
			err = r.open(&si.chunks[i], g, b, stacks)
		}
		found := 0
		for j := range si.chunks[i].slices() {
			var ps []rows[int64]
			if err == nil {
				ps, err = r.profileMajor(j, nil)
			}
			if err != nil {
				return nil, err
			}
			out, found = append(out, ps...), found+len(r.stacks.profile)
		}
		if found != g.rows {
			return nil, fmt.Errorf("chunk at %d has %d rows, the index says %d", g.stacks.at, found, g.rows)
		}
	}
	return out, nil
}

// sums adds up a group's rows anew and compares them with the sums that version 1 has.
func (c *checker) sums(sum *sumInfo, h *head, ps []rows[int64], kind profiles.Kind, columns, stacks int) error {
	w := windowsOf(h, sum.size)
	if w.len() != sum.windows {
		return fmt.Errorf("there are %d windows, %d follow from the heads", sum.windows, w.len())
	}
	var s summer
	want := s.sum(w, h, ps, kind, columns)
	var t transposer
	transpose(&t, want)
	g := &sum.chunks[0].groups[kind]
	if g.rows != len(t.profile) {
		return fmt.Errorf("there are %d rows, %d follow from the chunks", g.rows, len(t.profile))
	}
	if g.rows == 0 {
		return nil
	}
	b, err := c.f.bytes(g.span(len(g.columns) - 1))
	var r chunkReader
	if err == nil {
		err = r.open(&sum.chunks[0], g, b, stacks)
	}
	if err == nil {
		err = r.openSlice(0)
	}
	if err != nil {
		return err
	}
	if !slices.Equal(r.stacks.stacks, t.stacks) || !slices.Equal(r.stacks.counts, t.counts) || !slices.Equal(r.stacks.profile, t.profile) {
		return fmt.Errorf("stacks do not match the chunks")
	}
	var expect []int128
	for i := range columns {
		if err := r.decodeSums(i, w.covered); err != nil {
			return err
		}
		expect = gather(&t, want, i, expect)
		if !slices.Equal(r.sums, expect) {
			return fmt.Errorf("column %d does not match the chunks", i)
		}
	}
	return nil
}

// rollup adds up the members of a rollup anew and compares.
func (c *checker) rollup(ds *dataset, r *rollupInfo, stacks int) error {
	all := &rollups{size: cmp.Or(ds.info.resolution, rollupSizes[0]), dropped: map[string]bool{}, byKey: map[string]*rollup{}, builder: labels.NewBuilder(labels.EmptyLabels())}
	for _, name := range r.Dropped {
		all.dropped[name] = true
	}
	var u *rollup
	groups := groupsOf(r.Columns)
	for _, m := range r.members {
		si := &ds.series[m]
		u = all.of(si, int(m))
		if si.sums != nil {
			if err := c.f.addSums(&chunkReader{}, u, all.size, si.sums, si.Columns, stacks, nil, nil); err != nil {
				return err
			}
			continue
		}
		heads, err := c.f.readHeads(context.Background(), []selected{{info: si}}, true)
		if err != nil {
			return err
		}
		rs := make([]record, heads[0].len())
		for i := range rs {
			rs[i] = record{start: heads[0].start[i], end: heads[0].end[i], covered: heads[0].covered[i]}
		}
		for k := range groups {
			ps, err := c.chunks(si, k, stacks)
			if err != nil {
				return err
			}
			for i := range ps {
				rs[i].groups[k] = ps[i]
			}
		}
		u.addRecords(all.size, rs, heads[0], &groups)
	}
	if u == nil || len(all.byKey) != 1 || !labels.Equal(u.info.Labels, r.Labels) || u.info.Type != r.Type || !slices.Equal(u.info.Columns, r.Columns) ||
		u.info.profiles != r.profiles || u.info.minStart != r.minStart || u.info.maxStart != r.maxStart || u.info.maxEnd != r.maxEnd {
		return fmt.Errorf("what it says of its members is not true")
	}
	want := u.finest(all.size)
	var reader chunkReader
	for i := range r.levels {
		l := &r.levels[i]
		if l.size%want.size != 0 {
			return fmt.Errorf("sums of %d ms do not follow from those of %d", l.size, want.size)
		}
		want = want.coarser(l.size)
		got := newRollup(rollupInfo{Columns: r.Columns})
		if err := c.f.addSums(&reader, got, l.size, l, r.Columns, stacks, nil, nil); err != nil {
			return fmt.Errorf("sums of %d ms: %w", l.size, err)
		}
		if what := got.finest(l.size).equal(want); what != "" {
			return fmt.Errorf("sums of %d ms: %s do not match the chunks", l.size, what)
		}
	}
	return nil
}
