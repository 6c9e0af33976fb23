package profiles

import (
	"fmt"
	"strings"
	"testing"
)

// names is a Symbolizer that knows the functions of builds: "cart" at 0x10 is "outer", with "inner" inlined there.
type names struct {
	known      map[string]map[uint64][]string // by build id and address, innermost first
	generation uint64
	asked      int
}

func (n *names) Generation() uint64 { return n.generation }

func (n *names) Symbolize(buildID string, _, _, _, address uint64, add func(function, file string, line, startLine int64)) bool {
	n.asked++
	for i, f := range n.known[buildID][address] {
		add(f, f+".go", int64(i+1), 1)
	}
	return len(n.known[buildID][address]) > 0
}

// addresses is a profile of two stacks without names, one of which has a function with a name above it.
func addresses() *Profile {
	return &Profile{SampleTypes: []ValueType{{"cpu", "nanoseconds"}}, Mappings: []Mapping{{Start: 0, Limit: 100, File: "cart", BuildID: "b1"}, {Start: 200, Limit: 300, File: "libc"}},
		Functions: []Function{{Name: "main.main"}}, Lines: []Line{{Function: 0, Line: 3}},
		Locations:   []Location{{Mapping: 1, Address: 0x10}, {Mapping: 1, Address: 0x20}, {Mapping: 2, Address: 0x99}, {Mapping: 1, Address: 0x30, Lines: Span{0, 1}}},
		LocationIDs: []uint32{0, 3, 1, 2}, Samples: []Sample{{Locations: Span{0, 2}}, {Locations: Span{2, 4}}}, Values: []int64{5, 7}}
}

// stacksOf writes the stacks of a table, outermost first.
func stacksOf(s *Symbols) string {
	var out []string
	for _, st := range s.Stacks[1:] {
		var frames []string
		for n := st.Node; n != 0; n = s.Nodes[n].Parent {
			l := &s.Locations[s.Nodes[n].Location]
			if l.Lines.Len() == 0 {
				frames = append([]string{fmt.Sprintf("0x%x", l.Address)}, frames...)
			}
			for _, ln := range s.Lines[l.Lines.Lo:l.Lines.Hi] {
				frames = append([]string{s.functionName(ln.Function)}, frames...)
			}
		}
		out = append(out, strings.Join(frames, ";"))
	}
	return strings.Join(out, " ")
}

func TestProfileSymbolize(t *testing.T) {
	p := addresses()
	z := &names{known: map[string]map[uint64][]string{"b1": {0x10: {"inner", "outer"}}}}
	if n := p.Symbolize(z); n != 1 || z.asked != 2 {
		t.Errorf("named %d places of %d asked for, want 1 of 2: what has a name, or no build id, is not asked for", n, z.asked)
	}
	s := NewSymbols()
	s.AddProfile(p, nil)
	if got, want := stacksOf(s), "main.main;outer;inner 0x99;0x20"; got != want {
		t.Errorf("stacks %s, want %s", got, want)
	}
	if p.Symbolize(z); z.asked != 3 {
		t.Errorf("asked %d times, want 3: only what has no name yet", z.asked)
	}
}

// A table names what it takes over from others, which stay as they are.
func TestSymbolsSymbolize(t *testing.T) {
	stored := NewSymbols()
	stored.AddProfile(addresses(), nil)
	z := &names{known: map[string]map[uint64][]string{"b1": {0x10: {"inner", "outer"}}}}
	view := func() *Symbols {
		s := NewSymbols()
		s.SymbolizeWith(z)
		s.AddStacks(stored, nil)
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
		return s
	}
	s := view()
	if got, want := stacksOf(s), "main.main;outer;inner 0x99;0x20"; got != want || !s.Unnamed() {
		t.Errorf("stacks %s, want %s; unnamed %t", got, want, s.Unnamed())
	}
	z.known["b1"][0x20] = []string{"late"}
	if s = view(); stacksOf(s) != "main.main;outer;inner 0x99;late" || s.Unnamed() {
		t.Errorf("stacks %s; unnamed %t: what has no build id cannot be named", stacksOf(s), s.Unnamed())
	}
	if got, want := stacksOf(stored), "main.main;0x10 0x99;0x20"; got != want {
		t.Errorf("the table itself has %s, want %s", got, want)
	}
}
