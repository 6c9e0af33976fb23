package inspect

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// exeID tells one binary file from another.
type exeID struct {
	dev, ino    uint64
	mtime, size int64
}

// symbolTable is what is needed of *pclntab.Table. Addresses are link-time ones.
type symbolTable interface {
	GoVersion() string
	TextStart() uint64
	TextEnd() uint64
	Segments() []pclntab.Segment
	Func(pc uint64) (name string, entry uint64, ok bool)
	Frames(dst []pclntab.Frame, pc uint64) []pclntab.Frame
	SPDelta(pc uint64) (delta int64, ok bool)
	FuncByName(name string) (entry uint64, ok bool)
}

// image is a binary that processes run: its function table, the layout of its runtime's structures and where their roots are. It is shared by all processes
// that run the binary, by one snapshot at a time.
type image struct {
	file           io.Closer // the binary
	table          symbolTable
	machine        string // amd64, arm64
	version        string // of Go
	buildID        string
	path           string // where the binary was when it was opened
	layout         *layout
	start          uint64 // link-time address of the entry point
	dataLo, dataHi uint64 // of the writable segments
	globals        globals

	sites map[siteKey]*site // what siteAt remembers
}

// openImage opens the binary of a process.
func openImage(p *process, id exeID) (*image, error) {
	f, err := p.file("exe")
	if err != nil {
		return nil, err
	}
	table, err := pclntab.New(f, id.size)
	if err != nil {
		f.Close()
		return nil, err
	}
	im, err := newImage(f, table)
	if err != nil {
		f.Close()
		return nil, err
	}
	im.file = f
	return im, nil
}

// newImage reads what is needed of the ELF file besides its function table.
func newImage(f io.ReaderAt, table symbolTable) (*image, error) {
	im := &image{table: table, version: table.GoVersion(), sites: map[siteKey]*site{}}
	var err error
	if im.layout, err = layoutOf(im.version); err != nil {
		return nil, err
	}
	if err := im.readHeader(f); err != nil {
		return nil, err
	}
	for _, s := range table.Segments() {
		if !s.Write {
			continue
		}
		if im.dataHi == 0 {
			im.dataLo = s.Addr
		}
		im.dataLo, im.dataHi = min(im.dataLo, s.Addr), max(im.dataHi, s.Addr+s.MemSize)
	}
	if info, err := build.Read(f); err == nil {
		im.buildID = info.Key()
	}
	im.globals, err = findGlobals(im, f)
	if err != nil {
		var ok bool
		if im.globals, ok = globalsOfSymbols(im, f); !ok {
			return nil, err
		}
	}
	return im, nil
}

// readHeader reads of the ELF header what the function table does not say.
func (im *image) readHeader(f io.ReaderAt) error {
	const identClass, identData, machineAt, entryAt, headerSize = 4, 5, 18, 24, 64
	var h [headerSize]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("read ELF header: %w", err)
	}
	if elf.Class(h[identClass]) != elf.ELFCLASS64 || elf.Data(h[identData]) != elf.ELFDATA2LSB {
		return errors.New("binary of another word size or byte order: the runtime's structures are known on amd64 and arm64")
	}
	switch m := elf.Machine(le.Uint16(h[machineAt:])); m {
	case elf.EM_X86_64:
		im.machine = "amd64"
	case elf.EM_AARCH64:
		im.machine = "arm64"
	default:
		return fmt.Errorf("binary for %s: the runtime's structures are known on amd64 and arm64", strings.ToLower(strings.TrimPrefix(m.String(), "EM_")))
	}
	im.start = le.Uint64(h[entryAt:])
	return nil
}

// fileRange returns where the bytes at a link-time address are in the file, and how many follow.
func (im *image) fileRange(addr uint64) (off, n uint64, ok bool) {
	for _, s := range im.table.Segments() {
		if addr >= s.Addr && addr-s.Addr < s.FileSize {
			return s.Offset + (addr - s.Addr), s.FileSize - (addr - s.Addr), true
		}
	}
	return 0, 0, false
}

// isCode reports whether a link-time address lies in the Go functions.
func (im *image) isCode(pc uint64) bool { return pc >= im.table.TextStart() && pc < im.table.TextEnd() }

