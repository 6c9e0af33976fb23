package profiles

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// describe writes a stack of s as text, root first: what interning must preserve.
func (s *Symbols) describe(id uint32) string {
	var frames []string
	st := s.Stacks[id]
	for n := st.Node; n != 0; n = s.Nodes[n].Parent {
		l := s.Locations[s.Nodes[n].Location]
		m := s.Mappings[l.Mapping]
		f := fmt.Sprintf("%#x[%s %s %x %x %x %v]", l.Address, s.Strings[m.File], s.Strings[m.BuildID], m.Start, m.Limit, m.Offset, m.HasFunctions)
		for _, ln := range s.Lines[l.Lines.Lo:l.Lines.Hi] {
			fn := s.Functions[ln.Function]
			f += fmt.Sprintf(" %s|%s@%s:%d:%d", s.Strings[fn.Name], s.Strings[fn.SystemName], s.Strings[fn.File], fn.StartLine, ln.Line)
		}
		frames = append(frames, f)
	}
	set := s.LabelSets[st.LabelSet]
	for _, l := range s.Labels[set.Lo:set.Hi] {
		frames = append(frames, fmt.Sprintf("{%s=%s %d %s %v}", s.Strings[l.Key], s.Strings[l.Str], l.Num, s.Strings[l.Unit], l.Numeric))
	}
	return strings.Join(frames, "\n")
}

// describeSample is describe for a sample of a profile.
func describeSample(p *Profile, i int) string {
	var frames []string
	for _, id := range p.LocationIDs[p.Samples[i].Locations.Lo:p.Samples[i].Locations.Hi] {
		l := p.Locations[id]
		var m Mapping
		if l.Mapping != 0 {
			m = p.Mappings[l.Mapping-1]
		}
		f := fmt.Sprintf("%#x[%s %s %x %x %x %v]", l.Address, m.File, m.BuildID, m.Start, m.Limit, m.Offset, m.HasFunctions)
		for _, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
			fn := p.Functions[ln.Function]
			f += fmt.Sprintf(" %s|%s@%s:%d:%d", fn.Name, fn.SystemName, fn.File, fn.StartLine, ln.Line)
		}
		frames = append(frames, f)
	}
	for _, l := range p.Labels[p.Samples[i].Labels.Lo:p.Samples[i].Labels.Hi] {
		frames = append(frames, fmt.Sprintf("{%s=%s %d %s %v}", l.Key, l.Str, l.Num, l.Unit, l.Numeric))
	}
	return strings.Join(frames, "\n")
}

