package store

import (
	"context"
	"fmt"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// rewriteV1 replaces a segment or block by blocks of version 1, which releases before this one read. What version 1 does not have is lost: spans; and of a downsampled block each
// window becomes a profile (see pseudoRecords). The caller holds compacting.
func (s *Store) rewriteV1(ctx context.Context, b catalog.Block) error {
	c := &compaction{store: s, level: max(1, b.Level), back: true, w: &fileWriter{comp: s.blockParts, version: version1}}
	if err := s.replace(ctx, []catalog.Block{b}, c); err != nil {
		return fmt.Errorf("rewrite block %s in version 1: %w", b.ID, err)
	}
	return nil
}

// pseudoRecords returns a profile for each window of a downsampled series that starts in [from, to): from the window's start to its end. Intervals have the window's
// sum. Gauges have the mean over the time covered, rounded half away from zero, and stand for that time: where it is longer than the window, so is the profile.
func (c *compaction) pseudoRecords(f *file, si *seriesInfo, remap []uint32, from, to int64) ([]record, error) {
	u := newRollup(rollupInfo{Columns: si.Columns})
	err := f.addSums(&c.reader, u, si.sums.size, si.sums, si.Columns, len(remap), remap, func(start int64) bool {
		return start >= from && start < to && (c.keep == nil || c.keep(si, start))
	})
	if err != nil {
		return nil, err
	}
	l := u.finest(si.sums.size)
	out := make([]record, l.head.len())
	for i, start := range l.head.start {
		covered := l.head.covered[i]
		out[i] = record{start: start, end: start + max(covered, si.sums.size), covered: covered}
	}
	for k := range l.rows {
		r := &l.rows[k]
		major := make([][]int64, len(out)) // values, sample-major
		row := make([]int64, r.columns)
		for i, w := range r.window {
			some := false
			for col, v := range r.values[i*r.columns : (i+1)*r.columns] {
				if profiles.Kind(k) == profiles.Gauge {
					row[col], _ = v.DivRound(out[w].covered)
				} else {
					row[col], _ = v.Int64()
				}
				some = some || row[col] != 0
			}
			if some {
				out[w].groups[k].stacks = append(out[w].groups[k].stacks, r.stack[i])
				major[w] = append(major[w], row...)
			}
		}
		for w := range out {
			g := &out[w].groups[k]
			n := len(g.stacks)
			g.values = make([]int64, n*r.columns)
			for i := range n {
				for col := range r.columns {
					g.values[col*n+i] = major[w][i*r.columns+col]
				}
			}
		}
	}
	return out, nil
}
