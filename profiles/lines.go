package profiles

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Frames says what one frame of a flame graph or one row of a table is.
type Frames string

// What a frame can be.
const (
	FramesFunction Frames = "function" // a function; "" too
	FramesLine     Frames = "line"     // a line of a function, called main.work:12
	FramesAddress  Frames = "address"  // an address in a binary, called main.work [cart@3f2a1b9c+0x1010]: with the start of the build id and the offset in the file
)

// ParseFrames reads what the API and the command line call frames.
func ParseFrames(s string) (Frames, error) {
	switch f := Frames(s); f {
	case FramesFunction, FramesLine, FramesAddress:
		return f, nil
	}
	return "", fmt.Errorf("parse frames %q: want function, line or address", s)
}

// callsBy returns the tree of what s uses by frames. Only the tree of functions is kept with a table of symbols; the others are seldom asked for.
func callsBy(s *Stacks, frames Frames) *callTree {
	if frames != FramesLine && frames != FramesAddress || s.Symbols == nil {
		return callsOf(s)
	}
	sym := s.Symbols
	used := newBitmap(len(sym.Nodes))
	used.set(0)
	for _, id := range s.IDs {
		for n := sym.Stacks[id].Node; !used.has(n); n = sym.Nodes[n].Parent {
			used.set(n)
		}
	}
	c := newCallTree()
	c.leaf = make([]uint32, len(sym.Nodes))
	names := map[uint32][]uint32{} // of a location's frames, outermost first
	used.each(func(i uint32) {
		if i == 0 {
			return
		}
		n := sym.Nodes[i]
		path, ok := names[n.Location]
		if !ok {
			path = c.addLocation(sym, n.Location, frames)
			names[n.Location] = path
		}
		cur := c.leaf[n.Parent]
		for _, name := range path {
			cur = c.step(cur, name)
		}
		c.leaf[i] = cur
	})
	return c
}

// addLocation names the frames of a location, outermost first.
func (c *callTree) addLocation(sym *Symbols, location uint32, frames Frames) []uint32 {
	l := &sym.Locations[location]
	if l.Lines.Len() == 0 {
		return []uint32{c.add(sym.unknownFrame(l))} // an address already
	}
	names := make([]uint32, 0, l.Lines.Len())
	for j := int(l.Lines.Hi) - 1; j >= int(l.Lines.Lo); j-- {
		ln := sym.Lines[j]
		name, file := sym.functionName(ln.Function), sym.Strings[sym.Functions[ln.Function].File]
		line := ""
		if ln.Line > 0 {
			line = ":" + strconv.FormatInt(ln.Line, 10)
		}
		if frames == FramesLine {
			name += line
		} else {
			name += sym.place(l)
			file += line
		}
		names = append(names, c.add(name, file))
	}
	return names
}

// place writes where l is in its binary, as [cart@3f2a1b9c+0x1010]; "" where addresses were not kept.
func (s *Symbols) place(l *SymLocation) string {
	if l.Address == 0 {
		return ""
	}
	m := &s.Mappings[l.Mapping]
	build := s.Strings[m.BuildID]
	if len(build) > 8 {
		build = build[:8]
	}
	if build != "" {
		build = "@" + build
	}
	base := s.Strings[m.File]
	if base != "" {
		base = path.Base(base)
	}
	return " [" + base + build + "+0x" + strconv.FormatUint(m.fileOffset(l.Address), 16) + "]"
}

// fileOffset returns where in its file an address lies, so that equal code has one place wherever it was loaded; the address itself where it is not within m.
func (m *SymMapping) fileOffset(address uint64) uint64 {
	if address >= m.Start && address < m.Limit {
		return address - m.Start + m.Offset
	}
	return address
}

// functionOf returns the function in the name of a frame of any kind.
func functionOf(frame string) string {
	if i := strings.LastIndex(frame, " ["); i > 0 && strings.HasSuffix(frame, "]") {
		return frame[:i]
	}
	if i := strings.LastIndexByte(frame, ':'); i > 0 && i+1 < len(frame) && strings.Trim(frame[i+1:], "0123456789") == "" {
		return frame[:i]
	}
	return frame
}
