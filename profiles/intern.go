package profiles

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// symbolIndex finds the entries of a Symbols by content. Hits of the 64-bit hashes are compared with the entry itself, those of known and places are of
// so many bits that they need not be. All hashes are seeded per process, so a sender cannot prepare stacks that fall into one slot, or are taken for each other.
type symbolIndex struct {
	strings   map[string]uint32
	mappings  map[SymMapping]uint32
	functions hashTable
	locations hashTable
	labelSets hashTable
	nodes     hashTable
	nodeHash  []uint64            // parallel to Nodes: hash of the path from the root, so that a whole stack is found with one probe
	nodeStack []uint32            // parallel to Nodes: the stack with that leaf and no labels, 0: none (of the root: stack 0)
	labelled  map[SymStack]uint32 // stacks with labels
	arena     []byte              // the chunk that new strings are copied to
	// known and places find the stacks and the locations that profiles brought by their contents alone. They fill up as profiles are added.
	known, places contentTable
}

var (
	seedA = rand.Uint64() | 1
	seedB = rand.Uint64() | 1
)

// mix folds v into h: one widening multiplication, keyed by the process's seeds.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^seedA, v^seedB)
	return hi ^ lo ^ bits.RotateLeft64(h, 23)
}

// hashTable maps hashes to ids by open addressing. A slot is the hash's upper half and the id; id 0 is never stored and marks a free slot.
type hashTable struct {
	slots []uint64
	shift uint8 // slot of a hash: hash >> shift
	used  int
}

func newHashTable(n int) hashTable {
	size := 64
	for size*3 < n*4+64 {
		size *= 2
	}
	return hashTable{slots: make([]uint64, size), shift: uint8(64 - bits.TrailingZeros(uint(size)))}
}

// probe is one walk over the slots of a hash: for pr := t.probe(h); pr.next(); { pr.id … }.
type probe struct {
	t   *hashTable
	pos uint64
	tag uint32
	id  uint32
}

func (t *hashTable) probe(hash uint64) probe {
	return probe{t: t, pos: hash >> t.shift, tag: uint32(hash >> 32)}
}

// next moves to the next id whose hash agrees in its upper half, and reports false at the first free slot.
func (p *probe) next() bool {
	mask := uint64(len(p.t.slots) - 1)
	for {
		slot := p.t.slots[p.pos&mask]
		p.pos++
		if slot == 0 {
			return false
		}
		if uint32(slot>>32) == p.tag {
			p.id = uint32(slot)
			return true
		}
	}
}

// insert adds id, which is not there yet. Growing needs no hashes but the stored upper halves: 2^32 slots are out of reach.
func (t *hashTable) insert(hash uint64, id uint32) {
	if (t.used+1)*4 > len(t.slots)*3 {
		old := t.slots
		*t = hashTable{slots: make([]uint64, 2*len(old)), shift: t.shift - 1, used: t.used}
		for _, slot := range old {
			if slot != 0 {
				t.place(slot)
			}
		}
	}
	t.place(hash>>32<<32 | uint64(id))
	t.used++
}

func (t *hashTable) place(slot uint64) {
	mask := uint64(len(t.slots) - 1)
	pos := slot >> t.shift
	for t.slots[pos&mask] != 0 {
		pos++
	}
	t.slots[pos&mask] = slot
}

// NewSymbols returns a table that holds only the empty entries.
func NewSymbols() *Symbols {
	s := &Symbols{
		Strings:   []string{""},
		Functions: make([]SymFunction, 1),
		Mappings:  make([]SymMapping, 1),
		Locations: make([]SymLocation, 1),
		Nodes:     make([]SymNode, 1),
		LabelSets: make([]Span, 1),
		Stacks:    make([]SymStack, 1),
	}
	s.Reindex()
	return s
}

// Reindex rebuilds the lookup maps after the exported slices were filled by a reader, so that Add methods work. A table that is
// only read does not need it; the Add methods call it themselves where it was forgotten.
func (s *Symbols) Reindex() {
	x := &s.index
	x.strings = make(map[string]uint32, len(s.Strings))
	for i, str := range s.Strings {
		if _, ok := x.strings[str]; !ok {
			x.strings[str] = uint32(i)
		}
	}
	x.mappings = make(map[SymMapping]uint32, len(s.Mappings))
	for i, m := range s.Mappings {
		if _, ok := x.mappings[m]; !ok {
			x.mappings[m] = uint32(i)
		}
	}
	x.functions = newHashTable(len(s.Functions))
	for i, f := range s.Functions[1:] {
		x.functions.insert(functionHash(f), uint32(i+1))
	}
	x.locations = newHashTable(len(s.Locations))
	for i, l := range s.Locations[1:] {
		x.locations.insert(locationHash(l.Mapping, l.Address, s.Lines[l.Lines.Lo:l.Lines.Hi]), uint32(i+1))
	}
	x.labelSets = newHashTable(len(s.LabelSets))
	for i, l := range s.LabelSets[1:] {
		x.labelSets.insert(labelsHash(s.Labels[l.Lo:l.Hi]), uint32(i+1))
	}
	x.nodes = newHashTable(len(s.Nodes))
	x.nodeHash = make([]uint64, len(s.Nodes))
	x.nodeStack = make([]uint32, len(s.Nodes))
	for i, n := range s.Nodes[1:] {
		h := mix(x.nodeHash[n.Parent], uint64(n.Location))
		x.nodeHash[i+1] = h
		x.nodes.insert(h, uint32(i+1))
	}
	x.known, x.places = contentTable{}, contentTable{}
	x.labelled = map[SymStack]uint32{}
	for i, st := range s.Stacks {
		if st.LabelSet != 0 {
			x.labelled[st] = uint32(i)
		} else if x.nodeStack[st.Node] == 0 {
			x.nodeStack[st.Node] = uint32(i)
		}
	}
}

