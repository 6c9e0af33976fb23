package perf

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// watch is a process that is watched. The reading goroutine owns it.
type watch struct {
	target  Target
	start   uint64 // start time, ticks since boot, 0 where it was gone before it could be read
	prog    *program
	exe     string // path of prog in maps
	maps    []mapping
	dynamic bool // found because it ran, not in the targets
	missed  int  // SetTargets without it since

	epoch    string // windows count from 1 in it: a process that is watched again has another
	began    time.Time
	window   uint64 // number of the last one
	winStart time.Time
	cpu, off stacks
	samples  uint64
	stale    bool // something was mapped since
	mapsRead time.Time
	leaving  bool // its first thread ended
	captures []*recording

	fds, offFDs []int // ModeProcess
	status      *tally
}

// tally is what Status says of a process. Its counters are added to by several goroutines.
type tally struct {
	status         Status // but for the counters
	profiles, gaps atomic.Uint64
	samples        atomic.Uint64
}

// recording is a capture on demand under way.
type recording struct {
	kind     string
	start    time.Time
	until    time.Time
	cpu, off stacks
	reply    chan<- captured
}

// repair puts the caller back that the chain of frame pointers lacks where the innermost function has not yet pushed its own, or never does. It returns user or a changed copy in buf.
func (w *watch) repair(r *record, buf []uint64) []uint64 {
	if len(r.user) == 0 {
		return r.user
	}
	ret, ok := w.returnAddress(r)
	if !ok || len(r.user) > 1 && r.user[1] == ret || len(r.user) > 2 && r.user[2] == ret {
		return r.user
	}
	m := findMapping(w.maps, ret)
	if m == nil || m.path != w.exe {
		return r.user
	}
	addr, ok := link(w.prog.segments, m, ret)
	if !ok || addr < w.prog.table.TextStart() || addr >= w.prog.table.TextEnd() {
		return r.user
	}
	return append(append(append(buf[:0], r.user[0]), ret), r.user[1:]...)
}

// returnAddress finds where the innermost function returns to, from the depth of the stack that its table tells.
func (w *watch) returnAddress(r *record) (uint64, bool) {
	m := findMapping(w.maps, r.user[0])
	if m == nil || m.path != w.exe {
		return 0, false
	}
	addr, ok := link(w.prog.segments, m, r.user[0])
	if !ok {
		return 0, false
	}
	delta := w.prog.delta(addr)
	if delta < 0 {
		return 0, false
	}
	if runtime.GOARCH == "arm64" { // the link register, saved at the bottom of the frame
		if delta == 0 {
			return r.lr, r.lr != 0
		}
		delta = 0
	}
	if int64(len(r.stack)) < delta+8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(r.stack[delta:]), true
}

// addCPU adds a sample of the CPU clock. room is how many bytes new stacks may take; it returns how many it took.
func (w *watch) addCPU(r *record, user []uint64, on bool, room int) (took int, ok bool) {
	w.samples++
	ok = true
	if on {
		took, ok = w.cpu.add(r.kernel, user, 1, int64(r.period), room)
	}
	for _, c := range w.captures {
		if c.kind == kindCPU {
			c.cpu.add(r.kernel, user, 1, int64(r.period), maxCaptureBytes-c.cpu.bytes)
		}
	}
	return took, ok
}

// addOff adds time off the CPU.
func (w *watch) addOff(stack []uint64, count, nanos int64, on bool, room int) (took int, ok bool) {
	ok = true
	if on {
		took, ok = w.off.add(nil, stack, count, nanos, room)
	}
	for _, c := range w.captures {
		if c.kind == kindOffCPU {
			c.off.add(nil, stack, count, nanos, maxCaptureBytes-c.off.bytes)
		}
	}
	return took, ok
}

// held is a sample of a process that is being looked at.
type held struct{ r record }

func hold(r *record) held {
	h := held{r: *r}
	h.r.user, h.r.kernel, h.r.stack = slices.Clone(r.user), slices.Clone(r.kernel), slices.Clone(r.stack)
	return h
}
