package profiles

import (
	"slices"
	"sync"
)

// AddProfile interns every stack of p and returns the stack id of each sample, in order, appended to ids[:0]. Two samples of p may get the same id.
// It copies what it keeps: p may be reused. What no sample of p refers to is not kept.
func (s *Symbols) AddProfile(p *Profile, ids []uint32) []uint32 {
	s.ready()
	d := adderPool.Get().(*adder)
	d.start(s, p)
	ids = slices.Grow(ids[:0], len(p.Samples))
	for lo := 0; lo < len(p.Samples); lo += len(d.stacks) {
		ids = d.add(p.Samples[lo:min(lo+len(d.stacks), len(p.Samples))], ids)
	}
	if d.finish() {
		adderPool.Put(d)
	}
	return ids
}

// add interns the stacks of some samples. All are hashed before the first is looked for: a lookup mostly waits for memory, and those that follow one another closely wait together.
func (d *adder) add(samples []Sample, ids []uint32) []uint32 {
	for i := range samples {
		d.stacks[i] = d.stackContent(&samples[i])
	}
	known := &d.s.index.known
	for i := range samples {
		h := d.stacks[i]
		id := known.find(h)
		if id == 0 {
			if id = d.stack(&samples[i]); id != 0 {
				known.insert(h, id)
			}
		}
		ids = append(ids, id)
	}
	return ids
}

// adder is the scratch of one AddProfile.
type adder struct {
	s *Symbols
	p *Profile

	mappingContents, functionContents, locationContents []content // of p

	functions, locations, mappings []uint32 // of p: its id in s plus one, 0: not yet looked up
	lines                          []SymLine
	labels                         []SymLabel
	hashes                         []uint64    // of the paths to the nodes of a stack
	stacks                         [64]content // of samples
	texts                          textCache
}

var adderPool = sync.Pool{New: func() any { return new(adder) }}

func (d *adder) start(s *Symbols, p *Profile) {
	d.s, d.p = s, p
	d.contents()
	d.functions, d.locations, d.mappings = zeroed(d.functions, len(p.Functions)), zeroed(d.locations, len(p.Locations)), zeroed(d.mappings, len(p.Mappings))
}

// finish drops the references to the caller's memory and reports whether the scratch is of an ordinary size and worth keeping.
func (d *adder) finish() bool {
	d.s, d.p = nil, nil
	clear(d.texts[:])
	return cap(d.locationContents) <= 1<<16 && cap(d.functions) <= 1<<16 && cap(d.mappingContents) <= 1<<10
}

func zeroed[T any](b []T, n int) []T {
	b = resized(b, n)
	clear(b)
	return b
}

// stack returns the stack of a sample whose content is not known.
func (d *adder) stack(sm *Sample) uint32 {
	var set uint32
	if sm.Labels.Hi > sm.Labels.Lo {
		set = d.labelSet(d.p.Labels[sm.Labels.Lo:sm.Labels.Hi])
	}
	return d.s.stack(d.path(d.p.LocationIDs[sm.Locations.Lo:sm.Locations.Hi]), set)
}

// path returns the node of a stack given leaf first. Most of a new stack was there already: its nodes are looked for from the leaf, and what is missing is added.
func (d *adder) path(stack []uint32) uint32 {
	s := d.s
	hashes := slices.Grow(d.hashes[:0], len(stack))[:len(stack)]
	d.hashes = hashes
	var h uint64
	for j := len(stack) - 1; j >= 0; j-- {
		h = mix(h, uint64(d.location(stack[j])))
		hashes[j] = h
	}
	node, missing := uint32(0), 0
	for ; missing < len(stack) && node == 0; missing++ {
		node = d.find(hashes[missing], stack[missing:])
	}
	if node != 0 {
		missing--
	}
	for j := missing - 1; j >= 0; j-- {
		node = s.child(node, d.locations[stack[j]]-1, hashes[j])
	}
	return node
}

// find returns the node of a stack whose path has the given hash, 0 if there is none.
func (d *adder) find(h uint64, stack []uint32) uint32 {
	for pr := d.s.index.nodes.probe(h); pr.next(); {
		if d.s.index.nodeHash[pr.id] == h && d.isPath(pr.id, stack) {
			return pr.id
		}
	}
	return 0
}

// isPath reports whether the path to node is the stack.
func (d *adder) isPath(node uint32, stack []uint32) bool {
	for _, l := range stack {
		if node == 0 {
			return false
		}
		n := d.s.Nodes[node]
		if n.Location+1 != d.locations[l] {
			return false
		}
		node = n.Parent
	}
	return node == 0
}

// location returns the id of a location of p.
func (d *adder) location(i uint32) uint32 {
	if id := d.locations[i]; id != 0 {
		return id - 1
	}
	h := d.locationContents[i]
	id := d.s.index.places.find(h)
	if id == 0 {
		if id = d.newLocation(&d.p.Locations[i]); id != 0 {
			d.s.index.places.insert(h, id)
		}
	}
	d.locations[i] = id + 1
	return id
}

// newLocation returns the id of a location whose content is not known.
func (d *adder) newLocation(l *Location) uint32 {
	var m uint32
	if l.Mapping != 0 {
		m = d.mapping(l.Mapping - 1)
	}
	lines := d.lines[:0]
	for _, ln := range d.p.Lines[l.Lines.Lo:l.Lines.Hi] {
		f := d.functions[ln.Function]
		if f == 0 {
			f = d.function(&d.p.Functions[ln.Function]) + 1
			d.functions[ln.Function] = f
		}
		lines = append(lines, SymLine{Function: f - 1, Line: ln.Line})
	}
	d.lines = lines
	return d.s.location(m, l.Address, lines)
}

