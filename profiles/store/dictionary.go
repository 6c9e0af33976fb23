package store

import (
	"slices"
	"weak"

	"github.com/sonde-io/sonde/profiles"
)

// maxDictionary bounds one service's dictionary, and maxDictionaries all of them together, in nodes of the stack tree (of about 50 bytes with all that hangs
// on them). emptyDictionary is what a table weighs that holds nothing.
const (
	maxDictionary   = 128 << 10
	maxDictionaries = 2 << 20
	emptyDictionary = 700
)

// dictionaries keep each service's symbols from segment to segment, so that what a running program sends again and again is found and not built anew.
// They are a cache: a segment holds what of them it uses. Guarded by Store.mu.
type dictionaries struct {
	tables map[string]*profiles.Symbols
	gets   int
}

func newDictionaries() *dictionaries { return &dictionaries{tables: map[string]*profiles.Symbols{}} }

// get returns the table that the service's next segment interns into.
func (d *dictionaries) get(service string) *profiles.Symbols {
	s := d.tables[service]
	if d.gets++; s == nil || d.gets%256 == 0 { // weighing all of them each time would cost more than it saves
		if d.weight() > maxDictionaries {
			clear(d.tables)
			s = nil
		}
	}
	if s == nil || len(s.Nodes) > maxDictionary {
		s = profiles.NewSymbols()
		d.tables[service] = s
	}
	return s
}

func (d *dictionaries) weight() (n int) {
	for _, s := range d.tables {
		n += emptyDictionary + len(s.Nodes)
	}
	return n
}

// origin says where a dataset's stacks are in its service's dictionary. Datasets that come from the same one are merged by their places in it, which needs
// no look at names. It is kept in memory only, and does not keep the dictionary alive.
type origin struct {
	dict   weak.Pointer[profiles.Symbols]
	stacks []uint32 // of each stack of the dataset its id in dict; ascending
}

// origin returns where the stacks of the table that copy made are in dict, which sub was reset to (or to a snapshot of it).
func (s *subset) origin(dict *profiles.Symbols) *origin {
	return &origin{weak.Make(dict), s.kept()}
}

// subset returns the origin of what sub kept of the table that o is about.
func (o *origin) subset(sub *subset) *origin {
	kept := sub.kept()
	for i, id := range kept {
		kept[i] = o.stacks[id]
	}
	return &origin{o.dict, kept}
}

// kept returns for each stack of the table that copy made its id before, ascending.
func (s *subset) kept() []uint32 {
	out := []uint32{0}
	for id, v := range s.stacks {
		if v != 0 {
			out = append(out, uint32(id))
		}
	}
	return out
}

// snapshot returns the table as it is now, for reading without the lock: tables only grow, entries never change.
func snapshot(s *profiles.Symbols) *profiles.Symbols {
	return &profiles.Symbols{
		Strings: s.Strings, Functions: s.Functions, Mappings: s.Mappings, Locations: s.Locations, Lines: s.Lines,
		Nodes: s.Nodes, LabelSets: s.LabelSets, Labels: s.Labels, Stacks: s.Stacks,
	}
}

// subset copies what some stacks of a table use. Entries keep their order, so ids that ascend in the table ascend in the copy. Not safe for concurrent use.
type subset struct {
	from                                                             *profiles.Symbols
	stacks, nodes, locations, functions, mappings, labelSets, string marks
}

// marks are 1 for each used entry, and after number its new index.
type marks []uint32

func (m *marks) reset(n int) {
	*m = slices.Grow((*m)[:0], n)[:n]
	clear(*m)
	(*m)[0] = 1 // the empty entry is always there
}

// number replaces marks by indices and returns how many there are.
func (m marks) number() (n int) {
	for i, v := range m {
		if v != 0 {
			m[i] = uint32(n)
			n++
		}
	}
	return n
}

func (s *subset) reset(from *profiles.Symbols) {
	s.from = from
	s.stacks.reset(len(from.Stacks))
	s.nodes.reset(len(from.Nodes))
	s.locations.reset(len(from.Locations))
	s.functions.reset(len(from.Functions))
	s.mappings.reset(len(from.Mappings))
	s.labelSets.reset(len(from.LabelSets))
	s.string.reset(len(from.Strings))
}

