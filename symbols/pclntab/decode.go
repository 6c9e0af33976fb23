package pclntab

import (
	"bytes"
	"sort"
)

// MaxName is the most bytes that a function's or file's name has.
const MaxName = 16 << 10

// Limits of the work behind one answer. The largest functions of real programs have some hundred thousand bytes of tables.
const (
	maxWork    = 16 << 20 // bytes of encoded tables that one call decodes
	maxInlined = 200      // frames at one pc
	maxName    = MaxName  // what is longer is cut
	indexStep  = 512      // functions per entry of the index
)

const flagSPWrite = 2 // the function moves the stack pointer in ways that its table does not tell

// What a table of pcs is about, and which funcdata holds the tree of inlined calls; the same in Go 1.18 to 1.26.
const (
	pcdataInlTree   = 2
	funcdataInlTree = 3
)

// function is what the table keeps of one.
type function struct {
	entry              uint64
	at                 uint64 // place of its struct in the file
	header             uint64 // bytes of the struct before its lists
	nameOff            uint32
	pcsp, pcfile, pcln uint32
	npcdata, cu        uint32
	startLine          int
	flag, nfuncdata    byte
}

// find returns the function that holds pc.
func (t *Table) find(pc uint64) (f function, ok bool) {
	if t.closed || pc < t.minpc || pc >= t.maxpc || pc-t.text > 1<<32-1 {
		return f, false
	}
	off := uint32(pc - t.text)
	t.buildIndex()
	i := sort.Search(len(t.index), func(i int) bool { return t.index[i] > off })
	if i == 0 {
		return f, false
	}
	from := uint64(i-1) * indexStep
	n := min(indexStep, t.nfunc-from)
	k := sort.Search(int(n), func(k int) bool {
		v, _ := t.im.u32(t.functions + 8*(from+uint64(k)))
		return v > off
	})
	if k == 0 {
		return f, false
	}
	return t.function(from + uint64(k) - 1)
}

// buildIndex reads every indexStep'th entry of the table, at the first lookup.
func (t *Table) buildIndex() {
	if t.indexed {
		return
	}
	t.indexed = true
	for i := uint64(0); i < t.nfunc; i += indexStep {
		v, ok := t.im.u32(t.functions + 8*i)
		if !ok {
			return
		}
		t.index = append(t.index, v)
	}
}

// function reads the i'th function.
func (t *Table) function(i uint64) (f function, ok bool) {
	entry, ok1 := t.im.u32(t.functions + 8*i)
	off, ok2 := t.im.u32(t.functions + 8*i + 4)
	var b [44]byte
	f.at = t.functions + uint64(off)
	if !ok1 || !ok2 || f.at+uint64(len(b)) > t.end || !t.im.read(b[:], f.at) {
		return f, false
	}
	u := func(i int) uint32 { return t.im.order.Uint32(b[4*i:]) }
	f.entry = t.text + uint64(entry)
	f.nameOff, f.pcsp, f.pcfile, f.pcln, f.npcdata, f.cu = u(1), u(4), u(5), u(6), u(7), u(8)
	if t.go120 {
		f.startLine = int(int32(u(9)))
		f.header, f.flag, f.nfuncdata = 44, b[41], b[43]
	} else {
		f.header, f.flag, f.nfuncdata = 40, b[37], b[39]
	}
	return f, f.npcdata <= 1<<16
}

// pcdata returns where the i'th table of f is, 0 for none.
func (t *Table) pcdata(f *function, i uint32) uint32 {
	if i >= f.npcdata {
		return 0
	}
	v, _ := t.im.u32(f.at + f.header + 4*uint64(i))
	return v
}

// inlineTree returns the place of f's tree of inlined calls in the file.
func (t *Table) inlineTree(f *function) (at uint64, ok bool) {
	if f.nfuncdata <= funcdataInlTree || t.gofunc == 0 {
		return 0, false
	}
	v, ok := t.im.u32(f.at + f.header + 4*uint64(f.npcdata) + 4*funcdataInlTree)
	if !ok || v == 1<<32-1 {
		return 0, false
	}
	at = t.gofunc + uint64(v)
	return at, at < t.gofuncEnd
}