// site is what the unwinder and the profiles need to know of one place in the code.
type site struct {
	frames  []pclntab.Frame // innermost first, without the compiler's wrappers
	name    string          // of the function, inlined ones not regarded
	entry   uint64
	delta   int64 // of the stack pointer since the entry
	unwinds bool  // delta is known
	wrapped bool  // frames would have more, if the function called one of the runtime's panics
}

// siteKey is a link-time pc, and whether it is a return address: what it stands for is then the call before it.
type siteKey struct {
	pc  uint64
	ret bool
}

// maxSites bounds the places that are remembered of all binaries together. A site takes about 300 bytes.
const maxSites = 100_000

// siteAt returns the site of a pc, nil where that is in no Go function.
func (im *image) siteAt(pc uint64, ret bool) *site {
	key := siteKey{pc, ret}
	if s, ok := im.sites[key]; ok {
		return s
	}
	var s *site
	at := pc
	if _, entry, ok := im.table.Func(pc); ret && (!ok || entry != pc) { // a goroutine that has not begun stands at the entry
		at--
	}
	if name, entry, ok := im.table.Func(at); ok {
		s = &site{name: name, entry: entry}
		s.delta, s.unwinds = im.table.SPDelta(at)
		all := im.table.Frames(nil, at)
		s.frames = withoutWrappers(all)
		s.wrapped = len(s.frames) != len(all)
	}
	if len(im.sites) >= maxSites {
		clear(im.sites) // one binary alone has more: begin again
	}
	im.sites[key] = s
	return s
}

// withoutWrappers returns the frames without those that the runtime leaves out of its tracebacks: functions that the compiler made to call another.
func withoutWrappers(frames []pclntab.Frame) []pclntab.Frame {
	out := frames[:0:0]
	for _, f := range frames {
		if !isWrapper(&f) {
			out = append(out, f)
		}
	}
	return out
}

// isWrapper tells by the names that the compiler gives.
func isWrapper(f *pclntab.Frame) bool {
	if f.File == "<autogenerated>" {
		return true
	}
	i := strings.LastIndexAny(f.Func, ".·")
	if i < 0 {
		return false
	}
	last := strings.TrimRight(f.Func[i:], "0123456789")
	return last == ".gowrap" || last == ".deferwrap" || strings.HasSuffix(f.Func, "-fm") ||
		strings.Contains(f.Func, "·dwrap·") || strings.Contains(f.Func, ".dwrap.")
}

// images keeps the binaries that processes run, and why others cannot be used. It is used by one snapshot at a time.
type images struct {
	known map[exeID]*imageSlot
	clock int64
}

type imageSlot struct {
	im   *image // nil where err says why
	err  error
	used int64 // the clock when it was asked for last
}

// maxImages bounds the binaries that are kept open.
const maxImages = 256

// get returns the binary of a process, which is valid until the next call.
func (c *images) get(p *process, id exeID) (*image, error) {
	c.clock++
	slot := c.known[id]
	if slot == nil {
		if c.known == nil {
			c.known = map[exeID]*imageSlot{}
		}
		im, err := openImage(p, id)
		if errors.Is(err, errGone) {
			return nil, err
		}
		slot = &imageSlot{im: im, err: err}
		c.known[id] = slot
	}
	slot.used = c.clock
	c.trim()
	return slot.im, slot.err
}

// trim closes the binaries that were not asked for the longest while there are too many, and forgets sites while all have more than maxSites.
func (c *images) trim() {
	sites := 0
	for _, slot := range c.known {
		sites += slot.sites()
	}
	for len(c.known) > maxImages || sites > maxSites {
		var oldest exeID
		least := c.clock
		for id, slot := range c.known {
			if slot.used < least && (len(c.known) > maxImages || slot.sites() > 0) {
				oldest, least = id, slot.used
			}
		}
		slot := c.known[oldest]
		if slot == nil {
			return // the newest alone has as many
		}
		sites -= slot.sites()
		if len(c.known) > maxImages {
			slot.close()
			delete(c.known, oldest)
		} else {
			clear(slot.im.sites)
		}
	}
}

func (s *imageSlot) sites() int {
	if s.im == nil {
		return 0
	}
	return len(s.im.sites)
}

func (s *imageSlot) close() {
	if s.im != nil {
		s.im.file.Close() // it was only read
	}
}

// close closes all.
func (c *images) close() {
	for _, slot := range c.known {
		slot.close()
	}
	c.known = nil
}
