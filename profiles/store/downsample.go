package store

import (
	"context"
	"fmt"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// downsample replaces blocks by blocks that hold, for each series, the sums by windows of resolution ms, and rollups of them: one block for each service and window
// of time. The blocks may be raw or have a resolution that divides it, also that one itself: sums of equal windows are added up. The caller holds compacting.
func (s *Store) downsample(ctx context.Context, in []catalog.Block, resolution int64, window time.Duration) error {
	c := &compaction{store: s, level: nextLevel(in), resolution: resolution, window: window.Milliseconds(), w: &fileWriter{comp: s.blockParts}}
	if err := s.replace(ctx, in, c); err != nil {
		return fmt.Errorf("downsample %d blocks to %d ms: %w", len(in), resolution, err)
	}
	return nil
}

// sumBlock writes the sums of the series of order in [from, to); origins are where each has its data.
func (c *compaction) sumBlock(ctx context.Context, service string, sources []source, order []*series, byKey map[string][]place, remaps [][]uint32, from, to int64) error {
	for _, s := range order {
		u := newRollup(rollupInfo{Columns: s.columns})
		groups := groupsOf(s.columns)
		last := int64(-1 << 63)
		n := 0
		for _, o := range byKey[seriesKey(s.labels, s.typ, s.columns)] {
			if err := c.addSums(ctx, u, sources[o.source].file, o.info, remaps[o.source], from, to); err != nil {
				return &inputError{sources[o.source].file.name, fmt.Errorf("dataset %s: %w", service, err)}
			}
			if len(u.head.start) > n && o.info.maxStart >= last {
				last, s.period = o.info.maxStart, o.info.Period
			}
			n = len(u.head.start)
		}
		if n > 0 {
			c.w.addSums(s, u.finest(c.resolution), &groups)
		}
	}
	return nil
}

// addSums adds what starts in [from, to) of a series, raw or summed, to u.
func (c *compaction) addSums(ctx context.Context, u *rollup, f *file, si *seriesInfo, remap []uint32, from, to int64) error {
	if si.sums == nil {
		rs, err := c.records(ctx, f, si, remap, from, to)
		if err == nil && len(rs) > 0 {
			groups := groupsOf(si.Columns)
			u.addRecords(c.resolution, rs, headOf(&series{columns: si.Columns, records: rs}), &groups)
		}
		return err
	}
	if c.resolution%si.sums.size != 0 {
		return fmt.Errorf("sums of %d ms cannot be made of those of %d ms", c.resolution, si.sums.size)
	}
	return f.addSums(&c.reader, u, c.resolution, si.sums, si.Columns, len(remap), remap, func(start int64) bool {
		return start >= from && start < to && (c.keep == nil || c.keep(si, start))
	})
}

// usedSums marks the stacks of a series' sums in [from, to).
func (c *compaction) usedSums(f *file, si *seriesInfo, used []bool, from, to int64) error {
	u := newRollup(rollupInfo{Columns: si.Columns})
	err := f.addSums(&c.reader, u, si.sums.size, si.sums, si.Columns, len(used), nil, func(start int64) bool {
		return start >= from && start < to && (c.keep == nil || c.keep(si, start))
	})
	if err != nil {
		return err
	}
	for k := range u.rows {
		for _, key := range u.rows[k].keys {
			used[key>>32] = true
		}
	}
	return nil
}

func identity(n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(i)
	}
	return out
}

// addSums writes one series of a downsampled block: what add is to a raw one.
func (w *fileWriter) addSums(s *series, l *level, groups *[kinds][]int) {
	w.flushRollups(s.typ)
	sum := w.sums(l, groups, regionSums)
	info := seriesInfo{Labels: s.labels, Type: s.typ, Period: s.period, Columns: s.columns, sums: &sum}
	h := &l.head
	info.minStart, info.maxStart, info.maxEnd = h.start[0], h.start[h.len()-1], h.last[0]
	for i := range h.start {
		info.profiles += int(h.profiles[i])
		info.maxEnd = max(info.maxEnd, h.last[i])
	}
	w.rollups.of(&info, len(w.series)).addLevel(l, w.rollups.size)
	w.addInfo(info)
}

// addLevel adds sums of size ms, or of windows that divide it.
func (u *rollup) addLevel(l *level, size int64) {
	to := make([]uint32, l.head.len())
	for i, start := range l.head.start {
		at := u.window(windowStart(start, size))
		u.head.join(at, &l.head, i)
		to[i] = uint32(at)
	}
	for k := range l.rows {
		r, t := &l.rows[k], &u.rows[k]
		u.rawRows += len(r.stack)
		for i, stack := range r.stack {
			at := t.at(uint64(stack)<<32 | uint64(to[r.window[i]]))
			for c := range r.columns {
				cell := &t.values[at+c]
				*cell = cell.Add(r.values[i*r.columns+c])
			}
		}
	}
}
