package store

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// sumSizes are the windows that blocks hold sums for, in ms: a minute and an hour.
var sumSizes = [...]int64{60_000, 3_600_000}

// sumsPay is how many raw rows one row of a sum must stand for to be worth its bytes. A series whose sums of a size do not pay has none of
// that size, and readers take the raw chunks.
const sumsPay = 2

// windows are the windows of one size in which at least one profile of a series starts, in order. They are not stored: they follow from the head.
type windows struct {
	first   []int   // the first profile of each, and the number of profiles at the end
	covered []int64 // ms, Σ of the profiles' covered
}

func windowsOf(h *head, size int64) *windows {
	w := &windows{}
	end := int64(0)
	for i, s := range h.start {
		if i == 0 || s >= end {
			end = windowStart(s, size) + size
			w.first, w.covered = append(w.first, i), append(w.covered, 0)
		}
		w.covered[len(w.covered)-1] += h.covered[i]
	}
	w.first = append(w.first, h.len())
	return w
}

func (w *windows) len() int { return len(w.covered) }

// windowStart returns the start of the window of size ms that holds t, for times before 1970 too.
func windowStart(t, size int64) int64 {
	r := t % size
	if r < 0 {
		r += size
	}
	return t - r
}

// summer adds up profiles per window. Not safe for concurrent use.
type summer struct {
	acc     []int128 // by stack id and column; all zero between windows
	touched []uint32
	mark    []bool
}

// sum returns the sums of one group's rows in each window.
func (s *summer) sum(w *windows, h *head, ps []rows[int64], kind profiles.Kind, columns int) []rows[int128] {
	out := make([]rows[int128], w.len())
	for i := range out {
		out[i] = s.window(h, ps, w.first[i], w.first[i+1], kind, columns)
	}
	return out
}

func (s *summer) window(h *head, ps []rows[int64], lo, hi int, kind profiles.Kind, columns int) rows[int128] {
	s.touched = s.touched[:0]
	for j := lo; j < hi; j++ {
		p, weight := &ps[j], int64(1)
		if kind == profiles.Gauge {
			weight = h.covered[j]
		}
		for i, id := range p.stacks {
			if int(id) >= len(s.mark) {
				s.mark = append(s.mark, make([]bool, int(id)+1-len(s.mark))...)
			}
			if need := (int(id) + 1) * columns; need > len(s.acc) {
				s.acc = append(s.acc, make([]int128, need-len(s.acc))...)
			}
			if !s.mark[id] {
				s.mark[id] = true
				s.touched = append(s.touched, id)
			}
			for c := range columns {
				a := &s.acc[int(id)*columns+c]
				*a = a.Add(profiles.Mul128(p.values[c*len(p.stacks)+i], weight))
			}
		}
	}
	slices.Sort(s.touched)
	r := rows[int128]{stacks: make([]uint32, 0, len(s.touched)), values: make([]int128, len(s.touched)*columns)}
	n := 0
	for _, id := range s.touched {
		cells := s.acc[int(id)*columns : int(id+1)*columns]
		s.mark[id] = false
		for c, v := range cells {
			r.values[c*len(s.touched)+n] = v
		}
		clear(cells)
		r.stacks = append(r.stacks, id)
		n++
	}
	return r
}

// appendSumColumn encodes a column of sums in stack-major order. covered, given for gauges, is that of each row's window: a sum is
// its quotient by it, which hardly changes from window to window, and the remainder, which is mostly 0.
func appendSumColumn(b []byte, values []int128, counts []uint32, window []uint32, covered []int64) []byte {
	if covered == nil {
		g := gcd128(values)
		b = binary.AppendUvarint(append(b, modePlain), g)
		for _, v := range values {
			q, _ := v.QuoRem(int64(g))
			b = appendVarint128(b, q)
		}
		return b
	}
	b = binary.AppendUvarint(append(b, modeMean), 1)
	rest := make([]int64, len(values))
	at := 0
	for _, n := range counts {
		var prev int128
		for i := at; i < at+int(n); i++ {
			var q int128
			q, rest[i] = values[i].QuoRem(covered[window[i]])
			b = appendVarint128(b, q.Sub(prev))
			prev = q
		}
		at += int(n)
	}
	for _, r := range rest {
		b = binary.AppendVarint(b, r)
	}
	return b
}

// decodeSumColumn reads a column of sums in stack-major order.
func (c *chunkStacks) decodeSumColumn(b []byte, covered []int64, out []int128) ([]int128, error) {
	mode, scale, d, err := columnHeader(b, nil)
	if err != nil {
		return nil, err
	}
	if len(d.b) < len(c.profile) || mode != modePlain && mode != modeMean {
		return nil, fmt.Errorf("column of sums of mode %d has %d bytes for %d values", mode, len(d.b), len(c.profile))
	}
	out = slices.Grow(out[:0], len(c.profile))[:len(c.profile)]
	if mode == modePlain {
		for i := range out {
			if len(d.b) > 0 && d.b[0] < 0x80 { // most of them
				v := d.b[0]
				d.b = d.b[1:]
				out[i] = profiles.Mul128(int64(v>>1)^-int64(v&1), scale)
				continue
			}
			out[i] = d.varint128().Mul(scale)
		}
		return out, d.done()
	}
	at := 0
	for _, n := range c.counts {
		var prev int128
		for i := at; i < at+int(n); i++ {
			prev = prev.Add(d.varint128())
			out[i] = prev.Mul(covered[c.profile[i]])
		}
		at += int(n)
	}
	for i := range out {
		if r := d.varint(); r != 0 {
			out[i] = out[i].Add(profiles.Int128From(r))
		}
	}
	return out, d.done()
}

// addScaled adds v × w to the accumulator's cell, the inner step of every merge.
func addScaled(cell *int128, v, w int64) {
	p := profiles.Mul128(v, w)
	var carry uint64
	cell.Lo, carry = bits.Add64(cell.Lo, p.Lo, 0)
	cell.Hi += p.Hi + int64(carry)
}
