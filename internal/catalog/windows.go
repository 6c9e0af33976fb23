package catalog

import (
	"encoding/binary"
	"errors"
	"slices"
)

// windowReach is how many numbers behind the highest are remembered one by one. A window further behind counts as seen. At one window in 15 s
// that is 5.7 days, longer than any spool keeps a window, so what is refused there is a repeat.
const windowReach = 32768

// windowSet is the set of window numbers registered for one part of one instance: a bitmap of the numbers above a floor, run-length coded,
// since almost all runs are whole. Numbers may be added in any order and with gaps. All numbers up to the floor count as seen.
//
// Its bytes are the uvarints floor, then for each run in order the distance from the end of the run before (or the floor) to its first
// number, at least 2, and its length less one. A gapless set is one number: the floor.
type windowSet struct {
	floor uint64
	runs  []run // above floor+1, in order, neither overlapping nor touching
}

// run is the numbers first to last.
type run struct{ first, last uint64 }

var errWindowSet = errors.New("malformed window set")

// has reports whether n counts as seen.
func (s *windowSet) has(n uint64) bool {
	if n <= s.floor {
		return true
	}
	_, found := s.find(n)
	return found
}

// find returns the index of the run that holds n, else that of the first run above it.
func (s *windowSet) find(n uint64) (int, bool) {
	return slices.BinarySearchFunc(s.runs, n, func(r run, n uint64) int {
		switch {
		case r.last < n:
			return -1
		case r.first > n:
			return 1
		}
		return 0
	})
}

// add adds n and reports whether it was new.
func (s *windowSet) add(n uint64) bool {
	if s.has(n) {
		return false
	}
	i, _ := s.find(n)
	joinsBefore := i > 0 && s.runs[i-1].last+1 == n
	joinsAfter := i < len(s.runs) && s.runs[i].first == n+1
	switch {
	case joinsBefore && joinsAfter:
		s.runs[i-1].last = s.runs[i].last
		s.runs = slices.Delete(s.runs, i, i+1)
	case joinsBefore:
		s.runs[i-1].last = n
	case joinsAfter:
		s.runs[i].first = n
	default:
		s.runs = slices.Insert(s.runs, i, run{n, n})
	}
	s.raiseFloor()
	return true
}

// raiseFloor moves the floor up to what lies out of reach, and then over the run that touches it.
func (s *windowSet) raiseFloor() {
	if highest := s.runs[len(s.runs)-1].last; highest > windowReach {
		s.floor = max(s.floor, highest-windowReach)
	}
	for len(s.runs) > 0 && s.runs[0].first <= s.floor+1 {
		s.floor = max(s.floor, s.runs[0].last)
		s.runs = s.runs[1:]
	}
}

// encode returns the bytes of s.
func (s *windowSet) encode() []byte {
	b := binary.AppendUvarint(nil, s.floor)
	end := s.floor
	for _, r := range s.runs {
		b = binary.AppendUvarint(b, r.first-end)
		b = binary.AppendUvarint(b, r.last-r.first)
		end = r.last
	}
	return b
}

// decodeWindowSet reads what encode wrote.
func decodeWindowSet(b []byte) (*windowSet, error) {
	next := func() (uint64, error) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errWindowSet
		}
		b = b[n:]
		return v, nil
	}
	floor, err := next()
	if err != nil {
		return nil, err
	}
	s := &windowSet{floor: floor}
	end := floor
	for len(b) > 0 {
		distance, err := next()
		if err != nil {
			return nil, err
		}
		more, err := next()
		if err != nil {
			return nil, err
		}
		r := run{first: end + distance, last: end + distance + more}
		if distance < 2 || r.first < end || r.last < r.first || r.last-floor > windowReach {
			return nil, errWindowSet
		}
		s.runs = append(s.runs, r)
		end = r.last
	}
	return s, nil
}