func (d *adder) mapping(i uint32) uint32 {
	if id := d.mappings[i]; id != 0 {
		return id - 1
	}
	s, m := d.s, &d.p.Mappings[i]
	id := s.mapping(SymMapping{Start: m.Start, Limit: m.Limit, Offset: m.Offset, File: s.intern(m.File), BuildID: s.intern(m.BuildID), HasFunctions: m.HasFunctions})
	d.mappings[i] = id + 1
	return id
}

func (d *adder) function(f *Function) uint32 {
	s := d.s
	name := s.intern(f.Name)
	system := name
	if f.SystemName != f.Name {
		system = s.intern(f.SystemName)
	}
	return s.function(SymFunction{Name: name, SystemName: system, File: s.intern(f.File), StartLine: f.StartLine})
}

func (d *adder) labelSet(labels []SampleLabel) uint32 {
	s, set := d.s, d.labels[:0]
	for i := range labels {
		l := &labels[i]
		set = append(set, SymLabel{Key: s.intern(l.Key), Str: s.intern(l.Str), Unit: s.intern(l.Unit), Num: l.Num, Numeric: l.Numeric})
	}
	d.labels = set
	return s.labelSet(set)
}

// AddStacks interns the stacks of o whose ids are in use (all of them where use is nil) and returns a slice that maps o's stack ids to s's; ids that are not in use map to 0.
// The tables share strings afterwards. o needs no index and is not changed, so several tables may read from one o at the same time.
func (s *Symbols) AddStacks(o *Symbols, use func(id uint32) bool) []uint32 {
	s.ready()
	c := copier{s: s, o: o,
		strings:   make([]uint32, len(o.Strings)),
		functions: make([]uint32, len(o.Functions)), locations: make([]uint32, len(o.Locations)), mappings: make([]uint32, len(o.Mappings)),
		sets: make([]uint32, len(o.LabelSets)), nodes: make([]uint32, len(o.Nodes))}
	out := make([]uint32, len(o.Stacks))
	for i, st := range o.Stacks {
		if use == nil || use(uint32(i)) {
			out[i] = s.stack(c.node(st.Node), c.labelSet(st.LabelSet))
		}
	}
	return out
}

// copier holds what AddStacks has copied so far: of each table of o the id in s plus one, 0: not copied.
type copier struct {
	s, o                                                 *Symbols
	strings, functions, locations, mappings, sets, nodes []uint32
	path                                                 []uint32
	lines                                                []SymLine
	labels                                               []SymLabel
}

// node copies the path to node n. It climbs to the nearest copied ancestor and comes back down, so that a hostile depth costs no stack.
func (c *copier) node(n uint32) uint32 {
	path := c.path[:0]
	for n != 0 && c.nodes[n] == 0 {
		path = append(path, n)
		n = c.o.Nodes[n].Parent
	}
	c.path = path
	var to uint32
	if n != 0 {
		to = c.nodes[n] - 1
	}
	for _, n := range slices.Backward(path) {
		l := c.location(c.o.Nodes[n].Location)
		to = c.s.child(to, l, mix(c.s.index.nodeHash[to], uint64(l)))
		c.nodes[n] = to + 1
	}
	return to
}

func (c *copier) location(i uint32) uint32 {
	if id := c.locations[i]; id != 0 {
		return id - 1
	}
	l := c.o.Locations[i]
	lines := c.lines[:0]
	for _, ln := range c.o.Lines[l.Lines.Lo:l.Lines.Hi] {
		lines = append(lines, SymLine{Function: c.function(ln.Function), Line: ln.Line})
	}
	if len(lines) == 0 {
		lines = c.symbolize(lines, &l)
	}
	c.lines = lines
	var id uint32
	if i != 0 {
		id = c.s.location(c.mapping(l.Mapping), l.Address, lines)
	}
	c.locations[i] = id + 1
	return id
}

func (c *copier) function(i uint32) uint32 {
	if id := c.functions[i]; id != 0 {
		return id - 1
	}
	f := &c.o.Functions[i]
	id := c.s.function(SymFunction{Name: c.string(f.Name), SystemName: c.string(f.SystemName), File: c.string(f.File), StartLine: f.StartLine})
	c.functions[i] = id + 1
	return id
}

func (c *copier) string(i uint32) uint32 {
	if id := c.strings[i]; id != 0 {
		return id - 1
	}
	id := c.s.share(c.o.Strings[i])
	c.strings[i] = id + 1
	return id
}

func (c *copier) mapping(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	if id := c.mappings[i]; id != 0 {
		return id - 1
	}
	m := c.o.Mappings[i]
	m.File, m.BuildID = c.string(m.File), c.string(m.BuildID)
	id := c.s.mapping(m)
	c.mappings[i] = id + 1
	return id
}

func (c *copier) labelSet(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	if id := c.sets[i]; id != 0 {
		return id - 1
	}
	span := c.o.LabelSets[i]
	set := c.labels[:0]
	for _, l := range c.o.Labels[span.Lo:span.Hi] {
		l.Key, l.Str, l.Unit = c.string(l.Key), c.string(l.Str), c.string(l.Unit)
		set = append(set, l)
	}
	c.labels = set
	id := c.s.labelSet(set)
	c.sets[i] = id + 1
	return id
}
