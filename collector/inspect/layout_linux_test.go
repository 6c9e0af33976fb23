package inspect

import (
	"debug/dwarf"
	"debug/elf"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// unstripped compiles the target so that its symbols and debug information say what the tables of this package should.
func unstripped(t *testing.T, version string, flags ...string) (file *os.File, ef *elf.File, im *image) {
	t.Helper()
	path := testgo.Build(t, version, flags, "testdata/target")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if ef, err = elf.NewFile(file); err != nil {
		t.Fatal(err)
	}
	table, err := pclntab.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	if im, err = newImage(file, table); err != nil {
		t.Fatal(err)
	}
	im.file = file
	return file, ef, im
}

// architectures are those that binaries are looked at of. Compiling for arm64 takes the standard library for it.
func architectures(version string) []string {
	if version == testgo.Local() || os.Getenv(testgo.AllVersions) == "all" {
		return []string{"amd64", "arm64"}
	}
	return []string{"amd64"}
}

func eachUnstripped(t *testing.T, f func(t *testing.T, ef *elf.File, im *image)) {
	for _, version := range testgo.Toolchains() {
		for _, arch := range architectures(version) {
			t.Run(version+"/"+arch, func(t *testing.T) {
				var flags []string
				if arch != "amd64" {
					flags = []string{"GOARCH=" + arch}
				}
				_, ef, im := unstripped(t, version, flags...)
				if im.machine != arch {
					t.Fatalf("compiled for %s", im.machine)
				}
				f(t, ef, im)
			})
		}
	}
}

func TestLayoutIsThatOfTheRuntime(t *testing.T) {
	eachUnstripped(t, func(t *testing.T, ef *elf.File, im *image) {
		offsets := structs(t, ef, "runtime.g", "runtime.gobuf", "runtime.bucket", "runtime.memRecord", "runtime.memRecordCycle", "runtime.blockRecord")
		g, sched := offsets["runtime.g"], offsets["runtime.gobuf"]
		if g == nil || sched == nil {
			t.Fatal("no debug information of runtime.g")
		}
		at := g["sched"]
		l := im.layout.g
		for name, pair := range map[string][2]int64{
			"sched.sp": {int64(l.schedSP), at + sched["sp"]}, "sched.pc": {int64(l.schedPC), at + sched["pc"]}, "sched.g": {int64(l.schedG), at + sched["g"]},
			"sched.bp": {int64(l.schedBP), at + sched["bp"]}, "m": {int64(l.m), g["m"]}, "syscallsp": {int64(l.syscallSP), g["syscallsp"]},
			"syscallpc": {int64(l.syscallPC), g["syscallpc"]}, "atomicstatus": {int64(l.status), g["atomicstatus"]}, "goid": {int64(l.goid), g["goid"]},
			"waitsince": {int64(l.waitSince), g["waitsince"]}, "waitreason": {int64(l.waitReason), g["waitreason"]},
			"trackingSeq": {int64(l.trackingSeq), g["trackingSeq"]}, "lockedm": {int64(l.lockedM), g["lockedm"]}, "gopc": {int64(l.gopc), g["gopc"]},
			"startpc": {int64(l.startPC), g["startpc"]}, "labels": {int64(l.labels), g["labels"]}, "parentGoid": {int64(l.parentGoid), g["parentGoid"]},
			"stack": {0, g["stack"]},
		} {
			if pair[0] != pair[1] {
				t.Errorf("g.%s: %d in the table, %d in the binary", name, pair[0], pair[1])
			}
		}
		if l.labels+8 > l.size || l.startPC+8 > l.size {
			t.Errorf("%d bytes do not hold the fields", l.size)
		}
		want := map[string]map[string]int64{
			"runtime.bucket":         {"allnext": bucketNext, "typ": bucketType, "hash": bucketHash, "size": bucketSize, "nstk": bucketDepth, "": bucketStack},
			"runtime.memRecord":      {"active": 0, "future": memCycleSize, "": memRecordSize},
			"runtime.memRecordCycle": {"allocs": 0, "frees": 8, "alloc_bytes": 16, "free_bytes": 24, "": memCycleSize},
			"runtime.blockRecord":    {"count": 0, "cycles": 8, "": blockRecordSize},
		}
		for name, fields := range want {
			for field, off := range fields {
				if got, ok := offsets[name][field]; !ok || got != off {
					t.Errorf("%s.%s: %d in the table, %d in the binary", name, field, off, got)
				}
			}
		}
	})
}

// structs reads where the fields of structures are; the field "" is the size.
func structs(t *testing.T, ef *elf.File, names ...string) map[string]map[string]int64 {
	t.Helper()
	d, err := ef.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]int64{}
	for r := d.Reader(); len(out) < len(names); {
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if e.Tag != dwarf.TagStructType || !slices.Contains(names, name) {
			if e.Tag != dwarf.TagCompileUnit {
				r.SkipChildren()
			}
			continue
		}
		size, _ := e.Val(dwarf.AttrByteSize).(int64)
		fields := map[string]int64{"": size}
		for c, _ := r.Next(); c != nil && c.Tag != 0; c, _ = r.Next() {
			field, _ := c.Val(dwarf.AttrName).(string)
			fields[field], _ = c.Val(dwarf.AttrDataMemberLoc).(int64)
		}
		out[name] = fields
	}
	return out
}

