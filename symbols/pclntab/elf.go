package pclntab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of what an ELF file may claim. Go's linkers write some ten program headers and fewer than a hundred sections.
const (
	maxProgs    = 256
	maxSections = 4096
)

const (
	ptLoad     = 1
	ptDynamic  = 2
	shtRela    = 4
	shtNobits  = 8
	shfAlloc   = 2
	dtNull     = 0
	dtRela     = 7
	dtRelaSize = 8
)

// relative is the number of the relocation "base + addend" by machine (e_machine). Relocations without addend (SHT_REL, SHT_RELR) keep it in
// place, so the bytes of the file are right as they are.
var relative = map[uint16]uint32{3: 8 /* 386 */, 62: 8 /* amd64 */, 40: 23 /* arm */, 183: 1027 /* arm64 */, 243: 3 /* riscv */, 21: 22 /* ppc64 */, 22: 12 /* s390x */, 258: 3 /* loong64 */}

// image is an ELF file: where its parts are.
type image struct {
	space
	machine  uint16
	segments []segment // PT_LOAD
	dynamic  segment   // PT_DYNAMIC
	sections []section // with their index in the file; empty where there are no headers
}

type segment struct {
	vaddr, off, filesz, memsz uint64
	flags                     uint32
}

type section struct {
	name            string
	kind            uint32
	flags           uint64
	addr, off, size uint64
}

// openImage reads the headers.
func openImage(r io.ReaderAt, size int64) (*image, error) {
	im := &image{space: space{pages: pages{r: r, size: uint64(max(size, 0))}}}
	var h [64]byte
	if !im.read(h[:52], 0) || string(h[:4]) != "\x7fELF" {
		return nil, fmt.Errorf("%w: not an ELF file", ErrNotGo)
	}
	im.order = binary.LittleEndian
	if h[5] == 2 {
		im.order = binary.BigEndian
	}
	u16 := func(off int) uint64 { return uint64(im.order.Uint16(h[off:])) }
	var phoff, shoff, phsize, phnum, shsize, shnum, names uint64
	switch {
	case h[4] == 1:
		im.word = 4
		phoff, shoff = uint64(im.order.Uint32(h[28:])), uint64(im.order.Uint32(h[32:]))
		phsize, phnum, shsize, shnum, names = u16(42), u16(44), u16(46), u16(48), u16(50)
	case h[4] == 2 && im.read(h[:], 0):
		im.word = 8
		phoff, shoff = im.order.Uint64(h[32:]), im.order.Uint64(h[40:])
		phsize, phnum, shsize, shnum, names = u16(54), u16(56), u16(58), u16(60), u16(62)
	default:
		return nil, fmt.Errorf("%w: ELF class %d", ErrNotGo, h[4])
	}
	im.machine = uint16(u16(18))
	if phnum > maxProgs || shnum > maxSections {
		return nil, fmt.Errorf("%d program headers and %d sections, at most %d and %d are read", phnum, shnum, maxProgs, maxSections)
	}
	if err := im.readSegments(phoff, phsize, phnum); err != nil {
		return nil, err
	}
	im.readSections(shoff, shsize, shnum, names)
	return im, nil
}

func (im *image) readSegments(off, size, num uint64) error {
	var b [56]byte
	want := uint64(32)
	if im.word == 8 {
		want = 56
	}
	if num > 0 && size != want {
		return fmt.Errorf("program headers of %d bytes, want %d", size, want)
	}
	for i := range num {
		if off > im.size || !im.read(b[:want], off+i*size) {
			return errors.New("program headers beyond the end of the file")
		}
		kind := im.order.Uint32(b[:])
		if kind != ptLoad && kind != ptDynamic {
			continue
		}
		var s segment
		u := func(i uint64) uint64 { return im.pointer(b[i:]) }
		if im.word == 8 {
			s = segment{flags: im.order.Uint32(b[4:]), off: u(8), vaddr: u(16), filesz: u(32), memsz: u(40)}
		} else {
			s = segment{flags: im.order.Uint32(b[24:]), off: u(4), vaddr: u(8), filesz: u(16), memsz: u(20)}
		}
		if s.off > im.size || s.vaddr+s.filesz < s.vaddr {
			continue
		}
		s.filesz = min(s.filesz, im.size-s.off)
		if kind == ptDynamic {
			im.dynamic = s
			continue
		}
		im.segments = append(im.segments, s)
	}
	return nil
}

