package profiles

import (
	"encoding/binary"
	"slices"
)

// FunctionSets finds out which of some functions are on each stack: stacks have few distinct sets of them, so that what is asked about functions is added up by set. Not safe for concurrent use.
type FunctionSets struct {
	match  func(name string) []int
	sets   [][]int
	index  map[string]uint32
	joined map[[2]uint32]uint32
	names  []uint32 // by name of the table's functions: their set
	nodes  []uint32 // by node of the tree of functions: the set of those on it and above
}

// NewFunctionSets returns FunctionSets of the functions that match has numbers for, which are what the sets hold. match is called once for each name of a table.
func NewFunctionSets(match func(name string) []int) *FunctionSets {
	return &FunctionSets{match: match, sets: [][]int{nil}, index: map[string]uint32{"": 0}, joined: map[[2]uint32]uint32{}}
}

// Set returns a set, ascending; set 0 is empty.
func (f *FunctionSets) Set(i uint32) []int { return f.sets[i] }

// Len returns the number of distinct sets that were met.
func (f *FunctionSets) Len() int { return len(f.sets) }

// Stacks returns for each stack of s, a table that tracks calls, its set. Tables that came of one another by adding are looked at from where the last one ended.
func (f *FunctionSets) Stacks(s *Symbols) []uint32 {
	c := s.calls
	for i := len(f.names); i < len(c.names); i++ {
		var set []int
		if i > 0 {
			set = slices.Compact(slices.Sorted(slices.Values(f.match(c.names[i]))))
		}
		f.names = append(f.names, f.number(set))
	}
	for i := len(f.nodes); i < len(c.parent); i++ {
		if i == 0 {
			f.nodes = append(f.nodes, 0)
			continue
		}
		f.nodes = append(f.nodes, f.join(f.nodes[c.parent[i]], f.names[c.name[i]]))
	}
	out := make([]uint32, len(s.Stacks))
	for i, st := range s.Stacks {
		out[i] = f.nodes[c.leaf[st.Node]]
	}
	return out
}

func (f *FunctionSets) number(set []int) uint32 {
	var key []byte
	for _, v := range set {
		key = binary.AppendUvarint(key, uint64(v))
	}
	id, ok := f.index[string(key)]
	if !ok {
		id = uint32(len(f.sets))
		f.index[string(key)] = id
		f.sets = append(f.sets, set)
	}
	return id
}

func (f *FunctionSets) join(a, b uint32) uint32 {
	if a == b || b == 0 {
		return a
	}
	if a == 0 {
		return b
	}
	key := [2]uint32{min(a, b), max(a, b)}
	id, ok := f.joined[key]
	if !ok {
		id = f.number(slices.Compact(slices.Sorted(slices.Values(slices.Concat(f.sets[a], f.sets[b])))))
		f.joined[key] = id
	}
	return id
}
