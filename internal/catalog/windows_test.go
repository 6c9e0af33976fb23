package catalog

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestWindowSetAgainstAMap adds numbers in many patterns and compares with a plain set, through encode and decode each time.
func TestWindowSetAgainstAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, next := range map[string]func(i int) uint64{
		"in order":         func(i int) uint64 { return uint64(i + 1) },
		"each second":      func(i int) uint64 { return uint64(2*i + 1) },
		"backwards":        func(i int) uint64 { return uint64(2000 - i) },
		"shuffled nearby":  func(i int) uint64 { return uint64(i + 1 + r.IntN(50)) },
		"one gap":          func(i int) uint64 { return uint64(i+1) + uint64(i/100) },
		"all over":         func(i int) uint64 { return 1 + r.Uint64N(3*windowReach) },
		"far jumps":        func(i int) uint64 { return 1 + uint64(i)*(windowReach-1) },
		"up to the end":    func(i int) uint64 { return math.MaxUint64 - uint64(2000-i)%2000 },
		"late by the rest": func(i int) uint64 { return []uint64{windowReach, 1, 2, windowReach + 1, windowReach + 2, 3}[i%6] },
	} {
		t.Run(name, func(t *testing.T) {
			set, seen, highest := &windowSet{}, map[uint64]bool{}, uint64(0)
			for i := range 2000 {
				n := next(i)
				want := !seen[n] && !(highest > windowReach && n <= highest-windowReach)
				if set.has(n) == want {
					t.Fatalf("has(%d) = %v, highest %d", n, !want, highest)
				}
				if got := set.add(n); got != want {
					t.Fatalf("add(%d) = %v, want %v, highest %d", n, got, want, highest)
				}
				seen[n], highest = true, max(highest, n)
				var err error
				if set, err = decodeWindowSet(set.encode()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestWindowSetIsSmall(t *testing.T) {
	whole, gaps, worst := &windowSet{}, &windowSet{}, &windowSet{}
	for n := range uint64(4 * windowReach) {
		whole.add(n + 1)
		if n%1000 != 0 {
			gaps.add(n + 1)
		}
		if n%2 == 0 {
			worst.add(n + 1)
		}
	}
	for name, tc := range map[string]struct {
		set *windowSet
		max int
	}{"whole": {whole, 3}, "a gap in a thousand": {gaps, 150}, "each second": {worst, windowReach + 8}} {
		if got := len(tc.set.encode()); got > tc.max {
			t.Errorf("%s: %d bytes, want at most %d", name, got, tc.max)
		}
	}
}

func FuzzDecodeWindowSet(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5})
	f.Add([]byte{5, 2, 0, 3, 10})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeWindowSet(b)
		if err != nil {
			return
		}
		again, err := decodeWindowSet(s.encode())
		if err != nil {
			t.Fatalf("decode of what was encoded: %v", err)
		}
		probes := []uint64{1, s.floor, s.floor + 1, s.floor + 2, s.floor + windowReach}
		for _, r := range s.runs {
			probes = append(probes, r.first-1, r.first, r.last, r.last+1)
		}
		for _, n := range probes {
			if s.has(n) != again.has(n) {
				t.Fatalf("has(%d) changed by encoding", n)
			}
		}
	})
}
