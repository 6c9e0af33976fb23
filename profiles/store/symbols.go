package store

import (
	"encoding/binary"

	"github.com/sonde-io/sonde/profiles"
)

// The sections of a dataset that have a place in the footer. The first seven are its symbols.
const (
	sectionStrings = iota
	sectionFunctions
	sectionMappings
	sectionLocations
	sectionNodes
	sectionLabelSets
	sectionStacks
	sectionSpanSets // from version 2 on, as is the next
	sectionRollups
	sectionIndex
	sectionCount

	symbolSections = sectionSpanSets
)

var sectionNames = [sectionCount]string{"strings", "functions", "mappings", "locations", "nodes", "label sets", "stacks", "span sets", "rollup index", "series index"}

// appendSymbols encodes one of the symbol sections. Tables are written column by column, each column as the difference to what is
// likely, because that is what zstd makes the most of.
func appendSymbols(b []byte, section int, s *profiles.Symbols, version int) []byte {
	switch section {
	case sectionStrings:
		if version > version1 {
			return appendFrontCoded(b, s.Strings)
		}
		return appendStrings(b, s.Strings)
	case sectionFunctions:
		return appendFunctions(b, s.Functions)
	case sectionMappings:
		b = binary.AppendUvarint(b, uint64(len(s.Mappings)))
		for _, m := range s.Mappings {
			for _, v := range [...]uint64{m.Start, m.Limit, m.Offset, uint64(m.File), uint64(m.BuildID), uint64(bit(m.HasFunctions))} {
				b = binary.AppendUvarint(b, v)
			}
		}
		return b
	case sectionLocations:
		if version > version1 {
			return appendLocations(b, s)
		}
		return appendLocations1(b, s)
	case sectionNodes:
		return appendNodes(b, s.Nodes, version)
	case sectionLabelSets:
		return appendLabelSets(b, s)
	default:
		b = binary.AppendUvarint(b, uint64(len(s.Stacks)))
		prev := int64(0)
		for _, st := range s.Stacks {
			b = binary.AppendVarint(b, int64(st.Node)-prev)
			prev = int64(st.Node)
		}
		for _, st := range s.Stacks {
			b = binary.AppendUvarint(b, uint64(st.LabelSet))
		}
		return b
	}
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, x := range list {
		b = binary.AppendUvarint(b, uint64(len(x)))
	}
	for _, x := range list {
		b = append(b, x...)
	}
	return b
}

func appendFunctions(b []byte, fs []profiles.SymFunction) []byte {
	b = binary.AppendUvarint(b, uint64(len(fs)))
	prev := int64(0)
	for _, f := range fs {
		b = binary.AppendVarint(b, int64(f.Name)-prev)
		prev = int64(f.Name)
	}
	for _, f := range fs {
		b = binary.AppendVarint(b, int64(f.SystemName)-int64(f.Name))
	}
	prev = 0
	for _, f := range fs {
		b = binary.AppendVarint(b, int64(f.File)-prev)
		prev = int64(f.File)
	}
	for _, f := range fs {
		b = binary.AppendVarint(b, f.StartLine)
	}
	return b
}

// appendLocations1 is appendLocations of version 1.
func appendLocations1(b []byte, s *profiles.Symbols) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.Locations)))
	for _, l := range s.Locations {
		b = binary.AppendUvarint(b, uint64(l.Lines.Len()))
	}
	for _, l := range s.Locations {
		b = binary.AppendUvarint(b, uint64(l.Mapping))
	}
	prev := uint64(0)
	for _, l := range s.Locations {
		b = binary.AppendVarint(b, int64(l.Address-prev))
		prev = l.Address
	}
	for _, l := range s.Locations {
		for _, x := range s.Lines[l.Lines.Lo:l.Lines.Hi] {
			b = binary.AppendUvarint(b, uint64(x.Function))
		}
	}
	for _, l := range s.Locations {
		for _, x := range s.Lines[l.Lines.Lo:l.Lines.Hi] {
			b = binary.AppendVarint(b, x.Line-s.Functions[x.Function].StartLine)
		}
	}
	return b
}