// readSections reads the section headers. They are optional: without them the segments are searched.
func (im *image) readSections(off, size, num, names uint64) {
	var b [64]byte
	want := uint64(40)
	if im.word == 8 {
		want = 64
	}
	if off > im.size || size != want {
		return
	}
	nameAt := make([]uint32, 0, num)
	for i := range num {
		if !im.read(b[:want], off+i*size) {
			im.sections = nil
			return
		}
		s := section{kind: im.order.Uint32(b[4:])}
		u := func(i uint64) uint64 { return im.pointer(b[i*im.word:]) }
		if im.word == 8 {
			s.flags, s.addr, s.off, s.size = u(1), u(2), u(3), u(4)
		} else {
			s.flags, s.addr, s.off, s.size = u(2), u(3), u(4), u(5)
		}
		if s.off > im.size {
			s.off, s.size = 0, 0
		}
		if s.kind != shtNobits {
			s.size = min(s.size, im.size-s.off)
		}
		nameAt = append(nameAt, im.order.Uint32(b[:]))
		im.sections = append(im.sections, s)
	}
	if names >= num {
		return
	}
	table := im.sections[names].off
	for i := range im.sections {
		im.sections[i].name, _ = im.cstring(table+uint64(nameAt[i]), 64)
	}
}

// section returns the section of that name, nil where there is none.
func (im *image) section(name string) *section {
	for i := range im.sections {
		if im.sections[i].name == name {
			return &im.sections[i]
		}
	}
	return nil
}

// offset returns where in the file the virtual address is kept, and how many bytes from there its segment has.
func (im *image) offset(addr uint64) (off, left uint64, ok bool) {
	for i := range im.segments {
		s := &im.segments[i]
		if addr >= s.vaddr && addr-s.vaddr < s.filesz {
			return s.off + (addr - s.vaddr), s.filesz - (addr - s.vaddr), true
		}
	}
	return 0, 0, false
}

// eachRelative calls f with the place and the addend of the relocations "base + addend", until f returns false.
func (im *image) eachRelative(f func(place, addend uint64) bool) {
	want, known := relative[im.machine]
	if !known {
		return
	}
	entry := int(3 * im.word)
	for _, s := range im.sections {
		if s.kind == shtRela && s.flags&shfAlloc != 0 && !im.eachRela(s.off, s.size, entry, want, f) {
			return
		}
	}
	if len(im.sections) == 0 {
		if off, size := im.dynamicRela(); size > 0 {
			im.eachRela(off, size, entry, want, f)
		}
	}
}

func (im *image) eachRela(off, size uint64, entry int, want uint32, f func(place, addend uint64) bool) bool {
	more, rest := true, 0
	im.scan(off, size, entry-1, func(base uint64, b []byte) bool {
		// Entries start at multiples of entry from off.
		rest = int((base - off) % uint64(entry))
		skip := (entry - rest) % entry
		for b = b[min(skip, len(b)):]; len(b) >= entry; b = b[entry:] {
			info := im.pointer(b[im.word:])
			kind := uint32(info)
			if im.word == 4 {
				kind = uint32(info & 0xff)
			}
			if kind == want && !f(im.pointer(b), im.pointer(b[2*im.word:])) {
				more = false
				return false
			}
		}
		return true
	})
	return more
}

// dynamicRela finds the relocations by the dynamic segment, for files without section headers.
func (im *image) dynamicRela() (off, size uint64) {
	var rela, relasz uint64
	for at := uint64(0); at+2*im.word <= min(im.dynamic.filesz, 64<<10); at += 2 * im.word {
		tag, ok := im.uptr(im.dynamic.off + at)
		value, ok2 := im.uptr(im.dynamic.off + at + im.word)
		if !ok || !ok2 || tag == dtNull {
			break
		}
		switch tag {
		case dtRela:
			rela = value
		case dtRelaSize:
			relasz = value
		}
	}
	off, left, ok := im.offset(rela)
	if !ok {
		return 0, 0
	}
	return off, min(relasz, left)
}
