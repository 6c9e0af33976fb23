package store

import (
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// sumSizes1 are the windows, in ms, of the sums that version 1 has for each series beside its chunks.
var sumSizes1 = [...]int64{60_000, 3_600_000}

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
