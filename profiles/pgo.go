package profiles

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrNoPGO is wrapped by the errors of WritePGO: these profiles are none that the compiler could use.
var ErrNoPGO = errors.New("nothing for the compiler")

// pgoDepth is how many locations of a stack the compiler reads, from the leaf (internal/profile.NewGraph, in Go 1.20 to 1.27): the call that was running, with what was inlined at either end. Calls
// further up may have been made once.
const pgoDepth = 2

// WritePGO writes s, which is of CPU, as a pprof profile for go build -pgo: what the compiler reads of one (the innermost calls of each stack, functions with the line they start at, and the lines of
// the calls) and nothing else: the compiler's own weights of calls are those of the whole profile. Callers further up, addresses, files, mappings and labels are left out, and stacks that are then
// equal are added up. Above a frame without symbols the caller is unknown and left out.
// Where the compiler would refuse the profile, or learn nothing from it, the error wraps ErrNoPGO.
func WritePGO(w io.Writer, s *Stacks) error {
	if s.Type.Profile != "cpu" {
		return fmt.Errorf("write PGO profile: of type %s: the compiler wants a CPU profile: %w", s.Type, ErrNoPGO)
	}
	t := s.Type
	switch t.Sample {
	case "cpu":
		t.Unit = "nanoseconds"
	case "samples":
		t.Unit = "count"
	default:
		return fmt.Errorf("write PGO profile: of type %s: the compiler wants cpu:cpu or cpu:samples: %w", s.Type, ErrNoPGO)
	}
	out := NewSymbols()
	var acc Accumulator
	if s.Symbols != nil {
		trim := pgoTrimmer{from: s.Symbols, to: out, locations: make([]uint32, len(s.Symbols.Locations)), functions: make([]uint32, len(s.Symbols.Functions))}
		for i, id := range s.IDs {
			acc.Add(trim.stack(s.Symbols.Stacks[id].Node), s.Values[i])
		}
	}
	trimmed := acc.Stacks(t, out, s.Start, s.End)
	trimmed.Stats = s.Stats
	if len(trimmed.IDs) == 0 || trimmed.IDs[0] == 0 && len(trimmed.IDs) == 1 {
		return fmt.Errorf("write PGO profile: there are no stacks with symbols in the range: %w", ErrNoPGO)
	}
	if !slices.ContainsFunc(out.Functions, func(f SymFunction) bool { return f.StartLine > 0 }) {
		return fmt.Errorf("write PGO profile: no function has the line that it starts at, which programs write that are built with Go 1.20 or newer: %w", ErrNoPGO)
	}
	if trimmed.IDs[0] == 0 {
		trimmed.IDs, trimmed.Values = trimmed.IDs[1:], trimmed.Values[1:]
	}
	return WritePprof(w, trimmed)
}

// pgoTrimmer copies stacks, leaving out what the compiler does not read. The tables hold ids in to, plus one.
type pgoTrimmer struct {
	from, to             *Symbols
	locations, functions []uint32
	path                 []uint32
}

func (p *pgoTrimmer) stack(node uint32) uint32 {
	path := p.path[:0]
	for ; node != 0 && len(path) < pgoDepth; node = p.from.Nodes[node].Parent {
		l := p.from.Nodes[node].Location
		if p.from.Locations[l].Lines.Len() == 0 {
			break
		}
		path = append(path, p.location(l))
	}
	p.path = path
	var n uint32
	for _, l := range slices.Backward(path) {
		n = p.to.child(n, l, mix(p.to.index.nodeHash[n], uint64(l)))
	}
	return p.to.stack(n, 0)
}

func (p *pgoTrimmer) location(i uint32) uint32 {
	if id := p.locations[i]; id != 0 {
		return id - 1
	}
	l := p.from.Locations[i]
	var lines []SymLine
	for _, ln := range p.from.Lines[l.Lines.Lo:l.Lines.Hi] {
		if p.functions[ln.Function] == 0 {
			f := p.from.Functions[ln.Function]
			name := p.to.share(p.from.functionName(ln.Function))
			p.functions[ln.Function] = p.to.function(SymFunction{Name: name, SystemName: name, StartLine: f.StartLine}) + 1
		}
		lines = append(lines, SymLine{Function: p.functions[ln.Function] - 1, Line: ln.Line})
	}
	id := p.to.location(0, 0, lines)
	p.locations[i] = id + 1
	return id
}
