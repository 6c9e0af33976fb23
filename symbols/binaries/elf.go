package binaries

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sonde-io/sonde/symbols/build"
)

// ErrNotELF says that a file is not an ELF binary, or a damaged one.
var ErrNotELF = errors.New("not an ELF binary")

// Limits of what an ELF file may claim.
const (
	maxSegments     = 256
	maxSections     = 8192
	maxNameBytes    = 1 << 20 // of the names of sections
	maxNoteBytes    = 64 << 10
	maxBuildIDBytes = 64
)

// segment is what is loaded of a file.
type segment struct {
	typ                 uint32
	offset, vaddr, size uint64
}

// section is a part of a file by name.
type section struct {
	name                      string
	typ, link                 uint32
	flags, offset, size, each uint64
}

// image is the outline of an ELF file.
type image struct {
	r        io.ReaderAt
	size     int64
	order    binary.ByteOrder
	wide     bool // 64 bits
	segments []segment
	sections []section
}

// read returns n bytes at off. It allocates no more than the file holds.
func (m *image) read(off, n, most uint64) ([]byte, error) {
	if n > most || off > uint64(m.size) || n > uint64(m.size)-off {
		return nil, fmt.Errorf("%w: %d bytes at %d of a file of %d", ErrNotELF, n, off, m.size)
	}
	b := make([]byte, n)
	if _, err := m.r.ReadAt(b, int64(off)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// readImage reads the outline of a file of size bytes.
func readImage(r io.ReaderAt, size int64) (*image, error) {
	m := &image{r: r, size: size}
	head, err := m.read(0, min(64, uint64(max(size, 0))), 64)
	if err != nil {
		return nil, err
	}
	if len(head) < 64 || string(head[:4]) != "\x7fELF" {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrNotELF)
	}
	switch head[5] {
	case 1:
		m.order = binary.LittleEndian
	case 2:
		m.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("%w: byte order %d", ErrNotELF, head[5])
	}
	var phoff, shoff uint64
	var counts []byte // e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
	switch head[4] {
	case 1:
		phoff, shoff, counts = uint64(m.order.Uint32(head[28:])), uint64(m.order.Uint32(head[32:])), head[42:]
	case 2:
		m.wide = true
		phoff, shoff, counts = m.order.Uint64(head[32:]), m.order.Uint64(head[40:]), head[54:]
	default:
		return nil, fmt.Errorf("%w: class %d", ErrNotELF, head[4])
	}
	count := func(i int) uint64 { return uint64(m.order.Uint16(counts[2*i:])) }
	if err := m.readSegments(phoff, count(0), count(1)); err != nil {
		return nil, err
	}
	// A file without sections, or with damaged ones, still has its segments.
	if err := m.readSections(shoff, count(2), count(3), count(4)); err != nil {
		m.sections = nil
	}
	return m, nil
}

func (m *image) readSegments(off, each, n uint64) error {
	least := uint64(32)
	if m.wide {
		least = 56
	}
	if n == 0 {
		return nil
	}
	if n > maxSegments || each < least || each > 1024 {
		return fmt.Errorf("%w: %d program headers of %d bytes", ErrNotELF, n, each)
	}
	b, err := m.read(off, n*each, maxSegments*1024)
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		s := segment{typ: m.order.Uint32(b)}
		if m.wide {
			s.offset, s.vaddr, s.size = m.order.Uint64(b[8:]), m.order.Uint64(b[16:]), m.order.Uint64(b[32:])
		} else {
			s.offset, s.vaddr, s.size = uint64(m.order.Uint32(b[4:])), uint64(m.order.Uint32(b[8:])), uint64(m.order.Uint32(b[16:]))
		}
		m.segments = append(m.segments, s)
		b = b[each:]
	}
	return nil
}

