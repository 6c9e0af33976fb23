package profiles

import (
	"cmp"
	"fmt"
	"strings"
)

// Validate checks every reference and order that the doc comments of Symbols promise: the empty entries are there, every index
// lies in its table, spans are ordered, parents come before their children. It is called once on a table read from a file; code
// that reads a valid table checks nothing.
func (s *Symbols) Validate() error {
	if err := s.validateEmpty(); err != nil {
		return err
	}
	if err := s.validateFrames(); err != nil {
		return err
	}
	return s.validateStacks()
}

func (s *Symbols) validateEmpty() error {
	switch {
	case len(s.Strings) == 0 || s.Strings[0] != "":
		return s.invalid("string 0 is not empty")
	case len(s.Functions) == 0 || s.Functions[0] != SymFunction{}:
		return s.invalid("function 0 is not empty")
	case len(s.Mappings) == 0 || s.Mappings[0] != SymMapping{}:
		return s.invalid("mapping 0 is not empty")
	case len(s.Locations) == 0 || s.Locations[0].Mapping != 0 || s.Locations[0].Address != 0 || s.Locations[0].Lines.Lo != s.Locations[0].Lines.Hi:
		return s.invalid("location 0 is not empty")
	case len(s.Nodes) == 0 || s.Nodes[0] != SymNode{}:
		return s.invalid("node 0 is not the root")
	case len(s.LabelSets) == 0 || s.LabelSets[0].Lo != s.LabelSets[0].Hi:
		return s.invalid("label set 0 is not empty")
	case len(s.Stacks) == 0 || s.Stacks[0] != SymStack{}:
		return s.invalid("stack 0 is not empty")
	}
	return nil
}

func (s *Symbols) validateFrames() error {
	str := uint32(min(len(s.Strings), 1<<32-1))
	for i, f := range s.Functions {
		if f.Name >= str || f.SystemName >= str || f.File >= str {
			return s.invalid("function %d refers to a string of %d, %d, %d, there are %d", i, f.Name, f.SystemName, f.File, str)
		}
	}
	for i, m := range s.Mappings {
		if m.File >= str || m.BuildID >= str {
			return s.invalid("mapping %d refers to a string of %d, %d, there are %d", i, m.File, m.BuildID, str)
		}
	}
	for i, l := range s.Lines {
		if int(l.Function) >= len(s.Functions) {
			return s.invalid("line %d refers to function %d, there are %d", i, l.Function, len(s.Functions))
		}
	}
	for i, l := range s.Locations {
		if int(l.Mapping) >= len(s.Mappings) {
			return s.invalid("location %d refers to mapping %d, there are %d", i, l.Mapping, len(s.Mappings))
		}
		if l.Lines.Lo > l.Lines.Hi || int(l.Lines.Hi) > len(s.Lines) {
			return s.invalid("location %d has the lines [%d, %d), there are %d", i, l.Lines.Lo, l.Lines.Hi, len(s.Lines))
		}
	}
	return nil
}

func (s *Symbols) validateStacks() error {
	for i, n := range s.Nodes[1:] {
		if int(n.Parent) > i {
			return s.invalid("node %d has the parent %d", i+1, n.Parent)
		}
		if int(n.Location) >= len(s.Locations) {
			return s.invalid("node %d refers to location %d, there are %d", i+1, n.Location, len(s.Locations))
		}
	}
	str := uint32(min(len(s.Strings), 1<<32-1))
	for i, l := range s.Labels {
		if l.Key >= str || l.Str >= str || l.Unit >= str {
			return s.invalid("label %d refers to a string of %d, %d, %d, there are %d", i, l.Key, l.Str, l.Unit, str)
		}
	}
	for i, l := range s.LabelSets {
		if l.Lo > l.Hi || int(l.Hi) > len(s.Labels) {
			return s.invalid("label set %d has the labels [%d, %d), there are %d", i, l.Lo, l.Hi, len(s.Labels))
		}
		for j := l.Lo + 1; j < l.Hi; j++ {
			if s.compareLabels(s.Labels[j-1], s.Labels[j]) > 0 {
				return s.invalid("label set %d is not sorted", i)
			}
		}
	}
	for i, st := range s.Stacks {
		if int(st.Node) >= len(s.Nodes) || int(st.LabelSet) >= len(s.LabelSets) {
			return s.invalid("stack %d refers to node %d and label set %d, there are %d and %d", i, st.Node, st.LabelSet, len(s.Nodes), len(s.LabelSets))
		}
	}
	return nil
}

func (s *Symbols) compareLabels(a, b SymLabel) int {
	return cmp.Or(strings.Compare(s.Strings[a.Key], s.Strings[b.Key]), strings.Compare(s.Strings[a.Str], s.Strings[b.Str]), cmp.Compare(a.Num, b.Num))
}

func (s *Symbols) invalid(format string, args ...any) error {
	return fmt.Errorf("validate symbols: "+format, args...)
}
