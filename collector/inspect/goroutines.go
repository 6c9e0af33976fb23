package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// What g.atomicstatus holds; scanBit may be added.
const (
	statusIdle      = 0
	statusRunnable  = 1
	statusRunning   = 2
	statusSyscall   = 3
	statusWaiting   = 4
	statusDead      = 6
	statusCopystack = 8
	statusPreempted = 9
	statusLeaked    = 10
	statusDeadExtra = 11
	scanBit         = 0x1000
)

var statusNames = map[uint32]string{
	statusRunnable: "runnable", statusRunning: "running", statusSyscall: "syscall", statusWaiting: "waiting", statusCopystack: "copystack",
	statusPreempted: "preempted", statusLeaked: "leaked",
}

// Limits of a snapshot of goroutines.
const (
	batchSize     = 128      // goroutines that are read together
	firstRead     = 4 << 10  // bytes of a stack that are read at once; most are smaller
	maxAllgs      = 64 << 20 // entries of runtime.allgs: it never shrinks
	maxGoroutines = 500_000  // read in one snapshot; of more every second, third … is, and counts for as many
	retries       = 2        // of a goroutine that changed while it was read
)

// errShape says that memory does not look as the Go version's structures do.
var errShape = errors.New("the memory does not look like that of the Go version it names")

// view is a process's memory with what its binary says of it.
type view struct {
	r    *reader
	im   *image
	bias uint64 // what was added to link-time addresses when it was loaded
}

// goroutine is one, as it was at a moment.
type goroutine struct {
	id, parent uint64
	status     uint32 // without scanBit
	reason     string // why it waits; ""
	waitSince  int64  // ns of the monotonic clock; 0: unknown. The garbage collector sets it
	locked     bool   // to its thread
	startPC    uint64
	goPC       uint64 // of the go statement
	labels     uint64 // address of its labels
	frames     []frame
	whole      bool // the frames reach to where it began
	known      bool // the frames are known: it was not running
}

// goroutineStats says how a snapshot went.
type goroutineStats struct {
	total      int // entries of runtime.allgs
	seen       int // goroutines
	own        int // of these, those that are not the runtime's
	unknown    int // of these, without a stack: they ran or changed while they were read
	stride     int // one of so many was read
	unreadable int // entries that could not be read or were no goroutine
}

// raw is a goroutine while it is read.
type raw struct {
	addr   uint64
	g      []byte // the structure
	again  []byte // the structure, read after the stack
	stack  []byte
	stack2 []byte // a system call's, read again
	regs   registers
	want   bool // it has a stack to unwind
}

// goroutines reads all goroutines and calls visit for each, which may not keep it. The process runs on meanwhile: each goroutine is what it was at some moment, not
// all of them at the same.
func (v *view) goroutines(visit func(*goroutine)) (goroutineStats, error) {
	var st goroutineStats
	base, n, err := v.allgs()
	if err != nil {
		return st, err
	}
	st.total, st.stride = n, max(1, (n+maxGoroutines-1)/maxGoroutines)
	list := make([]byte, 8*batchSize*st.stride)
	w := newWalker(v)
	bad := 0
	for i := 0; i < n; i += batchSize * st.stride {
		b := list[:8*min(batchSize*st.stride, n-i)]
		ok, err := v.r.read(base+8*uint64(i), b)
		if err != nil {
			return st, err
		}
		if !ok {
			return st, fmt.Errorf("%w: the list of goroutines cannot be read", errShape)
		}
		w.batch = w.batch[:0]
		for j := 0; j < len(b); j += 8 * st.stride {
			w.batch = append(w.batch, raw{addr: le.Uint64(b[j:])})
		}
		unreadable, err := w.run(&st, visit)
		if err != nil {
			return st, err
		}
		bad += unreadable
	}
	st.unreadable = bad
	if bad > 4 && bad > n/st.stride/4 {
		return st, fmt.Errorf("%w: %d of %d goroutines are none", errShape, bad, n/st.stride)
	}
	return st, nil
}

// allgs returns where the list of all goroutines is, and how many there are.
func (v *view) allgs() (base uint64, n int, err error) {
	var h, again [24]byte
	addr := v.im.globals.allgs + v.bias
	for range 8 {
		for _, b := range [][]byte{h[:], again[:]} {
			ok, err := v.r.read(addr, b)
			if err != nil {
				return 0, 0, err
			}
			if !ok {
				return 0, 0, fmt.Errorf("%w: runtime.allgs cannot be read", errShape)
			}
		}
		if h == again {
			break
		}
	}
	base, length, capacity := le.Uint64(h[:]), le.Uint64(h[8:]), le.Uint64(h[16:])
	switch {
	case length == 0 && capacity == 0:
		return 0, 0, errors.New("the process has not started its first goroutine yet")
	case length > capacity || length > maxAllgs || base%8 != 0 || base == 0:
		return 0, 0, fmt.Errorf("%w: runtime.allgs has the address %#x, the length %d and the capacity %d", errShape, base, length, capacity)
	}
	return base, int(length), nil
}