func TestGlobalsAreThoseOfTheSymbolTable(t *testing.T) {
	eachUnstripped(t, func(t *testing.T, ef *elf.File, im *image) {
		if other, ok := globalsOfSymbols(im, im.file.(*os.File)); !ok || other != im.globals {
			t.Errorf("from the code %+v, from the symbols %+v", im.globals, other)
		}
		symbols, err := ef.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		where := map[string]uint64{}
		for _, s := range symbols {
			where[s.Name] = s.Value
		}
		g := im.globals
		for name, got := range map[string]uint64{
			"allgs": g.allgs, "mbuckets": g.memBuckets, "xbuckets": g.mutexBuckets, "bbuckets": g.blockBuckets,
			"MemProfileRate": g.memProfileRate, "blockprofilerate": g.blockRate, "mutexprofilerate": g.mutexRate,
		} {
			if want := where["runtime."+name]; got != want || want == 0 {
				t.Errorf("runtime.%s: found at %#x, the symbol table says %#x", name, got, want)
			}
		}
		if !g.hasMemProfile {
			t.Error("the program uses heap profiles")
		}
	})
}

func TestUnoptimizedBinary(t *testing.T) {
	if os.Getenv(testgo.AllVersions) != "all" {
		t.Skip("SKIPPED: compiling the standard library without optimization takes SONDE_TEST_GO=all")
	}
	for _, version := range testgo.Toolchains() {
		p := start(t, version, []string{"-gcflags=all=-N -l"})
		p.do("serve", "goroutines")
		got, _, err := attach(t, p.pid).goroutineProfile()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(of(stacks(got, 128), "main.selects")); n != 1 {
			t.Errorf("%s: %d stacks of main.selects", version, n)
		}
	}
}

func TestWaitReasonsAreThoseOfTheRuntime(t *testing.T) {
	eachUnstripped(t, func(t *testing.T, ef *elf.File, im *image) {
		symbols, err := ef.Symbols()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "runtime.waitReasonStrings" })
		if i < 0 {
			t.Fatal("no runtime.waitReasonStrings")
		}
		read := func(addr, n uint64) []byte {
			off, _, ok := im.fileRange(addr)
			if !ok {
				t.Fatalf("%#x is not in the file", addr)
			}
			for _, p := range ef.Progs {
				if p.Type == elf.PT_LOAD && off >= p.Off && off < p.Off+p.Filesz {
					b := make([]byte, n)
					if _, err := p.ReadAt(b, int64(off-p.Off)); err != nil {
						t.Fatal(err)
					}
					return b
				}
			}
			return nil
		}
		table := read(symbols[i].Value, symbols[i].Size)
		var got []string
		for ; len(table) >= 16; table = table[16:] {
			s := ""
			if n := le.Uint64(table[8:]); n > 0 {
				s = string(read(le.Uint64(table), n))
			}
			got = append(got, s)
		}
		if !slices.Equal(got, im.layout.reason) {
			t.Errorf("the table differs; the binary has\n%s", strings.Join(got, "\n"))
		}
	})
}

func TestVersions(t *testing.T) {
	for version, minor := range map[string]uint16{
		"go1.18": 18, "go1.19.13": 18, "go1.20.14": 20, "go1.21.0": 21, "go1.22.12": 22, "go1.23.12": 23, "go1.24": 24, "go1.25.5": 25, "go1.26.8": 26,
		"go1.26.8 X:nodwarf5": 26, "go1.22.5-1": 22, "go1.22.5 (Red Hat 1.22.5-1.el9)": 22,
	} {
		if l, err := layoutOf(version); err != nil || l.minor != minor {
			t.Errorf("layoutOf(%q) = %v, %v", version, l, err)
		}
	}
	for _, version := range []string{
		"", "go1.17.13", "go1.27", "go1.27.1", "go1.26rc1", "go1.26-devel_1234", "devel go1.26-abc", "go2.1", "go1", "go1.", "go1.x", "1.26.1", "go1.26.", "go1.99999999999999999999",
	} {
		if _, err := layoutOf(version); !errors.Is(err, ErrVersion) || version != "" && !strings.Contains(err.Error(), version) {
			t.Errorf("layoutOf(%q): %v", version, err)
		}
	}
}