func (m *image) readSections(off, each, n, names uint64) error {
	least := uint64(40)
	if m.wide {
		least = 64
	}
	if n == 0 || n > maxSections || each < least || each > 1024 {
		return fmt.Errorf("%w: %d sections of %d bytes", ErrNotELF, n, each)
	}
	b, err := m.read(off, n*each, maxSections*1024)
	if err != nil {
		return err
	}
	nameAt := make([]uint32, n)
	for i := range nameAt {
		s := section{typ: m.order.Uint32(b[4:])}
		nameAt[i] = m.order.Uint32(b)
		if m.wide {
			s.flags, s.offset, s.size = m.order.Uint64(b[8:]), m.order.Uint64(b[24:]), m.order.Uint64(b[32:])
			s.link, s.each = m.order.Uint32(b[40:]), m.order.Uint64(b[56:])
		} else {
			s.flags, s.offset, s.size = uint64(m.order.Uint32(b[8:])), uint64(m.order.Uint32(b[16:])), uint64(m.order.Uint32(b[20:]))
			s.link, s.each = m.order.Uint32(b[24:]), uint64(m.order.Uint32(b[36:]))
		}
		m.sections = append(m.sections, s)
		b = b[each:]
	}
	if names >= n {
		return nil
	}
	table, err := m.read(m.sections[names].offset, m.sections[names].size, maxNameBytes)
	if err != nil {
		return err
	}
	for i, at := range nameAt {
		m.sections[i].name = textAt(table, uint64(at), 64)
	}
	return nil
}

// textAt returns the text at off of a table, of at most the given length.
func textAt(table []byte, off uint64, most int) string {
	if off >= uint64(len(table)) {
		return ""
	}
	b := table[off:]
	if len(b) > most {
		b = b[:most]
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// linked returns the address, as the linker gave it, of what a process had at an address within a mapping. What lies outside of the mapping is such an address already.
func (m *image) linked(start, limit, offset, address uint64) (uint64, bool) {
	if limit <= start || address < start || address >= limit {
		return address, true
	}
	at := address - start + offset
	for _, s := range m.segments {
		if s.typ == 1 && at >= s.offset && at-s.offset < s.size {
			return at - s.offset + s.vaddr, true
		}
	}
	return 0, false
}

// IDs are the names that a binary has. Those that it lacks are empty.
type IDs struct {
	GNU  string `json:"gnu_build_id,omitempty"` // hex
	Go   string `json:"go_build_id,omitempty"`  // build.Key of the Go build id: hex of 20 bytes
	Hash string `json:"htlhash,omitempty"`      // of the file's ends and its length: hex of 16 bytes
}

// all returns the names that there are.
func (id IDs) all() (out []string) {
	for _, s := range []string{id.GNU, id.Go, id.Hash} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// identify returns the names of a file of size bytes.
func identify(r io.ReaderAt, size int64) (IDs, error) {
	m, err := readImage(r, size)
	if err != nil {
		return IDs{}, err
	}
	var id IDs
	notes := func(off, n uint64) {
		if b, err := m.read(off, n, maxNoteBytes); err == nil {
			m.notes(b, &id)
		}
	}
	for _, s := range m.segments {
		if s.typ == 4 {
			notes(s.offset, s.size)
		}
	}
	for _, s := range m.sections {
		if s.typ == 7 && strings.HasPrefix(s.name, ".note") {
			notes(s.offset, s.size)
		}
	}
	id.Hash, err = htlhash(r, size)
	return id, err
}

// notes reads ELF notes into id.
func (m *image) notes(b []byte, id *IDs) {
	for len(b) >= 12 {
		name, desc, typ := uint64(m.order.Uint32(b)), uint64(m.order.Uint32(b[4:])), m.order.Uint32(b[8:])
		b = b[12:]
		pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
		if pad(name) > uint64(len(b)) || desc > uint64(len(b))-pad(name) {
			return
		}
		owner, text := string(bytes.TrimRight(b[:name], "\x00")), b[pad(name):pad(name)+desc]
		switch {
		case owner == "GNU" && typ == 3 && desc > 0 && desc <= maxBuildIDBytes:
			id.GNU = hex.EncodeToString(text)
		case owner == "Go" && typ == 4 && desc > 0 && desc <= 1024:
			id.Go = build.Key("", string(text))
		}
		if b = b[pad(name):]; pad(desc) > uint64(len(b)) {
			return
		}
		b = b[pad(desc):]
	}
}

// htlhash returns what the OpenTelemetry eBPF profiler calls a file: SHA-256 of its first 4096 bytes, its last 4096 bytes and its length (8 bytes, big-endian), the first 16 bytes in hex.
func htlhash(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	n := min(size, 4096)
	for _, off := range []int64{0, size - n} {
		if _, err := io.Copy(h, io.NewSectionReader(r, off, n)); err != nil {
			return "", err
		}
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
