package build

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
)

// imageNotes is how many bytes at the start of a program's image are searched: linkers put the notes there.
const imageNotes = 8 << 10

// readCore reads the build of the program whose memory a core holds. A core has no sections, and what debug/buildinfo goes by is not there where the linker's layout was changed
// in memory (position-independent programs), so both are found by what they look like: the notes in the first page of the image, which systems dump even where they leave out the
// rest of a file, and the build information in the mappings after it. Of several images, as programs with cgo have, the one with a Go build ID is the program.
func readCore(r io.ReaderAt, h elfHeader) (*Info, error) {
	entries := make([]byte, h.progs.size*h.progs.num)
	if n, err := r.ReadAt(entries, int64(h.progs.off)); n < len(entries) {
		return nil, fmt.Errorf("%w: read program headers: %w", ErrNotGo, err)
	}
	info := &Info{Core: true}
	for ; len(entries) > 0; entries = entries[h.progs.size:] {
		s := h.segment(entries)
		if h.order.Uint32(entries) != ptLoad || s.size == 0 || s.off > 1<<62 || s.size > 1<<62 {
			continue
		}
		if info.GoBuildID == "" {
			ns, err := imageIDs(r, h, s)
			if err != nil {
				return nil, err
			}
			info.GoBuildID, info.GNUBuildID = ns.goID, ns.gnuID
		}
		if info.GoBuildID == "" {
			continue // of what is mapped before the program nothing is searched
		}
		found, err := info.search(r, s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("search a core for its build: %w", err)
		case found:
			return info, nil
		}
	}
	return nil, fmt.Errorf("%w: no build information in its memory", ErrNotGo)
}

// imageIDs returns the notes at the start of a mapping, if that is a program's image with a Go build ID. Notes are known by their names.
func imageIDs(r io.ReaderAt, h elfHeader, s span) (notes, error) {
	var magic [4]byte
	if n, _ := r.ReadAt(magic[:], int64(s.off)); n < len(magic) || string(magic[:]) != "\x7fELF" {
		return notes{}, nil // of a core that was cut the rest is not there either
	}
	page := make([]byte, min(s.size, imageNotes))
	n, err := r.ReadAt(page, int64(s.off))
	if err != nil && !errors.Is(err, io.EOF) {
		return notes{}, fmt.Errorf("read image: %w", err)
	}
	var ns notes
	for at := 0; at+16 <= n; at += 4 {
		if name := string(page[at+12 : at+16]); name == "GNU\x00" || name == "Go\x00\x00" {
			ns.parse(page[at:min(n, at+16+maxBuildID)], h.order, 4)
		}
	}
	if ns.goID == "" {
		return notes{}, nil
	}
	return ns, nil
}

// The build information of Go 1.18 and later, as cmd/link writes it (debug/buildinfo): a magic, the size of pointers, flags, then at byte 32 the version and the modules, each with its
// length before it. It is aligned.
const (
	infoMagic  = "\xff Go buildinf:"
	infoAlign  = 16
	infoHead   = 32
	infoInline = 2 // the flag that the strings follow
	maxInfo    = 4 << 20
	searchStep = 1 << 20
)

// search looks for build information in a mapping.
func (i *Info) search(r io.ReaderAt, s span) (found bool, err error) {
	buf := make([]byte, min(s.size, searchStep))
	for at := uint64(0); at < s.size; at += searchStep {
		n, err := r.ReadAt(buf[:min(s.size-at, searchStep)], int64(s.off+at))
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		for from := 0; ; {
			k := bytes.Index(buf[from:n], []byte(infoMagic))
			if k < 0 {
				break
			}
			place := at + uint64(from+k)
			if place%infoAlign == 0 && i.inline(r, int64(s.off+place), int64(s.size-place)) {
				return true, nil
			}
			from += k + 1
		}
		if n == 0 {
			break
		}
	}
	return false, nil
}

// inline reads the build information at off, at most size bytes, and reports whether it is one.
func (i *Info) inline(r io.ReaderAt, off, size int64) bool {
	sr := io.NewSectionReader(r, off, min(size, maxInfo))
	head := make([]byte, infoHead)
	if _, err := io.ReadFull(sr, head); err != nil || head[15]&infoInline == 0 {
		return false
	}
	var texts [2]string
	br := &byteReader{r: sr}
	for t := range texts {
		n, err := binary.ReadUvarint(br)
		if err != nil || n > maxInfo {
			return false
		}
		text, err := io.ReadAll(io.LimitReader(sr, int64(n)))
		if err != nil || uint64(len(text)) < n {
			return false
		}
		texts[t] = string(text)
	}
	version, mod := texts[0], texts[1]
	if len(mod) >= 33 && mod[len(mod)-17] == '\n' {
		mod = mod[16 : len(mod)-16] // between marks that let it be found in a file
	} else {
		mod = ""
	}
	bi, err := debug.ParseBuildInfo(mod)
	if err != nil || version == "" {
		return false
	}
	bi.GoVersion = version
	i.Mod, i.GoVersion = bi, version
	return true
}

// byteReader reads single bytes.
type byteReader struct{ r io.Reader }

// ReadByte implements io.ByteReader.
func (b *byteReader) ReadByte() (byte, error) {
	var one [1]byte
	_, err := io.ReadFull(b.r, one[:])
	return one[0], err
}
