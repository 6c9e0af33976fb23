package profiles

import (
	"cmp"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// callTree is the tree of functions of a table of symbols: its stacks with inlined frames expanded and lines, addresses and labels set aside. Parents come before their
// children; node 0 is the root. It only grows, and entries never change: a copy of the struct is a snapshot that may be read while the original grows.
// Views number what they use of it, and so need not hash a name for each query.
type callTree struct {
	names  []string // of functions; 0 is the root's
	files  []string // of each name the first that is not empty
	parent []uint32
	name   []uint32
	leaf   []uint32 // by node of the symbols: the node of its innermost frame
	varied []uint32 // names that have several files: which one is right depends on what is used. Copied where it grows
	order  *atomic.Pointer[nameOrder]
	kinds  *atomic.Pointer[nameKinds]

	index     map[string]uint32 // of names
	children  hashTable         // by parent and name
	functions []uint32          // by function of the symbols: its name plus one
}

func newCallTree() *callTree {
	return &callTree{names: []string{"total"}, files: []string{""}, parent: []uint32{0}, name: []uint32{0}, leaf: []uint32{0},
		order: new(atomic.Pointer[nameOrder]), kinds: new(atomic.Pointer[nameKinds]),
		index: map[string]uint32{}, children: newHashTable(0)}
}

// TrackCalls makes Snapshot keep the tree of functions that flame graphs and tables of functions are made from, so that it is not built anew for each.
func (s *Symbols) TrackCalls() {
	if s.calls == nil {
		s.calls = newCallTree()
	}
}

// Snapshot returns the table as it is now, for reading while s goes on growing: tables only grow, and entries never change. Nothing can be added to a snapshot.
func (s *Symbols) Snapshot() *Symbols {
	out := &Symbols{
		Strings: s.Strings, Functions: s.Functions, Mappings: s.Mappings, Locations: s.Locations, Lines: s.Lines,
		Nodes: s.Nodes, LabelSets: s.LabelSets, Labels: s.Labels, Stacks: s.Stacks,
	}
	if s.calls != nil {
		s.calls.grow(s, nil)
		calls := *s.calls
		calls.index, calls.children, calls.functions = nil, hashTable{}, nil
		out.calls = &calls
	}
	return out
}

// callsOf returns the tree of functions of the table of s: the one that is kept with it, or one that holds what s uses.
func callsOf(s *Stacks) *callTree {
	if s.Symbols == nil {
		return newCallTree()
	}
	if c := s.Symbols.calls; c != nil && len(c.leaf) == len(s.Symbols.Nodes) {
		return c
	}
	used := make([]bool, len(s.Symbols.Nodes))
	for _, id := range s.IDs {
		used[s.Symbols.Stacks[id].Node] = true
	}
	for i := len(used) - 1; i > 0; i-- {
		if used[i] {
			used[s.Symbols.Nodes[i].Parent] = true
		}
	}
	c := newCallTree()
	c.grow(s.Symbols, used)
	return c
}

// grow takes the nodes of sym that came since the last call; of those that are not used (nil: all are) only the place is kept.
func (c *callTree) grow(sym *Symbols, used []bool) {
	if n := len(sym.Functions) - len(c.functions); n > 0 {
		c.functions = append(c.functions, make([]uint32, n)...)
	}
	for i := len(c.leaf); i < len(sym.Nodes); i++ {
		if used != nil && !used[i] {
			c.leaf = append(c.leaf, 0)
			continue
		}
		n := sym.Nodes[i]
		cur := c.leaf[n.Parent]
		l := &sym.Locations[n.Location]
		if l.Lines.Len() == 0 {
			name, file := sym.unknownFrame(l)
			c.leaf = append(c.leaf, c.step(cur, c.add(name, file)))
			continue
		}
		for j := int(l.Lines.Hi) - 1; j >= int(l.Lines.Lo); j-- {
			f := sym.Lines[j].Function
			if c.functions[f] == 0 {
				c.functions[f] = c.add(sym.functionName(f), sym.Strings[sym.Functions[f].File]) + 1
			}
			cur = c.step(cur, c.functions[f]-1)
		}
		c.leaf = append(c.leaf, cur)
	}
}

// add returns the number of a name.
func (c *callTree) add(name, file string) uint32 {
	id, ok := c.index[name]
	if !ok {
		id = uint32(len(c.names))
		c.index[name] = id
		c.names, c.files = append(c.names, name), append(c.files, file)
		return id
	}
	if file == "" || c.files[id] == file {
		return id
	}
	if c.files[id] == "" {
		c.files = slices.Clone(c.files) // snapshots read the other
		c.files[id] = file
	} else if !slices.Contains(c.varied, id) {
		c.varied = append(slices.Clone(c.varied), id)
	}
	return id
}

// step returns the child of node n called name.
func (c *callTree) step(n, name uint32) uint32 {
	h := mix(uint64(n)+1, uint64(name))
	for pr := c.children.probe(h); pr.next(); {
		if c.parent[pr.id] == n && c.name[pr.id] == name {
			return pr.id
		}
	}
	id := uint32(len(c.parent))
	c.parent, c.name = append(c.parent, n), append(c.name, name)
	c.children.insert(h, id)
	return id
}

// graft adds the nodes of o that are used and returns for each of them its node in c.
func (c *callTree) graft(o *callTree, used bitmap) []uint32 {
	nodes, names := make([]uint32, len(o.parent)), make([]uint32, len(o.names))
	used.each(func(i uint32) {
		if i == 0 {
			return
		}
		name := o.name[i]
		if names[name] == 0 {
			names[name] = c.add(o.names[name], o.files[name])
		}
		nodes[i] = c.step(nodes[o.parent[i]], names[name])
	})
	return nodes
}

// mark sets the nodes of the stacks of s and all above them, and returns them.
func (c *callTree) mark(s *Stacks) bitmap {
	used := newBitmap(len(c.parent))
	used.set(0)
	if s.Symbols == nil {
		return used
	}
	for _, id := range s.IDs {
		for n := c.leaf[s.Symbols.Stacks[id].Node]; !used.has(n); n = c.parent[n] {
			used.set(n)
		}
	}
	return used
}

// nameOrder holds names sorted: what came first in the order, and the place of each.
type nameOrder struct{ sorted, rank []uint32 }

// sortedNames returns an order that holds all of c's names but the root's, and perhaps some that came later: those do not change the order of the others.
func (c *callTree) sortedNames() *nameOrder {
	have := c.order.Load()
	if have != nil && len(have.rank) >= len(c.names) {
		return have
	}
	old := []uint32{}
	if have != nil {
		old = have.sorted
	}
	byName := func(a, b uint32) int { return cmp.Or(strings.Compare(c.names[a], c.names[b]), cmp.Compare(a, b)) }
	var fresh []uint32
	for i := len(old) + 1; i < len(c.names); i++ {
		fresh = append(fresh, uint32(i))
	}
	slices.SortFunc(fresh, byName)
	o := &nameOrder{sorted: make([]uint32, 0, len(c.names)-1), rank: make([]uint32, len(c.names))}
	for len(old) > 0 || len(fresh) > 0 {
		from := &old
		if len(old) == 0 || len(fresh) > 0 && byName(fresh[0], old[0]) < 0 {
			from = &fresh
		}
		o.rank[(*from)[0]] = uint32(len(o.sorted))
		o.sorted = append(o.sorted, (*from)[0])
		*from = (*from)[1:]
	}
	c.order.Store(o)
	return o
}

// nameKinds holds whose code each function is, for one answer to which modules are own.
type nameKinds struct {
	own   string
	kinds []string
}

// kindsOf returns whose code c's functions are.
func (c *callTree) kindsOf(own string) []string {
	have := c.kinds.Load()
	if have != nil && have.own == own && len(have.kinds) >= len(c.names) {
		return have.kinds
	}
	k := &nameKinds{own: own, kinds: make([]string, 0, len(c.names))}
	if have != nil && have.own == own {
		k.kinds = append(k.kinds, have.kinds...)
	}
	modules := splitModules(own)
	for _, name := range c.names[len(k.kinds):] {
		k.kinds = append(k.kinds, FunctionKind(name, modules))
	}
	c.kinds.Store(k)
	return k.kinds
}

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b bitmap) has(i uint32) bool { return b[i/64]&(1<<(i%64)) != 0 }

// each calls fn for the members in ascending order.
func (b bitmap) each(fn func(i uint32)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			fn(uint32(w*64 + bits.TrailingZeros64(word)))
		}
	}
}

func (b bitmap) count() (n int) {
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

// MatchFunctions reports for each stack of a table, which must be a snapshot that tracks calls, whether it has a frame of a function whose name re matches. names is what
// an earlier call with the same expression and an earlier snapshot of the same table returned, or nil.
func (s *Symbols) MatchFunctions(re *regexp.Regexp, names []bool) (stacks, allNames []bool) {
	c := s.calls
	if len(names) < len(c.names) {
		names = slices.Clone(names)
		for i := len(names); i < len(c.names); i++ {
			names = append(names, i > 0 && re.MatchString(c.names[i]))
		}
	}
	nodes := make([]bool, len(c.parent))
	for i := 1; i < len(nodes); i++ {
		nodes[i] = names[c.name[i]] || nodes[c.parent[i]]
	}
	stacks = make([]bool, len(s.Stacks))
	for i, st := range s.Stacks {
		stacks[i] = nodes[c.leaf[st.Node]]
	}
	return stacks, names
}
