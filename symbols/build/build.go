package build

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// ErrNotGo says that a file is readable but not a Go program.
var ErrNotGo = errors.New("not a Go program")

// maxRead is how many bytes of one file Read reads in all. A stripped binary without section headers makes debug/buildinfo
// search its data segment, which is a few MiB; a hostile one could claim a terabyte.
const maxRead = 64 << 20

// Info is a binary's build.
type Info struct {
	GoBuildID  string           // "abc/def/ghi/jkl"; "" where the linker was told to leave it out
	GNUBuildID string           // hex, "" for none
	GoVersion  string           // "go1.26.8"
	Mod        *debug.BuildInfo // never nil; Main and Deps are empty for a program built without modules
	Size       int64            // of the file in bytes, 0: unknown
	Core       bool             // it was read from a core of the program; Size and Stripped are not known then
	Stripped   string           // yes or no: whether it has no symbol table; "" where that is not known
}

// Key returns the build's id: Key(i.GNUBuildID, i.GoBuildID).
func (i *Info) Key() string { return Key(i.GNUBuildID, i.GoBuildID) }

// Key returns what a build is called everywhere (catalog.Build.ID): the GNU build ID in hex, else the hex of the first 20 bytes of
// the SHA-256 of the Go build ID. It is "" where there is neither. (Since Go 1.24 the linker makes a GNU build ID by default, from the
// Go build ID as it was before the go command put the content's hash into it: neither can be computed from the other.)
func Key(gnuBuildID, goBuildID string) string {
	if gnuBuildID != "" || goBuildID == "" {
		return gnuBuildID
	}
	sum := sha256.Sum256([]byte(goBuildID))
	return hex.EncodeToString(sum[:20])
}

// Module returns the path of the main module: ModuleOf(i.Mod).
func (i *Info) Module() string { return ModuleOf(i.Mod) }

// ModuleOf returns the path of the main module. Where the program was built without modules, as distributions do, it is guessed from the main
// package: its path up to /cmd/. It is "" where there is neither, as for files named on the command line of the go command.
func ModuleOf(info *debug.BuildInfo) string {
	if info.Main.Path != "" {
		return info.Main.Path
	}
	if info.Path == "command-line-arguments" {
		return ""
	}
	if i := strings.LastIndex(info.Path, "/cmd/"); i > 0 {
		return info.Path[:i]
	}
	return info.Path
}

// Version returns the main module's version; "" for a build from a working tree without one, which Go calls (devel).
func (i *Info) Version() string {
	if v := i.Mod.Main.Version; v != "(devel)" {
		return v
	}
	return ""
}

// Setting returns a build setting such as vcs.revision or GOARCH, "" where it is not there.
func (i *Info) Setting(key string) string {
	for _, s := range i.Mod.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// HasDep reports whether the module path was built into the program, as the main module or as a dependency.
func (i *Info) HasDep(path string) bool {
	if i.Mod.Main.Path == path {
		return true
	}
	for _, d := range i.Mod.Deps {
		if d.Path == path {
			return true
		}
	}
	return false
}

// ReadFile reads the build of the executable at path, which may be /proc/PID/exe, or a core. The error wraps ErrNotGo where the file is no Go
// program, and what the system said where it cannot be read.
func ReadFile(path string) (*Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read build: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read build: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read build of %s: not a regular file", path)
	}
	info, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("read build of %s: %w", path, err)
	}
	if !info.Core {
		info.Size = st.Size()
	}
	return info, nil
}

// Read reads the build of an executable: ELF, Mach-O or PE, or of the program that left an ELF core. The GNU build ID is read from ELF only.
func Read(r io.ReaderAt) (*Info, error) {
	br := &budget{r: r, left: maxRead}
	var head [4]byte
	if _, err := br.ReadAt(head[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: shorter than any executable", ErrNotGo)
		}
		return nil, err
	}
	info := &Info{}
	isELF := bytes.Equal(head[:], []byte("\x7fELF"))
	if isELF {
		h, err := readHeader(br)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotGo, err)
		}
		if h.core {
			return readCore(br, h)
		}
		notes, err := readNotes(br, h)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotGo, err)
		}
		info.GoBuildID, info.GNUBuildID, info.Stripped = notes.goID, notes.gnuID, "yes"
		if notes.symbols {
			info.Stripped = "no"
		}
	}
	mod, err := buildinfo.Read(br)
	if err != nil {
		if br.err != nil {
			return nil, br.err
		}
		return nil, fmt.Errorf("%w: %w", ErrNotGo, err)
	}
	info.Mod, info.GoVersion = mod, mod.GoVersion
	if !isELF {
		info.GoBuildID = scanGoBuildID(br)
	}
	return info, nil
}

// scanGoBuildID finds the Go build ID where there are no ELF notes: the linker puts it, quoted, at the start of the text.
func scanGoBuildID(r io.ReaderAt) string {
	const prefix, suffix = "\xff Go build ID: ", "\n \xff"
	buf := make([]byte, 64<<10)
	n, _ := r.ReadAt(buf, 0)
	_, rest, ok := bytes.Cut(buf[:n], []byte(prefix))
	if !ok {
		return ""
	}
	quoted, _, ok := bytes.Cut(rest, []byte(suffix))
	if !ok || len(quoted) > maxBuildID {
		return ""
	}
	id, err := strconv.Unquote(string(quoted))
	if err != nil {
		return ""
	}
	return id
}

// budget is a ReaderAt that stops after left bytes.
type budget struct {
	r    io.ReaderAt
	left int64
	err  error // the first error other than EOF
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if int64(len(p)) > b.left {
		b.err = fmt.Errorf("read executable: more than %d bytes needed to find its build", int64(maxRead))
		return 0, b.err
	}
	b.left -= int64(len(p))
	n, err := b.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && b.err == nil {
		b.err = err
	}
	return n, err
}
