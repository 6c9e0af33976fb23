package profiles

import (
	"maps"
	"slices"
	"strings"
)

// testProfile is a profile with one sample per stack, written root first as "main.main;main.work". A frame is a function, in the file "/src/PACKAGE.go";
// frames joined by "+" are one location, the caller first and what was inlined into it after it. Equal frames share an address.
func testProfile(types []ValueType, stacks map[string][]int64) *Profile {
	p := &Profile{SampleTypes: types, Mappings: []Mapping{{Start: 0x400000, Limit: 0x800000, File: "/bin/app", BuildID: "b1", HasFunctions: true}}}
	functions, locations := map[string]uint32{}, map[string]uint32{}
	for _, stack := range slices.Sorted(maps.Keys(stacks)) {
		s := Sample{Locations: Span{Lo: uint32(len(p.LocationIDs))}, Labels: Span{Lo: uint32(len(p.Labels)), Hi: uint32(len(p.Labels))}}
		for _, frame := range slices.Backward(strings.Split(stack, ";")) {
			id, ok := locations[frame]
			if !ok {
				id = uint32(len(p.Locations))
				locations[frame] = id
				p.Locations = append(p.Locations, testLocation(p, functions, frame))
			}
			p.LocationIDs = append(p.LocationIDs, id)
		}
		s.Locations.Hi = uint32(len(p.LocationIDs))
		p.Samples = append(p.Samples, s)
		p.Values = append(p.Values, stacks[stack]...)
	}
	return p
}

func testLocation(p *Profile, functions map[string]uint32, frame string) Location {
	l := Location{Mapping: 1, Address: 0x400000 + uint64(len(p.Locations)+1)*16, Lines: Span{Lo: uint32(len(p.Lines))}}
	if strings.HasPrefix(frame, "0x") {
		l.Lines.Hi = l.Lines.Lo
		return l
	}
	for _, name := range slices.Backward(strings.Split(frame, "+")) {
		f, ok := functions[name]
		if !ok {
			f = uint32(len(p.Functions))
			functions[name] = f
			pkg, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ".")
			p.Functions = append(p.Functions, Function{Name: name, SystemName: name, File: "/src/" + pkg + ".go", StartLine: 10})
		}
		p.Lines = append(p.Lines, Line{Function: f, Line: 12})
	}
	l.Lines.Hi = uint32(len(p.Lines))
	return l
}

// testStacks merges testProfile of one column into Stacks of type id over 10 s.
func testStacks(id string, stacks map[string]int64) *Stacks {
	t, err := ParseType(id)
	if err != nil {
		panic(err)
	}
	units := map[string]string{"cpu": "nanoseconds", "inuse_space": "bytes", "goroutine": "count"}
	columns := map[string][]int64{}
	for k, v := range stacks {
		columns[k] = []int64{v}
	}
	b := NewBuilder(t, 1_700_000_000_000, 1_700_000_010_000)
	if err := b.Add(testProfile([]ValueType{{t.Sample, units[t.Sample]}}, columns), 0, 10_000); err != nil {
		panic(err)
	}
	return b.Stacks()
}

// flatValues returns the values of s by stack, written root first.
func flatValues(s *Stacks) map[string]int64 {
	out := map[string]int64{}
	for i, id := range s.IDs {
		var frames []string
		for n := s.Symbols.Stacks[id].Node; n != 0; n = s.Symbols.Nodes[n].Parent {
			l := s.Symbols.Locations[s.Symbols.Nodes[n].Location]
			for _, ln := range s.Symbols.Lines[l.Lines.Lo:l.Lines.Hi] {
				frames = append(frames, s.Symbols.Strings[s.Symbols.Functions[ln.Function].Name])
			}
		}
		slices.Reverse(frames)
		out[strings.Join(frames, ";")] += s.Values[i]
	}
	return out
}
