package store

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// head is what is known of each profile of a series without its stacks, in order of start. Totals over time are made from heads alone.
type head struct {
	start, end []int64 // Unix ms
	covered    []int64 // ms that a gauge's values stand for: end - start, capped by the staleness in force when it was stored
	totals     [][]int128
}

func (h *head) len() int { return len(h.start) }

// appendHead encodes the times: starts as differences, ends as differences to the next start (a process is profiled without
// gaps: mostly 0), covered as what the cap cut off; then each column's totals divided by their gcd.
func appendHead(b []byte, h *head) []byte {
	prev := int64(0)
	for _, s := range h.start {
		b = binary.AppendVarint(b, s-prev)
		prev = s
	}
	for i, e := range h.end {
		b = binary.AppendVarint(b, e-h.expectedEnd(i))
	}
	for i, c := range h.covered {
		b = binary.AppendUvarint(b, uint64(h.end[i]-h.start[i]-c))
	}
	return appendTotals(b, h.totals)
}

// appendTotals encodes each column's totals divided by their gcd.
func appendTotals(b []byte, totals [][]int128) []byte {
	for _, col := range totals {
		g := gcd128(col)
		b = binary.AppendUvarint(b, g)
		for _, v := range col {
			q, _ := v.QuoRem(int64(g))
			b = appendVarint128(b, q)
		}
	}
	return b
}

func decodeTotals(d *decoder, n, columns int) [][]int128 {
	totals := make([][]int128, 0, columns)
	for range columns {
		g := d.uvarint()
		if d.err == nil && (g == 0 || g > 1<<62) {
			d.fail(fmt.Errorf("totals have scale %d", g))
		}
		col := make([]int128, n)
		for i := range col {
			col[i] = d.varint128().Mul(int64(g))
		}
		totals = append(totals, col)
	}
	return totals
}

// expectedEnd guesses the end of profile i from the starts and the ends before it.
func (h *head) expectedEnd(i int) int64 {
	if i+1 < len(h.start) {
		return h.start[i+1]
	}
	if i > 0 {
		return h.start[i] + h.end[i-1] - h.start[i-1]
	}
	return h.start[i]
}

// decodeHead reads the head of n profiles; without totals it stops after the times.
func decodeHead(b []byte, n, columns int, totals bool) (*head, error) {
	d := decoder{b: b}
	if n > len(b)/3 {
		return nil, fmt.Errorf("head of %d profiles has %d bytes", n, len(b))
	}
	all := make([]int64, 3*n)
	h := &head{start: all[:n:n], end: all[n : 2*n : 2*n], covered: all[2*n:]}
	prev := int64(0)
	for i := range h.start {
		delta := d.varint()
		if i > 0 && delta < 0 {
			d.fail(fmt.Errorf("profile %d starts before the one before it", i))
		}
		prev += delta
		h.start[i] = prev
	}
	for i := range h.end {
		h.end[i] = h.expectedEnd(i) + d.varint()
	}
	for i := range h.covered {
		length, cut := h.end[i]-h.start[i], d.uvarint()
		if h.start[i] < 0 || h.end[i] > maxTime {
			d.fail(fmt.Errorf("profile %d is of [%d, %d)", i, h.start[i], h.end[i]))
		}
		if d.err == nil && (length <= 0 || cut >= uint64(length)) {
			d.fail(fmt.Errorf("profile %d is %d ms long, %d of it not covered", i, length, cut))
		}
		h.covered[i] = length - int64(cut)
	}
	if !totals || d.err != nil {
		return h, d.err
	}
	h.totals = decodeTotals(&d, n, columns)
	return h, d.done()
}

// within returns the indices of the profiles that start in [from, to).
func (h *head) within(from, to int64) (lo, hi int) {
	lo, _ = slices.BinarySearch(h.start, from)
	hi, _ = slices.BinarySearch(h.start, to)
	return lo, max(lo, hi)
}

// gcd128 returns the greatest common divisor of vs, or 1 where there is none below 2^62.
func gcd128(vs []int128) uint64 {
	var g uint64
	for _, v := range vs {
		hi, lo := v.Abs()
		if hi != 0 {
			return 1
		}
		if g = gcd(g, lo); g == 1 {
			return 1
		}
	}
	if g == 0 || g > 1<<62 {
		return 1
	}
	return g
}
