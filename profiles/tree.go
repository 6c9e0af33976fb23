package profiles

import (
	"path"
	"strconv"
)

// nameTable numbers the functions of a view by name. Two tables of symbols, as in a diff, meet in it.
type nameTable struct {
	index map[string]uint32
	names []string
	files []string
}

func (t *nameTable) add(name, file string) uint32 {
	id, ok := t.index[name]
	if !ok {
		id = uint32(len(t.names))
		t.index[name] = id
		t.names, t.files = append(t.names, name), append(t.files, file)
	} else if t.files[id] == "" {
		t.files[id] = file
	}
	return id
}

// tree is a tree of functions: stacks with inlined frames expanded and lines, addresses and labels set aside. Parents come before their
// children; node 0 is the root. self has one column, in a diff a second one for the base.
type tree struct {
	table  nameTable
	parent []uint32
	name   []uint32
	self   [2][]int64
	total  [2][]int64
	sides  int
	child  map[uint64]uint32
}

// newTree builds the tree of s and, in a diff, of base.
func newTree(s, base *Stacks) *tree {
	t := &tree{table: nameTable{index: map[string]uint32{}}, child: map[uint64]uint32{}, sides: 1}
	t.table.add("total", "")
	delete(t.table.index, "total") // a function of that name is another
	t.parent, t.name = []uint32{0}, []uint32{0}
	t.self[0], t.self[1] = []int64{0}, []int64{0}
	t.add(s, 0)
	if base != nil {
		t.sides = 2
		t.add(base, 1)
	}
	for side := range t.sides {
		total := append([]int64(nil), t.self[side]...)
		for i := len(total) - 1; i > 0; i-- {
			total[t.parent[i]] = addSaturated(total[t.parent[i]], total[i])
		}
		t.total[side] = total
	}
	return t
}

// add adds the stacks of s to column side.
func (t *tree) add(s *Stacks, side int) {
	sym := s.Symbols
	if sym == nil {
		return
	}
	used := make([]bool, len(sym.Nodes))
	for _, id := range s.IDs {
		used[sym.Stacks[id].Node] = true
	}
	for i := len(used) - 1; i > 0; i-- {
		if used[i] {
			used[sym.Nodes[i].Parent] = true
		}
	}
	functions := make([]uint32, len(sym.Functions)) // plus one
	node := make([]uint32, len(sym.Nodes))
	for i := 1; i < len(used); i++ {
		if !used[i] {
			continue
		}
		n := sym.Nodes[i]
		cur := node[n.Parent]
		l := &sym.Locations[n.Location]
		if l.Lines.Len() == 0 {
			node[i] = t.step(cur, t.table.add(sym.unknownFrame(l)))
			continue
		}
		for j := int(l.Lines.Hi) - 1; j >= int(l.Lines.Lo); j-- {
			f := sym.Lines[j].Function
			if functions[f] == 0 {
				functions[f] = t.table.add(sym.functionName(f), sym.Strings[sym.Functions[f].File]) + 1
			}
			cur = t.step(cur, functions[f]-1)
		}
		node[i] = cur
	}
	for i, id := range s.IDs {
		n := node[sym.Stacks[id].Node]
		t.self[side][n] = addSaturated(t.self[side][n], s.Values[i])
	}
}

// step returns the child of node n called name.
func (t *tree) step(n, name uint32) uint32 {
	key := uint64(n)<<32 | uint64(name)
	c, ok := t.child[key]
	if !ok {
		c = uint32(len(t.parent))
		t.child[key] = c
		t.parent, t.name = append(t.parent, n), append(t.name, name)
		t.self[0], t.self[1] = append(t.self[0], 0), append(t.self[1], 0)
	}
	return c
}

// weight returns the size of a node by which views choose: the larger of both sides, whatever its sign.
func (t *tree) weight(n int) int64 {
	w := magnitude(t.total[0][n])
	if t.sides == 2 {
		w = max(w, magnitude(t.total[1][n]))
	}
	return w
}

// magnitude is the absolute value, cut to what an int64 holds.
func magnitude(v int64) int64 {
	if v < 0 {
		if v = -v; v < 0 {
			return 1<<63 - 1
		}
	}
	return v
}

// functionName returns the name of function f, "?" where it has none.
func (s *Symbols) functionName(f uint32) string {
	fn := &s.Functions[f]
	switch {
	case fn.Name != 0:
		return s.Strings[fn.Name]
	case fn.SystemName != 0:
		return s.Strings[fn.SystemName]
	}
	return "?"
}

// unknownFrame names a location without symbols: [binary+0xOFFSET], the offset being that in the file, so that equal code has one name wherever
// it was loaded, and the binary with its build id as the file, from which it can be symbolized later.
func (s *Symbols) unknownFrame(l *SymLocation) (name, file string) {
	m := s.Mappings[l.Mapping]
	file = s.Strings[m.File]
	if file == "" && m.BuildID == 0 {
		return "[0x" + strconv.FormatUint(l.Address, 16) + "]", ""
	}
	offset := l.Address
	if l.Address >= m.Start && l.Address < m.Limit {
		offset = l.Address - m.Start + m.Offset
	}
	base := path.Base(file)
	if file == "" {
		base = "?"
	}
	if m.BuildID != 0 {
		file += " (build id " + s.Strings[m.BuildID] + ")"
	}
	return "[" + base + "+0x" + strconv.FormatUint(offset, 16) + "]", file
}
