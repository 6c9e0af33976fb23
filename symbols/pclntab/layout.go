package pclntab

import (
	"bytes"
	"fmt"
)

// First words of function tables. That of Go 1.20 is still in use.
const (
	magic12  = 0xfffffffb // Go 1.2 to 1.15
	magic116 = 0xfffffffa // Go 1.16 and 1.17
	magic118 = 0xfffffff0 // Go 1.18 and 1.19
	magic120 = 0xfffffff1 // Go 1.20 to 1.26
)

var oldMagic = map[uint32]string{magic12: "go1.2 to go1.15", magic116: "go1.16 or go1.17"}

// How many places are tried as the header and as its moduledata. Real files have one of either; each try may read the whole file.
const (
	maxHeaders    = 8
	maxModuledata = 16
	maxFunctions  = 1 << 23 // the largest programs have some hundred thousand
)

// Words of runtime.moduledata that are read, the same in Go 1.18 to 1.26 but for the two that Go 1.20 put before "end".
const (
	mdHeader   = 0
	mdNames    = 1
	mdCUTab    = 4
	mdFiles    = 7
	mdPCTab    = 10
	mdFuncs    = 13
	mdFuncTab  = 16
	mdMinPC    = 20
	mdMaxPC    = 21
	mdText     = 22
	mdEText    = 23
	mdGofunc   = 40 // from Go 1.20
	mdGofunc18 = 38 // Go 1.18 and 1.19
	mdWords    = 44
)

// layout is where the parts of a function table are. Places are offsets in the file.
type layout struct {
	go120                             bool // the structs that Go 1.20 changed
	quantum                           uint64
	nfunc                             uint64
	names, cus, files, pcs, functions uint64
	end                               uint64 // of the segment that holds them
	moduledata                        uint64 // address
	text, minpc, maxpc                uint64 // addresses
	gofunc, gofuncEnd                 uint64
}

// findLayout finds the table and checks it against runtime.moduledata.
func (im *image) findLayout() (layout, error) {
	var failed error
	for addr := range im.headers {
		l, err := im.readLayout(addr)
		if err == nil {
			return l, nil
		}
		if failed == nil {
			failed = err
		}
	}
	switch {
	case failed == nil && im.scanned >= maxScan:
		failed = fmt.Errorf("%w in the first %d bytes that were looked through", ErrNotGo, int64(maxScan))
	case failed == nil:
		failed = ErrNotGo
	}
	return layout{}, failed
}

// headers yields the addresses of what may be a table's header: by the names of sections, else by looking through what is loaded.
func (im *image) headers(yield func(addr uint64) bool) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := im.section(name); s != nil && s.kind != shtNobits {
			if !yield(s.addr) {
				return
			}
		}
	}
	// The five bytes that all tables start with but for the first, or end with where the highest byte comes first.
	pattern, before := []byte{0xff, 0xff, 0xff, 0, 0}, uint64(1)
	if im.order.Uint16([]byte{0, 1}) == 1 {
		pattern, before = []byte{0xff, 0xff, 0xff}, 0
	}
	var found []uint64
	for _, s := range im.segments {
		im.scan(s.off, s.filesz, 7, func(base uint64, b []byte) bool {
			for at := 0; ; at++ {
				i := bytes.Index(b[at:], pattern)
				if i < 0 {
					return len(found) < maxHeaders
				}
				at += i
				off := base + uint64(at) - before
				if addr := s.vaddr + off - s.off; off >= s.off && addr%im.word == 0 && im.plausible(off) && len(found) < maxHeaders {
					found = append(found, addr)
				}
			}
		})
	}
	for _, addr := range found {
		if !yield(addr) {
			return
		}
	}
}

// plausible reports whether a header may start at off.
func (im *image) plausible(off uint64) bool {
	var h [8]byte
	if !im.read(h[:], off) {
		return false
	}
	magic := im.order.Uint32(h[:])
	return (magic == magic118 || magic == magic120 || oldMagic[magic] != "") &&
		h[4] == 0 && h[5] == 0 && (h[6] == 1 || h[6] == 2 || h[6] == 4) && uint64(h[7]) == im.word
}

