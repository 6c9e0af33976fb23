package binaries

import (
	"cmp"
	"slices"
	"strings"
)

// The most that is read of a symbol table.
const (
	maxSymbols     = 1 << 20
	maxSymbolBytes = 64 << 20 // of the entries and names of one binary together
	maxTables      = 2        // .symtab and .dynsym
	maxSymbolName  = 4096
)

// symbol is a function of a symbol table.
type symbol struct {
	value, size uint64
	name        uint32 // where in names
	table       uint8
}

// symtab is what the symbol tables of a binary say of functions.
type symtab struct {
	symbols []symbol // by value
	names   [][]byte
}

// readSymtab reads the symbol tables. What is damaged or compressed is passed over.
func readSymtab(m *image) *symtab {
	t, left := &symtab{}, uint64(maxSymbolBytes)
	for _, s := range m.sections {
		if s.typ != 2 && s.typ != 11 || s.flags&0x800 != 0 || int(s.link) >= len(m.sections) || len(t.names) == maxTables {
			continue
		}
		names := m.sections[s.link]
		if s.size > left || names.size > left-s.size {
			continue
		}
		entries, err := m.read(s.offset, s.size, left)
		if err != nil {
			continue
		}
		text, err := m.read(names.offset, names.size, left)
		if err != nil {
			continue
		}
		left -= s.size + names.size
		t.names = append(t.names, text)
		t.add(m, entries)
	}
	slices.SortFunc(t.symbols, func(a, b symbol) int { return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(b.size, a.size)) })
	t.symbols = slices.CompactFunc(t.symbols, func(a, b symbol) bool { return a.value == b.value })
	return t
}

// add adds the functions of one table.
func (t *symtab) add(m *image, b []byte) {
	each := 16
	if m.wide {
		each = 24
	}
	for ; len(b) >= each && len(t.symbols) < maxSymbols; b = b[each:] {
		s := symbol{name: m.order.Uint32(b), table: uint8(len(t.names) - 1)}
		var info byte
		var section uint16
		if m.wide {
			info, section, s.value, s.size = b[4], m.order.Uint16(b[6:]), m.order.Uint64(b[8:]), m.order.Uint64(b[16:])
		} else {
			info, section, s.value, s.size = b[12], m.order.Uint16(b[14:]), uint64(m.order.Uint32(b[4:])), uint64(m.order.Uint32(b[8:]))
		}
		if typ := info & 0xf; (typ == 2 || typ == 10) && section != 0 && s.value != 0 {
			t.symbols = append(t.symbols, s)
		}
	}
}

// bytes is the memory that the table takes.
func (t *symtab) bytes() (n int64) {
	for _, b := range t.names {
		n += int64(len(b))
	}
	return n + 32*int64(cap(t.symbols))
}

// find returns the name of the function at an address as the linker gave it, "" where there is none. One without a size reaches to the next.
func (t *symtab) find(address uint64) string {
	i, ok := slices.BinarySearchFunc(t.symbols, address, func(s symbol, a uint64) int { return cmp.Compare(s.value, a) })
	if !ok {
		i--
	}
	if i < 0 {
		return ""
	}
	s := &t.symbols[i]
	if s.size != 0 && address-s.value >= s.size {
		return ""
	}
	return strings.ToValidUTF8(textAt(t.names[s.table], uint64(s.name), maxSymbolName), "�")
}
