package profiles

import (
	"math/bits"
	"slices"
)

// AddProfile interns every stack of p and returns the stack id of each sample, in order, appended to ids[:0]. Two samples of p may get the same id.
// It copies what it keeps: p may be reused. What no sample of p refers to is not kept.
func (s *Symbols) AddProfile(p *Profile, ids []uint32) []uint32 {
	s.ready()
	sc := &s.index.scratch
	sc.functions = zeroed(sc.functions, len(p.Functions))
	sc.locations = zeroed(sc.locations, len(p.Locations))
	sc.mappings = zeroed(sc.mappings, len(p.Mappings))
	if len(s.index.near) < 2*len(s.Locations) || len(s.index.near) < 2*len(p.Locations) {
		s.index.near = make([]uint32, 1<<bits.Len(uint(2*max(len(s.Locations), len(p.Locations)))))
	}
	sc.lastKey, sc.lastUnit, sc.lastFile = lastString{}, lastString{}, lastString{}
	ids = slices.Grow(ids[:0], len(p.Samples))
	for i := range p.Samples {
		sm := &p.Samples[i]
		var set uint32
		if sm.Labels.Hi > sm.Labels.Lo {
			set = s.profileLabels(p.Labels[sm.Labels.Lo:sm.Labels.Hi])
		}
		node := s.profilePath(p, p.LocationIDs[sm.Locations.Lo:sm.Locations.Hi])
		ids = append(ids, s.stack(node, set))
	}
	return ids
}

func zeroed(b []uint32, n int) []uint32 {
	b = slices.Grow(b[:0], n)[:n]
	clear(b)
	return b
}

// profilePath returns the node of a stack of p given leaf first. A stack seen before costs one hash per frame, one probe and one walk to compare it.
func (s *Symbols) profilePath(p *Profile, stack []uint32) uint32 {
	sc := &s.index.scratch
	var h uint64
	for j := len(stack) - 1; j >= 0; j-- {
		l := sc.locations[stack[j]]
		if l == 0 {
			l = s.profileLocation(p, stack[j]) + 1
			sc.locations[stack[j]] = l
		}
		h = mix(h, uint64(l-1))
	}
	for pr := s.index.nodes.probe(h); pr.next(); {
		if s.index.nodeHash[pr.id] == h && s.isPath(pr.id, stack) {
			return pr.id
		}
	}
	h = 0
	node := uint32(0)
	for j := len(stack) - 1; j >= 0; j-- {
		l := sc.locations[stack[j]] - 1
		h = mix(h, uint64(l))
		node = s.child(node, l, h)
	}
	return node
}

// isPath reports whether the path to node is the stack of the profile being added.
func (s *Symbols) isPath(node uint32, stack []uint32) bool {
	locations := s.index.scratch.locations
	for _, l := range stack {
		if node == 0 {
			return false
		}
		n := s.Nodes[node]
		if n.Location+1 != locations[l] {
			return false
		}
		node = n.Parent
	}
	return node == 0
}

func (s *Symbols) profileLocation(p *Profile, i uint32) uint32 {
	sc := &s.index.scratch
	l := &p.Locations[i]
	var m uint32
	if l.Mapping != 0 {
		m = sc.mappings[l.Mapping-1]
		if m == 0 {
			pm := &p.Mappings[l.Mapping-1]
			m = s.mapping(SymMapping{Start: pm.Start, Limit: pm.Limit, Offset: pm.Offset, File: s.intern(pm.File), BuildID: s.intern(pm.BuildID), HasFunctions: pm.HasFunctions}) + 1
			sc.mappings[l.Mapping-1] = m
		}
		m--
	}
	near := mix(uint64(m)+1, l.Address) & uint64(len(s.index.near)-1)
	if id := s.index.near[near]; id != 0 && s.isLocation(id, m, p, l) {
		return id
	}
	lines := sc.lines[:0]
	for _, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
		f := sc.functions[ln.Function]
		if f == 0 {
			pf := &p.Functions[ln.Function]
			f = s.profileFunction(pf) + 1
			sc.functions[ln.Function] = f
		}
		lines = append(lines, SymLine{Function: f - 1, Line: ln.Line})
	}
	sc.lines = lines
	id := s.location(m, l.Address, lines)
	s.index.near[near] = id
	return id
}

func (s *Symbols) profileFunction(f *Function) uint32 {
	name := s.intern(f.Name)
	system := name
	if f.SystemName != f.Name {
		system = s.intern(f.SystemName)
	}
	file := s.index.scratch.lastFile.intern(s, f.File) // a package's functions come together
	return s.function(SymFunction{Name: name, SystemName: system, File: file, StartLine: f.StartLine})
}

// isLocation reports whether location id of s is l of p, whose mapping in s is m.
func (s *Symbols) isLocation(id, m uint32, p *Profile, l *Location) bool {
	have := &s.Locations[id]
	if have.Mapping != m || have.Address != l.Address || have.Lines.Len() != l.Lines.Len() {
		return false
	}
	sc := &s.index.scratch
	lines := s.Lines[have.Lines.Lo:have.Lines.Hi]
	for i, ln := range p.Lines[l.Lines.Lo:l.Lines.Hi] {
		if ln.Line != lines[i].Line {
			return false
		}
		if f := sc.functions[ln.Function]; f != 0 {
			if f-1 != lines[i].Function {
				return false
			}
			continue
		}
		pf, sf := &p.Functions[ln.Function], &s.Functions[lines[i].Function]
		if pf.StartLine != sf.StartLine || pf.Name != s.Strings[sf.Name] || pf.File != s.Strings[sf.File] || pf.SystemName != s.Strings[sf.SystemName] {
			return false
		}
		sc.functions[ln.Function] = lines[i].Function + 1
	}
	return true
}

func (s *Symbols) profileLabels(labels []SampleLabel) uint32 {
	sc := &s.index.scratch
	set := sc.labels[:0]
	for i := range labels {
		l := &labels[i]
		set = append(set, SymLabel{Key: sc.lastKey.intern(s, l.Key), Str: s.intern(l.Str), Unit: sc.lastUnit.intern(s, l.Unit), Num: l.Num, Numeric: l.Numeric})
	}
	sc.labels = set
	return s.labelSet(set)
}

// lastString remembers the string looked up last: the labels of all samples of a profile usually have the same key and unit.
type lastString struct {
	str string
	id  uint32
}

func (l *lastString) intern(s *Symbols, str string) uint32 {
	if str != l.str {
		id := s.intern(str)
		*l = lastString{s.Strings[id], id}
	}
	return l.id
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
