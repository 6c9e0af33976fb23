// Package buildid reads the build ids of the running program from its own executable: the Go build id and the GNU build id.
//
// It reads at most the first megabyte, checks every offset against what was read, and returns empty ids rather than an error:
// an agent has use for them but not need. Safe for concurrent use. Imports only the standard library; debug/elf would add
// more to every user's binary than these lines.
package buildid

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"runtime"
)

// IDs are the ids of one binary, each empty where the binary has none.
type IDs struct {
	Go  string // of the go command: four parts with slashes
	GNU string // hex
}

// readLimit is how much of the executable is read: the notes and the first bytes of the text come first.
const readLimit = 1 << 20

// Self returns the ids of the running executable.
func Self() IDs {
	path := "/proc/self/exe" // it works for a deleted file too
	if runtime.GOOS != "linux" {
		var err error
		if path, err = os.Executable(); err != nil {
			return IDs{}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return IDs{}
	}
	defer f.Close() // read only
	// ReadAt in one piece: executables are at least as big as their headers say, or the ids stay empty.
	b := make([]byte, 64<<10)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return IDs{}
	}
	ids := Parse(b[:n])
	if ids.Go == "" && n == len(b) {
		b = make([]byte, readLimit)
		n, _ = f.ReadAt(b, 0) // a short read leaves the ids empty
		ids = Parse(b[:n])
	}
	return ids
}

// Parse returns the ids in head, the first bytes of an executable.
func Parse(head []byte) IDs {
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return parseELF(head)
	}
	return IDs{Go: marked(head)}
}

// marked finds the id that the linker puts before the text of Mach-O and PE binaries: \xff Go build ID: "…"\n \xff.
func marked(b []byte) string {
	_, rest, ok := bytes.Cut(b, []byte("\xff Go build ID: \""))
	if !ok {
		return ""
	}
	id, _, ok := bytes.Cut(rest, []byte("\"\n \xff"))
	if !ok || len(id) > 512 {
		return ""
	}
	return string(id)
}

// elfNote is the PT_NOTE type of a program header.
const elfNote = 4

// noteRoom is what a GNU note needs: a header, a name and up to 64 bytes.
const noteRoom = 80

func parseELF(b []byte) (ids IDs) {
	if len(b) < 64 {
		return ids
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[5] == 2 {
		order = binary.BigEndian
	}
	wide := b[4] == 2
	var phoff uint64
	var size, count int
	if wide {
		phoff, size, count = order.Uint64(b[32:]), int(order.Uint16(b[54:])), int(order.Uint16(b[56:]))
	} else {
		phoff, size, count = uint64(order.Uint32(b[28:])), int(order.Uint16(b[42:])), int(order.Uint16(b[44:]))
	}
	for i := range count {
		ph := cut(b, phoff+uint64(i*size), uint64(size))
		if len(ph) < 32 || wide && len(ph) < 56 {
			return ids
		}
		if order.Uint32(ph) != elfNote {
			continue
		}
		off, n := uint64(order.Uint32(ph[4:])), uint64(order.Uint32(ph[16:]))
		if wide {
			off, n = order.Uint64(ph[8:]), order.Uint64(ph[32:])
		}
		seg := cut(b, off, n)
		if seg != nil {
			// Go's own linker leaves the GNU note out of the segment and puts it right behind.
			seg = b[off:min(off+n+noteRoom, uint64(len(b)))]
		}
		ids.notes(order, seg)
	}
	return ids
}

// cut returns n bytes of b from off, or nil where b does not hold them.
func cut(b []byte, off, n uint64) []byte {
	if off > uint64(len(b)) || n > uint64(len(b))-off {
		return nil
	}
	return b[off : off+n]
}

// notes reads a note segment: name size, description size, type, then both padded to 4.
func (ids *IDs) notes(order binary.ByteOrder, b []byte) {
	for len(b) >= 12 {
		nameSize, descSize, typ := uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint32(b[8:])
		name := cut(b, 12, nameSize)
		descAt := 12 + (nameSize+3)&^3
		desc := cut(b, descAt, descSize)
		if name == nil || desc == nil {
			return
		}
		switch {
		case string(name) == "Go\x00\x00" && typ == 4 && descSize <= 512:
			ids.Go = string(desc)
		case string(name) == "GNU\x00" && typ == 3 && descSize <= 64:
			ids.GNU = hexString(desc)
		}
		end := descAt + (descSize+3)&^3
		if end > uint64(len(b)) {
			return
		}
		b = b[end:]
	}
}

func hexString(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