// use marks a stack.
func (s *subset) use(id uint32) {
	if s.stacks[id] != 0 {
		return
	}
	s.stacks[id] = 1
	st := s.from.Stacks[id]
	if s.labelSets[st.LabelSet] == 0 {
		s.labelSets[st.LabelSet] = 1
		set := s.from.LabelSets[st.LabelSet]
		for _, l := range s.from.Labels[set.Lo:set.Hi] {
			s.string[l.Key], s.string[l.Str], s.string[l.Unit] = 1, 1, 1
		}
	}
	for n := st.Node; s.nodes[n] == 0; n = s.from.Nodes[n].Parent {
		s.nodes[n] = 1
		if l := s.from.Nodes[n].Location; s.locations[l] == 0 {
			s.useLocation(l)
		}
	}
}

func (s *subset) useLocation(i uint32) {
	s.locations[i] = 1
	l := s.from.Locations[i]
	m := s.from.Mappings[l.Mapping]
	s.mappings[l.Mapping], s.string[m.File], s.string[m.BuildID] = 1, 1, 1
	for _, x := range s.from.Lines[l.Lines.Lo:l.Lines.Hi] {
		f := s.from.Functions[x.Function]
		s.functions[x.Function], s.string[f.Name], s.string[f.SystemName], s.string[f.File] = 1, 1, 1, 1
	}
}

// copy returns the table of what was marked; afterwards stacks maps the old stack ids to the new. The table has no index: it is for reading.
func (s *subset) copy() *profiles.Symbols {
	from, out := s.from, &profiles.Symbols{}
	out.Strings = pick(from.Strings, s.string)
	out.Functions = pick(from.Functions, s.functions)
	out.Mappings = pick(from.Mappings, s.mappings)
	out.Locations = pick(from.Locations, s.locations)
	out.Nodes = pick(from.Nodes, s.nodes)
	out.LabelSets = pick(from.LabelSets, s.labelSets)
	out.Stacks = pick(from.Stacks, s.stacks)
	for i := range out.Functions {
		f := &out.Functions[i]
		f.Name, f.SystemName, f.File = s.string[f.Name], s.string[f.SystemName], s.string[f.File]
	}
	for i := range out.Mappings {
		m := &out.Mappings[i]
		m.File, m.BuildID = s.string[m.File], s.string[m.BuildID]
	}
	for i := range out.Locations {
		l := &out.Locations[i]
		lo := uint32(len(out.Lines))
		for _, x := range from.Lines[l.Lines.Lo:l.Lines.Hi] {
			out.Lines = append(out.Lines, profiles.SymLine{Function: s.functions[x.Function], Line: x.Line})
		}
		l.Mapping, l.Lines = s.mappings[l.Mapping], profiles.Span{Lo: lo, Hi: uint32(len(out.Lines))}
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		n.Parent, n.Location = s.nodes[n.Parent], s.locations[n.Location]
	}
	for i := range out.LabelSets {
		set := &out.LabelSets[i]
		lo := uint32(len(out.Labels))
		for _, l := range from.Labels[set.Lo:set.Hi] {
			l.Key, l.Str, l.Unit = s.string[l.Key], s.string[l.Str], s.string[l.Unit]
			out.Labels = append(out.Labels, l)
		}
		*set = profiles.Span{Lo: lo, Hi: uint32(len(out.Labels))}
	}
	for i := range out.Stacks {
		st := &out.Stacks[i]
		st.Node, st.LabelSet = s.nodes[st.Node], s.labelSets[st.LabelSet]
	}
	return out
}

// pick returns the entries of table that are marked, and replaces the marks by their new indices.
func pick[T any](table []T, used marks) []T {
	out := make([]T, 0, used.number())
	for i, m := range used {
		if m != 0 || i == 0 { // the empty entry is always there, and stays the first
			out = append(out, table[i])
		}
	}
	return out
}
