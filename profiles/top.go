package profiles

import (
	"cmp"
	"slices"
	"strings"
)

// Top is a table of functions.
type Top struct {
	Type      TypeDesc    `json:"type"`
	From      int64       `json:"from"` // Unix ms
	To        int64       `json:"to"`
	BaseFrom  int64       `json:"base_from,omitempty"`
	BaseTo    int64       `json:"base_to,omitempty"`
	Total     int64       `json:"total"`
	BaseTotal *int64      `json:"base_total,omitempty"` // in diffs only
	Rows      []TopRow    `json:"rows"`
	Functions int         `json:"functions"` // rows there would be without a limit
	Stats     MergeStats  `json:"stats"`
	BaseStats *MergeStats `json:"base_stats,omitempty"` // in diffs only
	Scale     *Scale      `json:"scale,omitempty"`      // as in Flame
}

// TopRow is one function: Self is what was spent in it, Total what was spent in it and in what it called, recursion counted once.
type TopRow struct {
	Function  string `json:"function"`
	File      string `json:"file"`
	Kind      string `json:"kind"`
	Self      int64  `json:"self"`
	Total     int64  `json:"total"`
	BaseSelf  *int64 `json:"base_self,omitempty"` // in diffs only
	BaseTotal *int64 `json:"base_total,omitempty"`
}

// TopOptions are the options of NewTop.
type TopOptions struct {
	Limit     int    // rows; 0: 100, negative: all
	Frames    Frames // as in FlameOptions
	Scale     *Scale // as in FlameOptions; rows are ordered by it
	OwnModule string // as in FlameOptions
}

// NewTop makes the table of the functions of s, or where base is not nil of the diff from base to s. Rows are ordered by self (in a diff by the
// larger of both sides), then by total, then by name.
func NewTop(s, base *Stacks, opt TopOptions) *Top {
	t := newTree(s, base, opt.Frames)
	self, total := t.byFunction()
	out := &Top{Type: s.Type.Desc(), From: s.Start, To: s.End, Total: t.total[0][0], Stats: s.Stats, Scale: opt.Scale, Functions: len(t.table.names) - 1, Rows: []TopRow{}}
	if base != nil {
		out.BaseFrom, out.BaseTo, out.BaseTotal = base.Start, base.End, &t.total[1][0]
		out.BaseStats = &base.Stats
		if out.Type.Unit == "" {
			out.Type = base.Type.Desc()
		}
	}
	order := make([]uint32, 0, len(t.table.names))
	for i := 1; i < len(t.table.names); i++ {
		order = append(order, uint32(i))
	}
	ratio := opt.Scale.ratio()
	size := func(col [2][]int64, i uint32) int64 {
		w := magnitude(col[0][i])
		if base != nil {
			w = max(w, ratio.of(magnitude(col[1][i])))
		}
		return w
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(size(self, b), size(self, a)), cmp.Compare(size(total, b), size(total, a)), strings.Compare(t.table.names[a], t.table.names[b]))
	})
	limit := opt.Limit
	if limit == 0 {
		limit = 100
	}
	if limit > 0 && len(order) > limit {
		order = order[:limit]
	}
	for _, i := range order {
		name := t.table.names[i]
		row := TopRow{Function: name, File: t.table.files[i], Kind: t.kind(i, opt.OwnModule), Self: self[0][i], Total: total[0][i]}
		if base != nil {
			row.BaseSelf, row.BaseTotal = &self[1][i], &total[1][i]
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// byFunction adds up the nodes of each function: self of all, totals only of those that have no ancestor of the same function.
func (t *tree) byFunction() (self, total [2][]int64) {
	for side := range 2 {
		self[side], total[side] = make([]int64, len(t.table.names)), make([]int64, len(t.table.names))
	}
	first, next := t.links()
	open := make([]bool, len(t.table.names)) // functions on the path to the current node
	owner := make([]bool, len(t.parent))     // whether the node opened its function
	for n := first[0]; n != 0; {
		name := t.name[n]
		if !open[name] {
			open[name], owner[n] = true, true
		}
		for side := range t.sides {
			self[side][name] = addSaturated(self[side][name], t.self[side][n])
			if owner[n] {
				total[side][name] = addSaturated(total[side][name], t.total[side][n])
			}
		}
		if first[n] != 0 {
			n = first[n]
			continue
		}
		for n != 0 {
			if owner[n] {
				open[t.name[n]] = false
			}
			if next[n] != 0 {
				n = next[n]
				break
			}
			n = t.parent[n]
		}
	}
	return self, total
}

// links returns the first child and the next sibling of every node, 0 for none.
func (t *tree) links() (first, next []uint32) {
	first, next = make([]uint32, len(t.parent)), make([]uint32, len(t.parent))
	for i := len(t.parent) - 1; i > 0; i-- {
		next[i] = first[t.parent[i]]
		first[t.parent[i]] = uint32(i)
	}
	return first, next
}
