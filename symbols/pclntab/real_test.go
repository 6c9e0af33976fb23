package pclntab

import (
	"bufio"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/testgo"
)

// shapes are the ways in which the program is built.
var shapes = []struct {
	name  string
	flags []string
	cgo   bool
}{
	{name: "plain"},
	{name: "stripped", flags: []string{"-ldflags=-s -w", "-trimpath"}},
	{name: "pie", flags: []string{"-buildmode=pie", "-ldflags=-s -w"}},
	{name: "cgo", flags: []string{"CGO_ENABLED=1", "-tags=netgo", "-ldflags=-linkmode=external"}, cgo: true},
	{name: "cgo pie stripped", flags: []string{"CGO_ENABLED=1", "-buildmode=pie", "-ldflags=-linkmode=external -s -w"}, cgo: true},
}

// TestAgreesWithTheRuntime compares with what programs say of their own addresses.
func TestAgreesWithTheRuntime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: the program reads /proc/self/maps")
	}
	_, noGCC := exec.LookPath("gcc")
	for _, version := range testgo.Toolchains() {
		for _, shape := range shapes {
			if shape.cgo && version != testgo.Local() && version != testgo.Toolchains()[0] {
				continue // the standard library is compiled anew for each: the oldest and the newest will do
			}
			t.Run(version+"/"+shape.name, func(t *testing.T) {
				t.Parallel()
				if shape.cgo && noGCC != nil {
					t.Skip("SKIPPED: there is no gcc")
				}
				program := testgo.Build(t, version, shape.flags, "testdata/frames")
				dir := t.TempDir()
				frames, heap := filepath.Join(dir, "frames"), filepath.Join(dir, "heap")
				if out, err := exec.Command(program, frames, heap).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				table, err := Open(program)
				if err != nil {
					t.Fatal(err)
				}
				defer table.Close()
				if table.GoVersion() != version {
					t.Errorf("built with %s, the table says %q", version, table.GoVersion())
				}
				slide := compareAddresses(t, table, frames)
				compareLocations(t, table, heap, slide)
				checkModuledata(t, table, program)
			})
		}
	}
}

// compareAddresses checks the innermost frame of addresses all over the text. It returns how far the program was moved.
func compareAddresses(t *testing.T, table *Table, file string) (slide uint64) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan()
	main, err := strconv.ParseUint(lines.Text(), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	entry, ok := table.FuncByName("main.main")
	if !ok {
		t.Fatal("no main.main")
	}
	slide = main - entry
	n, inlined := 0, 0
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 4)
		if len(fields) < 4 {
			t.Fatalf("%q", lines.Text())
		}
		pc, err1 := strconv.ParseUint(fields[0], 16, 64)
		entry, err2 := strconv.ParseUint(fields[1], 16, 64)
		line, err3 := strconv.Atoi(fields[2])
		rest := fields[3]
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if entry == pc+1 { // the return address given to the runtime was the next function's entry, which it takes for what it is
			continue
		}
		got := table.Frames(nil, pc-slide)
		if len(got) == 0 {
			t.Fatalf("no frames at %#x, want %s", pc-slide, lines.Text())
		}
		// runtime.Frame leaves type arguments out.
		if have := forPrint(got[0].Func) + "|" + got[0].File; have != rest || got[0].Line != line {
			t.Fatalf("at %#x: %s line %d, the runtime says %s line %d", pc-slide, have, got[0].Line, rest, line)
		}
		name, at, ok := table.Func(pc - slide)
		if !ok || at+slide != entry || name != got[len(got)-1].Func {
			t.Fatalf("at %#x: function %s at %#x, %v; the runtime says %#x; frames %v", pc-slide, name, at, ok, entry-slide, got)
		}
		n++
		if len(got) > 1 {
			inlined++
		}
	}
	if n < 1500 || inlined < 150 {
		t.Errorf("compared only %d addresses, %d of them inlined", n, inlined)
	}
	return slide
}

func forPrint(name string) string {
	i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if i >= 0 && j > i {
		return name[:i] + "[...]" + name[j+1:]
	}
	return name
}

