package client

import (
	"cmp"
	"fmt"
	"slices"
)

// Validate checks what the methods and their callers rely on: columns of one length, indices within Names, a pre-order.
func (f *Flame) Validate() error {
	n := len(f.Name)
	if len(f.Depth) != n || len(f.Value) != n || len(f.Self) != n {
		return fmt.Errorf("read flame graph: columns of %d, %d, %d and %d nodes", n, len(f.Depth), len(f.Value), len(f.Self))
	}
	for i, name := range f.Name {
		if name < 0 || name >= len(f.Names) {
			return fmt.Errorf("read flame graph: node %d has name %d of %d", i, name, len(f.Names))
		}
		if i == 0 && f.Depth[i] != 0 || i > 0 && (f.Depth[i] < 1 || f.Depth[i] > f.Depth[i-1]+1) {
			return fmt.Errorf("read flame graph: node %d has depth %d", i, f.Depth[i])
		}
	}
	return nil
}

// End returns the index after the last node of the subtree of node i.
func (f *Flame) End(i int) int {
	j := i + 1
	for j < len(f.Depth) && f.Depth[j] > f.Depth[i] {
		j++
	}
	return j
}

// Children returns the children of node i, the largest first.
func (f *Flame) Children(i int) []int {
	var kids []int
	for j := i + 1; j < len(f.Depth) && f.Depth[j] > f.Depth[i]; j = f.End(j) {
		kids = append(kids, j)
	}
	slices.SortStableFunc(kids, func(a, b int) int { return cmp.Compare(f.Value[b], f.Value[a]) })
	return kids
}
