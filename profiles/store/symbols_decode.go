package store

import (
	"fmt"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

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
