package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sonde-io/sonde/profiles"
)

// validFlame checks what printing relies on: columns of one length, indices within Names, a pre-order.
func validFlame(f *profiles.Flame) error {
	n := len(f.Name)
	if len(f.Depth) != n || len(f.Value) != n || len(f.Self) != n {
		return fmt.Errorf("read flame graph: columns of %d, %d, %d and %d nodes", n, len(f.Depth), len(f.Value), len(f.Self))
	}
	for i, name := range f.Name {
		if int(name) >= len(f.Names) {
			return fmt.Errorf("read flame graph: node %d has name %d of %d", i, name, len(f.Names))
		}
		if i == 0 && f.Depth[i] != 0 || i > 0 && (f.Depth[i] < 1 || f.Depth[i] > f.Depth[i-1]+1) {
			return fmt.Errorf("read flame graph: node %d has depth %d", i, f.Depth[i])
		}
	}
	return nil
}

// subtreeEnd returns the index after the last node of the subtree of node i.
func subtreeEnd(f *profiles.Flame, i int) int {
	j := i + 1
	for j < len(f.Depth) && f.Depth[j] > f.Depth[i] {
		j++
	}
	return j
}

// children returns the children of node i, the largest first.
func children(f *profiles.Flame, i int) []int {
	var kids []int
	for j := i + 1; j < len(f.Depth) && f.Depth[j] > f.Depth[i]; j = subtreeEnd(f, j) {
		kids = append(kids, j)
	}
	slices.SortStableFunc(kids, func(a, b int) int { return cmp.Compare(f.Value[b], f.Value[a]) })
	return kids
}

// flamePrinter prints the tree, without what the view leaves out.
type flamePrinter struct {
	f       *profiles.Flame
	view    flameView
	out     *strings.Builder
	hidden  int // nodes left out
	columns int // width of the terminal; 0: none
}

func (p *flamePrinter) children(i int, indent string) {
	f := p.f
	kids := children(f, i)
	shown := kids[:0]
	for _, k := range kids {
		if p.visible(k) {
			shown = append(shown, k)
		} else {
			p.hidden += subtreeEnd(f, k) - k
		}
	}
	for n, k := range shown {
		branch, below := "  ", "  "
		if p.view.boxes {
			branch, below = "├─", "│ "
			if n == len(shown)-1 {
				branch, below = "└─", "  "
			}
		}
		line := fmt.Sprintf("%7s %9s  %s%s", percent(f.Value[k], f.Total), formatValue(f.Value[k], f.Type.Unit), indent, branch)
		name := clean(f.Names[f.Name[k]])
		if p.columns > 0 {
			name = shorten(name, p.columns-utf8.RuneCountInString(line))
		}
		fmt.Fprintf(p.out, "%s%s\n", line, name)
		p.children(k, indent+below)
	}
}

func (p *flamePrinter) visible(k int) bool {
	if p.view.depth > 0 && int(p.f.Depth[k]) > p.view.depth {
		return false
	}
	return 100*float64(p.f.Value[k]) >= p.view.percent*float64(p.f.Total)
}
