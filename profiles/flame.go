package profiles

import (
	"cmp"
	"slices"
	"strings"
)

// OtherName is the function name of the nodes into which a flame graph folds what was too small for it.
const OtherName = "(other)"

// Bounds of FlameOptions.MaxNodes.
const (
	DefaultFlameNodes = 8192
	MaxFlameNodes     = 65536
)

// TypeDesc is a Type as the API writes it.
type TypeDesc struct {
	ID      string `json:"id"`
	Profile string `json:"profile"`
	Sample  string `json:"sample"`
	Unit    string `json:"unit"`
	Kind    string `json:"kind"`
}

// Desc returns t as the API writes it.
func (t Type) Desc() TypeDesc {
	return TypeDesc{ID: t.String(), Profile: t.Profile, Sample: t.Sample, Unit: t.Unit, Kind: t.Kind().String()}
}

// Flame is a flame graph of functions in columns, as ARCHITECTURE.md lays it out: node 0 is the root, nodes are in depth-first
// pre-order, the children of a node by name. The base columns are nil but in diffs.
type Flame struct {
	Type      TypeDesc    `json:"type"`
	From      int64       `json:"from"` // Unix ms
	To        int64       `json:"to"`
	BaseFrom  int64       `json:"base_from,omitempty"`
	BaseTo    int64       `json:"base_to,omitempty"`
	Total     int64       `json:"total"`
	BaseTotal *int64      `json:"base_total,omitempty"`
	Names     []string    `json:"names"`
	Kinds     []string    `json:"kinds"` // parallel to Names
	Files     []string    `json:"files"` // parallel to Names
	Name      []uint32    `json:"name"`  // per node, an index into Names
	Depth     []uint32    `json:"depth"`
	Value     []int64     `json:"value"` // self and children
	Self      []int64     `json:"self"`
	BaseValue []int64     `json:"base_value,omitempty"`
	BaseSelf  []int64     `json:"base_self,omitempty"`
	Nodes     int         `json:"nodes"`
	Dropped   int         `json:"dropped"` // nodes folded into "(other)"
	Stats     MergeStats  `json:"stats"`
	BaseStats *MergeStats `json:"base_stats,omitempty"` // in diffs only
	Scale     *Scale      `json:"scale,omitempty"`      // in diffs that were asked to be normalized: what the values, which are as they are, are to be multiplied with
}

// FlameOptions are the options of NewFlame.
type FlameOptions struct {
	MaxNodes  int    // 0: DefaultFlameNodes; capped at MaxFlameNodes, at least 2
	Frames    Frames // what a frame is; "": a function
	Scale     *Scale // of a diff: how its sides are comparable, by which the largest are chosen; nil: as they are
	OwnModule string // path of the module whose functions are "own" beside package main; several are separated by commas
}

// NewFlame makes the flame graph of s, or where base is not nil the diff from base to s. Of a tree with more than MaxNodes nodes the largest are kept (in a diff by
// the larger of both sides); what is dropped below a node becomes one child of it named "(other)".
func NewFlame(s, base *Stacks, opt FlameOptions) *Flame {
	t := newTree(s, base, opt.Frames)
	t.ratio = opt.Scale.ratio()
	return t.layout(s, base, opt)
}

// layout lays the tree of s and base out.
func (t *tree) layout(s, base *Stacks, opt FlameOptions) *Flame {
	limit := opt.MaxNodes
	if limit <= 0 {
		limit = DefaultFlameNodes
	}
	limit = min(max(limit, 2), MaxFlameNodes)
	f := &Flame{Type: s.Type.Desc(), From: s.Start, To: s.End, Total: t.total[0][0], Stats: s.Stats, Scale: opt.Scale}
	if base != nil {
		f.BaseFrom, f.BaseTo, f.BaseTotal = base.Start, base.End, &t.total[1][0]
		f.BaseStats = &base.Stats
		if f.Type.Unit == "" {
			f.Type = base.Type.Desc()
		}
	}
	kept := t.largest(limit)
	f.Dropped = len(t.parent) - count(kept)
	w := flameWriter{f: f, t: t, own: opt.OwnModule, names: make([]uint32, len(t.table.names)+1)}
	nodes, groups := t.children(kept)
	w.grow(len(nodes) + 1)
	w.write(nodes, groups)
	return f
}

func splitModules(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func count(set []bool) (n int) {
	for _, b := range set {
		if b {
			n++
		}
	}
	return n
}

// largest marks the largest nodes, so many that they and the "(other)" nodes that stand for the rest are at most limit. Of a marked node all ancestors are marked.
func (t *tree) largest(limit int) []bool {
	n := len(t.parent)
	kept := make([]bool, n)
	if n <= limit {
		for i := range kept {
			kept[i] = true
		}
		return kept
	}
	// A parent weighs as much as its largest child at least, also where values of both signs cancel out; and it has the smaller index: so it is taken first.
	weight := make([]int64, n)
	missing := make([]uint32, n) // children of a node that are not marked
	order := make([]uint32, n)
	for i := n - 1; i >= 0; i-- {
		weight[i] = max(weight[i], t.weight(i))
		order[i] = uint32(i)
		if i > 0 {
			weight[t.parent[i]] = max(weight[t.parent[i]], weight[i])
			missing[t.parent[i]]++
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(a, b)) })
	nodes := 0
	for _, i := range order {
		next := nodes + 1
		if missing[i] > 0 {
			next++
		}
		if i > 0 && missing[t.parent[i]] == 1 {
			next--
		}
		if next > limit {
			break
		}
		nodes = next
		kept[i] = true
		if i > 0 {
			missing[t.parent[i]]--
		}
	}
	return kept
}