// walker reads goroutines in batches. Its buffers are used again.
type walker struct {
	v     *view
	batch []raw
	again []raw
	parts []part
	index []int // of each part: the goroutine in the batch
	ok    []bool
	gs    []byte
	stks  []byte
	out   goroutine
	buf   []byte
}

func newWalker(v *view) *walker {
	size := int(v.im.layout.g.size)
	return &walker{v: v, gs: make([]byte, 2*batchSize*size), stks: make([]byte, 2*batchSize*firstRead), ok: make([]bool, batchSize), buf: make([]byte, window)}
}

// run reads the batch, tries again what changed, and visits all.
func (w *walker) run(st *goroutineStats, visit func(*goroutine)) (unreadable int, err error) {
	for try := 0; ; try++ {
		w.again = w.again[:0]
		if err := w.readAll(); err != nil {
			return unreadable, err
		}
		for i := range w.batch {
			r := &w.batch[i]
			status, ok := w.check(r)
			if !ok {
				unreadable++
				continue
			}
			if status == statusIdle || status == statusDead || status == statusDeadExtra {
				continue
			}
			changed := w.fill(r, status)
			if w.v.r.left.bytes < 0 {
				return unreadable, errBudget
			}
			if changed && try < retries {
				w.again = append(w.again, raw{addr: r.addr})
				continue
			}
			st.seen++
			if !w.out.known {
				st.unknown++
			}
			visit(&w.out)
		}
		if len(w.again) == 0 {
			return unreadable, nil
		}
		w.batch, w.again = w.again, w.batch
	}
}

// readAll reads each goroutine's structure, then its stack, then again the structure, each for the whole batch in one or two system calls.
func (w *walker) readAll() error {
	size := int(w.v.im.layout.g.size)
	w.parts, w.index = w.parts[:0], w.index[:0]
	for i := range w.batch {
		r := &w.batch[i]
		at := 2 * i * size
		r.g, r.again = w.gs[at:at+size:at+size], w.gs[at+size:at+2*size:at+2*size]
		clear(r.g)
		clear(r.again)
		w.parts, w.index = append(w.parts, part{r.addr, r.g}), append(w.index, i)
	}
	if err := w.readParts(); err != nil {
		return err
	}
	for i := range w.batch {
		w.batch[i].want = w.registers(&w.batch[i])
		r := &w.batch[i]
		if !r.want {
			continue
		}
		at := 2 * i * firstRead
		n := int(min(firstRead, r.regs.hi-r.regs.sp))
		r.stack = w.stks[at : at+n : at+n]
	}
	if err := w.readStacks(false); err != nil {
		return err
	}
	w.parts, w.index = w.parts[:0], w.index[:0]
	for i := range w.batch {
		if r := &w.batch[i]; r.want {
			w.parts, w.index = append(w.parts, part{r.addr, r.again}), append(w.index, i)
		}
	}
	if err := w.readParts(); err != nil {
		return err
	}
	// A goroutine that is in one system call after the other looks the same before and after: only its stack tells.
	return w.readStacks(true)
}

// readStacks reads the first part of the stacks, or again that of those which are in system calls.
func (w *walker) readStacks(second bool) error {
	w.parts, w.index = w.parts[:0], w.index[:0]
	for i := range w.batch {
		r := &w.batch[i]
		switch {
		case !r.want:
		case !second:
			w.parts, w.index = append(w.parts, part{r.regs.sp, r.stack}), append(w.index, i)
		case w.status(r.g) == statusSyscall:
			at := (2*i + 1) * firstRead
			r.stack2 = w.stks[at : at+len(r.stack) : at+len(r.stack)]
			w.parts, w.index = append(w.parts, part{r.regs.sp, r.stack2}), append(w.index, i)
		}
	}
	return w.readParts()
}

// readParts reads the parts; what cannot be read has no stack.
func (w *walker) readParts() error {
	ok := w.ok[:len(w.parts)]
	if err := w.v.r.readv(w.parts, ok); err != nil {
		return err
	}
	for i, ok := range ok {
		if !ok {
			r := &w.batch[w.index[i]]
			r.want = false
			clear(w.parts[i].b)
		}
	}
	return nil
}

func (w *walker) status(g []byte) uint32 {
	return le.Uint32(g[w.v.im.layout.g.status:]) &^ scanBit
}

