package build

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Limits of what an ELF file may claim. Go's linkers write some ten program headers, fewer than a hundred sections and notes of less
// than 200 bytes.
const (
	maxProgs    = 256
	maxMappings = 65535 // program headers of a core: one for each mapping
	maxSections = 4096
	maxNotes    = 64 << 10 // bytes of one segment or section
	maxBuildID  = 1024     // bytes of either build ID
)

const (
	typeCore      = 4 // ET_CORE
	ptLoad        = 1
	ptNote        = 4
	shtSymbols    = 2 // SHT_SYMTAB
	shtNote       = 7
	noteGNUBuild  = 3 // NT_GNU_BUILD_ID, name "GNU"
	noteGoBuildID = 4 // of name "Go"
)

type notes struct {
	goID, gnuID string
	symbols     bool // there is a symbol table
}

// elfHeader is the part of an ELF header that leads to the program and section headers.
type elfHeader struct {
	order binary.ByteOrder
	is64  bool
	core  bool // it is the memory of a process
	progs table
	sects table
}

// table is where a table of headers is.
type table struct {
	off       uint64
	size, num int // of one entry in bytes, and how many
}

// readNotes reads both build IDs from PT_NOTE segments, which remain in a file without section headers, and from SHT_NOTE sections:
// Go's own linker leaves the GNU build ID out of the segment. It refuses files whose headers claim more than any linker writes, before
// debug/elf allocates by these claims.
func readNotes(r io.ReaderAt, h elfHeader) (notes, error) {
	var ns notes
	if err := ns.readTable(r, h, h.progs, h.segment); err != nil {
		return notes{}, fmt.Errorf("read program headers: %w", err)
	}
	if err := ns.readTable(r, h, h.sects, h.section); err != nil {
		return notes{}, fmt.Errorf("read section headers: %w", err)
	}
	return ns, nil
}

// readTable reads the notes that the entries of t lead to.
func (ns *notes) readTable(r io.ReaderAt, h elfHeader, t table, where func(entry []byte) span) error {
	entries := make([]byte, t.size*t.num)
	if n, err := r.ReadAt(entries, int64(t.off)); n < len(entries) {
		return err
	}
	for ; len(entries) > 0; entries = entries[t.size:] {
		s := where(entries)
		ns.symbols = ns.symbols || s.symbols
		if !s.note || s.off > 1<<62 || s.size > maxNotes {
			continue
		}
		data := make([]byte, s.size)
		n, err := r.ReadAt(data, int64(s.off))
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read notes: %w", err)
		}
		ns.parse(data[:n], h.order, s.align)
	}
	return nil
}

func readHeader(r io.ReaderAt) (elfHeader, error) {
	var b [64]byte
	if n, err := r.ReadAt(b[:], 0); n < 52 {
		return elfHeader{}, fmt.Errorf("read ELF header: %w", err)
	}
	h := elfHeader{order: binary.LittleEndian}
	if b[5] == 2 {
		h.order = binary.BigEndian
	}
	h.core = h.order.Uint16(b[16:]) == typeCore
	most := maxProgs
	if h.core {
		most = maxMappings
	}
	u16 := func(off int) int { return int(h.order.Uint16(b[off:])) }
	wantProg, wantSect := 32, 40
	switch b[4] {
	case 1:
		h.progs = table{uint64(h.order.Uint32(b[28:])), u16(42), u16(44)}
		h.sects = table{uint64(h.order.Uint32(b[32:])), u16(46), u16(48)}
	case 2:
		h.is64 = true
		h.progs = table{h.order.Uint64(b[32:]), u16(54), u16(56)}
		h.sects = table{h.order.Uint64(b[40:]), u16(58), u16(60)}
		wantProg, wantSect = 56, 64
	default:
		return elfHeader{}, fmt.Errorf("ELF class %d", b[4])
	}
	switch {
	case h.progs.num > most:
		return elfHeader{}, fmt.Errorf("%d program headers, at most %d are read", h.progs.num, most)
	case h.sects.num > maxSections:
		return elfHeader{}, fmt.Errorf("%d sections, at most %d are read", h.sects.num, maxSections)
	case h.sects.num == 0 && h.sects.off != 0 && !h.core:
		// The real number would be in section 0: only files with more than 65,279 sections do that.
		return elfHeader{}, errors.New("more than 65,279 sections")
	case h.progs.num > 0 && h.progs.size != wantProg:
		return elfHeader{}, fmt.Errorf("program headers of %d bytes, want %d", h.progs.size, wantProg)
	case h.sects.num > 0 && h.sects.size != wantSect:
		return elfHeader{}, fmt.Errorf("section headers of %d bytes, want %d", h.sects.size, wantSect)
	case h.progs.off > 1<<62 || h.sects.off > 1<<62:
		return elfHeader{}, errors.New("headers beyond the end of any file")
	}
	return h, nil
}

// span is the part of the file that a header describes.
type span struct {
	note, symbols    bool
	off, size, align uint64
}

// segment returns what the program header that b starts with describes.
func (h elfHeader) segment(b []byte) span {
	s := span{note: h.order.Uint32(b) == ptNote}
	if h.is64 {
		s.off, s.size, s.align = h.order.Uint64(b[8:]), h.order.Uint64(b[32:]), h.order.Uint64(b[48:])
	} else {
		s.off, s.size, s.align = uint64(h.order.Uint32(b[4:])), uint64(h.order.Uint32(b[16:])), uint64(h.order.Uint32(b[28:]))
	}
	return s
}

// section returns what the section header that b starts with describes.
func (h elfHeader) section(b []byte) span {
	s := span{note: h.order.Uint32(b[4:]) == shtNote, symbols: h.order.Uint32(b[4:]) == shtSymbols}
	if h.is64 {
		s.off, s.size, s.align = h.order.Uint64(b[24:]), h.order.Uint64(b[32:]), h.order.Uint64(b[48:])
	} else {
		s.off, s.size, s.align = uint64(h.order.Uint32(b[16:])), uint64(h.order.Uint32(b[20:])), uint64(h.order.Uint32(b[32:]))
	}
	return s
}

// parse reads the notes of one segment: name size, description size, type, name, description, the latter two padded. The first of each kind counts.
func (ns *notes) parse(data []byte, order binary.ByteOrder, align uint64) {
	pad := uint64(4)
	if align == 8 {
		pad = 8
	}
	for len(data) >= 12 {
		nameLen, descLen := uint64(order.Uint32(data)), uint64(order.Uint32(data[4:]))
		kind := order.Uint32(data[8:])
		descAt := (12 + nameLen + pad - 1) / pad * pad
		next := (descAt + descLen + pad - 1) / pad * pad
		if descAt+descLen > uint64(len(data)) {
			return
		}
		name, desc := string(data[12:12+nameLen]), data[descAt:descAt+descLen]
		switch {
		case len(desc) > maxBuildID:
		case kind == noteGNUBuild && name == "GNU\x00" && ns.gnuID == "":
			ns.gnuID = hex.EncodeToString(desc)
		case kind == noteGoBuildID && name == "Go\x00\x00" && ns.goID == "":
			ns.goID = string(desc)
		}
		if next > uint64(len(data)) {
			return
		}
		data = data[next:]
	}
}
