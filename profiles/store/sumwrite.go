package store

import (
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// sliceWindows is what sums have in place of sliceProfiles: most are read for the few windows at a range's edge.
const sliceWindows = 16

// sums writes sums of one size into region.
func (w *fileWriter) sums(l *level, groups *[kinds][]int, region int) sumInfo {
	s := sumInfo{size: l.size, windows: l.head.len(), chunks: w.cutSums(l)}
	w.raw = appendWindowHead(w.raw[:0], &l.head, l.size)
	s.head = w.part(region, w.raw)
	var parts [kinds][]sumSlice
	for k := range groups {
		parts[k] = l.rows[k].slices(s.chunks)
	}
	first, next := 0, 0 // window, slice
	for i := range s.chunks {
		c := &s.chunks[i]
		n := c.slices()
		for k, cols := range groups {
			if len(cols) > 0 {
				c.groups[k] = w.sumGroup(c, parts[k][next:next+n], l.head.covered[first:first+c.profiles], profiles.Kind(k), len(cols), region)
			}
		}
		first, next = first+c.profiles, next+n
	}
	return s
}

// cutSums cuts the windows into chunks as profiles are cut.
func (w *fileWriter) cutSums(l *level) (out []chunkInfo) {
	n := l.head.len()
	perWindow := make([]int, n)
	for k := range l.rows {
		for _, i := range l.rows[k].window {
			perWindow[i]++
		}
	}
	for lo := 0; lo < n; {
		hi, rowCount := lo, 0
		for hi < n && hi-lo < maxChunkProfiles && (hi == lo || rowCount < maxChunkRows) {
			rowCount += perWindow[hi]
			hi++
		}
		out = append(out, chunkInfo{version: w.version, profiles: hi - lo, per: min(hi-lo, sliceWindows)})
		lo = hi
	}
	return out
}

// sumSlice is the rows of sums of one slice.
type sumSlice struct {
	chunkStacks
	values []int128 // row-major
}

// slices deals the rows out to the slices of chunks. Each slice's stay in order.
func (r *sumRows) slices(chunks []chunkInfo) []sumSlice {
	var of, first []uint32 // of each window its slice, and that slice's first window
	n := uint32(0)
	for i := range chunks {
		for s := range chunks[i].slices() {
			lo, hi := chunks[i].slice(s)
			start := uint32(len(of))
			for range hi - lo {
				of, first = append(of, n), append(first, start)
			}
			n++
		}
	}
	sizes := make([]int, n)
	for _, w := range r.window {
		sizes[of[w]]++
	}
	out := make([]sumSlice, n)
	for i, size := range sizes {
		out[i].profile, out[i].values = make([]uint32, 0, size), make([]int128, 0, size*r.columns)
	}
	for i, w := range r.window {
		s := &out[of[w]]
		if k := len(s.stacks); k == 0 || s.stacks[k-1] != r.stack[i] {
			s.stacks, s.counts = append(s.stacks, r.stack[i]), append(s.counts, 0)
		}
		s.counts[len(s.counts)-1]++
		s.profile = append(s.profile, w-first[w])
		s.values = append(s.values, r.values[i*r.columns:(i+1)*r.columns]...)
	}
	return out
}

// sumGroup writes one group of a chunk of sums. covered is that of its windows.
func (w *fileWriter) sumGroup(c *chunkInfo, parts []sumSlice, covered []int64, kind profiles.Kind, columns, region int) groupInfo {
	gw := &w.group
	gw.reset(columns)
	var values []int128
	for i := range parts {
		s := &parts[i]
		lo, hi := c.slice(i)
		gw.slice(&s.chunkStacks, hi-lo, w.version)
		var of []int64
		if kind == profiles.Gauge {
			of = covered[lo:hi]
		}
		for col := range columns {
			values = slices.Grow(values[:0], len(s.profile))[:len(s.profile)]
			for j := range values {
				values[j] = s.values[j*columns+col]
			}
			gw.columns[col].shares = appendSumColumn(gw.columns[col].shares, values, &s.chunkStacks, of)
			gw.columns[col].cut()
		}
	}
	return w.finishGroup(region, columns)
}
