package store

// unit is one group that a merge reads: of a chunk with a weight for each profile, or of sums with a weight for each window. Weight 0
// leaves one out.
type unit struct {
	group   *groupInfo
	sums    bool
	n       int     // profiles of the chunk, or windows
	weights []int64 // of n: what the values are multiplied with; for sums 1
	covered []int64 // of n, for sums: ms covered by each window
}

// sumUse says when sums answer a merge. Other than sumsAuto serves tests, which compare the paths.
type sumUse int

const (
	sumsAuto sumUse = iota
	sumsNever
	sumsAlways
)

// run is a half-open range of a series' profiles.
type run struct{ lo, hi int }

// coverage is how one series' profiles of a range are added up: whole windows from sums, the rest from raw chunks.
type coverage struct {
	units []unit
	rows  int // that will be decoded
}

// coverSeries decides how to add up the profiles [lo, hi) of a series. Each one ends up in exactly one unit with a weight that is not 0. It decides for
// what decodes the fewest rows.
func coverSeries(s *seriesInfo, h *head, kind, lo, hi int, use sumUse) coverage {
	options := [][]int{nil, {0}, {1}, {1, 0}} // indices of sumSizes, the larger first
	var best coverage
	for i, sizes := range options {
		if use == sumsNever && i > 0 || use == sumsAlways && i != len(options)-1 {
			continue
		}
		c := coverWith(s, h, kind, run{lo, hi}, sizes)
		if best.units == nil || c.rows < best.rows {
			best = c
		}
	}
	return best
}

func coverWith(s *seriesInfo, h *head, kind int, all run, sizes []int) coverage {
	var c coverage
	rest := []run{all}
	for _, i := range sizes {
		sum := s.sums[i]
		if sum == nil {
			continue
		}
		w := windowsOf(h, sumSizes[i])
		u := unit{group: &sum.groups[kind], sums: true, n: w.len(), weights: make([]int64, w.len()), covered: w.covered}
		var left []run
		used := false
		for _, r := range rest {
			a, b := w.inside(r)
			if a >= b {
				left = append(left, r)
				continue
			}
			used = true
			for j := a; j < b; j++ {
				u.weights[j] = 1
			}
			if r.lo < w.first[a] {
				left = append(left, run{r.lo, w.first[a]})
			}
			if w.first[b] < r.hi {
				left = append(left, run{w.first[b], r.hi})
			}
		}
		if used {
			c.units = append(c.units, u)
			c.rows += u.group.rows
		}
		rest = left
	}
	return c.addRaw(s, h, kind, rest)
}

// inside returns the windows [a, b) all of whose profiles are in r.
func (w *windows) inside(r run) (a, b int) {
	for a < w.len() && w.first[a] < r.lo {
		a++
	}
	b = a
	for b < w.len() && w.first[b+1] <= r.hi {
		b++
	}
	return a, b
}

// addRaw adds a unit for every chunk that holds a profile of rest, whose runs are disjoint.
func (c coverage) addRaw(s *seriesInfo, h *head, kind int, rest []run) coverage {
	first := 0
	for i := range s.chunks {
		chunk := &s.chunks[i]
		end := first + chunk.profiles
		var weights []int64
		for _, r := range rest {
			for j := max(r.lo, first); j < min(r.hi, end); j++ {
				if weights == nil {
					weights = make([]int64, chunk.profiles)
				}
				weights[j-first] = 1
				if kind == gaugeKind {
					weights[j-first] = h.covered[j]
				}
			}
		}
		if weights != nil {
			c.units = append(c.units, unit{group: &chunk.groups[kind], n: chunk.profiles, weights: weights})
			c.rows += chunk.groups[kind].rows
		}
		first = end
	}
	return c
}
