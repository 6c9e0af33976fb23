package profiles

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"unsafe"
)

// content is a hash of what something is made of: names, addresses, lines, numbers. It is keyed by the process's seeds, so nobody can prepare two stacks that
// agree in it, and 128 bits wide, of which contentTable keeps 96: among two million stacks a lookup meets a wrong one with a probability of 2^-75. That is why a
// stack that was sent before is recognised by its content alone, with no look at what it is made of.
type content struct{ a, b uint64 }

// fold multiplies and keeps both halves.
func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}

// mix adds two words to h. Each half has its own seed and its own order of the two.
func (h content) mix(v, w uint64) content {
	return content{fold(h.a^v, w^seedB), fold(h.b^w, v^seedA)}
}

// with adds what has the content o to h; the order matters.
func (h content) with(o content) content { return h.mix(o.a, o.b) }

// textContent hashes s sixteen bytes at a time, the last sixteen once more with some of those before.
func textContent(s string) content {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	h := content{seedA ^ uint64(len(b)), seedB + uint64(len(b))}
	if len(b) < 16 {
		var tail [16]byte
		copy(tail[:], b)
		return h.mix(binary.LittleEndian.Uint64(tail[:]), binary.LittleEndian.Uint64(tail[8:]))
	}
	last := b[len(b)-16:]
	for ; len(b) > 16; b = b[16:] {
		h = h.mix(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]))
	}
	return h.mix(binary.LittleEndian.Uint64(last), binary.LittleEndian.Uint64(last[8:]))
}

// contentTable maps contents to ids by open addressing; id 0 is never stored and marks a free slot.
type contentTable struct {
	slots []contentSlot
	shift uint8 // slot of a content: a >> shift
	used  int
}

type contentSlot struct {
	a     uint64
	b, id uint32 // b: the upper half of content.b
}

// find returns the id of h, 0 if there is none.
func (t *contentTable) find(h content) uint32 {
	if t.slots == nil {
		return 0
	}
	mask := uint64(len(t.slots) - 1)
	for pos := h.a >> t.shift; ; pos++ {
		switch s := &t.slots[pos&mask]; {
		case s.id == 0:
			return 0
		case s.a == h.a && s.b == uint32(h.b>>32):
			return s.id
		}
	}
}

// insert adds id, which is not there yet.
func (t *contentTable) insert(h content, id uint32) {
	if (t.used+1)*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]contentSlot, max(64, 2*len(old)))
		t.shift = uint8(64 - bits.TrailingZeros(uint(len(t.slots))))
		for _, s := range old {
			if s.id != 0 {
				t.place(s)
			}
		}
	}
	t.place(contentSlot{h.a, uint32(h.b >> 32), id})
	t.used++
}

func (t *contentTable) place(s contentSlot) {
	mask := uint64(len(t.slots) - 1)
	pos := s.a >> t.shift
	for t.slots[pos&mask].id != 0 {
		pos++
	}
	t.slots[pos&mask] = s
}

// textCache remembers the contents of strings of one profile by where they are: a profile's names refer to one table of strings, so those that are the same are in the same
// place. A slot holds the string that was last there.
type textCache [128]struct {
	at   *byte
	n    int
	hash content
}

var textPool = sync.Pool{New: func() any { return new(textCache) }}

// release gives the cache back to textPool, without what it refers to.
func (c *textCache) release() {
	clear(c[:])
	textPool.Put(c)
}

func (c *textCache) content(s string) content {
	if s == "" { // wherever that is
		return content{}
	}
	p := unsafe.StringData(s)
	slot := &c[uint64(uintptr(unsafe.Pointer(p)))*0x9e3779b97f4a7c15>>57]
	if slot.at != p || slot.n != len(s) {
		slot.at, slot.n, slot.hash = p, len(s), textContent(s)
	}
	return slot.hash
}

// contents hashes the mappings, functions and locations of the profile being added, all of them: one loop after the other is faster than each where it is first needed.
func (d *adder) contents() {
	p := d.p
	d.mappingContents = resized(d.mappingContents, len(p.Mappings))
	for i := range p.Mappings {
		d.mappingContents[i] = mappingContent(&p.Mappings[i])
	}
	d.functionContents = resized(d.functionContents, len(p.Functions))
	for i := range p.Functions {
		d.functionContents[i] = d.functionContent(&p.Functions[i])
	}
	d.locationContents = resized(d.locationContents, len(p.Locations))
	for i := range p.Locations {
		d.locationContents[i] = d.locationContent(&p.Locations[i])
	}
}

func resized[T any](b []T, n int) []T { return slices.Grow(b[:0], n)[:n] }

func mappingContent(m *Mapping) content {
	functions := uint64(0)
	if m.HasFunctions {
		functions = 1
	}
	return textContent(m.File).with(textContent(m.BuildID)).mix(m.Start, m.Limit).mix(m.Offset, functions)
}

func (d *adder) functionContent(f *Function) content {
	h := textContent(f.Name).with(d.texts.content(f.File))
	if f.SystemName != f.Name {
		h = h.with(d.texts.content(f.SystemName))
	}
	return h.mix(uint64(f.StartLine), 0)
}

func (d *adder) locationContent(l *Location) content {
	h := content{seedB, seedA}.mix(l.Address, uint64(l.Lines.Len()))
	if l.Mapping != 0 {
		h = h.with(d.mappingContents[l.Mapping-1])
	}
	for _, ln := range d.p.Lines[l.Lines.Lo:l.Lines.Hi] {
		f := &d.functionContents[ln.Function]
		h = content{fold(h.a^f.a, uint64(ln.Line)^seedB), fold(h.b^f.b, uint64(ln.Line)^seedA)}
	}
	return h
}

func (d *adder) stackContent(sm *Sample) content {
	return stackContent(d.p, sm, d.locationContents, &d.texts)
}

// stackContent hashes a stack of p, leaf first, and its labels. locations are the contents of p's locations.
func stackContent(p *Profile, sm *Sample, locations []content, texts *textCache) content {
	stack := p.LocationIDs[sm.Locations.Lo:sm.Locations.Hi]
	h := content{seedA ^ uint64(len(stack)), seedB}
	for len(stack) >= 2 { // two at a time: what takes its time is that each multiplication waits for the one before
		x, y := &locations[stack[0]], &locations[stack[1]]
		h = content{fold(h.a^x.a, y.a^seedB), fold(h.b^x.b, y.b^seedA)}
		stack = stack[2:]
	}
	if len(stack) > 0 {
		h = h.with(locations[stack[0]])
	}
	for i := sm.Labels.Lo; i < sm.Labels.Hi; i++ {
		h = texts.label(h, &p.Labels[i])
	}
	return h
}

// label adds a label to h. Most have either a string or a number with a unit; what is there is told by shape, which ends the label: no other labels are
// the same sequence, for a number is no text's hash.
func (c *textCache) label(h content, l *SampleLabel) content {
	h = h.with(c.content(l.Key))
	shape := uint64(0)
	if l.Str != "" {
		h = h.with(c.content(l.Str))
		shape |= 1
	}
	if l.Unit != "" {
		h = h.with(c.content(l.Unit))
		shape |= 2
	}
	if l.Numeric {
		shape |= 4
	}
	return h.mix(uint64(l.Num), shape)
}
