package profiles

import (
	"path"
	"slices"
	"strconv"
)

// nameTable numbers the functions of a view in the order of their names. 0 is the root's.
type nameTable struct {
	names []string
	files []string
}

// tree is what one view shows of a tree of functions: the nodes that its stacks use, parents before their children; node 0 is the root. self has one column,
// in a diff a second one for the base.
type tree struct {
	table  nameTable
	calls  *callTree
	known  []uint32 // of each name its number in calls
	parent []uint32
	name   []uint32
	self   [2][]int64
	total  [2][]int64
	sides  int
	ratio  baseRatio
}

// side is one side of a view: its stacks, their tree of functions, and where its nodes are in the tree of both (nil: at the same place).
type side struct {
	stacks *Stacks
	calls  *callTree
	nodes  []uint32
}

// newTree builds the tree of s and, in a diff, of base, by frames.
func newTree(s, base *Stacks, frames Frames) *tree {
	t := &tree{calls: callsBy(s, frames), sides: 1}
	sides := []side{{stacks: s, calls: t.calls}}
	used := t.calls.mark(s)
	if base != nil {
		t.sides = 2
		sides = append(sides, side{stacks: base, calls: callsBy(base, frames)})
		used = t.join(&sides[0], &sides[1], used)
	}
	local := t.take(used)
	for i := range sides {
		t.addSide(i, &sides[i], local)
	}
	t.settleFiles(sides)
	return t
}

// join finds one tree that holds both sides, and what of it is used. Snapshots of one table share their nodes; other tables meet by name.
func (t *tree) join(a, b *side, used bitmap) bitmap {
	baseUsed := b.calls.mark(b.stacks)
	if a.calls.order == b.calls.order {
		if len(baseUsed) > len(used) {
			used, baseUsed = baseUsed, used
		}
		if len(b.calls.parent) > len(a.calls.parent) {
			t.calls = b.calls
		}
		for i, w := range baseUsed {
			used[i] |= w
		}
		return used
	}
	t.calls = newCallTree()
	a.nodes, b.nodes = t.calls.graft(a.calls, used), t.calls.graft(b.calls, baseUsed)
	all := newBitmap(len(t.calls.parent))
	for i := range t.calls.parent {
		all.set(uint32(i))
	}
	return all
}

// take numbers the used nodes and their names, and returns the number of each node of calls.
func (t *tree) take(used bitmap) []uint32 {
	c := t.calls
	n := used.count()
	local, names := make([]uint32, len(c.parent)), make([]uint32, len(c.names))
	t.parent, t.name = make([]uint32, 0, n), make([]uint32, 0, n)
	order := c.sortedNames()
	ranks := newBitmap(len(order.rank))
	used.each(func(i uint32) {
		local[i] = uint32(len(t.parent))
		t.parent, t.name = append(t.parent, local[c.parent[i]]), append(t.name, c.name[i])
		if name := c.name[i]; name != 0 {
			ranks.set(order.rank[name])
		}
	})
	m := ranks.count() + 1
	t.known = make([]uint32, 1, m)
	t.table = nameTable{names: make([]string, 1, m), files: make([]string, 1, m)}
	t.table.names[0] = c.names[0]
	ranks.each(func(r uint32) {
		name := order.sorted[r]
		names[name] = uint32(len(t.known))
		t.known = append(t.known, name)
		t.table.names, t.table.files = append(t.table.names, c.names[name]), append(t.table.files, c.files[name])
	})
	for i, name := range t.name {
		t.name[i] = names[name]
	}
	return local
}

// addSide adds up the values of one side.
func (t *tree) addSide(i int, sd *side, local []uint32) {
	self := make([]int64, len(t.parent))
	t.self[i] = self
	if sym := sd.stacks.Symbols; sym != nil {
		for k, id := range sd.stacks.IDs {
			n := sd.calls.leaf[sym.Stacks[id].Node]
			if sd.nodes != nil {
				n = sd.nodes[n]
			}
			cell := &self[local[n]]
			*cell = addSaturated(*cell, sd.stacks.Values[k])
		}
	}
	total := slices.Clone(self)
	for n := len(total) - 1; n > 0; n-- {
		p := &total[t.parent[n]]
		*p = addSaturated(*p, total[n])
	}
	t.total[i] = total
}

// settleFiles finds the files of the functions that have several: that of the first of the stacks in use counts.
func (t *tree) settleFiles(sides []side) {
	want := map[string]uint32{}
	for i := range sides {
		t.addVaried(want, sides[i].calls)
	}
	t.addVaried(want, t.calls)
	for i := range sides {
		if len(want) > 0 {
			t.findFiles(want, sides[i].stacks)
		}
	}
}

func (t *tree) addVaried(want map[string]uint32, calls *callTree) {
	for _, name := range calls.varied {
		if i, ok := slices.BinarySearch(t.table.names[1:], calls.names[name]); ok {
			want[calls.names[name]] = uint32(i + 1)
		}
	}
}

// findFiles sets the files of the functions of s that are wanted, and takes those out of want.
func (t *tree) findFiles(want map[string]uint32, s *Stacks) {
	sym := s.Symbols
	if sym == nil {
		return
	}
	used, seen := newBitmap(len(sym.Nodes)), newBitmap(len(sym.Functions))
	used.set(0)
	for _, id := range s.IDs {
		for n := sym.Stacks[id].Node; !used.has(n); n = sym.Nodes[n].Parent {
			used.set(n)
		}
	}
	used.each(func(n uint32) {
		l := &sym.Locations[sym.Nodes[n].Location]
		for _, line := range sym.Lines[l.Lines.Lo:l.Lines.Hi] {
			if seen.has(line.Function) {
				continue
			}
			seen.set(line.Function)
			name, file := sym.functionName(line.Function), sym.Strings[sym.Functions[line.Function].File]
			if i, ok := want[name]; ok && file != "" {
				t.table.files[i] = file
				delete(want, name)
			}
		}
	})
}

// kind returns whose code the function with a name of the view is, where own are the modules of the program.
func (t *tree) kind(name uint32, own string) string { return t.calls.kindsOf(own)[t.known[name]] }

// weight returns the size of a node by which views choose: the larger of both sides as they are comparable, whatever its sign.
func (t *tree) weight(n int) int64 {
	w := magnitude(t.total[0][n])
	if t.sides == 2 {
		w = max(w, t.ratio.of(magnitude(t.total[1][n])))
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
	offset := m.fileOffset(l.Address)
	base := path.Base(file)
	if file == "" {
		base = "?"
	}
	if m.BuildID != 0 {
		file += " (build id " + s.Strings[m.BuildID] + ")"
	}
	return "[" + base + "+0x" + strconv.FormatUint(offset, 16) + "]", file
}