func TestSymbolsKeepEveryStackOfTheCorpus(t *testing.T) {
	files, data := readCorpus(t, 7)
	s := NewSymbols()
	var d Decoder
	var ids []uint32
	want := map[uint32]string{}
	for i, b := range data {
		p, err := d.Decode(b, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", files[i].Path, err)
		}
		ids = s.AddProfile(p, ids)
		for j, id := range ids {
			w := describeSample(p, j)
			if have, ok := want[id]; ok && have != w {
				t.Fatalf("stack %d stands for two stacks:\n%s\nand\n%s", id, have, w)
			}
			want[id] = w
		}
	}
	seen := map[string]uint32{}
	for id, w := range want {
		if got := s.describe(id); got != w {
			t.Fatalf("stack %d is\n%s\nwant\n%s", id, got, w)
		}
		if other, dup := seen[w]; dup {
			t.Fatalf("stacks %d and %d are the same", other, id)
		}
		seen[w] = id
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	t.Run("AddStacks", func(t *testing.T) { testAddStacks(t, s) })
	t.Run("Reindex", func(t *testing.T) { testReindex(t, s, data) })
}

// testAddStacks copies half of the stacks, then all of them, and compares each.
func testAddStacks(t *testing.T, o *Symbols) {
	s := NewSymbols()
	half := s.AddStacks(o, func(id uint32) bool { return id%2 == 1 })
	all := s.AddStacks(o, nil)
	for id := range o.Stacks {
		if got, want := s.describe(all[id]), o.describe(uint32(id)); got != want {
			t.Fatalf("stack %d became\n%s\nwant\n%s", id, got, want)
		}
		if want := all[id] * uint32(id%2); half[id] != want {
			t.Fatalf("stack %d: half of them gave %d, want %d", id, half[id], want)
		}
	}
	if len(s.Stacks) != len(o.Stacks) || len(s.Nodes) > len(o.Nodes) || len(s.Locations) > len(o.Locations) || len(s.Strings) > len(o.Strings) {
		t.Errorf("the copy has %d stacks, %d nodes, %d locations, %d strings of %d, %d, %d, %d", len(s.Stacks), len(s.Nodes), len(s.Locations), len(s.Strings),
			len(o.Stacks), len(o.Nodes), len(o.Locations), len(o.Strings))
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

// testReindex fills a table as a reader of a file does and adds what it holds already.
func testReindex(t *testing.T, o *Symbols, data [][]byte) {
	s := &Symbols{Strings: slices.Clone(o.Strings), Functions: slices.Clone(o.Functions), Mappings: slices.Clone(o.Mappings), Locations: slices.Clone(o.Locations),
		Lines: slices.Clone(o.Lines), Nodes: slices.Clone(o.Nodes), LabelSets: slices.Clone(o.LabelSets), Labels: slices.Clone(o.Labels), Stacks: slices.Clone(o.Stacks)}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, b := range data {
		p, err := Parse(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.AddProfile(p, nil), o.AddProfile(p, nil); !slices.Equal(got, want) {
			t.Fatal("a read table gives other ids than the one that was written")
		}
	}
	if len(s.Stacks) != len(o.Stacks) || len(s.Strings) != len(o.Strings) || len(s.Functions) != len(o.Functions) || len(s.LabelSets) != len(o.LabelSets) {
		t.Error("adding what was there made the table grow")
	}
}

func TestAddProfileKeepsOnlyWhatSamplesUse(t *testing.T) {
	p, err := Parse(smallest(raw{}.num(1, 1).num(2, 5), raw{}.strings("unused").bytes(5, raw{}.num(1, 2).num(2, 4)).bytes(4, raw{}.num(1, 2).bytes(4, raw{}.num(1, 2)))), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSymbols()
	ids := s.AddProfile(p, nil)
	if !slices.Equal(ids, []uint32{1}) || slices.Contains(s.Strings, "unused") || len(s.Functions) != 2 || len(s.Locations) != 2 {
		t.Errorf("ids %v, table %+v", ids, s)
	}
}

// TestEveryPartOfAStackCounts interns a stack and the same with one part changed: known stacks are found by a hash of what they are made of, which must leave nothing out.
func TestEveryPartOfAStackCounts(t *testing.T) {
	build := func() *Profile {
		return &Profile{
			SampleTypes: []ValueType{{"samples", "count"}},
			Samples:     []Sample{{Locations: Span{0, 3}, Labels: Span{0, 2}}}, LocationIDs: []uint32{0, 1, 2}, Values: []int64{1},
			Labels:    []SampleLabel{{Key: "bytes", Num: 16, Unit: "bytes", Numeric: true}, {Key: "user", Str: "a"}},
			Locations: []Location{{Mapping: 1, Address: 1, Lines: Span{0, 2}}, {Mapping: 1, Address: 2, Lines: Span{2, 3}}, {Mapping: 2, Address: 3, Lines: Span{3, 3}}},
			Lines:     []Line{{0, 10}, {1, 20}, {1, 30}},
			Functions: []Function{{Name: "a", SystemName: "a", File: "a.go", StartLine: 1}, {Name: "a.function.of.a.longer.name", SystemName: "b", File: "b.go", StartLine: 2}},
			Mappings:  []Mapping{{Start: 1, Limit: 9, Offset: 3, File: "/bin/a", BuildID: "x", HasFunctions: true}, {Start: 10, Limit: 90}},
		}
	}
	changes := map[string]func(p *Profile){
		"nothing":            func(p *Profile) {},
		"order":              func(p *Profile) { p.LocationIDs[0], p.LocationIDs[1] = 1, 0 },
		"order of the roots": func(p *Profile) { p.LocationIDs[1], p.LocationIDs[2] = 2, 1 },
		"depth":              func(p *Profile) { p.Samples[0].Locations.Hi-- },
		"depth at the leaf":  func(p *Profile) { p.Samples[0].Locations.Lo++ },
		"no locations":       func(p *Profile) { p.Samples[0].Locations.Hi = 0 },
		"no labels":          func(p *Profile) { p.Samples[0].Labels.Hi = 0 },
		"fewer labels":       func(p *Profile) { p.Samples[0].Labels.Hi = 1 },
		"label key":          func(p *Profile) { p.Labels[1].Key = "v" },
		"label string":       func(p *Profile) { p.Labels[1].Str = "b" },
		"label number":       func(p *Profile) { p.Labels[0].Num++ },
		"label unit":         func(p *Profile) { p.Labels[0].Unit = "" },
		"label of another kind": func(p *Profile) {
			p.Labels[0] = SampleLabel{Key: "bytes", Str: "bytes", Num: 16}
		},
		"label not numeric": func(p *Profile) { p.Labels[0].Numeric = false },
		"address":           func(p *Profile) { p.Locations[1].Address++ },
		"mapping":           func(p *Profile) { p.Locations[1].Mapping = 2 },
		"no mapping":        func(p *Profile) { p.Locations[1].Mapping = 0 },
		"lines":             func(p *Profile) { p.Locations[0].Lines.Hi-- },
		"line":              func(p *Profile) { p.Lines[1].Line++ },
		"order of lines":    func(p *Profile) { p.Lines[0], p.Lines[1] = p.Lines[1], p.Lines[0] },
		"function":          func(p *Profile) { p.Lines[0].Function = 1 },
		"name":              func(p *Profile) { p.Functions[0].Name = "c" },
		"end of a name":     func(p *Profile) { p.Functions[1].Name = "a.function.of.a.longer.namf" },
		"middle of a name":  func(p *Profile) { p.Functions[1].Name = "a.function.of_a.longer.name" },
		"system name":       func(p *Profile) { p.Functions[0].SystemName = "c" },
		"no system name":    func(p *Profile) { p.Functions[1].SystemName = "" },
		"file":              func(p *Profile) { p.Functions[0].File = "c.go" },
		"no file":           func(p *Profile) { p.Functions[0].File = "" },
		"start line":        func(p *Profile) { p.Functions[0].StartLine++ },
		"mapping start":     func(p *Profile) { p.Mappings[0].Start++ },
		"mapping limit":     func(p *Profile) { p.Mappings[0].Limit++ },
		"mapping offset":    func(p *Profile) { p.Mappings[0].Offset++ },
		"mapping file":      func(p *Profile) { p.Mappings[0].File = "/bin/b" },
		"mapping build":     func(p *Profile) { p.Mappings[0].BuildID = "y" },
		"mapping functions": func(p *Profile) { p.Mappings[0].HasFunctions = false },
	}
	s := NewSymbols()
	got := map[uint32]string{}
	for _, again := range []bool{false, true} {
		for name, change := range changes {
			p := build()
			change(p)
			id := s.AddProfile(p, nil)[0]
			if other, ok := got[id]; ok && other != name {
				t.Errorf("%s and %s gave the same stack", name, other)
			} else if ok != again {
				t.Errorf("%s: seen before %v, want %v", name, ok, again)
			}
			if have, want := s.describe(id), describeSample(p, 0); have != want {
				t.Errorf("%s: stack %d is\n%s\nwant\n%s", name, id, have, want)
			}
			got[id] = name
		}
	}
	if len(s.Stacks) != len(changes)+1 {
		t.Errorf("%d stacks, want %d", len(s.Stacks), len(changes)+1)
	}
}

func TestValidateFindsWhatIsBroken(t *testing.T) {
	for name, damage := range map[string]func(s *Symbols){
		"string 0":      func(s *Symbols) { s.Strings[0] = "x" },
		"no stacks":     func(s *Symbols) { s.Stacks = nil },
		"function":      func(s *Symbols) { s.Functions[1].File = 99 },
		"line":          func(s *Symbols) { s.Lines[0].Function = 99 },
		"location":      func(s *Symbols) { s.Locations[1].Mapping = 99 },
		"lines":         func(s *Symbols) { s.Locations[1].Lines.Hi = 99 },
		"parent":        func(s *Symbols) { s.Nodes[1].Parent = 1 },
		"node location": func(s *Symbols) { s.Nodes[1].Location = 99 },
		"label":         func(s *Symbols) { s.Labels[0].Key = 99 },
		"label order":   func(s *Symbols) { s.Labels[0], s.Labels[1] = s.Labels[1], s.Labels[0] },
		"label set":     func(s *Symbols) { s.LabelSets[1].Hi = 99 },
		"stack":         func(s *Symbols) { s.Stacks[1].Node = 99 },
	} {
		s := NewSymbols()
		label := func(k, v uint64) raw { return raw{}.num(1, k).num(2, v) }
		p, err := Parse(smallest(raw{}.num(1, 1).num(2, 5).bytes(3, label(2, 1)).bytes(3, label(1, 2))), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		s.AddProfile(p, nil)
		if err := s.Validate(); err != nil {
			t.Fatalf("before damage: %v", err)
		}
		damage(s)
		if err := s.Validate(); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
