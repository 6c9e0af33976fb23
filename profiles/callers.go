package profiles

import "slices"

// Callers is one function seen from both sides: who calls it, and what it calls.
type Callers struct {
	Function  string `json:"function"`
	File      string `json:"file"`
	Kind      string `json:"kind"`
	Self      int64  `json:"self"`
	Total     int64  `json:"total"` // recursion counted once
	BaseSelf  *int64 `json:"base_self,omitempty"`
	BaseTotal *int64 `json:"base_total,omitempty"` // in diffs only
	All       int64  `json:"all"`                  // of all functions
	BaseAll   *int64 `json:"base_all,omitempty"`
	// Node 0 of both flame graphs is the function. In Callers the child of a node is its caller, and the self of a node is what came by this way from a
	// function that nobody called; in Callees a child is a callee, recursive calls among them.
	Callers *Flame `json:"callers"`
	Callees *Flame `json:"callees"`
}

// NewCallers makes the view of the function called name (with frames other than functions, the frame). Every stack counts once: from the outermost call of
// the function downwards and upwards. A function that is not there has totals of 0 and two flame graphs of one node.
func NewCallers(s, base *Stacks, name string, opt FlameOptions) *Callers {
	t := newTree(s, base, opt.Frames)
	out := &Callers{Function: name, All: t.total[0][0]}
	if base != nil {
		out.BaseAll, out.BaseSelf, out.BaseTotal = &t.total[1][0], new(int64), new(int64)
	}
	up, down := t.emptyCopy(), t.emptyCopy()
	f, found := slices.BinarySearch(t.table.names[1:], name)
	if f++; found {
		out.File, out.Kind = t.table.files[f], t.kind(uint32(f), opt.OwnModule)
		t.splitAt(uint32(f), up, down)
		self, total := t.byFunction()
		out.Self, out.Total = self[0][f], total[0][f]
		if base != nil {
			out.BaseSelf, out.BaseTotal = &self[1][f], &total[1][f]
		}
	}
	for _, c := range []struct {
		tree  *tree
		flame **Flame
	}{{up, &out.Callers}, {down, &out.Callees}} {
		c.tree.addUp()
		g := c.tree.layout(s, base, opt)
		g.Names[0], g.Kinds[0], g.Files[0] = name, out.Kind, out.File
		*c.flame = g
	}
	return out
}

// emptyCopy returns a tree of the same names with nothing but its root.
func (t *tree) emptyCopy() *tree {
	return &tree{table: t.table, calls: t.calls, known: t.known, sides: t.sides, parent: []uint32{0}, name: []uint32{0}, self: [2][]int64{{0}, {0}}}
}

// splitAt adds all of t that goes through function f to up, its callers, and to down, what it calls.
func (t *tree) splitAt(f uint32, up, down *tree) {
	upward, downward := map[uint64]uint32{}, map[uint64]uint32{}
	at := make([]uint32, len(t.parent)) // node of down plus one, of the nodes at or below an outermost f
	for i := 1; i < len(t.parent); i++ {
		p := t.parent[i]
		switch {
		case at[p] != 0:
			at[i] = down.step(downward, at[p]-1, t.name[i]) + 1
		case t.name[i] == f:
			at[i] = 1
			n := uint32(0)
			for ; p != 0; p = t.parent[p] {
				n = up.step(upward, n, t.name[p])
			}
			for side := range t.sides {
				up.self[side][n] = addSaturated(up.self[side][n], t.total[side][i])
			}
		default:
			continue
		}
		for side := range t.sides {
			self := &down.self[side][at[i]-1]
			*self = addSaturated(*self, t.self[side][i])
		}
	}
}

// step returns the child of node n called name, by the index of a tree that is being built.
func (t *tree) step(index map[uint64]uint32, n, name uint32) uint32 {
	key := uint64(n)<<32 | uint64(name)
	c, ok := index[key]
	if !ok {
		c = uint32(len(t.parent))
		index[key] = c
		t.parent, t.name = append(t.parent, n), append(t.name, name)
		t.self[0], t.self[1] = append(t.self[0], 0), append(t.self[1], 0)
	}
	return c
}

// addUp makes the totals of a tree that was built by step.
func (t *tree) addUp() {
	for side := range t.sides {
		total := slices.Clone(t.self[side])
		for i := len(total) - 1; i > 0; i-- {
			total[t.parent[i]] = addSaturated(total[t.parent[i]], total[i])
		}
		t.total[side] = total
	}
}
