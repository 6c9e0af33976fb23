package store

import (
	"fmt"
	"slices"
)

// readWindowHead reads the head of s, sums of so many columns.
func (f *file) readWindowHead(s *sumInfo, columns int, totals bool) (*windowHead, error) {
	raw, err := f.section(s.head)
	if err == nil {
		var h *windowHead
		if h, err = decodeWindowHead(raw, s.windows, s.size, columns, totals); err == nil {
			return h, nil
		}
	}
	return nil, fmt.Errorf("window head at %d: %w", s.head.at, err)
}

// skipped stands for a window that nobody wants.
const skipped = 1<<32 - 1

// addSums adds the windows of s, whose size divides size, the finest of u, to u: those that use, given their start, wants; nil: all. Stack ids are below limit;
// remap maps them, nil leaves them.
func (f *file) addSums(r *chunkReader, u *rollup, size int64, s *sumInfo, columns []column, limit int, remap []uint32, use func(start int64) bool) error {
	h, err := f.readWindowHead(s, len(columns), true)
	if err != nil {
		return err
	}
	to := make([]uint32, h.len())
	for i, start := range h.start {
		if use != nil && !use(start) {
			to[i] = skipped
			continue
		}
		at := u.window(windowStart(start, size))
		u.head.join(at, h, i)
		to[i] = uint32(at)
	}
	first := 0
	for i := range s.chunks {
		c := &s.chunks[i]
		covered, windows := h.covered[first:first+c.profiles], to[first:first+c.profiles]
		first += c.profiles
		for k := range c.groups {
			n, err := f.addSumGroup(r, &u.rows[k], c, &c.groups[k], covered, windows, limit, remap)
			if err != nil {
				return err
			}
			u.rawRows += n
		}
	}
	return nil
}

func (f *file) addSumGroup(r *chunkReader, t *sumTable, c *chunkInfo, g *groupInfo, covered []int64, windows []uint32, limit int, remap []uint32) (added int, err error) {
	if g.rows == 0 || !slices.ContainsFunc(windows, func(w uint32) bool { return w != skipped }) {
		return 0, nil
	}
	b, err := f.bytes(g.span(len(g.columns) - 1))
	if err == nil {
		err = r.open(c, g, b, limit)
	}
	if err != nil {
		return 0, err
	}
	for i := range c.slices() {
		lo, _ := c.slice(i)
		if err := r.openSlice(i); err != nil {
			return 0, err
		}
		at := make([]int, 0, len(r.stacks.profile))
		row := 0
		for j, n := range r.stacks.counts {
			stack := r.stacks.stacks[j]
			if remap != nil {
				stack = remap[stack]
			}
			for _, p := range r.stacks.profile[row : row+int(n)] {
				if w := windows[lo+int(p)]; w != skipped {
					at, added = append(at, t.at(uint64(stack)<<32|uint64(w))), added+1
				} else {
					at = append(at, -1)
				}
			}
			row += int(n)
		}
		for col := range g.columns {
			if err := r.decodeSums(col, covered); err != nil {
				return 0, err
			}
			for j, v := range r.sums {
				if at[j] >= 0 {
					cell := &t.values[at[j]+col]
					*cell = cell.Add(v)
				}
			}
		}
	}
	return added, nil
}

// equal reports what of two levels of one size differs, "" if nothing does.
func (l *level) equal(o *level) string {
	a, b := &l.head, &o.head
	if !slices.Equal(a.start, b.start) || !slices.Equal(a.profiles, b.profiles) || !slices.Equal(a.covered, b.covered) ||
		!slices.Equal(a.length, b.length) || !slices.Equal(a.first, b.first) || !slices.Equal(a.last, b.last) {
		return "window heads"
	}
	for c := range a.totals {
		if !slices.Equal(a.totals[c], b.totals[c]) {
			return fmt.Sprintf("totals of column %d", c)
		}
	}
	for k := range l.rows {
		x, y := &l.rows[k], &o.rows[k]
		if !slices.Equal(x.stack, y.stack) || !slices.Equal(x.window, y.window) || !slices.Equal(x.values, y.values) {
			return "rows"
		}
	}
	return ""
}
