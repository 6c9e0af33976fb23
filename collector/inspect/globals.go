package inspect

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
)

// globals are the link-time addresses of the runtime's variables. They are found through the code that uses them, which the function table names in
// stripped binaries too; what is read there is checked for its shape besides.
type globals struct {
	allgs          uint64 // []*g
	memBuckets     uint64 // *bucket, head of the list of heap profile buckets
	mutexBuckets   uint64
	blockBuckets   uint64
	memProfileRate uint64 // int
	blockRate      uint64 // uint64, cycles
	mutexRate      uint64 // uint64, one in so many
	hasMemProfile  bool   // the linker found a user of heap profiles
}

// errGlobals says that the runtime's variables were not found: a binary whose names were changed, or code that no known compiler makes.
var errGlobals = errors.New("the runtime's variables are not found")

// finder finds variables by the code of functions.
type finder struct {
	im   *image
	code io.ReaderAt // the binary
	err  error
}

// maxCode is how much of a function's code is looked at, bytes: the longest of those that are asked for has 1.1 KB.
const maxCode = 8 << 10

// refs returns what a function of the runtime refers to, nil where it is not there.
func (f *finder) refs(name string) []ref {
	if f.err != nil {
		return nil
	}
	entry, ok := f.im.table.FuncByName(name)
	if !ok {
		f.err = fmt.Errorf("%w: there is no function %s", errGlobals, name)
		return nil
	}
	off, n, ok := f.im.fileRange(entry)
	if !ok {
		f.err = fmt.Errorf("%w: the code of %s is not in the file", errGlobals, name)
		return nil
	}
	code := make([]byte, min(n, maxCode))
	if _, err := f.code.ReadAt(code, int64(off)); err != nil {
		f.err = fmt.Errorf("read code of %s: %w", name, err)
		return nil
	}
	out := refs(f.im.machine, code, entry, f.im.dataLo, f.im.dataHi)
	for i, r := range out { // what is behind the end of the function
		if _, e, ok := f.im.table.Func(r.at); !ok || e != entry {
			return out[:i]
		}
	}
	return out
}

// reads returns the addresses of the words of size bytes that are loaded or compared, in order, each once.
func reads(rs []ref, size int) []uint64 {
	return distinct(rs, func(r ref) bool { return r.size == size && (r.how == loads || r.how == compares) })
}

func distinct(rs []ref, want func(ref) bool) []uint64 {
	var out []uint64
	for _, r := range rs {
		if want(r) && !slices.Contains(out, r.addr) {
			out = append(out, r.addr)
		}
	}
	return out
}

// pick returns the one address of list, or says that there is not exactly one.
func (f *finder) pick(what string, list []uint64) uint64 {
	if f.err == nil && len(list) != 1 {
		f.err = fmt.Errorf("%w: %d candidates for %s", errGlobals, len(list), what)
	}
	if f.err != nil {
		return 0
	}
	return list[0]
}

// findGlobals looks for all of them. What each rule says was read in what the compilers of Go 1.18 to 1.26 make, for amd64 and arm64; a test
// compares with the symbol table of unstripped twins.
func findGlobals(im *image, code io.ReaderAt) (globals, error) {
	f := &finder{im: im, code: code}
	var g globals

	// allgadd stores the three words of allgs.
	stored := distinct(f.refs("runtime.allgadd"), func(r ref) bool { return r.size == 8 && r.how == stores })
	g.allgs = f.pick("allgs", slices.DeleteFunc(slices.Clone(stored), func(a uint64) bool {
		return !slices.Contains(stored, a+8) || !slices.Contains(stored, a+16)
	}))
	g.memBuckets = f.pick("mbuckets", reads(f.refs("runtime.mProf_FlushLocked"), 8))
	f.otherBuckets(&g)

	// profilealloc reads mcache0, then the rate.
	if rate := reads(f.refs("runtime.profilealloc"), 8); len(rate) == 2 {
		g.memProfileRate = rate[1]
	} else {
		f.pick("MemProfileRate", nil)
	}
	g.blockRate = f.pick("blockprofilerate", reads(f.refs("runtime.blockevent"), 8))
	g.mutexRate = f.pick("mutexprofilerate", slices.DeleteFunc(reads(f.refs("runtime.semacquire1"), 8), func(a uint64) bool { return a == g.blockRate }))

	if f.err == nil {
		g.hasMemProfile = usesMemProfile(im)
	}
	return g, f.err
}

// usesMemProfile reports whether the binary has the function without which the linker turns the heap profile off.
func usesMemProfile(im *image) bool {
	name := "runtime.memProfileInternal"
	if im.layout.minor < 23 {
		name = "runtime.MemProfile"
	}
	_, ok := im.table.FuncByName(name)
	return ok
}

// maxSymbols bounds the symbol table that is read, and its names, bytes.
const maxSymbols = 64 << 20

// globalsOfSymbols reads the addresses from the symbol table: the way for binaries that were compiled without optimization (-gcflags=all=-N), whose
// code looks otherwise, but which are hardly ever stripped.
func globalsOfSymbols(im *image, code io.ReaderAt) (g globals, ok bool) {
	ef, err := elf.NewFile(code)
	if err != nil {
		return g, false
	}
	for _, name := range []string{".symtab", ".strtab"} {
		s := ef.Section(name)
		if s == nil || s.Size > maxSymbols || s.Flags&elf.SHF_COMPRESSED != 0 {
			return g, false
		}
	}
	symbols, err := ef.Symbols()
	if err != nil {
		return g, false
	}
	want := map[string]*uint64{
		"runtime.allgs": &g.allgs, "runtime.mbuckets": &g.memBuckets, "runtime.xbuckets": &g.mutexBuckets, "runtime.bbuckets": &g.blockBuckets,
		"runtime.MemProfileRate": &g.memProfileRate, "runtime.blockprofilerate": &g.blockRate, "runtime.mutexprofilerate": &g.mutexRate,
	}
	for _, s := range symbols {
		if p := want[s.Name]; p != nil && s.Value >= im.dataLo && s.Value < im.dataHi && s.Value%8 == 0 {
			*p = s.Value
			delete(want, s.Name)
		}
	}
	g.hasMemProfile = usesMemProfile(im)
	return g, len(want) == 0
}

// otherBuckets finds the lists that stkbucket refers to after that of the heap.
func (f *finder) otherBuckets(g *globals) {
	list := distinct(f.refs("runtime.stkbucket"), func(r ref) bool { return r.size != 4 && r.size != 1 })
	i := slices.Index(list, g.memBuckets)
	if f.err != nil {
		return
	}
	if i < 0 || i+2 >= len(list) {
		f.err = fmt.Errorf("%w: xbuckets and bbuckets", errGlobals)
		return
	}
	g.mutexBuckets, g.blockBuckets = list[i+1], list[i+2]
}
