package profiles

// Symbolizer names what lies at addresses of binaries. Safe for concurrent use.
type Symbolizer interface {
	// Generation is a number that grows whenever a binary becomes known: what could not be named before is worth another question.
	Generation() uint64
	// Symbolize calls add for every frame at an address of the binary with that build id, innermost first, and reports whether it knows any. start, limit and
	// offset are those of the mapping that the address was met in; an address outside of it is one of the file itself.
	Symbolize(buildID string, start, limit, offset, address uint64, add func(function, file string, line, startLine int64)) bool
}

// Symbolize names the locations of p that have an address and a build id but no function, as far as z knows their binaries, and returns how many it named.
func (p *Profile) Symbolize(z Symbolizer) int {
	type place struct{ name, file string }
	functions := map[place]uint32{}
	named := 0
	for i := range p.Locations {
		l := &p.Locations[i]
		if l.Lines.Len() > 0 || l.Address == 0 || l.Mapping == 0 {
			continue
		}
		m := &p.Mappings[l.Mapping-1]
		if m.BuildID == "" {
			continue
		}
		lo := uint32(len(p.Lines))
		if !z.Symbolize(m.BuildID, m.Start, m.Limit, m.Offset, l.Address, func(function, file string, line, startLine int64) {
			f, ok := functions[place{function, file}]
			if !ok {
				f = uint32(len(p.Functions))
				p.Functions = append(p.Functions, Function{Name: function, SystemName: function, File: file, StartLine: startLine})
				functions[place{function, file}] = f
			}
			p.Lines = append(p.Lines, Line{Function: f, Line: line})
		}) {
			p.Lines = p.Lines[:lo]
			continue
		}
		l.Lines = Span{lo, uint32(len(p.Lines))}
		named++
	}
	return named
}

// SymbolizeWith makes AddStacks name the locations that come without a function, as far as z knows their binaries.
func (s *Symbols) SymbolizeWith(z Symbolizer) { s.symbolizer = z }

// Unnamed reports whether AddStacks added a location that a binary would name which was not known then.
func (s *Symbols) Unnamed() bool { return s.unnamed }

// symbolize appends the lines of a location of o that has none.
func (c *copier) symbolize(lines []SymLine, l *SymLocation) []SymLine {
	m := &c.o.Mappings[l.Mapping]
	if c.s.symbolizer == nil || m.BuildID == 0 || l.Address == 0 {
		return lines
	}
	s := c.s
	if !s.symbolizer.Symbolize(c.o.Strings[m.BuildID], m.Start, m.Limit, m.Offset, l.Address, func(function, file string, line, startLine int64) {
		name := s.intern(function)
		f := s.function(SymFunction{Name: name, SystemName: name, File: s.intern(file), StartLine: startLine})
		lines = append(lines, SymLine{Function: f, Line: line})
	}) {
		s.unnamed = true
		return lines[:0]
	}
	return lines
}
