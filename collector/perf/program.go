package perf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

const (
	maxIdlePrograms = 16      // kept though no process runs them: a program that is started again and again
	maxCachedPCs    = 1 << 16 // decoded pcs of all programs together; beyond it all are forgotten
	maxChecked      = 1 << 12 // executables that are known to be Go programs or not
	maxDeltas       = 1 << 13 // stack depths of one binary
)

// programs keeps one table for all processes that run the same file.
type programs struct {
	mu      sync.Mutex
	open    map[programKey]*program
	checked map[programKey]bool // whether an executable is a Go program
	cached  atomic.Int64        // decoded pcs
}

type programKey struct {
	dev, inode  uint64
	size, mtime int64
}

// program is an executable with its function table.
type program struct {
	key      programKey
	file     *os.File
	table    *pclntab.Table
	segments []pclntab.Segment
	buildID  string

	refs  int // guarded by programs.mu
	since time.Time

	deltas map[uint64]int64 // link-time pc → SPDelta, -1: unknown; the reading goroutine's

	frames  map[uint64][]pclntab.Frame // link-time pc → frames; the naming goroutine's
	strings map[string]string
	natives *natives
	tried   bool
}

// acquire returns the binary that f is open on, which it takes over. buildID is "" where the caller does not know it. release gives it back.
func (bs *programs) acquire(f *os.File, key programKey, buildID string) (*program, error) {
	bs.mu.Lock()
	b := bs.open[key]
	if b != nil {
		b.refs++
	}
	bs.mu.Unlock()
	if b != nil {
		f.Close()
		return b, nil
	}
	table, err := pclntab.New(f, key.size)
	if err != nil {
		f.Close()
		return nil, err
	}
	if buildID == "" {
		info, err := build.Read(f)
		if err != nil && !errors.Is(err, build.ErrNotGo) {
			f.Close()
			return nil, fmt.Errorf("read build: %w", err)
		}
		if err == nil {
			buildID = info.Key()
		}
	}
	b = &program{key: key, file: f, table: table, segments: table.Segments(), buildID: buildID, refs: 1,
		deltas: map[uint64]int64{}, frames: map[uint64][]pclntab.Frame{}, strings: map[string]string{}}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if other := bs.open[key]; other != nil { // opened meanwhile
		other.refs++
		b.close()
		return other, nil
	}
	if bs.open == nil {
		bs.open = map[programKey]*program{}
	}
	bs.open[key] = b
	return b, nil
}

// release gives b back. Of those that nobody uses the ones used last are kept.
func (bs *programs) release(b *program) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b.refs--
	b.since = time.Now()
	idle, oldest := 0, (*program)(nil)
	for _, o := range bs.open {
		if o.refs > 0 {
			continue
		}
		idle++
		if oldest == nil || o.since.Before(oldest.since) {
			oldest = o
		}
	}
	if idle > maxIdlePrograms {
		delete(bs.open, oldest.key)
		bs.cached.Add(-int64(len(oldest.frames)))
		oldest.close()
	}
}

// close closes all programs. Nobody may use any.
func (bs *programs) close() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, b := range bs.open {
		b.close()
	}
	bs.open = nil
}

func (b *program) close() {
	b.table.Close()
	b.file.Close()
}

// link turns an address of a process into a link-time address; m is the mapping of this file that holds it.
func link(segments []pclntab.Segment, m *mapping, pc uint64) (uint64, bool) {
	off := pc - m.start + m.offset
	for _, s := range segments {
		// Segments are mapped by pages: the bytes before and after belong to the page.
		if s.Exec && off >= s.Offset && off-s.Offset < s.FileSize {
			return s.Addr + (off - s.Offset), true
		}
	}
	return 0, false
}

// delta returns SPDelta of a link-time pc, -1 where it is not known. Only the reading goroutine may call it.
func (b *program) delta(pc uint64) int64 {
	if d, ok := b.deltas[pc]; ok {
		return d
	}
	d, ok := b.table.SPDelta(pc)
	if !ok {
		d = -1
	}
	if len(b.deltas) >= maxDeltas {
		clear(b.deltas)
	}
	b.deltas[pc] = d
	return d
}

// framesAt returns the frames of a link-time pc, none where it is in no Go function. Only the naming goroutine may call it.
func (b *program) framesAt(bs *programs, pc uint64) []pclntab.Frame {
	if fs, ok := b.frames[pc]; ok {
		return fs
	}
	fs := b.table.Frames(nil, pc)
	for i := range fs {
		fs[i].Func, fs[i].File = b.intern(fs[i].Func), b.intern(fs[i].File)
	}
	if bs.cached.Add(1) > maxCachedPCs {
		bs.forget()
		bs.cached.Add(1)
	}
	b.frames[pc] = fs
	return fs
}

func (b *program) intern(s string) string {
	if t, ok := b.strings[s]; ok {
		return t
	}
	b.strings[s] = s
	return s
}

// forget drops the decoded pcs of all programs.
func (bs *programs) forget() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, b := range bs.open {
		clear(b.frames)
		clear(b.strings)
	}
	bs.cached.Store(0)
}

// native returns the name of the C function at a link-time address, "" where it has none. Only the naming goroutine may call it.
func (b *program) native(pc uint64) string {
	if !b.tried {
		b.tried = true
		b.natives, _ = readNatives(b.file) // without: nameless
	}
	return b.natives.name(pc)
}

// retain takes another hold on p, which release gives back.
func (bs *programs) retain(p *program) {
	bs.mu.Lock()
	p.refs++
	bs.mu.Unlock()
}