// pcvalue returns what the table of pcs at off says of pc.
func (t *Table) pcvalue(off uint32, entry, pc uint64, budget *int) (int32, bool) {
	if off == 0 {
		return -1, false
	}
	in := varints{s: &t.im.space, off: t.pcs + uint64(off), budget: budget}
	value, at := int32(-1), entry
	for first := true; ; first = false {
		delta, ok := in.next()
		if !ok || delta == 0 && !first {
			return -1, false
		}
		advance, ok := in.next()
		if !ok {
			return -1, false
		}
		value += int32(-(delta & 1) ^ delta>>1)
		at += uint64(advance) * t.quantum
		if pc < at {
			return value, true
		}
	}
}

// inlinedCall is an entry of a tree of inlined calls.
type inlinedCall struct {
	nameOff   uint32
	parent    uint32 // pc of the call, from the entry
	startLine int
}

func (t *Table) inlinedCall(tree uint64, i int32) (c inlinedCall, ok bool) {
	var b [20]byte
	size := uint64(20)
	if t.go120 {
		size = 16
	}
	at := tree + uint64(i)*size
	if at+size > t.gofuncEnd || !t.im.read(b[:size], at) {
		return c, false
	}
	u := func(i int) uint32 { return t.im.order.Uint32(b[4*i:]) }
	if t.go120 {
		return inlinedCall{nameOff: u(1), parent: u(2), startLine: int(int32(u(3)))}, true
	}
	return inlinedCall{nameOff: u(3), parent: u(4)}, true
}

// frames appends the frames of f at pc.
func (t *Table) frames(dst []Frame, f *function, pc uint64) []Frame {
	budget := maxWork
	tree, inlines := t.inlineTree(f)
	table := t.pcdata(f, pcdataInlTree)
	for range maxInlined {
		fr := Frame{File: t.sourceFile(f, pc, &budget), StartLine: f.startLine}
		if line, ok := t.pcvalue(f.pcln, f.entry, pc, &budget); ok && line > 0 {
			fr.Line = int(line)
		}
		i, ok := t.pcvalue(table, f.entry, pc, &budget)
		var call inlinedCall
		if ok = ok && inlines && i >= 0; ok {
			call, ok = t.inlinedCall(tree, i)
		}
		if !ok {
			fr.Func = t.name(f.nameOff)
			return append(dst, fr)
		}
		fr.Func, fr.StartLine, fr.Inlined = t.name(call.nameOff), call.startLine, true
		dst = append(dst, fr)
		pc = f.entry + uint64(call.parent)
	}
	return dst
}

// sourceFile returns the source file of pc.
func (t *Table) sourceFile(f *function, pc uint64, budget *int) string {
	i, ok := t.pcvalue(f.pcfile, f.entry, pc, budget)
	if !ok || i < 0 {
		return "?"
	}
	off, ok := t.im.u32(t.cus + 4*(uint64(f.cu)+uint64(i)))
	if !ok || off == 1<<32-1 {
		return "?"
	}
	name, ok := t.im.cstring(t.files+uint64(off), maxName)
	if !ok || name == "" {
		return "?"
	}
	return name
}

// name returns the name at off.
func (t *Table) name(off uint32) string {
	name, _ := t.im.cstring(t.names+uint64(off), maxName)
	return name
}

// byName finds the place of the name, then the function that has it.
func (t *Table) byName(name string) (entry uint64, ok bool) {
	if t.closed || name == "" || len(name) > maxName {
		return 0, false
	}
	pattern := []byte("\x00" + name + "\x00")
	size := t.cus - t.names
	if t.cus < t.names {
		return 0, false
	}
	var offs []uint32
	t.im.scanned = 0
	t.im.scan(t.names, size, len(pattern)-1, func(base uint64, b []byte) bool {
		if base == t.names && bytes.HasPrefix(b, pattern[1:]) {
			offs = append(offs, 0)
		}
		for at := 0; len(offs) < 8; at++ {
			i := bytes.Index(b[at:], pattern)
			if i < 0 {
				return true
			}
			at += i
			offs = append(offs, uint32(base+uint64(at)+1-t.names))
		}
		return false
	})
	for i := uint64(0); len(offs) > 0 && i < t.nfunc; i++ {
		f, ok := t.function(i)
		if !ok {
			return 0, false
		}
		for _, off := range offs {
			if f.nameOff == off {
				return f.entry, true
			}
		}
	}
	return 0, false
}
