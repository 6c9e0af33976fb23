package store

import (
	"encoding/binary"
	"fmt"
	"strings"

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

// decodeSymbols fills s from one section; they come in order. References are checked by Validate, once all are read.
func decodeSymbols(b []byte, section int, s *profiles.Symbols, version int) error {
	d := &decoder{b: b}
	switch section {
	case sectionStrings:
		if version > version1 {
			s.Strings = decodeFrontCoded(d)
		} else {
			s.Strings = decodeStrings(d)
		}
	case sectionFunctions:
		decodeFunctions(d, s)
	case sectionMappings:
		s.Mappings = make([]profiles.SymMapping, d.count(6))
		for i := range s.Mappings {
			s.Mappings[i] = profiles.SymMapping{Start: d.uvarint(), Limit: d.uvarint(), Offset: d.uvarint(), File: d.uint32(), BuildID: d.uint32(), HasFunctions: d.uvarint() == 1}
		}
	case sectionLocations:
		decodeLocations(d, s, version)
	case sectionNodes:
		decodeNodes(d, s, version)
	case sectionLabelSets:
		decodeLabelSets(d, s)
	default:
		s.Stacks = make([]profiles.SymStack, d.count(2))
		prev := int64(0)
		for i := range s.Stacks {
			prev += d.varint()
			s.Stacks[i].Node = d.index(prev)
		}
		for i := range s.Stacks {
			s.Stacks[i].LabelSet = d.uint32()
		}
	}
	return d.done()
}

// index checks that v, which was added up from differences, is a table index.
func (d *decoder) index(v int64) uint32 {
	if v < 0 || v > 1<<32-1 {
		d.fail(fmt.Errorf("index %d is out of range", v))
		return 0
	}
	return uint32(v)
}

func decodeStrings(d *decoder) []string {
	n := d.count(1)
	lengths, total := make([]uint32, n), uint64(0)
	for i := range lengths {
		lengths[i] = d.uint32()
		total += uint64(lengths[i])
	}
	all := string(d.bytes(total)) // one allocation, which the strings share
	out := make([]string, n)
	if d.err != nil {
		return out
	}
	at := uint32(0)
	for i, l := range lengths {
		out[i] = all[at : at+l]
		at += l
	}
	return out
}

func decodeFunctions(d *decoder, s *profiles.Symbols) {
	s.Functions = make([]profiles.SymFunction, d.count(4))
	prev := int64(0)
	for i := range s.Functions {
		prev += d.varint()
		s.Functions[i].Name = d.index(prev)
	}
	for i := range s.Functions {
		s.Functions[i].SystemName = d.index(int64(s.Functions[i].Name) + d.varint())
	}
	prev = 0
	for i := range s.Functions {
		prev += d.varint()
		s.Functions[i].File = d.index(prev)
	}
	for i := range s.Functions {
		s.Functions[i].StartLine = d.varint()
	}
}

func decodeFrontCoded(d *decoder) []string {
	n := d.count(2)
	shared := d.bytes(uint64(n))
	rest, total := make([]uint32, n), uint64(0)
	for i := range rest {
		rest[i] = d.uint32()
		total += uint64(rest[i])
	}
	own := d.bytes(total)
	out := make([]string, n)
	if d.err != nil {
		return out
	}
	for _, k := range shared {
		total += uint64(k)
	}
	if total > maxPart {
		d.fail(fmt.Errorf("strings have %d bytes, more than %d", total, maxPart))
		return out
	}
	var all strings.Builder // one allocation, which the strings share
	all.Grow(int(total))
	prev := ""
	for i, k := range shared {
		if int(k) > len(prev) {
			d.fail(fmt.Errorf("string %d shares %d bytes with one of %d", i, k, len(prev)))
			return out
		}
		at := all.Len()
		all.WriteString(prev[:k])
		all.Write(own[:rest[i]])
		own = own[rest[i]:]
		prev = all.String()[at:]
		out[i] = prev
	}
	return out
}

func decodeNodes(d *decoder, s *profiles.Symbols, version int) {
	s.Nodes = make([]profiles.SymNode, d.count(2))
	form := byte(parentsBack)
	if version > version1 {
		form = d.byte()
	}
	switch form {
	case parentsBack:
		for i := range s.Nodes {
			back := d.uint32()
			if back > uint32(i) {
				d.fail(fmt.Errorf("node %d has its parent %d before it", i, back))
			}
			s.Nodes[i].Parent = uint32(i) - back
		}
	case parentsUp:
		for i := 1; i < len(s.Nodes); i++ {
			parent := uint32(i - 1)
			for range d.uint32() { // as often, all nodes together, as there are nodes: each step takes back one down
				if parent == 0 {
					d.fail(fmt.Errorf("node %d has its parent above the root", i))
					return
				}
				parent = s.Nodes[parent].Parent
			}
			s.Nodes[i].Parent = parent
		}
	default:
		d.fail(fmt.Errorf("nodes have form %d", form))
	}
	for i := range s.Nodes {
		s.Nodes[i].Location = d.uint32()
	}
}

func decodeLocations(d *decoder, s *profiles.Symbols, version int) {
	s.Locations = make([]profiles.SymLocation, d.count(3))
	lines := uint64(0)
	for i := range s.Locations {
		n := uint64(d.uint32())
		if lines+n > uint64(len(d.b)) {
			d.fail(fmt.Errorf("location %d has %d lines in %d bytes", i, n, len(d.b)))
			return
		}
		s.Locations[i].Lines = profiles.Span{Lo: uint32(lines), Hi: uint32(lines + n)}
		lines += n
	}
	for i := range s.Locations {
		s.Locations[i].Mapping = d.uint32()
	}
	addr := uint64(0)
	for i := range s.Locations {
		addr += uint64(d.varint())
		s.Locations[i].Address = addr
	}
	s.Lines = make([]profiles.SymLine, lines)
	if version == version1 {
		for i := range s.Lines {
			s.Lines[i].Function = d.uint32()
		}
	} else {
		decodeLineFunctions(d, s)
	}
	for i := range s.Lines {
		if f := s.Lines[i].Function; d.err != nil || int(f) >= len(s.Functions) {
			d.fail(fmt.Errorf("line %d is of function %d of %d", i, f, len(s.Functions)))
			return
		}
	}
	var before profiles.SymLine
	for _, l := range s.Locations {
		for i := l.Lines.Lo; i < l.Lines.Hi; i++ {
			x := &s.Lines[i]
			from := s.Functions[x.Function].StartLine
			outermost := version > version1 && i+1 == l.Lines.Hi
			if outermost && x.Function == before.Function {
				from = before.Line
			}
			if x.Line = from + d.varint(); outermost {
				before = *x
			}
		}
	}
}

// decodeLineFunctions reads the functions of lines: those of outermost ones, then those that were inlined.
func decodeLineFunctions(d *decoder, s *profiles.Symbols) {
	outer := int64(0)
	for _, l := range s.Locations {
		if l.Lines.Len() > 0 {
			outer += d.varint()
			s.Lines[l.Lines.Hi-1].Function = d.index(outer)
		}
	}
	for _, l := range s.Locations {
		for i := l.Lines.Lo; i+1 < l.Lines.Hi; i++ {
			s.Lines[i].Function = d.uint32()
		}
	}
}

func decodeLabelSets(d *decoder, s *profiles.Symbols) {
	s.LabelSets = make([]profiles.Span, d.count(1))
	for i := range s.LabelSets {
		lo := uint32(len(s.Labels))
		for range d.count(3) {
			l := profiles.SymLabel{Key: d.uint32(), Numeric: d.byte() == 1}
			if l.Numeric {
				l.Num, l.Unit = d.varint(), d.uint32()
			} else {
				l.Str = d.uint32()
			}
			s.Labels = append(s.Labels, l)
		}
		s.LabelSets[i] = profiles.Span{Lo: lo, Hi: uint32(len(s.Labels))}
	}
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