// check reports whether what was read is a goroutine.
func (w *walker) check(r *raw) (status uint32, ok bool) {
	l := &w.v.im.layout.g
	status = w.status(r.g)
	lo, hi := le.Uint64(r.g), le.Uint64(r.g[8:])
	self := le.Uint64(r.g[l.schedG:])
	switch {
	case status > statusDeadExtra || lo > hi || hi-lo > 1<<40:
		return status, false
	case status == statusDead || status == statusDeadExtra || status == statusIdle:
		return status, self == r.addr || self == 0
	}
	return status, self == r.addr && lo != 0
}

// registers fills r.regs and reports whether the goroutine is one whose stack stands still.
func (w *walker) registers(r *raw) bool {
	l := &w.v.im.layout.g
	status, ok := w.check(r)
	if !ok {
		return false
	}
	r.regs.lo, r.regs.hi = le.Uint64(r.g), le.Uint64(r.g[8:])
	r.regs.pc, r.regs.sp = le.Uint64(r.g[l.schedPC:]), le.Uint64(r.g[l.schedSP:])
	r.regs.bp = le.Uint64(r.g[l.schedBP:])
	switch status {
	case statusSyscall:
		r.regs.pc, r.regs.sp = le.Uint64(r.g[l.syscallPC:]), le.Uint64(r.g[l.syscallSP:])
	case statusRunnable, statusWaiting, statusPreempted, statusLeaked:
	default:
		return false
	}
	return r.regs.sp >= r.regs.lo && r.regs.sp < r.regs.hi && r.regs.sp%8 == 0 && r.regs.pc != 0
}

// same reports whether the goroutine did not run between the two readings of its structure.
func (w *walker) same(r *raw) bool {
	l := &w.v.im.layout.g
	a, b := r.g, r.again
	word := func(off uint16) bool { return bytes.Equal(a[off:off+8], b[off:off+8]) }
	return w.status(a) == w.status(b) && a[l.trackingSeq] == b[l.trackingSeq] && bytes.Equal(a[:16], b[:16]) && word(l.schedSP) && word(l.schedPC) &&
		word(l.goid) && word(l.syscallSP) && word(l.syscallPC) && (r.stack2 == nil || bytes.Equal(r.stack, r.stack2))
}

// fill sets w.out to the goroutine and reports whether it changed while it was read: its stack is then unknown.
func (w *walker) fill(r *raw, status uint32) (changed bool) {
	l := &w.v.im.layout.g
	g := &w.out
	*g = goroutine{
		id: le.Uint64(r.g[l.goid:]), status: status, waitSince: int64(le.Uint64(r.g[l.waitSince:])), locked: le.Uint64(r.g[l.lockedM:]) != 0,
		startPC: le.Uint64(r.g[l.startPC:]), goPC: le.Uint64(r.g[l.gopc:]), labels: le.Uint64(r.g[l.labels:]), frames: g.frames[:0],
	}
	if l.parentGoid != 0 {
		g.parent = le.Uint64(r.g[l.parentGoid:])
	}
	if status == statusWaiting || status == statusLeaked {
		if i := int(r.g[l.waitReason]); i < len(w.v.im.layout.reason) {
			g.reason = w.v.im.layout.reason[i]
		}
	} else if status != statusSyscall {
		g.waitSince = 0
	}
	if !r.want {
		return status != statusRunning // what has no stack but should have one
	}
	if !w.same(r) {
		g.status, g.reason, g.waitSince = statusRunning, "", 0
		return true
	}
	st := &stackReader{r: w.v.r, at: r.regs.sp, b: r.stack, hi: r.regs.hi, buf: w.buf}
	g.frames, g.whole = w.v.im.unwind(g.frames, r.regs, w.v.bias, st)
	if st.more {
		if ok, err := w.v.r.read(r.addr, r.again); err != nil || !ok || !w.same(r) {
			g.frames, g.status, g.reason, g.waitSince = g.frames[:0], statusRunning, "", 0
			return true
		}
	}
	g.known = len(g.frames) > 0
	return false
}

// system reports whether it is one of the runtime's own goroutines, which runtime/pprof leaves out.
func (v *view) system(g *goroutine) bool {
	s := v.im.siteAt(g.startPC-v.bias, false)
	if s == nil || !strings.HasPrefix(s.name, "runtime.") {
		return false
	}
	switch s.name {
	case "runtime.main", "runtime.corostart", "runtime.handleAsyncEvent":
		return false
	case "runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups":
		for _, f := range g.frames { // it may be running the program's own functions
			if s := v.im.siteAt(f.pc-v.bias, f.ret); s != nil && !isRuntime(s.name) && s.name != "reflectcall" {
				return false
			}
		}
	}
	return true
}

// isRuntime tells the functions that heap profiles hide at their leaves.
func isRuntime(name string) bool {
	return strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "internal/runtime/")
}
