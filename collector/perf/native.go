package perf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

const (
	maxNatives    = 200_000   // functions of one file; what is more is nameless
	maxNativeRead = 128 << 20 // bytes of one symbol table that are looked through
	maxNativeName = 512       // bytes; longer names are cut
	maxHeaders    = 64 << 20  // bytes of headers and of their names: a sparse file can claim any size
)

// natives are the functions in an ELF file's symbol tables: C code in a Go program, and its libraries.
type natives struct {
	r        io.ReaderAt
	segments []pclntab.Segment
	funcs    []nativeFunc // by addr
	strings  [2]section   // of .symtab and .dynsym
}

type nativeFunc struct {
	addr uint64
	size uint32
	name uint32 // place in its table's strings
	from uint8  // index of natives.strings
}

type section struct{ off, size uint64 }

// readNatives reads the symbol tables of an ELF file. r is used later to read names.
func readNatives(r io.ReaderAt) (n *natives, err error) {
	defer func() {
		// debug/elf is not made for hostile files, and these are anybody's.
		if p := recover(); p != nil {
			n, err = nil, fmt.Errorf("read symbols: %v", p)
		}
	}()
	f, err := elf.NewFile(&budget{r, maxHeaders})
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	n = &natives{r: r}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			n.segments = append(n.segments, pclntab.Segment{Addr: p.Vaddr, Offset: p.Off, FileSize: p.Filesz, MemSize: p.Memsz, Exec: p.Flags&elf.PF_X != 0})
		}
	}
	for i, kind := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		s := f.SectionByType(kind)
		if s == nil || int(s.Link) >= len(f.Sections) {
			continue
		}
		names := f.Sections[s.Link]
		n.strings[i] = section{names.Offset, names.FileSize}
		n.read(f, section{s.Offset, min(s.FileSize, maxNativeRead)}, uint8(i))
	}
	slices.SortFunc(n.funcs, func(a, b nativeFunc) int {
		switch {
		case a.addr < b.addr:
			return -1
		case a.addr > b.addr:
			return 1
		}
		return int(a.from) - int(b.from)
	})
	return n, nil
}

// budget is a ReaderAt that stops after left bytes.
type budget struct {
	r    io.ReaderAt
	left int
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("headers of more than %d bytes", maxHeaders)
	}
	b.left -= len(p)
	return b.r.ReadAt(p, off)
}

// read adds the functions of one symbol table.
func (n *natives) read(f *elf.File, at section, from uint8) {
	entry := elf.Sym64Size
	if f.Class == elf.ELFCLASS32 {
		entry = elf.Sym32Size
	}
	buf := make([]byte, 1024*entry)
	for at.size > 0 && len(n.funcs) < maxNatives {
		got, _ := n.r.ReadAt(buf[:min(uint64(len(buf)), at.size)], int64(at.off))
		if got < entry {
			return
		}
		got -= got % entry
		for b := buf[:got]; len(b) > 0 && len(n.funcs) < maxNatives; b = b[entry:] {
			if fn, ok := nativeSymbol(f.ByteOrder, b, entry); ok {
				fn.from = from
				n.funcs = append(n.funcs, fn)
			}
		}
		at.off, at.size = at.off+uint64(got), at.size-uint64(got)
	}
}

func nativeSymbol(order binary.ByteOrder, b []byte, entry int) (fn nativeFunc, ok bool) {
	var info byte
	var shndx uint16
	var size uint64
	fn.name = order.Uint32(b)
	if entry == elf.Sym64Size {
		info, shndx, fn.addr, size = b[4], order.Uint16(b[6:]), order.Uint64(b[8:]), order.Uint64(b[16:])
	} else {
		info, shndx, fn.addr, size = b[12], order.Uint16(b[14:]), uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:]))
	}
	fn.size = uint32(min(size, 1<<32-1))
	kind := elf.ST_TYPE(info)
	return fn, (kind == elf.STT_FUNC || kind == elf.SymType(10) /* STT_GNU_IFUNC */) && shndx != 0 && fn.addr != 0
}

// name returns the function at a link-time address, "" where there is none. A function without a size reaches to the next.
func (n *natives) name(pc uint64) string {
	if n == nil {
		return ""
	}
	i, found := slices.BinarySearchFunc(n.funcs, pc, func(f nativeFunc, pc uint64) int {
		if f.addr <= pc {
			return -1
		}
		return 1
	})
	if found || i == 0 {
		return ""
	}
	fn := n.funcs[i-1]
	if fn.size > 0 && pc-fn.addr >= uint64(fn.size) {
		return ""
	}
	table := n.strings[fn.from]
	if uint64(fn.name) >= table.size {
		return ""
	}
	var b [maxNativeName]byte
	got, _ := n.r.ReadAt(b[:min(uint64(len(b)), table.size-uint64(fn.name))], int64(table.off+uint64(fn.name)))
	name, _, _ := bytes.Cut(b[:got], []byte{0})
	return string(name)
}