func appendLocations(b []byte, s *profiles.Symbols) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.Locations)))
	for _, l := range s.Locations {
		b = binary.AppendUvarint(b, uint64(l.Lines.Len()))
	}
	for _, l := range s.Locations {
		b = binary.AppendUvarint(b, uint64(l.Mapping))
	}
	prev := uint64(0)
	for _, l := range s.Locations {
		b = binary.AppendVarint(b, int64(l.Address-prev))
		prev = l.Address
	}
	outer := int64(0)
	for _, l := range s.Locations {
		if l.Lines.Len() > 0 {
			f := int64(s.Lines[l.Lines.Hi-1].Function)
			b = binary.AppendVarint(b, f-outer)
			outer = f
		}
	}
	for _, l := range s.Locations {
		for i := l.Lines.Lo; i+1 < l.Lines.Hi; i++ {
			b = binary.AppendUvarint(b, uint64(s.Lines[i].Function))
		}
	}
	var before profiles.SymLine
	for _, l := range s.Locations {
		for i := l.Lines.Lo; i < l.Lines.Hi; i++ {
			x, from := s.Lines[i], s.Functions[s.Lines[i].Function].StartLine
			if i+1 == l.Lines.Hi {
				if x.Function == before.Function {
					from = before.Line
				}
				before = x
			}
			b = binary.AppendVarint(b, x.Line-from)
		}
	}
	return b
}

// How the parents of nodes are written, from version 2 on.
const (
	parentsBack = iota // index - parent
	parentsUp          // the nodes are depth first: how far the parent is above the node before
)

// appendNodes encodes the tree: from version 2 on depth first order shows, and takes less.
func appendNodes(b []byte, nodes []profiles.SymNode, version int) []byte {
	b = binary.AppendUvarint(b, uint64(len(nodes)))
	form := byte(parentsBack)
	at := len(b)
	if version > version1 {
		b = append(b, parentsUp)
		form = parentsUp
		for i := 1; i < len(nodes) && form == parentsUp; i++ {
			up, n := 0, uint32(i-1)
			for n != nodes[i].Parent && n != 0 {
				n = nodes[n].Parent
				up++
			}
			if n != nodes[i].Parent {
				b, form = append(b[:at], parentsBack), parentsBack
				break
			}
			b = binary.AppendUvarint(b, uint64(up))
		}
	}
	if form == parentsBack {
		for i, n := range nodes {
			b = binary.AppendUvarint(b, uint64(uint32(i)-n.Parent))
		}
	}
	for _, n := range nodes {
		b = binary.AppendUvarint(b, uint64(n.Location))
	}
	return b
}

// maxShared bounds what a string may share with the one before it, and so what a reader makes of few bytes.
const maxShared = 255

// appendFrontCoded encodes strings: how many bytes each shares with the one before, then the others' number, then those.
func appendFrontCoded(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	shared := func(i int) int {
		n := 0
		if i > 0 {
			for most := min(len(list[i]), len(list[i-1]), maxShared); n < most && list[i][n] == list[i-1][n]; {
				n++
			}
		}
		return n
	}
	at := len(b)
	for i := range list {
		b = append(b, byte(shared(i)))
	}
	same := b[at:len(b):len(b)]
	for i, x := range list {
		b = binary.AppendUvarint(b, uint64(len(x)-int(same[i])))
	}
	for i, x := range list {
		b = append(b, x[same[i]:]...)
	}
	return b
}

func appendLabelSets(b []byte, s *profiles.Symbols) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.LabelSets)))
	for _, set := range s.LabelSets {
		b = binary.AppendUvarint(b, uint64(set.Len()))
		for _, l := range s.Labels[set.Lo:set.Hi] {
			b = binary.AppendUvarint(b, uint64(l.Key))
			b = append(b, bit(l.Numeric))
			if l.Numeric {
				b = binary.AppendVarint(b, l.Num)
				b = binary.AppendUvarint(b, uint64(l.Unit))
			} else {
				b = binary.AppendUvarint(b, uint64(l.Str))
			}
		}
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// symbolBytes estimates what s takes in memory.
func symbolBytes(s *profiles.Symbols) int64 {
	n := len(s.Strings)*16 + len(s.Functions)*24 + len(s.Mappings)*40 + len(s.Locations)*24 + len(s.Lines)*16 +
		len(s.Nodes)*8 + len(s.LabelSets)*8 + len(s.Labels)*24 + len(s.Stacks)*8
	return int64(n + stringBytes(s))
}

func stringBytes(s *profiles.Symbols) (n int) {
	for _, x := range s.Strings {
		n += len(x)
	}
	return n
}