// compareLocations checks the frames of a heap profile, inlined ones included, by name, file and line.
func compareLocations(t *testing.T, table *Table, file string, slide uint64) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	deep := 0
	for _, l := range p.Location {
		got := table.Frames(nil, l.Address-slide)
		if len(got) < len(l.Line) {
			t.Fatalf("at %#x: %v, want %d frames, innermost %s", l.Address-slide, got, len(l.Line), l.Line[0].Function.Name)
		}
		for i, line := range l.Line {
			g := got[i]
			if g.Func != line.Function.Name || g.File != line.Function.Filename || int64(g.Line) != line.Line || g.StartLine != int(line.Function.StartLine) {
				t.Fatalf("at %#x, frame %d: %+v, the profile says %s %s:%d, start %d", l.Address-slide, i, g, line.Function.Name, line.Function.Filename, line.Line, line.Function.StartLine)
			}
			if g.Inlined != (i < len(got)-1) {
				t.Fatalf("at %#x, frame %d of %d: inlined %v", l.Address-slide, i, len(got), g.Inlined)
			}
		}
		if len(got) > 2 {
			deep++
		}
	}
	if len(p.Location) < 100 || deep == 0 {
		t.Errorf("compared only %d locations, %d of them with two inlined frames or more", len(p.Location), deep)
	}
}

// checkModuledata compares the address of runtime.firstmoduledata with the symbol table, where there is one, and the functions with debug/gosym.
func checkModuledata(t *testing.T, table *Table, program string) {
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if syms, err := f.Symbols(); err == nil {
		for _, s := range syms {
			if got, ok := table.ModuleData(); s.Name == "runtime.firstmoduledata" && (!ok || got != s.Value) {
				t.Errorf("runtime.firstmoduledata at %#x, %v; the symbol says %#x", got, ok, s.Value)
			}
			if s.Name == "runtime.text" && table.TextStart() != s.Value {
				t.Errorf("runtime.text at %#x, the symbol says %#x", table.TextStart(), s.Value)
			}
		}
	}
	section := f.Section(".gopclntab")
	if section == nil {
		return
	}
	data, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	sym, err := gosym.NewTable(nil, gosym.NewLineTable(data, table.TextStart()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range sym.Funcs {
		if name, entry, ok := table.Func(fn.Entry); !ok || name != fn.Name || entry != fn.Entry {
			t.Fatalf("debug/gosym has %s at %#x, got %s at %#x, %v", fn.Name, fn.Entry, name, entry, ok)
		}
	}
}

// TestWithoutSectionHeaders takes the section headers away, as packers do.
func TestWithoutSectionHeaders(t *testing.T) {
	for _, flags := range [][]string{{"-ldflags=-s -w"}, {"-buildmode=pie", "-ldflags=-s -w"}} {
		program := testgo.Build(t, testgo.Local(), flags, "testdata/frames")
		whole, err := Open(program)
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Close()
		b, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		clear(b[40:48]) // e_shoff
		clear(b[60:64]) // e_shnum, e_shstrndx
		bare, err := New(bytesReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if bare.layout != whole.layout {
			t.Errorf("%v: layout %+v, with section headers %+v", flags, bare.layout, whole.layout)
		}
	}
}

// TestUnknownVersion refuses by name.
func TestUnknownVersion(t *testing.T) {
	for version, known := range map[string]bool{"go1.17.13": false, "go1.18": true, "go1.26.8": true, "go1.27rc1": false, "devel go1.28-0123abc": false, "go1.21.13 X:boringcrypto": true, "": false, "go2": false} {
		if Known(version) != known {
			t.Errorf("Known(%q) is %v", version, !known)
		}
	}
	if err := known("go1.27.1"); err == nil || !strings.Contains(err.Error(), "go1.27.1") {
		t.Errorf("go1.27.1: %v", err)
	}
}

// TestSparseFile refuses a file that claims a terabyte within seconds.
func TestSparseFile(t *testing.T) {
	b, err := os.ReadFile(testgo.BuildSource(t, testgo.Local(), []string{"-ldflags=-s -w"}, tiny))
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	clear(b[40:48]) // no section headers: the segments are searched
	clear(b[60:64])
	off := binary.LittleEndian.Uint64(b[32:])
	for range binary.LittleEndian.Uint16(b[56:]) {
		if kind := binary.LittleEndian.Uint32(b[off:]); kind == ptLoad {
			binary.LittleEndian.PutUint64(b[off+8:], 1<<20)
			binary.LittleEndian.PutUint64(b[off+32:], size) // p_filesz
		}
		off += 56
	}
	table, err := New(zeros(b[:64+512]), size)
	if err == nil {
		table.Close()
	}
	if !errors.Is(err, ErrNotGo) {
		t.Errorf("a terabyte of nothing: %v", err)
	}
}

// zeros is a file that begins with these bytes and has nothing but zeros after them.
type zeros []byte

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(z)) {
		copy(p, z[off:])
	}
	return len(p), nil
}
