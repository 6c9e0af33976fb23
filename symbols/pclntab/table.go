package pclntab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/sonde-io/sonde/symbols/build"
)

var (
	// ErrVersion says that the binary is of a Go version whose tables this package does not know. The message names the version.
	ErrVersion = errors.New("function table of an unknown Go version")
	// ErrNotGo says that a file has no function table of Go.
	ErrNotGo = errors.New("no Go function table")
	// ErrDamaged says that a function table contradicts itself.
	ErrDamaged = errors.New("damaged Go function table")
)

// Versions of Go whose tables are known: 1.minMinor to 1.maxMinor.
const (
	minMinor = 18
	maxMinor = 26
)

// Frame is a function at a place in its source.
type Frame struct {
	Func      string // as runtime/pprof writes it: "example.com/shop/cart.(*Cart).Add"; type arguments are "[...]" until Go 1.20 and spelled out from 1.21 on
	File      string // "?" where the table does not say
	Line      int    // of the place, 1 and up; 0 where the table does not say
	StartLine int    // of the function's declaration; 0 where the table does not say (Go 1.18 and 1.19)
	Inlined   bool   // the compiler put this function into the frame after it
}

// Table is the function table of one binary.
type Table struct {
	file      io.Closer
	goVersion string

	mu sync.Mutex
	im *image // its pages are guarded by mu
	layout
	closed bool

	indexed bool
	index   []uint32 // entry offset of every indexStep'th function
}

// Open reads the function table of the ELF file at path, which may be /proc/PID/exe. The file stays open until Close. Errors wrap ErrVersion,
// ErrNotGo or ErrDamaged, or say what the system said.
func Open(path string) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open function table: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	var t *Table
	if err == nil {
		t, err = New(f, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open function table of %s: %w", path, err)
	}
	t.file = f
	return t, nil
}

// New reads the function table of an ELF file of size bytes. r is used until Close, which does not close it.
func New(r io.ReaderAt, size int64) (*Table, error) {
	im, err := openImage(r, size)
	if err != nil {
		return nil, err
	}
	version := goVersion(r)
	if err := known(version); err != nil {
		return nil, err
	}
	l, err := im.findLayout()
	if err != nil {
		im.trim()
		if version != "" && errors.Is(err, ErrNotGo) {
			err = fmt.Errorf("%w (%s)", err, version)
		}
		return nil, err
	}
	return &Table{im: im, layout: l, goVersion: version}, nil
}

// goVersion returns the version that the binary was built with, "" where it does not say.
func goVersion(r io.ReaderAt) string {
	info, err := build.Read(r)
	if err != nil {
		return ""
	}
	return info.GoVersion
}

// known returns an error that names version unless it is known or empty. A binary that hides its version is judged by its tables alone.
func known(version string) error {
	if version == "" {
		return nil
	}
	minor, ok := Minor(version)
	if !ok || minor < minMinor || minor > maxMinor {
		return fmt.Errorf("%w: %s; known are go1.%d to go1.%d", ErrVersion, version, minMinor, maxMinor)
	}
	return nil
}

// Minor returns the n of a Go version 1.n: 26 of "go1.26.8", "go1.26rc1", "devel go1.26-abcdef" and "go1.26.8 X:nodwarf5".
func Minor(version string) (n int, ok bool) {
	_, rest, found := strings.Cut(version, "go1.")
	if !found {
		return 0, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	return n, err == nil
}

// Close closes the file. The table answers nothing any more. It may be called again.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.im.trim()
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// Trim gives back the pages of the file that the table keeps; they are read again when they are needed.
func (t *Table) Trim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.im.trim()
}

// GoVersion returns the Go version that the binary says it was built with, "" where it does not say.
func (t *Table) GoVersion() string { return t.goVersion }

// TextStart returns the link-time address of runtime.text.
func (t *Table) TextStart() uint64 { return t.text }

// TextEnd returns the first link-time address behind the Go functions.
func (t *Table) TextEnd() uint64 { return t.maxpc }

// ModuleData returns the link-time address of runtime.firstmoduledata.
func (t *Table) ModuleData() (addr uint64, ok bool) { return t.moduledata, t.moduledata != 0 }

// Segments returns where the loadable segments of the file are, in the order of the program headers.
func (t *Table) Segments() []Segment {
	out := make([]Segment, len(t.im.segments))
	for i, s := range t.im.segments {
		out[i] = Segment{Addr: s.vaddr, Offset: s.off, FileSize: s.filesz, MemSize: s.memsz, Exec: s.flags&1 != 0, Write: s.flags&2 != 0}
	}
	return out
}

// Segment is a loadable part of the file.
type Segment struct {
	Addr, Offset      uint64 // link-time address, place in the file
	FileSize, MemSize uint64 // bytes
	Exec, Write       bool
}

// Func returns the name and the entry of the function that holds pc, without regard to inlining.
func (t *Table) Func(pc uint64) (name string, entry uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.find(pc)
	if !ok {
		return "", 0, false
	}
	return t.name(f.nameOff), f.entry, true
}

// Frames appends what is at pc to dst, innermost first, inlined calls expanded; nothing where pc is in no Go function. For a return address the
// caller passes pc-1.
func (t *Table) Frames(dst []Frame, pc uint64) []Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.find(pc)
	if !ok {
		return dst
	}
	return t.frames(dst, &f, pc)
}

// SPDelta returns how far the stack pointer has moved since the entry of the function that holds pc, in bytes. On amd64 and 386 the return address is
// at SP + SPDelta; elsewhere it is in the link register while SPDelta is 0, and at SP otherwise. ok is false where the table does not say.
func (t *Table) SPDelta(pc uint64) (delta int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.find(pc)
	if !ok || f.flag&flagSPWrite != 0 {
		return 0, false
	}
	budget := maxWork
	v, ok := t.pcvalue(f.pcsp, f.entry, pc, &budget)
	return int64(v), ok && v >= 0
}

// FuncByName returns the entry of the function with that name, which is not looked for among inlined calls. It reads the whole table: for a
// handful of names.
func (t *Table) FuncByName(name string) (entry uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byName(name)
}

// Known reports whether the tables of a Go version, such as "go1.26.8", can be read.
func Known(version string) bool { return version != "" && known(version) == nil }
