package profiles

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// randomStacks adds n random stacks to s and returns them with values.
func randomStacks(s *Symbols, rng *rand.Rand, n int) *Stacks {
	p := &Profile{SampleTypes: []ValueType{{"cpu", "nanoseconds"}}}
	for range n {
		lo := uint32(len(p.LocationIDs))
		for range 1 + rng.IntN(6) {
			f := rng.IntN(30)
			p.Functions = append(p.Functions, Function{Name: fmt.Sprintf("main.f%d", f%20), SystemName: "x", File: []string{"a.go", fmt.Sprintf("f%d.go", f)}[rng.IntN(2)]})
			p.Lines = append(p.Lines, Line{Function: uint32(len(p.Functions) - 1), Line: int64(f)})
			at := uint32(len(p.Lines))
			if rng.IntN(8) == 0 { // without symbols
				p.Locations = append(p.Locations, Location{Address: uint64(f)})
			} else {
				p.Locations = append(p.Locations, Location{Address: uint64(f), Lines: Span{at - 1, at}})
			}
			p.LocationIDs = append(p.LocationIDs, uint32(len(p.Locations)-1))
		}
		p.Samples = append(p.Samples, Sample{Locations: Span{lo, uint32(len(p.LocationIDs))}})
		p.Values = append(p.Values, rng.Int64N(1000)-100)
	}
	var acc Accumulator
	for i, id := range s.AddProfile(p, nil) {
		acc.Add(id, p.Values[i])
	}
	return acc.Stacks(Type{Profile: "cpu", Sample: "cpu", Unit: "nanoseconds"}, s, 0, 1)
}

// on returns s with another table that begins with the same entries.
func (s *Stacks) on(symbols *Symbols) *Stacks {
	out := *s
	out.Symbols = symbols
	return &out
}

// TestTrackedCalls: views of a table that keeps its tree of functions are those of one that does not, also where the table has grown since or holds much that
// is not in use, and where the sides of a diff are of different tables.
func TestTrackedCalls(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var tables [2]*Symbols
	var plain, tracked []*Stacks
	for i := range tables {
		tables[i] = NewSymbols()
		tables[i].TrackCalls()
		for range 4 {
			s := randomStacks(tables[i], rng, 1+rng.IntN(80))
			snap := tables[i].Snapshot()
			bare := *snap
			bare.calls = nil
			plain, tracked = append(plain, s.on(&bare)), append(tracked, s.on(snap))
		}
	}
	compare := func(name string, got, want any) {
		t.Helper()
		a, b := asJSON(t, got), asJSON(t, want)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("%s: at %d %.200s, want %.200s", name, i, a[i:], b[i:])
			}
		}
		if len(a) != len(b) {
			t.Fatalf("%s: %d bytes, want %d", name, len(a), len(b))
		}
	}
	for i := range plain {
		for _, nodes := range []int{5, 40, 0} {
			compare(fmt.Sprint("flame ", i, nodes), NewFlame(tracked[i], nil, FlameOptions{MaxNodes: nodes, OwnModule: "a"}), NewFlame(plain[i], nil, FlameOptions{MaxNodes: nodes, OwnModule: "a"}))
			for j := range plain {
				compare(fmt.Sprint("diff ", i, j, nodes), NewFlame(tracked[i], tracked[j], FlameOptions{MaxNodes: nodes}), NewFlame(plain[i], plain[j], FlameOptions{MaxNodes: nodes}))
				compare(fmt.Sprint("top ", i, j), NewTop(tracked[i], tracked[j], TopOptions{}), NewTop(plain[i], plain[j], TopOptions{}))
			}
		}
	}
}

// TestSnapshotsAreRead while their table grows.
func TestSnapshotsAreRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := NewSymbols()
	s.TrackCalls()
	var wg sync.WaitGroup
	for range 20 {
		stacks := randomStacks(s, rng, 50)
		stacks = stacks.on(s.Snapshot())
		wg.Go(func() {
			for range 3 {
				if f := NewFlame(stacks, nil, FlameOptions{}); f.Total != stacks.Total() {
					t.Errorf("flame graph of %d, want %d", f.Total, stacks.Total())
				}
			}
		})
	}
	wg.Wait()
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
