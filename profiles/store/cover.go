package store

// unit is one group of a chunk that a merge reads, with a weight for each profile. Weight 0 leaves one out.
type unit struct {
	chunk   *chunkInfo
	group   *groupInfo
	weights []int64 // what the values are multiplied with
}

// sumUse says when sums answer a merge. Other than sumsAuto serves tests, which compare the paths.
type sumUse int

const (
	sumsAuto sumUse = iota
	sumsNever
	sumsAlways
)

// coverSeries returns a unit for every chunk that holds a profile of [lo, hi).
func coverSeries(s *seriesInfo, h *head, kind, lo, hi int) (units []unit) {
	first := 0
	for i := range s.chunks {
		chunk := &s.chunks[i]
		end := first + chunk.profiles
		var weights []int64
		for j := max(lo, first); j < min(hi, end); j++ {
			if weights == nil {
				weights = make([]int64, chunk.profiles)
			}
			weights[j-first] = 1
			if kind == gaugeKind {
				weights[j-first] = h.covered[j]
			}
		}
		if weights != nil {
			units = append(units, unit{chunk, &chunk.groups[kind], weights})
		}
		first = end
	}
	return units
}
