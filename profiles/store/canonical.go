package store

import (
	"cmp"
	"slices"

	"github.com/sonde-io/sonde/profiles"
)

// canonical returns from in the order in which it takes the fewest bytes: locations by mapping and address, which is the order in which the linker laid out packages and functions; functions as the
// locations name them first, and strings as the functions do; nodes depth first, children by location. Stacks keep their ids.
func canonical(from *profiles.Symbols) *profiles.Symbols {
	c := canonizer{from: from, out: &profiles.Symbols{Mappings: slices.Clone(from.Mappings)}}
	c.locations()
	c.functions()
	c.strings()
	c.nodes()
	c.stacks()
	return c.out
}

// canonizer maps old indices to new ones, table by table.
type canonizer struct {
	from, out                *profiles.Symbols
	location, function, node []uint32
	order                    []uint32 // new to old index of the functions
}

func (c *canonizer) locations() {
	from := c.from
	order := identity(len(from.Locations))
	slices.SortFunc(order[1:], func(a, b uint32) int {
		x, y := &from.Locations[a], &from.Locations[b]
		return cmp.Or(cmp.Compare(x.Mapping, y.Mapping), cmp.Compare(x.Address, y.Address), cmp.Compare(a, b))
	})
	c.location = make([]uint32, len(order))
	for to, old := range order {
		c.location[old] = uint32(to)
		l := from.Locations[old]
		lo := uint32(len(c.out.Lines))
		c.out.Lines = append(c.out.Lines, from.Lines[l.Lines.Lo:l.Lines.Hi]...)
		l.Lines = profiles.Span{Lo: lo, Hi: uint32(len(c.out.Lines))}
		c.out.Locations = append(c.out.Locations, l)
	}
}

// functions numbers functions as lines name them first, those of outermost frames before those that were inlined: the former are in the order of addresses.
func (c *canonizer) functions() {
	c.function = make([]uint32, len(c.from.Functions))
	c.order = []uint32{0}
	number := func(f uint32) {
		if f != 0 && c.function[f] == 0 {
			c.function[f] = uint32(len(c.order))
			c.order = append(c.order, f)
		}
	}
	for _, l := range c.out.Locations {
		if l.Lines.Hi > l.Lines.Lo {
			number(c.out.Lines[l.Lines.Hi-1].Function)
		}
	}
	for i := range c.out.Lines {
		number(c.out.Lines[i].Function)
	}
	for f := range c.from.Functions {
		number(uint32(f))
	}
	for i := range c.out.Lines {
		c.out.Lines[i].Function = c.function[c.out.Lines[i].Function]
	}
	for _, old := range c.order {
		c.out.Functions = append(c.out.Functions, c.from.Functions[old])
	}
}

func (c *canonizer) strings() {
	id := make([]uint32, len(c.from.Strings))
	done := make([]bool, len(c.from.Strings))
	done[0] = true
	c.out.Strings = append(c.out.Strings, "")
	number := func(s *uint32) {
		if !done[*s] {
			done[*s] = true
			id[*s] = uint32(len(c.out.Strings))
			c.out.Strings = append(c.out.Strings, c.from.Strings[*s])
		}
		*s = id[*s]
	}
	fs := c.out.Functions
	for i := range fs {
		number(&fs[i].Name)
	}
	for i := range fs {
		number(&fs[i].SystemName)
	}
	for i := range fs {
		number(&fs[i].File)
	}
	for i := range c.out.Mappings {
		number(&c.out.Mappings[i].File)
		number(&c.out.Mappings[i].BuildID)
	}
	c.out.LabelSets, c.out.Labels = c.from.LabelSets, slices.Clone(c.from.Labels)
	for i := range c.out.Labels {
		number(&c.out.Labels[i].Key)
		number(&c.out.Labels[i].Str)
		number(&c.out.Labels[i].Unit)
	}
}

// nodes numbers nodes depth first without recursion: a hostile tree is as deep as it is large.
func (c *canonizer) nodes() {
	n := len(c.from.Nodes)
	first := make([]uint32, n+1) // of each node its first child in byParent
	for _, x := range c.from.Nodes[1:] {
		first[x.Parent+1]++
	}
	for i := range n {
		first[i+1] += first[i]
	}
	byParent, next := make([]uint32, n-1), slices.Clone(first)
	for i, x := range c.from.Nodes[1:] {
		byParent[next[x.Parent]] = uint32(i + 1)
		next[x.Parent]++
	}
	for i := range n {
		if children := byParent[first[i]:first[i+1]]; len(children) > 1 {
			slices.SortFunc(children, func(a, b uint32) int {
				return cmp.Or(cmp.Compare(c.location[c.from.Nodes[a].Location], c.location[c.from.Nodes[b].Location]), cmp.Compare(a, b))
			})
		}
	}
	c.node = make([]uint32, n)
	c.out.Nodes = append(make([]profiles.SymNode, 0, n), profiles.SymNode{})
	stack := []uint32{0}
	for len(stack) > 0 {
		old := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if old != 0 {
			x := c.from.Nodes[old]
			c.node[old] = uint32(len(c.out.Nodes))
			c.out.Nodes = append(c.out.Nodes, profiles.SymNode{Parent: c.node[x.Parent], Location: c.location[x.Location]})
		}
		children := byParent[first[old]:first[old+1]]
		for _, child := range slices.Backward(children) {
			stack = append(stack, child)
		}
	}
}

// stacks keep their order and so their ids: they are in the order in which profiles had them first, and so are values of similar size side by side in chunks.
func (c *canonizer) stacks() {
	for _, st := range c.from.Stacks {
		c.out.Stacks = append(c.out.Stacks, profiles.SymStack{Node: c.node[st.Node], LabelSet: st.LabelSet})
	}
}