// ready builds the index of a table that was filled by a reader.
func (s *Symbols) ready() {
	if len(s.index.nodeHash) != len(s.Nodes) || s.index.strings == nil {
		s.Reindex()
	}
}

// intern returns the id of str and keeps a copy of it when it is new.
func (s *Symbols) intern(str string) uint32 {
	if str == "" {
		return 0
	}
	if id, ok := s.index.strings[str]; ok {
		return id
	}
	return s.addString(s.copyString(str))
}

// share is intern for a string that may be kept as it is.
func (s *Symbols) share(str string) uint32 {
	if id, ok := s.index.strings[str]; ok {
		return id
	}
	return s.addString(str)
}

func (s *Symbols) addString(str string) uint32 {
	id := uint32(len(s.Strings))
	s.Strings = append(s.Strings, str)
	s.index.strings[str] = id
	return id
}

// copyString copies str into a chunk that many strings share: one allocation for hundreds of names. Bytes handed out are never written again.
func (s *Symbols) copyString(str string) string {
	const chunk = 16 << 10
	if len(str) >= chunk/4 {
		return string(append([]byte(nil), str...))
	}
	a := s.index.arena
	if cap(a)-len(a) < len(str) {
		a = make([]byte, 0, chunk)
	}
	lo := len(a)
	a = append(a, str...)
	s.index.arena = a
	return unsafe.String(unsafe.SliceData(a[lo:]), len(str))
}

func functionHash(f SymFunction) uint64 {
	return mix(mix(uint64(f.Name)<<32|uint64(f.File), uint64(f.StartLine)), uint64(f.SystemName))
}

// function returns the id of a function, whose strings are those of s.
func (s *Symbols) function(f SymFunction) uint32 {
	if f == (SymFunction{}) {
		return 0
	}
	h := functionHash(f)
	for pr := s.index.functions.probe(h); pr.next(); {
		if s.Functions[pr.id] == f {
			return pr.id
		}
	}
	id := uint32(len(s.Functions))
	s.Functions = append(s.Functions, f)
	s.index.functions.insert(h, id)
	return id
}

func (s *Symbols) mapping(m SymMapping) uint32 {
	if id, ok := s.index.mappings[m]; ok {
		return id
	}
	id := uint32(len(s.Mappings))
	s.Mappings = append(s.Mappings, m)
	s.index.mappings[m] = id
	return id
}

func locationHash(mapping uint32, address uint64, lines []SymLine) uint64 {
	h := mix(uint64(mapping)+1, address)
	for _, l := range lines {
		h = mix(mix(h, uint64(l.Function)), uint64(l.Line))
	}
	return h
}

func (s *Symbols) location(mapping uint32, address uint64, lines []SymLine) uint32 {
	h := locationHash(mapping, address, lines)
	for pr := s.index.locations.probe(h); pr.next(); {
		l := &s.Locations[pr.id]
		if l.Mapping == mapping && l.Address == address && equalSlices(s.Lines[l.Lines.Lo:l.Lines.Hi], lines) {
			return pr.id
		}
	}
	id := uint32(len(s.Locations))
	lo := uint32(len(s.Lines))
	s.Lines = append(s.Lines, lines...)
	s.Locations = append(s.Locations, SymLocation{Mapping: mapping, Address: address, Lines: Span{lo, uint32(len(s.Lines))}})
	s.index.locations.insert(h, id)
	return id
}

func labelsHash(labels []SymLabel) uint64 {
	h := uint64(len(labels))
	for _, l := range labels {
		h = mix(h, uint64(l.Key)<<32|uint64(l.Str))
		h = mix(h, uint64(l.Num))
		if l.Numeric {
			h = mix(h, uint64(l.Unit)+1)
		}
	}
	return h
}

func (s *Symbols) labelSet(labels []SymLabel) uint32 {
	if len(labels) == 0 {
		return 0
	}
	h := labelsHash(labels)
	for pr := s.index.labelSets.probe(h); pr.next(); {
		l := s.LabelSets[pr.id]
		if equalSlices(s.Labels[l.Lo:l.Hi], labels) {
			return pr.id
		}
	}
	id := uint32(len(s.LabelSets))
	lo := uint32(len(s.Labels))
	s.Labels = append(s.Labels, labels...)
	s.LabelSets = append(s.LabelSets, Span{lo, uint32(len(s.Labels))})
	s.index.labelSets.insert(h, id)
	return id
}

// child returns the node of location called from parent, whose path hash is h.
func (s *Symbols) child(parent, location uint32, h uint64) uint32 {
	want := SymNode{Parent: parent, Location: location}
	for pr := s.index.nodes.probe(h); pr.next(); {
		if s.Nodes[pr.id] == want {
			return pr.id
		}
	}
	id := uint32(len(s.Nodes))
	s.Nodes = append(s.Nodes, want)
	s.index.nodeHash = append(s.index.nodeHash, h)
	s.index.nodeStack = append(s.index.nodeStack, 0)
	s.index.nodes.insert(h, id)
	return id
}

func (s *Symbols) stack(node, labelSet uint32) uint32 {
	st := SymStack{Node: node, LabelSet: labelSet}
	if labelSet == 0 {
		if id := s.index.nodeStack[node]; id != 0 || node == 0 {
			return id
		}
		s.index.nodeStack[node] = uint32(len(s.Stacks))
	} else {
		if id, ok := s.index.labelled[st]; ok {
			return id
		}
		s.index.labelled[st] = uint32(len(s.Stacks))
	}
	s.Stacks = append(s.Stacks, st)
	return uint32(len(s.Stacks) - 1)
}

func equalSlices[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