// readLayout reads the header at addr and finds the moduledata that points to it.
func (im *image) readLayout(addr uint64) (layout, error) {
	off, left, ok := im.offset(addr)
	if !ok || !im.plausible(off) {
		var h [4]byte
		if ok && im.read(h[:], off) {
			return layout{}, fmt.Errorf("%w: its first word is %#x", ErrVersion, im.order.Uint32(h[:]))
		}
		return layout{}, fmt.Errorf("%w: no header", ErrDamaged)
	}
	magic, _ := im.u32(off)
	if old := oldMagic[magic]; old != "" {
		return layout{}, fmt.Errorf("%w: %s (its first word is %#x)", ErrVersion, old, magic)
	}
	var quantum [1]byte
	im.read(quantum[:], off+6)
	l := layout{go120: magic == magic120, quantum: uint64(quantum[0]), end: off + left}
	l.nfunc, _ = im.uptr(off + 8)
	for i, part := range []*uint64{&l.names, &l.cus, &l.files, &l.pcs, &l.functions} {
		v, ok := im.uptr(off + 8 + (3+uint64(i))*im.word)
		if !ok || v >= left {
			return layout{}, fmt.Errorf("%w: part %d is beyond its segment", ErrDamaged, i)
		}
		*part = off + v
	}
	if l.nfunc > maxFunctions {
		return layout{}, fmt.Errorf("%w: %d functions, at most %d are read", ErrDamaged, l.nfunc, maxFunctions)
	}
	if l.nfunc == 0 || l.nfunc > (l.end-l.functions)/8 {
		return layout{}, fmt.Errorf("%w: %d functions in %d bytes", ErrDamaged, l.nfunc, l.end-l.functions)
	}
	if !im.findModuledata(&l, addr) {
		return layout{}, fmt.Errorf("%w: no runtime.moduledata that agrees with it", ErrDamaged)
	}
	return l, nil
}

// findModuledata looks for the moduledata of the table at header: it starts with that address. In a position-independent file the address may be
// in a relocation instead.
func (im *image) findModuledata(l *layout, header uint64) bool {
	found, tries := false, 0
	check := func(place uint64) bool {
		tries++
		return im.checkModuledata(l, place, header)
	}
	im.eachRelative(func(place, addend uint64) bool {
		found = addend == header && check(place)
		return !found && tries < maxModuledata
	})
	if found {
		return true
	}
	pattern := make([]byte, im.word)
	im.putPointer(pattern, header)
	look := func(off, size, addr uint64) bool {
		im.scan(off, size, int(im.word)-1, func(base uint64, b []byte) bool {
			for at := 0; !found && tries < maxModuledata; at++ {
				i := bytes.Index(b[at:], pattern)
				if i < 0 {
					return true
				}
				at += i
				place := addr + base + uint64(at) - off
				found = place%im.word == 0 && check(place)
			}
			return false
		})
		return found
	}
	for _, name := range []string{".go.module", ".noptrdata", ".data"} {
		if s := im.section(name); s != nil && s.kind != shtNobits && look(s.off, s.size, s.addr) {
			return true
		}
	}
	for _, s := range im.segments {
		if look(s.off, s.filesz, s.vaddr) {
			return true
		}
	}
	return false
}

// checkModuledata reports whether the moduledata at place agrees with the header in everything that both say, and completes l if so.
func (im *image) checkModuledata(l *layout, place, header uint64) bool {
	var md [mdWords]uint64
	off, left, ok := im.offset(place)
	if !ok || left < mdWords*im.word {
		return false
	}
	for i := range md {
		md[i], _ = im.uptr(off + uint64(i)*im.word)
	}
	im.relocate(md[:], place)
	start, _, _ := im.offset(header)
	if md[mdHeader] != header || md[mdFuncTab+1] != l.nfunc+1 {
		return false
	}
	for word, part := range map[int]uint64{mdNames: l.names, mdCUTab: l.cus, mdFiles: l.files, mdPCTab: l.pcs, mdFuncs: l.functions, mdFuncTab: l.functions} {
		if md[word]-header != part-start {
			return false
		}
	}
	first, ok1 := im.u32(l.functions)
	last, ok2 := im.u32(l.functions + 8*l.nfunc)
	text := md[mdText]
	if !ok1 || !ok2 || text == 0 || md[mdMinPC] != text+uint64(first) || md[mdMaxPC] != text+uint64(last) || md[mdMaxPC] < md[mdMinPC] {
		return false
	}
	l.moduledata, l.text, l.minpc, l.maxpc = place, text, md[mdMinPC], md[mdMaxPC]
	gofunc := md[mdGofunc]
	if !l.go120 {
		gofunc = md[mdGofunc18]
	}
	if at, left, ok := im.offset(gofunc); ok {
		l.gofunc, l.gofuncEnd = at, at+left
	}
	return true
}

// relocate puts the addends of relocations within the words at place into words.
func (im *image) relocate(words []uint64, place uint64) {
	im.eachRelative(func(at, addend uint64) bool {
		if at >= place && at-place < uint64(len(words))*im.word && (at-place)%im.word == 0 {
			words[(at-place)/im.word] = addend
		}
		return true
	})
}