// flameNode is a node to be written: one of the tree, or the "(other)" of a parent.
type flameNode struct {
	tree         uint32 // tree node; of an "(other)" its parent
	parent, name uint32
	other        bool
	value        [2]int64 // of an "(other)"
}

// children returns the nodes to write grouped by parent, by name within one, and the bounds of each group.
func (t *tree) children(kept []bool) ([]flameNode, []Span) {
	other := make(map[uint32]int)
	var nodes []flameNode
	otherName := uint32(len(t.table.names))
	for i := 1; i < len(t.parent); i++ {
		p := t.parent[i]
		switch {
		case kept[i]:
			nodes = append(nodes, flameNode{tree: uint32(i), parent: p, name: t.name[i]})
		case kept[p]:
			o, ok := other[p]
			if !ok {
				o = len(nodes)
				other[p] = o
				nodes = append(nodes, flameNode{tree: p, parent: p, name: otherName, other: true})
			}
			for side := range t.sides {
				nodes[o].value[side] = addSaturated(nodes[o].value[side], t.total[side][i])
			}
		}
	}
	// Names are numbered in their order; that of "(other)" has its place among them.
	place, _ := slices.BinarySearchFunc(t.table.names[1:], OtherName, func(a, b string) int {
		if a <= b {
			return -1
		}
		return 1
	})
	rank := func(n *flameNode) uint32 {
		if n.other {
			return 2*uint32(place) + 1
		}
		return 2 * n.name
	}
	nodes = countingSort(nodes, 2*len(t.table.names), rank)
	nodes = countingSort(nodes, len(t.parent), func(n *flameNode) uint32 { return n.parent })
	groups := make([]Span, len(t.parent))
	for i := 0; i < len(nodes); {
		j := i
		for j < len(nodes) && nodes[j].parent == nodes[i].parent {
			j++
		}
		groups[nodes[i].parent] = Span{uint32(i), uint32(j)}
		i = j
	}
	return nodes, groups
}

// countingSort returns s ordered by key, which is below n, equal ones as they were.
func countingSort[T any](s []T, n int, key func(*T) uint32) []T {
	at := make([]uint32, n+1)
	for i := range s {
		at[key(&s[i])+1]++
	}
	for i := range n {
		at[i+1] += at[i]
	}
	out := make([]T, len(s))
	for i := range s {
		k := key(&s[i])
		out[at[k]] = s[i]
		at[k]++
	}
	return out
}

// flameWriter fills the columns of a Flame in pre-order.
type flameWriter struct {
	f     *Flame
	t     *tree
	own   string
	names []uint32 // of the tree's names, and last "(other)": index into f.Names plus one
}

func (w *flameWriter) write(nodes []flameNode, groups []Span) {
	type open struct {
		span  Span
		depth uint32
	}
	w.node(flameNode{}, 0)
	stack := []open{{groups[0], 1}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.span.Len() == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		n := nodes[top.span.Lo]
		top.span.Lo++
		depth := top.depth
		w.node(n, depth)
		if !n.other && groups[n.tree].Len() > 0 {
			stack = append(stack, open{groups[n.tree], depth + 1})
		}
	}
	w.f.Nodes = len(w.f.Name)
}

// grow makes room for n nodes.
func (w *flameWriter) grow(n int) {
	f, names := w.f, min(n, len(w.names))
	f.Name, f.Depth, f.Value, f.Self = make([]uint32, 0, n), make([]uint32, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	f.Names, f.Kinds, f.Files = make([]string, 0, names), make([]string, 0, names), make([]string, 0, names)
	if w.t.sides == 2 {
		f.BaseValue, f.BaseSelf = make([]int64, 0, n), make([]int64, 0, n)
	}
}

func (w *flameWriter) node(n flameNode, depth uint32) {
	f, t := w.f, w.t
	f.Name = append(f.Name, w.name(n))
	f.Depth = append(f.Depth, depth)
	value, self := n.value, n.value
	if !n.other {
		for side := range t.sides {
			value[side], self[side] = t.total[side][n.tree], t.self[side][n.tree]
		}
	}
	f.Value, f.Self = append(f.Value, value[0]), append(f.Self, self[0])
	if t.sides == 2 {
		f.BaseValue, f.BaseSelf = append(f.BaseValue, value[1]), append(f.BaseSelf, self[1])
	}
}

func (w *flameWriter) name(n flameNode) uint32 {
	if id := w.names[n.name]; id != 0 {
		return id - 1
	}
	f := w.f
	switch {
	case n.other:
		f.Names, f.Kinds, f.Files = append(f.Names, OtherName), append(f.Kinds, KindOther), append(f.Files, "")
	case n.name == 0:
		f.Names, f.Kinds, f.Files = append(f.Names, "total"), append(f.Kinds, ""), append(f.Files, "")
	default:
		name := w.t.table.names[n.name]
		f.Names, f.Kinds, f.Files = append(f.Names, name), append(f.Kinds, w.t.kind(n.name, w.own)), append(f.Files, w.t.table.files[n.name])
	}
	id := uint32(len(f.Names) - 1)
	w.names[n.name] = id + 1
	return id
}
