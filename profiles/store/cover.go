package store

import "slices"

// sumUse says when rollups answer a merge. Other than sumsAuto serves tests, which compare the paths.
type sumUse int

const (
	sumsAuto   sumUse = iota // the largest windows that fit
	sumsNever                // none where there are raw profiles
	sumsAlways               // the smallest windows that there are
)

// timeline is how a query sees time: its range, and the slots into which it adds up.
type timeline struct {
	from, to     int64
	origin, step int64 // slot i is [origin + i × step, origin + (i+1) × step). step 0: all is one slot
	slots        int   // what starts behind the last one belongs to it too
}

// slot returns the slot of what starts at start.
func (t *timeline) slot(start int64) uint32 {
	if t.step == 0 {
		return 0
	}
	return uint32(min((start-t.origin)/t.step, int64(t.slots-1)))
}

// fits reports whether each window of size ms lies in one slot.
func (t *timeline) fits(size int64) bool {
	return t.step == 0 || t.origin%size == 0 && t.step%size == 0
}

// spell is a half-open range of time.
type spell struct{ lo, hi int64 }

func (s spell) empty() bool { return s.lo >= s.hi }

// ceilTo returns the first multiple of size from t on.
func ceilTo(t, size int64) int64 {
	if s := windowStart(t, size); s != t {
		return s + size
	}
	return t
}

// levelShare is what of a range sums of one size answer.
type levelShare struct {
	level  *sumInfo
	spells []spell // in whole windows
}

// coverRollup decides how to answer a range with a rollup: the largest windows first, smaller ones at the edges; left is what no window of it answers. Each moment of the range is in one
// spell of one size, or in left. A window at the edge counts as whole where no profile of it lies outside. In a block of resolution ms (0: raw) a window belongs to the range where its start does.
func (t *timeline) coverRollup(r *rollupInfo, resolution int64, use sumUse) (out []levelShare, left []spell) {
	all := spell{t.from, t.to}
	if resolution != 0 {
		all = spell{ceilTo(t.from, resolution), ceilTo(t.to, resolution)}
	}
	done := spell{}
	for _, level := range slices.Backward(levelsFor(r, use)) {
		if !t.fits(level.size) {
			continue
		}
		in := spell{ceilTo(all.lo, level.size), windowStart(all.hi, level.size)}
		if r.minStart >= all.lo {
			in.lo = windowStart(r.minStart, level.size)
		}
		if r.maxStart < all.hi {
			in.hi = windowStart(r.maxStart, level.size) + level.size
		}
		if in.empty() {
			continue
		}
		s := levelShare{level: level}
		if done.empty() {
			s.spells, done = []spell{in}, in
		} else {
			for _, edge := range []spell{{in.lo, done.lo}, {done.hi, in.hi}} {
				if !edge.empty() {
					s.spells = append(s.spells, edge)
				}
			}
			done = spell{min(done.lo, in.lo), max(done.hi, in.hi)}
		}
		if len(s.spells) > 0 {
			out = append(out, s)
		}
	}
	if done.empty() {
		return nil, []spell{all}
	}
	for _, edge := range []spell{{all.lo, done.lo}, {done.hi, all.hi}} {
		if !edge.empty() {
			left = append(left, edge)
		}
	}
	return out, left
}

func levelsFor(r *rollupInfo, use sumUse) (out []*sumInfo) {
	for i := range r.levels {
		if use == sumsAuto || use == sumsAlways && i == 0 {
			out = append(out, &r.levels[i])
		}
	}
	return out
}
