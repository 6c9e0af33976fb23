package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// windowHead is what is known of each window of sums without its rows, in order of start. Statistics and totals over time are made from it alone.
type windowHead struct {
	start    []int64 // Unix ms, multiples of the size
	profiles []int64 // that start in the window, at least one
	covered  []int64 // ms, Σ of the profiles' covered
	length   []int64 // ms, Σ of the profiles' end - start
	first    []int64 // Unix ms, the earliest start of a profile
	last     []int64 // Unix ms, the latest end of a profile
	totals   [][]int128
}

func (h *windowHead) len() int { return len(h.start) }

// within returns the indices of the windows that start in [from, to).
func (h *windowHead) within(from, to int64) (lo, hi int) {
	lo, _ = slices.BinarySearch(h.start, from)
	hi, _ = slices.BinarySearch(h.start, to)
	return lo, max(lo, hi)
}

// add takes window i of o, which is in the window that starts at start; windows come in order of start.
func (h *windowHead) add(start int64, o *windowHead, i int) {
	n := len(h.start)
	if n == 0 || h.start[n-1] != start {
		h.start, h.profiles, h.covered, h.length = append(h.start, start), append(h.profiles, 0), append(h.covered, 0), append(h.length, 0)
		h.first, h.last = append(h.first, math.MaxInt64), append(h.last, math.MinInt64)
		if h.totals == nil {
			h.totals = make([][]int128, len(o.totals))
		}
		for c := range h.totals {
			h.totals[c] = append(h.totals[c], int128{})
		}
		n++
	}
	h.join(n-1, o, i)
}

// join adds window i of o to window at.
func (h *windowHead) join(at int, o *windowHead, i int) {
	h.profiles[at] += o.profiles[i]
	h.covered[at] += o.covered[i]
	h.length[at] += o.length[i]
	h.first[at], h.last[at] = min(h.first[at], o.first[i]), max(h.last[at], o.last[i])
	for c := range h.totals {
		h.totals[c][at] = h.totals[c][at].Add(o.totals[c][i])
	}
}

// appendWindowHead encodes the head of windows of size ms, column by column.
func appendWindowHead(b []byte, h *windowHead, size int64) []byte {
	prev := int64(0)
	for _, s := range h.start {
		b = binary.AppendVarint(b, (s-prev)/size)
		prev = s
	}
	for _, v := range h.profiles {
		b = binary.AppendUvarint(b, uint64(v))
	}
	for _, v := range h.covered {
		b = binary.AppendUvarint(b, uint64(v))
	}
	for i, v := range h.length {
		b = binary.AppendUvarint(b, uint64(v-h.covered[i]))
	}
	for i, v := range h.first {
		b = binary.AppendUvarint(b, uint64(v-h.start[i]))
	}
	for i, v := range h.last {
		b = binary.AppendUvarint(b, uint64(v-h.first[i]))
	}
	return appendTotals(b, h.totals)
}

// maxCovered bounds what the profiles of one window cover, in ms: a fleet of a million processes for a year. Sums of thousands of such windows fit.
const maxCovered = 1 << 50

// decodeWindowHead reads the head of n windows; without totals it stops before them.
func decodeWindowHead(b []byte, n int, size int64, columns int, totals bool) (*windowHead, error) {
	d := decoder{b: b}
	if n > len(b)/6 {
		return nil, fmt.Errorf("head of %d windows has %d bytes", n, len(b))
	}
	all := make([]int64, 6*n)
	h := &windowHead{start: all[:n:n], profiles: all[n : 2*n : 2*n], covered: all[2*n : 3*n : 3*n], length: all[3*n : 4*n : 4*n], first: all[4*n : 5*n : 5*n], last: all[5*n:]}
	prev := int64(0)
	for i := range h.start {
		delta := d.varint()
		if i > 0 && delta <= 0 || delta > maxTime/size || delta < -maxTime/size {
			d.fail(fmt.Errorf("window %d does not start after the one before it, or too late", i))
		}
		prev += delta * size
		h.start[i] = prev
	}
	for i := range h.profiles {
		if h.profiles[i] = d.offset(); h.profiles[i] == 0 {
			d.fail(fmt.Errorf("window %d has no profile", i))
		}
	}
	for i := range h.covered {
		if h.covered[i] = d.offset(); h.covered[i] == 0 || h.covered[i] > maxCovered {
			d.fail(fmt.Errorf("window %d covers %d ms", i, h.covered[i]))
		}
	}
	for i := range h.length {
		if h.length[i] = h.covered[i] + d.offset(); h.length[i] > maxCovered {
			d.fail(fmt.Errorf("window %d has profiles of %d ms", i, h.length[i]))
		}
	}
	for i := range h.first {
		off := d.offset()
		if off >= size {
			d.fail(fmt.Errorf("window %d has its first profile %d ms after its start", i, off))
		}
		h.first[i] = h.start[i] + off
	}
	for i := range h.last {
		h.last[i] = h.first[i] + d.offset()
	}
	if !totals || d.err != nil {
		return h, d.err
	}
	h.totals = decodeTotals(&d, n, columns)
	return h, d.done()
}
